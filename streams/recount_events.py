"""[pure] For the recount: which records are events, and which value of a dimension they count under.

Plain and slow on purpose, and from semantics' words alone; see `streams.recount`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from schemas.config import Source
from schemas.event import Reject, micros_of
from schemas.funnel import NONE, OTHER, Dimension, Funnel, Stage

FATES = ("rejected", "filtered", "late", "duplicate", "applied")
VALUE_LENGTH_MAX = 64


class _NoEvent(Exception):
    """The record cannot be an event."""


@dataclass(frozen=True)
class Event:
    """One record that is an event."""

    at_us: int
    entity: str
    name: str
    event_id: str
    record: Mapping[str, Any]
    raw: bytes

    @property
    def identity(self) -> tuple[str | int | bytes, ...]:
        return (self.event_id,) if self.event_id else (self.name, self.at_us, self.raw)


class Values:
    """The dimension values admitted so far, in order of arrival: one list a property and bound."""

    def __init__(self) -> None:
        self._admitted: dict[tuple[str, int], list[str]] = defaultdict(list)

    def meet(self, funnels: tuple[Funnel, ...], event: Event) -> None:
        """Admit what an arriving first-stage event brings, while there is room."""
        for funnel in (f for f in funnels if event.name in f.stages[0].event):
            for dimension in funnel.dimensions.values():
                text, admitted = _text(_dig(event.record, dimension.field)), self._list(dimension)
                if dimension.allow is None and _fits(text) and text not in admitted and len(admitted) < dimension.max_values:
                    admitted.append(text)

    def of(self, funnel: Funnel, event: Event) -> tuple[str, ...]:
        """The values that an event's chain counts under, one a dimension."""
        return tuple(self._shown(d, _text(_dig(event.record, d.field))) for d in funnel.dimensions.values())

    def _shown(self, dimension: Dimension, text: str) -> str:
        allowed = self._list(dimension) if dimension.allow is None else dimension.allow
        return text if text == NONE or text in allowed else OTHER

    def _list(self, dimension: Dimension) -> list[str]:
        return self._admitted[dimension.field, dimension.max_values]


@dataclass
class Sorted:
    """The records of a source by fate: the applied events of every entity, the others only counted."""

    source: Source
    funnels: tuple[Funnel, ...]
    fates: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(FATES, 0)))
    applied: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    values: Values = field(default_factory=Values)
    at_us: int | None = None  # T: the greatest event time that was not rejected
    _newest: dict[str, int] = field(default_factory=dict)
    _seen: dict[tuple[str, tuple[str | int | bytes, ...]], int] = field(default_factory=dict)

    def take(self, records: Iterable[tuple[bytes | None, bytes]], *, keyed: bool) -> None:
        looked_at = {name for funnel in self.funnels for stage in funnel.stages for name in stage.event}
        for key, raw in records:
            try:
                event = _read(self.source, self.funnels, key, raw, keyed)
            except _NoEvent:
                self.fates["rejected"] += 1
                continue
            self.at_us = max(self.at_us or 0, event.at_us)
            self.fates[self._fate(event, looked_at)] += 1

    def _fate(self, event: Event, looked_at: set[str]) -> str:
        if event.name not in looked_at:
            return "filtered"
        newest = max(event.at_us, self._newest.get(event.entity, 0))
        before = self._seen.get((event.entity, event.identity))
        if before is not None and before >= newest - self.source.allowed_lateness.micros:
            return "duplicate"
        self._newest[event.entity] = newest
        self._seen[event.entity, event.identity] = event.at_us
        self.applied[event.entity].append(event)
        self.values.meet(self.funnels, event)
        return "applied"


def amount(stage: Stage, event: Event) -> Decimal:
    """What the event adds to the stage's value; 0 where the stage has none or the event brings none."""
    found = None if stage.value is None else _dig(event.record, stage.value)
    if found is None or found == "":
        return Decimal(0)
    number = Decimal("NaN") if isinstance(found, bool | dict | list) else _decimal(str(found))
    if not number.is_finite():
        raise _NoEvent
    return number


def _read(source: Source, funnels: tuple[Funnel, ...], key: bytes | None, raw: bytes, keyed: bool) -> Event:
    record = _object(raw)
    fields = source.fields
    name, event_id = _dig(record, fields.event), _dig(record, fields.event_id)
    entity = next((i for p in (fields.user_id, fields.anonymous_id) if (i := _dig(record, p)) not in (None, "")), None)
    if not isinstance(name, str) or not name or not _is_id(entity) or not isinstance(event_id, str | None):
        raise _NoEvent
    if keyed and source.entity_key and not source.trust_key and key != str(entity).encode():
        raise _NoEvent
    try:
        at_us = micros_of(_dig(record, fields.timestamp))
    except (Reject, TypeError) as error:
        raise _NoEvent from error
    event = Event(at_us, str(entity), name, event_id or "", record | {"properties": _dig(record, fields.properties)}, raw)
    for stage in (s for f in funnels for s in f.stages if name in s.event):
        amount(stage, event)
    return event


def _object(raw: bytes) -> dict[str, Any]:
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _NoEvent from error
    if not isinstance(record, dict):
        raise _NoEvent
    return record


def _is_id(found: Any) -> bool:
    return isinstance(found, str | int) and not isinstance(found, bool)


def _dig(found: Any, path: str) -> Any:
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        return Decimal("NaN")


def _text(found: Any) -> str:
    if found is None or found == "":
        return NONE
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, float) and found.is_integer():
        return str(int(found))
    return str(found) if isinstance(found, str | int | float) else OTHER


def _fits(text: str) -> bool:
    return text not in (NONE, OTHER) and len(text) <= VALUE_LENGTH_MAX and text.isprintable()
