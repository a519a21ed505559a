"""The ledger in memory: for replay and for tests. The same contract, and it forgets at the end."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.errors import OtherPseudonyms, PartitionsChanged
from streams.ledger.contract import UNKEYED, Changes, Claim, Fenced, Kept, Mismatch, NoState, Ok, Outcome, Position, Snapshot, Write
from streams.tally import BucketKey
from streams.values import Registry
from streams.windows import Cells


@dataclass
class _Shard:
    next: int
    generation: str = field(default_factory=lambda: secrets.token_hex(4))
    epoch: int = 0
    token: str = ""
    watermark_us: int = -1
    sequence: int = 0
    gone: int = 0
    whole_us: int = -1
    gap: bool = False
    fates: Cells = field(default_factory=dict)
    upstream: dict[int, int] = field(default_factory=dict)
    states: dict[str, bytes] = field(default_factory=dict)
    buckets: dict[BucketKey, Cells] = field(default_factory=dict)
    totals: dict[int, Cells] = field(default_factory=dict)
    since: dict[int, int] = field(default_factory=dict)
    key: str = ""  # fingerprint
    backfills: set[int] = field(default_factory=set)
    scanned: list[str] = field(default_factory=list)  # entities of the scan at hand
    journal: list[tuple[dict[BucketKey, Cells], dict[int, Cells]]] = field(default_factory=list)

    def position(self) -> Position:
        return Position(
            self.next,
            self.watermark_us,
            dict(self.fates),
            self.gone,
            self.generation,
            self.sequence,
            dict(self.since),
            tuple(sorted(self.backfills)),
            self.whole_us,
            self.gap,
        )


class MemoryLedger:
    """See `contract.Ledger`."""

    def __init__(self, *, journal_length: int = 256) -> None:
        self._shards: dict[str, _Shard] = {}
        self._values: dict[tuple[str, str], set[str]] = {}
        self._partitions: dict[str, int] = {}
        self._ends: dict[str, dict[int, int]] = {}
        self._journal_length = journal_length

    async def claim(self, shard: str, partitions: int, start: int, definitions: Sequence[int] = (), keys: Sequence[str] = UNKEYED) -> Claim:
        source = shard.rpartition(":")[0]
        stored = self._partitions.setdefault(source, partitions)
        if stored != partitions:
            raise PartitionsChanged(source, stored, partitions)
        held = self._shards.setdefault(shard, _Shard(start, key=keys[0], gap=start > 0))
        if held.key not in keys:
            raise OtherPseudonyms(shard, held.key, keys)
        held.key = keys[0]
        held.epoch += 1
        held.token = secrets.token_hex(8)
        held.since = {definition: held.since.get(definition, held.watermark_us) for definition in definitions}
        asked = tuple(sorted(held.backfills))
        return Claim(shard, held.epoch, held.token, held.next, held.watermark_us, dict(held.upstream), backfills=asked)

    async def apply(self, claim: Claim, write: Write) -> Outcome:
        held = self._held(claim)
        if not isinstance(held, _Shard):
            return held
        if held.next != write.start:
            return Mismatch(held.next)
        self._write(held, write)
        return Ok()

    def _held(self, claim: Claim) -> _Shard | NoState | Fenced:
        held = self._shards.get(claim.shard)
        if held is None:
            return NoState()
        return held if (held.epoch, held.token) == (claim.epoch, claim.token) else Fenced(held.epoch)

    def _write(self, held: _Shard, write: Write) -> None:
        deltas = write.deltas
        held.states.update(write.states)
        for entity in write.forgotten:
            held.states.pop(entity, None)
        for bucket, cells in deltas.buckets.items():
            _add(held.buckets.setdefault(bucket, {}), cells)
        for definition, cells in deltas.totals.items():
            _add(held.totals.setdefault(definition, {}), cells)
        for bucket in deltas.expired:
            held.buckets.pop(bucket, None)
        _add(held.fates, deltas.fates)
        held.upstream.update(write.upstream)
        held.gone += write.gone
        if write.gone:
            held.gap = True
        elif held.gap and write.began_us >= 0:
            held.whole_us, held.gap = write.began_us, False
        held.next, held.watermark_us = write.next, deltas.watermark_us
        held.sequence += 1
        if self._journal_length:
            held.journal.append((deltas.buckets, deltas.totals))
            del held.journal[: -self._journal_length]

    async def states(self, shard: str, entities: Sequence[str]) -> list[bytes | None]:
        held = self._shards.get(shard)
        return [held.states.get(entity) if held else None for entity in entities]

    async def scan(self, shard: str, cursor: int, count: int) -> tuple[int, list[tuple[str, bytes]]]:
        held = self._shards.get(shard)
        if held is None:
            return 0, []
        if cursor == 0:
            held.scanned = list(held.states)
        found = [(name, held.states[name]) for name in held.scanned[cursor : cursor + count] if name in held.states]
        return (cursor + count if cursor + count < len(held.scanned) else 0), found

    async def ask_backfill(self, shard: str, definition: int) -> bool:
        held = self._shards.get(shard)
        if held is not None:
            held.backfills.add(definition)
        return held is not None

    async def drop(self, claim: Claim, definition: int) -> Outcome:
        held = self._held(claim)
        if not isinstance(held, _Shard):
            return held
        held.buckets = {key: cells for key, cells in held.buckets.items() if key[0] != definition}
        held.totals.pop(definition, None)
        if definition in held.since:
            held.since[definition] = held.watermark_us
        held.generation = secrets.token_hex(4)
        return Ok()

    async def backfilled(self, claim: Claim, definition: int, since_us: int) -> Outcome:
        held = self._held(claim)
        if not isinstance(held, _Shard):
            return held
        held.since[definition] = since_us
        held.backfills.discard(definition)
        return Ok()

    async def admit(self, source: str, registry: Registry, texts: Sequence[str]) -> dict[str, bool]:
        known = self._values.setdefault((source, registry.name), set())
        for text in texts:
            if len(known) < registry.max_values:
                known.add(text)
        return {text: text in known for text in texts}

    async def reset(self, shard: str) -> None:
        self._shards.pop(shard, None)

    async def shards(self, source: str) -> list[str]:
        return sorted(name for name in self._shards if name.rpartition(":")[0] == source)

    async def snapshot(self, shard: str, kept: Kept) -> Snapshot | None:
        held = self._shards.get(shard)
        if held is None:
            return None
        counts = {definition for definition, _, _ in kept}
        widths = {(definition, width) for definition, width, _ in kept}
        buckets = {key: dict(cells) for key, cells in held.buckets.items() if key[:2] in widths}
        totals = {key: dict(cells) for key, cells in held.totals.items() if key in counts}
        return Snapshot(held.position(), buckets, totals)

    async def changes(self, shard: str, generation: str, since: int) -> Changes | None:
        held = self._shards.get(shard)
        if held is None:
            return None
        new = held.sequence - since
        if held.generation != generation or not 0 <= new <= len(held.journal):
            return Changes(held.position(), None)
        return Changes(held.position(), held.journal[len(held.journal) - new :])

    async def publish_ends(self, source: str, ends: Mapping[int, int]) -> None:
        self._ends.setdefault(source, {}).update(ends)

    async def ends(self, source: str) -> dict[int, int]:
        return dict(self._ends.get(source, {}))

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None


def _add(into: Cells, cells: Cells) -> None:
    for name, count in cells.items():
        into[name] = into.get(name, 0) + count
