"""What goes over the wire, and what each answer means."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from alerting.channels import Sender, build
from alerting.channels.alertmanager import AlertmanagerSender
from alerting.channels.http import pause_seconds
from alerting.channels.pagerduty import event
from alerting.channels.webhook import WebhookSender, signature
from alerting.message import Notification, dead_man
from schemas.channel import AlertmanagerChannel, Channel
from schemas.duration import MICROS
from schemas.errors import DeliveryError, DeliveryPaused, DeliveryRefused, SettingsError
from streams.process import free_port
from streams.producer import AckedProducer, Outgoing
from tests.parts.alerts import NIGHT_US, config, notification
from tests.parts.receiver import DROP, HANG, TRICKLE, Answer, Receiver

NOW = NIGHT_US / MICROS + 7.5


def channel(**spec: Any) -> Channel:
    return config(channels={"oncall": spec}).channels["oncall"]


def webhook(url: str, **headers: str) -> Sender:
    return build("oncall", channel(type="webhook", url=url, headers=headers))


def alertmanager(url: str) -> Sender:
    return build("oncall", channel(type="alertmanager", url=url, resend="1m"), clock=lambda: NOW)


async def answered(*answers: Answer, headers: str = "") -> None:
    """Send one notification to a receiver that answers so."""
    async with Receiver(*answers, headers=headers).running() as receiver:
        sender = webhook(receiver.url)
        try:
            await sender.send(notification())
        finally:
            await sender.close()


async def unreachable(path: str = "") -> None:
    """Send one notification to where nobody listens."""
    sender = webhook(f"http://127.0.0.1:{free_port()}{path}")
    try:
        await sender.send(notification())
    finally:
        await sender.close()


async def received(make: Any, said: Notification, path: str = "", **more: str) -> Any:
    async with Receiver().running() as receiver:
        sender = make(receiver.url + path, **more)
        try:
            await sender.send(said)
        finally:
            await sender.close()
        (request,) = receiver.requests
        return request


async def test_a_webhook_gets_the_transition_and_the_words_as_json() -> None:
    request = await received(webhook, notification(value="ios"), "/hook?token=1")
    assert request.path == "/hook?token=1"
    assert request.headers["content-type"] == "application/json"
    assert request.body == {
        "version": 1,
        "key": f"CheckoutToPayLow/device/ios/{NIGHT_US}/firing",
        "incident": f"CheckoutToPayLow/device/ios/{NIGHT_US}",
        "status": "firing",
        "transition": {
            "at": "2026-01-02T03:04:10Z",
            "rule": "CheckoutToPayLow",
            "funnel": "purchase",
            "stage": "pay",
            "dimension": "device",
            "value": "ios",
            "state": "firing",
            "numerator": 100,
            "denominator": 812,
            "rate": 100 / 812,
            "threshold": 0.4,
            "baseline": None,
            "basis": "users",
        },
        "severity": "page",
        "title": "Browse to order (device ios): checkout → pay at 12.3%, under 40%",
        "text": notification(value="ios").text,
        "link": "",
        "dashboard": "",
        "runbook": "",
        "funnel": "purchase",
        "stage": "pay",
        "window": "5m",
        "basis": "users",
        "rate": 100 / 812,
        "low": 0.1055,
        "high": 0.1436,
        "threshold": 0.4,
        "baseline": None,
        "numerator": 100,
        "denominator": 812.0,
        "since": "2026-01-02T03:03:50Z",
        "lost_users_per_hour": None,
        "lost_value_per_hour": None,
        "value_of": "",
        "where": None,
        "others": [],
    }


async def test_a_webhook_with_a_secret_is_signed_over_time_and_body() -> None:
    def signed(url: str) -> Sender:
        return build("oncall", channel(type="webhook", url=url, secret="hush"), clock=lambda: NOW)

    request = await received(signed, notification())
    timestamp = request.headers["x-funnelwatch-timestamp"]
    assert timestamp == str(int(NOW))
    expected = hmac.new(b"hush", timestamp.encode() + b"." + request.raw, hashlib.sha256).hexdigest()
    assert request.headers["x-funnelwatch-signature"] == f"v1={expected}"
    assert "x-funnelwatch-signature" not in (await received(webhook, notification())).headers


async def test_a_secret_may_be_in_the_environment_or_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOOK_SECRET", "hush")
    (tmp_path / "secret").write_text("hush\n")
    for written in ("env:HOOK_SECRET", f"file:{tmp_path}/secret", "hush"):
        sender = build("oncall", channel(type="webhook", url="http://127.0.0.1", secret=written))
        assert isinstance(sender, WebhookSender)
        assert sender._signed(b"x")["X-Funnelwatch-Signature"] == signature(b"hush", sender._signed(b"x")["X-Funnelwatch-Timestamp"], b"x")
        await sender.close()


@pytest.mark.parametrize(
    ("written", "why"), [("env:NO_SUCH", "the environment has no NO_SUCH"), ("file:/no/such", "/no/such cannot be read")]
)
def test_a_secret_that_is_not_there_is_an_error_that_says_whose(written: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"channel 'oncall': routing_key: {why}"):
        build("oncall", channel(type="pagerduty", routing_key=written))


def test_a_secret_is_not_shown_with_its_channel() -> None:
    assert "hush" not in repr(channel(type="webhook", url="http://127.0.0.1", secret="hush"))
    assert "hush" not in repr(channel(type="apprise", urls=["json://hush@127.0.0.1"]))


def pagerduty(url: str) -> Sender:
    return build("oncall", channel(type="pagerduty", routing_key="R0UT1NG", url=url))


async def test_pagerduty_gets_one_incident_from_its_trigger_to_its_resolve() -> None:
    said = notification(value="ios").model_copy(update={"link": "https://funnels.example/#x", "runbook": "https://wiki/pay"})
    fired = (await received(pagerduty, said)).body
    assert (fired["routing_key"], fired["event_action"]) == ("R0UT1NG", "trigger")
    assert fired["payload"] | {"custom_details": {}} == {
        "summary": said.title,
        "source": "funnelwatch",
        "severity": "critical",
        "timestamp": "2026-01-02T03:04:10+00:00",
        "component": "purchase",
        "group": "pay",
        "class": "CheckoutToPayLow",
        "custom_details": {},
    }
    details = fired["payload"]["custom_details"]
    assert (details["text"], details["numerator"], details["rate"]) == (said.text, 100, 100 / 812)
    assert fired["links"] == [{"href": "https://funnels.example/#x", "text": "Page"}, {"href": "https://wiki/pay", "text": "Runbook"}]
    resolved = (await received(pagerduty, notification("resolved", value="ios"))).body
    assert resolved == {"routing_key": "R0UT1NG", "event_action": "resolve", "dedup_key": fired["dedup_key"]}
    assert fired["dedup_key"] != (await received(pagerduty, notification(value="web"))).body["dedup_key"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("page", "critical"), ("Critical", "critical"), ("warning", "warning"), ("ticket", "warning"), ("none", "info"), ("loud", "error")],
)
def test_pagerduty_knows_four_severities_and_takes_an_unknown_one_for_an_error(ours: str, theirs: str) -> None:
    assert event(notification().model_copy(update={"severity": ours}))["payload"]["severity"] == theirs


def test_what_pagerduty_has_no_room_for_is_cut_or_hashed() -> None:
    long = notification().model_copy(update={"title": "x" * 2000, "incident": "y" * 300})
    assert len(event(long)["payload"]["summary"]) == 1024
    assert len(event(long)["dedup_key"]) == 64
    assert event(long)["dedup_key"] == event(long.model_copy(update={"status": "resolved"}))["dedup_key"]


async def test_alertmanager_gets_several_alerts_in_one_post() -> None:
    async with Receiver().running() as receiver:
        sender = alertmanager(receiver.url)
        await sender.send(notification(value="ios"), notification(value="web"))
        await sender.close()
        (request,) = receiver.requests
    assert [alert["labels"]["value"] for alert in request.body] == ["ios", "web"]


async def test_the_dead_mans_alert_ends_three_heartbeats_from_now_and_has_no_empty_label() -> None:
    def beating(url: str) -> Sender:
        return build("oncall", channel(type="alertmanager", url=url, resend="1m", heartbeat="5m"), clock=lambda: NOW)

    (alert,) = (await received(beating, dead_man(int(NOW * MICROS), 300))).body
    assert alert["labels"] == {"alertname": "FunnelwatchDeadMan", "severity": "none", "source": "funnelwatch"}
    assert alert["endsAt"] == "2026-01-02T03:19:17.500000Z"


@pytest.mark.parametrize("wrong", [-600.0, 600.0])
async def test_the_end_of_an_alert_is_written_by_the_alertmanagers_clock(wrong: float) -> None:
    date = "Date: Fri, 02 Jan 2026 03:05:00 GMT\r\n"
    theirs = datetime(2026, 1, 2, 3, 5, tzinfo=timezone.utc).timestamp()
    steady = 100.0
    async with Receiver(headers=date).running() as receiver:
        spec = channel(type="alertmanager", url=receiver.url, resend="1m")
        assert isinstance(spec, AlertmanagerChannel)
        sender = AlertmanagerSender("oncall", spec, lambda: theirs + wrong, lambda: steady)
        await sender.send(notification())
        await sender.send(notification())
        await sender.close()
        ends = [datetime.fromisoformat(request.body[0]["endsAt"].replace("Z", "+00:00")).timestamp() for request in receiver.requests]
    assert ends[0] == pytest.approx(theirs + wrong + 180)
    assert ends[1:] == [pytest.approx(theirs + 180, abs=1)] * 2, "said again at once, and right from then on"


async def test_the_end_that_alertmanager_hears_again_is_when_it_ended() -> None:
    sender = build("oncall", channel(type="alertmanager", url="http://127.0.0.1"), clock=lambda: NOW + 3600)
    assert isinstance(sender, AlertmanagerSender)
    assert sender.alert(notification("resolved"))["endsAt"] == "2026-01-02T03:20:10Z"
    await sender.close()


async def test_the_idempotency_key_is_the_same_at_every_try_and_another_for_the_end() -> None:
    async with Receiver(500).running() as receiver:
        sender = webhook(receiver.url)
        with pytest.raises(DeliveryError):
            await sender.send(notification())
        await sender.send(notification())
        await sender.send(notification("resolved"))
        await sender.close()
        keys = [request.headers["idempotency-key"] for request in receiver.requests]
    assert keys == [f"CheckoutToPayLow/{NIGHT_US}/firing"] * 2 + [f"CheckoutToPayLow/{NIGHT_US}/resolved"]


async def test_a_webhook_gets_the_headers_of_the_config() -> None:
    request = await received(webhook, notification(), **{"Authorization": "Bearer ü", "content-type": "application/vnd.shop+json"})
    assert request.headers["authorization"].encode("latin-1") == "Bearer ü".encode()
    assert request.headers["content-type"] == "application/vnd.shop+json"


async def test_alertmanager_gets_a_firing_alert_that_ends_three_resends_from_now() -> None:
    request = await received(alertmanager, notification(value="ios"), "/prefix/")
    assert request.path == "/prefix/api/v2/alerts"
    (alert,) = request.body
    assert alert["labels"] == {
        "alertname": "CheckoutToPayLow",
        "funnel": "purchase",
        "stage": "pay",
        "severity": "page",
        "source": "funnelwatch",
        "dimension": "device",
        "value": "ios",
    }
    assert alert["annotations"] == {"summary": notification(value="ios").title, "description": notification(value="ios").text}
    assert (alert["startsAt"], alert["endsAt"]) == ("2026-01-02T03:04:10Z", "2026-01-02T03:07:17.500000Z")
    assert "generatorURL" not in alert


async def test_alertmanager_gets_a_resolved_alert_that_has_ended_under_the_same_labels() -> None:
    (fired,) = (await received(alertmanager, notification())).body
    (alert,) = (await received(alertmanager, notification("resolved"))).body
    assert alert["labels"] == fired["labels"]
    assert {"dimension", "value"}.isdisjoint(alert["labels"])
    assert (alert["startsAt"], alert["endsAt"]) == ("2026-01-02T03:04:10Z", "2026-01-02T03:04:17.500000Z")


async def test_alertmanager_gets_the_page_and_the_runbook() -> None:
    said = notification().model_copy(update={"link": "https://funnels.example/#window.purchase=5m", "runbook": "https://wiki/pay"})
    (alert,) = (await received(alertmanager, said)).body
    assert alert["generatorURL"] == said.link
    assert alert["annotations"]["runbook_url"] == said.runbook


async def test_an_alert_never_starts_after_it_ends_even_if_event_time_is_ahead() -> None:
    (alert,) = (await received(alertmanager, notification("resolved", incident_us=NIGHT_US + 60 * MICROS))).body
    assert alert["startsAt"] == alert["endsAt"]


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_success_is_delivered(status: int) -> None:
    await answered(status)


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408, 425])
async def test_what_may_pass_is_to_be_tried_again(status: int) -> None:
    with pytest.raises(DeliveryError, match=str(status)) as caught:
        await answered(status)
    assert caught.value.retriable


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
async def test_a_client_error_is_refused_and_quotes_the_answer(status: int) -> None:
    with pytest.raises(DeliveryRefused, match=f"'oncall': HTTP {status} .*said.*so") as caught:
        await answered(status)
    assert not caught.value.retriable


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("Retry-After: 30", 30.0), ("Retry-After: 86400", 3600.0), ("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_may_ask_for_a_pause(status: int, header: str, seconds: float) -> None:
    with pytest.raises(DeliveryPaused) as caught:
        await answered(status, headers=f"{header}\r\n")
    assert caught.value.seconds == seconds


@pytest.mark.parametrize("said", ["", "soon", "-5", "1e9", "٣"])
def test_a_pause_that_cannot_be_read_is_none(said: str) -> None:
    assert pause_seconds(said, 0.0) is None


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_refused_and_not_followed(status: int) -> None:
    async with Receiver().running() as elsewhere:
        with pytest.raises(DeliveryRefused, match="redirects are not followed"):
            await answered(status, headers=f"Location: {elsewhere.url}\r\n")
        assert elsewhere.requests == []


@pytest.mark.parametrize("answer", [HANG, TRICKLE])
async def test_an_answer_that_does_not_come_or_does_not_end_is_given_up(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerting.channels.http.TIMEOUT_SECONDS", 0.1)
    with pytest.raises(DeliveryError, match="no answer within") as caught:
        await asyncio.wait_for(answered(answer), 5)
    assert caught.value.retriable


async def test_a_dropped_connection_is_to_be_tried_again() -> None:
    with pytest.raises(DeliveryError, match="no answer") as caught:
        await answered(DROP)
    assert caught.value.retriable


async def test_nobody_there_is_to_be_tried_again() -> None:
    with pytest.raises(DeliveryError, match="no answer") as caught:
        await unreachable()
    assert caught.value.retriable


async def test_headers_that_cannot_be_sent_are_refused() -> None:
    with pytest.raises(DeliveryRefused, match="mend its url and headers"):
        await received(webhook, notification(), **{"X-Bad": "two\r\nlines"})


async def test_an_address_with_a_secret_is_neither_logged_nor_in_an_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        request = await received(webhook, notification(), "/s3cr3t")
        assert request.path == "/s3cr3t"
        with pytest.raises(DeliveryError) as caught:
            await unreachable("/s3cr3t")
    assert "s3cr3t" not in caplog.text + str(caught.value)


async def test_a_receiver_that_repeats_what_it_was_told_does_not_make_us_tell_a_secret() -> None:
    says = "x" * 120 + " /in?key=s3cr3t%2Bkey, s3cr3t+key, Bearer s3cr3t-header, s3cr3t-of-the-signature " + "y" * 300
    spec = {"secret": "s3cr3t-of-the-signature", "headers": {"Authorization": "Bearer s3cr3t-header"}}
    async with Receiver(400, says=says).running() as receiver:
        sender = build("oncall", channel(type="webhook", url=f"{receiver.url}/in?key=s3cr3t%2Bkey", **spec))
        with pytest.raises(DeliveryRefused) as caught:
            await sender.send(notification())
        await sender.close()
    assert "s3cr3t" not in str(caught.value)
    assert str(caught.value).endswith("xx ***, ***, ***, ***'")


async def test_no_proxy_of_the_environment_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert (await received(webhook, notification())).body["status"] == "firing"


async def test_only_alertmanager_wants_to_hear_it_again() -> None:
    others = [webhook("http://127.0.0.1"), pagerduty("http://127.0.0.1"), build("log", channel(type="log"))]
    others += [
        build("k", channel(type="kafka", topic="alerts"), brokers="127.0.0.1:9"),
        build("a", channel(type="apprise", urls=["json://h"])),
    ]
    senders = [alertmanager("http://127.0.0.1"), *others]
    assert [sender.resend_seconds for sender in senders] == [60, *[None] * len(others)]
    for sender in senders:
        await sender.close()


async def test_the_log_warns_of_what_fires_and_informs_of_its_end() -> None:
    sender = build("ops", channel(type="log"))
    with capture_logs() as lines:
        await sender.send(notification())
        await sender.send(notification("resolved"))
        await sender.close()
    assert [(line["log_level"], line["channel"], line["event"]) for line in lines] == [
        ("warning", "ops", notification().title),
        ("info", "ops", notification("resolved").title),
    ]


async def test_the_log_tells_what_is_over_its_limit_in_one_line() -> None:
    sender = build("ops", channel(type="log"))
    with capture_logs() as lines:
        await sender.send(notification(value="ios"), notification("resolved", value="web"))
    assert [(line["log_level"], line["event"]) for line in lines] == [("warning", "2 alerts: 1 firing, 1 resolved")]


async def test_kafka_that_does_not_answer_is_to_be_tried_again() -> None:
    sender = build("k", channel(type="kafka", topic="alerts"), brokers=f"127.0.0.1:{free_port()}")
    with pytest.raises(DeliveryError) as caught:
        await sender.send(notification())
    await sender.close()
    assert caught.value.retriable


async def test_a_kafka_topic_gets_the_document_under_the_alerts_key(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = build("k", channel(type="kafka", topic="alerts"), brokers="127.0.0.1:9")
    sent: list[Outgoing] = []

    async def keep(_: AckedProducer, records: Sequence[Outgoing]) -> None:
        sent.extend(records)

    monkeypatch.setattr(AckedProducer, "send_all", keep)
    await sender.send(notification(value="ios"), notification("resolved", value="ios"))
    assert [(topic, key) for topic, key, *_ in sent] == [("alerts", b"CheckoutToPayLow/device/ios")] * 2
    assert [json.loads(value or b"")["status"] for _, _, value, _ in sent] == ["firing", "resolved"]
    assert [dict(headers)["idempotency-key"].decode() for *_, headers in sent] == [
        notification(value="ios").key, notification("resolved", value="ios").key,
    ]  # fmt: skip
