"""Which addresses a channel may reach, and that the one that is checked is the one that is reached."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import Any

import pytest

from alerting.channels import build
from alerting.channels.guard import AddressRefused, Guard, guarded
from schemas.channel import Channel
from schemas.errors import DeliveryError, DeliveryRefused
from tests.parts.alerts import config, notification
from tests.parts.names import Names
from tests.parts.receiver import Receiver


def channel(**spec: Any) -> Channel:
    return config(channels={"oncall": spec}).channels["oncall"]


async def told(url: str, **spec: Any) -> None:
    """Send one notification to a webhook."""
    sender = build("oncall", channel(type="webhook", url=url, **spec))
    try:
        await sender.send(notification())
    finally:
        await sender.close()


REFUSED = [
    "127.0.0.1", "127.8.9.10", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "255.255.255.255",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "fd00:ec2::254", "100.100.100.200",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_a_name_may_not_lead_to_this_machine_to_the_link_or_to_many(address: str) -> None:
    with pytest.raises(AddressRefused, match=r"hooks\.example is .* name it in the channel's `allow` if that is meant"):
        Guard(named=["hooks.example"]).check(address, "hooks.example")


@pytest.mark.parametrize(
    "address", ["10.1.2.3", "192.168.0.9", "172.16.4.4", "fd12::9", "93.184.216.34", "2606:2800::1", "::ffff:10.0.0.1"]
)
def test_private_and_public_addresses_are_fine(address: str) -> None:
    Guard().check(address, "alertmanager.internal")


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1"), ("LOCALHOST.", "127.0.0.1"), ("localhost", "::1"), ("[::1]", "::1")]
)
def test_a_loopback_address_that_the_config_names_literally_is_allowed(host: str, address: str) -> None:
    Guard(named=[host]).check(address, host)


@pytest.mark.parametrize("host", ["169.254.169.254", "0.0.0.0", "fe80::1"])
def test_naming_a_link_local_address_or_none_literally_does_not_allow_it(host: str) -> None:
    with pytest.raises(AddressRefused):
        Guard(named=[host]).check(host, host)


def test_a_loopback_address_that_somebody_else_names_is_refused() -> None:
    with pytest.raises(AddressRefused):
        Guard(named=["hooks.example"]).check("127.0.0.1", "127.0.0.1")


@pytest.mark.parametrize("allow", ["hooks.example", "HOOKS.example.", "169.254.0.0/16", "169.254.169.254"])
def test_what_is_allowed_by_name_or_network_is_reached(allow: str) -> None:
    Guard([allow]).check("169.254.169.254", "hooks.example")
    with pytest.raises(AddressRefused):
        Guard([allow]).check("127.0.0.1", "other.example")


@pytest.mark.parametrize("written", ["2130706433", "0x7f.1", "127.1"])
def test_another_way_to_write_a_loopback_address_is_no_way_around(written: str) -> None:
    with pytest.raises(AddressRefused):
        Guard(named=[written]).check("127.0.0.1", written)


async def test_a_name_that_leads_to_this_machine_is_refused_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, hooks=[["127.0.0.1"]])
    async with Receiver().running() as receiver:
        url = f"http://hooks.example:{receiver.port}/"
        with pytest.raises(DeliveryRefused, match=r"'oncall': hooks\.example is 127\.0\.0\.1: loopback addresses are not reached"):
            await told(url)
        assert receiver.requests == []
        await told(url, allow=["hooks.example"])
        await told(url, allow=["127.0.0.0/8"])
        assert [request.headers["host"] for request in receiver.requests] == [f"hooks.example:{receiver.port}"] * 2


async def test_a_name_that_points_elsewhere_at_the_second_look_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, rebinding=[["192.0.2.1"], ["127.0.0.1"]])
    monkeypatch.setattr("alerting.channels.http.TIMEOUT_SECONDS", 0.3)
    async with Receiver().running() as receiver:
        with pytest.raises(DeliveryError):
            await told(f"http://rebinding.example:{receiver.port}/")
        assert names.looked_up == ["rebinding.example"], "looked up once: what was checked is what was connected to"
        with pytest.raises(DeliveryRefused):
            await told(f"http://rebinding.example:{receiver.port}/")
        assert receiver.requests == []


async def test_of_several_addresses_the_ones_that_may_be_reached_are_tried_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, hooks=[["169.254.1.1", "127.0.0.2", "127.0.0.1"]])
    async with Receiver().running() as receiver:
        await told(f"http://hooks.example:{receiver.port}/", allow=["127.0.0.0/8"])
        assert len(receiver.requests) == 1


async def test_tls_asks_for_the_name_though_an_address_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, hooks=[["127.0.0.1"]])
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _, name, __: asked.append(name)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    async with server:
        with pytest.raises(DeliveryError):
            await told(f"https://hooks.example:{server.sockets[0].getsockname()[1]}/", allow=["hooks.example"])
    assert asked == ["hooks.example"]


async def test_a_name_that_does_not_exist_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DeliveryError, match="Temporary failure") as caught:
        await told("http://hooks.example/")
    assert caught.value.retriable


def test_connections_of_a_thread_that_is_guarded_are_refused_and_those_of_others_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with guarded(Guard(["203.0.113.0/24"])) as watch:
            with pytest.raises(AddressRefused):
                socket.create_connection(address, timeout=1)
            assert "loopback" in str(watch.refused)
            others: list[str] = []
            thread = threading.Thread(target=lambda: others.append(_connected(address)))
            thread.start()
            thread.join()
        assert others == ["connected"]
        assert _connected(address) == "connected"
        with guarded(Guard(["127.0.0.0/8"])):
            assert _connected(address) == "connected"


def test_a_guarded_thread_reaches_no_socket_of_the_file_system(tmp_path: Any) -> None:
    with guarded(Guard()), socket.socket(socket.AF_UNIX) as one, pytest.raises(AddressRefused):
        one.connect(str(tmp_path / "s"))


def _connected(address: tuple[str, int]) -> str:
    with socket.create_connection(address, timeout=1):
        return "connected"


async def test_the_loops_own_connections_are_not_guarded() -> None:
    async with Receiver().running() as receiver:
        _, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        writer.close()
        await writer.wait_closed()
