"""Every count again, by brute force, from the words that define it; nothing here is the engine's.

The questions are asked of a list, not of a state that is kept: where the newest chain that stands at
a stage began is answered by looking back through all earlier events (`Chains.origin`), whether an
entry was converted by looking at all later reaches (`entries_of`), and windows, buckets and totals
are sums over the same list of facts. Stages are numbered from 0. Late is decided in order of arrival.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

SECOND = 1_000_000
COHORT = "ecxh"  # families that are kept by the hour in any case


@dataclass(frozen=True, eq=False)
class Event:
    """What was sent: a good record."""

    raw: bytes
    entity: str
    name: str
    time_us: int
    event_id: str
    properties: Mapping[str, Any]

    @property
    def identity(self) -> tuple[str, str | bytes]:
        return ("id", self.event_id) if self.event_id else ("bytes", self.raw)


@dataclass(frozen=True)
class Match:
    """The event names it matches, and conditions: a property -> what a config writes of it."""

    names: frozenset[str]
    where: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, event: Event) -> bool:
        return event.name in self.names and all(holds(written, event.properties.get(name)) for name, written in self.where.items())


@dataclass(frozen=True)
class Stage(Match):
    """A stage, and whether `properties.amount` is its value."""

    valued: bool = False


@dataclass(frozen=True)
class Exclusion(Match):
    """Ends the chains that stand at `start` or later, before `end`."""

    start: int = 0
    end: int = 1


@dataclass(frozen=True)
class Dimension:
    """The property of the same name, or two other dimensions combined; `allow` None: any value."""

    combine: tuple[str, str] | None = None
    allow: frozenset[str] | None = None


@dataclass(frozen=True)
class Funnel:
    """A funnel as a config tells it."""

    name: str
    stages: tuple[Stage, ...]
    conversion_us: int
    windows: tuple[int, ...]  # seconds
    dimensions: Mapping[str, Dimension] = field(default_factory=dict)
    order: str = "ordered"
    exclude: tuple[Exclusion, ...] = ()

    def matched(self, event: Event) -> list[int]:
        """The stages an event matches, ascending."""
        return [place for place, stage in enumerate(self.stages) if stage.matches(event)]

    def looks_at(self, event: Event) -> bool:
        return self.order == "strict" or any(one.matches(event) for one in (*self.stages, *self.exclude))

    def order_of(self, event: Event) -> tuple[Any, ...]:
        """What the total order compares."""
        return event.time_us, min(self.matched(event), default=math.inf), event.event_id, event.raw

    def families_by_width(self) -> dict[int, str]:
        """Bucket width in seconds -> the families that are kept in it."""
        return {3600: COHORT} | {bucket_width(window): "unv" + COHORT for window in self.windows}


def holds(written: Any, raw: Any) -> bool:
    """Whether a condition, as a config writes it, holds of a property."""
    if not isinstance(written, dict):
        written = {"in" if isinstance(written, list) else "equals": written}
    if raw is None or raw == "":
        return written == {"exists": False}
    return all(_operator_holds(operator, bound, raw) for operator, bound in written.items())


def _operator_holds(operator: str, bound: Any, raw: Any) -> bool:
    text, number = as_text(raw), as_number(raw)
    if operator == "exists":
        return bool(bound)
    if operator in ("equals", "in"):
        return text in [as_text(one) for one in (bound if operator == "in" else [bound])]
    if operator == "matches":
        return text is not None and re.search(bound, text) is not None
    if number is None:
        return False
    return {">": number > bound, ">=": number >= bound, "<": number < bound, "<=": number <= bound}[operator]


def as_text(raw: Any) -> str | None:
    """1, 1.0 and "1" are one text; a list or an object has none."""
    if isinstance(raw, float) and raw == int(raw):
        return f"{raw:.0f}"
    return str(raw).lower() if isinstance(raw, bool) else str(raw) if isinstance(raw, str | int | float) else None


def as_number(raw: Any) -> float | None:
    try:
        number = math.nan if isinstance(raw, bool | list | dict) else float(raw)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


# What became of every event


@dataclass
class Truth:
    """What became of the records of one source."""

    fates: Counter[str]
    time_us: int  # greatest event time that was accepted; -1 without one
    applied: dict[str, list[Event]]  # by entity, in the order of their time

    def reaches(self, funnel: Funnel) -> list[Reach]:
        """All reaches of a funnel; of one entity in their order."""
        return [reach for events in self.applied.values() for reach in Chains(funnel, events).reaches()]

    def facts(self, funnel: Funnel) -> list[Fact]:
        """All that is counted of a funnel."""
        return [fact for events in self.applied.values() for fact in facts_of(funnel, Chains(funnel, events).reaches())]


def truth_of(funnels: Sequence[Funnel], records: Iterable[Event | None], lateness_us: int) -> Truth:
    """What comes of records in their order of arrival. None is one that is no event."""
    fates: Counter[str] = Counter()
    time_us = -1
    in_time: defaultdict[str, list[Event]] = defaultdict(list)
    for event in records:
        if event is None or is_bad(funnels, event):
            fates["rejected"] += 1
            continue
        time_us = max(time_us, event.time_us)
        before = in_time[event.entity]
        if not any(funnel.looks_at(event) for funnel in funnels):
            fates["filtered"] += 1
        elif any(event.time_us < earlier.time_us - lateness_us for earlier in before):
            fates["late"] += 1
        else:
            before.append(event)
    applied = {entity: without_duplicates(funnels, events, lateness_us) for entity, events in in_time.items()}
    fates["applied"] = sum(map(len, applied.values()))
    fates["duplicate"] = sum(map(len, in_time.values())) - fates["applied"]
    return Truth(fates, time_us, applied)


def is_bad(funnels: Sequence[Funnel], event: Event) -> bool:
    """Whether a stage that the event matches wants a value which is no number."""
    valued = any(stage.valued and stage.matches(event) for funnel in funnels for stage in funnel.stages)
    amount = event.properties.get("amount")
    return valued and amount is not None and amount != "" and as_number(amount) is None


def without_duplicates(funnels: Sequence[Funnel], events: Sequence[Event], lateness_us: int) -> list[Event]:
    """The events of an entity in the order of their time, each only once."""
    found: list[Event] = []
    for event in sorted(events, key=lambda event: min(funnel.order_of(event) for funnel in funnels)):
        if not any(e.identity == event.identity and e.time_us >= event.time_us - lateness_us for e in found):
            found.append(event)
    return found


# Who got where


class Reach(NamedTuple):
    """An entity got to a stage; it counts under the values of `origin`, where the chain began."""

    stage: int
    event: Event
    origin: Event


class Chains:
    """The chains of one entity in one funnel."""

    def __init__(self, funnel: Funnel, applied: Sequence[Event]) -> None:
        self.funnel = funnel
        self.events = sorted(applied, key=funnel.order_of)
        self.matched = [funnel.matched(event) for event in self.events]
        self.ends = [{s for x in funnel.exclude if x.matches(event) for s in range(x.start, x.end)} for event in self.events]
        self.origin = cache(self._origin)

    def reaches(self) -> list[Reach]:
        """All of them in their order: of one event the deeper stage first, but ascending in `any`."""
        found = self._any if self.funnel.order == "any" else self._in_order
        return [reach for place in range(len(self.events)) for reach in found(place)]

    def _in_order(self, place: int) -> Iterator[Reach]:
        for stage in reversed(self.matched[place]):
            origin = self.reached(stage, place)
            if origin is not None:
                yield Reach(stage, self.events[place], self.events[origin])

    def reached(self, stage: int, place: int) -> int | None:
        """The place of the event that began the chain by which this one reaches the stage, if it does."""
        if stage not in self.matched[place]:
            return None
        if stage == 0:
            return place
        origin = self.origin(stage - 1, place)
        return origin if origin is not None and self._age(origin, place) <= self.funnel.conversion_us else None

    def _age(self, origin: int, place: int) -> int:
        return self.events[place].time_us - self.events[origin].time_us

    def _origin(self, stage: int, place: int) -> int | None:
        """Where the newest chain that stands at the stage before this event began."""
        for earlier in reversed(range(place)):
            origin = self.reached(stage, earlier)
            if origin is not None:
                return origin
            if stage in self.ends[earlier] or (self.funnel.order == "strict" and stage not in self.matched[earlier]):
                return None
        return None

    def _any(self, place: int) -> Iterator[Reach]:
        if not self.matched[place]:
            return
        stages, until = range(len(self.funnel.stages)), range(place + 1)
        newest = [max((p for p in until if stage in self.matched[p]), default=None) for stage in stages]
        for stage in stages[min(self.matched[place]) :]:
            so_far = newest[: stage + 1]
            if None in so_far or any(self._age(p, place) > self.funnel.conversion_us for p in so_far if p is not None):
                return
            yield Reach(stage, self.events[place], self.events[so_far[0] or 0])


@dataclass(frozen=True)
class Entry:
    """An opening at a stage, and the reach of the stage after it that converted it."""

    opened: Reach
    converted: Reach | None


def entries_of(funnel: Funnel, reaches: Sequence[Reach]) -> list[Entry]:
    """The entries of one entity, given its reaches in their order."""
    return [
        Entry(reaches[at], next((r for r in reaches[at + 1 :] if _converts(funnel, reaches[at], r)), None))
        for stage in range(len(funnel.stages))
        for at in _openings(funnel, stage, reaches)
    ]


def _openings(funnel: Funnel, stage: int, reaches: Sequence[Reach]) -> list[int]:
    found: list[int] = []
    for at, reach in enumerate(reaches):
        if reach.stage == stage and (not found or reach.event.time_us - reaches[found[-1]].event.time_us > funnel.conversion_us):
            found.append(at)
    return found


def _converts(funnel: Funnel, opened: Reach, reach: Reach) -> bool:
    return reach.stage == opened.stage + 1 and reach.event.time_us - opened.event.time_us <= funnel.conversion_us


# What is counted of it


class Cell(NamedTuple):
    """The name of a count. Without a dimension it is the total; in family h the value is the age bin."""

    family: str
    stage: int
    dimension: str | None = None
    value: str = ""


class Fact(NamedTuple):
    """So much is counted in a cell, in the buckets that hold this time."""

    cell: Cell
    time_us: int
    amount: int


def facts_of(funnel: Funnel, reaches: Sequence[Reach]) -> Iterator[Fact]:
    """All that is counted of one entity, given its reaches in their order."""
    for place, reach in enumerate(reaches):
        yield from _split(funnel, "n", reach.stage, reach, reach, 1)
        yield from _split(funnel, "v", reach.stage, reach, reach, millionths(funnel, reach))
        if not any(later.stage == reach.stage for later in reaches[place + 1 :]):
            yield from _split(funnel, "u", reach.stage, reach, reach, 1)
    for entry in entries_of(funnel, reaches):
        stage = entry.opened.stage
        yield from _split(funnel, "e", stage, entry.opened, entry.opened, 1)
        if entry.converted is not None:
            yield from _split(funnel, "c", stage, entry.opened, entry.opened, 1)
            yield from _split(funnel, "x", stage + 1, entry.converted, entry.opened, 1)
            opened_us, age_us = entry.opened.event.time_us, entry.converted.event.time_us - entry.opened.event.time_us
            yield Fact(Cell("h", stage + 1, None, str(age_bin(age_us))), opened_us, 1)


def _split(funnel: Funnel, family: str, stage: int, at: Reach, under: Reach, amount: int) -> Iterator[Fact]:
    """In the total, and under the value of each dimension by itself."""
    yield Fact(Cell(family, stage), at.event.time_us, amount)
    for name in funnel.dimensions:
        yield Fact(Cell(family, stage, name, shown(funnel, name, under.origin)), at.event.time_us, amount)


def millionths(funnel: Funnel, reach: Reach) -> int:
    """What the reach adds to its stage's value. An event that completes a stage of `any` without matching it has none for it."""
    stage = funnel.stages[reach.stage]
    if not stage.valued or not stage.matches(reach.event):
        return 0
    return round((as_number(reach.event.properties.get("amount") or 0) or 0) * 1_000_000)


