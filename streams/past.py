"""[pure] The past of a funnel at chosen steps: from the record where only it knows, else from the buckets that are still kept.

Users and age-adjusted rates are as they were recorded when the window closed. Entries, conversions,
events and values lie in the bucket of their time, so they are summed up anew, in the finest buckets that
reach back far enough and on whose boundaries the window begins and ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import chain, groupby, repeat
from math import sqrt
from operator import eq, sub

from msgspec import Struct

from schemas.duration import MICROS, Duration
from schemas.errors import UsageError
from schemas.event import iso, moment_of
from schemas.report import Rate
from streams.adjusted import poisson_limits
from streams.points import HOUR, KEPT_SECONDS, MINUTE, TOTAL, VALUES_MAX, WORTH_SCALE, Shape, unpack
from streams.rates import CONFIDENCE, Split, Z
from streams.retention import CONVERSIONS, ENTRIES, EVENTS, VALUE
from streams.sums import OPENED, Known, Past
from streams.values import VALUE_SCALE
from streams.windows import FunnelCounts, cell

STEPS = tuple(Duration(text) for text in ("1m", "2m", "5m", "10m", "15m", "20m", "30m", "1h", "2h", "3h", "4h", "6h", "8h", "12h", "1d"))
# Where no step is asked for, the finest is taken that gives no more points, nor more windows of the total and of values in all.
POINTS_BY_DEFAULT, WINDOWS_BY_DEFAULT = 300, 600
SPAN_BY_DEFAULT_US = HOUR * MICROS
Z_SQUARE = Z * Z
PROPORTIONS_HELD = 16_384
NAMES_HELD = 256
NOTHING, NO_VALUE = repeat(None), repeat(0.0)


# Which points


@dataclass(frozen=True)
class Page:
    """The boundaries of one answer: from `start_us` to `end_us`, both included, at a step."""

    step: Duration
    start_us: int
    end_us: int
    next_us: int | None  # where the page that follows begins

    @property
    def boundaries(self) -> range:
        return range(self.start_us, self.end_us + 1, self.step.micros)

    @property
    def recorded_step(self) -> int:
        """The step of the record that has them."""
        return HOUR if self.step >= HOUR else MINUTE


def page(at_us: int, start_us: int | None, end_us: int | None, step: str | None, limit: int, splits: int = 1) -> Page:
    """The first `limit` boundaries of a period at T, each for so many splits. Raises UsageError: a step or a period that there is not."""
    end_us = at_us if end_us is None else min(end_us, at_us)
    start_us = end_us - SPAN_BY_DEFAULT_US if start_us is None else start_us
    if start_us > end_us:
        raise UsageError(f"`from` ({iso(start_us)}) is later than `to` or than the newest counts ({iso(end_us)}); ask for an earlier one")
    chosen = _step(step, at_us, start_us, end_us, splits)
    kept = KEPT_SECONDS[HOUR if chosen >= HOUR else MINUTE]
    oldest_us = at_us - kept * MICROS
    if start_us < oldest_us - chosen.micros:
        remedy = "ask for a step of 1h or more, or" if chosen < HOUR else "ask"
        raise UsageError(f"points at a step of {chosen} are kept for {kept // HOUR} h; {remedy} `from` {iso(oldest_us)} on")
    first = -(-max(start_us, oldest_us) // chosen.micros)
    last = end_us // chosen.micros
    page_last = min(last, first + limit - 1)
    following = (page_last + 1) * chosen.micros if page_last < last else None
    return Page(chosen, first * chosen.micros, page_last * chosen.micros, following)


def _step(text: str | None, at_us: int, start_us: int, end_us: int, splits: int) -> Duration:
    if text is None:
        most = min(POINTS_BY_DEFAULT, WINDOWS_BY_DEFAULT // splits)
        by_minute = start_us >= at_us - KEPT_SECONDS[MINUTE] * MICROS
        fine = [s for s in STEPS if (by_minute or s >= HOUR) and (end_us - start_us) // s.micros <= most]
        return fine[0] if fine else STEPS[-1]
    try:
        wanted = int(Duration(text))
    except ValueError:
        wanted = -1
    found = next((step for step in STEPS if int(step) == wanted), None)
    if found is None:
        raise UsageError(f"there is no step {text[:20]!r}; there are: {', '.join(map(str, STEPS))}")
    return found


# What was recorded


@dataclass(frozen=True)
class Recorded:
    """What a point of the record says of one window."""

    incomplete: bool
    users: Mapping[Split | None, Sequence[int]]
    worth: Mapping[Split | None, Sequence[int]]  # observed and worth × WORTH_SCALE of each step in turn


def recorded(
    entries: Iterable[tuple[int, bytes]], names: Mapping[int, Split], window: int, dimension: str | None, wanted: range
) -> dict[int, Recorded]:
    """The points of a window at the boundaries wanted, in total and by the values of a dimension."""
    layouts: dict[Shape, _Layout] = {}

    def layout(shape: Shape) -> _Layout:
        if shape not in layouts:
            layouts[shape] = _layout(shape, names, window, dimension)
        return layouts[shape]

    read = unpack(entries, lambda shape: layout(shape).places)
    return {at_us: _read(layout(shape), numbers) for at_us, shape, numbers in read if at_us in wanted and numbers}


@dataclass(frozen=True)
class _Layout:
    """Which numbers of a shape are wanted, and where among those the ones of a split are: users, then the adjusted rates' parts."""

    places: Sequence[int]
    users: tuple[tuple[Split | None, slice], ...]
    worth: tuple[tuple[Split | None, slice], ...]


