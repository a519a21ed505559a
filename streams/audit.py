"""[pure] The engine held against a recount while it counts: of some entities, every number is worked out twice.

What the engine counts of the sampled entities is folded and tallied by itself, with the code that all
others go through, and added to theirs for the write: what is audited is what is written. Their
records are kept as they came and now and then recounted by `streams.recount`, which shares no code
with the engine, and every cell is compared: totals, the buckets of every width, ages, fates. The sum
of all differences must be 0.

An entity is chosen by a hash of its name when the shard first meets it, neither held nor stored, so
that its records are its whole history. Its audit ends, and what it came to until then stays in the
comparison, where the engine may say other than the recount by design:

- once its state is put to rest or goes: a late event no longer finds its place then;
- before more than EVENTS_MAX events: its tail could be full, and the engine calls late what has no room;
- before a second event with the event_id and the time of another, but not its bytes: which of the two
  counts, the engine tells by what they match and bring, the recount by their bytes.

Which dimension values are admitted depends on when whose events arrive. The recount is given what the
plan learned of the registries as lists of allowed values, so it judges how values are used, not which
were let in. What late events took back, since ever, depends on arrival too, and is left out.

At most RECORDS_MAX records (or BYTES_MAX bytes) are kept. Who has no room ends the round: the records
are compared a last time, and other entities, of those that are new then, are audited from there on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from xxhash import xxh3_64_intdigest

from schemas.config import Config
from schemas.duration import MICROS
from schemas.event import Batch, iso
from streams.journeys import IDENTITY_BYTES_MAX
from streams.plan import FunnelPlan, Plan, Prepared
from streams.recount import TOLERANCE, Recount, recount
from streams.recount_chains import Entry, Reach, age_bin
from streams.retention import AGES, CONVERSIONS, CONVERTED, ENTRIES, EVENTS, USERS, VALUE
from streams.tail import TAIL_MAX
from streams.tally import Deltas
from streams.values import SEPARATOR, VALUE_SCALE
from streams.windows import RETRACTED, RETRACTED_AGES, Cells, age_cell, cell

EVENTS_MAX = TAIL_MAX  # an entity
RECORDS_MAX = 2_000
BYTES_MAX = 4_000_000
CHECK_SECONDS = 60  # of the clock, between comparisons: one costs as much as some ten thousand events
SHOWN_MAX = 8  # counts named in a log line
HASHES = 2**64
EVER = (0, 0)  # in the place of width and bucket: the total

Record = tuple[bytes | None, bytes | None]  # key, value
Place = tuple[int, int, int, str]  # definition, width in seconds, bucket, name of the count
Numbers = dict[Place, int]


@dataclass(frozen=True)
class Arrived:
    """A chunk as it came: its records' keys and values, and the clock."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    now_us: int


@dataclass(frozen=True)
class Part:
    """The audited events of a chunk, and the chunk without them: they match nothing there, so they are filtered."""

    batch: Batch
    prepared: Prepared
    others: Prepared

    def __len__(self) -> int:
        return len(self.batch)


@dataclass(frozen=True)
class Checked:
    """What a comparison found."""

    events: int  # that were not compared before
    change: int  # of the difference, since the comparison before
    differing: tuple[str, ...] = ()  # the first counts that differ, in words; only the first time


@dataclass
class _Sampled:
    """What is kept of an audited entity besides its records."""

    events: int = 0  # looked at
    told: dict[tuple[int, str | bytes], bytes] = field(default_factory=dict)  # time and identity -> bytes


