"""[pure] Counts between moments that are over, many at once, from a funnel's buckets as of T.

A span is made of the coarsest buckets that fit in it, which say the same as the finer ones they are made
of: what is kept in which widths is part of a funnel's definition. A bucket is looked at once, whatever
number of windows it is part of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, repeat
from operator import add, sub
from typing import NamedTuple

from schemas.duration import MICROS
from streams.retention import CONVERSIONS, ENTRIES, EVENTS, VALUE
from streams.windows import BLOCK_SECONDS, MINUTE_SECONDS, Cells, FunnelCounts, oldest_block

OPENED, REACHED = frozenset((ENTRIES, CONVERSIONS)), frozenset((EVENTS, VALUE))
ZEROS = repeat(0)


class Buckets:
    """The buckets that make up spans, as far back as they are kept at T; the ends of a span are boundaries of the finest that hold the families."""

    def __init__(self, counts: FunnelCounts, at_us: int, families: frozenset[str]) -> None:
        self._widths: list[tuple[int, Mapping[int, Cells], int]] = []  # coarsest first: width in µs, its buckets, the oldest that is kept
        for kept in reversed(counts.plan.kept):
            if families <= kept.families:
                if kept.seconds == MINUTE_SECONDS and counts.blocks is not None:
                    self._widths.append((BLOCK_SECONDS * MICROS, counts.blocks, oldest_block(at_us)))
                width_us = kept.seconds * MICROS
                self._widths.append((width_us, counts.buckets.get(kept.seconds, {}), at_us // width_us - kept.count))

    def of(self, start_us: int, end_us: int, place: int = 0) -> list[Cells]:
        """Those between two moments, from a width on."""
        for finer, (width_us, buckets, oldest) in enumerate(self._widths[place:], place + 1):
            first, end = max(-(-start_us // width_us), oldest), end_us // width_us
            if first < end:
                found = self.of(start_us, first * width_us, finer) if start_us < first * width_us else []
                found += [buckets[bucket] for bucket in range(first, end) if bucket in buckets]
                return found + self.of(end * width_us, end_us, finer) if end * width_us < end_us else found
        return []


class Sums:
    """Counts by name between edges, which are boundaries of buckets that hold them. Buckets must not change meanwhile."""

    def __init__(self, counts: FunnelCounts, at_us: int, families: frozenset[str], edges_us: Iterable[int], names: Sequence[str]) -> None:
        edges, so_far = sorted({*edges_us}), [0] * len(names)
        self._names, self._places = names, {name: place for place, name in enumerate(names)}
        self._until = {edges[0]: so_far}  # by edge: each count from the first edge on
        buckets = Buckets(counts, at_us, families)
        for start_us, end_us in pairwise(edges):
            so_far = [*so_far]
            for cells in buckets.of(start_us, end_us):
                so_far = self._added(so_far, cells)
            self._until[end_us] = so_far

    def between(self, starts_us: Iterable[int], ends_us: Iterable[int]) -> list[tuple[int, ...]]:
        """For every start and its end, which are edges, each count between them, in the order of the names."""
        until = self._until
        return [tuple(map(sub, until[end], until[start])) for start, end in zip(starts_us, ends_us)]

    def named(self, start_us: int, end_us: int) -> Cells:
        """Each count between two edges, by its name."""
        return dict(zip(self._names, map(sub, self._until[end_us], self._until[start_us])))

    def _added(self, so_far: list[int], cells: Cells) -> list[int]:
        """Counts with those of a bucket: by whichever there are fewer of, names or what the bucket holds."""
        if len(cells) >= len(so_far):
            return [*map(add, so_far, map(cells.get, self._names, ZEROS))]
        for name, count in cells.items():
            if name in self._places:
                so_far[self._places[name]] += count
        return so_far


class Past:
    """Counts of spans that are over, from a funnel's buckets as of T. For one answer; buckets must not change meanwhile."""

    def __init__(self, counts: FunnelCounts, at_us: int) -> None:
        self.counts = counts
        self._at_us = at_us
        self._kept = [(k.seconds, k.seconds * MICROS, k.families, at_us // (k.seconds * MICROS) - k.count) for k in counts.plan.kept]

    def width(self, families: frozenset[str], start_us: int, end_us: int) -> int | None:
        """The finest width of buckets (seconds) that hold the families and make up the span; None: none does."""
        for seconds, width_us, held, oldest in self._kept:
            if start_us % width_us == 0 and end_us % width_us == 0 and families <= held and start_us // width_us >= oldest:
                return seconds
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
