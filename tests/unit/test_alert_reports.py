"""Alert states in the shape that readers get."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from alerting.conditions import Verdict
from alerting.lifecycle import AlertKey, RuleState
from alerting.message import compose
from alerting.pipeline import incident_key, key
from alerting.reports import alert_states, moment, transition
from tests.parts.alerts import NIGHT_US, config

NOW = datetime(2026, 1, 2, 3, 4, 10, tzinfo=timezone.utc)
TOTAL, IOS = AlertKey("CheckoutToPayLow"), AlertKey("CheckoutToPayLow", "device", "ios")
VERDICT = Verdict("recovered", 40, 80.5, 0.5, 0.45, 0.55, 0.36, 0.48, "adjusted", 600)


def test_an_alert_says_what_it_was_judged_by() -> None:
    state = RuleState("recovering", 5, NIGHT_US, VERDICT, 3, 5, NIGHT_US, "ok", 4, (5,), told=True)
    (shown,) = alert_states(config({}), {TOTAL: state}, [], NOW)
    assert (shown.state, shown.data, shown.flaps, shown.told, shown.since) == ("recovering", "ok", 1, True, moment(5))
    assert (shown.numerator, shown.denominator, shown.rate, shown.low, shown.upper) == (40, 80.5, 0.5, 0.45, 0.55)
    assert (shown.threshold, shown.baseline, shown.basis, shown.window, shown.window_seconds) == (0.36, 0.48, "adjusted", "5m", 600)
    assert (shown.recovering_since, shown.data_since) == (NOW, moment(4))


def test_a_rule_that_was_never_judged_has_no_data() -> None:
    (shown,) = alert_states(config({}), {}, [], NOW)
    assert (shown.state, shown.data, shown.since, shown.threshold, shown.basis) == ("inactive", "no_data", None, None, "users")


def test_rules_come_in_the_order_of_the_config_and_the_pipelines_own_last() -> None:
    states = {key("web"): RuleState(), IOS: RuleState(), TOTAL: RuleState(), AlertKey("First"): RuleState()}
    shown = alert_states(config({"name": "First"}, {"by": ["device"]}), states, [], NOW)
    assert [(s.rule, s.value) for s in shown] == [
        ("First", None),
        ("CheckoutToPayLow", None),
        ("CheckoutToPayLow", "ios"),
        ("FunnelwatchPipeline", "web"),
    ]


@pytest.mark.parametrize(("change", "at_us"), [("resolved", NIGHT_US), ("no_data", 7), ("stale", 7)])
def test_a_transition_is_of_the_time_of_what_it_tells(change: str, at_us: int) -> None:
    state = RuleState("inactive", 5, NIGHT_US, VERDICT, data="stale", data_since_us=7)
    told = transition(config({}).alerts[0], TOTAL, state, change)
    assert (told.at, told.threshold, told.baseline, told.basis) == (moment(at_us), 0.36, 0.48, "adjusted")


@pytest.mark.parametrize("alert", [TOTAL, IOS, AlertKey("CheckoutToPayLow", "device", "東京/a b")])
def test_an_incident_has_one_name_whoever_speaks_of_it(alert: AlertKey) -> None:
    setup = config({"by": ["device"]})
    state = RuleState("firing", NIGHT_US, NIGHT_US, VERDICT, NIGHT_US, NIGHT_US)
    assert incident_key(alert, NIGHT_US) == compose(setup.alerts[0], setup.funnels[0], alert, state).incident
