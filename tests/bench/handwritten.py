"""The `handwritten` contender: what an experienced hand writes without a framework.

An aiokafka `getmany` loop with the fetch settings of a funnelwatch worker, on uvloop; msgspec for the
events; journeys in memory; the changes of a whole fetch summed and sent in one pipeline (redis-py
with hiredis), then the offsets committed. It has nothing to tell duplicates by: what was sent and not
yet committed when it dies is counted twice, and the journeys are lost.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import uvloop
from aiokafka import AIOKafkaConsumer
from redis.asyncio import Redis

from tests.bench.bare import FETCH_BYTES, FETCH_WAIT_MS
from tests.bench.journey import COLLECT_AFTER, Journey, Sums, decode, journey, step
from tests.bench.progress import Progress


class Journeys:
    """Where everybody is, and the changes that Redis does not have yet."""

    def __init__(self) -> None:
        self._of: defaultdict[str, Journey] = defaultdict(journey)
        self.sums = Sums()

    def take(self, values: Iterable[bytes]) -> None:
        journeys, add = self._of, self.sums.add
        for value in values:
            event = decode(value)
            reach = step(journeys[event.user_id], event)
            if reach is not None:
                add(reach)


async def count(consumer: AIOKafkaConsumer, redis: Redis, group: str, progress: Progress) -> None:
    journeys = Journeys()
    done = 0
    while True:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            journeys.take(record.value for record in records)
            done += len(records)
        async with redis.pipeline(transaction=False) as pipe:
            for key, field, by in journeys.sums.take(group):
                pipe.hincrby(key, field, by)
            await pipe.execute()
        progress.set(done)
        await consumer.commit()


def consumer_of(address: str, group: str, *topics: str) -> AIOKafkaConsumer:
    """With the fetch settings of the limit; offsets are committed by hand, if at all."""
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=address,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )


async def main(address: str, topic: str, group: str, progress: str, redis_url: str) -> None:
    consumer = consumer_of(address, group, topic)
    await consumer.start()
    await count(consumer, Redis.from_url(redis_url), group, Progress(Path(progress)))


if __name__ == "__main__":
    gc.set_threshold(*COLLECT_AFTER)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(*sys.argv[1:]))
