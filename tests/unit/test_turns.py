"""Whoever waits on the worker's loop comes in between: while counts are read, and between two lanes' chunks."""

from __future__ import annotations

import asyncio

from schemas.config import Config
from streams.custody import Custodian
from streams.ledger.contract import Write
from streams.ledger.memory import MemoryLedger
from streams.metrics import WorkerMetrics
from streams.reader import ADDED_AT_ONCE, Reader
from streams.tally import Deltas
from tests.parts.loop import turns_while

BUCKETS = 20 * ADDED_AT_ONCE


async def test_a_tick_that_reads_many_buckets_lets_others_in() -> None:
    stages = [{"name": "view", "event": "v"}, {"name": "pay", "event": "p"}]
    funnel = {"name": "f", "source": "web", "conversion_window": "60s", "windows": ["1h"], "stages": stages}
    config = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": [funnel]})
    ledger = MemoryLedger()
    reader = Reader(config, ledger, lambda: 10**18)
    claim = await ledger.claim("web:0", 1, 0)
    await reader.tick()
    definition = reader.counts()["f"].plan.definition
    buckets = {(definition, 60, number): {"u0": 1} for number in range(BUCKETS)}
    await ledger.apply(claim, Write(0, 1, Deltas(buckets, watermark_us=BUCKETS * 60_000_000)))
    assert await turns_while(reader.tick) >= BUCKETS // ADDED_AT_ONCE


async def test_of_the_lanes_one_at_a_time_holds_up_the_loop_and_others_come_in_between() -> None:
    custodian = Custodian(MemoryLedger(), {}, WorkerMetrics("1"), session_seconds=1.0)
    chunks = 0

    async def lane() -> None:
        nonlocal chunks
        for _ in range(5):
            async with custodian.turn():
                chunks += 1

    async def lanes() -> None:
        await asyncio.gather(*[lane() for _ in range(4)])

    assert await turns_while(lanes) >= chunks == 20
