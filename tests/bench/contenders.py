"""Who runs: what starts each contender, how far it is, and what it has counted."""

from __future__ import annotations

import os
import re
import sys
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml
from redis import Redis

from streams.process import Process
from tests.bench.progress import Progress
from tests.bench.topic import PARTITIONS
from tests.bench.workload import CONVERSION_MS, EVENTS, STAGES, Counts

ROOT = Path(__file__).parents[2]
SEPARATOR = "\x1f"  # in the names of funnelwatch's counts
HOUR_SECONDS = 3600


@dataclass(frozen=True)
class Task:
    """What to read and where to write; `name` is new with every run."""

    name: str
    kafka: str
    redis_url: str
    topic: str
    events: int
    parts: tuple[int, ...]  # process ids of Kafka and Redis


class Contender(Process):
    """One run of one contender in a process of its own, whose modules are those of the checkout at `root`."""

    grace_seconds: ClassVar[float] = 20.0

    def __init__(self, task: Task, root: Path = ROOT) -> None:
        super().__init__()
        self.task = task
        self._root = root
        self.redis = Redis.from_url(task.redis_url)

    def answers(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        self.redis.close()

    def command(self) -> list[str]:
        variables = [f"{name}={value}" for name, value in {"PYTHONPATH": str(self._root), **self.environment()}.items()]
        without = [part for name in os.environ if name.startswith("FUNNELWATCH_") for part in ("-u", name)]
        return ["env", *without, *variables, sys.executable, *self.arguments()]

    def environment(self) -> dict[str, str]:
        return {}

    @abstractmethod
    def arguments(self) -> list[str]:
        """Of the Python interpreter."""

    @abstractmethod
    def done(self) -> int:
        """Records that it is done with."""

    @abstractmethod
    def counts(self) -> Counts | None:
        """What it has counted; None if it counts nothing."""


class Reporting(Contender):
    """A contender of ours that writes down itself how far it is."""

    module: ClassVar[str]

    def prepare(self) -> None:
        self._progress = Progress(self.folder / "progress")

    def arguments(self) -> list[str]:
        return ["-m", self.module, self.task.kafka, self.task.topic, self.task.name, str(self.folder / "progress")]

    def done(self) -> int:
        return self._progress.get()


class Limit(Reporting):
    name: ClassVar[str] = "limit"
    module: ClassVar[str] = "tests.bench.bare"

    def counts(self) -> None:
        return None


class PlainFaust(Reporting):
    name: ClassVar[str] = "faust"
    module: ClassVar[str] = "tests.bench.plain"

    def arguments(self) -> list[str]:
        return [*super().arguments(), self.task.redis_url]

    def counts(self) -> Counts:
        """Of all buckets of one hour: a user has one mark, in the bucket of the latest reach."""
        sums: Counter[tuple[str, int, str | None]] = Counter()
        for field, count in self._cells():
            family, stage, channel = field.split(":")
            sums[family, int(stage), channel or None] += count
        return {cell: count for cell, count in sums.items() if count}

    def _cells(self) -> Iterator[tuple[str, int]]:
        for key in self.redis.scan_iter(match=f"{self.task.name}:{HOUR_SECONDS}:*", count=1000):
            for field, count in _hash(self.redis, key).items():
                yield field, int(count)


class SummedFaust(PlainFaust):
    name: ClassVar[str] = "faust-summed"

    def arguments(self) -> list[str]:
        return [*super().arguments(), "--summed"]


class Funnelwatch(Contender):
    """One real worker, as a user runs it."""

    name: ClassVar[str] = "funnelwatch"

    def prepare(self) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config(self.task.topic)))

    def environment(self) -> dict[str, str]:
        return {
            "FUNNELWATCH_KAFKA__BROKERS": self.task.kafka,
            "FUNNELWATCH_KAFKA__GROUP": self.task.name,
            "FUNNELWATCH_REDIS__URL": self.task.redis_url,
            "FUNNELWATCH_REDIS__PREFIX": self.task.name,
            "FUNNELWATCH_WEB__PORT": str(self.port),
        }

    def arguments(self) -> list[str]:
        return ["-m", "streams.cli", *self.worker_arguments()]

    def worker_arguments(self) -> list[str]:
        return ["worker", "--config", str(self.folder / "config.yaml")]

    def done(self) -> int:
        pipe: Any = self.redis.pipeline(transaction=False)
        for partition in range(PARTITIONS):
            pipe.hget(self._key(partition, "meta"), "next")
        return sum(int(found or 0) for found in pipe.execute())

    def counts(self) -> Counts:
        sums: Counter[tuple[str, int, str | None]] = Counter()
        for partition in range(PARTITIONS):
            for key in self.redis.scan_iter(match=self._key(partition, "t:*"), count=1000):
                for field, count in _hash(self.redis, key).items():
                    if (cell := _cell(field)) is not None:
                        sums[cell] += int(count)
        return {cell: count for cell, count in sums.items() if count}

    def fates(self) -> Counter[str]:
        """How many records met which fate."""
        fates: Counter[str] = Counter()
        for partition in range(PARTITIONS):
            meta = _hash(self.redis, self._key(partition, "meta"))
            fates.update({name[5:]: int(count) for name, count in meta.items() if name.startswith("fate:")})
        return fates

    def _key(self, partition: int, part: str) -> str:
        return f"{{{self.task.name}:web:{partition}}}:{part}"


class FunnelwatchBefore(Funnelwatch):
    """The worker of another checkout."""

    name: ClassVar[str] = "funnelwatch-before"


class Profiled(Funnelwatch):
    """The worker with a thread in it that looks, many times a second, at what the others do."""

    @property
    def control(self) -> Path:
        return self.folder / "profile"

    def prepare(self) -> None:
        super().prepare()
        self.control.mkdir()

    def arguments(self) -> list[str]:
        return ["-m", "tests.bench.sampled", str(self.control), *self.worker_arguments()]


CONTENDERS: dict[str, type[Contender]] = {kind.name: kind for kind in (Limit, Funnelwatch, PlainFaust, SummedFaust)}


def config(topic: str) -> dict[str, Any]:
    """The funnel of the bench, with windows in buckets of all three widths: 10 s, 1 min and 1 h."""
    stages: list[dict[str, str]] = [{"name": name, "event": event} for name, event in zip(STAGES, EVENTS)]
    stages[-1]["value"] = "properties.amount"
    funnel = {
        "name": "purchase",
        "source": "web",
        "conversion_window": f"{CONVERSION_MS // 1000}s",
        "windows": ["1m", "5m", "1h", "24h", "7d"],
        "dimensions": {"channel": "properties.channel"},
        "stages": stages,
    }
    return {"sources": [{"name": "web", "topic": topic, "entity_key": True}], "funnels": [funnel]}


def _cell(field: str) -> tuple[str, int, str | None] | None:
    """Family, stage and channel from the name of a count; None if it is of another family."""
    name, *split = field.split(SEPARATOR)
    parsed = re.fullmatch(r"([unv])(\d+)", name)
    return (parsed[1], int(parsed[2]), split[1] if split else None) if parsed else None


def _hash(redis: Redis, key: str | bytes) -> dict[str, str]:
    found: Any = redis.hgetall(key)
    return {name.decode(): value.decode() for name, value in found.items()}
