"""[pure] Alert states and their changes, in the shape that readers get."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from alerting.lifecycle import AlertKey, Change, RuleState
from schemas.config import Config
from schemas.report import AlertState, Transition
from schemas.rule import Rule

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def moment(micros: int) -> datetime:
    """A time in microseconds since the epoch as a UTC datetime; exact, unlike by way of a float."""
    return EPOCH + timedelta(microseconds=micros)


def transition(rule: Rule, alert: AlertKey, state: RuleState, change: Change) -> Transition:
    """A change of state as it is kept and told; `state` is the one after the change."""
    verdict = state.verdict
    return Transition(
        at=moment(state.at_us or 0),
        rule=rule.name,
        funnel=rule.funnel,
        stage=rule.stage,
        dimension=alert.dimension,
        value=alert.value,
        state=change,
        numerator=verdict.numerator if verdict else 0,
        denominator=verdict.denominator if verdict else 0,
        rate=verdict.rate if verdict else None,
        threshold=rule.below,
    )


def alert_states(config: Config, states: Mapping[AlertKey, RuleState]) -> list[AlertState]:
    """Every alert of the config in the order of its rules: first the total, known or not, then the values."""
    found = []
    for rule in config.alerts:
        total = AlertKey(rule.name)
        values = (alert for alert in states if alert.rule == rule.name and alert.dimension in rule.by)
        found += [_alert_state(rule, alert, states.get(alert, RuleState())) for alert in (total, *sorted(values))]
    return found


def _alert_state(rule: Rule, alert: AlertKey, state: RuleState) -> AlertState:
    verdict = state.verdict
    return AlertState(
        rule=rule.name,
        funnel=rule.funnel,
        stage=rule.stage,
        dimension=alert.dimension,
        value=alert.value,
        state=state.state,
        since=None if state.since_us is None else moment(state.since_us),
        at=None if state.at_us is None else moment(state.at_us),
        numerator=verdict.numerator if verdict else 0,
        denominator=verdict.denominator if verdict else 0,
        rate=verdict.rate if verdict else None,
        threshold=rule.below,
        severity=rule.severity,
        window=str(rule.window),
    )
