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
        edges, so_far = sorted({*edges_us}), dict.fromkeys(names, 0)
        self._names = names
        self._until = {edges[0]: (*so_far.values(),)}  # by edge: each count from the first edge on
        for start_us, end_us in pairwise(edges):
            for cells in buckets_of(counts, at_us, families, start_us, end_us):
                so_far = _added(so_far, cells)
            self._until[end_us] = (*so_far.values(),)

    def between(self, starts_us: Iterable[int], ends_us: Iterable[int]) -> list[tuple[int, ...]]:
        """For every start and its end, which are edges, each count between them, in the order of the names."""
        until = self._until
        return [tuple(map(sub, until[end], until[start])) for start, end in zip(starts_us, ends_us)]

    def named(self, start_us: int, end_us: int) -> Cells:
        """Each count between two edges, by its name."""
        return dict(zip(self._names, map(sub, self._until[end_us], self._until[start_us])))


def _added(so_far: Cells, cells: Cells) -> Cells:
    """Counts with those of a bucket added, of the same names: by whichever there are fewer of, these or what the bucket holds.

    By the names alone a bucket that holds a third of them would cost five times as much, by what it holds a full one half as much again.
    """
    if len(cells) >= len(so_far):
        return dict(zip(so_far, map(add, so_far.values(), map(cells.get, so_far, ZEROS))))
    for name, count in cells.items():
        if name in so_far:
            so_far[name] += count
    return so_far


class Past:
    """Counts of spans that are over, from a funnel's buckets as of T. For one answer; buckets must not change meanwhile."""

    def __init__(self, counts: FunnelCounts, at_us: int) -> None:
        self.counts = counts
        self._at_us = at_us

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
