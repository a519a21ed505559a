"""Connections that cost and bring nothing come to an end, and those who ask are served beside them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import time
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from schemas.settings import WebSettings
from streams.metrics import WorkerMetrics
from streams.process import free_port
from streams.web import connections as module
from streams.web.accepting import LET_IN_AT_ONCE_MAX, Server
from streams.web.addresses import Addresses
from streams.web.connections import Room, connections
from tests.parts.alerts import until

GOOD = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 3_000_000
ENDLESS = ("/never", "/api/v1/stream")


def web(requests_per_second: int = 1000, connections_per_address: int = 200, proxies: str = "127.0.0.1", **_: Any) -> WebSettings:
    return WebSettings(requests_per_second=requests_per_second, connections_per_address=connections_per_address, proxies=proxies)


class Served:
    """A small app behind such connections: /read reads, /large is large, /never ends, all else is "fine"."""

    def __init__(self, **limits: Any) -> None:
        self.port = free_port()
        self.options = connections(web(**limits), time.monotonic(), WorkerMetrics("1").let_go)
        self.room: Room = self.options["http"].room
        self.room.waiting_max = limits.get("waiting_max", self.room.waiting_max)
        self.room.connections_max = limits.get("connections_max", self.room.connections_max)
        self.writers: list[asyncio.StreamWriter] = []

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        while scope["path"] == "/read" and (await receive()).get("more_body"):
            pass
        headers = [(b"content-length", b"4")] if scope["path"] not in ("/large", *ENDLESS) else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["path"] in ENDLESS:
            while (await receive())["type"] != "http.disconnect":
                pass
        body = b"x" * LARGE if scope["path"] == "/large" else b"fine"
        await send({"type": "http.response.body", "body": body})

    async def open(self, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(sent)
        return reader, writer

    async def ask(self, sent: bytes = GOOD) -> str:
        """The answer's first lines and body; "" where there is none."""
        reader, writer = await self.open(sent)
        try:
            return (await asyncio.wait_for(reader.read(5000), 5)).decode()
        except ConnectionError:
            return ""
        finally:
            writer.close()


