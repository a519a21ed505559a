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
  counts, the engine tells by what they match and bring, the recount by their bytes;
- with pseudonyms, before a second event of the same time: which of the two comes first, the engine may tell
  by the pseudonyms of their ids.

Which dimension values are admitted depends on when whose events arrive. The recount is given what the
plan learned of the registries as lists of allowed values, so it judges how values are used, not which
were let in. What late events took back, since ever, depends on arrival too, and is left out.

At most RECORDS_MAX records (or BYTES_MAX bytes) are kept. Entities join until a quarter of that is
there; the rest is for what they do next, for an audit of first events alone would see no conversion.
The round is over when there is no more room, or when all that was entered can convert no more: then
everything is compared a last time, and others join, of those that are new by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from xxhash import xxh3_64_intdigest

from schemas.duration import MICROS
from schemas.event import Batch
from streams.audit_gaps import Gap, closed, count_gaps, fate_gaps, forget
from streams.journeys import IDENTITY_BYTES_MAX
from streams.plan import Plan, Prepared
from streams.recount import recount
from streams.tail import TAIL_MAX
from streams.tally import Deltas
from streams.windows import Cells

EVENTS_MAX = TAIL_MAX  # an entity, those that are filtered too
RECORDS_MAX = 2_000  # a round
JOINING_SHARE = 0.25  # of these, until which entities join
BYTES_MAX = 4_000_000
CHECK_SECONDS = 60  # of the clock, between comparisons: one costs as much as some ten thousand events
SHOWN_MAX = 8  # counts named in a log line
HASHES = 2**64

Record = tuple[bytes | None, bytes | None]  # key, value


