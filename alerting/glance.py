"""[pure] Whether an evaluation would change nothing, seen at a glance: what makes a backtest of months short.

An alert that is inactive stays as it is while the rate of its window is not proven to be beyond the
threshold, as it never is on the good side, or while it still has too few entrants, or none; and one of a sequential rule while its
evidence stays under the limit. For that its windows at many boundaries are summed at once, and its
evidence is carried on from boundary to boundary, instead of being looked up anew.

It relies on what holds of a history fed by time, and not of a running service: what is counted in a
bucket that is past changes no more, however far on counting is. (Users do; they are looked up, or told as
of each boundary.) Where a
glance does not tell, a full evaluation goes on from `before`, as if there had been one at every boundary.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from math import inf

from alerting.conditions import Terms, is_beyond, terms_of, watched
from alerting.detectors import FADE, DetectorState, evidence, fold, limit, size_class, traffic_of
from alerting.lifecycle import DataState, RuleState
from alerting.samples import Basis, Hours, Sample, Usual, basis_of
from schemas.duration import MICROS
from schemas.rule import Rule
from streams.adjusted import LEAST_WORTH
from streams.adjusting import Adjusting
from streams.baseline import HOUR_US
from streams.rates import Split
from streams.retention import USERS
from streams.windows import FunnelCounts, cell

FEW, MORE = 8, 6  # windows found at first, and times as many each time that one more is asked about
NEAR = 1e-9  # to the end of a class of sizes: then which one it is, is found anew
SEEN = 0.001  # of an entrant, in a bucket: enough to say that there was one


class Glance:
    """Of one alert: a rule over the step into a stage, in total or for a value of a dimension."""

    def __init__(self, rule: Rule, counts: FunnelCounts, stage: int, split: Split | None) -> None:
        self.rule, self._counts, self._stage, self._split = rule, counts, stage, split
        self._target = counts.plan.funnel.stages[stage].target
        self._names = tuple(cell(USERS, place, *(split or ())) for place in (stage, stage - 1))
        self._hours = Hours(counts, stage, split, flowing=rule.basis == "users")
        self._windows: dict[str, dict[int, tuple[int, float]]] = {}  # by basis, and by boundary
        self._moments_us = range(0)
        self._compared: tuple[tuple[int, int, int], Usual | None] | None = None
        self._evidence: _Carried | None = None

    def leaves(self, state: RuleState, adjusting: Adjusting | None, moments_us: range) -> int:
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

    def _windows_leave(self, state: RuleState, basis: Basis, terms: Terms, moments_us: range) -> int:
        if state.data_since_us is None:
            return 0
        threshold, entrants_min, now, rises = terms.threshold, self.rule.min_entrants, state.data, self.rule.rises
        for number, at_us in enumerate(moments_us):
            numerator, denominator = self._sample(basis, at_us)
            if denominator < LEAST_WORTH:
                data: DataState = "no_data"
            elif denominator < entrants_min or threshold is None:
                data = "low_sample"
            else:
                data, rate = "ok", numerator / denominator
                good = rate <= threshold if rises else rate >= threshold
                if not good and self._is_proven(basis, numerator, denominator, terms):
                    return number
            if now != data:
                return number
        return len(moments_us)

    def _is_proven(self, basis: Basis, numerator: int, denominator: float, terms: Terms) -> bool:
        """Whether the rate of a window surely is beyond the threshold."""
        return is_beyond(self.rule, basis.name, Sample(numerator, denominator, 0), terms)

    def _sample(self, basis: Basis, at_us: int) -> tuple[int, float]:
        """Conversions and entrants of the window at a boundary, widened as an evaluation does."""
        if basis.name == "users" and self._counts.passed is None:
            return self._users(basis, at_us)
        windows = self._windows.get(basis.name)
        found = None if windows is None else windows.get(at_us)
        return self._coming(basis, at_us) if found is None else found

    def _users(self, basis: Basis, at_us: int) -> tuple[int, float]:
        numerator, denominator = self._users_of(int(self.rule.window), at_us)
        for seconds in basis.wider(self.rule) if denominator < self.rule.min_entrants else ():
            numerator, denominator = self._users_of(seconds, at_us)
            if denominator >= self.rule.min_entrants:
                break
        return numerator, denominator

    def _users_of(self, seconds: int, at_us: int) -> tuple[int, int]:
        cells = self._counts.window(seconds, at_us - 1)
        return cells.get(self._names[0], 0), cells.get(self._names[1], 0)

    def _coming(self, basis: Basis, at_us: int) -> tuple[int, float]:
        """Found for many of the boundaries to come at once, more each time."""
        windows = self._windows.get(basis.name, {})
        first = bisect_left(self._moments_us, at_us)
        before_us = self._moments_us[first - 1] if first else 0
        many = MORE * len(windows) if before_us in windows else FEW
        coming_us = self._moments_us[first : first + many]
        hits, entrants = basis.windows(int(self.rule.window), coming_us)
        numerators, denominators = list(hits), list(entrants)
        few = [place for place, came in enumerate(denominators) if came < self.rule.min_entrants]
        for seconds in basis.wider(self.rule) if few else ():
            hits, entrants = basis.windows(seconds, coming_us[few[0] : few[-1] + 1])
            for place in few:
                numerators[place], denominators[place] = hits[place - few[0]], entrants[place - few[0]]
            few = [place for place in few if denominators[place] < self.rule.min_entrants]
            if not few:
                break
        windows = self._windows[basis.name] = dict(zip(coming_us, zip(numerators, denominators)))
        return windows[at_us]

    # Evidence

    def _evidence_leaves(self, state: RuleState, basis: Basis, terms: Terms, moments_us: range) -> int:
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
        back_us, number = basis.boundary_us - basis.end_us(), 0
        carried.hold(basis, moments_us[-1] - back_us)
        while number < len(moments_us):
            number = carried.go_on(moments_us, number, back_us, stops=state.data != "ok")
            if number == len(moments_us) or not carried.is_calm:
                return number
            at_us = moments_us[number]
            if state.data != ("ok" if carried.has_entrants(at_us - back_us) else self._data(basis, at_us)):
                return number
            number += 1
        return number

    def _data(self, basis: Basis, at_us: int) -> DataState:
        return "no_data" if self._sample(basis, at_us)[1] < LEAST_WORTH else "ok"


class _Carried:
    """The evidence of a detector that watches, carried on bucket by bucket; what it adds up is what `detectors.watch` does."""

    def __init__(self, rule: Rule, since: DetectorState, basis: Basis) -> None:
        self.since = since
        self.is_calm = True  # there is no alarm
        self._rule, self._width_us = rule, since.width_seconds * MICROS
        self._at_us, self._unsettled_us = since.seen_us, basis.unsettled_us()
        self._score, self._began_us, self._entrants = since.score, since.began_us, since.entrants
        self._settled_us = since.settled.at_us
        self._traffic, self._buckets, self._limit = since.traffic, since.buckets, since.limit
        first, end = since.settled.at_us // self._width_us, since.seen_us // self._width_us
        self._counts = list(basis.counted(since.width_seconds, first, end))  # from what was settled on
        self._last_us = since.seen_us if any(n >= SEEN for _, n in self._counts) else 0  # the end of a bucket that had entrants
        self._threshold: float | None = None
        self._traffic_least, self._traffic_most = 1.0, 0.0  # that the limit is for

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

    def hold(self, basis: Basis, end_us: int) -> None:
        """Have the buckets at hand that are to be added up to a moment."""
        del self._counts[(self._at_us - self.since.settled.at_us) // self._width_us :]
        self._counts += zip(*basis.closed(self.since.width_seconds, self._at_us // self._width_us, end_us // self._width_us))

    def go_on(self, moments_us: range, number: int, back_us: int, *, stops: bool) -> int:
        """Add the buckets until one moment after the other, so long before each; the number of the first that is to be looked at.

        That is where there is an alarm, or where the window may have no entrants. `stops`: the first one.
        """
        width_us, hit, entrant, counts = self._width_us, self._of.hit, self._of.entrant, self._counts
        origin_us, seen_ago_us = self.since.settled.at_us, int(self._rule.window) * MICROS - width_us
        score, began_us, came, last_us = self._score, self._began_us, self._entrants, self._last_us
        traffic, buckets, at_us, settled_us = self._traffic, self._buckets, self._at_us, self._settled_us
        place, old = (at_us - origin_us) // width_us, (settled_us - origin_us) // width_us
        while number < len(moments_us):
            end_us = moments_us[number] - back_us
            while at_us + width_us <= end_us:  # as `detectors.add`; under the limit there is no cap on the score
                hits, entrants = counts[place]
                added = hit * hits + entrant * entrants
                score += added
                if score <= 0:
                    score, began_us, came = 0.0, None, 0.0
                elif added:
                    if began_us is None:
                        began_us = at_us
                    came += entrants
                at_us += width_us
                place += 1
                if entrants >= SEEN:
                    last_us = at_us
            settled_until_us = end_us - self._unsettled_us - width_us
            while settled_us <= settled_until_us:  # as `detectors.passed`
                entrants = counts[old][1]
                if buckets or entrants:
                    traffic, buckets = traffic * FADE + entrants, buckets * FADE + 1
                settled_us += width_us
                old += 1
            seen = traffic / buckets if buckets else sum([n for _, n in counts[old:place]]) / max(1, place - old)
            if not self._traffic_least < seen < self._traffic_most:
                self._find_limit(seen)
            self.is_calm = score < self._limit
            if not self.is_calm or stops or last_us < end_us - seen_ago_us:
                break
            number += 1
        self._score, self._began_us, self._entrants, self._last_us = score, began_us, came, last_us
        self._traffic, self._buckets, self._at_us, self._settled_us = traffic, buckets, at_us, settled_us
        return number

    def _find_limit(self, traffic: float) -> None:
        self._limit = limit(self._of, self._asked.usual, traffic, self.since.width_seconds, self._asked.run_seconds)
        least, most = traffic_of(size_class(traffic))
        self._traffic_least, self._traffic_most = least * (1 + NEAR), most * (1 - NEAR)

    def has_entrants(self, end_us: int) -> bool:
        """Whether the window surely has: one of the buckets added to the evidence lies in it."""
        return self._last_us >= end_us - int(self._rule.window) * MICROS + self._width_us

    def state(self) -> DetectorState:
        """What the detector would be, had it been asked at every boundary."""
        since, settled = self.since, self.since.settled
        if self._settled_us > settled.at_us:
            gone = self._counts[: (self._settled_us - settled.at_us) // self._width_us]
            settled = fold(self._of, settled, since.width_seconds, gone, inf)
        return replace(
            since, score=self._score, limit=self._limit, began_us=self._began_us, entrants=self._entrants, seen_us=self._at_us,
            settled=settled, traffic=self._traffic, buckets=self._buckets,
        )  # fmt: skip
