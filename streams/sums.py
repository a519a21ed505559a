"""[pure] Counts between moments that are over, many at once, from a funnel's buckets as of T.

A span is made of the coarsest buckets that fit in it, which say the same as the finer ones they are made
of: what is kept in which widths is part of a funnel's definition. A bucket is looked at once, whatever
number of windows it is part of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, repeat
from operator import add, sub
from typing import NamedTuple

from schemas.duration import MICROS
from streams.retention import CONVERSIONS, ENTRIES, EVENTS, VALUE
from streams.windows import Cells, FunnelCounts

OPENED, REACHED = frozenset((ENTRIES, CONVERSIONS)), frozenset((EVENTS, VALUE))
ZEROS = repeat(0)


def buckets_of(counts: FunnelCounts, at_us: int, families: frozenset[str], start_us: int, end_us: int) -> list[Cells]:
    """The buckets that make up a span, as far back as they are kept at T; its ends are boundaries of the finest that hold the families."""
    held = [kept for kept in counts.plan.kept if families <= kept.families]
    widths = [(k.seconds * MICROS, counts.buckets.get(k.seconds, {}), at_us // (k.seconds * MICROS) - k.count) for k in reversed(held)]

    def fill(start_us: int, end_us: int, place: int) -> Iterator[Cells]:
        if start_us >= end_us or place == len(widths):
            return
        width_us, buckets, oldest = widths[place]
        first, end = max(-(-start_us // width_us), oldest), end_us // width_us
        if first >= end:
            yield from fill(start_us, end_us, place + 1)
            return
        yield from fill(start_us, first * width_us, place + 1)
        yield from (buckets[bucket] for bucket in range(first, end) if bucket in buckets)
        yield from fill(end * width_us, end_us, place + 1)

    return list(fill(start_us, end_us, 0))


class Sums:
    """Counts by name between edges, which are boundaries of buckets that hold them. Buckets must not change meanwhile."""

    def __init__(self, counts: FunnelCounts, at_us: int, families: frozenset[str], edges_us: Iterable[int], names: Sequence[str]) -> None:
        edges, so_far = sorted({*edges_us}), (0,) * len(names)
        self._names = names
        self._until = {edges[0]: so_far}  # by edge: each count from the first edge on
        for start_us, end_us in pairwise(edges):
            for cells in buckets_of(counts, at_us, families, start_us, end_us):
                so_far = tuple(map(add, so_far, map(cells.get, names, ZEROS)))
            self._until[end_us] = so_far

    def between(self, starts_us: Iterable[int], ends_us: Iterable[int]) -> dict[str, Sequence[int]]:
        """Each count between every start and its end, which are edges."""
        until = self._until
        return dict(zip(self._names, zip(*[map(sub, until[end], until[start]) for start, end in zip(starts_us, ends_us)])))


class Past:
    """Counts of spans that are over, from a funnel's buckets as of T. For one answer; buckets must not change meanwhile."""

    def __init__(self, counts: FunnelCounts, at_us: int) -> None:
        self.counts = counts
        self._at_us = at_us
        self._buckets: dict[tuple[str, int, int], list[Cells]] = {}  # by family and span
        self._found: dict[tuple[str, int, int], int] = {}  # by name and span

    def width(self, families: frozenset[str], start_us: int, end_us: int) -> int | None:
        """The finest width of buckets (seconds) that hold the families and make up the span; None: none does."""
        for kept in self.counts.plan.kept:
            width_us = kept.seconds * MICROS
            aligned = start_us % width_us == 0 and end_us % width_us == 0
            if aligned and families <= kept.families and start_us // width_us >= self._at_us // width_us - kept.count:
                return kept.seconds
        return None

    def known(self, start_us: int, end_us: int, basis: str) -> Known:
        """What buckets say of a span."""
        return Known(
            basis == "entries" and self.width(OPENED, start_us, end_us) is not None, self.width(REACHED, start_us, end_us) is not None
        )

    def between(self, name: str, start_us: int, end_us: int) -> int:
        """A count over a span whose ends are boundaries of buckets that hold it."""
        place = name, start_us, end_us
        found = self._found.get(place)
        if found is None:
            found = self._found[place] = sum([cells.get(name, 0) for cells in self._of(name[0], start_us, end_us)])
        return found

    def _of(self, family: str, start_us: int, end_us: int) -> list[Cells]:
        place = family, start_us, end_us
        found = self._buckets.get(place)
        if found is None:
            found = self._buckets[place] = buckets_of(self.counts, self._at_us, frozenset(family), start_us, end_us)
        return found

    def sums(self, families: frozenset[str], edges_us: Iterable[int], names: Sequence[str]) -> Sums:
        """Many counts between edges at once."""
        return Sums(self.counts, self._at_us, families, edges_us, names)

    def finished_us(self, width: int, start_us: int, end_us: int) -> int:
        """Until when the entries of a span have had their time: the beginning of the first bucket of a width that may still convert."""
        return max(start_us, min(end_us, self.counts.first_pending(width, self._at_us) * width * MICROS))


class Known(NamedTuple):
    """What the buckets that are still kept say of a window; the record has its users."""

    entries: bool
    events: bool

    @property
    def families(self) -> frozenset[str]:
        return (OPENED if self.entries else frozenset()) | (REACHED if self.events else frozenset())
