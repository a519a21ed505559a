"""`--latency`: how soon what happened is to be seen, and how soon somebody is told of an outage.

Visible: one worker counts a steady load of half of the most it can, with now as event time. Among the load are probes, records of
people who come once, at random moments. Both places where counts are read are asked every 50 ms. The time of a probe is from
handing its record to the producer until the end of the first answer that shows it counted; so the acknowledgement of the broker,
and up to 50 ms of waiting for the next question, are in it.

Notified: see `tests.bench.outages`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from statistics import median
from typing import Any, ClassVar

import yaml
from aiokafka import AIOKafkaProducer

from schemas.errors import FunnelwatchError
from tests.bench.contenders import Funnelwatch, Task, config
from tests.bench.markdown import table
from tests.bench.measure import cpu_seconds_of, machine_seconds, noise, p99, run
from tests.bench.outages import outages
from tests.bench.readers import Connection
from tests.bench.steady import Steady, Written, partition_of, steady
from tests.bench.topic import PARTITIONS, fill
from tests.bench.workload import clicks, recount
from tests.parts.kafka import Kafka, create_topic
from tests.parts.redis import RedisServer

EVENTS, PEOPLE = 400_000, 50_000  # of the backlog that says how much a worker can do
SHARE = 0.5  # of that
SETTLE_SECONDS = 5.0
BEHIND_SECONDS_MAX = 1.0  # before probing begins; ends of logs are as old as the last tick
PROBES = 240
BETWEEN_SECONDS = (0.02, 0.18)  # two probes
LOOK_SECONDS = 0.05  # each question takes the worker a millisecond or so
PATIENCE_SECONDS = 60.0
TICKS_SECONDS = (1.0, 0.25)  # the default, and the one that is asked for when a second is too long
P99_SECONDS_MAX = 1.0
API, METRICS = "/api/v1/funnels/probe", "/metrics"
ASKED = {API: f"{API}?window=1h&by=partition", METRICS: METRICS}
SAMPLE = re.compile(rb'^funnel_stage_users\{([^}]*funnel="probe"[^}]*)\} (\S+)$', re.MULTILINE)
VALUE = re.compile(rb'\bvalue="(\d+)"')
FUNNEL = {
    "name": "probe",
    "source": "web",
    "conversion_window": "10m",
    "windows": ["1h"],
    "dimensions": {"partition": {"field": "properties.partition", "allow": [str(n) for n in range(PARTITIONS)]}},
    "stages": [{"name": "sent", "event": "probe"}, {"name": "answered", "event": "probe_answered"}],
}
HEADER = ("", "p50 s", "p99 s", "most s", "probes")


class Probed(Funnelwatch):
    """A worker with the bench's funnel, and one that probes are counted in."""

    tick_seconds: ClassVar[float] = TICKS_SECONDS[0]

    def prepare(self) -> None:
        found = config(self.task.topic)
        found["funnels"].append(FUNNEL)
        (self.folder / "config.yaml").write_text(yaml.safe_dump(found))

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "FUNNELWATCH_WORKER__TICK_SECONDS": str(self.tick_seconds)}


class ProbedOften(Probed):
    """One that looks more often at what was counted."""

    tick_seconds: ClassVar[float] = TICKS_SECONDS[1]


