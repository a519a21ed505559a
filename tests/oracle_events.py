"""The oracle's own reading of a config and of records: what is an event, and what a funnel sees in it.

Plain YAML and raw Kafka records; nothing here is the product's.
"""

from __future__ import annotations

import json
import math
import re
import time
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal, DecimalException
from typing import Any, NamedTuple

SECOND_US = 1_000_000
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
RECORD_BYTES_MAX = 1_000_000
VALUE_LENGTH_MAX = 64
SEARCHED_MAX = 1000  # characters of a text that a regular expression is searched in


class Record(NamedTuple):
    """A record as it lies in a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Event(NamedTuple):
    """What a good record says."""

    at_us: int
    entity: str
    name: str
    own: str  # its event_id, empty where there is none
    said: Mapping[str, Any]
    raw: bytes

    @property
    def identity(self) -> tuple[Any, ...]:
        return (self.own,) if self.own else (self.name, self.at_us, self.raw)


class BadError(Exception):
    """The record cannot be an event."""


class Source:
    """The one source of a config, and its funnels."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.spec = config["sources"][0]
        self.fields = self.spec.get("fields", {})
        self.lateness_us = seconds(self.spec.get("allowed_lateness", "60s")) * SECOND_US
        self.skew_us = seconds(self.spec.get("max_skew", "5m")) * SECOND_US
        self.funnels = [Funnel(spec, self.fields.get("properties", "properties"), config.get("alerts", ())) for spec in config["funnels"]]

    def event(self, record: Record) -> Event:
        """What the record says. Raises BadError."""
        said = parse(record.value, self.spec.get("record_bytes_max", RECORD_BYTES_MAX))
        name, own = self.canonical(said, "event"), identifier(self.canonical(said, "event_id"))
        user, anonymous = (identifier(self.canonical(said, field)) for field in ("user_id", "anonymous_id"))
        entity = user or anonymous
        if not isinstance(name, str) or not name or not entity:
            raise BadError
        if self.spec.get("entity_key", True) and not self.spec.get("trust_key") and record.key != entity.encode():
            raise BadError
        at_us = micros(self.canonical(said, "timestamp"))
        if at_us > time.time_ns() // 1000 + self.skew_us:
            raise BadError
        event = Event(at_us, entity, name, own, said, record.value or b"")
        for funnel in self.funnels:
            for stage in funnel.stages_of(event):
                funnel.amount(stage, event)
        return event

    def total_order(self, event: Event) -> tuple[Any, ...]:
        """What the events of one entity are sorted by before those that are there twice are told: the first of any funnel's orders."""
        return min(funnel.total_order(event) for funnel in self.funnels)

    def canonical(self, said: Mapping[str, Any], name: str) -> Any:
        return dig(said, self.fields.get(name, name))


class Funnel:
    """One funnel of a config, and what it makes of an event."""

    def __init__(self, spec: Mapping[str, Any], properties: str, alerts: Any) -> None:
        self.spec = spec
        self.name = spec["name"]
        self.order: str = spec.get("order", "ordered")
        self.stages = spec["stages"]
        self.window_us = seconds(spec["conversion_window"]) * SECOND_US
        self.windows = [seconds(w) for w in (*spec["windows"], *(rule["window"] for rule in alerts if rule["funnel"] == self.name))]
        self.dimensions: Mapping[str, Any] = spec.get("dimensions", {})
        self.properties = properties

    def stages_of(self, event: Event) -> list[int]:
        """The stages that the event matches, lowest first."""
        return [place for place, stage in enumerate(self.stages) if self.matches(stage, event)]

    def ended_by(self, event: Event) -> set[int]:
        """The stages at which no chain stands any more after the event, but those that it brings there itself."""
        places = [stage["name"] for stage in self.stages]
        excluded = [e for e in self.spec.get("exclude", ()) if self.matches(e, event)]
        ended = {place for e in excluded for place in range(places.index(e["from"]), places.index(e["to"]))}
        return ended | set(range(len(places))).difference(self.stages_of(event)) if self.order == "strict" else ended

    def looks_at(self, event: Event) -> bool:
        return self.order == "strict" or any(self.matches(m, event) for m in (*self.stages, *self.spec.get("exclude", ())))

    def total_order(self, event: Event) -> tuple[Any, ...]:
        """What the events of one entity are sorted by."""
        return event.at_us, min(self.stages_of(event), default=math.inf), event.own, event.raw

    def matches(self, matcher: Mapping[str, Any], event: Event) -> bool:
        """Whether the event is one that a stage or an exclusion names, and meets its conditions."""
        if event.name not in names(matcher):
            return False
        return all(meets(self.at(event, path), asked) for path, asked in matcher.get("where", {}).items())

    def amount(self, stage: int, event: Event) -> int:
        """What an event adds to the value of a stage, in millionths. Raises BadError."""
        found = self.at(event, self.stages[stage]["value"]) if "value" in self.stages[stage] else None
        if found is None or found == "":
            return 0
        number = number_of(found)
        if number is None or abs(number) > 10**12:
            raise BadError
        return round(number * 1_000_000)

    def split_values(self, event: Event) -> tuple[tuple[str, str], ...]:
        """The values under which a chain that begins with this event counts, one a dimension."""
        return tuple((name, self.shown_value(spec, event)) for name, spec in self.dimensions.items())

    def shown_value(self, spec: str | dict[str, Any], event: Event) -> str:
        spec = {"field": spec} if isinstance(spec, str) else spec
        if "combine" in spec:
            text = " / ".join(self.shown_value(self.dimensions[name], event) for name in spec["combine"])
            length_max = 2 * VALUE_LENGTH_MAX + len(" / ")
        else:
            found = self.at(event, spec["field"])
            if found is None or found == "":
                return "__none__"
            text, length_max = text_of(found) or "__other__", VALUE_LENGTH_MAX
        plain = len(text) <= length_max and not any(unicodedata.category(c) == "Cc" for c in text)
        return text if (text in spec["allow"] if "allow" in spec else plain) else "__other__"

    def at(self, event: Event, path: str) -> Any:
        """A property of the event; a path starts at the event, wherever its record keeps the properties."""
        first, _, rest = path.partition(".")
        return dig(event.said, f"{self.properties}.{rest}" if first == "properties" else path)


