"""[pure] A second opinion: what the counts of one source must be, worked out the slow way.

Written from semantics' words alone and sharing no code with the engine, so that the two can be held
against each other: keep every event, sort each entity's events by the total order, walk the stages,
list every reach, and count in that list. It assumes that every entity's events were produced in
order of event time, so that none is late, and that none is ahead of the clock by `max_skew`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from schemas.config import Config
from schemas.duration import Duration, bucket_seconds
from schemas.funnel import Funnel
from streams.recount_events import FATES, Event, Sorted, Values, amount

TOLERANCE = 0.001  # a sum of values may differ by this much, for floats add up in another order

Cell = tuple[str, ...]  # ("fate", source, fate) or (funnel, stage, dimension, value, measure)
Split = tuple[str, str]  # dimension and value; two empty strings for the total
TOTAL: Split = ("", "")


@dataclass(frozen=True)
class Reach:
    """An entity reached a stage (from 0) at a time; `values` are those of its chain, by dimension."""

    entity: str
    stage: int
    at_us: int
    values: Mapping[str, str]
    amount: Decimal

    def under(self, split: Split) -> bool:
        """Whether it counts under the value of the dimension (everything is under the total)."""
        return split == TOTAL or self.values[split[0]] == split[1]


@dataclass(frozen=True)
class Recount:
    """What the records of one source come to. `at_us` is T: the greatest event time not rejected."""

    config: Config
    source: str
    fates: Counter[str]
    reaches: Mapping[str, list[Reach]]  # by funnel
    at_us: int | None

    def cells(self, at_us: int | None = None) -> dict[Cell, float]:
        """Every number by its name, windows as of T (or of `at_us`).

        The measures are `reached` (distinct entities ever), `events` and `value` (ever), and for
        every window of the config `users 5m`, `events 5m` and `value 5m`.
        """
        now_us = (self.at_us or 0) if at_us is None else at_us
        found: dict[Cell, float] = {("fate", self.source, fate): self.fates[fate] for fate in FATES}
        for funnel in self.config.funnels_of(self.source):
            windows = {str(w): _start_us(w, now_us) for w in self.config.windows_of(funnel)}
            for place, stage in enumerate(funnel.stages):
                reaches = [r for r in self.reaches[funnel.name] if r.stage == place]
                for split in self.splits(funnel):
                    for measure, number in _measures(reaches, split, windows):
                        cell = (funnel.name, stage.name, *split, measure)
                        found[cell] = number
        return found

    def splits(self, funnel: Funnel) -> list[Split]:
        """The total, then every value that was seen of every dimension."""
        return [TOTAL, *sorted({pair for reach in self.reaches[funnel.name] for pair in reach.values.items()})]


def recount(config: Config, source: str, records: Iterable[tuple[bytes | None, bytes]], *, keyed: bool = True) -> Recount:
    """Recount what was produced: (key, value) of every record, in the order of each partition.

    With `keyed=False` keys are not looked at (a file has none).
    """
    funnels = config.funnels_of(source)
    events = Sorted(config.source(source), funnels)
    events.take(records, keyed=keyed)
    reaches = {f.name: [r for mine in events.applied.values() for r in _walk(f, mine, events.values)] for f in funnels}
    return Recount(config, source, events.fates, reaches, events.at_us)


def compare(expected: Mapping[Cell, float], got: Mapping[Cell, float]) -> tuple[int, int]:
    """(lost, duplicated): the sums of all shortfalls and of all excesses over all cells."""
    gaps = [expected.get(cell, 0) - got.get(cell, 0) for cell in {**expected, **got}]
    lost = sum(math.ceil(gap - TOLERANCE) for gap in gaps if gap > TOLERANCE)
    return lost, sum(math.ceil(-gap - TOLERANCE) for gap in gaps if -gap > TOLERANCE)


def _walk(funnel: Funnel, events: list[Event], values: Values) -> Iterator[Reach]:
    """The reaches of one entity: each event sees the state as it was before the event."""
    start: dict[int, tuple[int, Mapping[str, str]]] = {}  # stage -> time and values of the newest chain that got there
    for event, stages in _in_order(funnel, events):
        before = dict(start)
        for stage in sorted(stages, reverse=True):
            if stage == 0:
                start[0] = (event.at_us, dict(zip(funnel.dimensions, values.of(funnel, event), strict=True)))
            elif stage - 1 in before and event.at_us - before[stage - 1][0] <= funnel.conversion_window.micros:
                start[stage] = before[stage - 1]
            else:
                continue
            yield Reach(event.entity, stage, event.at_us, start[stage][1], amount(funnel.stages[stage], event))


def _in_order(funnel: Funnel, events: list[Event]) -> list[tuple[Event, list[int]]]:
    """The events that match a stage with the stages they match: by timestamp, lowest stage, event_id, bytes."""
    matched = [(e, [i for i, stage in enumerate(funnel.stages) if e.name in stage.event]) for e in events]
    return sorted(((e, s) for e, s in matched if s), key=lambda m: (m[0].at_us, m[1][0], m[0].event_id, m[0].raw))


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


def _sum(reaches: list[Reach]) -> float:
    return float(sum(r.amount for r in reaches))


def _start_us(window: Duration, now_us: int) -> int:
    """From the bucket w ÷ bucket − 1 before the one that holds T, onward without an upper end."""
    bucket_us = bucket_seconds(window) * 1_000_000
    return now_us // bucket_us * bucket_us - (window.micros - bucket_us)
