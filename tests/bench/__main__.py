"""`python -m tests.bench`: see `tests.bench`."""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import FunnelwatchError
from streams.pseudonym import Key, Pseudonyms
from tests.bench import machine, page, report
from tests.bench.backtests import backtests
from tests.bench.contenders import FunnelwatchBefore
from tests.bench.growth import growth
from tests.bench.hashes import hashes
from tests.bench.latency import latency
from tests.bench.memory import memory
from tests.bench.page import Section
from tests.bench.reading import reading
from tests.bench.replays import replays
from tests.bench.scale import scale
from tests.bench.stages import stages
from tests.bench.turns import KINDS, SLOW, Bench, Found, Sizes
from tests.bench.warehouse import warehouse
from tests.bench.workload import clicks
from tests.parts import requirements
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer

LONGER, LASTING = 4, ("limit", "funnelwatch", "kafka-streams", "kafka-streams-2")  # times the events; who reads them


def say(line: str) -> None:
    print(line, flush=True)


def required(name: str) -> Path:
    found = requirements.find(name)
    if isinstance(found, requirements.Missing):
        raise FunnelwatchError(found.reason)
    return found


@contextmanager
def parts() -> Iterator[tuple[Kafka, RedisServer]]:
    jars, binary = required("kafka_jars"), required("redis_server_binary")
    with Kafka(jars, hot=True) as kafka, RedisServer(binary) as redis:
        yield kafka, redis


def checkout(path: str) -> Path:
    """The folder of another checkout. Raises ArgumentTypeError."""
    found = Path(path).resolve()
    if not (found / "streams" / "cli.py").is_file():
        raise argparse.ArgumentTypeError(f"{path} is no checkout of this repository: it has no streams/cli.py")
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--events", type=int, default=400_000, help="records in the topic, rows in the warehouse")
    parser.add_argument("--entities", type=int, default=50_000, help="people whom they are about")
    parser.add_argument("--plain-events", type=int, default=30_000, help="records that the plain Faust agent reads, the first of the same")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(KINDS), help="may be given several times")
    parser.add_argument("--against", type=checkout, metavar="PATH", help="also run the worker of another checkout, as funnelwatch-before")
    parser.add_argument("--pseudonyms", action="store_true", help="with --stages: entities have pseudonyms")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--report", type=Path, metavar="FILE", help="everything but --profile and --stages, and write the page, as Markdown")
    parser.add_argument("--again", metavar="TITLE", help="with --report: only this section, in the page that there is")
    for name, (_, about) in PARTS.items():
        one.add_argument(f"--{name}", action="store_const", dest="part", const=name, help=f"only {about}")
    options = parser.parse_args()
    options.only = options.only or list(KINDS)
    if options.again is not None:
        titles = [section.title for section in sections(options)]
        if options.report is None or options.again not in titles:
            parser.error(f"--again goes with --report, and with one of its sections: {', '.join(titles)}")
    if options.against is not None:
        options.only.append(FunnelwatchBefore.name)
    return options


def _profile(options: argparse.Namespace) -> Iterator[str]:
    with parts() as (kafka, redis):
        yield from Bench(kafka, redis, Sizes.of(options), ["funnelwatch"]).profile()


def _stages(options: argparse.Namespace) -> Iterator[str]:
    names = Pseudonyms(Key(secrets.token_hex())) if options.pseudonyms else None
    yield from stages(list(clicks(options.events, options.entities)), names)


def _with_redis(lines: Callable[[str], Iterator[str]]) -> Callable[[argparse.Namespace], Iterator[str]]:
    def run(_: argparse.Namespace) -> Iterator[str]:
        with RedisServer(required("redis_server_binary")) as redis:
            yield from lines(redis.url)

    return run


def _warehouse(options: argparse.Namespace) -> Iterator[str]:
    with parts() as (kafka, redis):
        yield from warehouse(kafka, redis, options.events, options.entities)


def _with_parts(lines: Callable[[Kafka, RedisServer], Iterator[str]]) -> Callable[[argparse.Namespace], Iterator[str]]:
    def run(_: argparse.Namespace) -> Iterator[str]:
        with parts() as (kafka, redis):
            yield from lines(kafka, redis)

    return run