def _layout(shape: Shape, names: Mapping[int, Split], window: int, dimension: str | None) -> _Layout:
    splits = {TOTAL: None, **{n: names[n] for n in shape.splits if n in names and names[n][0] == dimension}}
    places: list[int] = []
    users: list[tuple[Split | None, slice]] = []
    worth: list[tuple[Split | None, slice]] = []
    for number, split in splits.items():
        begin = shape.place(number, window)
        if begin is None:
            continue
        if split is None:
            places.append(begin - 1)  # whether the window was incomplete
        users.append((split, slice(len(places), len(places) + shape.stages)))
        places += range(begin, begin + shape.stages)
        if shape.has_worth(number):
            worth.append((split, slice(len(places), len(places) + 2 * (shape.stages - 1))))
            places += range(begin + shape.stages, begin + shape.stages + 2 * (shape.stages - 1))
    return _Layout(places, tuple(users), tuple(worth))


def _read(layout: _Layout, numbers: Sequence[int]) -> Recorded:
    return Recorded(
        bool(numbers[0]),
        {split: numbers[of] for split, of in layout.users},
        {split: numbers[of] for split, of in layout.worth},
    )


def by_worth(observed: int, worth: float) -> Rate:
    """An age-adjusted rate from its parts, as `streams.adjusted` has it; no rate where nothing was due."""
    if worth <= 0:
        return Rate(numerator=observed, denominator=worth, rate=None)
    low, high = (min(1.0, limit / worth) for limit in poisson_limits(max(0, observed), CONFIDENCE))
    return Rate(numerator=observed, denominator=worth, rate=min(1.0, observed / worth), low=low, high=high)


# What is summed up anew


def splits_of(counts: FunnelCounts, dimension: str | None) -> list[Split | None]:
    """The total, and the values of a dimension with most entries since ever, in the order of their names."""
    if dimension is None:
        return [None]
    ranked = sorted(counts.values(dimension), key=lambda value: (-counts.total(ENTRIES, 0, dimension, value), value))
    return [None, *((dimension, value) for value in sorted(ranked[:VALUES_MAX]))]