@dataclass
class Probes:
    """When each probe was sent, and where it was seen when: by partition, since there they stay in order."""

    sent: list[list[float]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    seen: dict[str, list[list[float]]] = field(default_factory=lambda: {place: [[] for _ in range(PARTITIONS)] for place in ASKED})

    def note(self, place: str, counted: Sequence[int]) -> None:
        """So many of each partition are visible now."""
        now = time.perf_counter()
        for seen, many in zip(self.seen[place], counted):
            seen.extend([now] * (many - len(seen)))

    def all_seen(self, place: str) -> bool:
        return sum(map(len, self.seen[place])) >= PROBES

    def took(self, place: str) -> list[float]:
        """Seconds of each probe."""
        pairs = [pair for sent, seen in zip(self.sent, self.seen[place]) for pair in zip(sent, seen)]
        return [seen - sent for sent, seen in pairs]


@dataclass(frozen=True)
class Spent:
    """Seconds: of the clock, and of CPU of the worker, of all that has a part in it, and of the machine."""

    at: float
    worker: float
    ours: float
    machine: float

    @classmethod
    def now(cls, worker: Probed, load: Steady) -> Spent:
        of_worker = cpu_seconds_of(worker.pid)
        ours = of_worker + time.process_time() + sum(cpu_seconds_of(pid) for pid in (load.pid, *worker.task.parts))
        return cls(time.monotonic(), of_worker, ours, machine_seconds())

    def since(self, before: Spent) -> Spent:
        return Spent(self.at - before.at, self.worker - before.worker, self.ours - before.ours, self.machine - before.machine)

    @property
    def others(self) -> float:
        """The share of the machine that strangers took."""
        return max(0.0, self.machine - self.ours) / self.at / (os.cpu_count() or 1)


def latency(kafka: Kafka, redis: RedisServer) -> Iterator[str]:
    """The tables, and whether the claims hold."""
    most = maximum(kafka, redis)
    yield f"The most one worker did of a backlog of {EVENTS:,} events: {most:,.0f} a second. The load: {SHARE:.0%} of it."
    for kind in (Probed, ProbedOften):
        yield from _visible(kafka, redis, kind, most * SHARE)
    yield ""
    yield from outages(kafka, redis)


def maximum(kafka: Kafka, redis: RedisServer, events: int = EVENTS) -> float:
    """Events a second of one worker that drains a backlog."""
    task = _task(kafka, redis, events)
    found = list(clicks(events, PEOPLE))
    asyncio.run(fill(kafka.address, task.topic, found))
    with Probed(task) as worker:
        rate = run(worker, recount(found)).rate
        worker.kill()
    return rate


def _task(kafka: Kafka, redis: RedisServer, events: int = 0) -> Task:
    name = f"bench-latency-{uuid.uuid4().hex[:8]}"
    return Task(name, kafka.address, redis.url, name, events, (kafka.pid, redis.pid))


def _visible(kafka: Kafka, redis: RedisServer, kind: type[Probed], rate: float) -> Iterator[str]:
    task = _task(kafka, redis)
    asyncio.run(create_topic(task.kafka, task.topic, PARTITIONS))
    with kind(task) as worker:
        with steady(task.kafka, task.topic, rate) as load:
            asyncio.run(_settled(worker, rate * BEHIND_SECONDS_MAX))
            before = Spent.now(worker, load)
            probes = asyncio.run(_probed(worker))
            spent = Spent.now(worker, load).since(before)
            written = load.end()
        worker.kill()
    yield from said(kind.tick_seconds, written, spent, {place: probes.took(place) for place in ASKED})


def said(tick_seconds: float, written: Written, spent: Spent, took: dict[str, list[float]]) -> Iterator[str]:
    """The table of one worker."""
    yield f"\nReports computed every {tick_seconds:g} s; {written.rate:,.0f} events/s, the latest slot of which was"
    yield f"{written.late_seconds * 1000:.0f} ms late; the worker took {spent.worker / spent.at:.2f} of a core:\n"
    yield from table(HEADER, [(place, *(f"{t:.2f}" for t in (median(s), p99(s), max(s))), str(len(s))) for place, s in took.items()])
    yield ""
    for place, seconds in took.items():
        held = "held" if p99(seconds) < P99_SECONDS_MAX else "NOT HELD"
        yield f"claim: p99 from produce to visible in {place} under {P99_SECONDS_MAX:g} s: {p99(seconds):.2f} s, {held}"
    yield from noise(spent.others)


async def _settled(worker: Probed, lag_max: float) -> None:
    """Once the worker serves metrics and has caught up with the load but for so many records, and some seconds later."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await _keeps_up(worker, lag_max):
        if time.monotonic() > deadline or not worker.running:
            raise FunnelwatchError(f"the worker does not keep up with the load; its log ends with:\n{worker.log()}")
        await asyncio.sleep(SETTLE_SECONDS / 10)
    await asyncio.sleep(SETTLE_SECONDS)


async def _keeps_up(worker: Probed, lag_max: float) -> bool:
    try:
        connection = await Connection.open(worker.address)
    except OSError:
        return False
    report = json.loads(await connection.get(API))
    served = b"funnel_stage_users{" in await connection.get(METRICS)
    connection.close()
    return served and report["lag"] is not None and report["lag"] < lag_max


async def _probed(worker: Probed) -> Probes:
    probes = Probes()
    looks = [_look(worker, place, read, probes) for place, read in ((API, _of_api), (METRICS, _of_metrics))]
    await asyncio.gather(_send(worker.task, probes), *looks)
    return probes


async def _send(task: Task, probes: Probes) -> None:
    chance = random.Random(4)
    people = _people()
    async with AIOKafkaProducer(bootstrap_servers=task.kafka) as producer:
        await producer.partitions_for(task.topic)  # what is learned first is not what is measured
        for number in range(PROBES):
            partition = number % PARTITIONS
            key = next(people[partition])
            probes.sent[partition].append(time.perf_counter())
            await producer.send_and_wait(task.topic, _record(key, partition), key, partition)
            await asyncio.sleep(chance.uniform(*BETWEEN_SECONDS))


def _people() -> list[Iterator[bytes]]:
    """Of each partition."""
    found: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    for number in count():
        if min(map(len, found)) >= PROBES:
            break
        name = f"probe-{number:06}".encode()
        found[partition_of(name)].append(name)
    return [iter(names) for names in found]


def _record(key: bytes, partition: int) -> bytes:
    named: dict[str, Any] = {"event": "probe", "timestamp": time.time_ns() // 1_000_000, "user_id": key.decode()}
    return json.dumps({**named, "event_id": f"e-{key.decode()}", "properties": {"partition": str(partition)}}).encode()


async def _look(worker: Probed, place: str, read: Callable[[bytes], list[int]], probes: Probes) -> None:
    connection = await Connection.open(worker.address)
    deadline = time.monotonic() + PROBES * BETWEEN_SECONDS[1] + PATIENCE_SECONDS
    began = time.monotonic()
    for number in count(1):
        probes.note(place, read(await connection.get(ASKED[place])))
        if probes.all_seen(place):
            break
        if time.monotonic() > deadline:
            raise FunnelwatchError(f"{sum(map(len, probes.seen[place]))} of {PROBES} probes are to be seen in {place}")
        await asyncio.sleep(began + number * LOOK_SECONDS - time.monotonic())
    connection.close()


def _of_api(body: bytes) -> list[int]:
    """Probes counted, by partition."""
    found = {value["value"]: value["stages"][0]["users"] for value in json.loads(body)["values"]}
    return [found.get(str(partition), 0) for partition in range(PARTITIONS)]


def _of_metrics(body: bytes) -> list[int]:
    found = [0] * PARTITIONS
    for labels, users in SAMPLE.findall(body):
        if b'stage="sent"' in labels and (value := VALUE.search(labels)):
            found[int(value[1])] = int(float(users))
    return found
