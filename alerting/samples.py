"""[pure] What a rule looks at: the counts of its window, of its long window, of each closed bucket, and what is usual.

At boundary b the window is [b - window, b); where too few entered, it doubles up to `widen_to`. By basis:

    users     users at the stage of those at the stage before, over the buckets before b and all after
    entries   conversions of entries, in the newest window whose entries can all convert no more; in the
              finest buckets that are still kept for entries of that age
    adjusted  conversions in the window, of the worth of the entries that were due in it; while there is no
              baseline, `entries`

What is added up bucket by bucket is the same on `entries` and `adjusted`; on `users` it is conversions of
entries in the bucket, since a person is a user of one bucket only, the latest, and leaves the others.

What is usual comes from hours: conversions of the entries that opened in them, once those can convert no
more; on `users`, conversions in the hour of entries in the hour.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Protocol

from alerting.detectors import DetectorState, Steps, resume
from schemas.duration import MICROS, bucket_seconds
from schemas.rule import Drop, Rule
from streams.adjusting import Adjusting
from streams.baseline import HOUR_US, HOURS_OF_WEEK, NoBaseline, credibility
from streams.rates import Split
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES, HOUR_SECONDS, LONGEST_SECONDS, USERS
from streams.windows import FunnelCounts, cell

BEGIN_WITH = 60  # buckets, when there is no state to go on from
CATCH_UP_MAX = 360
USUAL_HOURS = 14 * 24
HOURS_OF_DAY = 24
SAME_HOURS_MIN = 3  # hours of one hour of the week that make a median of their own
SHIFT_HOURS = {"yesterday": 24, "last_week": HOURS_OF_WEEK}
MEDIAN_SHARE = 0.64  # 2/π: a median rests on as much as a mean of so many


@dataclass(frozen=True)
class Sample:
    """Conversions (or users) of so many entrants, or of so much worth, over a span of full buckets."""

    numerator: int
    denominator: float
    seconds: int


@dataclass(frozen=True)
class Usual:
    """A rate to compare with, the entrants it rests on, and the hour (since the epoch) it was learned in."""

    rate: float
    entrants: float
    hour: int


@dataclass(frozen=True)
class Look:
    """All that a verdict is made from."""

    boundary_us: int
    basis: str  # the one really used
    window: Sample
    long: Sample | None = None
    target: float | None = None
    baseline: Usual | None = None  # of a `drop`
    usual: Usual | None = None  # what healthy traffic does, for the limit of a sequential rule
    usual_asked: int = -1  # when that was looked for
    baseline_rate: float | None = None  # on `adjusted`, that of the adjusted rate
    steps: Steps | None = None  # of a sequential rule


def look(
    rule: Rule,
    counts: FunnelCounts,
    adjusting: Adjusting | None,
    stage: int,
    split: Split | None,
    boundary_us: int,
    before: DetectorState | None = None,
) -> Look:
    """What a rule over the step into `stage` looks at, in total or for the value of a dimension.

    `adjusting` is as of T; without it there is no basis `adjusted`. `before` is the detector's state after
    the last evaluation.
    """
    basis, baseline_rate = basis_of(rule, counts, adjusting, stage, split, boundary_us)
    window = basis.sample(int(rule.window))
    for seconds in basis.wider(rule):
        if window.denominator >= rule.min_entrants:
            break
        window = basis.sample(seconds)
    sequential = rule.detector == "sequential"
    hours = Hours(counts, stage, split, flowing=basis.name == "users")
    return Look(
        boundary_us=boundary_us,
        basis=basis.name,
        window=window,
        long=None if rule.long_window is None else basis.sample(int(rule.long_window)),
        target=counts.plan.funnel.stages[stage].target,
        baseline=None if rule.drop is None else hours.compared(rule.drop, int(rule.window), boundary_us, rule.min_entrants),
        usual=_usual(hours, boundary_us, before) if sequential else None,
        usual_asked=hours.asked(boundary_us) if sequential else -1,
        baseline_rate=baseline_rate,
        steps=basis.steps(before) if sequential else None,
    )


def _usual(hours: Hours, boundary_us: int, before: DetectorState | None) -> Usual | None:
    """Looked for only when there may be something new."""
    if before is None or before.usual_asked != hours.asked(boundary_us):
        return hours.usual(boundary_us)
    return None if before.usual_rate is None else Usual(before.usual_rate, before.usual_entrants, boundary_us // HOUR_US)


# Spans of full buckets

Columns = tuple[Sequence[int], Sequence[float]]  # numerators and denominators


class Basis(Protocol):
    """Where a rule's counts come from, on the basis that is really used."""

    name: str
    boundary_us: int

    def sample(self, seconds: int) -> Sample: ...

    def wider(self, rule: Rule) -> Iterator[int]: ...

    def steps(self, before: DetectorState | None) -> Steps: ...

    def width(self) -> int:
        """Of the buckets that evidence is added up by, in seconds."""
        ...

    def width_of(self, seconds: int) -> int:
        """Of those that a window is made of."""
        ...

    def end_us(self) -> int:
        """When the newest bucket ends that is looked at."""
        ...

    def unsettled_us(self) -> int:
        """For so long before that late events may change a bucket."""
        ...

    def counted(self, width: int, first: int, end: int) -> Sequence[tuple[int, float]]:
        """What is added up of each bucket: conversions, and entries or worth."""
        ...

    def closed(self, width: int, first: int, end: int) -> Columns:
        """The same, as of each bucket's end."""
        ...

    def windows(self, seconds: int, boundaries_us: range) -> Columns:
        """Numerator and denominator of the window at each of ascending boundaries."""
        ...


