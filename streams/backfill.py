"""A definition counted from the topic's beginning up to where its shard stands, and put beside the others.

The worker that holds the shard does it, while it claims it: nothing is counted meanwhile, so what is
read back ends exactly where counting goes on. The records are folded for this one funnel alone; then
its old counts go, its cells are put into the stored states, and its new counts are written, each step
under the claim. Until the last one the request stands: whatever comes between, it is done again.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import structlog

from schemas.config import Config, Source
from schemas.errors import StoreUnavailable
from streams.counting import ShardCount
from streams.ledger.contract import Claim, Ledger, Ok, Outcome, Write
from streams.plan import Plan
from streams.resting import awake, with_block
from streams.tail import unpack_blocks
from streams.tally import BucketKey, Deltas
from streams.windows import Cells

log = structlog.get_logger()
STATES_AT_ONCE = 5_000
BUCKETS_AT_ONCE = 500
T = TypeVar("T")

Records = tuple[Sequence[bytes | None], Sequence[bytes | None]]  # values and keys
ReadBack = Callable[[int, int], AsyncIterator[Records]]  # from the first offset to before the second of a partition


def plan_of(config: Config, source: Source, definition: int) -> Plan | None:
    """The plan of one funnel alone; None when today's config has no such definition."""
    found = next((f.funnel for f in Plan(config, source).funnels if f.definition == definition), None)
    if found is None:
        return None
    return Plan(config.model_copy(update={"funnels": (found,)}), source)


async def backfill(ledger: Ledger, claim: Claim, plan: Plan, first: int, read_back: ReadBack) -> None:
    """Count the plan's one funnel over records `first` to `claim.next`. Raises StoreUnavailable."""
    definition = plan.funnels[0].definition
    began = time.monotonic()
    log.info("backfill begins", shard=claim.shard, funnel=plan.funnels[0].funnel.name, records=claim.next - first)
    count, buckets, totals = await _count(ledger, claim, plan, first, read_back)
    _sure(claim, await ledger.drop(claim, definition))
    for entities in _slices(list(count.states), STATES_AT_ONCE):
        stored = await ledger.states(claim.shard, entities)
        merged = {}
        for entity, packed in zip(entities, stored):
            newest, blocks, *_ = awake(count.states[entity])
            merged[entity] = with_block(packed, definition, unpack_blocks(blocks).get(definition), newest)
        await _write(ledger, claim, {}, {}, merged)
    for keys in _slices(list(buckets), BUCKETS_AT_ONCE):
        await _write(ledger, claim, {key: buckets[key] for key in keys}, {}, {})
    await _write(ledger, claim, {}, {definition: totals}, {})
    _sure(claim, await ledger.backfilled(claim, definition, -1))
    log.info("backfill done", shard=claim.shard, entities=len(count.states), seconds=round(time.monotonic() - began, 1))


async def _count(
    ledger: Ledger, claim: Claim, plan: Plan, first: int, read_back: ReadBack
) -> tuple[ShardCount, dict[BucketKey, Cells], Cells]:
    source = claim.shard.rpartition(":")[0]
    count, totals = ShardCount(plan), Cells()
    buckets: dict[BucketKey, Cells] = {}
    async for values, keys in read_back(first, claim.next):
        pending = count.decode(0, len(values), values, keys, time.time_ns() // 1000)
        while pending.unknown:
            count.learn(pending, {r: await ledger.admit(source, r, sorted(texts)) for r, texts in pending.unknown.items()})
        deltas = count.fold(pending).write.deltas
        for key, cells in deltas.buckets.items():
            _add(buckets.setdefault(key, {}), cells)
        for cells in deltas.totals.values():
            _add(totals, cells)
        for key in deltas.expired:
            buckets.pop(key, None)
    return count, buckets, totals


async def _write(
    ledger: Ledger, claim: Claim, buckets: dict[BucketKey, Cells], totals: dict[int, Cells], states: Mapping[str, bytes]
) -> None:
    deltas = Deltas(buckets, totals, watermark_us=claim.watermark_us)
    _sure(claim, await ledger.apply(claim, Write(claim.next, claim.next, deltas, states)))


def _sure(claim: Claim, outcome: Outcome) -> None:
    if not isinstance(outcome, Ok):
        raise StoreUnavailable(f"{claim.shard} changed hands during a backfill ({outcome}); its next holder does it again")


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    stream = iter(items)
    while part := list(islice(stream, size)):
        yield part


def _add(into: Cells, cells: Mapping[str, int]) -> None:
    for name, count in cells.items():
        into[name] = into.get(name, 0) + count


async def read_partition(brokers: str, topic: str, partition: int, first: int, end: int) -> AsyncIterator[Any]:
    """Records `first` to before `end` of a partition, in batches, by a consumer of its own without a group."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    at = TopicPartition(topic, partition)
    async with AIOKafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False, max_partition_fetch_bytes=2_097_152) as consumer:
        consumer.assign([at])
        consumer.seek(at, first)
        while await consumer.position(at) < end:
            for found in (await consumer.getmany(at, timeout_ms=1000)).values():
                records = [record for record in found if record.offset < end]
                if records:
                    yield records