def points(
    counts: FunnelCounts,
    at_us: int,
    asked: Page,
    window: int,
    basis: str,
    splits: Sequence[Split | None],
    found: Mapping[int, Recorded],
) -> Iterator[PointAt]:
    """The points of a page, one by one; none where there is nothing to say."""
    past = Past(counts, at_us)
    wanted = [boundary for boundary in asked.boundaries if basis == "entries" or boundary in found]
    runs = [
        _Run(past, window, tuple(boundaries), known, splits)
        for known, boundaries in groupby(wanted, lambda boundary: past.known(boundary - window * MICROS, boundary, basis))
        if known.entries or basis != "entries"
    ]
    for run in runs:
        yield from run.points(basis, found)


# A page has ten thousand of these; they are what `schemas.history` and `schemas.report` say, at a tenth of the cost.


class PointRate(Struct, frozen=True, gc=False):
    """`schemas.report.Rate`."""

    numerator: int
    denominator: float
    rate: float | None = None
    low: float | None = None
    high: float | None = None


class PointStage(Struct, frozen=True, gc=False):
    """`schemas.history.StagePoint`."""

    users: int | None
    step: PointRate | None
    entries: int | None
    conversions: int | None
    pending: PointRate | None
    events: int | None
    value: float | None


class PointValue(Struct, frozen=True, gc=False):
    """`schemas.history.ValuePoint`."""

    value: str
    stages: tuple[PointStage, ...]


class PointAt(Struct, frozen=True, gc=False):
    """`schemas.history.HistoryPoint`."""

    at: datetime
    stages: tuple[PointStage, ...]
    incomplete: bool
    values: tuple[PointValue, ...]


_Row = tuple[PointStage, ...]  # every stage of one window


