"""Rules judged at boundaries of event time: what is due, what it changes, and the write of it.

At boundary b, a multiple of the rule's step, the verdict is about the counts up to b. The step is
the width of the window's buckets: 10 s up to a window of 1 h, 1 min up to 24 h, 1 h beyond. When T
has jumped over several boundaries only the newest is evaluated, since counts have no past.

One evaluation is a draft: what was judged, what cannot be judged, how the sources do, and who is to
be told of it (`alerting.telling`). It is written as a whole, under the leader's token, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from zlib import crc32

import structlog

from alerting import pipeline
from alerting.conditions import judge
from alerting.contract import AlertStore
from alerting.lifecycle import AlertKey, Change, DataState, RuleState, advance, unjudged
from alerting.pipeline import Intake
from alerting.reports import moment
from alerting.samples import look
from alerting.telling import Draft, Scene, put, tell, tell_of_source
from schemas.config import Config
from schemas.duration import MICROS, bucket_seconds
from schemas.funnel import Funnel
from schemas.pipeline import PIPELINE
from schemas.report import Transition
from schemas.rule import Rule
from streams.adjusting import Adjusting
from streams.windows import FunnelCounts

BEAT_US = 5 * MICROS
SPREAD_SECONDS_MAX = 10
SPREAD_SHARE = 50  # of a window: what comes after the boundary counts too, on basis users

log = structlog.get_logger()


@dataclass(frozen=True)
class Due:
    """A rule and the boundary at which it is to be evaluated."""

    rule: Rule
    funnel: Funnel
    boundary_us: int


def boundary(rule: Rule, at_us: int) -> int:
    """The newest boundary of a rule that T has reached."""
    step_us = bucket_seconds(rule.window) * MICROS
    return at_us // step_us * step_us


def jitter_seconds(rule: Rule) -> int:
    """How long a rule waits at each boundary, so that not all are evaluated at once: always the same for one name.

    It is under the rule's step, and under a fiftieth of its window.
    """
    return crc32(rule.name.encode()) % max(1, min(SPREAD_SECONDS_MAX, int(rule.window) // SPREAD_SHARE))


class Evaluator:
    """Evaluates what is due and writes what it changes; the store is its only memory.

    With `tick_seconds`, how often `tick` is called, a rule is evaluated as many ticks after its
    boundary as fit in its jitter; without, at once.
    """

    def __init__(
        self, config: Config, store: AlertStore, web_url: str = "", *, dashboard_url: str = "", tick_seconds: float | None = None
    ) -> None:
        self._config = config
        self._rules = {rule.name: (rule, config.funnel(rule.funnel)) for rule in config.alerts}
        self._store = store
        self._web_url = web_url
        self._dashboard_url = dashboard_url
        self._jitter = {name: int(jitter_seconds(rule) // tick_seconds) if tick_seconds else 0 for name, (rule, _) in self._rules.items()}
        self._done: dict[str, int] = {}  # rule -> newest boundary known to be evaluated; saves reading the store
        self._waited: dict[str, int] = {}  # rule -> ticks since a boundary of it came
        self._records: dict[str, int] = {}  # source -> what its intake showed at the last beat
        self._beat_us: int | None = None  # of the wall clock
        self._failing: set[AlertKey] = set()

    async def tick(
        self,
        fence: int,
        counts: Mapping[str, FunnelCounts],
        adjusting: Mapping[str, Adjusting],
        intakes: Mapping[str, Intake],
        now_us: int,
    ) -> list[Transition]:
        """Evaluate every rule whose boundary has come; the changes of state, once they are stored.

        `counts` and `adjusting` are by funnel, `intakes` by source; a funnel or source that is
        missing is not evaluated. `now_us` is the wall clock's, for silences and the pipeline's own
        alert. With a token that is not the newest nothing happens.

        Raises:
            StoreError: nothing is known to be written; the next tick does what is still undone.

        """
        due = list(self._due(counts, intakes))
        beat = self._beat_us is None or abs(now_us - self._beat_us) >= BEAT_US
        if not due and not beat:
            return []
        draft = Draft(*await asyncio.gather(self._store.states(), self._store.silences()), moment(now_us))
        for alert in draft.before:
            if not self._is_configured(alert):
                draft.remove(alert)
        for each in due:
            self._evaluate(draft, each, counts[each.rule.funnel], adjusting.get(each.rule.funnel))
        if beat:
            self._look_at_sources(draft, counts, intakes, now_us)
        for rule, funnel in self._rules.values():
            tell(draft, Scene(rule, funnel, counts.get(funnel.name), adjusting.get(funnel.name), self._web_url, self._dashboard_url))
        commit = draft.commit()
        if commit and not await self._store.commit(fence, commit):
            return []
        self._done |= {each.rule.name: each.boundary_us for each in due}
        self._waited = {name: ticks for name, ticks in self._waited.items() if name not in {each.rule.name for each in due}}
        if beat:
            self._beat_us = now_us
            self._records = {name: intake.records for name, intake in intakes.items()}
        return list(commit.transitions)

    def _due(self, counts: Mapping[str, FunnelCounts], intakes: Mapping[str, Intake]) -> Iterator[Due]:
        """Every rule whose turn it is, with its newest boundary; none of a source that is not settled or has no T yet."""
        for rule, funnel in self._rules.values():
            intake = intakes.get(funnel.source)
            if intake is None or intake.at_us is None or not intake.settled or funnel.name not in counts:
                continue
            due, done = Due(rule, funnel, boundary(rule, intake.at_us)), self._done.get(rule.name)
            if done is None or (due.boundary_us > done and self._has_waited(rule.name)):
                yield due

    def _has_waited(self, name: str) -> bool:
        waited = self._waited.get(name, 0)
        self._waited[name] = waited + 1
        return waited >= self._jitter[name]

    def _evaluate(self, draft: Draft, due: Due, counts: FunnelCounts, adjusting: Adjusting | None) -> None:
        """Judge a rule over everybody and for every value of the dimensions it names."""
        for alert in _alerts(due.rule, counts, draft.of(due.rule.name)):
            before = draft[alert]
            try:
                after, change = self._judged(due, alert, before, counts, adjusting)
            except Exception:
                # One rule that cannot be judged must not keep the others from it.
                if alert not in self._failing:
                    self._failing.add(alert)
                    log.exception("a rule cannot be judged", rule=alert.rule, dimension=alert.dimension, value=alert.value)
                after, change = unjudged(before, "error", due.boundary_us)
            else:
                self._failing.discard(alert)
            put(draft, due.rule, alert, after, change)

    def _judged(
        self, due: Due, alert: AlertKey, before: RuleState, counts: FunnelCounts, adjusting: Adjusting | None
    ) -> tuple[RuleState, Change | None]:
        rule, detector = due.rule, before.verdict.detector if before.verdict else None
        split = None if alert.dimension is None else (alert.dimension, alert.value or "")
        seen = look(rule, counts, adjusting, due.funnel.stage_index(rule.stage), split, due.boundary_us, detector)
        return advance(rule, before, judge(rule, seen, detector), due.boundary_us)

    def _look_at_sources(self, draft: Draft, counts: Mapping[str, FunnelCounts], intakes: Mapping[str, Intake], now_us: int) -> None:
        for source, intake in intakes.items():
            alert, before = pipeline.key(source), draft[pipeline.key(source)]
            after, change, data = pipeline.advance(before, intake, self._records.get(source), now_us, self._config.pipeline.for_.micros)
            draft.put(alert, after, change, partial(pipeline.transition, alert, after))
            tell_of_source(draft, self._config, alert, self._web_url)
            if data != "ok":
                self._mark(draft, source, data, counts, now_us if intake.at_us is None else intake.at_us)

    def _mark(self, draft: Draft, source: str, data: DataState, counts: Mapping[str, FunnelCounts], at_us: int) -> None:
        """Note of every alert of a source that it cannot be judged."""
        for rule, funnel in self._rules.values():
            if funnel.source == source and funnel.name in counts:
                for alert in _alerts(rule, counts[funnel.name], draft.of(rule.name)):
                    put(draft, rule, alert, *unjudged(draft[alert], data, at_us))

    def _is_configured(self, alert: AlertKey) -> bool:
        if alert.rule == PIPELINE:
            return alert.value in {source.name for source in self._config.sources}
        rule, _ = self._rules.get(alert.rule, (None, None))
        return rule is not None and (alert.dimension is None or alert.dimension in rule.by)


def _alerts(rule: Rule, counts: FunnelCounts, states: Mapping[AlertKey, RuleState]) -> Iterator[AlertKey]:
    """The alerts of a rule, known by their `states` or by its counts."""
    yield AlertKey(rule.name)
    for dimension in rule.by:
        # A value that is no longer counted but still fires must not be forgotten.
        known = {alert.value for alert in states if alert.dimension == dimension and alert.value is not None}
        for value in sorted(known.union(counts.values(dimension))):
            yield AlertKey(rule.name, dimension, value)