@dataclass(frozen=True)
class Arrived:
    """A chunk as it came: its records' keys and values, and the clock."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    now_us: int


@dataclass(frozen=True)
class Part:
    """The audited events of a chunk, and the chunk without them: there they match nothing, and count as filtered."""

    batch: Batch
    prepared: Prepared
    others: Prepared


@dataclass(frozen=True)
class Checked:
    """What a comparison found."""

    events: int  # that were not compared before
    more: int  # by which the difference is greater than it ever was in this round
    differing: tuple[str, ...]  # the first counts that differ, in words; only once


@dataclass
class _Sampled:
    """What is kept of an audited entity besides its records."""

    events: int = 0
    told: dict[tuple[int, str | bytes], bytes] = field(default_factory=dict)  # time and identity, as the engine has it -> bytes

    def is_unsure(self, batch: Batch, i: int, *, concealed: bool) -> bool:
        """Whether there was another event that only its bytes tell from this one, or only what is `concealed` from the engine."""
        raw = batch.raws[i]
        identity = "" if concealed else batch.ids[i] or raw[:IDENTITY_BYTES_MAX]
        return self.told.setdefault((batch.times[i], identity), raw) != raw


class Audit:
    """The audit of one shard under one claim."""

    def __init__(self, plan: Plan, share: float, *, concealed: bool = False) -> None:
        """`share` of the entities is audited, 0 to 1; `concealed`: they and the event_ids have pseudonyms."""
        self._plan = plan
        self._concealed = concealed
        self._limit = share * HASHES
        self._salt = 0
        self._clock_us = -1
        self._checked_us: int | None = None
        self._told = False
        self._followed_us = max((funnel.mature_after_us for funnel in plan.funnels), default=0)
        self._begin()

    def _begin(self) -> None:
        self._live: dict[str, _Sampled] = {}
        self._ended: set[str] = set()
        self._joinable = True
        self._joined_us: int | None = None  # the watermark when the last ones had
        self._records: list[Record] = []  # in order of arrival; not those that the engine rejected
        self._refused: list[Record] = []  # of this chunk, by the engine
        self._taken = self._bytes = 0  # of both
        self._full = False
        self._counted = Deltas()  # by the engine
        self._rejected = self._rejected_again = 0  # by the engine, and of these by the recount
        self._compared = 0  # records
        self._difference = 0  # the greatest that was found

    # What is audited

    def part(self, arrived: Arrived, batch: Batch, prepared: Prepared, new: Iterable[str]) -> Part | None:
        """Keep the records of audited entities, and say which events are theirs; None: no event is. `new`: entities without a state."""
        self._clock_us = max(self._clock_us, arrived.now_us)
        self._sample(new)
        if not self._live:
            return None
        bad = {r.index for r in prepared.bad}
        places = self._places(batch, prepared, bad)
        keys = _keys_of_good(arrived, batch)
        self._records += [(keys[i], batch.raws[i]) for i in places]
        self._refuse((keys[i], batch.raws[i]) for i in bad if batch.entities[i] in self._live)
        # Of a record that could not be read, the key is all that may say whose it is.
        unread = ((arrived.keys[r.index], arrived.values[r.index]) for r in batch.rejected)
        self._refuse((key, value) for key, value in unread if key is not None and key.decode(errors="replace") in self._live)
        return _part(batch, prepared, places) if places else None

    def counted(self, deltas: Deltas) -> None:
        """Take what the engine counted of a part."""
        add(self._counted, deltas)

    def end(self, entities: Iterable[str]) -> None:
        """End the audit of entities, where there is one: nobody looks in this round at what comes of them from now on."""
        for entity in entities:
            if self._live.pop(entity, None) is not None:
                self._ended.add(entity)

    def _sample(self, new: Iterable[str]) -> None:
        for entity in new:
            if entity in self._live:  # its state is gone
                self.end([entity])
            elif self._joinable and entity not in self._ended and xxh3_64_intdigest(entity.encode(), self._salt) < self._limit:
                self._live[entity] = _Sampled()

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
        sampled, size = self._live[entity], sum(len(batch.raws[i]) for i in places)
        room = 1 if sampled.events else JOINING_SHARE
        sampled.events += len(places)
        if sampled.events > EVENTS_MAX or any(
            prepared.matches[i] is not None and sampled.is_unsure(batch, i, concealed=self._concealed) for i in places
        ):
            self.end([entity])
            return False
        if self._taken + len(places) > room * RECORDS_MAX or self._bytes + size > room * BYTES_MAX:
            self._joinable = False
            self._full |= room == 1
            self.end([entity])
            return False
        self._taken += len(places)
        self._bytes += size
        return True

    def _refuse(self, records: Iterable[Record]) -> None:
        before = len(self._refused)
        self._refused += records
        self._rejected += len(self._refused) - before
        self._taken += len(self._refused) - before

    # How it is compared

    def check(self, now_us: int, watermark_us: int) -> Checked | None:
        """After every chunk, given the shard's watermark: compare, if it is time to."""
        if self._checked_us is None:
            self._checked_us = now_us
        over = self._is_over(watermark_us)
        try:
            self._judge_refused(now_us)
            if not over and now_us - self._checked_us < CHECK_SECONDS * MICROS:
                return None
            gaps = self._gaps(watermark_us) if self._taken > self._compared else []
        except Exception as error:  # whatever a record does to the recount, counting goes on
            gaps, over = [(1, f"the recount failed: {error!r}")], True
        self._checked_us = now_us
        found = self._checked(gaps) if self._taken > self._compared else None
        if over:
            self._salt += 1
            self._begin()
        return found

    def _is_over(self, watermark_us: int) -> bool:
        self._joinable &= self._taken < JOINING_SHARE * RECORDS_MAX
        if self._joinable:
            return False
        if self._joined_us is None:
            self._joined_us = watermark_us
        return self._full or not self._live or watermark_us - self._joined_us > self._followed_us

    def _checked(self, gaps: list[Gap]) -> Checked:
        more = max(0, sum(size for size, _ in gaps) - self._difference)
        words = () if self._told else tuple(words for _, words in gaps[:SHOWN_MAX])
        found = Checked(self._taken - self._compared, more, words)
        self._compared, self._difference = self._taken, self._difference + more
        self._told |= bool(gaps)
        return found

    def _judge_refused(self, now_us: int) -> None:
        """What the engine rejected has no bearing on anything else: it is recounted alone, by the clock that it met, and not kept."""
        refused, self._refused = self._refused, []
        if refused:
            self._rejected_again += recount(closed(self._plan), self._plan.source.name, refused, now_us=now_us).fates["rejected"]

    def _gaps(self, watermark_us: int) -> list[Gap]:
        """Every number that differs: by how much, and in words."""
        found = recount(closed(self._plan), self._plan.source.name, self._records, now_us=self._clock_us)
        forget(self._counted, self._plan, watermark_us)
        rejected = {"counted": self._rejected, "recounted": self._rejected_again}
        return [*fate_gaps(self._counted, found, **rejected), *count_gaps(self._counted, found, self._plan, watermark_us)]


def add(into: Deltas, more: Deltas) -> None:
    """Add up what two parts of a chunk change."""
    for key, cells in more.buckets.items():
        if not _add(into.buckets.setdefault(key, {}), cells):
            del into.buckets[key]
    for definition, cells in more.totals.items():
        _add(into.totals.setdefault(definition, {}), cells)
    _add(into.fates, more.fates)


def _add(into: Cells, cells: Cells) -> Cells:
    for name, count in cells.items():
        into[name] = into.get(name, 0) + count
        if not into[name]:
            del into[name]
    return into


def _keys_of_good(arrived: Arrived, batch: Batch) -> Sequence[bytes | None]:
    """The keys of the records that a batch has in its columns."""
    if not batch.rejected:
        return arrived.keys
    gone = {r.index for r in batch.rejected}
    return [key for i, key in enumerate(arrived.keys) if i not in gone]


def _part(batch: Batch, prepared: Prepared, places: list[int]) -> Part:
    matches, amounts = [*prepared.matches], prepared.amounts
    for i in places:
        matches[i] = None
    times, raws = [batch.times[i] for i in places], [batch.raws[i] for i in places]
    entities, names, ids = ([column[i] for i in places] for column in (batch.entities, batch.names, batch.ids))
    own = Prepared(
        [prepared.matches[i] for i in places],
        [prepared.values[i] for i in places],
        amounts={place: amounts[i] for place, i in enumerate(places) if i in amounts},
    )
    return Part(Batch(times, entities, names, ids, [], raws), own, replace(prepared, matches=matches))
