"""[pure] For a proposed config: which path of the records is the time, the person, the event, its id; and what may be split by.

Names are only hints. What decides is how values behave: a time can be read as one and goes up; a person
comes back, in spells; an event's name is one of few, changes from one record of a person to the next,
and some come before others; an id never comes twice. What looks like personal data is never a dimension.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from statistics import median
from typing import Any

from schemas.event import Reject, micros_of

DEPTH_MAX = 4
PATHS_MAX = 300
TEXT_MAX = 200  # characters of a value that is looked at
EARLIEST_US = 946_684_800_000_000  # 2000
DAY_US = 86_400_000_000
NAMES_MAX = 500  # different event names
SHARE_MOST = 0.9
UNIFORM = 0.69  # median gap of what comes at random, of the mean gap
VALUES_MAX = 30  # of a dimension
ORDERED_MAX = 12  # event names whose order is looked at
TIME_HINT = re.compile(r"(^|[._-])(timestamp|time|ts|at|date|created|occurred|when)($|[._-])|time|stamp|_at$", re.IGNORECASE)
PERSON_HINT = re.compile(r"user|customer|account|member|person|visitor|client|uid|anon|patient|learner|student|reader", re.IGNORECASE)
THING_HINT = re.compile(r"session|item|product|sku|order|categor|page|url|path|message|request|trace|event|cart", re.IGNORECASE)
ANONYMOUS_HINT = re.compile(r"anon|visitor|cookie|device.?id|guest", re.IGNORECASE)
EVENT_HINT = re.compile(r"(^|[._-])(event|event.?name|action|activity|behavio[u]?r|verb)$", re.IGNORECASE)
EVENT_HINT_WEAK = re.compile(r"(^|[._-])(event.?type|type|name|kind)$", re.IGNORECASE)
ID_HINT = re.compile(r"(^|[._-])(id|uuid|guid|event.?id|message.?id|insert.?id)$|id$", re.IGNORECASE)
PERSONAL_NAME = re.compile(
    r"e?mail|phone|mobile.?(no|number)|first.?name|last.?name|full.?name|surname|address|street|zip|postal|birth|\bdob\b|ssn|passport|iban"
    r"|card|password|secret|token|ip($|[._-])|(^|[._-])ip|lat($|[._-])|lon(g)?($|[._-])|gender|diagnos|user.?name|login|cookie|fingerprint",
    re.IGNORECASE,
)
PERSONAL_VALUE = re.compile(
    r"@|\d{6,}|^\+?[\d ()/-]{7,}$|^\d{1,3}(\.\d{1,3}){3}$|^[0-9a-f]{0,4}(:[0-9a-f]{0,4}){3,}$|^(?=.*\d)[0-9a-f-]{16,}$|^(?=.*\d)(?=.*[a-z])[a-z0-9]{20,}$|^eyJ",
    re.IGNORECASE,
)

CONTACT = re.compile(r"@|^\+\d|^\d{1,3}(\.\d{1,3}){3}$|^[0-9a-f]{0,4}(:[0-9a-f]{0,4}){3,}$", re.IGNORECASE)

Values = Sequence[Any]  # one a record; None where it has none


@dataclass(frozen=True)
class Guess:
    """A path, the share of the records that support it, and how it was found, in words."""

    path: str
    share: float
    why: str


@dataclass
class Table:
    """The records as columns: a path, and the value that each record has there."""

    rows: int
    columns: dict[str, list[Any]] = field(default_factory=dict)
    keys: list[str | None] = field(default_factory=list)  # of the Kafka records
    copied: bool = False  # whether `properties` has what is beside it too, as in a record made of a CSV row

    def share(self, path: str) -> float:
        return sum(value is not None for value in self.columns[path]) / max(1, self.rows)


def table_of(records: Sequence[Mapping[str, Any]], keys: Sequence[bytes | None]) -> Table:
    """Scalars of every record by their dotted path, as far down and as many as are worth a look."""
    found = Table(len(records), keys=[None if key is None else key.decode(errors="replace") for key in keys])
    for place, record in enumerate(records):
        for path, value in _scalars(record, "", 1):
            column = found.columns.get(path)
            if column is None:
                if len(found.columns) >= PATHS_MAX:
                    continue
                column = found.columns[path] = [None] * len(records)
            column[place] = value
    for path in [path for path in found.columns if path.startswith("properties.")]:
        if found.columns.get(path.removeprefix("properties.")) == found.columns[path]:
            found.copied = True
            del found.columns[path]
    return found


def _scalars(record: Mapping[str, Any], above: str, depth: int) -> Iterable[tuple[str, Any]]:
    for name, value in record.items():
        if not name or "." in name or any(map(str.isspace, name)) or len(above) + len(name) > TEXT_MAX:
            continue  # no path leads there
        if isinstance(value, dict):
            if depth < DEPTH_MAX:
                yield from _scalars(value, f"{above}{name}.", depth + 1)
        elif value is not None and value != "" and not isinstance(value, list):
            yield above + name, value


# The time


def timestamp_of(table: Table, now_us: int) -> tuple[Guess, list[int | None]] | None:
    """Where the event's time is, and each record's in µs."""
    best: tuple[float, Guess, list[int | None]] | None = None
    for path, values in table.columns.items():
        times = [_time(value, now_us) for value in values]
        read = [at for at in times if at is not None]
        share = len(read) / table.rows
        if share < SHARE_MOST:
            continue
        rising = sum(a <= b for a, b in pairwise(read)) / max(1, len(read) - 1)
        score = share + 0.3 * rising + 0.2 * len(set(read)) / table.rows + 0.4 * bool(TIME_HINT.search(path)) - 0.05 * path.count(".")
        if best is None or score > best[0]:
            why = f"{share:.1%} of the records have a time there: {_form(values)}"
            best = (score, Guess(path, share, why), times)
    return None if best is None else best[1:]


def _time(value: Any, now_us: int) -> int | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        at_us = micros_of(value)
    except (Reject, ValueError, OverflowError):
        return None
    return at_us if EARLIEST_US <= at_us <= now_us + DAY_US else None


def _form(values: Values) -> str:
    value = next(value for value in values if value is not None)
    try:
        number = float(value)
    except ValueError:
        return "ISO 8601"
    return "seconds since the epoch" if number < 100_000_000_000 else "milliseconds since the epoch"


# The person


def entity_of(table: Table, times: Sequence[int | None], skip: set[str], among: Sequence[int] | None = None) -> Guess | None:
    """Whose event it is. `among`: look only at these records."""
    rows = range(table.rows) if among is None else among
    best: tuple[float, Guess] | None = None
    for path, values in table.columns.items():
        if path in skip or not _is_id(values):
            continue
        held = [place for place in rows if values[place] is not None]
        share = len(held) / max(1, len(rows))
        groups = _groups(values, held)
        often = len(held) / max(1, len(groups))
        keyed = _keyed(table, values, held)
        least = 2 if PERSON_HINT.search(path) else min(20, max(3, len(held) / 50))
        if share < 0.3 or len(groups) < 2 or often < 1.05 or (len(groups) < least and keyed < SHARE_MOST):
            continue
        spells = _spells(groups, times)
        hint = 0.3 * bool(PERSON_HINT.search(path)) - 0.3 * bool(THING_HINT.search(path))
        hint -= 0.4 * _reaches_somebody(path, groups) + 0.02 * path.count(".")
        score = (1 - 1 / often) * (spells + 0.1 * min(1, len(groups) / 50)) + hint + 2 * keyed * share + 0.3 * share
        if best is None or score > best[0]:
            best = (score, Guess(path, share, _why_entity(share, len(groups), often, keyed)))
    return None if best is None else best[1]


def _reaches_somebody(path: str, groups: Iterable[str]) -> bool:
    """A mail address, a telephone number or a network address: a person's, but shared, changed, and better not an id."""
    return bool(PERSONAL_NAME.search(path.rpartition(".")[2])) or sum(bool(CONTACT.search(one)) for one in islice(groups, 50)) > 25


