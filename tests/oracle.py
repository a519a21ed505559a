"""What the counts of a topic must be: a second opinion, worked out the slow and plain way.

It shares no code with the product, nor its parsing of config and events: it reads every partition
from its first record to the end, and counts by the words of the semantics (`ordered`), one event
after the other in the order of the partition. Two things it leaves out: a dimension without an
allow-list is taken to have fewer values than `max_values`, and order of arrival within a partition
is taken for what it is: in this release every event older than its entity's newest one is late.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal, DecimalException
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from aiokafka import AIOKafkaConsumer

SECOND_US = 1_000_000
FINEST_SECONDS = 10
# The rule of this release; when late events are folded in, this becomes `allowed_lateness`.
LATE_AFTER_US = 0
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
FETCH_BYTES = 32 * 1024 * 1024
TOTAL = ("", "")


class Record(NamedTuple):
    """A record as it lies in a topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Cell(NamedTuple):
    """The name of one count; width 0 is the total since ever, an empty dimension all of its values."""

    funnel: str
    family: str  # users, events or value (in millionths)
    stage: int
    dimension: str = ""
    value: str = ""
    width: int = 0
    bucket: int = 0


class Event(NamedTuple):
    """What a good record says."""

    at_us: int
    entity: str
    name: str
    identity: tuple[Any, ...]
    record: Mapping[str, Any]


class Reach(NamedTuple):
    """An entity reached a stage of a funnel."""

    funnel: str
    stage: int
    at_us: int
    values: tuple[tuple[str, str], ...]  # (dimension, value) of its chain
    amount: int  # millionths


class BadError(Exception):
    """The record cannot be an event."""