@pytest.fixture
async def serve(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(module, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(module, "KEEP_ALIVE_SECONDS", 0.2)
    running: list[tuple[Served, uvicorn.Server, asyncio.Task[None]]] = []

    async def started(**limits: Any) -> Served:
        served = Served(**limits)
        config = uvicorn.Config(
            served.app, port=served.port, log_config=None, interface="asgi3", lifespan="off", timeout_graceful_shutdown=1, **served.options
        )
        server = Server(config)
        running.append((served, server, asyncio.create_task(server.serve())))
        await until(lambda: server.started)
        served.server = server  # type: ignore[attr-defined]
        return served

    yield started
    for served, server, serving in running:
        for writer in served.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        server.should_exit = True
        await serving


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(100_000), 5) == b""
    except ConnectionError:
        return True


async def test_who_says_nothing_is_let_go(serve: Any) -> None:
    served = await serve()
    reader, _ = await served.open()
    assert await ended(reader)
    assert served.room.let_go == {"slow": 1}
    assert served.room.waiting == {}


async def test_who_says_it_too_slowly_is_let_go(serve: Any) -> None:
    """However often another byte comes."""
    served = await serve()
    reader, writer = await served.open(b"GET / HTTP/1.1\r\n")

    async def trickle() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"X: y\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)

    trickling = asyncio.create_task(trickle())
    assert await ended(reader)
    trickling.cancel()
    assert served.room.let_go == {"slow": 1}


async def test_a_body_that_does_not_come_is_not_waited_for(serve: Any) -> None:
    served = await serve()
    reader, _ = await served.open(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert await ended(reader)
    assert served.room.let_go == {"slow": 1}


async def test_a_connection_serves_one_request_after_the_other_and_then_rests_a_while(serve: Any) -> None:
    served = await serve()
    reader, writer = await served.open()
    for _ in range(3):
        writer.write(GOOD)
        assert (await asyncio.wait_for(reader.readuntil(b"fine"), 5)).startswith(b"HTTP/1.1 200")
    writer.write(GOOD + GOOD)  # one behind the other
    for _ in range(2):
        await asyncio.wait_for(reader.readuntil(b"fine"), 5)
    assert await ended(reader)
    assert served.room.let_go == {}


async def test_an_answer_that_takes_long_is_waited_for(serve: Any) -> None:
    served = await serve()
    reader, writer = await served.open(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    await asyncio.sleep(0.6)
    assert not reader.at_eof()
    assert served.room.let_go == {}
    writer.close()


async def test_who_does_not_read_the_answer_is_let_go(serve: Any) -> None:
    served = await serve()
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", served.port))
    deaf.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    await until(lambda: served.room.let_go == {"deaf": 1})
    await until(lambda: not served.server.server_state.connections)
    deaf.close()


async def test_only_a_stream_has_little_room_in_the_kernel(serve: Any) -> None:
    """With little, dozens of megabytes of metrics take many seconds, even to a caller on the same machine."""
    served = await serve()

    def room() -> int:
        (connection,) = served.server.server_state.connections
        return connection.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

    reader, writer = await served.open(GOOD.replace(b"Connection: close\r\n", b""))
    await asyncio.wait_for(reader.readuntil(b"fine"), 5)
    assert room() > 2 * module.SEND_BUFFER_BYTES
    writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert room() == 2 * module.SEND_BUFFER_BYTES


async def test_who_reads_slowly_but_reads_gets_all_of_it(serve: Any) -> None:
    served = await serve()
    reader, _ = await served.open(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    read = 0
    while chunk := await asyncio.wait_for(reader.read(150_000), 5):
        read += len(chunk)
        await asyncio.sleep(0.04)
    assert read > LARGE
    assert served.room.let_go == {}


async def test_of_those_who_only_wait_the_oldest_goes_first_and_who_asks_is_served(serve: Any) -> None:
    served = await serve(waiting_max=5)
    idle = [await served.open() for _ in range(20)]
    assert (await served.ask()).startswith("HTTP/1.1 200")
    assert served.room.let_go == {"crowded_out": 16}
    assert await ended(idle[0][0])
    assert len(served.room.waiting) <= 5


async def test_beyond_all_connections_one_more_is_refused(serve: Any) -> None:
    served = await serve(connections_max=3)
    busy = [await served.open(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(3)]
    for reader, _ in busy:
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert await served.ask() == ""
    assert served.room.let_go == {"full": 1}
    busy[0][1].close()
    await until(lambda: len(served.server.server_state.connections) == 2)
    assert (await served.ask()).startswith("HTTP/1.1 200")
    for _, writer in busy:
        writer.close()


async def test_whoever_sends_many_requests_at_once_is_not_served_all_of_them(serve: Any) -> None:
    """A buffer of them would be a tenth of a second of work."""
    served = await serve()
    reader, _ = await served.open(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n" + GOOD * module.PIPELINED_MAX)
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert served.room.let_go == {}
    flood, _ = await served.open(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n" + GOOD * 1000)
    assert await ended(flood)
    assert served.room.let_go == {"not_http": 1}


@pytest.mark.parametrize("after", [b"X: y\r\n" * 10, b"y" * 60], ids=["lines", "a line"])
async def test_a_request_that_goes_on_after_its_body_comes_to_an_end(serve: Any, monkeypatch: pytest.MonkeyPatch, after: bytes) -> None:
    """Whatever comes would be kept."""
    monkeypatch.setattr(module, "REQUEST_SECONDS", 5.0)
    served = await serve()
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: "
    reader, writer = await served.open(head)
    with contextlib.suppress(ConnectionError):
        for _ in range(3 * module.REQUEST_BYTES_MAX // len(after)):
            writer.write(after)
            await writer.drain()
    assert await ended(reader)
    assert served.room.let_go == {"not_http": 1}
    assert (await served.ask(head + b"y\r\n\r\n")).endswith("fine")


async def test_who_is_answered_before_all_was_said_may_ask_again_and_then_rests_a_while(serve: Any) -> None:
    served = await serve()
    reader, writer = await served.open(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    await asyncio.wait_for(reader.readuntil(b"fine"), 5)
    writer.write(b"d" * 7 + GOOD)
    await asyncio.wait_for(reader.readuntil(b"fine"), 5)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    await asyncio.wait_for(reader.readuntil(b"fine"), 5)
    writer.write(b"d" * 7)
    assert await ended(reader)
    assert served.room.waiting == {}


async def test_an_answer_to_http_1_0_has_no_chunks(serve: Any) -> None:
    served = await serve()
    reader, _ = await served.open(b"GET /large HTTP/1.0\r\n\r\n")
    head, body = (await asyncio.wait_for(reader.read(-1), 5)).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200")
    assert b"transfer-encoding" not in head
    assert body == b"x" * LARGE
    assert (await served.ask(b"GET / HTTP/1.0\r\n\r\n")).endswith("\r\n\r\nfine")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # which of many hosts?
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000, 431),
    ],
)
async def test_what_is_no_http_is_told_so_and_the_log_has_a_line_a_minute(serve: Any, sent: bytes, status: int) -> None:
    served = await serve()
    with capture_logs() as logs:
        answers = [await served.ask(sent + b"\r\n\r\n") for _ in range(4)]
    told = [answer for answer in answers if answer]  # one who still sends may miss it
    assert all(answer.startswith(f"HTTP/1.1 {status} ") for answer in told)
    assert all("application/problem+json" in answer and "nosniff" in answer for answer in told)
    assert served.room.let_go == {"not_http": 4}
    assert [(line["event"], line["not_http"]) for line in logs] == [("connections or requests let go, since the start", 1)]


async def test_an_upgrade_is_answered_as_if_none_was_asked_for(serve: Any) -> None:
    served = await serve()
    asked = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n"
    assert (await served.ask(asked)).startswith("HTTP/1.1 200")


async def test_who_asked_for_an_upgrade_may_ask_again(serve: Any) -> None:
    """As those do who would rather have HTTP/2."""
    served = await serve()
    asked = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    reader, writer = await served.open(asked + GOOD)
    for _ in range(2):
        await asyncio.wait_for(reader.readuntil(b"fine"), 5)
    writer.write(asked)
    await asyncio.wait_for(reader.readuntil(b"fine"), 5)
    writer.write(GOOD)
    await asyncio.wait_for(reader.readuntil(b"fine"), 5)


async def test_more_requests_than_are_answered_get_a_cheap_503_and_probes_their_answer(serve: Any) -> None:
    served = await serve(requests_per_second=10)
    answers = [await served.ask(GOOD.replace(b"/livez", b"/api")) for _ in range(60)]
    assert [answer.split()[1] for answer in answers[:50]] == ["200"] * 50
    refused = next(answer for answer in answers if answer.startswith("HTTP/1.1 503"))
    assert "retry-after: 2" in refused.lower()
    assert "application/problem+json" in refused.lower()
    assert (await served.ask()).startswith("HTTP/1.1 200")


async def test_without_a_file_to_open_left_it_tries_again_a_little_later(serve: Any) -> None:
    served = await serve()
    (door,) = served.server.servers
    listening, refusals = door._socket, iter([OSError(24, "too many open files")] * 2)

    class Exhausted:
        def __getattr__(self, name: str) -> Any:
            return getattr(listening, name)

        def accept(self) -> Any:
            for refusal in refusals:
                raise refusal
            return listening.accept()

    door._socket = Exhausted()
    assert (await served.ask()).startswith("HTTP/1.1 200")


async def test_those_who_come_at_once_are_let_in_a_few_a_turn(serve: Any) -> None:
    served = await serve()
    (door,) = served.server.servers
    let_in: list[int] = []
    accept = door._accept

    def counting() -> None:
        before = len(door._coming)
        accept()
        let_in.append(len(door._coming) - before)

    door._loop.add_reader(door._socket, counting)
    crowd = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(3 * LET_IN_AT_ONCE_MAX)]
    await until(lambda: sum(let_in) == len(crowd))
    assert max(let_in) == LET_IN_AT_ONCE_MAX
    assert (await served.ask()).startswith("HTTP/1.1 200")
    for one in crowd:
        one.close()


async def test_one_address_has_so_many_connections_unless_it_is_a_proxy(serve: Any) -> None:
    served = await serve(connections_per_address=4, proxies="")
    busy = [await served.open(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(4)]
    for reader, _ in busy:
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert await served.ask() == ""
    assert served.room.let_go == {"too_many_of_one_address": 1}
    for _, writer in busy:
        writer.close()
    await until(lambda: served.room.addresses.known == 0)
    assert (await served.ask()).startswith("HTTP/1.1 200")


@pytest.mark.parametrize("sent", [GOOD, b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_of_a_connection_that_ended_nothing_is_left_for_the_collector(serve: Any, sent: bytes) -> None:
    """Its look is a pause for everybody."""
    served = await serve()
    gc.collect()
    gc.disable()
    try:
        reader, writer = await served.open(sent)
        await until(lambda: bool(served.server.server_state.connections))
        (connection,) = (weakref.ref(one) for one in served.server.server_state.connections)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()
        await until(lambda: connection() is None)
    finally:
        gc.enable()


async def test_half_of_them_may_be_streams(serve: Any) -> None:
    served = await serve(connections_per_address=4, proxies="10.0.0.0/8")
    listening = [await served.open(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(2)]
    for reader, _ in listening:
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    refused = await served.ask(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    assert refused.startswith("HTTP/1.1 503")
    assert "retry-after: 30" in refused.lower()
    assert (await served.ask()).startswith("HTTP/1.1 200")


@pytest.mark.parametrize(
    ("proxies", "address", "bounded"),
    [
        ("127.0.0.1,::1", "127.0.0.1", False), ("127.0.0.1,::1", "::1", False), ("127.0.0.1", "127.0.0.2", True),
        ("10.0.0.0/8", "10.1.2.3", False), ("*", "192.0.2.1", False), ("", "192.0.2.1", True), ("2001:db8::/32", "2001:db8::5", False),
    ],
)  # fmt: skip
def test_a_proxy_is_known_by_address_or_network(proxies: str, address: str, bounded: bool) -> None:
    addresses = Addresses(2, proxies)
    assert [addresses.arrive(address) for _ in range(3)] == [True, True, not bounded]
    for _ in range(2 if bounded else 3):
        addresses.depart(address)
    assert addresses.known == 0


def test_a_process_that_may_open_few_files_keeps_some_for_its_own_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_files", lambda: 1024)
    assert connections(WebSettings(), 0.0, str)["http"].room.connections_max == 1024 - 256
    monkeypatch.setattr(module, "_files", lambda: 100_000)
    assert connections(WebSettings(), 0.0, str)["http"].room.connections_max == 4000
