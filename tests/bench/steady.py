"""A steady load: `python -m tests.bench.steady ADDRESS TOPIC RATE` writes the bench's clicks at so many a second, now as event time.

Prints `ready` once it is connected and writes until a line comes on stdin; then prints one JSON object: how many records were
written in how many seconds, and by how much the latest slot was late. Every slot of 10 ms is sent at once.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.errors import FunnelwatchError
from tests.bench.topic import PARTITIONS
from tests.bench.workload import clicks

SLOT_SECONDS = 0.01
BATCH_BYTES = 2**20
POOL, PEOPLE = 200_000, 50_000  # clicks that are written again and again, each time under other event ids


@dataclass(frozen=True)
class Written:
    """What a load came to."""

    records: int
    seconds: float
    late_seconds: float  # the latest slot

    @property
    def rate(self) -> float:
        return self.records / self.seconds


class _Record(NamedTuple):
    """A click up to its event id and time."""

    partition: int
    key: bytes
    head: bytes


def _pool() -> list[_Record]:
    partitions: dict[bytes, int] = {}
    found = []
    for click in clicks(POOL, PEOPLE):
        key, value = click.key(), json.loads(click.value())
        partition = partitions.setdefault(key, partition_of(key))
        del value["timestamp"]
        value["event_id"] = value.pop("event_id")  # the last one, so that a number can follow
        found.append(_Record(partition, key, json.dumps(value, separators=(",", ":")).encode().removesuffix(b'"}')))
    return found


def partition_of(key: bytes) -> int:
    """Where a record with this key goes."""
    return (murmur2(key) & 0x7FFFFFFF) % PARTITIONS


def _endless(pool: Sequence[_Record]) -> Iterator[tuple[int, _Record]]:
    lap = 0
    while True:
        for record in pool:
            yield lap, record
        lap += 1


async def _write(producer: AIOKafkaProducer, topic: str, rate: float, stop: asyncio.Future[str]) -> Written:
    records, written, late = _endless(_pool()), 0, 0.0
    began = time.monotonic()
    for slot in range(1, sys.maxsize):
        due = began + slot * SLOT_SECONDS
        late = max(late, time.monotonic() - due)
        await asyncio.sleep(due - time.monotonic())
        if stop.done():
            break
        count = int(slot * SLOT_SECONDS * rate) - written
        await _send(producer, topic, list(islice(records, count)))
        written += count
    return Written(written, time.monotonic() - began, late)


async def _send(producer: AIOKafkaProducer, topic: str, slot: Sequence[tuple[int, _Record]]) -> None:
    now_ms = time.time_ns() // 1_000_000
    batches = [producer.create_batch() for _ in range(PARTITIONS)]
    for lap, (partition, key, head) in slot:
        value = b'%b-%d","timestamp":%d}' % (head, lap, now_ms)
        batches[partition].append(key=key, value=value, timestamp=now_ms)
    for partition, batch in enumerate(batches):
        if batch.record_count():
            await producer.send_batch(batch, topic, partition=partition)


async def main() -> None:
    address, topic, rate = sys.argv[1:]
    async with AIOKafkaProducer(bootstrap_servers=address, max_batch_size=BATCH_BYTES) as producer:
        print("ready", flush=True)
        stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print(json.dumps(asdict(await _write(producer, topic, float(rate), stop))), flush=True)


class Steady:
    """A load in a process of its own, once it writes."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    @property
    def pid(self) -> int:
        return self._child.pid

    def end(self) -> Written:
        """Stop it."""
        said, _ = self._child.communicate("\n", timeout=30.0)
        if self._child.returncode != 0 or not said:
            raise FunnelwatchError("the steady load broke off; what it says is above")
        return Written(**json.loads(said))


@contextmanager
def steady(address: str, topic: str, rate: float) -> Iterator[Steady]:
    """Write to a topic at so many records a second until it is ended."""
    command = [sys.executable, "-m", "tests.bench.steady", address, topic, str(rate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            if child.stdout.readline() != "ready\n":
                raise FunnelwatchError("the steady load could not begin; what it says is above")
            yield Steady(child)
        finally:
            child.kill()


if __name__ == "__main__":
    asyncio.run(main())
