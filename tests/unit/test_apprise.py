"""What goes to people by way of Apprise: escaped as they read it, never to where it may not go, to nobody twice."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import socket
from typing import Any

import apprise
import pytest
from apprise import NotifyFormat
from apprise.conversion import markdown_to_html
from PIL import Image

from alerting.channels import Sender, build
from alerting.channels.apprise import escaped, format_of, unmentioned
from alerting.message import Notification
from schemas.errors import DeliveryError, DeliveryRefused, SettingsError
from tests.parts.alerts import NIGHT_US, config, notification, until
from tests.parts.names import Names
from tests.parts.receiver import DROP, HANG, Receiver

EVIL = "<b>*x*</b> [y](http://evil) `z` @everyone <!channel> _u_ #1"


def sender(*urls: str, **spec: Any) -> Sender:
    return build("team", config(channels={"team": {"type": "apprise", "urls": list(urls), **spec}}).channels["team"])


def address(receiver: Receiver, query: str = "") -> str:
    return f"json://127.0.0.1:{receiver.port}/hook{query}"


def with_series() -> Notification:
    series = tuple((NIGHT_US + n * 60_000_000, 0.4 - n / 100) for n in range(20))
    return notification().model_copy(update={"series": series, "series_seconds": 300})


async def test_people_get_title_and_text_and_whether_it_is_bad_news() -> None:
    async with Receiver().running() as receiver:
        team = sender(address(receiver))
        await team.send(notification())
        await team.send(notification("resolved"))
        first, second = (request.body for request in receiver.requests)
    assert (first["title"], first["message"], first["type"]) == (notification().title, notification().text, "failure")
    assert second["type"] == "success"


async def test_what_waits_is_told_in_one_message() -> None:
    async with Receiver().running() as receiver:
        await sender(address(receiver)).send(notification(value="ios"), notification("resolved", value="web"))
        (request,) = receiver.requests
    assert request.body["title"] == "2 alerts: 1 firing, 1 resolved"
    assert f"FIRING page: {notification(value='ios').title}" in request.body["message"].splitlines()
    assert f"RESOLVED page: {notification('resolved', value='web').title}" in request.body["message"].splitlines()


async def test_a_value_from_outside_is_read_as_it_is_in_html_and_markdown() -> None:
    async with Receiver().running() as receiver:
        for query in ("?format=html", "?format=markdown", ""):
            await sender(address(receiver, query)).send(notification(value=EVIL))
        html, markdown, plain = (request.body["message"] for request in receiver.requests)
    assert "&lt;b&gt;*x*&lt;/b&gt;" in html
    assert "<b>" not in html
    assert r"\<b\>\*x\*" in markdown
    assert r"\[y\]\(http://evil" in markdown
    assert EVIL in plain


def test_escaped_markdown_has_no_markup_in_it() -> None:
    shown = markdown_to_html(escaped(EVIL + "\n# head\n1. one\n- two\n> three\n| a | b |\n~~no~~", NotifyFormat.MARKDOWN))
    assert not {"<b>", "<em>", "<strong>", "<a ", "<code>", "<h1>", "<ol>", "<ul>", "<li>", "<blockquote>"} & {
        tag for tag in ("<b>", "<em>", "<strong>", "<a ", "<code>", "<h1>", "<ol>", "<ul>", "<li>", "<blockquote>") if tag in shown
    }


def test_addresses_of_page_and_runbook_can_still_be_followed_in_markdown() -> None:
    assert (
        escaped("Page: https://f.example/#window.p=5m&by.p=my_dim", NotifyFormat.MARKDOWN)
        == "Page: https://f.example/#window.p=5m&by.p=my_dim"
    )


@pytest.mark.parametrize("mention", ["@everyone", "@here now", "<!channel>", "<@U123>", "<#C1>", "(@all)"])
def test_nobody_is_called_by_a_value(mention: str) -> None:
    changed = unmentioned(f"device {mention}")
    assert changed != f"device {mention}"
    assert changed.replace("\u200b", "") == f"device {mention}"


@pytest.mark.parametrize("text", ["anna@shop.example", "https://x.example/@anna", "5 @ 3", "a < b"])
def test_what_calls_nobody_stays(text: str) -> None:
    assert unmentioned(text) == text


@pytest.mark.parametrize(
    ("url", "format_"),
    [
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", NotifyFormat.TEXT),
        ("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", NotifyFormat.MARKDOWN),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", NotifyFormat.HTML),
        ("mailto://user:pass@gmail.com", NotifyFormat.TEXT),
        ("dingtalk://12345678", NotifyFormat.TEXT),
        ("feishu://abcdefgh", NotifyFormat.TEXT),
        ("wecombot://12345678", NotifyFormat.TEXT),
    ],
)
def test_each_service_is_written_to_as_it_reads(url: str, format_: NotifyFormat) -> None:
    plugin = apprise.Apprise.instantiate(url)
    assert isinstance(plugin, apprise.NotifyBase)
    assert format_of(plugin) == format_


async def test_a_picture_goes_with_one_alert_to_those_that_take_one() -> None:
    async with Receiver().running() as receiver:
        await sender(address(receiver)).send(with_series())
        await sender(address(receiver), picture=False).send(with_series())
        await sender(address(receiver)).send(notification())
        first, *others = (request.body["attachments"] for request in receiver.requests)
    (attached,) = first
    assert (attached["mimetype"], others) == ("image/png", [[], []])
    with Image.open(io.BytesIO(base64.b64decode(attached["base64"]))) as image:
        assert (image.format, image.size) == ("PNG", (800, 400))


@pytest.mark.parametrize("answer", [500, 429, 404, DROP])
async def test_what_is_not_taken_is_tried_again_since_apprise_does_not_say_whether_it_may_pass(answer: int | str) -> None:
    async with Receiver(answer).running() as receiver:
        with pytest.raises(DeliveryError, match=r"'team': JSON did not take it \(") as caught:
            await sender(address(receiver)).send(notification())
        assert caught.value.retriable


async def test_a_redirect_is_not_followed() -> None:
    async with Receiver().running() as elsewhere, Receiver(302, headers=f"Location: {elsewhere.url}/\r\n").running() as receiver:
        with pytest.raises(DeliveryError):
            await sender(address(receiver)).send(notification())
        assert elsewhere.requests == []


async def test_one_that_was_told_is_not_told_again_when_another_has_failed() -> None:
    async with Receiver().running() as good, Receiver(500).running() as bad:
        team = sender(address(good), address(bad))
        with pytest.raises(DeliveryError):
            await team.send(notification())
        await team.send(notification())
        await team.send(notification("resolved"))
        assert [r.body["type"] for r in good.requests] == ["failure", "success"]
        assert [r.body["type"] for r in bad.requests] == ["failure", "failure", "success"]


async def test_a_receiver_that_hangs_is_given_up_and_not_asked_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerting.channels.apprise.TIMEOUT_SECONDS", 0.2)
    async with Receiver(HANG).running() as receiver:
        team = sender(address(receiver, "?rto=60"))
        with pytest.raises(DeliveryError, match="did not answer within"):
            await asyncio.wait_for(team.send(notification()), 5)
        with pytest.raises(DeliveryError, match="has not answered"):
            await team.send(notification())
        assert len(receiver.requests) == 1


async def test_one_that_answers_too_late_has_been_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerting.channels.apprise.TIMEOUT_SECONDS", 0.1)
    async with Slow().running() as receiver:
        team = sender(address(receiver))
        with pytest.raises(DeliveryError):
            await team.send(notification())

        async def told() -> bool:
            try:
                await team.send(notification())
            except DeliveryError:
                return False
            return True

        await until(told)
        assert len(receiver.requests) == 1


class Slow(Receiver):
    async def _answer(self, answer: int | str, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        await super()._answer(answer, writer)


async def test_a_name_that_leads_to_this_machine_is_refused_unless_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, hooks=[["127.0.0.1"]])
    async with Receiver().running() as receiver:
        url = f"json://hooks.example:{receiver.port}/hook"
        with pytest.raises(DeliveryRefused, match=r"127\.0\.0\.1: loopback addresses are not reached"):
            await sender(url).send(notification())
        assert receiver.requests == []
        await sender(url, allow=["127.0.0.0/8"]).send(notification())
        assert len(receiver.requests) == 1


async def test_a_name_that_points_elsewhere_when_it_is_connected_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, rebinding=[["192.0.2.1"], ["127.0.0.1"]])
    socket.getaddrinfo("rebinding.example", 80)  # whoever looked it up before
    async with Receiver().running() as receiver:
        with pytest.raises(DeliveryRefused):
            await sender(f"json://rebinding.example:{receiver.port}/").send(notification())
        assert receiver.requests == []
    assert len(names.looked_up) == 2


async def test_a_link_local_address_is_refused_even_if_written_out() -> None:
    with pytest.raises(DeliveryRefused, match="link-local"):
        await sender("json://169.254.169.254/latest").send(notification())


async def test_mail_is_guarded_as_well() -> None:
    with pytest.raises(DeliveryRefused, match="link-local"):
        await sender("mailto://u:p@shop.example?smtp=169.254.10.10&from=a@shop.example&to=b@shop.example").send(notification())


async def test_what_is_too_long_for_a_service_is_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apprise.plugins.custom_json.NotifyJSON.body_maxlen", 400)
    async with Receiver().running() as receiver:
        await sender(address(receiver)).send(*(notification(value=str(n)) for n in range(20)))
        parts = [request.body["message"] for request in receiver.requests]
    assert len(parts) > 1
    assert all(f"(device {n})" in "".join(parts) for n in range(20))


def test_an_address_that_apprise_does_not_know_is_an_error_that_does_not_show_it() -> None:
    with pytest.raises(SettingsError, match=r"channel 'team': urls\[1\] is no address that Apprise") as caught:
        sender("json://127.0.0.1", "carrier-pigeon://s3cr3t")
    assert "s3cr3t" not in str(caught.value)


async def test_an_address_with_a_secret_is_neither_logged_nor_in_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with Receiver(500).running() as receiver:
            with pytest.raises(DeliveryError) as caught:
                await sender(f"json://u:s3cr3t@127.0.0.1:{receiver.port}/s3cr3t").send(notification())
    assert "s3cr3t" not in caplog.text + str(caught.value)
