"""Who is to be told what of the alerts of a rule: one notification per cause, none of what is silenced.

Alerts of one rule that fire together, the total and values, have one cause: one of them is told,
the total or else the value that loses most, and the others are listed in it. A value that begins to
fire while the total is known to fire belongs to it too. When the one that was told is over and
others still fire, they are told on their own.

A silence holds back the beginning of an incident, not its end: whoever was told that it began is
told that it is over, else an incident would stay open there. What fires under a silence is told
when that ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from alerting import pipeline
from alerting.contract import Commit
from alerting.lifecycle import AlertKey, Change, RuleState
from alerting.localise import Impact, impact
from alerting.message import NOBODY, Notification, compose
from alerting.outbox import OutboxEntry
from alerting.pipeline import incident_key
from alerting.reports import moment, transition
from alerting.silences import holding, state_of, subject_of
from schemas.config import Config
from schemas.funnel import Funnel
from schemas.report import Transition
from schemas.rule import Rule
from schemas.silence import Silence
from streams.adjusting import Adjusting
from streams.windows import FunnelCounts

NEVER_SEEN = RuleState()

log = structlog.get_logger()


class Draft:
    """The alerts before and after one evaluation, and what is to be written of it."""

    def __init__(self, before: Mapping[AlertKey, RuleState], silences: Collection[Silence], now: datetime) -> None:
        self.before = before
        self.silences = [silence for silence in silences if state_of(silence, now) == "active"]
        self.now = now
        self.over: dict[AlertKey, tuple[RuleState, tuple[str, ...]]] = {}  # incidents that were told: the state after, and to whom
        self._after: dict[str, dict[AlertKey, RuleState]] = {}  # by rule
        self._removed: list[AlertKey] = []
        self._entries: list[OutboxEntry] = []
        self._transitions: list[Transition] = []
        for alert, state in before.items():
            self[alert] = state

    def __getitem__(self, alert: AlertKey) -> RuleState:
        """The state of an alert as it is now; that of one never seen, if it was not."""
        return self.of(alert.rule).get(alert, NEVER_SEEN)

    def __setitem__(self, alert: AlertKey, state: RuleState) -> None:
        self._after.setdefault(alert.rule, {})[alert] = state

    def of(self, rule: str) -> Mapping[AlertKey, RuleState]:
        """The alerts of a rule."""
        return self._after.get(rule, {})

    def put(self, alert: AlertKey, after: RuleState, change: Change | None, told: Callable[[Change], Transition]) -> None:
        """An alert after it was judged, or could not be; `told` makes the transition."""
        before = self[alert]
        self[alert] = after
        if change is not None:
            self._transitions.append(told(change))
        if change == "resolved" and before.told:
            self.over[alert] = after, before.channels

    def remove(self, alert: AlertKey) -> None:
        """Forget an alert that is configured no more; whoever was told of an incident hears that nobody watches it any more."""
        state = self._after[alert.rule].pop(alert)
        self._removed.append(alert)
        if state.fires and state.told:
            gone = unwatched(alert, state)
            self._transitions.append(gone.transition)
            self.send(state.channels, gone)

    def is_silenced(self, rule: Rule | None, alert: AlertKey) -> bool:
        return bool(holding(self.silences, subject_of(rule, alert), self.now))

    def send(self, channels: Collection[str], notification: Notification) -> None:
        self._entries += [OutboxEntry(channel=channel, notification=notification) for channel in dict.fromkeys(channels)]

    def commit(self) -> Commit:
        """What is to be written."""
        after = (pair for alerts in self._after.values() for pair in alerts.items())
        return Commit(
            states={alert: state for alert, state in after if state != self.before.get(alert)},
            removed=tuple(self._removed),
            entries=tuple(self._entries),
            transitions=tuple(self._transitions),
        )


@dataclass(frozen=True)
class Scene:
    """A rule, and what is known of its funnel."""

    rule: Rule
    funnel: Funnel
    counts: FunnelCounts | None
    adjusting: Adjusting | None
    web_url: str = ""
    dashboard_url: str = ""

    def notification(
        self, alert: AlertKey, state: RuleState, others: Mapping[AlertKey, RuleState] = NOBODY, lost: Impact | None = None
    ) -> Notification:
        return compose(self.rule, self.funnel, alert, state, self.web_url, impact=lost, others=others, dashboard_url=self.dashboard_url)

    def impact(self, alert: AlertKey, state: RuleState) -> Impact | None:
        """What the incident costs and where it is, as far as there are counts and a verdict to tell by."""
        if self.counts is None or state.verdict is None or state.at_us is None:
            return None
        stage = self.funnel.stage_index(self.rule.stage)
        split = None if alert.dimension is None else (alert.dimension, alert.value or "")
        try:
            return impact(self.rule, self.counts, self.adjusting, stage, state.at_us, state.verdict, split)
        except Exception:
            # People are woken without it rather than not at all.
            log.exception("what an incident costs cannot be told", rule=alert.rule)
            return None


def put(draft: Draft, rule: Rule, alert: AlertKey, after: RuleState, change: Change | None) -> None:
    """Put an alert of a rule into the draft."""
    # That data lack is said of the total alone: of small values they do now and then.
    said = None if alert.dimension is not None and change in ("no_data", "stale") else change
    draft.put(alert, after, said, lambda change: transition(rule, alert, after, change))


def tell(draft: Draft, scene: Scene) -> None:
    """Put into the draft what the channels of a rule are to hear now."""
    rule, states = scene.rule, draft.of(scene.rule.name)
    for alert in [alert for alert in draft.over if alert.rule == rule.name]:
        after, channels = draft.over.pop(alert)
        draft.send(channels or rule.notify, scene.notification(alert, after))
    firing = {alert: state for alert, state in states.items() if state.state == "firing"}
    untold = {alert: state for alert, state in firing.items() if not _is_known(draft, state) and not draft.is_silenced(rule, alert)}
    if not untold:
        return
    total = AlertKey(rule.name)
    if draft[total].fires and draft[total].told:
        leader = total
    else:
        leader = total if total in untold else max(untold, key=lambda alert: (_lost(untold[alert]), alert))
        told = draft[leader] = replace(untold[leader], told=True, channels=rule.notify)
        others = {alert: state for alert, state in firing.items() if alert != leader and not draft.is_silenced(rule, alert)}
        draft.send(rule.notify, scene.notification(leader, told, others, scene.impact(leader, told)))
    for alert, state in untold.items():
        if alert != leader:
            draft[alert] = replace(state, cause=leader)


def _is_known(draft: Draft, state: RuleState) -> bool:
    """Whether the channels know of an incident: by its own notification, or by that of an alert that still fires."""
    return state.told or (state.cause is not None and draft[state.cause].fires and draft[state.cause].told)


def _lost(state: RuleState) -> float:
    """How many conversions the window is short of the threshold, or over it."""
    verdict = state.verdict
    return 0.0 if verdict is None or verdict.threshold is None else abs(verdict.denominator * verdict.threshold - verdict.numerator)


def tell_of_source(draft: Draft, config: Config, alert: AlertKey, web_url: str) -> None:
    """Put into the draft what is to be heard of a source's alert."""
    channels = pipeline.channels(config)
    if (over := draft.over.pop(alert, None)) is not None:
        draft.send(over[1] or channels, pipeline.notification(config, alert, over[0], web_url))
    state = draft[alert]
    if state.state == "firing" and not state.told and not draft.is_silenced(None, alert):
        draft[alert] = replace(state, told=True, channels=channels)
        draft.send(channels, pipeline.notification(config, alert, state, web_url))


def unwatched(alert: AlertKey, state: RuleState) -> Notification:
    """What to say of an incident whose rule, dimension or source is not in the config any more."""
    name = " ".join(part for part in alert if part)
    # Just after the last evaluation, so that it is told after the beginning.
    at_us, began_us = (state.at_us or 0) + 1, state.incident_us or 0
    incident = incident_key(alert, began_us)
    return Notification(
        key=f"{incident}/resolved",
        incident=incident,
        status="resolved",
        transition=pipeline.transition(alert, replace(state, at_us=at_us), "resolved"),
        severity="",
        began=moment(began_us),
        ended=moment(at_us),
        title=f"{name}: not watched any more (resolved)",
        text="It is not in the config any more. Whether the rate is back nobody knows.",
        link="",
        runbook="",
    )
