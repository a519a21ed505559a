"""[pure] The past of a funnel at chosen steps: from the record where only it knows, else from the buckets that are still kept.

Users and age-adjusted rates are as they were recorded when the window closed. Entries, conversions,
events and values lie in the bucket of their time, so they are summed up anew, in the finest buckets that
reach back far enough and on whose boundaries the window begins and ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from schemas.duration import MICROS, Duration
from schemas.errors import UsageError
from schemas.event import iso, moment_of
from schemas.history import HistoryPoint, StagePoint, ValuePoint
from schemas.report import Rate
from streams.adjusted import poisson_limits
from streams.points import HOUR, KEPT_SECONDS, MINUTE, TOTAL, VALUES_MAX, WORTH_SCALE, Shape, unpack
from streams.rates import CONFIDENCE, Split, proportion, rate
from streams.retention import CONVERSIONS, ENTRIES, EVENTS, VALUE
from streams.values import VALUE_SCALE
from streams.windows import FunnelCounts, cell

STEPS = tuple(Duration(text) for text in ("1m", "2m", "5m", "10m", "15m", "20m", "30m", "1h", "2h", "3h", "4h", "6h", "8h", "12h", "1d"))
FEWEST_BY_DEFAULT = 300  # points; the finest step that gives no more is taken where none is asked for
SPAN_BY_DEFAULT_US = HOUR * MICROS


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


def page(at_us: int, start_us: int | None, end_us: int | None, step: str | None, limit: int) -> Page:
    """The first `limit` boundaries of a period at T. Raises UsageError: a step or a period that there is not."""
    end_us = at_us if end_us is None else min(end_us, at_us)
    start_us = end_us - SPAN_BY_DEFAULT_US if start_us is None else start_us
    if start_us > end_us:
        raise UsageError(f"`from` ({iso(start_us)}) is later than `to` or than the newest counts ({iso(end_us)}); ask for an earlier one")
    chosen = _step(step, at_us, start_us, end_us)
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


def _step(text: str | None, at_us: int, start_us: int, end_us: int) -> Duration:
    if text is None:
        by_minute = start_us >= at_us - KEPT_SECONDS[MINUTE] * MICROS
        fine = [s for s in STEPS if (by_minute or s >= HOUR) and (end_us - start_us) // s.micros <= FEWEST_BY_DEFAULT]
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


class Past:
    """Counts of spans that are over, from a funnel's buckets as of T. For one answer; buckets must not change meanwhile."""

    def __init__(self, counts: FunnelCounts, at_us: int) -> None:
        self._counts = counts
        self._at_us = at_us
        self._sums: dict[tuple[int, str], list[int]] = {}

    def width(self, families: Iterable[str], start_us: int, end_us: int) -> int | None:
        """The finest width of buckets (seconds) that hold the families and make up the span; None: none does."""
        wanted = {*families}
        for kept in self._counts.plan.kept:
            width_us = kept.seconds * MICROS
            aligned = start_us % width_us == 0 and end_us % width_us == 0
            if aligned and wanted <= kept.families and start_us // width_us >= self._at_us // width_us - kept.count:
                return kept.seconds
        return None

    def between(self, width: int, name: str, start_us: int, end_us: int) -> int:
        """A count over the buckets from `start_us` until `end_us`, boundaries of that width."""
        width_us = width * MICROS
        oldest = self._oldest(width)
        sums = self._sums.get((width, name))
        if sums is None:
            buckets = self._counts.buckets.get(width, {})
            newest = max(buckets, default=oldest)
            of_buckets = [buckets[b].get(name, 0) if b in buckets else 0 for b in range(oldest, newest + 1)]
            sums = self._sums[width, name] = list(accumulate(of_buckets, initial=0))
        first, end = (max(0, min(len(sums) - 1, at // width_us - oldest)) for at in (start_us, end_us))
        return sums[max(first, end)] - sums[first]

    def finished_us(self, width: int) -> int:
        """Until when the entries of buckets of a width have had their time: the beginning of the first that may still convert."""
        return self._counts.first_pending(width, self._at_us) * width * MICROS

    def _oldest(self, width: int) -> int:
        kept = next(kept for kept in self._counts.plan.kept if kept.seconds == width)
        return self._at_us // (width * MICROS) - kept.count


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
) -> Iterator[HistoryPoint | None]:
    """The points of a page, one by one; None where there is nothing to say."""
    past = Past(counts, at_us)
    for boundary_us in asked.boundaries:
        yield _point(past, counts, boundary_us, window, basis, splits, found.get(boundary_us))


def _point(
    past: Past, counts: FunnelCounts, boundary_us: int, window: int, basis: str, splits: Sequence[Split | None], found: Recorded | None
) -> HistoryPoint | None:
    span = _Window(past, counts, boundary_us, window, basis)
    if (span.cohorts if basis == "entries" else found) is None:
        return None
    of_splits = [(split, span.stages(split, found)) for split in splits]
    return HistoryPoint(
        at=moment_of(boundary_us),
        stages=of_splits[0][1] or (),
        incomplete=found is not None and found.incomplete,
        values=tuple(ValuePoint(value=split[1], stages=stages) for split, stages in of_splits if split is not None and stages is not None),
    )


class _Window:
    """One window that ended at a boundary."""

    def __init__(self, past: Past, counts: FunnelCounts, boundary_us: int, window: int, basis: str) -> None:
        self._past, self._counts, self._basis = past, counts, basis
        self._start_us, self._end_us = boundary_us - window * MICROS, boundary_us
        self.cohorts = past.width((ENTRIES, CONVERSIONS), self._start_us, self._end_us) if basis == "entries" else None
        self.reaches = past.width((EVENTS, VALUE), self._start_us, self._end_us)

    def stages(self, split: Split | None, found: Recorded | None) -> tuple[StagePoint, ...] | None:
        """Every stage; None for a value of which nothing is known."""
        users = found.users.get(split) if found is not None and self._basis != "entries" else None
        if split is not None and self._nothing(split, users):
            return None
        worth = found.worth.get(split) if found is not None else None
        return tuple(self._stage(stage, split, users, worth) for stage in range(len(self._counts.plan.funnel.stages)))

    def _nothing(self, split: Split, users: Sequence[int] | None) -> bool:
        if self.cohorts is not None:
            return self._sum(self.cohorts, ENTRIES, 0, split) == 0
        return users is None

    def _stage(self, stage: int, split: Split | None, users: Sequence[int] | None, worth: Sequence[int] | None) -> StagePoint:
        events = value = None
        if self.reaches is not None:
            events = self._sum(self.reaches, EVENTS, stage, split)
            value = self._sum(self.reaches, VALUE, stage, split) / VALUE_SCALE
        if self.cohorts is not None:
            step, pending = self._finished(self.cohorts, stage, split)
            last = stage == len(self._counts.plan.funnel.stages) - 1
            return StagePoint(
                step=step,
                pending=pending,
                entries=self._sum(self.cohorts, ENTRIES, stage, split),
                conversions=None if last else self._sum(self.cohorts, CONVERSIONS, stage, split),
                events=events,
                value=value,
            )
        return StagePoint(users=None if users is None else users[stage], step=self._step(stage, users, worth), events=events, value=value)

    def _step(self, stage: int, users: Sequence[int] | None, worth: Sequence[int] | None) -> Rate | None:
        if not stage:
            return None
        if self._basis == "adjusted":
            return None if worth is None else by_worth(worth[2 * stage - 2], worth[2 * stage - 1] / WORTH_SCALE)
        return None if users is None else rate(users[stage], users[stage - 1])

    def _finished(self, width: int, stage: int, split: Split | None) -> tuple[Rate | None, Rate | None]:
        if not stage:
            return None, None
        until_us = max(self._start_us, min(self._end_us, self._past.finished_us(width)))
        names = [cell(family, stage - 1, *(split or ())) for family in (CONVERSIONS, ENTRIES)]
        done = [self._past.between(width, name, self._start_us, until_us) for name in names]
        late = [self._past.between(width, name, until_us, self._end_us) for name in names]
        return proportion(done[0], done[1]), rate(late[0], late[1])

    def _sum(self, width: int, family: str, stage: int, split: Split | None) -> int:
        return self._past.between(width, cell(family, stage, *(split or ())), self._start_us, self._end_us)
