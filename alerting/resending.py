"""[pure] What a channel that forgets has to hear again: what fires, and for a while what has ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from alerting import pipeline
from alerting.lifecycle import AlertKey, RuleState
from alerting.message import Notification, compose
from alerting.reports import EPOCH
from schemas.config import Config
from schemas.duration import MICROS
from schemas.pipeline import PIPELINE
from schemas.report import Transition

ENDED_SECONDS = 15 * 60


class Repetition:
    """The alerts as they are, by what the store says, for any channel."""

    def __init__(self, config: Config, web_url: str, dashboard_url: str) -> None:
        self._config = config
        self._rules = {rule.name: rule for rule in config.alerts}
        self._web_url, self._dashboard_url = web_url, dashboard_url

    def due(
        self, channel: str, states: Mapping[AlertKey, RuleState], transitions: Iterable[Transition], news: Collection[AlertKey], now: float
    ) -> list[Notification]:
        """What the channel hears again, but of alerts with `news` on their way to it.

        `transitions` are newest first; `now` is the wall clock's, in seconds.
        """
        alerts = {alert: state for alert, state in states.items() if alert not in news and channel in self._channels(alert)}
        firing = [self._said(alert, state) for alert, state in alerts.items() if state.fires and state.told]
        ended = [
            self._said(alert, _as_it_ended(alerts[alert], told)) for alert, told in _ended(transitions, now) if _is_over(alerts.get(alert))
        ]
        return firing + ended

    def _channels(self, alert: AlertKey) -> tuple[str, ...]:
        if alert.rule == PIPELINE:
            return pipeline.channels(self._config)
        rule = self._rules.get(alert.rule)
        return () if rule is None else rule.notify

    def _said(self, alert: AlertKey, state: RuleState) -> Notification:
        if alert.rule == PIPELINE:
            return pipeline.notification(self._config, alert, state, self._web_url)
        rule = self._rules[alert.rule]
        return compose(rule, self._config.funnel(rule.funnel), alert, state, self._web_url, dashboard_url=self._dashboard_url)


def _ended(transitions: Iterable[Transition], now: float) -> Iterator[tuple[AlertKey, Transition]]:
    """The last end of each alert, when it is not too long ago."""
    seen: set[AlertKey] = set()
    for told in transitions:
        alert = AlertKey(told.rule, told.dimension, told.value)
        if told.state == "resolved" and alert not in seen and now - told.at.timestamp() <= ENDED_SECONDS:
            yield alert, told
        if told.state in ("firing", "resolved"):
            seen.add(alert)


def _is_over(state: RuleState | None) -> bool:
    return state is not None and not state.fires and state.incident_us is not None


def _as_it_ended(state: RuleState, told: Transition) -> RuleState:
    """The state as it was when the incident was over, by the transition that says so."""
    at_us = _micros(told.at)
    verdict = state.verdict and replace(
        state.verdict,
        outcome="recovered",
        numerator=told.numerator,
        denominator=told.denominator,
        rate=told.rate,
        threshold=told.threshold,
        baseline=told.baseline,
        basis=told.basis,
        low=None,
        upper=None,
        reason="",
    )
    return replace(state, state="inactive", since_us=at_us, at_us=at_us, verdict=verdict, data="ok", data_since_us=at_us)


def _micros(at: datetime) -> int:
    passed = at - EPOCH
    return (passed.days * 86_400 + passed.seconds) * MICROS + passed.microseconds
