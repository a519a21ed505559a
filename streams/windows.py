"""[pure] Counts by bucket of event time, and the trailing windows read from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from schemas.duration import MICROS, bucket_seconds
from streams.passed import PassedUsers
from streams.plan import FunnelPlan
from streams.retention import AGES, EVENTS, USERS, VALUE
from streams.values import SEPARATOR, VALUE_SCALE

RETRACTED, RETRACTED_AGES = "r", "q"  # events and ages since ever that late events took back

# Blocks are buckets of a minute by fives: of the last three hours, which are looked at again and again.
MINUTE_SECONDS, BLOCK_SECONDS, BLOCKS_KEPT = 60, 300, 36

Cells = dict[str, int]  # name of a count -> how much


@lru_cache(maxsize=100_000)
def cell(family: str, stage: int, dimension: str | None = None, value: str = "") -> str:
    """The name of a count: family and stage, and the value of a dimension where it is split."""
    total = f"{family}{stage}"
    return total if dimension is None else f"{total}{SEPARATOR}{dimension}{SEPARATOR}{value}"


@lru_cache(maxsize=10_000)
def age_cell(stage: int, number: int) -> str:
    """The name of the count of conversions into a stage in one age bin."""
    return f"{AGES}{stage}:{number}"


def first_bucket(window_seconds: int, at_us: int) -> tuple[int, int]:
    """(width in seconds, number of the first bucket) of the trailing window at time T."""
    width = bucket_seconds(window_seconds)
    return width, at_us // (width * MICROS) - window_seconds // width + 1


def oldest_block(at_us: int) -> int:
    """The first block that is kept at T; an older one may miss what was dropped with it."""
    return at_us // (BLOCK_SECONDS * MICROS) - BLOCKS_KEPT


@dataclass
class _Running:
    """The sums of one trailing window, moved along with T instead of summed anew."""

    width: int
    first: int
    sums: Cells


BINS_MAX = 128  # age bins that 90 days may need


@dataclass
class FunnelCounts:
    """All counts of one funnel: per bucket width, per bucket, and in total."""

    plan: FunnelPlan
    buckets: dict[int, dict[int, Cells]] = field(default_factory=dict)  # width -> bucket -> cells
    totals: Cells = field(default_factory=dict)
    followers: list[Callable[[int, int, Cells], None]] = field(default_factory=list)  # told what is added: width, bucket, cells
    passed: PassedUsers | None = None  # where counting is ahead of T
    blocks: dict[int, Cells] | None = None  # block -> cells, where the past is asked for
    _running: dict[tuple[int, bool], _Running] = field(default_factory=dict)  # by window in seconds, and whether only what is pending
    _ahead: dict[tuple[int, bool], _Running] = field(default_factory=dict)  # of them, those that the next T moves, as they will be
    _oldest: dict[int, int] = field(default_factory=dict)  # width -> first bucket that is kept; older ones were dropped
    _past: dict[tuple[int, int], Cells] = field(default_factory=dict)  # sums of windows that T has left, until the next change
    _values: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by dimension, as of so many totals
    _valued: int = 0

    def add(self, width: int, bucket: int, cells: Cells) -> None:
        """Add counts to a bucket (of one partition, or what changed)."""
        self._past.clear()
        self._ahead.clear()
        of_width = self.buckets.setdefault(width, {})
        if bucket in of_width:
            _add(of_width[bucket], cells)
        else:
            of_width[bucket] = dict(cells)
        if width == MINUTE_SECONDS and self.blocks is not None:
            _add(self.blocks.setdefault(bucket * width // BLOCK_SECONDS, {}), cells)
        for follow in self.followers:
            follow(width, bucket, cells)
        for running in self._running.values():
            if running.width == width and bucket >= running.first:
                _add(running.sums, cells)

    def add_totals(self, cells: Mapping[str, int]) -> None:
        _add(self.totals, cells)

    def forget_before(self, at_us: int) -> None:
        """Drop the buckets that no window at `at_us` or later reaches."""
        for window_seconds, pending in list(self._running):  # moved along first: they subtract what they leave behind
            self.window(window_seconds, at_us, pending=pending)
        for kept in self.plan.kept:
            oldest = at_us // (kept.seconds * MICROS) - kept.count
            if oldest != self._oldest.get(kept.seconds):
                self._oldest[kept.seconds] = oldest
                buckets = self.buckets.get(kept.seconds, {})
                for bucket in [b for b in buckets if b < oldest]:
                    del buckets[bucket]
        if self.blocks is not None:
            self.blocks = {block: cells for block, cells in self.blocks.items() if block >= oldest_block(at_us)}

    def window(self, window_seconds: int, at_us: int, *, pending: bool = False) -> Cells:
        """The sums over a trailing window: from its first bucket onward, without an upper end.

        `pending`: of those buckets only whose entries may still convert.
        """
        width, first = self._first(window_seconds, at_us, pending=pending)
        running = self._running.get((window_seconds, pending))
        if running is None:
            running = self._running[window_seconds, pending] = _Running(width, first, self._sum(width, first))
        if first < running.first:
            if (width, first) not in self._past:
                self._past[width, first] = self._sum(width, first)
            return self._past[width, first]
        if first > running.first:
            self._advance(running, first)
        return running.sums

    def look_ahead(self, at_us: int) -> None:
        """Make the windows as they are at a later T, which takes a while; T may come then with `move_on`."""
        self._ahead.clear()
        for (window_seconds, pending), running in self._running.items():
            _, first = self._first(window_seconds, at_us, pending=pending)
            if first > running.first:
                moved = self._ahead[window_seconds, pending] = _Running(running.width, running.first, dict(running.sums))
                self._advance(moved, first)

    def move_on(self) -> None:
        """T is what `look_ahead` was told: nobody who asks for a window of it has to wait for its sums."""
        self._running.update(self._ahead)
        self._ahead.clear()

    def _first(self, window_seconds: int, at_us: int, *, pending: bool) -> tuple[int, int]:
        width, first = first_bucket(window_seconds, at_us)
        return width, max(first, self.first_pending(width, at_us)) if pending else first

    def first_pending(self, width: int, at_us: int) -> int:
        """The first bucket that is not mature: its end + conversion window + allowed lateness lie after `at_us`."""
        return (at_us - self.plan.mature_after_us) // (width * MICROS)

    def ages(self, stage: int, window_seconds: int, at_us: int) -> dict[int, int]:
        """Conversions into a stage by age bin, of the entries opened in the trailing window."""
        cells = self.window(window_seconds, at_us)
        return {number: count for number in range(BINS_MAX) if (count := cells.get(age_cell(stage, number), 0))}

    def count(
        self, family: str, stage: int, window_seconds: int, at_us: int, split: tuple[str, str] | None = None, *, pending: bool = False
    ) -> int:
        """A count over the trailing window, in total or under the value of a dimension."""
        cells = self.window(window_seconds, at_us, pending=pending)
        return cells.get(cell(family, stage, *split) if split else cell(family, stage), 0)

    def _sum(self, width: int, first: int) -> Cells:
        sums: Cells = {}
        for bucket, cells in self.buckets.get(width, {}).items():
            if bucket >= first:
                _add(sums, cells)
        return sums

    def _advance(self, running: _Running, first: int) -> None:
        buckets = self.buckets.get(running.width, {})
        if first - running.first > len(buckets):
            running.sums = self._sum(running.width, first)
        else:
            for bucket in range(running.first, first):
                _subtract(running.sums, buckets.get(bucket, {}))
        running.first = first

    def users(self, stage: int, window_seconds: int, at_us: int, dimension: str | None = None, value: str | None = None) -> int:
        """Distinct entities that reached the stage within the trailing window at `at_us`."""
        return self.window(window_seconds, at_us).get(cell(USERS, stage, dimension, value or ""), 0)

    def events(self, stage: int, window_seconds: int, at_us: int, dimension: str | None = None, value: str | None = None) -> int:
        """Events that reached the stage within the trailing window."""
        return self.window(window_seconds, at_us).get(cell(EVENTS, stage, dimension, value or ""), 0)

    def value(self, stage: int, window_seconds: int, at_us: int, dimension: str | None = None, value: str | None = None) -> float:
        """Sum of the stage's value property over those events."""
        return self.window(window_seconds, at_us).get(cell(VALUE, stage, dimension, value or ""), 0) / VALUE_SCALE

    def total(self, family: str, stage: int, dimension: str | None = None, value: str | None = None) -> int:
        """A count since the funnel's definition began (`u`: distinct entities ever)."""
        return self.totals.get(cell(family, stage, dimension, value or ""), 0)

    def total_ages(self, stage: int) -> dict[int, int]:
        """Conversions into a stage by age bin, since ever; what late events took back is not subtracted."""
        names = ((number, age_cell(stage, number)) for number in range(BINS_MAX))
        found = {number: self.totals.get(name, 0) + self.totals.get(RETRACTED_AGES + name[1:], 0) for number, name in names}
        return {number: count for number, count in found.items() if count}

    def values(self, dimension: str) -> tuple[str, ...]:
        """Every value of a dimension that was ever counted, in order."""
        if self._valued != len(self.totals):  # there are new ones, behind those that were known; none ever goes
            found: dict[str, set[str]] = {}
            for parts in (name.split(SEPARATOR) for name in islice(self.totals, self._valued, None)):
                if len(parts) == 3:
                    found.setdefault(parts[1], set()).add(parts[2])
            self._valued = len(self.totals)
            for named, values in found.items():
                self._values[named] = tuple(sorted(values.union(self._values.get(named, ()))))
        return self._values.get(dimension, ())


def _add(into: Cells, cells: Mapping[str, int]) -> None:
    for name, count in cells.items():
        into[name] = into.get(name, 0) + count


def _subtract(into: Cells, cells: Mapping[str, int]) -> None:
    for name, count in cells.items():
        into[name] = into.get(name, 0) - count