PARTS: dict[str, tuple[Callable[[argparse.Namespace], Iterator[str]], str]] = {
    "profile": (_profile, "run the worker once and say where its time goes"),
    "stages": (_stages, "say what each stage of the worker's own work costs, without servers"),
    "warehouse": (_warehouse, "say what it would cost to ask ClickHouse again and again instead"),
    "latency": (_with_parts(latency), "say how soon an event is visible and somebody is told of an outage"),
    "growth": (lambda _: growth(), "say how the cost of an event grows with people, funnels and what else"),
    "replay": (lambda _: replays(), "replay files of a million and of ten million events, and say how fast and in how much memory"),
    "backtest": (lambda _: backtests(), "put a month of history through alert rules, and say how long that takes beside a replay"),
    "memory": (_with_redis(memory), "say how many bytes an entity takes"),
    "hashes": (_with_redis(hashes), "say how long Redis is at a chunk of many funnels, by one of its settings"),
    "read": (_with_parts(reading), "say how quickly readers are answered, and what that costs counting"),
    "scale": (_with_parts(scale), "say how many events a second more workers and machines can do"),
}


def compared(options: argparse.Namespace) -> int:
    """The contenders; the last line is for other programs. 1 if a contender failed."""
    with parts() as (kafka, redis):
        found = Bench(kafka, redis, Sizes.of(options), options.only, options.against).take_turns()
    for line in _compared(found, options):
        say(line)
    say(report.last_line(found.runs))
    for name, why in found.failed.items():
        print(f"{name} failed: {why.splitlines()[0]}", file=sys.stderr)
    return int(bool(found.failed))


def _compared(found: Found, options: argparse.Namespace) -> Iterator[str]:
    for name in sorted(SLOW & set(found.runs)):
        yield f"{name} reads the first {min(options.plain_events, options.events):,} records of the same only, so that it ends."
    yield f"{options.events:,} events of {options.entities:,} people, {options.rounds} rounds; what every contender counted was equal to a recount."
    for name, why in found.failed.items():
        yield f"\n**{name} failed: {why.splitlines()[0]}**"
    yield ""
    if found.runs:
        yield from report.lines(found.runs)


def sections(options: argparse.Namespace) -> Iterator[Section]:
    """Of the page."""
    sizes = ("--entities", str(options.entities))
    events, rounds = ("--events", str(options.events)), ("--rounds", str(options.rounds))
    names = [name for name in options.only if name in KINDS]  # another checkout is not for a page
    lasting = [name for name in LASTING if name in names]
    yield Section(
        "The contenders",
        (*events, *sizes, "--plain-events", str(options.plain_events), *rounds, *(f"--only={name}" for name in names)),
    )
    yield Section(
        f"The same over {LONGER} times the events, most of which a JVM counts with code that it has compiled",
        ("--events", str(LONGER * options.events), *sizes, *rounds, *(f"--only={name}" for name in lasting)),
    )
    yield Section("Asking a warehouse again", ("--warehouse", *events, *sizes))
    yield Section("How soon", ("--latency",))
    yield Section("How cost grows", ("--growth",))
    yield Section("Memory", ("--memory",))
    yield Section("A file again", ("--replay",))
    yield Section("Alert rules over a month", ("--backtest",))
    yield Section("A chunk of many funnels in Redis", ("--hashes",))
    yield Section("Readers", ("--read",))
    yield Section("More workers and machines", ("--scale",))


def reported(options: argparse.Namespace) -> int:
    """Run every section, or one again, and write the page; 1 if one of them is not whole."""
    found = []
    for section in sections(options):
        if options.again not in (None, section.title):
            continue
        say(f"\n## {section.title}\n")
        found.append(page.written(section, say))
    if options.again is None:
        page.write(options.report, found, list(machine.facts()))
    else:
        page.write_again(options.report, found[0], machine.of())
    for one in found:
        if one.failed:
            say(f"FAILED: {one.section.title}: {one.failed}")
    say(found[0].summary)
    return int(any(one.failed for one in found))


def main() -> int:
    options = arguments()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # it warns of every retry, and a new topic needs some
    if options.report is not None:
        return reported(options)
    if options.part is None:
        return compared(options)
    lines, _ = PARTS[options.part]
    for line in lines(options):
        say(line)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FunnelwatchError as error:
        sys.exit(str(error))
