"""The click event and its decoding: a chunk of JSON records at once, columns out.

A decoder is made for one source. It knows which fields the source's funnels look at and builds a
msgspec struct of just those, so that the rest of a record is checked to be JSON but never becomes
Python objects. The whole chunk is decoded in one pass; only when that pass fails are the records
looked at one by one, to say which one is bad and why.

Event time is a whole number of microseconds since the epoch everywhere inside.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from operator import attrgetter
from statistics import median_low
from typing import Any, cast

import msgspec

from schemas.config import Fields
from schemas.event_struct import Getter, struct_of
from schemas.presets import NONE, Preset, elsewhere

SECONDS_MAX = 100_000_000_000  # from here on a number is milliseconds
MILLIS_MAX = 100_000_000_000_000
SHORT_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2})?")
ENTITY_LENGTH_MAX = 512
NAME_LENGTH_MAX = 512
FLAT = "."  # `properties` that are the record itself
OTHERWISE, AN_OBJECT = " otherwise", " is an object"  # no path has a space
BEGINNING_EVENTS = 5
MOMENTS_HELD = 4096  # an answer says the same few moments again and again
SHORT = 512  # a record of this many bytes cannot hold a field that is too long

REASONS = {
    "null_value": "the record has no value",
    "too_large": "the record is larger than `record_bytes_max` of its source",
    "bad_encoding": "the record is not UTF-8 text",
    "bad_json": "the record is not one JSON object",
    "too_deep": "the record is nested too deeply",
    "bad_type": "a field has a type that it cannot have",
    "no_event": "the record has no event name",
    "no_timestamp": "the record has no timestamp",
    "bad_timestamp": "the timestamp is neither ISO 8601 nor seconds or milliseconds since the epoch",
    "future": "the event time is further ahead of the clock than `max_skew`",
    "no_entity": "the record has neither user_id nor anonymous_id",
    "no_key": "the record has no key though `entity_key` says it is keyed by the entity",
    "misrouted": "the record's key is not its entity though `entity_key` says so",
    "bad_value": "the stage's value property is not a finite number",
    "no_schema_id": "the record does not begin with a schema id, as its source's `format` says: a zero byte and four more",
    "unknown_schema": "the schema registry has no schema of that id that records can be read by",
    "bad_schema": "the record does not follow the schema that it names",
}


class Reject(Exception):
    """A record that cannot be an event: the reason (a key of REASONS) and what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{REASONS[reason]}{f' ({detail})' if detail else ''}")


class Unreadable(bytes):
    """In a record's place in a chunk: no bytes, because it could not be made JSON, and why."""

    reject: Reject

    @classmethod
    def of(cls, reason: str, detail: str = "") -> Unreadable:
        """Given a key of REASONS and what was found."""
        found = cls()
        found.reject = Reject(reason, detail)
        return found


@dataclass(frozen=True)
class Rejected:
    """Which record of the chunk was rejected, and why."""

    index: int
    reason: str
    detail: str


@dataclass
class Batch:
    """The good records of a chunk, as columns of equal length, and the rejected ones."""

    times: list[int]  # µs since the epoch
    entities: list[str]
    names: list[str]
    ids: list[str]  # event_id, empty where there is none
    records: list[Any]  # msgspec structs, for the getters of the decoder
    raws: list[bytes]
    rejected: list[Rejected] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def began_us(self) -> int:
        """The time with which the batch begins, µs; -1: no event. The middle one of a few, so that a straggler makes it no earlier."""
        return median_low(self.times[:BEGINNING_EVENTS]) if self.times else -1

    def extend(self, part: Batch, at: int) -> None:
        """Add the columns of a part that begins at index `at` of the chunk, without its records."""
        self.times += part.times
        self.entities += part.entities
        self.names += part.names
        self.ids += part.ids
        self.raws += part.raws
        self.rejected += [Rejected(r.index + at, r.reason, r.detail) for r in part.rejected]


