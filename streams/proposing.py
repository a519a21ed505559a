"""[pure] A config proposed from what records look like: each guess with its reason and the share of the records behind it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson

from schemas.duration import Duration
from schemas.errors import UsageError
from schemas.presets import PRESETS, Format, PresetName, elsewhere
from streams.proposing_fields import (
    ANONYMOUS_HINT,
    Guess,
    Table,
    dimensions_of,
    entity_of,
    event_id_of,
    event_of,
    is_personal,
    table_of,
    timestamp_of,
    walks_of,
)
from streams.proposing_funnel import (
    LATE_NICE,
    QUANTILE,
    WAITS_MIN,
    Step,
    Walk,
    lateness_of,
    nice,
    quantile,
    rates_of,
    steps_of,
    value_of,
    waits_of,
    walks_named,
)

CALLS = ("track", "page", "screen", "identify", "group", "alias")
DIMENSIONS_MAX = 4
PRESET_SHARE = 0.8
KEYED_SHARE = 0.999
EVENTS_SHOWN = 20
TARGET_PEOPLE_MIN = 100


@dataclass(frozen=True)
class Proposal:
    """The config's text, and what to say beside it."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Where:
    """What was looked at."""

    topic: str
    said: str  # "the newest 20,000 records of topic clicks"
    keyed: bool  # whether records have keys at all: a file's have none
    format: Format = "json"


@dataclass
class Found:
    """Everything that was guessed."""

    where: Where
    rows: int  # records that are JSON objects
    unread: int
    preset: PresetName | None
    fields: dict[str, Guess]
    entity_key: bool | None  # None: nobody can tell
    key_share: float
    span_us: int
    people: int
    late_us: int
    names: Counter[str]
    withheld: int  # records whose event's name looks personal
    dimensions: dict[str, Counter[str]]
    steps: list[Step]
    rates: list[tuple[int, int]]
    value: str | None
    waits: list[int]
    waits_all: bool  # whether from first stage to last
    base: str
    copied: bool = False  # see Table
    clear: bool = True  # whether people go on from one stage to the next as in a funnel
    more: list[str] = field(default_factory=list)  # dimensions that were found and left out

    @property
    def conversion_window(self) -> str:
        return window_of(self.waits)


def window_of(waits: Sequence[int]) -> str:
    """The conversion window that all but one in a hundred keep within."""
    return nice(quantile(waits, QUANTILE)) if waits else "1h"


def found_in(values: Sequence[bytes | None], keys: Sequence[bytes | None], where: Where, now_us: int) -> Found:
    """Look at records. Raises UsageError where there is nothing that a config could be made of."""
    records, held = _objects(values, keys)
    if not values:
        raise UsageError(f"{where.said}: there are none; send some events first, or start from --template")
    if not records:
        raise UsageError(f"{where.said}: none is a JSON object; see `format` in deploy/sources.md, or name another topic")
    preset = _preset(records)
    table = table_of(records, held)
    fields, times, entities, names = _fields(table, preset, where, now_us)
    taken = {guess.path for guess in fields.values()}
    dimensions = dimensions_of(table, taken | _reserved(preset), names)
    base = _base(preset, dimensions)
    walks = walks_named(walks_of(entities, times), times, names)
    shown = Counter(name for name in names if name is not None)
    withheld = sum(count for name, count in shown.items() if is_personal("", [name]))
    public = [Walk(tuple(event for event in walk.events if not is_personal("", [event[1]]))) for walk in walks]
    steps = steps_of(public)
    clear = bool(steps)
    steps = steps or [Step(name, count, None) for name, count in _people(public).most_common(2)]
    if len(steps) < 2:
        raise UsageError(
            f"{where.said}: no two different events were found at {fields['event'].path!r}; look at more records with --records"
        )
    chain = [step.event for step in steps]
    waits, whole = _waits(public, chain)
    reachable = {path: counts for path, counts in dimensions.items() if property_of(base, path, preset) is not None}
    window_us = Duration(window_of(waits)).micros
    value = value_of(table, taken, names, chain[-1])
    read = [at for at in times if at is not None]
    return Found(
        where, len(records), len(values) - len(records), preset, fields, *_key(table, entities, where), _span(read), len(walks),
        lateness_of(entities, times), Counter({n: c for n, c in shown.items() if not is_personal("", [n])}), withheld,
        dict(list(reachable.items())[:DIMENSIONS_MAX]), steps, rates_of(public, chain, window_us),
        value if value is not None and property_of(base, value, preset) is not None else None, waits, whole, base, table.copied, clear,
        list(reachable)[DIMENSIONS_MAX:],
    )  # fmt: skip


def _objects(values: Sequence[bytes | None], keys: Sequence[bytes | None]) -> tuple[list[dict[str, Any]], list[bytes | None]]:
    records, held = [], []
    for value, key in zip(values, keys):
        try:
            record = orjson.loads(value) if value else None
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            records.append(record)
            held.append(key)
    return records, held


def _preset(records: Sequence[Mapping[str, Any]]) -> PresetName | None:
    events = sum({"specversion", "type", "id"} <= record.keys() for record in records)
    calls = [r for r in records if r.get("type") in CALLS and "messageId" in r and ("anonymousId" in r or "userId" in r)]
    if events >= PRESET_SHARE * len(records):
        return "cloudevents"
    if len(calls) < PRESET_SHARE * len(records):
        return None
    rudder = sum("rudderId" in call or "rudder" in json.dumps(call.get("context", {})).lower() for call in calls)
    return "rudderstack" if rudder > len(calls) / 2 else "segment"


