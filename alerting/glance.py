"""[pure] Whether an evaluation would change nothing, seen at a glance: what makes a backtest of months short.

An alert that is inactive stays as it is while its rate is on the good side of the threshold (so its
limit is, too), or while it still has too few entrants, or none; and one of a sequential rule while its
evidence stays under the limit. For that its windows at many boundaries are summed at once, and its
evidence is carried on from boundary to boundary, instead of being looked up anew.

It relies on what holds of a history fed by time, and not of a running service: what is counted in a
bucket that is past changes no more, however far on counting is. (Users do; they are looked up.) Where a
glance does not tell, a full evaluation goes on from `before`, as if there had been one at every boundary.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf

from alerting.conditions import Terms, terms_of, watched
from alerting.detectors import Added, DetectorState, add, evidence, fold, limit, passed, size_class
from alerting.lifecycle import DataState, RuleState
from alerting.samples import Basis, Hours, Usual, basis_of
from schemas.duration import MICROS
from schemas.rule import Rule
from streams.adjusted import LEAST_WORTH
from streams.adjusting import Adjusting
from streams.baseline import HOUR_US
from streams.rates import Split
from streams.retention import USERS
from streams.windows import FunnelCounts, cell

FEW, MORE = 8, 6  # windows found at first, and times as many each time that one more is asked about
SEEN = 0.001  # of an entrant, in a bucket: enough to say that there was one


class Glance:
    """Of one alert: a rule over the step into a stage, in total or for a value of a dimension."""

    def __init__(self, rule: Rule, counts: FunnelCounts, stage: int, split: Split | None) -> None:
        self.rule, self._counts, self._stage, self._split = rule, counts, stage, split
        self._target = counts.plan.funnel.stages[stage].target
        self._names = tuple(cell(USERS, place, *(split or ())) for place in (stage, stage - 1))
        self._hours = Hours(counts, stage, split, flowing=rule.basis == "users")
        self._windows: dict[tuple[str, int], dict[int, tuple[int, float]]] = {}  # by basis and seconds, and by boundary
        self._moments_us: Sequence[int] = ()
        self._compared: tuple[tuple[int, int, int], Usual | None] | None = None
        self._evidence: _Carried | None = None

    def leaves(self, state: RuleState, adjusting: Adjusting | None, moments_us: Sequence[int]) -> int:
        """How many of the next evaluations leave the alert as it is; nothing new is learned between the first and the last.

        `moments_us` are their boundaries, none of them before those asked about last.
        """
        if state.state != "inactive":
            self._evidence = None
            return 0
        boundary_us, self._moments_us = moments_us[0], moments_us
        if adjusting is not None:
            adjusting.at(boundary_us)
        basis, baseline_rate = basis_of(self.rule, self._counts, adjusting, self._stage, self._split, boundary_us)
        terms = terms_of(self.rule, self._target, self._compared_at(boundary_us), baseline_rate)
        if self.rule.detector == "sequential":
            return self._evidence_leaves(state, basis, terms, moments_us)
        return self._windows_leave(state, basis, terms, moments_us)

    def before(self, state: RuleState) -> RuleState:
        """The state to evaluate from, where a glance did not tell."""
        carried, self._evidence = self._evidence, None
        if carried is None or state.verdict is None:
            return state
        return replace(state, verdict=replace(state.verdict, detector=carried.state()))

    def _is_good(self, rate: float, threshold: float) -> bool:
        return rate <= threshold if self.rule.rises else rate >= threshold

    def _compared_at(self, boundary_us: int) -> Usual | None:
        """What a `drop` is measured from: of hours, which change only when the hours of the window do."""
        rule = self.rule
        if rule.drop is None:
            return None
        window_us = int(rule.window) * MICROS
        hours = ((boundary_us - window_us) // HOUR_US, -(-boundary_us // HOUR_US), self._hours.asked(boundary_us))
        if self._compared is None or self._compared[0] != hours:
            self._compared = hours, self._hours.compared(rule.drop, int(rule.window), boundary_us, rule.min_entrants)
        return self._compared[1]

    # Windows

    def _windows_leave(self, state: RuleState, basis: Basis, terms: Terms, moments_us: Sequence[int]) -> int:
        if state.data_since_us is None:
            return 0
        threshold, entrants_min = terms.threshold, self.rule.min_entrants
        for number, at_us in enumerate(moments_us):
            numerator, denominator = self._sample(basis, at_us)
            data: DataState = "no_data" if denominator < LEAST_WORTH else "ok"
            if data == "ok" and (denominator < entrants_min or threshold is None):
                data = "low_sample"
            good = data != "ok" or threshold is None or self._is_good(numerator / denominator, threshold)
            if state.data != data or not good:
                return number
        return len(moments_us)

    def _sample(self, basis: Basis, at_us: int) -> tuple[int, float]:
        """Conversions and entrants of the window at a boundary, widened as an evaluation does."""
        rule, counted = self.rule, self._users if basis.name == "users" else self._buckets
        numerator, denominator = counted(basis, int(rule.window), at_us)
        for seconds in basis.wider(rule) if denominator < rule.min_entrants else ():
            numerator, denominator = counted(basis, seconds, at_us)
            if denominator >= rule.min_entrants:
                break
        return numerator, denominator

    def _users(self, _: Basis, seconds: int, at_us: int) -> tuple[int, float]:
        cells = self._counts.window(seconds, at_us - 1)
        return cells.get(self._names[0], 0), cells.get(self._names[1], 0)

    def _buckets(self, basis: Basis, seconds: int, at_us: int) -> tuple[int, float]:
        """Found for many of the boundaries to come at once, more each time."""
        windows = self._windows.get((basis.name, seconds), {})
        found = windows.get(at_us)
        if found is None:
            first = bisect_left(self._moments_us, at_us)
            before_us = self._moments_us[first - 1] if first else 0
            many = MORE * len(windows) if before_us in windows else FEW
            coming_us = self._moments_us[first : first + many]
            windows = self._windows[basis.name, seconds] = dict(zip(coming_us, basis.windows(seconds, coming_us)))
            found = windows[at_us]
        return found

    # Evidence

    def _evidence_leaves(self, state: RuleState, basis: Basis, terms: Terms, moments_us: Sequence[int]) -> int:
        detector = state.verdict.detector if state.verdict else None
        if terms.threshold is None or detector is None or state.data_since_us is None:
            return 0
        carried = self._evidence
        if carried is None or carried.since is not detector:
            if detector.phase != "watching" or detector.seen_us > basis.end_us():
                return 0
            carried = self._evidence = _Carried(self.rule, detector, basis)
        if not carried.fits(basis, terms, self._hours.asked(basis.boundary_us)):
            return 0
        back_us, unsettled_us, seconds = basis.boundary_us - basis.end_us(), basis.unsettled_us(), int(self.rule.window)
        closed = carried.closed(basis, moments_us[-1] - back_us)
        for number, at_us in enumerate(moments_us):
            end_us = at_us - back_us
            if not carried.add(end_us, unsettled_us, closed):
                return number
            if state.data != ("ok" if carried.has_entrants(end_us, seconds) else self._data(basis, at_us)):
                return number
        return len(moments_us)

    def _data(self, basis: Basis, at_us: int) -> DataState:
        return "no_data" if self._sample(basis, at_us)[1] < LEAST_WORTH else "ok"


class _Carried:
    """The evidence of a detector that watches, carried on bucket by bucket; what it adds up is what `detectors.watch` does."""

    def __init__(self, rule: Rule, since: DetectorState, basis: Basis) -> None:
        self.since = since
        self._rule, self._width_us = rule, since.width_seconds * MICROS
        self._at_us = since.seen_us
        self._now: Added = since.score, since.began_us, since.entrants
        self._settled, self._settled_us = since.settled, since.settled.at_us
        self._gone: list[tuple[int, float]] = []  # settled, but not yet added to what is
        self._traffic, self._buckets, self._limit = since.traffic, since.buckets, since.limit
        first, end = since.settled.at_us // self._width_us, since.seen_us // self._width_us
        self._open = deque(basis.counted(since.width_seconds, first, end))
        self._last_us = since.seen_us if any(n >= SEEN for _, n in self._open) else 0  # the end of a bucket that had entrants
        self._threshold: float | None = None
        self._size: int | None = None  # of the traffic that the limit is for

    def fits(self, basis: Basis, terms: Terms, asked: int) -> bool:
        """Whether it is about these buckets, and nothing new is to be learned."""
        since = self.since
        if (since.basis, since.width_seconds, since.usual_asked) != (basis.name, basis.width(), asked) or terms.threshold is None:
            return False
        threshold = terms.threshold - terms.margin
        if self._threshold is None:
            self._threshold = threshold
            self._asked = watched(self._rule, threshold, since.usual_rate, since.usual_entrants)
            self._of = evidence(threshold, self._rule.effect, rises=self._rule.rises, poisson=basis.name == "adjusted")
        return threshold == self._threshold

    def closed(self, basis: Basis, end_us: int) -> Iterator[tuple[int, float]]:
        """The buckets to be added up to a moment."""
        return iter(basis.closed(self.since.width_seconds, self._at_us // self._width_us, end_us // self._width_us))

    def add(self, end_us: int, unsettled_us: int, closed: Iterator[tuple[int, float]]) -> bool:
        """Add the buckets until a moment; whether there is no alarm. Under the limit there is no cap on the score either."""
        width_us, of, opened = self._width_us, self._of, self._open
        while self._at_us + width_us <= end_us:
            hits, entrants = counts = next(closed)
            opened.append(counts)
            self._now = add(of, self._now, self._at_us, hits, entrants, inf)
            self._at_us += width_us
            if entrants >= SEEN:
                self._last_us = self._at_us
        while self._settled_us + width_us <= end_us - unsettled_us:
            gone = opened.popleft()
            self._gone.append(gone)
            self._settled_us += width_us
            self._traffic, self._buckets = passed(self._traffic, self._buckets, (gone,))
        seen = self._traffic / self._buckets if self._buckets else sum(n for _, n in opened) / max(1, len(opened))
        size = size_class(seen)
        if size != self._size:
            self._size = size
            self._limit = limit(of, self._asked.usual, seen, self.since.width_seconds, self._asked.run_seconds)
        return self._now[0] < self._limit

    def has_entrants(self, end_us: int, seconds: int) -> bool:
        """Whether the window surely has: one of the buckets added to the evidence lies in it."""
        return self._last_us >= end_us - seconds * MICROS + self._width_us

    def state(self) -> DetectorState:
        """What the detector would be, had it been asked at every boundary."""
        score, began_us, entrants = self._now
        if self._gone:
            self._settled, self._gone = fold(self._of, self._settled, self.since.width_seconds, self._gone, inf), []
        return replace(
            self.since, score=score, limit=self._limit, began_us=began_us, entrants=entrants, seen_us=self._at_us,
            settled=self._settled, traffic=self._traffic, buckets=self._buckets,
        )  # fmt: skip