class EventDecoder:
    """Decodes the records of one source.

    `paths` are the event properties that funnels look at (`properties.channel`, ...). `fields` has
    those of the preset; what else the preset says is in `preset`.
    """

    def __init__(
        self, fields: Fields, paths: Iterable[str], *, check_keys: bool = False, record_bytes_max: int = 1_000_000, preset: Preset = NONE
    ) -> None:
        self._check_keys = check_keys
        self._bytes_max = record_bytes_max
        where = fields.model_dump()
        base = where.pop("properties")
        above = [] if base == FLAT else base.split(".")
        wanted = {name: path.split(".") for name, path in where.items()}
        wanted |= {path: [*above, *path.split(".")[1:]] for path in paths}
        second = {name: other.split(".") for name in wanted if (other := elsewhere(preset.otherwise, name)) is not None}
        wanted |= {name + OTHERWISE: parts for name, parts in second.items()}
        wanted |= {name + AN_OBJECT: [name, "any"] for name in preset.objects}
        types = {name: FIELD_TYPES.get(name.removesuffix(OTHERWISE), Any) for name in wanted}
        types |= {name: msgspec.Raw for name in wanted if name.endswith(AN_OBJECT)}
        # Of a flat record nothing but fields and the preset's objects has to be an object.
        self._tree = struct_of({name: (parts, types[name]) for name, parts in wanted.items()}, 0 if above else 1)
        self._decode = msgspec.json.Decoder(self._tree.type).decode
        self._wanted = wanted
        self._get = {name: self._tree.getter(parts) for name, parts in wanted.items()}
        direct = {name: self._tree.attribute(parts) for name, parts in wanted.items()}
        self._fast = {name: attrgetter(path) for name, path in direct.items() if path is not None and name not in second}
        self._get |= {name: _either(self._get[name], self._get[name + OTHERWISE]) for name in second}

    def getter(self, path: str) -> Getter:
        """A function from a decoded record to the raw value at `path` (None when absent)."""
        return self._get[path]

    def column(self, path: str, records: Sequence[Any]) -> list[Any]:
        """The raw values at `path` of many records."""
        fast = self._fast.get(path)
        if fast is not None:
            try:
                return list(map(fast, records))
            except AttributeError:  # a null on the way
                pass
        return list(map(self._get[path], records))

    def decode(self, values: Sequence[bytes | None], keys: Sequence[bytes | None], now_us: int, max_skew_us: int) -> Batch:
        """Decode a chunk; records that cannot be events are in `rejected`, in order of the chunk."""
        limit = now_us + max_skew_us
        try:
            batch = self._decode_all(values, keys, limit)
        except (Reject, msgspec.MsgspecError, RecursionError, UnicodeDecodeError, TypeError, ValueError):
            return self._one_by_one(values, keys, limit)
        return batch

    def _decode_all(self, values: Sequence[Any], keys: Sequence[bytes | None], limit_us: int) -> Batch:
        longest = max(map(len, values), default=0)
        if longest > self._bytes_max:
            raise Reject("too_large")
        if not values:
            return Batch([], [], [], [], [], [])
        if not b"".join(values).isascii():
            for value in values:
                value.decode()  # the decoder does not look into fields that nobody asks for
        records = list(map(self._decode, values))
        names, stamps, users, ids = (self.column(name, records) for name in ("event", "timestamp", "user_id", "event_id"))
        # Whole milliseconds are what nearly every producer writes; anything else goes the careful way.
        in_millis = _all_whole(stamps) and min(stamps) >= SECONDS_MAX
        times = [t * 1000 for t in stamps] if in_millis else [micros_of(t) for t in stamps]
        newest = max(times)
        if newest >= MILLIS_MAX * 1000:
            raise Reject("bad_timestamp")
        if newest > limit_us:
            raise Reject("future")
        if not all(names):
            raise Reject("no_event")
        if _all_text(users) and all(users):
            entities = users
        else:
            anonymous = self._get["anonymous_id"]
            entities = [entity_of(_first(user, anonymous(r))) for user, r in zip(users, records)]
        if longest > SHORT and (max(map(len, entities)) > ENTITY_LENGTH_MAX or max(map(len, names)) > NAME_LENGTH_MAX):
            raise Reject("bad_type")
        if self._check_keys and not _keyed(entities, keys):
            raise Reject("misrouted")
        if not _all_text(ids):
            ids = [_identity(found) for found in ids]
        return Batch(times, entities, names, ids, records, list(values))

    def _one_by_one(self, values: Sequence[bytes | None], keys: Sequence[bytes | None], limit_us: int) -> Batch:
        good: list[tuple[int, str, str, str, Any, bytes]] = []
        rejected: list[Rejected] = []
        for index, (value, key) in enumerate(zip(values, keys)):
            try:
                good.append(self.decode_one(value, key, limit_us))
            except Reject as reject:
                rejected.append(Rejected(index, reject.reason, reject.detail))
        times, entities, names, ids, records, raws = map(list, zip(*good)) if good else ([], [], [], [], [], [])
        return Batch(times, entities, names, ids, records, raws, rejected)

    def decode_one(self, value: bytes | None, key: bytes | None, limit_us: int) -> tuple[int, str, str, str, Any, bytes]:
        """(event time in µs, entity, event name, event_id, record, bytes) of one record. Raises Reject."""
        if value is None:
            raise Reject("null_value")
        if isinstance(value, Unreadable):
            raise value.reject
        if len(value) > self._bytes_max:
            raise Reject("too_large", f"{len(value)} bytes")
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise Reject("bad_encoding", str(error)) from None
        record = self._decode_one(value)
        get = self._get
        name, stamp = get["event"](record), get["timestamp"](record)
        if not name:
            raise Reject("no_event")
        if len(name) > NAME_LENGTH_MAX:
            raise Reject("bad_type", "an event name of more than 512 characters")
        if stamp is None:
            raise Reject("no_timestamp")
        time = micros_of(stamp)
        if time > limit_us:
            raise Reject("future", iso(time))
        entity = entity_of(_first(get["user_id"](record), get["anonymous_id"](record)))
        if len(entity) > ENTITY_LENGTH_MAX:
            raise Reject("bad_type", "an entity of more than 512 characters")
        if self._check_keys:
            if key is None:
                raise Reject("no_key")
            if key != entity.encode():
                raise Reject("misrouted", f"key {key[:64]!r}, entity {entity[:64]!r}")
        return time, entity, name, _identity(get["event_id"](record)), record, value

    def _decode_one(self, value: bytes) -> Any:
        try:
            return self._decode(value)
        except RecursionError:
            raise Reject("too_deep") from None
        except msgspec.ValidationError as error:
            raise Reject("bad_type", str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Reject("bad_json", str(error)) from None


FIELD_TYPES: dict[str, Any] = {
    "event": str | None,
    "timestamp": int | float | str | None,
    "user_id": int | str | None,
    "anonymous_id": int | str | None,
    "event_id": int | str | None,
}


def _all_text(column: Sequence[Any]) -> bool:
    try:
        "".join(column)  # looks at all of them at a fraction of what their types would cost
    except TypeError:
        return False
    return True


def _all_whole(column: Sequence[Any]) -> bool:
    try:
        array("q", column)
    except (TypeError, OverflowError):
        return False
    return True


def _keyed(entities: Sequence[str], keys: Sequence[bytes | None]) -> bool:
    """Whether each record's key is its entity."""
    joined = "\0".join(entities).encode()
    try:
        if joined != b"\0".join(cast("Sequence[bytes]", keys)):
            return False
    except TypeError:  # a record without a key
        return False
    # With a zero in an entity two divisions could come to the same.
    return joined.count(b"\0") == len(keys) - 1 or list(map(str.encode, entities)) == keys


def _first(*candidates: Any) -> Any:
    return next((c for c in candidates if c is not None and c != ""), None)


def _either(first: Getter, second: Getter) -> Getter:
    def found(record: Any) -> Any:
        value = first(record)
        return second(record) if value is None or value == "" else value

    return found


def _identity(found: int | str | None) -> str:
    return "" if found is None else str(found)


def entity_of(found: int | str | None) -> str:
    """An entity is text; a whole number counts as its decimal text."""
    if found is None or found == "":
        raise Reject("no_entity")
    return found if isinstance(found, str) else str(found)


def micros_of(stamp: int | float | str | None) -> int:
    """Event time in µs from seconds or milliseconds since the epoch (told apart by size) or ISO 8601."""
    if stamp is None:
        raise Reject("no_timestamp")
    if isinstance(stamp, str):
        stamp = _number_in(stamp)
        if isinstance(stamp, str):
            return _iso_micros(stamp)
    if not 0 <= stamp < MILLIS_MAX:
        raise Reject("bad_timestamp", str(stamp)[:64])
    return round(stamp * 1_000_000) if stamp < SECONDS_MAX else round(stamp * 1000)


def _number_in(text: str) -> int | float | str:
    if "_" in text:
        return text
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return text


def _iso_micros(text: str) -> int:
    try:
        moment = msgspec.convert(text.strip(), datetime)
    except msgspec.ValidationError:
        try:
            # What every Python from 3.10 on reads alike: a date, or a date with hours and minutes.
            moment = datetime.fromisoformat(text.strip() if SHORT_ISO.fullmatch(text.strip()) else "")
        except ValueError:
            raise Reject("bad_timestamp", text[:64]) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    delta = moment - EPOCH
    micros = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    if not 0 <= micros < MILLIS_MAX * 1000:
        raise Reject("bad_timestamp", text[:64])
    return micros


EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@lru_cache(maxsize=MOMENTS_HELD)
def moment_of(micros: int) -> datetime:
    """The UTC time of an event time in µs."""
    return datetime.fromtimestamp(micros // 1_000_000, timezone.utc).replace(microsecond=micros % 1_000_000)


def iso(micros: int) -> str:
    """ISO 8601 with Z of an event time in µs."""
    return moment_of(micros).isoformat().replace("+00:00", "Z")
