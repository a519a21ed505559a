"""What people are told, word for word."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from alerting.conditions import judge
from alerting.lifecycle import AlertKey, RuleState
from alerting.message import Notification, compose, percent
from schemas.duration import MICROS
from tests.parts.alerts import NIGHT_US, config, notification

TOTAL = AlertKey("CheckoutToPayLow")


def said(numerator: int, denominator: int, alert: AlertKey = TOTAL, state: str = "firing", web_url: str = "") -> Notification:
    setup = config({"by": ["device"], "runbook": "https://wiki/pay"})
    rule = setup.alerts[0]
    verdict = judge(rule, numerator, denominator)
    at_us = NIGHT_US if state == "firing" else NIGHT_US + 960 * MICROS
    kept = RuleState("firing" if state == "firing" else "inactive", at_us, at_us, verdict, NIGHT_US - 20 * MICROS, NIGHT_US)
    return compose(rule, setup.funnels[0], alert, kept, web_url)


def test_a_firing_alert_says_what_leaks_how_badly_and_since_when() -> None:
    message = said(100, 812, web_url="https://funnels.example/")
    assert message.title == "Browse to order: checkout → pay at 12.3%, under 40%"
    assert message.text.splitlines() == [
        "In the 5m up to 2026-01-02 03:04:10 UTC, 812 users reached checkout and 100 reached pay: 12.3%.",
        "CheckoutToPayLow (page) fires under 40%; with 95% confidence the rate is at most 14.3%.",
        "Under it since 2026-01-02 03:03:50 UTC, firing since 2026-01-02 03:04:10 UTC.",
        "It resolves at 45% or more.",
        "Page: https://funnels.example/#window.purchase=5m",
        "Runbook: https://wiki/pay",
    ]


def test_a_resolved_alert_says_what_resolved_it_and_how_long_it_fired() -> None:
    message = said(380, 800, state="inactive")
    assert message.status == "resolved"
    assert message.title == "Browse to order: checkout → pay back at 47.5% (resolved)"
    assert message.text.splitlines() == [
        "In the 5m up to 2026-01-02 03:20:10 UTC, 800 users reached checkout and 380 reached pay: 47.5%.",
        "CheckoutToPayLow (page) resolves at 45% or more; it fires under 40%.",
        "It fired from 2026-01-02 03:04:10 UTC to 2026-01-02 03:20:10 UTC.",
        "Runbook: https://wiki/pay",
    ]


def test_an_alert_about_one_value_says_which() -> None:
    message = said(100, 812, AlertKey("CheckoutToPayLow", "device", "ios"), web_url="https://funnels.example")
    assert message.title == "Browse to order (device ios): checkout → pay at 12.3%, under 40%"
    assert "812 users with device ios reached checkout" in message.text
    assert message.link == "https://funnels.example/#window.purchase=5m&by.purchase=device"


def test_an_alert_that_still_fires_between_the_thresholds_does_not_claim_to_be_under() -> None:
    assert said(420, 1000).title == "Browse to order: checkout → pay at 42%, not yet back to 45%"


def test_an_alert_that_still_fires_without_enough_users_claims_no_rate() -> None:
    message = said(3, 12)
    assert message.title == "Browse to order: checkout → pay was under 40%, now too few users to tell"
    assert "12 users reached checkout and 3 reached pay: fewer than the 30 it takes to tell." in message.text
    assert "confidence" not in message.text


def test_without_a_page_address_there_is_no_link() -> None:
    message = said(100, 812)
    assert message.link == ""
    assert "Page:" not in message.text


def test_titles_of_funnel_and_stages_are_preferred_to_their_names() -> None:
    setup = config({})
    stages = tuple(s.model_copy(update={"title": s.name.upper()}) for s in setup.funnels[0].stages)
    funnel = setup.funnels[0].model_copy(update={"title": "", "stages": stages})
    state = RuleState("firing", NIGHT_US, NIGHT_US, judge(setup.alerts[0], 0, 50), NIGHT_US, NIGHT_US)
    message = compose(setup.alerts[0], funnel, TOTAL, state)
    assert message.title == "purchase: CHECKOUT → PAY at 0%, under 40%"
    assert "Firing since 2026-01-02 03:04:10 UTC." in message.text.splitlines()


def test_the_key_tells_alerts_incidents_and_ends_apart_and_nothing_else() -> None:
    later = NIGHT_US + 3600 * MICROS
    keys = {
        notification().key,
        notification("resolved").key,
        notification(value="ios").key,
        notification(value="ios/firing").key,
        notification(incident_us=later).key,
    }
    assert len(keys) == 5
    assert said(100, 812).key == said(90, 700).key == notification().key


def test_the_key_can_travel_in_a_header_whatever_the_value_is() -> None:
    key = notification(value="Zürich 東京\u202e").key
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key


def test_it_says_since_when_in_event_time() -> None:
    assert notification().began == datetime(2026, 1, 2, 3, 4, 10, tzinfo=timezone.utc)
    assert notification("resolved").began == notification().began


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [(0.1232, "12.3%"), (0.4, "40%"), (0.0, "0%"), (1.0, "100%"), (12.5, "1250%"), (0.00125, "0.125%"), (0.3, "30%"), (0.000001, "0%")],
)
def test_a_percentage_has_as_many_decimals_as_it_needs(ratio: float, shown: str) -> None:
    assert percent(ratio) == shown


def test_a_rate_never_reads_like_the_threshold_it_misses() -> None:
    assert percent(0.39996, apart_from=0.4) == "39.996%"
    assert percent(0.4, apart_from=0.4) == "40%"
    assert percent(0.4 - 1e-12, apart_from=0.4) == "40%"
