"""The `faust` contender: the same funnel as a plain Faust agent, an event at a time.

What one writes after reading Faust's guide: JSON values, `async for event in stream`, journeys in
memory, an HINCRBY for every count that changes, in a pipeline that is sent every 500 events or 100
ms, offsets left to Faust. It counts what funnelwatch counts (users, events and value by stage,
bucket and channel) but has nothing to tell duplicates or late events by, and loses or doubles counts
when it is killed. With `--summed` it adds up what it sends in memory first, as an experienced hand
would: then nearly all of its time is Faust's own.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import faust
import uvloop
from redis.asyncio import Redis

from tests.bench.progress import Progress
from tests.bench.workload import CONVERSION_MS, EVENTS, REACHES, STAGES, USERS, VALUE

WIDTHS_MS = (10_000, 60_000, 3_600_000)
FLUSH_EVENTS = 500
FLUSH_SECONDS = 0.1
STAGE_OF = {event: stage for stage, event in enumerate(EVENTS)}

Chain = tuple[int, str]  # when it began, and its channel
Cell = tuple[int, int, str, int, str]  # width, bucket, family, stage, channel ("" for all)


class Journeys:
    """Where everybody is, and the changes that Redis does not have yet."""

    def __init__(self) -> None:
        self._chains: dict[str, list[Chain | None]] = {}
        self._latest: dict[tuple[str, int], Chain] = {}  # entity and stage: when last reached, and on which channel
        self.changes: list[tuple[Cell, int]] = []

    def take(self, event: dict[str, Any]) -> None:
        stage = STAGE_OF.get(event["event"])
        if stage is None:
            return
        entity, at_ms, properties = event["user_id"], event["timestamp"], event["properties"]
        chains = self._chains.setdefault(entity, [None] * len(STAGES))
        chain = chains[stage - 1] if stage else (at_ms, properties.get("channel") or "__none__")
        if chain is None or at_ms - chain[0] > CONVERSION_MS:
            return
        chains[stage] = chain
        self._reach(entity, stage, (at_ms, chain[1]), round(properties.get("amount", 0) * 1_000_000))

    def _reach(self, entity: str, stage: int, reach: Chain, value: int) -> None:
        before = self._latest.get((entity, stage))
        if before is not None:
            self._count(USERS, stage, before, -1)
        self._latest[entity, stage] = reach
        self._count(USERS, stage, reach, 1)
        self._count(REACHES, stage, reach, 1)
        if value:
            self._count(VALUE, stage, reach, value)

    def _count(self, family: str, stage: int, reach: Chain, by: int) -> None:
        for width in WIDTHS_MS:
            bucket = reach[0] // width
            self.changes.append(((width, bucket, family, stage, ""), by))
            self.changes.append(((width, bucket, family, stage, reach[1]), by))


def _summed(changes: list[tuple[Cell, int]]) -> list[tuple[Cell, int]]:
    sums: Counter[Cell] = Counter()
    for cell, by in changes:
        sums[cell] += by
    return [(cell, by) for cell, by in sums.items() if by]


def build_app(address: str, topic: str, group: str, redis: Redis, progress: Progress, *, summed: bool) -> faust.App:
    app = faust.App(
        group,
        broker=f"kafka://{address}",
        store="memory://",
        value_serializer="json",
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        web_enabled=False,
        datadir=Path.cwd() / "faust",
    )
    journeys = Journeys()
    taken = flushed = 0

    async def flush() -> None:
        nonlocal flushed
        if taken == flushed:
            return
        now, changes, journeys.changes = taken, journeys.changes, []
        flushed = now
        async with redis.pipeline(transaction=False) as pipe:
            for (width, bucket, family, stage, channel), by in _summed(changes) if summed else changes:
                pipe.hincrby(f"{group}:{width // 1000}:{bucket}", f"{family}:{stage}:{channel}", by)
            await pipe.execute()
        progress.set(now)

    async def count(events: Any) -> None:
        nonlocal taken
        async for event in events:
            journeys.take(event)
            taken += 1
            if taken - flushed >= FLUSH_EVENTS:
                await flush()

    app.agent(app.topic(topic))(count)
    app.timer(interval=FLUSH_SECONDS)(flush)
    return app


def main(address: str, topic: str, group: str, progress: str, redis_url: str, *flags: str) -> None:
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = build_app(address, topic, group, Redis.from_url(redis_url), Progress(Path(progress)), summed="--summed" in flags)
    app.Worker(loglevel="warn", quiet=True, redirect_stdouts=False, loop=loop).execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
