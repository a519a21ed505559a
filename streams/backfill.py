"""Definitions counted from the topic's beginning up to where their shard stands, and put beside the others.

The worker that holds the shard does it, while it claims it: nothing is counted meanwhile, so what is
read back ends exactly where counting goes on. All funnels of the source are folded once more, since
which events are late or duplicates depends on all of them; of what they come to only the asked
definitions are kept: their old counts go, their cells are put into the stored states, and their new
counts are written, each step under the claim. Until the last one the request stands: whatever comes
between, it is done again.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import structlog

from schemas.duration import MICROS
from schemas.errors import StoreUnavailable
from streams.brokers import Where, options_of
from streams.counting import ShardCount, Sweep
from streams.ledger.contract import Claim, Ledger, Ok, Outcome, Write
from streams.plan import Plan
from streams.pseudonym import Pseudonyms
from streams.resting import awake
from streams.seam import joined
from streams.tail import unpack_blocks
from streams.tally import BucketKey, Deltas
from streams.windows import Cells

log = structlog.get_logger()
STATES_AT_ONCE = 1_000
BUCKETS_AT_ONCE = 500
SILENCE_SECONDS_MAX = 30.0  # of a broker that should have records
T = TypeVar("T")

Records = tuple[Sequence[bytes | None], Sequence[bytes | None]]  # values and keys
ReadBack = Callable[[int, int], AsyncIterator[Records]]  # from the first offset to before the second of a partition


@dataclass
class Recount:
    """What the records of a shard come to: states of all funnels, counts of the asked definitions."""

    count: ShardCount
    former: dict[str, str] = field(default_factory=dict)  # entity -> the name that its state may still be stored under
    buckets: dict[BucketKey, Cells] = field(default_factory=dict)
    totals: dict[int, Cells] = field(default_factory=dict)
    began_us: int = -1  # time of the first event

    def add(self, deltas: Deltas, definitions: Collection[int]) -> None:
        for key, cells in deltas.buckets.items():
            if key[0] in definitions:
                _add(self.buckets.setdefault(key, {}), cells)
        for definition, cells in deltas.totals.items():
            if definition in definitions:
                _add(self.totals.setdefault(definition, {}), cells)
        for key in deltas.expired:
            self.buckets.pop(key, None)


async def backfill(ledger: Ledger, claim: Claim, plan: Plan, first: int, read_back: ReadBack, names: Pseudonyms | None = None) -> None:
    """Count what the claim says is asked for, as far as the plan has it, over records `first` to `claim.next`.

    Raises StoreUnavailable; then it is to be done again, under a new claim.
    """
    named = {funnel.definition: funnel.funnel.name for funnel in plan.funnels if funnel.definition in claim.backfills}
    if not named:
        return  # of another worker's config
    began = time.monotonic()
    log.info("backfill begins", shard=claim.shard, funnels=", ".join(named.values()), records=claim.next - first)
    found = Recount(ShardCount(plan, names=names))
    await _recount(ledger, claim, found, named, first, read_back)
    for definition in named:
        _sure(claim, await ledger.drop(claim, definition))
    await _put_states(ledger, claim, found, named)
    await _put_counts(ledger, claim, found)
    for definition in named:
        # What left the topic before is not in these counts.
        _sure(claim, await ledger.backfilled(claim, definition, found.began_us if first else -1))
    log.info("backfill done", shard=claim.shard, entities=len(found.count.states), seconds=round(time.monotonic() - began, 1))


async def _recount(ledger: Ledger, claim: Claim, found: Recount, definitions: Collection[int], first: int, read_back: ReadBack) -> None:
    source = claim.shard.rpartition(":")[0]
    count, sweep = found.count, Sweep(found.count.plan.state_seconds)
    async for values, keys in read_back(first, claim.next):
        pending = count.decode(0, len(values), values, keys, time.time_ns() // 1000)
        while pending.unknown:
            count.learn(pending, {r: await ledger.admit(source, r, sorted(texts)) for r, texts in pending.unknown.items()})
        found.former.update(pending.former)
        if found.began_us < 0:
            found.began_us = pending.batch.began_us
        found.add(count.fold(pending).write.deltas, definitions)
        if sweep.is_due(count.watermark_us):  # so that memory holds no more than the ledger would
            count.rest([*count.states.items()])
            sweep.went_on(0, count.watermark_us)


async def _put_states(ledger: Ledger, claim: Claim, found: Recount, definitions: Collection[int]) -> None:
    """Put the definitions' cells into the states of all who have some; take them out where the recount has none."""
    count = found.count
    await _carry_over(ledger, claim, count, found.former)
    recounted = {entity for entity, packed in count.states.items() if _has(packed, definitions)}
    cursor = -1
    while cursor:
        cursor, page = await ledger.scan(claim.shard, max(cursor, 0), STATES_AT_ONCE)
        stale = {entity: packed for entity, packed in page if entity not in recounted and _has(packed, definitions)}
        await _put(ledger, claim, count, definitions, stale)
    for entities in _slices(recounted, STATES_AT_ONCE):
        await _put(ledger, claim, count, definitions, dict(zip(entities, await ledger.states(claim.shard, entities))))