class Audit:
    """The audit of one shard under one claim."""

    def __init__(self, plan: Plan, share: float) -> None:
        """`share` of the entities is audited, 0 to 1."""
        self._plan = plan
        self._share = share
        self._salt = 0
        self._clock_us = -1
        self._compared_us: int | None = None
        self._told = False
        self._begin()

    def _begin(self) -> None:
        self._live: dict[str, _Sampled] = {}
        self._ended: set[str] = set()
        self._full = False
        self._records: list[Record] = []  # in order of arrival; not those that the engine rejected
        self._refused: list[Record] = []  # of this chunk, by the engine
        self._taken = self._bytes = 0  # records and bytes, those refused too
        self._compared = 0  # of the records taken
        self._difference = 0
        self._counted = Deltas()  # by the engine
        self._rejected: Counter[str] = Counter()  # by whom

    # What is audited

    def part(self, arrived: Arrived, batch: Batch, prepared: Prepared, new: Iterable[str], states: Mapping[str, bytes]) -> Part | None:
        """Keep the records of audited entities and say which events these are; `new` may not be stored. None: there are none."""
        self._clock_us = max(self._clock_us, arrived.now_us)
        self._sample(entity for entity in new if entity not in states)
        if not self._live:
            return None
        keys, bad = _keys_of_good(arrived, batch), {r.index for r in prepared.bad}
        places = self._places(batch, prepared, bad)
        self._records += [(keys[i], batch.raws[i]) for i in places]
        self._refuse([(keys[i], batch.raws[i]) for i in bad if batch.entities[i] in self._live])
        # The key is all that is sure of a record that could not be read.
        unread = [(arrived.keys[r.index], arrived.values[r.index]) for r in batch.rejected]
        self._refuse([(key, value) for key, value in unread if key is not None and key.decode(errors="replace") in self._live])
        return _part(batch, prepared, places) if places else None

    def _sample(self, new: Iterable[str]) -> None:
        limit = self._share * HASHES
        for entity in new:
            if xxh3_64_intdigest(entity, self._salt) < limit and entity not in self._ended:
                self._live.setdefault(entity, _Sampled())

    def _places(self, batch: Batch, prepared: Prepared, bad: set[int]) -> list[int]:
        """Places of the events whose audit begins or goes on."""
        live, entities = self._live, batch.entities
        found: dict[str, list[int]] = {}
        for i in [i for i, entity in enumerate(entities) if entity in live]:
            if i not in bad:
                found.setdefault(entities[i], []).append(i)
        return sorted(i for entity, places in found.items() if self._takes(entity, places, batch, prepared) for i in places)

    def _takes(self, entity: str, places: list[int], batch: Batch, prepared: Prepared) -> bool:
        """Whether an entity's events can be audited; if not, its audit ends before them."""
        sampled = self._live[entity]
        sampled.events += sum(prepared.matches[i] is not None for i in places)
        size = sum(len(batch.raws[i]) for i in places)
        no_room = self._taken + len(places) > RECORDS_MAX or self._bytes + size > BYTES_MAX
        self._full |= no_room
        if no_room or sampled.events > EVENTS_MAX or any(_is_ambiguous(sampled, batch, i) for i in places):
            self.end([entity])
            return False
        self._taken += len(places)
        self._bytes += size
        return True

    def _refuse(self, records: list[Record]) -> None:
        self._refused += records
        self._rejected["engine"] += len(records)
        self._taken += len(records)

    def end(self, entities: Iterable[str]) -> None:
        """End the audit of entities, where there is one: what comes of them from now on is not looked at in this round."""
        for entity in entities:
            if self._live.pop(entity, None) is not None:
                self._ended.add(entity)

    def counted(self, deltas: Deltas) -> None:
        """Take what the engine counted of a part."""
        add(self._counted, deltas)

    # How it is compared

    def check(self, now_us: int, watermark_us: int) -> Checked | None:
        """Compare, if it is time to; after every chunk, given the shard's watermark."""
        if self._compared_us is None:
            self._compared_us = now_us
        full = self._full or self._taken >= RECORDS_MAX
        due = full or now_us - self._compared_us >= CHECK_SECONDS * MICROS
        try:
            self._judge_refused(now_us)
            if not due or self._taken == self._compared:
                return None
            gaps = self._gaps(watermark_us)
        except Exception as error:  # whatever a record does to the recount: counting goes on
            gaps, full = [(1, f"the recount failed: {error!r}")], True
        found = self._checked(gaps)
        self._compared_us = now_us
        if full:
            self._salt += 1
            self._begin()
        return found

    def _checked(self, gaps: list[tuple[int, str]]) -> Checked:
        difference = sum(gap for gap, _ in gaps)
        told = () if self._told else tuple(words for _, words in gaps[:SHOWN_MAX])
        self._told |= bool(gaps)
        found = Checked(self._taken - self._compared, difference - self._difference, told)
        self._compared, self._difference = self._taken, difference
        return found

    def _judge_refused(self, now_us: int) -> None:
        """What the engine rejected has no bearing on anything else: it is recounted alone, by the clock it met, and not kept."""
        if self._refused:
            refused, self._refused = self._refused, []
            self._rejected["recount"] += recount(self._config(), self._plan.source.name, refused, now_us=now_us).fates["rejected"]

    def _gaps(self, watermark_us: int) -> list[tuple[int, str]]:
        """(how much, in words) of every count that differs."""
        found = recount(self._config(), self._plan.source.name, self._records, now_us=self._clock_us)
        expected, got = self._fates_of(found)
        gaps = [(abs(got[fate] - n), f"{fate}: counted {got[fate]}, recounted {n}") for fate, n in expected.items() if got[fate] != n]
        self._forget(watermark_us)
        for funnel in self._plan.funnels:
            gaps += _gaps(funnel, dict(_recounted(found, funnel, watermark_us)), dict(self._numbers(funnel)))
        return gaps

    def _fates_of(self, found: Recount) -> tuple[Counter[str], Counter[str]]:
        """Fates as recounted and as counted."""
        counted = Counter({"rejected": self._rejected["engine"]})
        for fate, count in self._counted.fates.items():
            counted[fate.partition(":")[0]] += count
        return found.fates + Counter(rejected=self._rejected["recount"]) | Counter(dict.fromkeys(found.fates, 0)), counted

    def _forget(self, watermark_us: int) -> None:
        """Drop the engine's buckets that are behind their retention."""
        oldest = {(f.definition, k.seconds): watermark_us // (k.seconds * MICROS) - k.count for f in self._plan.funnels for k in f.kept}
        self._counted.buckets = {key: cells for key, cells in self._counted.buckets.items() if key[2] >= oldest[key[:2]]}

    def _numbers(self, funnel: FunnelPlan) -> Iterator[tuple[Place, int]]:
        """What the engine counted in a funnel."""
        for name, count in self._counted.totals.get(funnel.definition, {}).items():
            if name[0] not in (RETRACTED, RETRACTED_AGES):
                yield (funnel.definition, *EVER, name), count
        for key, cells in self._counted.buckets.items():
            if key[0] == funnel.definition:
                yield from (((*key, name), count) for name, count in cells.items())

    def _config(self) -> Config:
        """The funnels with what the registries admitted, as far as the plan knows, as lists of allowed values."""
        return Config(sources=(self._plan.source,), funnels=tuple(map(_closed, self._plan.funnels)))
