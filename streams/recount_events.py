"""[pure] For the recount: which records are events, and what they say.

Plain and slow on purpose, and from semantics' words alone; see `streams.recount`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from schemas.config import Source
from schemas.event import Reject, micros_of
from schemas.funnel import Stage

LENGTH_MAX = 512  # of an entity and of an event's name
AMOUNT_MAX = 10**12
MILLI_US = 1000
MILLIONTH = Decimal("0.000001")


class NoEvent(Exception):
    """The record cannot be an event."""


@dataclass(frozen=True)
class Event:
    """One record that is an event. `record` has the event's properties under `properties`."""

    at_us: int
    entity: str
    name: str
    event_id: str
    record: Mapping[str, Any]
    raw: bytes
    beside: Mapping[str, str] = field(default_factory=dict)  # of its source's preset: property to where else it may be

    @property
    def identity(self) -> str | bytes:
        """What a copy of it has in common with it: its `event_id`; without one, its bytes."""
        return self.event_id or self.raw

    def at(self, path: str) -> Any:
        """What the event has at a path, or beside its properties, where the preset says so."""
        found = dig(self.record, path)
        if found is None or found == "":
            for prefix, other in self.beside.items():
                if f"{path}.".startswith(f"{prefix}."):
                    return dig(self.record, other + path.removeprefix(prefix))
        return found


def read(source: Source, key: bytes | None, raw: bytes | None, *, keyed: bool, looked_into: bool) -> Event:
    """The event that a record is; `looked_into`: whether any funnel asks for a property. Raises NoEvent."""
    if raw is None or len(raw) > source.record_bytes_max:
        raise NoEvent
    record = _object(raw)
    fields = source.fields
    name, event_id = _field(record, fields.event), _id(_field(record, fields.event_id))
    beside: Mapping[str, str] = {}
    if source.preset in ("segment", "rudderstack"):
        name, beside = _call(record, name)
    user, anonymous = _id(_field(record, fields.user_id)), _id(_field(record, fields.anonymous_id))
    entity = user or anonymous
    if not isinstance(name, str) or not 0 < len(name) <= LENGTH_MAX or not 0 < len(entity) <= LENGTH_MAX:
        raise NoEvent
    if keyed and source.entity_key and not source.trust_key and key != entity.encode():
        raise NoEvent
    at_us = _time(_field(record, fields.timestamp))
    if looked_into and fields.properties != ".":
        _field(record, f"{fields.properties.partition('.')[0]}.any")
    properties = record if fields.properties == "." else dig(record, fields.properties)
    return Event(at_us, entity, name, event_id, record | {"properties": properties}, raw, beside)


def amount(stage: Stage, event: Event) -> Decimal:
    """What the event adds to the value of a stage that it matches, in whole millionths. Raises NoEvent.

    0 where the stage has no value or the event brings none.
    """
    found = None if stage.value is None else event.at(stage.value)
    if found is None or found == "":
        return Decimal(0)
    number = Decimal("NaN") if isinstance(found, bool | dict | list) else _decimal(str(found))
    if not number.is_finite() or abs(number) > AMOUNT_MAX:
        raise NoEvent
    return number.quantize(MILLIONTH)


def dig(found: Any, path: str) -> Any:
    """What is at a dotted path; None where there is nothing."""
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def text_of(found: Any) -> str | None:
    """A property as text; None where it is absent or empty, or is a list or an object."""
    if found is None or isinstance(found, list | dict) or found == "":
        return None
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, float) and found.is_integer():
        return str(int(found))
    return str(found)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        record = json.loads(raw.decode(), parse_constant=_refuse)
        if b"\\u" in raw:
            json.dumps(record, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise NoEvent from error
    if not isinstance(record, dict):
        raise NoEvent
    return record


def _call(record: Mapping[str, Any], name: Any) -> tuple[Any, Mapping[str, str]]:
    """The event of a call of Segment or RudderStack, and where its further properties are. Raises NoEvent."""
    kind = _field(record, "type")
    if not isinstance(name, str | None) or not isinstance(kind, str | None):
        raise NoEvent
    for part in ("context", "traits"):
        _field(record, f"{part}.any")
    return name or kind, {f"properties.{part}": part for part in ("context", "traits", "name", "category")}


def _refuse(constant: str) -> float:
    """NaN and Infinity are no JSON, though Python's parser takes them."""
    raise ValueError(constant)


def _field(record: Mapping[str, Any], path: str) -> Any:
    """What a field of the record has. Raises NoEvent where something other than an object is in the way to it."""
    found: Any = record
    for step in path.split("."):
        if not isinstance(found, Mapping | None):
            raise NoEvent
        found = None if found is None else found.get(step)
    return found


def _id(found: Any) -> str:
    """An identifier as text, empty where there is none. Raises NoEvent."""
    if isinstance(found, bool) or not isinstance(found, str | int | None):
        raise NoEvent
    return "" if found is None else str(found)


def _time(stamp: Any) -> int:
    if isinstance(stamp, bool) or not isinstance(stamp, str | int | float):
        raise NoEvent
    try:
        return micros_of(stamp)
    except Reject as reject:
        raise NoEvent from reject


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        return Decimal("NaN")
