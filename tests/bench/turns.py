"""The contenders take turns over the same records, so that a slow minute of the machine meets all of them."""

from __future__ import annotations

import argparse
import asyncio
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from redis import Redis

from tests.bench.contenders import CONTENDERS, Contender, Funnelwatch, FunnelwatchBefore, Limit, Task
from tests.bench.jvm import JVM
from tests.bench.measure import Run, run
from tests.bench.peers import PEERS
from tests.bench.profile import profile
from tests.bench.topic import PARTITIONS, fill
from tests.bench.workload import Counts, clicks, recount
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer

# In the order in which they are reported.
KINDS: dict[str, type[Contender]] = {Limit.name: Limit, Funnelwatch.name: Funnelwatch, **PEERS, **JVM, **CONTENDERS}
SLOW = {"faust", "faust-summed"}  # read the shorter topic, which holds the first records of the long one


@dataclass(frozen=True)
class Sizes:
    """How much there is to do."""

    events: int
    entities: int
    slow_events: int  # what those read that are slow
    rounds: int

    @classmethod
    def of(cls, options: argparse.Namespace) -> Sizes:
        return cls(options.events, options.entities, min(options.plain_events, options.events), options.rounds)


class Load(NamedTuple):
    """A filled topic and what its counts must be."""

    topic: str
    events: int
    expected: Counts


@dataclass
class Found:
    """The runs of every contender that ran to its end each time, and what happened to the others."""

    runs: dict[str, list[Run]]
    failed: dict[str, str] = field(default_factory=dict)


class Bench:
    """The parts, the filled topics, and runs over them."""

    def __init__(self, kafka: Kafka, redis: RedisServer, sizes: Sizes, names: Sequence[str], against: Path | None = None) -> None:
        self._kafka, self._redis, self._sizes = kafka, redis, sizes
        self.names = list(names)
        self._kinds: dict[str, Callable[[Task], Contender]] = {**KINDS}
        if against is not None:
            self._kinds[FunnelwatchBefore.name] = partial(FunnelwatchBefore, root=against)
        self._full = self._load(f"clicks-{sizes.events}", sizes.events)
        self._short = self._load(f"clicks-{sizes.slow_events}-first", sizes.slow_events) if SLOW & set(names) else self._full

    def _load(self, topic: str, events: int) -> Load:
        found = list(islice(clicks(self._sizes.events, self._sizes.entities), events))
        size = asyncio.run(fill(self._kafka.address, topic, found))
        say(f"{topic}: {events:,} records of {size / events:.0f} bytes in {PARTITIONS} partitions")
        return Load(topic, events, recount(found))

    def load(self, name: str) -> Load:
        return self._short if name in SLOW else self._full

    def task(self, name: str) -> Task:
        """A task with a group and keys that nobody used before, over an empty Redis."""
        load = self.load(name)
        with Redis.from_url(self._redis.url) as client:
            client.flushall()
        pids = (self._kafka.pid, self._redis.pid)
        return Task(f"bench-{name}-{uuid.uuid4().hex[:8]}", self._kafka.address, self._redis.url, load.topic, load.events, pids)

    def take_turns(self) -> Found:
        """All rounds; one that fails is left out from then on."""
        self._warm_up()
        found = Found({name: [] for name in self.names})
        for number in range(self._sizes.rounds):
            first = number % len(self.names)  # nobody is always first
            for name in self.names[first:] + self.names[:first]:
                if name not in found.failed:
                    self._turn(found, name, number + 1)
        return found

    def _turn(self, found: Found, name: str, number: int) -> None:
        try:
            done = self._run(name)
        except Exception as error:  # whatever it is, the others have their turns
            del found.runs[name]
            found.failed[name] = str(error)
            say(f"round {number}: {name} FAILED: {error}")
        else:
            found.runs[name].append(done)
            say(f"round {number}: {name} {done.rate:,.0f}/s, {done.records:,} records in {done.seconds:.2f} s")

    def _run(self, name: str) -> Run:
        with self._kinds[name](self.task(name)) as contender:
            try:
                return run(contender, self.load(name).expected)
            finally:
                contender.kill()  # nobody waits for an orderly end

    def _warm_up(self) -> None:
        """Read everything once, so that the first contender does not pay for a cold broker."""
        with Limit(self.task(Limit.name)) as contender:
            run(contender, self._full.expected)
            contender.kill()

    def profile(self) -> Iterator[str]:
        self._warm_up()
        return profile(self.task("profile"), self._full.expected)


def say(line: str) -> None:
    """How it is getting on, which is no part of what is found."""
    print(line, file=sys.stderr, flush=True)