def _is_id(values: Values) -> bool:
    return all(value is None or (isinstance(value, str | int) and not isinstance(value, bool)) for value in values)


def _groups(values: Values, held: Iterable[int]) -> dict[str, list[int]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for place in held:
        groups[str(values[place])].append(place)
    return groups


def _keyed(table: Table, values: Values, held: Sequence[int]) -> float:
    return sum(table.keys[place] == str(values[place]) for place in held) / max(1, len(held))


def _spells(groups: Mapping[str, list[int]], times: Sequence[int | None]) -> float:
    """How much the records of one come together in time, instead of at random: 0 to 1."""
    read = [at for at in times if at is not None]
    span = max(read, default=0) - min(read, default=0)
    ratios = []
    for places in groups.values():
        ats = sorted(at for place in places if (at := times[place]) is not None)
        ratios += [(b - a) * len(ats) / span for a, b in pairwise(ats)] if span else []
    return max(0.0, 1 - median(ratios) / UNIFORM) if ratios else 0.0


def _why_entity(share: float, distinct: int, often: float, keyed: float) -> str:
    by_key = f"; it is the record's key in {keyed:.1%} of them" if keyed > 0 else ""
    return f"{share:.1%} of the records have it; {distinct:,} different ones, {often:.1f} records each{by_key}"


# The event


def event_of(table: Table, entities: Values, times: Sequence[int | None], skip: set[str]) -> Guess | None:
    """What happened: one of few names, that changes while a person goes on."""
    best: tuple[float, Guess] | None = None
    walks = walks_of(entities, times)
    for path, values in table.columns.items():
        share = table.share(path)
        names = Counter(value for value in values if value is not None)
        if path in skip or share < SHARE_MOST or not 2 <= len(names) <= min(NAMES_MAX, max(20, table.rows // 10)):
            continue
        if not all(isinstance(value, str) for value in names):
            continue
        hint = 0.6 * bool(EVENT_HINT.search(path)) + 0.3 * bool(EVENT_HINT_WEAK.search(path))
        changing, ordered = _changing(walks, values, names), _ordered(walks, values, names)
        score = changing * (0.2 + ordered) + hint
        if best is None or score > best[0]:
            why = f"{share:.1%} of the records have it; {len(names)} different names, which change as a person goes on"
            best = (score, Guess(path, share, why))
    return None if best is None else best[1]


def walks_of(entities: Values, times: Sequence[int | None]) -> list[list[int]]:
    """Each person's records by time; of one moment in their order of arrival."""
    groups = _groups(entities, (place for place, entity in enumerate(entities) if entity is not None and times[place] is not None))
    by_time: Callable[[int], tuple[int, int]] = lambda place: (times[place] or 0, place)  # noqa: E731 - a key, used once
    return [sorted(places, key=by_time) for places in groups.values()]


def _changing(walks: Sequence[Sequence[int]], values: Values, names: Counter[Any]) -> float:
    pairs = [(values[a], values[b]) for walk in walks for a, b in pairwise(walk)]
    total = sum(names.values())
    by_chance = 1 - sum((count / total) ** 2 for count in names.values())
    changed = sum(a != b for a, b in pairs) / max(1, len(pairs))
    return min(1.0, changed / by_chance) if by_chance else 0.0


def _ordered(walks: Sequence[Sequence[int]], values: Values, names: Counter[Any]) -> float:
    """How surely the first of one name comes before the first of another: 0, either way, to 1."""
    most = {name for name, _ in names.most_common(ORDERED_MAX)}
    before: Counter[tuple[Any, Any]] = Counter()
    for walk in walks:
        firsts = list(dict.fromkeys(values[place] for place in walk if values[place] in most))
        before.update((a, b) for i, a in enumerate(firsts) for b in firsts[i + 1 :])
    both = sum(before.values())
    return sum(abs(before[a, b] - before[b, a]) for a, b in {tuple(sorted(pair)) for pair in before}) / both if both else 0.0


def event_id_of(table: Table, skip: set[str]) -> Guess | None:
    """What tells an event from all others."""
    found = []
    for path, values in table.columns.items():
        held = [str(value) for value in values if value is not None]
        if path in skip or len(held) < SHARE_MOST * table.rows or not _is_id(values) or not ID_HINT.search(path):
            continue
        unlike = len(set(held)) / len(held)
        if unlike > 0.97 and table.rows > 1:
            why = f"{len(held) / table.rows:.1%} of the records have it, and {unlike:.1%} of these are different"
            found.append((unlike - 0.01 * path.count("."), Guess(path, len(held) / table.rows, why)))
    return max(found, key=lambda one: one[0])[1] if found else None


# What may be split by


def is_personal(path: str, values: Iterable[Any] = ()) -> bool:
    """Whether a path, or any of the values, looks like personal data."""
    last = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path.rpartition(".")[2])
    return bool(PERSONAL_NAME.search(last)) or any(isinstance(value, str) and bool(PERSONAL_VALUE.search(value)) for value in values)


def dimensions_of(table: Table, skip: set[str], names: Values) -> dict[str, Counter[str]]:
    """Texts of few values that are no event and nobody's: path to how often each value comes, commonest first."""
    found = {}
    for path, values in table.columns.items():
        counts = Counter(value for value in values if value is not None)
        if path in skip or not 2 <= len(counts) <= VALUES_MAX or table.share(path) < 0.2:
            continue
        texts = all(isinstance(value, str | bool) and len(str(value)) <= 64 and str(value).isprintable() for value in counts)
        if not texts or is_personal(path, counts) or _says_the_event(values, names) or max(counts.values()) < 3:
            continue
        found[path] = Counter({str(value).lower() if isinstance(value, bool) else str(value): count for value, count in counts.items()})
    return dict(sorted(found.items(), key=lambda one: (-round(table.share(one[0]), 1), len(one[1]))))


def _says_the_event(values: Values, names: Values) -> bool:
    """Whether the event's name decides the value: then it splits nothing."""
    pairs = Counter((name, value) for name, value in zip(names, values) if value is not None)
    most: dict[Any, int] = {}
    for (name, _), count in pairs.items():
        most[name] = max(most.get(name, 0), count)
    return sum(most.values()) >= 0.99 * sum(pairs.values())