@dataclass
class Recount:
    """The counts of one topic."""

    records: int
    ends: dict[int, int]
    fates: Counter[str]
    cells: Counter[Cell]
    at_us: int  # the greatest event time that was not rejected

    def window(self, funnel: str, family: str, stage: int, window: str, split: tuple[str, str] = TOTAL) -> int:
        """A count over the trailing window as of T."""
        span = seconds(window)
        width = bucket_width(span)
        first = self.at_us // (width * SECOND_US) - span // width + 1
        last = max(self.at_us // (width * SECOND_US), first)
        return sum(self.cells[Cell(funnel, family, stage, *split, width, bucket)] for bucket in range(first, last + 1))

    def total(self, funnel: str, family: str, stage: int, split: tuple[str, str] = TOTAL) -> int:
        """A count since ever."""
        return self.cells[Cell(funnel, family, stage, *split)]

    def values(self, funnel: str, dimension: str) -> set[str]:
        """Every value of a dimension that was counted."""
        return {cell.value for cell in self.cells if cell.funnel == funnel and cell.dimension == dimension}


async def read_topic(brokers: str, topic: str, ends: Mapping[int, int] | None = None) -> list[Record]:
    """Every record of a topic, partition by partition, up to the ends that the broker tells now.

    `ends` are ends known otherwise, for a broker that tells them too low.
    """
    options: dict[str, Any] = {"auto_offset_reset": "earliest", "fetch_max_wait_ms": 50, "max_partition_fetch_bytes": FETCH_BYTES}
    async with AIOKafkaConsumer(topic, bootstrap_servers=brokers, **options) as consumer:
        told = await consumer.end_offsets(consumer.assignment())
        due = {tp: max(end, (ends or {}).get(tp.partition, 0)) for tp, end in told.items()}
        found: list[Record] = []
        while waiting := [tp for tp, end in due.items() if await consumer.position(tp) < end]:
            for tp, batch in (await consumer.getmany(*waiting, timeout_ms=1000)).items():
                found += [Record(tp.partition, r.offset, r.key, r.value, r.headers) for r in batch if r.offset < due[tp]]
    return sorted(found, key=lambda record: record[:2])


async def recount_topic(config: Path, brokers: str, ends: Mapping[int, int] | None = None) -> Recount:
    """Recount the topic of a config with one source."""
    loaded = yaml.safe_load(config.read_text())
    return recount(loaded, await read_topic(brokers, loaded["sources"][0]["topic"], ends))


def recount(config: Mapping[str, Any], records: Iterable[Record]) -> Recount:
    """Count records given in the order of each partition, for a config (plain YAML) with one source."""
    walk = Walk(config)
    ends: dict[int, int] = {}
    number = 0
    for record in records:
        walk.take(record)
        ends[record.partition] = record.offset + 1
        number += 1
    return Recount(number, ends, walk.fates, spread(config, walk.reaches), walk.at_us)


@dataclass
class Person:
    """What must be remembered of an entity."""

    newest_us: int = -1
    seen: dict[tuple[Any, ...], int] = field(default_factory=dict)  # identity -> event time
    # funnel -> the start of the newest chain that got to each stage: (time, values)
    starts: dict[str, list[tuple[int, tuple[tuple[str, str], ...]] | None]] = field(default_factory=dict)


class Walk:
    """Goes through the records of one source and writes down every reach and every fate."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.source = config["sources"][0]
        self.fields = self.source.get("fields", {})
        self.funnels = config["funnels"]
        self.lateness_us = seconds(self.source.get("allowed_lateness", "60s")) * SECOND_US
        self.skew_us = seconds(self.source.get("max_skew", "5m")) * SECOND_US
        self.looked_at = {name for funnel in self.funnels for stage in funnel["stages"] for name in names(stage)}
        self.people: defaultdict[str, Person] = defaultdict(Person)
        self.fates: Counter[str] = Counter()
        self.reaches: list[tuple[str, Reach]] = []  # with the entity
        self.at_us = -1

    def take(self, record: Record) -> None:
        try:
            event = self.event(record)
        except BadError:
            self.fates["rejected"] += 1
            return
        self.at_us = max(self.at_us, event.at_us)
        self.fates[self.fate(event)] += 1

    def event(self, record: Record) -> Event:
        """What the record says. Raises BadError."""
        said = parse(record.value, self.source.get("record_bytes_max", 1_000_000))
        name, own = self.canonical(said, "event"), self.canonical(said, "event_id")
        entity = self.entity(said)
        if not isinstance(name, str) or not name or not isinstance(own, str | None):
            raise BadError
        if self.source.get("entity_key", True) and record.key != entity.encode():
            raise BadError
        at_us = micros(self.canonical(said, "timestamp"))
        if at_us > time.time_ns() // 1000 + self.skew_us:
            raise BadError
        event = Event(at_us, entity, name, (own,) if own else (name, at_us, record.value), said)
        for stage in (stage for funnel in self.funnels for stage in funnel["stages"] if name in names(stage)):
            amount(stage, event)
        return event

    def canonical(self, said: Mapping[str, Any], name: str) -> Any:
        return dig(said, self.fields.get(name, name))

    def entity(self, said: Mapping[str, Any]) -> str:
        found = [self.canonical(said, name) for name in ("user_id", "anonymous_id")]
        if not all(one is None or (isinstance(one, int | str) and not isinstance(one, bool)) for one in found):
            raise BadError
        present = [str(one) for one in found if one is not None and one != ""]
        if not present:
            raise BadError
        return present[0]

    def fate(self, event: Event) -> str:
        if event.name not in self.looked_at:
            return "filtered"
        person = self.people[event.entity]
        if event.at_us < person.newest_us - LATE_AFTER_US:
            return "late"
        if person.seen.get(event.identity, -math.inf) >= person.newest_us - self.lateness_us:
            return "duplicate"
        person.newest_us = event.at_us
        person.seen[event.identity] = event.at_us
        for funnel in self.funnels:
            self.walk(funnel, event, person)
        return "applied"

    def walk(self, funnel: Mapping[str, Any], event: Event, person: Person) -> None:
        """Take one event through one funnel; it sees the chains as they were before it."""
        now = person.starts.setdefault(funnel["name"], [None] * len(funnel["stages"]))
        before = list(now)
        for place, stage in enumerate(funnel["stages"]):
            if event.name not in names(stage):
                continue
            start = (event.at_us, split_values(funnel, event)) if place == 0 else before[place - 1]
            if start is None or event.at_us - start[0] > seconds(funnel["conversion_window"]) * SECOND_US:
                continue
            now[place] = start
            self.reaches.append((event.entity, Reach(funnel["name"], place, event.at_us, start[1], amount(stage, event))))


def spread(config: Mapping[str, Any], reaches: Iterable[tuple[str, Reach]]) -> Counter[Cell]:
    """The counts of every bucket of every width, and of all time: total, and by value of each dimension."""
    fine: Counter[tuple[str, str, int, tuple[tuple[str, str], ...], int]] = Counter()
    latest: dict[tuple[str, str, int], Reach] = {}
    for entity, reach in reaches:
        latest[entity, reach.funnel, reach.stage] = reach
        add(fine, "events", reach, 1)
        add(fine, "value", reach, reach.amount)
    for reach in latest.values():
        add(fine, "users", reach, 1)
    cells: Counter[Cell] = Counter()
    kept = {funnel["name"]: sorted({bucket_width(seconds(w)) for w in funnel["windows"]}) for funnel in config["funnels"]}
    for (funnel, family, stage, values, bucket), count in fine.items():
        for split in (TOTAL, *values):
            cells[Cell(funnel, family, stage, *split)] += count
            for width in kept[funnel]:
                cells[Cell(funnel, family, stage, *split, width, bucket // (width // FINEST_SECONDS))] += count
    return cells


def add(fine: Counter[Any], family: str, reach: Reach, count: int) -> None:
    if count:
        fine[reach.funnel, family, reach.stage, reach.values, reach.at_us // (FINEST_SECONDS * SECOND_US)] += count


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
    if not 0 <= number < 10**14:
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


def amount(stage: Mapping[str, Any], event: Event) -> int:
    """What an event adds to the value of a stage, in millionths. Raises BadError."""
    found = dig(event.record, stage["value"]) if "value" in stage else None
    if found is None or found == "":
        return 0
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        raise BadError
    try:
        number = Decimal(str(found))
    except DecimalException:
        raise BadError from None
    if not number.is_finite() or abs(number) > 10**12:
        raise BadError
    return round(number * 1_000_000)


def split_values(funnel: Mapping[str, Any], event: Event) -> tuple[tuple[str, str], ...]:
    """The values under which a chain that begins with this event counts, one a dimension."""
    return tuple((name, shown_value(spec, event)) for name, spec in funnel.get("dimensions", {}).items())


def shown_value(spec: str | Mapping[str, Any], event: Event) -> str:
    path, allow = (spec, None) if isinstance(spec, str) else (spec["field"], spec.get("allow"))
    found = dig(event.record, path)
    if found is None or found == "":
        return "__none__"
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    text = str(found).lower() if isinstance(found, bool) else str(found)
    ok = text in allow if allow is not None else len(text) <= 64 and text.isprintable()
    return text if ok else "__other__"


def names(stage: Mapping[str, Any]) -> tuple[str, ...]:
    """The event names that a stage matches."""
    return (stage["event"],) if isinstance(stage["event"], str) else tuple(stage["event"])


def dig(found: Any, path: str) -> Any:
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def seconds(duration: str) -> int:
    return int(duration[:-1]) * UNITS[duration[-1]]


def bucket_width(window_seconds: int) -> int:
    """The width of the buckets that a window is summed from."""
    if window_seconds <= 3600:
        return 10
    return 60 if window_seconds <= 86_400 else 3600
