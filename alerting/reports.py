"""[pure] Alert states and their changes, in the shape that readers get."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta, timezone

from alerting.lifecycle import AlertKey, Change, RuleState
from alerting.silences import holding, state_of, subject_of
from schemas.config import Config
from schemas.pipeline import PIPELINE
from schemas.report import AlertState, Transition
from schemas.rule import Rule
from schemas.silence import Silence

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def moment(micros: int) -> datetime:
    """A time in microseconds since the epoch as a UTC datetime; exact, unlike by way of a float."""
    return EPOCH + timedelta(microseconds=micros)


def _when(micros: int | None) -> datetime | None:
    return None if micros is None else moment(micros)


def transition(rule: Rule, alert: AlertKey, state: RuleState, change: Change) -> Transition:
    """A change of state as it is kept and told; `state` is the one after the change."""
    verdict = state.verdict
    at_us = state.data_since_us if change in ("no_data", "stale") else state.at_us
    return Transition(
        at=moment(at_us or 0),
        rule=rule.name,
        funnel=rule.funnel,
        stage=rule.stage,
        dimension=alert.dimension,
        value=alert.value,
        state=change,
        numerator=verdict.numerator if verdict else 0,
        denominator=verdict.denominator if verdict else 0,
        rate=verdict.rate if verdict else None,
        threshold=verdict.threshold if verdict else None,
        baseline=verdict.baseline if verdict else None,
        basis=verdict.basis if verdict else rule.basis,
    )


def alert_states(config: Config, states: Mapping[AlertKey, RuleState], silences: Collection[Silence], now: datetime) -> list[AlertState]:
    """Every alert of the config in the order of its rules, first the total, known or not, then the values; the pipeline's own last."""
    found = []
    active = [silence for silence in silences if state_of(silence, now) == "active"]
    for rule in config.alerts:
        total = AlertKey(rule.name)
        values = (alert for alert in states if alert.rule == rule.name and alert.dimension in rule.by)
        for alert in (total, *sorted(values)):
            held = holding(active, subject_of(rule, alert), now)
            found.append(_alert_state(rule, alert, states.get(alert, RuleState()), held))
    for alert in sorted(alert for alert in states if alert.rule == PIPELINE):
        found.append(_pipeline_state(config, alert, states[alert], holding(active, subject_of(None, alert), now)))
    return found


def _alert_state(rule: Rule, alert: AlertKey, state: RuleState, silenced_by: tuple[str, ...]) -> AlertState:
    verdict = state.verdict
    return AlertState(
        rule=rule.name,
        funnel=rule.funnel,
        stage=rule.stage,
        dimension=alert.dimension,
        value=alert.value,
        state=state.state,
        since=_when(state.since_us),
        at=_when(state.at_us),
        data="no_data" if state.at_us is None and state.data == "ok" else state.data,
        data_since=_when(state.data_since_us),
        recovering_since=_when(state.recovering_us),
        flaps=state.flaps,
        told=state.told,
        acknowledged_by=state.acknowledged_by or None,
        acknowledged_at=_when(state.acknowledged_us),
        silenced_by=silenced_by,
        numerator=verdict.numerator if verdict else 0,
        denominator=verdict.denominator if verdict else 0,
        rate=verdict.rate if verdict else None,
        low=verdict.low if verdict else None,
        upper=verdict.upper if verdict else None,
        threshold=verdict.threshold if verdict else None,
        baseline=verdict.baseline if verdict else None,
        basis=verdict.basis if verdict else rule.basis,
        window_seconds=verdict.window_seconds if verdict else None,
        severity=rule.severity,
        window=str(rule.window),
    )


def _pipeline_state(config: Config, alert: AlertKey, state: RuleState, silenced_by: tuple[str, ...]) -> AlertState:
    return AlertState(
        rule=alert.rule,
        funnel="",
        stage="",
        dimension=alert.dimension,
        value=alert.value,
        state=state.state,
        since=_when(state.since_us),
        at=_when(state.at_us),
        data=state.data,
        data_since=_when(state.breach_us),
        flaps=state.flaps,
        told=state.told,
        acknowledged_by=state.acknowledged_by or None,
        acknowledged_at=_when(state.acknowledged_us),
        silenced_by=silenced_by,
        numerator=0,
        denominator=0,
        rate=None,
        threshold=None,
        severity=config.pipeline.severity,
        window=str(config.pipeline.for_),
    )