def meets(found: Any, asked: Any) -> bool:
    """Whether a property is as a condition asks: a value alone is to be equal, a list to have it."""
    if not isinstance(asked, Mapping):
        asked = {"in": asked} if isinstance(asked, list) else {"equals": asked}
    if found is None or found == "":
        return dict(asked) == {"exists": False}
    return all(TESTS[test](found, bound) for test, bound in asked.items())


def compared(compare: Callable[[Decimal, Decimal], bool]) -> Callable[[Any, Any], bool]:
    """A comparison of numbers that holds for nothing else."""
    return lambda found, bound: (number := number_of(found)) is not None and compare(number, Decimal(str(bound)))


TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "equals": lambda found, bound: text_of(found) == text_of(bound),
    "in": lambda found, bound: text_of(found) in list(map(text_of, bound)),
    "exists": lambda _, bound: bool(bound),
    "matches": lambda found, bound: re.search(bound, (text_of(found) or "")[:SEARCHED_MAX]) is not None and text_of(found) is not None,
    ">": compared(lambda number, bound: number > bound),
    ">=": compared(lambda number, bound: number >= bound),
    "<": compared(lambda number, bound: number < bound),
    "<=": compared(lambda number, bound: number <= bound),
}


def text_of(found: Any) -> str | None:
    """What a property looks like as text; a list or an object has none."""
    if isinstance(found, list | Mapping):
        return None
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    return str(found).lower() if isinstance(found, bool) else str(found)


def number_of(found: Any) -> Decimal | None:
    """A finite number, also as text."""
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return None
    try:
        number = Decimal(str(found))
    except DecimalException:
        return None
    return number if number.is_finite() else None


def identifier(found: Any) -> str:
    """An id as text, empty where there is none. Raises BadError."""
    if isinstance(found, bool) or not isinstance(found, int | str | None):
        raise BadError
    return "" if found is None else str(found)


def parse(value: bytes | None, bytes_max: int) -> dict[str, Any]:
    """The record as one JSON object. Raises BadError."""
    if value is None or len(value) > bytes_max:
        raise BadError
    try:
        said = json.loads(value.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise BadError from None
    if not isinstance(said, dict):
        raise BadError
    return said


def refuse(constant: str) -> float:
    """NaN and Infinity are no JSON, whatever Python's parser thinks."""
    raise ValueError(constant)


def micros(stamp: Any) -> int:
    """Event time in µs since the epoch, from ISO 8601 or seconds or milliseconds. Raises BadError."""
    if isinstance(stamp, bool) or not isinstance(stamp, int | float | str):
        raise BadError
    try:
        number = Decimal(str(stamp))
    except DecimalException:
        return iso_micros(str(stamp))
    if not number.is_finite() or not 0 <= number < 10**14:
        raise BadError
    return int(number * SECOND_US) if number < 10**11 else int(number * 1000)


def iso_micros(stamp: str) -> int:
    try:
        moment = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except ValueError:
        raise BadError from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


def names(matcher: Mapping[str, Any]) -> tuple[str, ...]:
    """The event names that a stage or an exclusion matches."""
    return (matcher["event"],) if isinstance(matcher["event"], str) else tuple(matcher["event"])


def dig(found: Any, path: str) -> Any:
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def seconds(duration: str) -> int:
    return int(duration[:-1]) * UNITS[duration[-1]]