def shown(funnel: Funnel, name: str, event: Event) -> str:
    """What a dimension of the funnel shows of an event."""
    dimension = funnel.dimensions[name]
    if dimension.combine:
        text = " / ".join(shown(funnel, part, event) for part in dimension.combine)
        return text if dimension.allow is None or text in dimension.allow else "__other__"
    raw = event.properties.get(name)
    if raw is None or raw == "":
        return "__none__"
    found = as_text(raw)
    if found is None or len(found) > 64 or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in found):
        return "__other__"
    return found if dimension.allow is None or found in dimension.allow else "__other__"


# Below 4 ms a bin a millisecond; then the four quarters of every octave.
BIN_STARTS_MS = [0, 1, 2, 3, *(2**octave + quarter * 2**octave // 4 for octave in range(2, 50) for quarter in range(4))]


def age_bin(age_us: int) -> int:
    return bisect_right(BIN_STARTS_MS, age_us // 1000) - 1


def totals(facts: Iterable[Fact]) -> Counter[Cell]:
    """The counts since ever."""
    found: Counter[Cell] = Counter()
    for fact in facts:
        found[fact.cell] += fact.amount
    return found


def window(facts: Iterable[Fact], window_seconds: int, at_us: int) -> Counter[Cell]:
    """The counts of the trailing window at T."""
    begin_us = window_begin(window_seconds, at_us)
    return totals(fact for fact in facts if fact.time_us >= begin_us)


def buckets(facts: Iterable[Fact], width_seconds: int, families: str) -> dict[int, Counter[Cell]]:
    """The counts of these families by bucket."""
    found: defaultdict[int, list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact.cell.family in families:
            found[fact.time_us // (width_seconds * SECOND)].append(fact)
    return {bucket: totals(mine) for bucket, mine in found.items()}


def bucket_width(window_seconds: int) -> int:
    """10 s up to an hour, 1 min up to a day, 1 h beyond."""
    return 10 if window_seconds <= 3600 else 60 if window_seconds <= 86_400 else 3600


def window_begin(window_seconds: int, at_us: int) -> int:
    """A window is made of whole buckets; the one that holds T is the last it needs."""
    width_us = bucket_width(window_seconds) * SECOND
    return at_us - at_us % width_us + width_us - window_seconds * SECOND
