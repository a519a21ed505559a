"""[pure] A second opinion: what the counts of one source must be, worked out the slow way.

Written from semantics' words alone and sharing no code with the engine, so that the two can be held
against each other: read every record (`recount_events`), give it its fate (`recount_fates`), sort
each entity's events by the total order, list every reach and every entry (`recount_chains`), and
count in these lists.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from schemas.config import Config
from schemas.duration import Duration, bucket_seconds
from schemas.funnel import Funnel
from streams.recount_chains import TOTAL, Entry, Reach, Split, age_bin, entries_of, in_order, reaches_of
from streams.recount_fates import FATES, Arrivals

TOLERANCE = 0.001  # a sum of values may differ by this much, for floats add up in another order

Cell = tuple[str, ...]  # ("fate", source, fate) or (funnel, stage, dimension, value, measure)


@dataclass(frozen=True)
class Recount:
    """What the records of one source come to. `at_us` is T: the greatest event time not rejected."""

    config: Config
    source: str
    fates: Counter[str]
    reaches: Mapping[str, list[Reach]]  # by funnel
    entries: Mapping[str, list[Entry]]  # by funnel
    at_us: int | None

    def cells(self, at_us: int | None = None) -> dict[Cell, float]:
        """Every number by its name, windows as of T (or of `at_us`).

        The measures are `reached` (distinct entities ever), `events`, `value`, `entries` and
        `conversions` (ever), and for every window of the config `users 5m`, `events 5m`, `value 5m`,
        `entries 5m` and `conversions 5m`. The last stage has no conversions.
        """
        now_us = (self.at_us or 0) if at_us is None else at_us
        found: dict[Cell, float] = {("fate", self.source, fate): self.fates[fate] for fate in FATES}
        for funnel in self.config.funnels_of(self.source):
            windows = {str(w): _start_us(w, now_us) for w in self.config.windows_of(funnel)}
            for place, stage in enumerate(funnel.stages):
                reaches = [r for r in self.reaches[funnel.name] if r.stage == place]
                entries = [e for e in self.entries[funnel.name] if e.opening.stage == place]
                last = place == len(funnel.stages) - 1
                for split in self.splits(funnel):
                    measures = [*_measures(reaches, split, windows), *_cohort(entries, split, windows, last=last)]
                    found.update({(funnel.name, stage.name, *split, measure): number for measure, number in measures})
        return found

    def splits(self, funnel: Funnel) -> list[Split]:
        """The total, then every value that was seen of every dimension."""
        return [TOTAL, *sorted({pair for reach in self.reaches[funnel.name] for pair in reach.values.items()})]

    def ages(self, funnel: Funnel) -> Counter[tuple[str, int]]:
        """Conversions into a stage by the bin of their age, ever: (stage, bin) to how many."""
        aged = ((e.opening.stage + 1, e.age_us) for e in self.entries[funnel.name])
        return Counter((funnel.stages[into].name, age_bin(age_us)) for into, age_us in aged if age_us is not None)


def recount(
    config: Config,
    source: str,
    records: Iterable[tuple[bytes | None, bytes | None]],
    *,
    keyed: bool = True,
    now_us: int | None = None,
) -> Recount:
    """Recount what was produced: (key, value) of every record, in the order of each partition.

    An entity is in one partition, so the partitions may follow or interleave each other as they
    please. With `keyed=False` keys are not looked at (a file has none). What is ahead of `now_us` by
    more than `max_skew` is rejected; without it, nothing is.
    """
    funnels = config.funnels_of(source)
    arrivals = Arrivals(config.source(source), funnels)
    arrivals.take(records, keyed=keyed, now_us=now_us)
    reaches: dict[str, list[Reach]] = {funnel.name: [] for funnel in funnels}
    entries: dict[str, list[Entry]] = {funnel.name: [] for funnel in funnels}
    applied = arrivals.applied()
    for funnel in funnels:
        for events in applied.values():
            mine = list(reaches_of(funnel, in_order(funnel, events), arrivals.values))
            reaches[funnel.name] += mine
            entries[funnel.name] += entries_of(funnel, mine)
    return Recount(config, source, arrivals.fates(applied), reaches, entries, arrivals.at_us)


def compare(expected: Mapping[Cell, float], got: Mapping[Cell, float]) -> tuple[int, int]:
    """(lost, duplicated): the sums of all shortfalls and of all excesses over all cells."""
    gaps = [expected.get(cell, 0) - got.get(cell, 0) for cell in {**expected, **got}]
    lost = sum(math.ceil(gap - TOLERANCE) for gap in gaps if gap > TOLERANCE)
    return lost, sum(math.ceil(-gap - TOLERANCE) for gap in gaps if -gap > TOLERANCE)


def _measures(reaches: list[Reach], split: Split, windows: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    """All numbers of one stage under one split; `windows` gives each its start in µs."""
    latest = [r for r in {r.entity: r for r in reaches}.values() if r.under(split)]
    mine = [r for r in reaches if r.under(split)]
    yield "reached", len(latest)
    yield from (("events", len(mine)), ("value", _sum(mine)))
    for window, start_us in windows.items():
        within = [r for r in mine if r.at_us >= start_us]
        yield f"users {window}", sum(r.at_us >= start_us for r in latest)
        yield from ((f"events {window}", len(within)), (f"value {window}", _sum(within)))


def _cohort(entries: list[Entry], split: Split, windows: Mapping[str, int], *, last: bool) -> Iterator[tuple[str, float]]:
    """Entries and conversions of one stage under one split, by when and under what the entries were opened."""
    mine = [e for e in entries if e.opening.under(split)]
    for name, start_us in {"": 0, **{f" {window}": start_us for window, start_us in windows.items()}}.items():
        within = [e for e in mine if e.opening.at_us >= start_us]
        yield f"entries{name}", len(within)
        if not last:
            yield f"conversions{name}", sum(e.converted_us is not None for e in within)


def _sum(reaches: list[Reach]) -> float:
    return float(sum(r.amount for r in reaches))


def _start_us(window: Duration, now_us: int) -> int:
    """From the bucket w ÷ bucket − 1 before the one that holds T, onward without an upper end."""
    bucket_us = bucket_seconds(window) * 1_000_000
    return now_us // bucket_us * bucket_us - (window.micros - bucket_us)