def _reserved(preset: PresetName | None) -> set[str]:
    """Fields that a preset's records have for themselves."""
    if preset == "cloudevents":
        return {"specversion", "datacontenttype", "dataschema", "source", "type"}
    return set() if preset is None else {"type", "channel", "version", "context.library.name", "context.library.version"}


def _fields(
    table: Table, preset: PresetName | None, where: Where, now_us: int
) -> tuple[dict[str, Guess], list[int | None], list[Any], list[Any]]:
    """The fields, and every record's time, person and event's name."""
    given = PRESETS[preset].fields if preset else {}
    time = timestamp_of(table, now_us)
    if time is None:
        raise UsageError(
            f"{where.said}: no field has a time in nine records of ten; event times are needed, as ISO 8601 or since the epoch"
        )
    fields = {"timestamp": time[0]}
    skip = {time[0].path}
    user = _given(table, given.get("user_id"))
    anonymous = _given(table, given.get("anonymous_id"))
    if user is None and anonymous is None:
        user = entity_of(table, time[1], skip)
        if user is not None and user.share < KEYED_SHARE:
            lacking = [place for place in range(table.rows) if table.columns[user.path][place] is None]
            anonymous = entity_of(table, time[1], {*skip, user.path}, lacking)
            if anonymous is not None and ANONYMOUS_HINT.search(user.path) and not ANONYMOUS_HINT.search(anonymous.path):
                user, anonymous = anonymous, user
    if user is None and anonymous is None:
        raise UsageError(f"{where.said}: nothing was found that a person comes back with; a funnel needs an id of who did it")
    fields |= {name: guess for name, guess in (("user_id", user), ("anonymous_id", anonymous)) if guess is not None}
    entities = _first_of(table, [guess.path for guess in (user, anonymous) if guess is not None])
    skip |= {guess.path for guess in (user, anonymous) if guess is not None}
    event = _given(table, given.get("event", "event" if preset else None)) or event_of(table, entities, time[1], skip)
    if event is None:
        raise UsageError(f"{where.said}: no field tells what happened, with few different names in nine records of ten")
    fields["event"] = event
    other = elsewhere(PRESETS[preset].otherwise, "event") if preset else None
    names = _first_of(table, [event.path, other] if other in table.columns else [event.path])
    event_id = _given(table, given.get("event_id")) or event_id_of(table, {*skip, event.path})
    if event_id is not None:
        fields["event_id"] = event_id
    return fields, time[1], entities, [name if isinstance(name, str) else None for name in names]


def _given(table: Table, path: str | None) -> Guess | None:
    """A preset's own place of a field."""
    if path is None or path not in table.columns:
        return None
    share = table.share(path)
    return Guess(path, share, f"{share:.1%} of the records have it")


def _first_of(table: Table, paths: Sequence[str]) -> list[Any]:
    columns = [table.columns[path] for path in paths]
    return [next((value for value in row if value is not None), None) for row in zip(*columns)]


def _key(table: Table, entities: Sequence[Any], where: Where) -> tuple[bool | None, float]:
    if not where.keyed:
        return None, 0.0
    keyed = sum(key is not None and key == str(entity) for key, entity in zip(table.keys, entities)) / table.rows
    return keyed >= KEYED_SHARE, keyed


def _base(preset: PresetName | None, dimensions: Mapping[str, Any]) -> str:
    """Where properties are: the object that all of what may be split by lies in, or the record itself."""
    if preset is not None:
        return PRESETS[preset].fields.get("properties", "properties")
    heads = {path.partition(".")[0] if "." in path else "." for path in dimensions}
    return heads.pop() if len(heads) == 1 else "."


def property_of(base: str, path: str, preset: PresetName | None) -> str | None:
    """The path as a dimension or a value names it; None: it cannot be named."""
    if base == ".":
        return f"properties.{path}"
    if path.startswith(f"{base}."):
        return f"properties.{path.removeprefix(f'{base}.')}"
    if preset is not None:
        for at, other in PRESETS[preset].otherwise.items():
            if at.startswith("properties.") and (path == other or path.startswith(f"{other}.")):
                return at + path.removeprefix(other)
    return None


def _people(walks: Sequence[Walk]) -> Counter[str]:
    return Counter(name for walk in walks for name in walk.first())


def _waits(walks: Sequence[Walk], chain: Sequence[str]) -> tuple[list[int], bool]:
    """From the first stage to the last, or where too few got there, the steps' added up."""
    waits = waits_of(walks, chain)
    if len(waits) >= WAITS_MIN or len(chain) == 2:
        return waits, True
    steps = [waits_of(walks, pair) for pair in pairwise(chain)]
    if not all(steps):
        return waits or sorted(wait for step in steps for wait in step), True
    return [sum(quantile(step, QUANTILE) for step in steps)], False


def _span(times: list[int]) -> int:
    """Without the few that are far from all others."""
    ordered = sorted(times)
    return quantile(ordered, 0.999) - quantile(ordered, 0.001)


def late_of(found: Found) -> str:
    return nice(found.late_us, LATE_NICE)
