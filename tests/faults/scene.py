"""What an experiment is played on: a broker, a store, a topic of six partitions, workers, a load, and dice."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import redis
from aiokafka import AIOKafkaConsumer

from tests.books import assert_counts_exact, becomes, read_books
from tests.faults.workers import FaultyWorker
from tests.oracle import Recount, recount_topic
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment
from tests.traffic import Click, Load, clicks, make_topic, write_config

PARTITIONS = 6
WORKERS = 2
STREAM = 120_000  # more than any experiment lasts: each ends its load when it has seen enough
LONG_RATE = 800.0  # where it takes its time
STREAMS = 3  # that differ; a seed takes one of them
RECOVERY_SECONDS = 60.0
KAFKA_SETTINGS = {"log.cleaner.backoff.ms": "500", "log.retention.check.interval.ms": "500", "log.initial.task.delay.ms": "500"}
# Chunks of a hundred records: in a backlog, some are on their way at nearly any moment.
SMALL_CHUNKS = {"KAFKA__FETCH_BYTES_MAX": "16384"}


@dataclass(frozen=True)
class Parts:
    """What all runs share: programs, a broker for whoever does not break it, and how hard they are to be driven."""

    kafka: Kafka
    jars: Path
    redis_server: Path
    rate: float = 2_500.0  # events a second
    patience: float = 1.0  # times the 60 s in which everything must have recovered; more only where the machine is busy
    soak_seconds: float = 600.0


class Scene:
    """One run of an experiment. What it opens it closes itself."""

    def __init__(self, parts: Parts, name: str, seed: int) -> None:
        self.parts, self.seed = parts, seed
        self.dice = random.Random(f"{name} {seed}")
        self.name = f"{name[:24]}-{seed}-{random.SystemRandom().getrandbits(24):06x}"
        self.kafka: Kafka = parts.kafka
        self.recovery: float | None = None  # seconds from the end of the fault until everything was counted
        self._over_at = time.monotonic()
        self._open = ExitStack()
        self._started: list[FaultyWorker] = []
        self.folder = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="funnelwatch-faults-")))

    def close(self) -> None:
        self._open.close()

    def logs(self) -> Iterator[str]:
        """The last lines of every worker, for whoever wants to know why a run failed."""
        for number, worker in enumerate(self._started):
            yield from (f"worker {number}: {line[:300]}" for line in worker.log(6).splitlines())

    # Parts

    @cached_property
    def store(self) -> RedisServer:
        return self._open.enter_context(RedisServer(self.parts.redis_server))

    @cached_property
    def client(self) -> redis.Redis:
        """Of the store itself, whatever stands before it."""
        return self._open.enter_context(redis.Redis.from_url(self.store.url))

    def promote(self, replica: RedisServer) -> None:
        """From here on this is the store; the deployment is told."""
        self.store = replica
        self.client = self._open.enter_context(redis.Redis.from_url(replica.url))
        self.deployment = replace(self.deployment, redis=replica.url)

    def own_kafka(self, **settings: str) -> Kafka:
        """A broker to be broken; from here on it is the scene's."""
        self.kafka = self._open.enter_context(Kafka(self.parts.jars, {**KAFKA_SETTINGS, **settings}))
        return self.kafka

    def enter(self, part: Any) -> Any:
        """Open something, to be closed at the end."""
        return self._open.enter_context(part)

    @cached_property
    def deployment(self) -> Deployment:
        """The topic is made when this is asked for first."""
        return self.deploy()

    def deploy(self, source: Mapping[str, Any] | None = None, **topic: str) -> Deployment:
        make_topic(self.kafka.address, self.name, PARTITIONS, **topic)
        config = write_config(self.folder, self.name, **(source or {}))
        self.deployment = Deployment(self.kafka.address, self.store.url, self.name, config, SMALL_CHUNKS)
        return self.deployment

    def anew(self) -> None:
        """Begin again with a topic, a group and keys that nobody has used."""
        for worker in self._started:
            worker.kill()
        self.name += "-too"
        self.__dict__.pop("deployment", None)

    def worker(self, faults: Mapping[str, Any] | None = None, *, mute: bool = False, **settings: str) -> FaultyWorker:
        """A worker that is not started yet; it is killed at the end."""
        worker = FaultyWorker.of(self.deployment, faults, mute=mute, **settings)
        self._open.callback(worker.close)
        self._open.callback(worker.kill)
        self._started.append(worker)
        return worker

    def workers(self, *made: FaultyWorker, **settings: str) -> list[FaultyWorker]:
        """Two workers, started at the same time; or those that were made."""
        found = list(made) or [self.worker(**settings) for _ in range(WORKERS)]
        with ThreadPoolExecutor(len(found)) as pool:
            list(pool.map(FaultyWorker.start, found))
        return found

    # Load

    @property
    def stream(self) -> tuple[Click, ...]:
        return clicks(STREAM, self.seed % STREAMS + 1)

    @contextmanager
    def load(self, records: Sequence[Click] | None = None, rate: float | None = None, **options: Any) -> Iterator[Load]:
        """A steady load that goes on for as long as the block does."""
        kafka, topic = self.deployment.kafka, self.deployment.prefix
        with Load(kafka, topic, records or self.stream, rate or self.parts.rate, **options) as load:
            yield load

    def backlog(self, records: Sequence[Click], *frozen: FaultyWorker) -> None:
        """Produce at once while workers are frozen: for a while after, there is no moment they have nothing to do."""
        for worker in frozen:
            worker.pause()
        with Load(self.deployment.kafka, self.deployment.prefix, records) as load:
            load.finish()
        for worker in frozen:
            worker.resume()

    # Waiting

    @property
    def limit(self) -> float:
        return RECOVERY_SECONDS * self.parts.patience

    def wait(self, least: float, most: float) -> None:
        """Wait for a moment that the dice say."""
        time.sleep(self.dice.uniform(least, most))

    def progress(self, records: int = 2_000) -> None:
        """Return once the ledger holds that many records more."""
        goal = self.stored() + records
        becomes(lambda: self.stored() >= goal, wanted=True, seconds=self.limit)

    def stored(self) -> int:
        """How many records the ledger says are behind it."""
        return sum(self.positions().values())

    def positions(self) -> dict[int, int]:
        """Where the ledger stands in each partition; nothing while it cannot be asked."""
        try:
            with self.client.pipeline(transaction=False) as asked:
                for partition in range(PARTITIONS):
                    asked.hget(f"{{{self.deployment.prefix}:web:{partition}}}:meta", "next")
                return {partition: int(found or 0) for partition, found in enumerate(asked.execute())}
        except redis.RedisError:
            return {}

    def until(self, probe: Callable[[], bool], seconds: float | None = None) -> None:
        becomes(probe, wanted=True, seconds=seconds or self.limit)

    def holds(self, worker: FaultyWorker, partitions: int) -> None:
        """Return once the worker counts that many partitions."""
        becomes(lambda: worker.get("/readyz").json()["detail"], f"counting {partitions} partitions", self.limit)

    def conflicted(self, workers: Sequence[FaultyWorker], kind: str) -> float:
        """How often any of them met such a conflict."""
        return sum(worker.metric("funnel_ledger_conflicts_total", kind=kind) for worker in workers)

    @contextmanager
    def felt(self, workers: Sequence[FaultyWorker], kind: str = "unavailable") -> Iterator[None]:
        """Do something in the block, and go on once one of the workers has met such a conflict because of it."""
        before = self.conflicted(workers, kind)
        yield
        self.until(lambda: self.conflicted(workers, kind) > before)

    # What must hold

    def over(self) -> None:
        """The fault is over: from here on the time to recover counts."""
        self._over_at = time.monotonic()

    def ends(self) -> dict[int, int]:
        """Where the topic ends now, by partition."""
        return asyncio.run(_ends(self.deployment.kafka, self.deployment.prefix))

    def recount(self, ends: dict[int, int] | None = None) -> Recount:
        """The oracle's, from the first record of every partition to the recorded ends."""
        return asyncio.run(recount_topic(self.deployment.config, self.deployment.kafka, ends))

    def catches_up(self) -> dict[int, int]:
        """Wait until every stored offset is its partition's end, within what is allowed since the fault; the ends."""
        ends = self.ends()
        becomes(self.positions, ends, max(1.0, self._over_at + self.limit - time.monotonic()))
        self.recovery = time.monotonic() - self._over_at
        return ends

    def ends_exact(self, load: Load, *, produced: int | None = None) -> Recount:
        """All that was produced is counted, every cell as the oracle says, and every record has one fate."""
        assert load.share < 1, "the load was over before: not all of it happened under load"
        sent = load.cut()
        return self.exact(sum(sent.values()) if produced is None else produced)

    def exact(self, produced: int) -> Recount:
        ends = self.catches_up()
        expected = self.recount(ends)
        assert expected.records == produced, f"{produced} records were produced, the topic has {expected.records}"
        assert_counts_exact(expected, read_books(self.deployment))
        return expected


async def _ends(brokers: str, topic: str) -> dict[int, int]:
    async with AIOKafkaConsumer(topic, bootstrap_servers=brokers) as consumer:
        found = await consumer.end_offsets(consumer.assignment())
        return {tp.partition: end for tp, end in found.items()}
