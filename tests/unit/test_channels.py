"""What goes over the wire, and what each answer means."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from structlog.testing import capture_logs

from alerting.channels import Sender, build
from alerting.message import Notification
from schemas.duration import MICROS
from schemas.errors import DeliveryError, DeliveryRefused
from schemas.rule import Channel
from streams.process import free_port
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
        },
        "severity": "page",
        "title": "Browse to order (device ios): checkout → pay at 12.3%, under 40%",
        "text": notification(value="ios").text,
        "link": "",
    }


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


async def test_no_proxy_of_the_environment_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    assert (await received(webhook, notification())).body["status"] == "firing"


async def test_only_alertmanager_wants_to_hear_it_again() -> None:
    senders = [alertmanager("http://127.0.0.1"), webhook("http://127.0.0.1"), build("log", channel(type="log"))]
    assert [sender.resend_seconds for sender in senders] == [60, None, None]
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
