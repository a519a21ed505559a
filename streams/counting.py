"""One shard's records to one write: decode, fold, tally. What the worker and replay share.

No I/O happens here: what must be looked up first (stored states, admitted dimension values) is
named by `Pending`, and the caller brings it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.duration import MICROS
from schemas.event import Batch, Rejected
from streams.audit import Arrived, Audit, Checked, add
from streams.journeys import Folding, Gathered, Gathering
from streams.ledger.contract import Write
from streams.plan import Plan, Prepared
from streams.pseudonym import Pseudonyms
from streams.resting import REST_SECONDS, rested
from streams.tail import Reached
from streams.tally import Deltas, tally
from streams.turns import Steps, at_once
from streams.values import Registry

SLICE_RECORDS, SLICE_LEAST = 512, 64  # records of a step: of one funnel, and of fifty or more, where each is dearer


@dataclass
class Pending:
    """A decoded chunk, and what has to be looked up before it can be folded."""

    start: int
    next: int
    batch: Batch
    prepared: Prepared
    gathered: Gathered
    missing: list[str]  # entities whose states are not held
    as_of: int  # how many chunks had been folded when it was gathered
    upstream: Mapping[int, int]
    records: int
    arrived: Arrived
    own_ids: Sequence[str] = ()  # with pseudonyms: event_ids as they came
    former: Mapping[str, str] = field(default_factory=dict)  # of the missing, where they may be stored under a former pseudonym

    def columns(self) -> list[list[Any]]:
        """All that it holds by event, for whoever empties it in steps, when it is folded and not needed any more."""
        batch, prepared, gathered = self.batch, self.prepared, self.gathered
        places: list[Any] = list(gathered.places.values())
        gathered.places.clear()
        return [batch.times, batch.entities, batch.names, batch.ids, batch.records, batch.raws,
                prepared.matches, prepared.values, gathered.held, places]  # fmt: skip

    @property
    def unknown(self) -> Mapping[Registry, set[str]]:
        """Dimension values that the registries must be asked about first."""
        return self.prepared.unknown


@dataclass
class Counted:
    """A folded chunk: the write to apply, and the records to set aside."""

    write: Write
    rejected: list[Rejected]
    records: int
    checked: Checked | None = None  # what the audit found, when it compared


class ShardCount:
    """The states of one shard, held in memory, and the fold of its chunks."""

    def __init__(self, plan: Plan, watermark_us: int = -1, audit: Audit | None = None, names: Pseudonyms | None = None) -> None:
        self.plan = plan
        self.audit = audit
        self.names = names
        self._slice = max(min(SLICE_LEAST, SLICE_RECORDS), SLICE_RECORDS // (1 + len(plan.funnels) // 8))
        self._moving: dict[str, str] = {}  # held, but stored under a former name until their next write
        self.states: dict[str, bytes] = {}  # packed, as they are stored
        self.watermark_us = watermark_us
        self.sweep = Sweep(plan.state_seconds)
        self._folded = 0  # chunks
        self._recent: Mapping[str, bytes] = {}  # states that the last of them changed

    def decoding(
        self,
        start: int,
        following: int,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None],
        now_us: int,
        upstream: Mapping[int, int] | None = None,
        *,
        whole: bool = False,
    ) -> Steps[Pending]:
        """Decode a chunk in steps, and say what its fold needs. `whole`: keep every decoded record with it."""
        skew_us = self.plan.source.max_skew.micros
        found = None if whole else (yield from self._in_slices(values, keys, now_us, skew_us))
        if found is None:
            batch = self.plan.decoder.decode(values, keys, now_us, skew_us)
            found = batch, self.plan.prepare(batch)
        batch, prepared = found
        own_ids, entities = batch.ids, batch.entities
        if self.names is not None:
            self.names.conceal(batch, prepared.matches)
        gathering = Gathering(batch, prepared, self.states)
        while gathering.some(self._slice):
            yield
        gathered = gathering.whole()
        return Pending(
            start,
            following,
            batch,
            prepared,
            gathered,
            gathered.missing,
            self._folded,
            upstream or {},
            len(values),
            Arrived(keys, values, now_us),
            own_ids,
            {} if self.names is None else self.names.former(entities, batch.entities, gathered.missing),
        )

    decode = at_once(decoding)

    def _in_slices(
        self, values: Sequence[bytes | None], keys: Sequence[bytes | None], now_us: int, skew_us: int
    ) -> Steps[tuple[Batch, Prepared] | None]:
        """Decode slice by slice, so that records are gone again while they are near; they are not kept.

        None when the registries have to be asked first, since the records are needed again then.
        """
        batch, prepared = Batch([], [], [], [], [], []), Prepared([])
        for at in range(0, len(values), self._slice):
            part = self.plan.decoder.decode(values[at : at + self._slice], keys[at : at + self._slice], now_us, skew_us)
            looked_at = self.plan.prepare(part)
            if looked_at.unknown:
                return None
            prepared.extend(looked_at, len(batch))
            batch.extend(part, at)
            yield
        return batch, prepared

    def learn(self, pending: Pending, admitted: Mapping[Registry, Mapping[str, bool]]) -> None:
        """Take in what the registries said of `pending.unknown`."""
        self.plan.learn(admitted)
        if pending.unknown:
            pending.prepared = self.plan.prepare(pending.batch)

    def hold(self, entities: Sequence[str], stored: Sequence[bytes | None]) -> None:
        """Take stored states into memory; an entity without one is new."""
        for entity, packed in zip(entities, stored):
            if packed is not None:
                self.states.setdefault(entity, packed)

    def hold_former(self, found: Mapping[str, tuple[str, bytes]]) -> None:
        """Take states into memory that are stored under former names: entity -> (name, state). They move when they are next written."""
        for entity, (name, packed) in found.items():
            if entity not in self.states:
                self.states[entity], self._moving[entity] = packed if self.names is None else self.names.carried(packed), name

    def folding(self, pending: Pending, trace: Reached | None = None) -> Steps[Counted]:
        """Fold a chunk whose needs were met, in steps; every reach is added to `trace` where one is given.

        Nothing of it is to be seen before the last step; the states must not change meanwhile.
        """
        if self.names is not None:
            self.names.recognise(pending.batch, pending.own_ids, pending.gathered.places, self.states)
        if self.audit is not None:
            return (yield from self._audited(self.audit, pending, trace))
        return (yield from self._fold(pending, pending.prepared, trace))

    fold = at_once(folding)

    def _fold(self, pending: Pending, prepared: Prepared, trace: Reached | None) -> Steps[Counted]:
        # A chunk may be decoded before the one ahead of it is folded; what was gathered longer ago is gathered anew.
        behind = self._folded - pending.as_of
        gathered = pending.gathered if behind <= 1 and prepared is pending.prepared else None
        folding = Folding(self.plan, pending.batch, prepared, self.states, trace, gathered, self._recent if gathered and behind else {})
        while folding.some(self._slice):
            yield
        result = folding.out
        rejected = pending.batch.rejected + _places_to_indexes(pending.batch, prepared.bad)
        deltas = yield from tally(self.plan, result, self.watermark_us, Counter(r.reason for r in rejected))
        self.watermark_us = deltas.watermark_us
        self.states.update(result.touched)
        self._folded += 1
        self._recent = result.touched
        moved = [self._moving.pop(entity) for entity in self._moving.keys() & result.touched.keys()] if self._moving else []
        write = Write(
            pending.start, pending.next, deltas, result.touched, pending.upstream, began_us=pending.batch.began_us, forgotten=moved
        )
        return Counted(write, rejected, pending.records)

    def _audited(self, audit: Audit, pending: Pending, trace: Reached | None) -> Steps[Counted]:
        """Fold the audited events of a chunk by themselves, and add them to what the others come to."""
        new = [entity for entity in pending.missing if entity not in self.states]
        part = audit.part(pending.arrived, pending.batch, pending.prepared, new)
        counted = yield from self._fold(pending, pending.prepared if part is None else part.others, trace)
        if part is not None:
            apart = Folding(self.plan, part.batch, part.prepared, self.states, trace).whole()
            deltas = at_once(tally)(self.plan, apart, self.watermark_us, {})  # the others' states are there already: no pause before these
            audit.counted(deltas)
            add(counted.write.deltas, deltas)
            add(counted.write.deltas, Deltas(fates={"filtered": -len(part.batch)}))  # as which the others' fold took them
            self.states.update(apart.touched)
            counted.write = replace(counted.write, states={**counted.write.states, **apart.touched})
            self._recent = counted.write.states
        counted.checked = audit.check(pending.arrived.now_us, self.watermark_us)
        return counted

    def rest(self, stored: Iterable[tuple[str, bytes]]) -> tuple[dict[str, bytes], list[str]]:
        """Bring stored states to rest as far as the watermark allows: those that changed, and entities that go."""
        resting: dict[str, bytes] = {}
        forgotten = []
        for name, was in stored:
            entity, packed = self._renamed(name, was)
            now = self.states.get(entity, packed)
            found = rested(self.plan, now, self.watermark_us)
            if found is None:
                self.states.pop(entity, None)
                forgotten.append(name)
            elif found != packed or entity != name:
                resting[entity] = found
                if entity in self.states:
                    self.states[entity] = found
                if entity != name:
                    self._moving.pop(entity, None)
                    forgotten.append(name)
        if self.audit is not None:
            self.audit.end([*resting, *forgotten])
        return resting, forgotten

    def _renamed(self, name: str, packed: bytes) -> tuple[str, bytes]:
        """A stored state as it is kept from now on, and under which name."""
        entity = None if self.names is None else self.names.renamed(name)
        return (name, packed) if entity is None or self.names is None else (entity, self.names.carried(packed))


class Sweep:
    """When all stored states are looked through for those that may rest or go: again and again, in event time."""

    def __init__(self, state_seconds: int) -> None:
        self._every_us = min(86_400, max(REST_SECONDS, state_seconds // 4)) * MICROS
        self._begun_us = -1
        self.cursor = 0

    def is_due(self, watermark_us: int) -> bool:
        """Whether there is something to look through now."""
        return watermark_us >= 0 and (self.cursor != 0 or self._begun_us < 0 or watermark_us - self._begun_us >= self._every_us)

    def went_on(self, cursor: int, watermark_us: int) -> None:
        """Some more were looked through; `cursor` as the ledger gave it."""
        if self.cursor == 0:
            self._begun_us = watermark_us
        self.cursor = cursor


def _places_to_indexes(batch: Batch, bad: list[Rejected]) -> list[Rejected]:
    """Places among the good records to indexes among all records of the chunk."""
    if not bad:
        return []
    gone = {r.index for r in batch.rejected}
    indexes = [i for i in range(len(batch) + len(gone)) if i not in gone]
    return [Rejected(indexes[r.index], r.reason, r.detail) for r in bad]
