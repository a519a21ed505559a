"""Every count again, by brute force, from the words that define it; nothing here is the engine's.

A stage is reached at an event when a chain stands at the stage before it. `Entity.origin` answers
where the newest chain that got to a stage before an event began, by looking back through all earlier
events, and keeps no state to update. Windows, totals and values are then sums over a list of reaches.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

SECOND = 1_000_000


@dataclass(frozen=True)
class Stage:
    """The event names that match it, and whether `properties.amount` is its value."""

    names: frozenset[str]
    valued: bool = False


@dataclass(frozen=True)
class Funnel:
    """`dimensions` maps a property of the same name to the values allowed, or None for any."""

    name: str
    stages: tuple[Stage, ...]
    conversion_us: int
    windows: tuple[int, ...]  # seconds
    dimensions: dict[str, frozenset[str] | None] = field(default_factory=dict)

    def lowest(self, name: str) -> int:
        """The lowest stage that an event of that name matches; past the last one if none."""
        return next((place for place, stage in enumerate(self.stages) if name in stage.names), len(self.stages))


@dataclass(frozen=True, eq=False)
class Event:
    """What was sent: a good record."""

    raw: bytes
    entity: str
    name: str
    time_us: int
    event_id: str
    properties: dict[str, Any]

    @property
    def identity(self) -> tuple[str, ...] | tuple[str, int, bytes]:
        return (self.event_id,) if self.event_id else (self.name, self.time_us, self.raw)


@dataclass(frozen=True)
class Reach:
    """An entity got to a stage, by a chain that began at `origin`."""

    entity: str
    stage: int
    event: Event
    origin: Event


@dataclass
class Truth:
    """What became of every event."""

    funnels: Sequence[Funnel]
    fates: Counter[str]
    time_us: int  # greatest event time that was accepted; -1 without one
    applied: dict[str, list[Event]]  # by entity, in the order of their time

    def reaches(self, funnel: Funnel) -> list[Reach]:
        """All reaches of a funnel; of one entity in their order, the deeper stage first."""
        return [reach for entity, events in self.applied.items() for reach in Chains(funnel, entity, events).reaches()]


def truth_of(funnels: Sequence[Funnel], chunks: Iterable[Sequence[Event | None]], lateness_us: int) -> Truth:
    """What comes of these chunks. None is a record that is no event; its reason is not looked at here.

    The events of one chunk arrive at once: only what came in an earlier one can make an event late.
    """
    found = Truth(funnels, Counter(), -1, {})
    for chunk in chunks:
        good = [event for event in chunk if event is not None and all(map(math.isfinite, _amounts(funnels, event)))]
        found.fates["rejected"] += len(chunk) - len(good)
        found.time_us = max([found.time_us, *(event.time_us for event in good)])
        for event in sorted(good, key=lambda e: (e.time_us, min(f.lowest(e.name) for f in funnels), e.event_id, e.raw)):
            fate = _fate(funnels, event, found.applied.get(event.entity, []), lateness_us)
            found.fates[fate] += 1
            if fate == "applied":
                found.applied.setdefault(event.entity, []).append(event)
    return found


def _amounts(funnels: Sequence[Funnel], event: Event) -> list[float]:
    """The value property, once for each stage that wants it of this event."""
    stages = [stage for funnel in funnels for stage in funnel.stages if stage.valued and event.name in stage.names]
    amount = event.properties.get("amount", 0)
    return [amount if isinstance(amount, int | float) else math.nan for _ in stages]


def _fate(funnels: Sequence[Funnel], event: Event, applied: Sequence[Event], lateness_us: int) -> str:
    if not any(event.name in stage.names for funnel in funnels for stage in funnel.stages):
        return "filtered"
    if applied and event.time_us < applied[-1].time_us:
        return "late"
    recent = {e.identity for e in applied if e.time_us >= event.time_us - lateness_us}
    return "duplicate" if event.identity in recent else "applied"


class Chains:
    """The chains of one entity in one funnel."""

    def __init__(self, funnel: Funnel, entity: str, applied: Sequence[Event]) -> None:
        self.funnel = funnel
        self.entity = entity
        self.events = sorted(applied, key=lambda e: (e.time_us, funnel.lowest(e.name), e.event_id, e.raw))
        self.origin = cache(self._origin)

    def reaches(self) -> list[Reach]:
        found = []
        for place, event in enumerate(self.events):
            for stage in reversed(range(len(self.funnel.stages))):
                origin = self.reached(stage, place)
                if origin is not None:
                    found.append(Reach(self.entity, stage, event, self.events[origin]))
        return found

    def reached(self, stage: int, place: int) -> int | None:
        """The origin of the chain by which this event reaches the stage, if it does."""
        if self.events[place].name not in self.funnel.stages[stage].names:
            return None
        if stage == 0:
            return place
        origin = self.origin(stage - 1, place)
        if origin is None or self.events[place].time_us - self.events[origin].time_us > self.funnel.conversion_us:
            return None
        return origin

    def _origin(self, stage: int, place: int) -> int | None:
        """Where the newest chain that got to the stage before this event began."""
        for earlier in reversed(range(place)):
            origin = self.reached(stage, earlier)
            if origin is not None:
                return origin
        return None


Row = tuple[int, int, int]  # users, events, value in millionths


def value_of(funnel: Funnel, dimension: str, event: Event) -> str:
    """What a dimension shows of an event."""
    found = event.properties.get(dimension)
    if found is None or found == "":
        return "__none__"
    text = str(found)
    allowed = funnel.dimensions[dimension]
    if len(text) > 64 or any(ord(c) < 32 for c in text) or (allowed is not None and text not in allowed):
        return "__other__"
    return text


def rows(funnel: Funnel, reaches: Sequence[Reach], since_us: int, dimension: str | None = None) -> dict[tuple[int, str], Row]:
    """(stage, value) -> users, events and value from a time on. A user counts under its latest reach."""
    events: Counter[tuple[int, str]] = Counter()
    values: Counter[tuple[int, str]] = Counter()
    latest: dict[tuple[str, int], str] = {}
    for reach in reaches:
        if reach.event.time_us >= since_us:
            shown = value_of(funnel, dimension, reach.origin) if dimension else ""
            events[reach.stage, shown] += 1
            values[reach.stage, shown] += _millionths(funnel, reach)
            latest[reach.entity, reach.stage] = shown
    users = Counter((stage, shown) for (_, stage), shown in latest.items())
    return {key: (users[key], events[key], values[key]) for key in events}


def _millionths(funnel: Funnel, reach: Reach) -> int:
    return round(reach.event.properties.get("amount", 0) * 1_000_000) if funnel.stages[reach.stage].valued else 0


def window_begin(window_seconds: int, at_us: int) -> int:
    """A window is made of whole buckets and ends with the one that holds T: 10 s, 1 min, 1 h wide."""
    width = (10 if window_seconds <= 3600 else 60 if window_seconds <= 86_400 else 3600) * SECOND
    return at_us - at_us % width + width - window_seconds * SECOND
