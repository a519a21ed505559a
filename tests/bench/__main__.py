"""`python -m tests.bench`: start the parts, fill the topic, let the contenders take turns, report."""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from redis import Redis

from schemas.errors import FunnelwatchError
from streams.pseudonym import Key, Pseudonyms
from tests.bench import report
from tests.bench.contenders import CONTENDERS, Contender, FunnelwatchBefore, Limit, Task
from tests.bench.growth import growth
from tests.bench.measure import Run, run
from tests.bench.memory import memory
from tests.bench.profile import profile
from tests.bench.reading import reading
from tests.bench.stages import stages
from tests.bench.topic import PARTITIONS, fill
from tests.bench.workload import Counts, clicks, recount
from tests.parts import requirements
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer

SLOW = {"faust", "faust-summed"}  # read the shorter topic, which holds the first records of the long one


class Load(NamedTuple):
    """A filled topic and what its counts must be."""

    topic: str
    events: int
    expected: Counts


class Bench:
    """The parts, the filled topics, and runs over them."""

    def __init__(self, kafka: Kafka, redis: RedisServer, options: argparse.Namespace) -> None:
        self._kafka, self._redis = kafka, redis
        self._kinds: dict[str, Callable[[Task], Contender]] = {**CONTENDERS}
        if options.against is not None:
            self._kinds[FunnelwatchBefore.name] = partial(FunnelwatchBefore, root=options.against)
        self._full = self._load("clicks", options.events, options)
        short = min(options.plain_events, options.events)
        self._short = self._load("clicks-short", short, options) if SLOW & set(options.only) else self._full

    def _load(self, topic: str, events: int, options: argparse.Namespace) -> Load:
        found = list(islice(clicks(options.events, options.entities), events))
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

    def turn(self, name: str) -> Run:
        with self._kinds[name](self.task(name)) as contender:
            try:
                return run(contender, self.load(name).expected)
            finally:
                contender.kill()  # nobody waits for an orderly end

    def warm_up(self) -> None:
        """Read everything once, so that the first contender does not pay for a cold broker."""
        with Limit(self.task(Limit.name)) as contender:
            run(contender, self._full.expected)
            contender.kill()

    def profile(self) -> Iterator[str]:
        return profile(self.task("profile"), self._full.expected)


def say(line: str) -> None:
    print(line, flush=True)


def take_turns(bench: Bench, names: list[str], rounds: int) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:  # nobody is always first
            found = bench.turn(name)
            runs[name].append(found)
            say(f"round {number + 1}: {name} {found.rate:,.0f}/s, {found.records:,} records in {found.seconds:.2f} s")
    return runs


def required(name: str) -> Path:
    found = requirements.find(name)
    if isinstance(found, requirements.Missing):
        raise FunnelwatchError(found.reason)
    return found


@contextmanager
def parts() -> Iterator[tuple[Kafka, RedisServer]]:
    jars, binary = required("kafka_jars"), required("redis_server_binary")
    with Kafka(jars) as kafka, RedisServer(binary) as redis:
        yield kafka, redis


def checkout(path: str) -> Path:
    """The folder of another checkout. Raises ArgumentTypeError."""
    found = Path(path).resolve()
    if not (found / "streams" / "cli.py").is_file():
        raise argparse.ArgumentTypeError(f"{path} is no checkout of this repository: it has no streams/cli.py")
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--events", type=int, default=400_000, help="records in the topic")
    parser.add_argument("--entities", type=int, default=50_000, help="people whom they are about")
    parser.add_argument("--plain-events", type=int, default=30_000, help="records that the plain Faust agent reads, the first of the same")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(CONTENDERS), help="may be given several times")
    parser.add_argument("--against", type=checkout, metavar="PATH", help="also run the worker of another checkout, as funnelwatch-before")
    parser.add_argument("--profile", action="store_true", help="run the worker once and say where its time goes")
    parser.add_argument("--stages", action="store_true", help="only say what each stage of the worker's own work costs, without servers")
    parser.add_argument("--pseudonyms", action="store_true", help="with --stages: entities have pseudonyms")
    parser.add_argument("--growth", action="store_true", help="only say how the cost of an event grows with people and funnels")
    parser.add_argument("--memory", action="store_true", help="only say how many bytes an entity takes")
    parser.add_argument("--read", action="store_true", help="only say how quickly readers are answered, and what that costs counting")
    options = parser.parse_args()
    options.growth_too = not options.only and options.against is None
    options.only = options.only or list(CONTENDERS)
    if options.profile:
        options.only = ["funnelwatch"]
    if options.against is not None:
        options.only.append(FunnelwatchBefore.name)
    return options


def asked_for(options: argparse.Namespace) -> Iterator[str]:
    if options.stages:
        names = Pseudonyms(Key(secrets.token_hex())) if options.pseudonyms else None
        yield from stages(list(clicks(options.events, options.entities)), names)
    elif options.growth:
        yield from growth()
    elif options.memory:
        with RedisServer(required("redis_server_binary")) as redis:
            yield from memory(redis.url)
    elif options.read:
        with parts() as (kafka, redis):
            yield from reading(kafka, redis)
    else:
        yield from compared(options)


def compared(options: argparse.Namespace) -> Iterator[str]:
    """The contenders; the last line is for other programs."""
    with parts() as (kafka, redis):
        bench = Bench(kafka, redis, options)
        bench.warm_up()
        if options.profile:
            yield from bench.profile()
            return
        runs = take_turns(bench, options.only, options.rounds)
    for name in sorted(SLOW & set(runs)):
        yield f"{name} reads the first {min(options.plain_events, options.events):,} records of the same only, so that it ends"
    yield "what every contender counted was equal to a recount\n"
    yield from report.lines(runs)
    if options.growth_too:
        yield ""
        yield from growth()
    yield report.last_line(runs)


def main() -> int:
    options = arguments()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns of every retry, and a new topic needs some
    for line in asked_for(options):
        say(line)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FunnelwatchError as error:
        sys.exit(str(error))
