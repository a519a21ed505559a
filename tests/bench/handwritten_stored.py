"""The `handwritten-stored` contender: the hand-written loop for those who cannot do without what it had in memory.

Counts, journeys and positions change in one transaction of Redis, and whoever gets a partition goes on from there: a process that
dies loses nothing, and counts nothing twice. One that was only thought to be dead and comes back still does: there is no fence.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from redis.asyncio import Redis

from tests.bench.handwritten import consumer_of
from tests.bench.journey import COLLECT_AFTER, Journey, Sums, decode, journey, step
from tests.bench.progress import Progress

pack = msgspec.msgpack.Encoder().encode
unpack: Any = msgspec.msgpack.Decoder(list[Any]).decode


class Stored:
    """Where everybody is, as Redis has it, and what is kept of it in memory."""

    def __init__(self, redis: Redis, group: str) -> None:
        self._redis, self._group = redis, group
        self._of: dict[str, Journey] = {}

    async def positions(self, partitions: Collection[int]) -> dict[int, int]:
        """Where to read on; whoever had the partitions before may have moved everybody."""
        self._of.clear()
        found = await self._redis.hmget(f"{self._group}:positions", [str(p) for p in partitions]) if partitions else []
        return {partition: int(at) for partition, at in zip(partitions, found) if at is not None}

    async def take(self, fetched: Mapping[int, Sequence[bytes]], following: Mapping[int, int]) -> None:
        """Count what was fetched of each partition; after it comes the offset of `following`."""
        sums = Sums()
        async with self._redis.pipeline(transaction=True) as pipe:
            for partition, values in fetched.items():
                key, events = f"{self._group}:journeys:{partition}", [decode(value) for value in values]
                people = {event.user_id for event in events}
                await self._look_up(key, [name for name in people if name not in self._of])
                for event in events:
                    reach = step(self._of[event.user_id], event)
                    if reach is not None:
                        sums.add(reach)
                pipe.hset(key, mapping={name: pack(self._of[name]) for name in people})
                pipe.hset(f"{self._group}:positions", str(partition), str(following[partition]))
            for key, field, by in sums.take(self._group):
                pipe.hincrby(key, field, by)
            await pipe.execute()

    async def _look_up(self, key: str, missing: Sequence[str]) -> None:
        found = await self._redis.hmget(key, missing) if missing else []
        self._of.update({name: journey() if packed is None else unpack(packed) for name, packed in zip(missing, found)})


class Seeking(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Reads on from where Redis stands."""

    def __init__(self, consumer: AIOKafkaConsumer, stored: Stored) -> None:
        self._consumer, self._stored = consumer, stored

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """What was fetched is counted by then: one task does both."""

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        positions = await self._stored.positions([tp.partition for tp in assigned])
        for tp in assigned:
            if tp.partition in positions:
                self._consumer.seek(tp, positions[tp.partition])


async def main(address: str, topic: str, group: str, progress: str, redis_url: str) -> None:
    consumer = consumer_of(address, group)
    stored, done, said = Stored(Redis.from_url(redis_url), group), 0, Progress(Path(progress))
    consumer.subscribe([topic], listener=Seeking(consumer, stored))
    await consumer.start()
    while True:
        found = await consumer.getmany(timeout_ms=1000)
        fetched = {tp.partition: [record.value for record in records] for tp, records in found.items()}
        if fetched:
            await stored.take(fetched, {tp.partition: records[-1].offset + 1 for tp, records in found.items()})
        done += sum(map(len, fetched.values()))
        said.set(done)


if __name__ == "__main__":
    gc.set_threshold(*COLLECT_AFTER)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(*sys.argv[1:]))
