"""What people are told, word for word."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from alerting.conditions import Verdict, judge
from alerting.detectors import DetectorState, Run
from alerting.lifecycle import AlertKey, RuleState
from alerting.localise import Impact, Mix, Place, Recent
from alerting.message import DEAD_MAN, Notification, compose, dead_man, together
from alerting.samples import Look, Sample
from alerting.words import about, amount, percent, short
from schemas.duration import MICROS
from tests.parts.alerts import NIGHT_US, config, notification

TOTAL = AlertKey("CheckoutToPayLow")
S = MICROS


def users(numerator: int, denominator: int, **changes: Any) -> Verdict:
    """The verdict on users of the last five minutes."""
    rule = config(changes).alerts[0]
    return judge(rule, Look(NIGHT_US, "users", Sample(numerator, denominator, 300)))


def said(
    verdict: Verdict | None,
    alert: AlertKey = TOTAL,
    state: str = "firing",
    web_url: str = "",
    impact: Impact | None = None,
    others: dict[AlertKey, RuleState] | None = None,
    dashboard_url: str = "",
    kept: dict[str, Any] | None = None,
    **changes: Any,
) -> Notification:
    """What is said of the example rule, with changes, when it has fired for nothing or 16 minutes."""
    setup = config({"by": ["device"], "runbook": "https://wiki/pay"} | changes)
    at_us = NIGHT_US if state == "firing" else NIGHT_US + 960 * S
    known = RuleState(state, at_us, at_us, verdict, NIGHT_US - 20 * S, NIGHT_US)  # type: ignore[arg-type] # a State
    known = replace(known, **(kept or {}))
    return compose(
        setup.alerts[0], setup.funnels[0], alert, known, web_url, impact=impact, others=others or {}, dashboard_url=dashboard_url
    )  # fmt: skip


def test_a_firing_alert_says_what_leaks_how_badly_and_since_when() -> None:
    message = said(users(100, 812), web_url="https://funnels.example/")
    assert message.title == "Browse to order: checkout → pay at 12.3%, under 40%"
    assert message.text.splitlines() == [
        "In the 5m up to 2026-01-02 03:04:10 UTC, 812 users reached checkout and 100 reached pay: 12.3%.",
        "CheckoutToPayLow (page) fires under 40%; the rate over 5m is between 10.5% and 14.3% with 90% confidence.",
        "Seen since 2026-01-02 03:03:50 UTC, firing since 2026-01-02 03:04:10 UTC.",
        "It resolves at 45% or more.",
        "Page: https://funnels.example/#window.purchase=5m",
        "Runbook: https://wiki/pay",
    ]


def test_a_resolved_alert_says_what_resolved_it_and_how_long_it_fired() -> None:
    message = said(users(380, 800), state="inactive")
    assert message.status == "resolved"
    assert message.title == "Browse to order: checkout → pay back at 47.5% (resolved)"
    assert message.text.splitlines() == [
        "In the 5m up to 2026-01-02 03:20:10 UTC, 800 users reached checkout and 380 reached pay: 47.5%.",
        "CheckoutToPayLow (page) resolves at 45% or more; it fires under 40%.",
        "It fired from 2026-01-02 03:04:10 UTC to 2026-01-02 03:20:10 UTC.",
        "Runbook: https://wiki/pay",
    ]
    assert message.ended == datetime(2026, 1, 2, 3, 20, 10, tzinfo=timezone.utc)


def test_an_alert_about_one_value_says_which() -> None:
    message = said(users(100, 812), AlertKey("CheckoutToPayLow", "device", "ios"), web_url="https://funnels.example")
    assert message.title == "Browse to order (device ios): checkout → pay at 12.3%, under 40%"
    assert "812 users with device ios reached checkout" in message.text
    assert message.link == "https://funnels.example/#window.purchase=5m&by.purchase=device"


def test_an_alert_that_still_fires_between_the_thresholds_does_not_claim_to_be_under() -> None:
    assert said(users(420, 1000)).title == "Browse to order: checkout → pay at 42%, not yet back to 45%"


def test_an_alert_that_still_fires_without_enough_users_claims_no_rate() -> None:
    message = said(users(3, 12))
    assert message.title == "Browse to order: checkout → pay was under 40%, now too few users to tell"
    assert "12 users reached checkout and 3 reached pay: fewer than the 30 it takes to tell." in message.text
    assert "confidence" not in message.text
    assert message.rate is None


def test_an_alert_that_still_fires_without_any_users_does_not_read_as_zero() -> None:
    message = said(users(0, 0))
    assert message.title == "Browse to order: checkout → pay was under 40%, now no users to tell by"
    assert "0%" not in message.text.replace("40%", "").replace("90%", "")


def test_an_alert_that_recovers_says_since_when_and_what_it_waits_for() -> None:
    kept = {"recovering_us": NIGHT_US + 900 * S}
    message = said(users(380, 800), state="recovering", keep_firing_for="5m", kept=kept)
    assert (message.status, message.title) == ("firing", "Browse to order: checkout → pay at 47.5%, recovering")
    assert "It has been back since 2026-01-02 03:19:10 UTC; it resolves when that has lasted 5m." in message.text


def test_an_alert_above_says_over_and_comes_back_from_there() -> None:
    above = {"below": None, "above": 0.9, "recover_above": None, "recover_below": 0.85}
    message = said(users(790, 812, **above), **above)
    assert message.title == "Browse to order: checkout → pay at 97.3%, over 90%"
    assert "fires over 90%; the rate over 5m is between 96.2% and 98.1%" in message.text
    assert "It resolves at 85% or less." in message.text
    assert said(users(880, 1000, **above), **above).title == "Browse to order: checkout → pay at 88%, not yet back to 85%"


def test_an_alert_below_the_target_names_it_so() -> None:
    rule = {"below": None, "below_target": True, "recover_above": None}
    verdict = replace(users(100, 812), threshold=0.7, recovery=0.7)
    message = said(verdict, **rule)
    assert message.title == "Browse to order: checkout → pay at 12.3%, under the target of 70%"
    assert "It resolves at 70% or more." in message.text


@pytest.mark.parametrize(
    ("drop", "before"),
    [
        ({"by": 0.25, "from": "last_week"}, "the same time last week"),
        ({"by": 0.25, "from": "yesterday"}, "the same time yesterday"),
        ({"by": 0.25, "from": "median", "over": "7d"}, "the median of 7d"),
    ],
)
def test_a_drop_says_from_what(drop: dict[str, Any], before: str) -> None:
    rule = {"below": None, "drop": drop, "recover_above": None}
    verdict = replace(users(100, 812), threshold=0.3, recovery=0.3, baseline=0.4)
    message = said(verdict, **rule)
    assert message.title == f"Browse to order: checkout → pay at 12.3%, under 30% (25% less than the 40% of {before})"
    lost = replace(verdict, outcome="unknown", reason="no_baseline", threshold=None, baseline=None, recovery=None)
    assert said(lost, **rule).title == f"Browse to order: checkout → pay was under {before} by more than 25%, now nothing to compare with"


def adjusted(**changes: Any) -> Verdict:
    verdict = Verdict("breach", 100, 812.4, 100 / 812.4, 0.1055, 0.1436, 0.4, 0.52, "adjusted", 300, recovery=0.45)
    return replace(verdict, **changes)


def test_an_adjusted_rate_is_told_by_what_is_usual() -> None:
    message = said(adjusted(), basis="adjusted")
    assert message.text.splitlines()[0] == (
        "In the 5m up to 2026-01-02 03:04:10 UTC, 100 went on from checkout to pay, where 422 are usual: 12.3%, usually 52%."
    )
    assert (message.baseline, message.basis, message.denominator) == (0.52, "adjusted", 812.4)


def test_entries_are_told_as_those_whose_time_to_convert_is_over() -> None:
    message = said(replace(users(100, 812), basis="entries"), basis="entries")
    assert message.text.splitlines()[0] == (
        "Of 812 entries at checkout, those of the last 5m whose 30m to convert were over at 2026-01-02 03:04:10 UTC, "
        "100 went on to pay: 12.3%."
    )


def test_a_window_that_had_to_grow_is_told_as_it_is() -> None:
    message = said(replace(users(100, 812), window_seconds=1200))
    assert message.text.startswith("In the 20m (widened from 5m) up to ")
    assert message.window == "20m"


def sequential(**changes: Any) -> Verdict:
    began_us = NIGHT_US - 50 * S
    detector = DetectorState(9.0, 8.0, "alarmed", began_us, 200.0, NIGHT_US, Run(NIGHT_US, 9.0, began_us, 200.0), 10, "adjusted")
    return adjusted(numerator=330, rate=330 / 812.4, low=0.37, upper=0.44, detector=detector, **changes)


def test_a_sequential_rule_that_knows_sooner_than_its_window_says_what_it_knows() -> None:
    impact = Impact(recent=Recent(NIGHT_US - 50 * S, 12, 140.0))
    message = said(sequential(), basis="adjusted", detector="sequential", impact=impact)
    assert message.title == "Browse to order: checkout → pay at 8.6% since 03:03:20 UTC, under 40%"
    assert "Since 2026-01-02 03:03:20 UTC alone, 12 went on, where 73 are usual: 8.6%." in message.text
    assert (
        "CheckoutToPayLow (page) fires under 40%, once the evidence for it has added up, here most likely since "
        "2026-01-02 03:03:20 UTC; the rate over 5m is between 37% and 44% with 90% confidence."
    ) in message.text
    again = said(sequential(), basis="adjusted", detector="sequential")
    assert again.title == "Browse to order: checkout → pay at 40.6% over 5m, by what came bucket by bucket under 40%"


PLACE = Place("device", "ios", 0.9231, "usual", 61, 1632.0, 571.2, 0.338)


def test_it_says_what_is_lost_and_where() -> None:
    impact = Impact(1243.0, 53_100.0, "amount", "baseline", place=PLACE, looked_at=("device", "channel"))
    message = said(adjusted(), basis="adjusted", impact=impact)
    assert "Against what is usual, about 1,200 users an hour are lost here, worth about 53,000 of amount." in message.text
    assert "device ios explains 92% of it: 61 conversions where 571 are usual; at 33.8% elsewhere." in message.text
    assert message.where is not None
    assert (message.lost_users_per_hour, message.where.value, message.where.share) == (1243.0, "ios", 0.9231)


def test_it_says_when_no_single_value_explains_it_and_when_the_mix_does() -> None:
    impact = Impact(12.0, looked_at=("device", "channel"))
    assert "No single value of device or channel explains it." in said(users(100, 812), impact=impact).text
    impact = Impact(12.0, mix=Mix("channel", 0.7), looked_at=("device", "channel"))
    text = said(users(100, 812), impact=impact).text
    assert "70% of it is a change of mix in channel, not of rates: more entrants with values of it that convert less." in text
    assert "No single" not in text


def test_a_place_found_without_history_is_told_against_the_others() -> None:
    impact = Impact(12.0, against="threshold", place=replace(PLACE, against="others", of=500.0), looked_at=("device",))
    text = said(users(100, 812), impact=impact).text
    assert "Against the threshold, about 12 users an hour are lost here." in text
    assert "device ios explains 92% of it: 61 conversions of 500 (12.2%); at 33.8% elsewhere." in text


def test_a_resolved_alert_says_nothing_of_what_is_lost() -> None:
    message = said(users(380, 800), state="inactive", impact=Impact(1243.0, 53_100.0, "amount", place=PLACE))
    assert "lost" not in message.text
    assert "ios" not in message.text


def test_others_of_the_same_cause_are_listed() -> None:
    states = {
        AlertKey("CheckoutToPayLow", "device", value): RuleState("firing", verdict=users(n, 100))
        for value, n in zip("abcdefg", range(5, 40, 5))
    }
    message = said(users(100, 812), others=states)
    assert "Firing as well: device a (5%), device b (10%), device c (15%), device d (20%), device e (25%) and 2 more." in message.text
    assert [other.value for other in message.others] == list("abcdefg")


def test_it_says_who_knows_how_often_it_began_and_that_nothing_newer_is_known() -> None:
    kept = {"acknowledged_by": "anna", "incidents_us": (1, 2, 3), "data": "stale", "data_since_us": NIGHT_US + 60 * S}
    text = said(users(100, 812), kept=kept).text
    assert "Acknowledged by anna." in text
    assert "It began to fire 3 times in 24 hours." in text
    assert "Since 2026-01-02 03:05:10 UTC counting is behind: nothing newer is known." in text


def test_the_dashboard_is_linked_at_the_time_of_the_incident() -> None:
    message = said(users(100, 812), dashboard_url="https://g/d/x?var-funnel={funnel}&from={from_ms}&to={to_ms}")
    assert message.dashboard == "https://g/d/x?var-funnel=purchase&from=1767319450000&to=1767326650000"
    assert f"Dashboard: {message.dashboard}" in message.text.splitlines()


RULES: list[dict[str, Any]] = [
    {},
    {"detector": "sequential"},
    {"below": None, "above": 0.4, "recover_above": None, "recover_below": 0.35},
    {"below": None, "below_target": True, "recover_above": None},
    {"below": None, "drop": {"by": 0.25}, "recover_above": None},
    {"below": None, "drop": {"by": 0.25, "from": "yesterday"}, "recover_above": 0.45},
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("basis", ["users", "entries", "adjusted"])
def test_in_every_state_what_the_title_claims_of_the_rate_is_so(rule: dict[str, Any], basis: str) -> None:
    rates = [None, 0.0, 0.12, 0.399, 0.42, 0.6]
    states = ["firing", "recovering", "inactive"]
    for rate, state, threshold, data in itertools.product(rates, states, [None, 0.4], ["ok", "no_data", "stale", "low_sample", "error"]):
        reason = "" if rate is not None else "no_baseline" if threshold is None else "low_sample"
        verdict = Verdict(
            "unknown" if rate is None else "healthy", 12, 40.0, rate, None, None, threshold, None, basis, 300, reason, None, threshold
        )  # type: ignore[arg-type] # a Reason
        message = said(verdict, state=state, basis=basis, kept={"data": data, "data_since_us": NIGHT_US}, **rule)
        title = message.title
        assert "None" not in title + message.text
        assert message.status == ("resolved" if state == "inactive" else "firing")
        rises, fixed = "above" in rule, threshold if threshold is not None else 0.4 if rule.get("below", 0.4) or "above" in rule else None
        if rate is None:
            assert " was " in title
            assert message.rate is None
        elif f"{'over' if rises else 'under'} " in title:
            assert state != "inactive"
            assert fixed is not None
            assert rate > fixed if rises else rate < fixed
        elif "not yet back" in title:
            assert state == "firing"
        assert ("(resolved)" in title) == (state == "inactive" and rate is not None)


def test_without_a_verdict_nothing_is_claimed() -> None:
    message = said(None)
    assert message.title == "Browse to order: checkout → pay was under 40%, now no users to tell by"
    assert message.rate is None


def test_without_a_page_address_there_is_no_link() -> None:
    message = said(users(100, 812))
    assert message.link == ""
    assert "Page:" not in message.text


def test_titles_of_funnel_and_stages_are_preferred_to_their_names() -> None:
    setup = config({})
    stages = tuple(s.model_copy(update={"title": s.name.upper()}) for s in setup.funnels[0].stages)
    funnel = setup.funnels[0].model_copy(update={"title": "", "stages": stages})
    state = RuleState("firing", NIGHT_US, NIGHT_US, users(0, 50), NIGHT_US, NIGHT_US)
    message = compose(setup.alerts[0], funnel, TOTAL, state)
    assert message.title == "purchase: CHECKOUT → PAY at 0%, under 40%"
    assert "Firing since 2026-01-02 03:04:10 UTC." in message.text.splitlines()


def test_the_key_tells_alerts_incidents_and_ends_apart_and_nothing_else() -> None:
    later = NIGHT_US + 3600 * S
    keys = {
        notification().key,
        notification("resolved").key,
        notification(value="ios").key,
        notification(value="ios/firing").key,
        notification(incident_us=later).key,
    }
    assert len(keys) == 5
    assert said(users(100, 812)).key == said(users(90, 700)).key == notification().key
    assert notification().incident == notification("resolved").incident != notification(incident_us=later).incident


def test_the_key_can_travel_in_a_header_whatever_the_value_is() -> None:
    key = notification(value="Zürich 東京\u202e").key
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key


def test_it_says_since_when_in_event_time() -> None:
    assert notification().began == datetime(2026, 1, 2, 3, 4, 10, tzinfo=timezone.utc)
    assert notification("resolved").began == notification().began


def test_a_notification_that_an_earlier_version_stored_can_still_be_sent() -> None:
    new = {"incident", "ended", "dashboard", "funnel", "stage", "window", "basis", "rate", "low", "high", "threshold", "baseline"}
    new |= {"numerator", "denominator", "since", "lost_users_per_hour", "lost_value_per_hour", "value_of", "where", "others", "series"}
    stored = notification().model_dump_json(exclude=new | {"series_seconds"})
    assert Notification.model_validate_json(stored).title == notification().title


def test_several_are_told_with_what_fires_and_what_is_over() -> None:
    title, text = together([notification(value="ios"), notification("resolved", value="ios"), notification(value="web")])
    assert title == "3 alerts: 2 firing, 1 resolved"
    assert text.splitlines() == [
        "Told in one message, since this channel's limit was reached:",
        "FIRING page: Browse to order (device ios): checkout → pay at 12.3%, under 40%",
        "RESOLVED page: Browse to order (device ios): checkout → pay back at 47.5% (resolved)",
        "FIRING page: Browse to order (device web): checkout → pay at 12.3%, under 40%",
    ]
    _, text = together([notification(value=str(n)) for n in range(60)])
    assert text.splitlines()[-1] == "… and 10 more."
    assert together([notification()]) == (notification().title, notification().text)


def test_the_dead_man_says_what_its_silence_means() -> None:
    alive = dead_man(NIGHT_US, 60)
    assert (alive.transition.rule, alive.status, alive.title) == (DEAD_MAN, "firing", "funnelwatch is alive")
    assert "When it stops coming, nobody watches the funnels" in alive.text
    assert "every 1m." in alive.text


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


@pytest.mark.parametrize(("number", "shown"), [(0.34, "0.3"), (7, "7"), (12.4, "12"), (1234.0, "1,234"), (99_999.6, "100,000")])
def test_a_number_is_written_for_people(number: float, shown: str) -> None:
    assert amount(number) == shown


@pytest.mark.parametrize(("number", "shown"), [(0.34, "0.3"), (7.26, "7.3"), (12.4, "12"), (1243.0, "1,200"), (262_438.0, "260,000")])
def test_an_estimate_has_two_digits(number: float, shown: str) -> None:
    assert about(number) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(300, "5m"), (90, "90s"), (3600, "1h"), (604_800, "7d"), (0, "0s")])
def test_a_span_is_written_as_in_the_config(seconds: int, shown: str) -> None:
    assert short(seconds) == shown
