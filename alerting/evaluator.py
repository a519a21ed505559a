"""Rules judged at boundaries of event time: what is due, what it changes, and the write of it.

At boundary b, a multiple of the rule's step, the verdict is about the window of full buckets
[b - window, b) and everything after it. The step is the width of the window's buckets: 10 s up to
a window of 1 h, 1 min up to 24 h, 1 h beyond. When T has jumped over several boundaries only the
newest is evaluated, since counts have no past.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from alerting.conditions import judge
from alerting.contract import AlertStore, Commit
from alerting.lifecycle import AlertKey, Change, RuleState, advance
from alerting.message import compose
from alerting.outbox import OutboxEntry
from alerting.reports import transition
from schemas.config import Config
from schemas.duration import MICROS, bucket_seconds
from schemas.funnel import Funnel
from schemas.report import Transition
from schemas.rule import Rule

TOLD = ("firing", "resolved")


class FunnelCounts(Protocol):
    """Users by stage (from 0) of one funnel."""

    def users(self, stage: int, window_seconds: int, at_us: int, dimension: str | None = None, value: str | None = None) -> int:
        """Users of the trailing window whose last, still open bucket is the one that holds `at_us`."""

    def values(self, dimension: str) -> tuple[str, ...]:
        """The values of a dimension that are counted."""


@dataclass(frozen=True)
class Due:
    """A rule and the boundary at which it is to be evaluated."""

    rule: Rule
    funnel: Funnel
    boundary_us: int


@dataclass(frozen=True)
class Step:
    """One alert before and after its evaluation."""

    due: Due
    alert: AlertKey
    before: RuleState
    after: RuleState
    change: Change | None

    @property
    def transition(self) -> Transition | None:
        return transition(self.due.rule, self.alert, self.after, self.change) if self.change else None

    def entries(self, web_url: str) -> tuple[OutboxEntry, ...]:
        """What the channels of the rule are to be told."""
        if self.change not in TOLD:
            return ()
        rule = self.due.rule
        notification = compose(rule, self.due.funnel, self.alert, self.after, web_url)
        return tuple(OutboxEntry(channel=channel, notification=notification) for channel in dict.fromkeys(rule.notify))


def boundary(rule: Rule, at_us: int) -> int:
    """The newest boundary of a rule that T has reached."""
    step_us = bucket_seconds(rule.window) * MICROS
    return at_us // step_us * step_us


def rules_due(rules: Iterable[tuple[Rule, Funnel]], at: Mapping[str, int | None], stale: Mapping[str, bool]) -> Iterator[Due]:
    """Every rule with its newest boundary, but for sources that are stale or have no T yet."""
    for rule, funnel in rules:
        at_us = at.get(funnel.source)
        if at_us is not None and not stale.get(funnel.source, False):
            yield Due(rule, funnel, boundary(rule, at_us))


def evaluate(due: Due, counts: FunnelCounts, states: Mapping[AlertKey, RuleState]) -> Iterator[Step]:
    """Judge a rule over everybody and for every value of the dimensions it names; `states` are its own."""
    stage = due.funnel.stage_index(due.rule.stage)
    for alert in _alerts(due.rule, counts, states):
        before = states.get(alert, RuleState())
        verdict = judge(due.rule, _users(due, counts, stage, alert), _users(due, counts, stage - 1, alert))
        after, change = advance(due.rule, before, verdict, due.boundary_us)
        yield Step(due, alert, before, after, change)


def _users(due: Due, counts: FunnelCounts, stage: int, alert: AlertKey) -> int:
    """Users at a stage, over the full buckets before the boundary and all after."""
    return counts.users(stage, int(due.rule.window), due.boundary_us - 1, alert.dimension, alert.value)


def _alerts(rule: Rule, counts: FunnelCounts, states: Mapping[AlertKey, RuleState]) -> Iterator[AlertKey]:
    yield AlertKey(rule.name)
    for dimension in rule.by:
        # A value that is no longer counted but still fires must not be forgotten.
        known = {alert.value for alert in states if alert.dimension == dimension and alert.value is not None}
        for value in sorted(known.union(counts.values(dimension))):
            yield AlertKey(rule.name, dimension, value)


def _by_rule(states: Mapping[AlertKey, RuleState]) -> dict[str, dict[AlertKey, RuleState]]:
    found: dict[str, dict[AlertKey, RuleState]] = {}
    for alert, state in states.items():
        found.setdefault(alert.rule, {})[alert] = state
    return found


def changes(steps: Iterable[Step], removed: Iterable[AlertKey], web_url: str) -> Commit:
    """What the steps leave to be written."""
    steps = [step for step in steps if step.after != step.before]
    return Commit(
        states={step.alert: step.after for step in steps},
        removed=tuple(removed),
        entries=tuple(entry for step in steps for entry in step.entries(web_url)),
        transitions=tuple(t for step in steps if (t := step.transition) is not None),
    )


class Evaluator:
    """Evaluates what is due and writes what it changes; the store is its only memory."""

    def __init__(self, config: Config, store: AlertStore, web_url: str = "") -> None:
        self._rules = {rule.name: (rule, config.funnel(rule.funnel)) for rule in config.alerts}
        self._store = store
        self._web_url = web_url
        self._done: dict[str, int] = {}  # rule -> newest boundary known to be evaluated; saves reading the store
        self._swept = False

    async def tick(
        self,
        fence: int,
        counts: Mapping[str, FunnelCounts],
        at: Mapping[str, int | None],
        stale: Mapping[str, bool],
    ) -> list[Transition]:
        """Evaluate every rule whose boundary has come; the changes of state, once they are stored.

        `counts` is by funnel, `at` (T in microseconds) and `stale` by source; a funnel or source
        that is missing is not evaluated. With a token that is not the newest nothing happens.

        Raises:
            StoreError: nothing is known to be written; the next tick does what is still undone.

        """
        due = [d for d in rules_due(self._rules.values(), at, stale) if d.rule.funnel in counts and self._is_new(d)]
        if self._swept and not due:
            return []
        states = await self._store.states()
        removed = [alert for alert in states if not self._is_configured(alert)]
        own = _by_rule(states)
        steps = (step for d in due for step in evaluate(d, counts[d.rule.funnel], own.get(d.rule.name, {})))
        commit = changes(steps, removed, self._web_url)
        if commit and not await self._store.commit(fence, commit):
            return []
        self._done |= {d.rule.name: d.boundary_us for d in due}
        self._swept = True
        return list(commit.transitions)

    def _is_configured(self, alert: AlertKey) -> bool:
        rule, _ = self._rules.get(alert.rule, (None, None))
        return rule is not None and (alert.dimension is None or alert.dimension in rule.by)

    def _is_new(self, due: Due) -> bool:
        done = self._done.get(due.rule.name)
        return done is None or due.boundary_us > done