async def _carry_over(ledger: Ledger, claim: Claim, count: ShardCount, former: Mapping[str, str]) -> None:
    """Put states that are stored under former names under those of today."""
    for entities in _slices(former, STATES_AT_ONCE):
        today, before = await ledger.states(claim.shard, entities), await ledger.states(claim.shard, [former[e] for e in entities])
        moved = {e: old for e, new, old in zip(entities, today, before) if new is None and old is not None}
        if moved and count.names is not None:
            moved = {entity: count.names.carried(packed) for entity, packed in moved.items()}
            await _write(ledger, claim, Deltas(), moved, [former[entity] for entity in moved])


def _has(packed: bytes, definitions: Collection[int]) -> bool:
    return not unpack_blocks(awake(packed)[1]).keys().isdisjoint(definitions)


async def _put(ledger: Ledger, claim: Claim, count: ShardCount, definitions: Collection[int], stored: Mapping[str, bytes | None]) -> None:
    states, forgotten = {}, []
    for entity, packed in stored.items():
        found = joined(count.plan, packed, count.states.get(entity), definitions, claim.watermark_us)
        if found is not None:
            states[entity] = found
        elif packed is not None:
            forgotten.append(entity)
    if states or forgotten:
        await _write(ledger, claim, Deltas(), states, forgotten)


async def _put_counts(ledger: Ledger, claim: Claim, found: Recount) -> None:
    plan, watermark_us = found.count.plan, claim.watermark_us
    oldest = {(f.definition, k.seconds): watermark_us // (k.seconds * MICROS) - k.count for f in plan.funnels for k in f.kept}
    kept = [key for key in found.buckets if key[2] >= oldest[key[:2]]]
    for keys in _slices(kept, BUCKETS_AT_ONCE):
        await _write(ledger, claim, Deltas({key: found.buckets[key] for key in keys}))
    await _write(ledger, claim, Deltas(totals=found.totals))


async def _write(
    ledger: Ledger, claim: Claim, deltas: Deltas, states: Mapping[str, bytes] | None = None, forgotten: Sequence[str] = ()
) -> None:
    deltas.watermark_us = claim.watermark_us
    _sure(claim, await ledger.apply(claim, Write(claim.next, claim.next, deltas, states or {}, forgotten=forgotten)))


def _sure(claim: Claim, outcome: Outcome) -> None:
    if not isinstance(outcome, Ok):
        raise StoreUnavailable(f"{claim.shard} changed hands during a backfill ({outcome}); its next holder does it again")


def _slices(items: Iterable[T], size: int) -> Iterator[list[T]]:
    stream = iter(items)
    while part := list(islice(stream, size)):
        yield part


def _add(into: Cells, cells: Mapping[str, int]) -> None:
    for name, count in cells.items():
        into[name] = into.get(name, 0) + count


async def read_partition(brokers: Where, topic: str, partition: int, first: int, end: int) -> AsyncIterator[Any]:
    """Records `first` to before `end` of a partition, in batches, by a consumer of its own without a group.

    Raises TimeoutError when the broker has nothing to say for long, and aiokafka's errors.
    """
    from aiokafka import AIOKafkaConsumer, TopicPartition

    at = TopicPartition(topic, partition)
    # "none": records that left the topic since `first` was its beginning are an error, not a reason to go on elsewhere.
    options: dict[str, Any] = {"enable_auto_commit": False, "auto_offset_reset": "none", "max_partition_fetch_bytes": 2_097_152}
    async with AIOKafkaConsumer(**options_of(brokers), **options) as consumer:
        consumer.assign([at])
        consumer.seek(at, first)
        heard = time.monotonic()
        while (position := await consumer.position(at)) < end:
            if time.monotonic() - heard > SILENCE_SECONDS_MAX:
                raise TimeoutError(f"{topic}[{partition}]: no records from offset {position} on, though the log ends at {end} or later")
            for found in (await consumer.getmany(at, timeout_ms=1000)).values():
                heard = time.monotonic()
                records = [record for record in found if record.offset < end]
                if records:
                    yield records