class _Run:
    """Windows that end at neighbouring boundaries and of which the same is known; their counts are taken at once.

    A column has something of every window in total and of every value, one window after the other.
    """

    def __init__(self, past: Past, window: int, boundaries: Sequence[int], known: Known, splits: Sequence[Split | None]) -> None:
        self._boundaries, self._splits, self._known = boundaries, splits, known
        self._stages = past.counts.plan.funnel.stages
        starts = [boundary - window * MICROS for boundary in boundaries]
        untils = [past.finished_us(past.width(OPENED, *span) or 0, *span) for span in zip(starts, boundaries)] if known.entries else starts
        parts = tuple(self._parts())
        self._places = {part: place * len(splits) for place, part in enumerate(parts)}
        sums = past.sums(known.families, {*starts, *untils, *boundaries}, _names(parts, tuple(splits)))
        self._whole = sums.between(starts, boundaries)  # by window
        # Of the first windows all entries have had their time, for boundaries are multiples of the widths that tell; of the others some.
        over = sum(map(eq, untils, boundaries))
        self._finished = [*self._whole[:over], *sums.between(starts[over:], untils[over:])] if known.entries else []

    def _parts(self) -> Iterator[tuple[str, int]]:
        """Family and stage of what is counted."""
        last = len(self._stages) - 1
        for place, stage in enumerate(self._stages):
            if self._known.entries:
                yield ENTRIES, place
                if place < last:
                    yield CONVERSIONS, place
            if self._known.events:
                yield EVENTS, place
                if stage.value is not None:
                    yield VALUE, place

    def points(self, basis: str, found: Mapping[int, Recorded]) -> Iterator[PointAt]:
        columns, present = self._cohorts() if basis == "entries" else self._recorded(basis, [found[at] for at in self._boundaries])
        rows = [row if there else None for row, there in zip(zip(*columns), present)]
        width, values = len(self._splits), [split[1] for split in self._splits if split is not None]
        for place, boundary_us in enumerate(self._boundaries):
            of_value = zip(values, rows[place * width + 1 : (place + 1) * width])
            yield PointAt(
                moment_of(boundary_us),
                rows[place * width] or (),
                boundary_us in found and found[boundary_us].incomplete,
                tuple([PointValue(value, row) for value, row in of_value if row is not None]),
            )

    def _cohorts(self) -> tuple[list[Iterable[PointStage]], Iterable[bool]]:
        """Every stage on basis entries; and what is there: the total, and values that anybody entered with."""
        columns: list[Iterable[PointStage]] = []
        steps: Iterable[PointRate | None] = NOTHING
        pending: Iterable[PointRate | None] = NOTHING
        for stage in range(len(self._stages)):
            entries = self._column(ENTRIES, stage)
            if stage == len(self._stages) - 1:
                columns.append(map(PointStage, NOTHING, steps, entries, NOTHING, pending, *self._reached(stage)))
                break
            conversions = self._column(CONVERSIONS, stage)
            columns.append(map(PointStage, NOTHING, steps, entries, conversions, pending, *self._reached(stage)))
            went_on, finished = (self._column(family, stage, finished=True) for family in (CONVERSIONS, ENTRIES))
            steps = map(_proportion, went_on, finished)  # into the stage that follows
            pending = map(_rate, map(sub, conversions, went_on), map(sub, entries, finished))
        entered = self._column(ENTRIES, 0)
        return columns, [place % len(self._splits) == 0 or count != 0 for place, count in enumerate(entered)]

    def _recorded(self, basis: str, told: Sequence[Recorded]) -> tuple[list[Iterable[PointStage]], Iterable[bool]]:
        """Every stage as it was recorded; and what is there: the total, and values that were."""
        of_users = [recorded.users.get(split) for recorded in told for split in self._splits]
        of_worth = [recorded.worth.get(split) for recorded in told for split in self._splits]
        columns: list[Iterable[PointStage]] = []
        for stage in range(len(self._stages)):
            users = [None if of is None else of[stage] for of in of_users]
            steps: Iterable[PointRate | None] = NOTHING
            if stage and basis == "adjusted":
                steps = [None if of is None else _by_worth(of[2 * stage - 2], of[2 * stage - 1] / WORTH_SCALE) for of in of_worth]
            elif stage:
                steps = [None if of is None else _rate(of[stage], of[stage - 1]) for of in of_users]
            columns.append(map(PointStage, users, steps, NOTHING, NOTHING, NOTHING, *self._reached(stage)))
        return columns, [place % len(self._splits) == 0 or of is not None for place, of in enumerate(of_users)]

    def _reached(self, stage: int) -> tuple[Iterable[int | None], Iterable[float | None]]:
        """Events and value."""
        if not self._known.events:
            return NOTHING, NOTHING
        worth = NO_VALUE if self._stages[stage].value is None else [value / VALUE_SCALE for value in self._column(VALUE, stage)]
        return self._column(EVENTS, stage), worth

    def _column(self, family: str, stage: int, *, finished: bool = False) -> list[int]:
        """Each count of a stage; `finished`: of entries that have had their time."""
        begin = self._places[family, stage]
        end = begin + len(self._splits)
        return [*chain.from_iterable([counts[begin:end] for counts in (self._finished if finished else self._whole)])]


@lru_cache(maxsize=NAMES_HELD)
def _names(parts: Sequence[tuple[str, int]], splits: Sequence[Split | None]) -> Sequence[str]:
    """The names of counts by family and stage, each of every split."""
    return [cell(family, stage, *(split or ())) for family, stage in parts for split in splits]


@lru_cache(maxsize=PROPORTIONS_HELD)
def _rate(numerator: int, denominator: int) -> PointRate:
    """`rates.rate`."""
    return PointRate(numerator, denominator, numerator / denominator if denominator else None)


@lru_cache(maxsize=PROPORTIONS_HELD)
def _proportion(numerator: int, denominator: int) -> PointRate:
    """`rates.proportion`, to the last bit. Small counts come again and again."""
    if not denominator:
        return PointRate(numerator, denominator)
    p, n = numerator / denominator, denominator
    scale = 1 + Z_SQUARE / n
    middle = (p + Z_SQUARE / (2 * n)) / scale
    spread = Z * sqrt(p * (1 - p) / n + Z_SQUARE / (4 * n * n)) / scale
    return PointRate(numerator, denominator, p, max(0.0, middle - spread), min(1.0, middle + spread))


def _by_worth(observed: int, worth: float) -> PointRate:
    found = by_worth(observed, worth)
    return PointRate(found.numerator, found.denominator, found.rate, found.low, found.high)