def basis_of(
    rule: Rule, counts: FunnelCounts, adjusting: Adjusting | None, stage: int, split: Split | None, boundary_us: int
) -> tuple[Basis, float | None]:
    """And the usual rate, on `adjusted`."""
    if rule.basis == "users":
        return _Users(rule, counts, stage, split, boundary_us), None
    if rule.basis == "adjusted" and adjusting is not None:
        usual = adjusting.baseline(stage, split)
        if not isinstance(usual, NoBaseline):
            return _Adjusted(rule, counts, adjusting, stage, split, boundary_us), usual.level
    return _Entries(rule, counts, stage, split, boundary_us), None


class _Flow(ABC):
    """Conversions and entries of buckets, whatever they are asked for."""

    name = "users"
    converted, opened = CONVERTED, ENTRIES

    def __init__(self, rule: Rule, counts: FunnelCounts, stage: int, split: Split | None, boundary_us: int) -> None:
        self.rule, self.counts, self.stage, self.split, self.boundary_us = rule, counts, stage, split, boundary_us
        self.lateness_us = counts.plan.mature_after_us - counts.plan.funnel.conversion_window.micros
        self.kept = [kept.seconds for kept in counts.plan.kept]

    def wider(self, rule: Rule) -> Iterator[int]:
        """The window doubled up to `widen_to`, in whole buckets of widths that are kept."""
        seconds, most = int(rule.window), int(rule.widen_to or 0)
        while seconds < most:
            seconds = min(2 * seconds, most)
            width = bucket_seconds(seconds)
            if width in self.kept:
                yield seconds // width * width

    def steps(self, before: DetectorState | None) -> Steps:
        width = self.width()
        width_us = width * MICROS
        end = self.end_us() // width_us
        run = resume(before, self.name, width, end * width_us)
        first = end - BEGIN_WITH if run is None else max(run.at_us // width_us, end - CATCH_UP_MAX)
        settled = min(end, (self.end_us() - self.unsettled_us()) // width_us) - first
        return Steps(first * width_us, width, self.counted(width, first, end), max(0, settled))

    def width(self) -> int:
        return self.width_of(int(self.rule.window))

    def width_of(self, seconds: int) -> int:
        return bucket_seconds(seconds)

    def end_us(self) -> int:
        return self.boundary_us

    def unsettled_us(self) -> int:
        return self.lateness_us

    def counted(self, width: int, first: int, end: int) -> Sequence[tuple[int, float]]:
        hit, entrant = self.names()
        return list(zip(self.told(hit, width, first, end), self.told(entrant, width, first, end)))

    def closed(self, width: int, first: int, end: int) -> Columns:
        hit, entrant = self.names()
        return self.told(hit, width, first, end), self.told(entrant, width, first, end)

    def windows(self, seconds: int, boundaries_us: range) -> Columns:
        hit, entrant = self.names()
        return self.trailing(hit, seconds, boundaries_us), self.trailing(entrant, seconds, boundaries_us)

    def trailing(self, name: str, seconds: int, boundaries_us: range) -> list[int]:
        """A count in the window at each of ascending boundaries."""
        width = self.width_of(seconds)
        back_us, count, width_us = self.boundary_us - self.end_us(), -(-seconds // width), width * MICROS
        first = (boundaries_us[0] - back_us) // width_us - count
        ends = [(at_us - back_us) // width_us - first for at_us in boundaries_us]
        running = [*accumulate(self.told(name, width, first, first + ends[-1]), initial=0)]
        return [running[end] - running[end - count] for end in ends]

    @abstractmethod
    def sample(self, seconds: int) -> Sample: ...

    def told(self, name: str, width: int, first: int, end: int) -> list[int]:
        """A count in each bucket."""
        found = map(self.counts.buckets.get(width, {}).get, range(first, end))
        return [0 if cells is None else cells.get(name, 0) for cells in found]

    def names(self) -> tuple[str, str]:
        at = self.stage if self.converted == CONVERTED else self.stage - 1
        split = self.split or ()
        return cell(self.converted, at, *split), cell(self.opened, self.stage - 1, *split)

    def sum(self, name: str, width: int, first: int, end: int) -> int:
        buckets = self.counts.buckets.get(width, {})
        return sum([buckets[bucket].get(name, 0) for bucket in range(first, end) if bucket in buckets])


class _Users(_Flow):
    def sample(self, seconds: int) -> Sample:
        (reached,), (before,) = self.windows(seconds, range(self.boundary_us, self.boundary_us + 1))
        return Sample(reached, int(before), seconds)

    def windows(self, seconds: int, boundaries_us: range) -> Columns:
        counts, places = self.counts, (self.stage, self.stage - 1)
        if counts.passed is not None and self.split is None:
            reached, before = (counts.passed.users(place, seconds, boundaries_us) for place in places)
        else:
            reached, before = ([counts.count(USERS, place, seconds, at_us - 1, self.split) for at_us in boundaries_us] for place in places)
        return reached, before


class _Entries(_Flow):
    name = "entries"
    converted = CONVERSIONS

    def sample(self, seconds: int) -> Sample:
        width = self.width_of(seconds)
        end = self.end_us() // (width * MICROS)
        count = -(-seconds // width)
        hits, entrants = (self.sum(name, width, end - count, end) for name in self.names())
        return Sample(hits, entrants, count * width)

    def width_of(self, seconds: int) -> int:
        """That of the finest buckets which are kept until entries so old are finished."""
        needed = self.counts.plan.mature_after_us // MICROS + seconds
        return next((width for width in self.kept if needed + width <= LONGEST_SECONDS[width]), HOUR_SECONDS)

    def end_us(self) -> int:
        return self.boundary_us - self.counts.plan.mature_after_us

    def unsettled_us(self) -> int:
        return 0


class _Adjusted(_Flow):
    name = "adjusted"

    def __init__(self, rule: Rule, counts: FunnelCounts, adjusting: Adjusting, stage: int, split: Split | None, boundary_us: int) -> None:
        super().__init__(rule, counts, stage, split, boundary_us)
        self.adjusting = adjusting

    def sample(self, seconds: int) -> Sample:
        width, first, end = self._span(seconds)
        return Sample(self.sum(self.names()[0], width, first, end), self._worth(width, first, end), seconds)

    def counted(self, width: int, first: int, end: int) -> Sequence[tuple[int, float]]:
        hits = self.told(self.names()[0], width, first, end)
        return [(hit, self._worth(width, bucket, bucket + 1)) for bucket, hit in enumerate(hits, first)]

    def closed(self, width: int, first: int, end: int) -> Columns:
        width_us = width * MICROS
        ends_us = range((first + 1) * width_us, end * width_us + 1, width_us)
        return self.told(self.names()[0], width, first, end), self.adjusting.worths(self.stage, width_us, ends_us, self.split)

    def windows(self, seconds: int, boundaries_us: range) -> Columns:
        width = bucket_seconds(seconds)
        worths = self.adjusting.worths(self.stage, seconds // width * width * MICROS, boundaries_us, self.split)
        return self.trailing(self.names()[0], seconds, boundaries_us), worths

    def _span(self, seconds: int) -> tuple[int, int, int]:
        width = bucket_seconds(seconds)
        end = self.boundary_us // (width * MICROS)
        return width, end - seconds // width, end

    def _worth(self, width: int, first: int, end: int) -> float:
        return self.adjusting.worth(self.stage, first * width * MICROS, end * width * MICROS, self.split)


# What is usual


class Hours:
    """Conversions and entries of a step by hour.

    flowing: conversions in the hour, known when it is over; else those of the entries that opened in it.
    """

    def __init__(self, counts: FunnelCounts, stage: int, split: Split | None, *, flowing: bool) -> None:
        plan, of = counts.plan, split or ()
        self._buckets = counts.buckets.get(HOUR_SECONDS, {})
        self._opened = cell(ENTRIES, stage - 1, *of)
        self._converted = cell(CONVERTED, stage, *of) if flowing else cell(CONVERSIONS, stage - 1, *of)
        lateness_us = plan.mature_after_us - plan.funnel.conversion_window.micros
        self._wait_us = lateness_us if flowing else plan.mature_after_us

    def asked(self, boundary_us: int) -> int:
        """A number that changes when the hour does and when one more hour is known."""
        return boundary_us // HOUR_US + (boundary_us - self._wait_us) // HOUR_US

    def within(self, first: int, end: int, boundary_us: int) -> Iterator[tuple[int, int, int]]:
        """Number, conversions and entries of the hours that had entries and are known at the boundary."""
        for hour in range(first, min(end, (boundary_us - self._wait_us) // HOUR_US)):
            cells = self._buckets.get(hour)
            if cells is not None and (entries := cells.get(self._opened, 0)) > 0:
                yield hour, cells.get(self._converted, 0), entries

    def compared(self, drop: Drop, window_seconds: int, boundary_us: int, entrants_min: int) -> Usual | None:
        """What a `drop` is measured from; None where that rests on fewer than `entrants_min`."""
        now = boundary_us // HOUR_US
        first, end = (boundary_us - window_seconds * MICROS) // HOUR_US, -(-boundary_us // HOUR_US)
        if drop.from_ == "median":
            hours = list(self.within(first - int(drop.over) // HOUR_SECONDS, first, boundary_us))
            return _median(hours, now, first, entrants_min)
        shift = SHIFT_HOURS[drop.from_]
        hours = list(self.within(first - shift, end - shift, boundary_us))
        return _pooled(hours, now, entrants_min)

    def usual(self, boundary_us: int) -> Usual | None:
        """The rate of the last two weeks at this hour of the day, as far as the hours of the day differ by more than chance.

        An hour's own rate is trusted by Bühlmann and Straub's credibility, see `streams.baseline`.
        """
        now = boundary_us // HOUR_US
        of_day: dict[int, list[int]] = {}
        buckets, opened, converted = self._buckets, self._opened, self._converted
        for hour in range(now - USUAL_HOURS, min(now, (boundary_us - self._wait_us) // HOUR_US)):
            cells = buckets.get(hour)
            if cells is not None and (came := cells.get(opened, 0)) > 0:
                sums = of_day.get(hour % HOURS_OF_DAY)
                if sums is None:
                    of_day[hour % HOURS_OF_DAY] = [cells.get(converted, 0), came]
                else:
                    sums[0] += cells.get(converted, 0)
                    sums[1] += came
        entries = sum(sums[1] for sums in of_day.values())
        if not entries:
            return None
        level = min(1.0, sum(sums[0] for sums in of_day.values()) / entries)
        own = of_day.get(now % HOURS_OF_DAY)
        if own is None or not 0 < level < 1:
            return Usual(level, entries, now)
        trusted = credibility([(float(n), k / n) for k, n in of_day.values()], level)(own[1])
        return Usual(min(1.0, level + trusted * (own[0] / own[1] - level)), entries, now)


def _pooled(hours: Sequence[tuple[int, int, int]], now: int, entrants_min: int) -> Usual | None:
    entries = sum(n for *_, n in hours)
    if entries < entrants_min:
        return None
    return Usual(sum(k for _, k, _ in hours) / entries, entries, now)


def _median(hours: Sequence[tuple[int, int, int]], now: int, first: int, entrants_min: int) -> Usual | None:
    """Of the hours with entrants enough; of all together where there are not three."""
    telling = [hour for hour in hours if hour[2] >= entrants_min]
    same = [hour for hour in telling if (hour[0] - first) % HOURS_OF_WEEK == 0]
    chosen = same if len(same) >= SAME_HOURS_MIN else telling
    if len(chosen) < SAME_HOURS_MIN:
        return _pooled(hours, now, entrants_min)
    return Usual(median(k / n for _, k, n in chosen), MEDIAN_SHARE * sum(n for *_, n in chosen), now)
