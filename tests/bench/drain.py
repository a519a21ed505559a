"""A backlog drained by so many workers of one group, from a topic of so many partitions.

A worker that came first would drain it alone. So the workers start on the empty topic, share its partitions out, and are stopped
(SIGSTOP; their session is long enough) while it is filled. Then they go on, all at once. What is measured is between the first
look that finds records done and the one that finds all of them done, as in the bench; Redis is asked for the bytes.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.error import URLError
from urllib.request import urlopen

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from redis import Redis

from schemas.errors import FunnelwatchError
from tests.bench.contenders import Funnelwatch, Task
from tests.bench.measure import cpu_seconds_of, machine_seconds
from tests.bench.workload import Click
from tests.parts.kafka import Kafka, create_topic
from tests.parts.redis import RedisServer

SESSION_SECONDS = 120.0
SHARED_OUT_SECONDS = 60.0
DRAIN_SECONDS_MAX = 120.0
LOOK_SECONDS = 0.02
SEND_BYTES = 2**19
COUNTING = re.compile(rb"counting (\d+) partitions")


class Member(Funnelwatch):
    """One worker of several."""

    start_seconds: ClassVar[float] = 60.0
    partitions: int = 1

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "FUNNELWATCH_KAFKA__SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS)}

    def answers(self) -> bool:
        return self.counting() >= 0

    def counting(self) -> int:
        """How many partitions it counts; -1: it is not ready."""
        try:
            with urlopen(f"http://{self.address}/readyz", timeout=5.0) as answer:
                found = COUNTING.search(answer.read())
        except (URLError, ConnectionError, TimeoutError):
            return -1
        return int(found[1]) if found else -1

    def done(self) -> int:
        pipe: Any = self.redis.pipeline(transaction=False)
        for place in range(self.partitions):
            pipe.hget(self._key(place, "meta"), "next")
        return sum(int(found or 0) for found in pipe.execute())

    def applied(self) -> int:
        """Records that met this fate."""
        pipe: Any = self.redis.pipeline(transaction=False)
        for place in range(self.partitions):
            pipe.hget(self._key(place, "meta"), "fate:applied")
        return sum(int(found or 0) for found in pipe.execute())


@dataclass(frozen=True)
class Look:
    """CPU seconds since each process began."""

    at: float
    done: int
    workers: float
    redis: float
    kafka: float
    machine: float
    redis_bytes: int


@dataclass(frozen=True)
class Drain:
    """Between two looks; CPU in seconds."""

    workers: int
    partitions: int
    records: int
    seconds: float
    worker_cpu: float
    redis_cpu: float
    kafka_cpu: float
    others_cpu: float  # of processes that have no part in it
    redis_bytes: float
    kafka_bytes: float  # a record, as it lies in the log

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def micros(self) -> tuple[float, float, float]:
        """CPU an event: of the workers, Redis and Kafka."""
        return self.worker_cpu / self.records * 1e6, self.redis_cpu / self.records * 1e6, self.kafka_cpu / self.records * 1e6

    @property
    def others(self) -> float:
        """The share of the machine that strangers took."""
        return max(0.0, self.others_cpu) / self.seconds / (os.cpu_count() or 1)


class Drains:
    """Drains of the same clicks, each of a new topic into an empty Redis."""

    def __init__(self, kafka: Kafka, redis: RedisServer, clicks: Sequence[Click]) -> None:
        self._kafka, self._redis, self._clicks = kafka, redis, clicks

    def drain(self, workers: int, partitions: int) -> Drain:
        """Raises FunnelwatchError when not everything is counted."""
        name = f"bench-scale-{uuid.uuid4().hex[:8]}"
        asyncio.run(create_topic(self._kafka.address, name, partitions, retention_ms="-1"))
        with Redis.from_url(self._redis.url) as client:
            client.flushall()
        task = Task(name, self._kafka.address, self._redis.url, name, len(self._clicks), (self._kafka.pid, self._redis.pid))
        with _together(task, workers, partitions) as members:
            for member in members:
                member.pause()
            asyncio.run(_fill(task, partitions, self._clicks))
            before = self._look(members)
            for member in members:
                member.resume()
            first, last = self._wait(members, before.done + 1), self._wait(members, len(self._clicks))
            applied = members[0].applied()
        if applied != len(self._clicks):
            raise FunnelwatchError(f"{workers} workers applied {applied:,} of {len(self._clicks):,} records")
        return self._between(first, last, workers, partitions, name)

    def _wait(self, members: Sequence[Member], least: int) -> Look:
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        while members[0].done() < least:
            ended = next((member for member in members if not member.running), None)
            if ended is not None or time.monotonic() > deadline:
                shown = ended or members[0]
                raise FunnelwatchError(f"{members[0].done():,} of {least:,} records done; a worker's log ends with:\n{shown.log()}")
            time.sleep(LOOK_SECONDS)
        return self._look(members)

    def _look(self, members: Sequence[Member]) -> Look:
        at, done = time.perf_counter(), members[0].done()
        stats: Any = members[0].redis.info("stats")
        redis, kafka = cpu_seconds_of(self._redis.pid), cpu_seconds_of(self._kafka.pid)
        workers = sum(cpu_seconds_of(member.pid) for member in members)
        through = stats["total_net_input_bytes"] + stats["total_net_output_bytes"]
        return Look(at, done, workers, redis, kafka, machine_seconds() - time.process_time(), through)

    def _between(self, first: Look, last: Look, workers: int, partitions: int, topic: str) -> Drain:
        records = last.done - first.done
        if records <= 0:
            raise FunnelwatchError("all records were done at the first look; give it more events")
        cpu = (last.workers - first.workers, last.redis - first.redis, last.kafka - first.kafka)
        logs = (self._kafka.folder / "data").glob(f"{topic}-*/*.log")
        return Drain(
            workers,
            partitions,
            records,
            last.at - first.at,
            *cpu,
            others_cpu=last.machine - first.machine - sum(cpu),
            redis_bytes=(last.redis_bytes - first.redis_bytes) / records,
            kafka_bytes=sum(log.stat().st_size for log in logs) / len(self._clicks),
        )


@contextmanager
def _together(task: Task, workers: int, partitions: int) -> Iterator[list[Member]]:
    """Workers that have shared the partitions out."""
    with ExitStack() as stack:
        members = [Member(task) for _ in range(workers)]
        for member in members:
            member.partitions = partitions
            stack.callback(member.close)
            stack.callback(member.kill)  # first: nobody waits for an orderly end
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(Member.start, members))
        deadline = time.monotonic() + SHARED_OUT_SECONDS
        while sum(counting := [member.counting() for member in members]) != partitions or min(counting) < partitions // workers:
            if time.monotonic() > deadline:
                raise FunnelwatchError(f"{workers} workers count {counting} of {partitions} partitions; expected as many each")
            time.sleep(LOOK_SECONDS)
        yield members


async def _fill(task: Task, partitions: int, clicks: Sequence[Click]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=task.kafka, max_batch_size=SEND_BYTES) as producer:
        batches = [producer.create_batch() for _ in range(partitions)]
        places: dict[bytes, int] = {}
        for click in clicks:
            key, value = click.key(), click.value()
            place = places.get(key)
            if place is None:
                place = places[key] = (murmur2(key) & 0x7FFFFFFF) % partitions
            if batches[place].append(key=key, value=value, timestamp=click.at_ms) is None:
                await producer.send_batch(batches[place], task.topic, partition=place)
                batches[place] = producer.create_batch()
                batches[place].append(key=key, value=value, timestamp=click.at_ms)
        for place, batch in enumerate(batches):
            await producer.send_batch(batch, task.topic, partition=place)
