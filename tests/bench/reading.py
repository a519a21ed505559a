"""`--read`: what it costs to answer readers, and whether it slows counting, at 100 funnels × 4 windows × 20 values.

A real worker on real servers; everybody's walk is in one of the funnels. Some traffic fills the ledger, and it is read while
nothing comes. Then a topic is counted as fast as it can be, and spans with readers and spans without take turns; the rate of a
span with readers is compared with those around it. Before each span the topic is filled as far as the worker can get in it; the
worker is stopped meanwhile (SIGSTOP; its session is long enough), so that it neither empties the topic nor shares the machine.

What is asked is how long the worker takes to answer, not how long one waits for a core beside Redis and Kafka at full work: it has
a core of its own, as in production; those who read come before whoever they share the others with, as far as they may, and what
they wait for a core nevertheless, by the kernel's count, is taken off (a column has the p99 with it).

    readers    10 requests a second: the list, a funnel, its history and both by value, values compared; a scrape of
               /metrics every 5 s
    pages      those, and 1,000 clients of /api/v1/stream
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

from redis import Redis

from schemas.errors import FunnelwatchError
from tests.bench.contenders import Funnelwatch, Task
from tests.bench.markdown import table
from tests.bench.measure import cpu_seconds_of, p99, stolen_seconds
from tests.bench.readers import Load
from tests.bench.topic import add, fill
from tests.bench.workload import CONVERSION_MS, EVENTS, STAGES, Click
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer

FUNNELS, VALUES, WINDOWS = 100, 20, ("5m", "1h", "24h", "7d")
PEOPLE = 50_000
AT_A_TIME = 5_000  # people on their way
BEFORE_EVENTS, BEFORE_HOURS = 100_000, 1  # that fill the ledger
EVENTS_MEASURED_MAX, MEASURED_MINUTES = 24_000_000, 480
SPAN_SECONDS = 50.0
CONNECT_SECONDS = 10.0  # of a thousand pages, while the worker counts
AHEAD = 1.5  # times what it did of late
RATE_FIRST = 30_000.0  # events a second that the first span is filled for
SETTLED_STEPS = 4
SESSION_SECONDS = 120
ROUNDS = 3  # of a span without readers, one with, one without, one with pages too
QUIET_SECONDS = 150.0
NICE = (-10, -5, -5)  # of those who ask, who scrapes, the pages
LOOK_SECONDS = 0.005
LOOKS_LEAST = 3
PATIENCE_SECONDS = 200.0
API_MS_MAX, SCRAPE_MS_MAX, SLOWED_MAX, PAGES_SECONDS_MAX = 20.0, 100.0, 0.03, 2.0
ALL_CORES = frozenset(range(os.cpu_count() or 1))
NAMES = tuple(f"funnel-{number:02}" for number in range(FUNNELS))
READERS = Load(SPAN_SECONDS, requests=10, scrape_seconds=5, funnels=NAMES, windows=WINDOWS, by="channel")
PAGES = replace(READERS, clients=1000)
LOADS = {"readers": READERS, "readers and 1,000 pages": PAGES}
LISTENED = "tick to client"
HEADER = ("", "p50 ms", "p99 ms", "most", "p99 with the reader's wait", "of")


class Visit(Click):
    """A click of somebody's walk in one of many funnels: `channel` is the funnel's number and the channel's."""

    def value(self) -> bytes:
        funnel, _, channel = self.channel.partition("/")
        return (
            f'{{"event":"{EVENTS[self.stage]}_{funnel}","timestamp":{self.at_ms},"user_id":"{self.entity}",'
            f'"event_id":"e-{self.number:012}","properties":{{"channel":"channel-{channel}"}}}}'
        ).encode()


def visits(seed: int = 5) -> Iterator[Visit]:
    """Some hours of traffic that is sparse, and then some minutes of dense, up to now."""
    chance = random.Random(seed)
    turn_ms = int(time.time() * 1000) - MEASURED_MINUTES * 60_000
    walking: list[tuple[str, str, list[int]]] = [("", "", [])] * AT_A_TIME
    for number in range(BEFORE_EVENTS + EVENTS_MEASURED_MAX):
        at = number - BEFORE_EVENTS
        at_ms = turn_ms + (
            at * MEASURED_MINUTES * 60_000 // EVENTS_MEASURED_MAX if at >= 0 else at * BEFORE_HOURS * 3_600_000 // BEFORE_EVENTS
        )
        place = int(chance.random() * AT_A_TIME)
        entity, shown, stages = walking[place]
        if not stages:
            entity = f"user-{chance.randrange(PEOPLE):06}"
            shown = f"{chance.randrange(FUNNELS)}/{chance.randrange(VALUES):02}"
            stages = list(range(chance.randint(1, len(STAGES))))[::-1]
            walking[place] = entity, shown, stages
        yield Visit(number, at_ms, entity, stages.pop(), shown, 0)


class Read(Funnelwatch):
    """A worker with many funnels, each of events of its own."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.redis = Redis.from_url(task.redis_url, socket_timeout=PATIENCE_SECONDS)

    def prepare(self) -> None:
        (self.folder / "config.yaml").write_text(json.dumps(many(self.task.topic)))

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "FUNNELWATCH_KAFKA__SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS)}


def many(topic: str) -> dict[str, Any]:
    """The config, as YAML takes JSON too."""
    funnels = [
        {
            "name": name,
            "source": "web",
            "conversion_window": f"{CONVERSION_MS // 1000}s",
            "windows": list(WINDOWS),
            "dimensions": {"channel": "properties.channel"},
            "stages": [{"name": stage, "event": f"{event}_{number}"} for stage, event in zip(STAGES, EVENTS)],
        }
        for number, name in enumerate(NAMES)
    ]
    return {"sources": [{"name": "web", "topic": topic, "entity_key": True}], "funnels": funnels}


@dataclass(frozen=True)
class Span:
    """What a worker did in some seconds."""

    rate: float  # events a second
    cpu_seconds_per_million: float
    found: dict[str, Any]  # what the readers saw
    stolen: float = 0.0  # what the host took meanwhile, in cores


class Watched:
    """A worker whose progress is looked at, and whose topic is filled further while it stands still."""

    def __init__(self, worker: Read, traffic: Iterator[Visit]) -> None:
        self.worker, self._traffic = worker, traffic
        self._filled = BEFORE_EVENTS
        self._rate = RATE_FIRST

    def wait(self, least: int) -> None:
        """Until so many records are done."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (done := self.worker.done()) < least:
            if not self.worker.running or time.monotonic() > deadline:
                raise FunnelwatchError(f"the worker was done with only {done} records; its log ends with:\n{self.worker.log()}")
            time.sleep(LOOK_SECONDS)

    def wait_for_metrics(self) -> None:
        """Until it has learned what is usual and has put all series into words."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"funnel_stage_users{" not in urlopen(f"http://{self.worker.address}/metrics", timeout=PATIENCE_SECONDS).read():
            if time.monotonic() > deadline:
                raise FunnelwatchError(f"the worker serves no metrics; its log ends with:\n{self.worker.log()}")
            time.sleep(1)

    def fill(self) -> None:
        """As far as a span takes it, and the time before."""
        self.worker.pause()
        try:
            ahead = int(AHEAD * self._rate * (SPAN_SECONDS + CONNECT_SECONDS))
            more = list(islice(self._traffic, max(0, self.worker.done() + ahead - self._filled)))
            asyncio.run(add(self.worker.task.kafka, self.worker.task.topic, more))
            self._filled += len(more)
        finally:
            self.worker.resume()

    def settle(self) -> None:
        """Until it counts again."""
        for _ in range(SETTLED_STEPS):
            self.wait(self.worker.done() + 1)

    def span(self, load: Load | None) -> Span:
        """The rate of some seconds, from one change of the count of records done to another."""
        self.fill()
        self.settle()
        reading = None if load is None else Reading(self.worker.address, load)
        looks: list[tuple[float, int, float]] = []
        if reading is not None:
            reading.begin()
        began_at, stolen = time.monotonic(), stolen_seconds(ALL_CORES)
        while time.monotonic() < began_at + SPAN_SECONDS:
            done = self.worker.done()
            if not looks or done != looks[-1][1]:
                looks.append((time.perf_counter(), done, cpu_seconds_of(self.worker.pid)))
            time.sleep(LOOK_SECONDS)
        stolen = (stolen_seconds(ALL_CORES) - stolen) / (time.monotonic() - began_at)
        (_, first, _), (_, last, _) = looks[0], looks[-1]
        if last >= self._filled or len(looks) < LOOKS_LEAST:
            raise FunnelwatchError(
                f"{last - first:,} records in {len(looks)} steps, {last:,} of {self._filled:,} in all: too few steps for a rate, or the "
                f"worker is faster than {AHEAD:g} times its last rate, or all {EVENTS_MEASURED_MAX:,} events are used up"
            )
        began, ended = looks[1], looks[-1]
        records = ended[1] - began[1]
        self._rate = records / (ended[0] - began[0])
        found = {} if reading is None else reading.end()
        return Span(self._rate, (ended[2] - began[2]) / records * 1e6, found, stolen)


class Reading:
    """The readers. Those who ask, who scrapes and the pages are processes of their own: none waits until another has read."""

    def __init__(self, address: str, load: Load) -> None:
        self._children = [Reader(address, part, nice) for part, nice in zip(parts_of(load), NICE) if part.asks]
        for child in self._children:
            child.expect_ready()

    def begin(self) -> None:
        for child in self._children:
            child.begin()

    def end(self) -> dict[str, Any]:
        found: dict[str, Any] = {"took_ms": {}, "waited_ms": {}, "delays_ms": []}
        for child in self._children:
            one = child.end()
            found["took_ms"].update(one["took_ms"])
            found["waited_ms"].update(one["waited_ms"])
            found["delays_ms"] += one["delays_ms"]
        return found


def parts_of(load: Load) -> tuple[Load, Load, Load]:
    """A load without all but requests, all but scrapes, all but pages."""
    return replace(load, scrape_seconds=0, clients=0), replace(load, requests=0, clients=0), replace(load, requests=0, scrape_seconds=0)


class Reader:
    """One process of them."""

    def __init__(self, address: str, load: Load, nice: int) -> None:
        command = [sys.executable, "-m", "tests.bench.readers", address, load.text()]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, self._child.pid, nice)

    def _line(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline()

    def expect_ready(self) -> None:
        if self._line() != "ready\n":
            raise FunnelwatchError("the readers could not begin; what they say is above")

    def begin(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()

    def end(self) -> dict[str, Any]:
        line = self._line()
        if self._child.wait() != 0 or not line:
            raise FunnelwatchError("the readers failed; what they say is above")
        found: dict[str, Any] = json.loads(line)
        return found


def reading(kafka: Kafka, redis: RedisServer) -> Iterator[str]:
    """The tables, and whether the claims hold."""
    topic = "visits"
    traffic = visits()
    asyncio.run(fill(kafka.address, topic, islice(traffic, BEFORE_EVENTS)))
    name = f"bench-read-{uuid.uuid4().hex[:8]}"
    with (
        Read(Task(name, kafka.address, redis.url, topic, BEFORE_EVENTS, (kafka.pid, redis.pid))) as worker,
        apart(worker.pid, kafka.pid, redis.pid, os.getpid()),
    ):
        watched = Watched(worker, traffic)
        watched.wait(BEFORE_EVENTS)
        watched.wait_for_metrics()
        yield f"{FUNNELS} funnels × {len(WINDOWS)} windows × {VALUES} values, {BEFORE_EVENTS:,} events counted"
        yield from _quiet(worker)
        kinds = [name for _ in range(ROUNDS) for load in LOADS for name in ("", load)] + [""]
        spans = [(name, watched.span(LOADS.get(name))) for name in kinds]
        for name in LOADS:
            yield from slowed(name, spans)
        worker.kill()


@contextmanager
def apart(worker: int, *others: int) -> Iterator[None]:
    """A core for a worker alone, and the rest for processes that it is to share none with; where there is but one, nothing."""
    all_cores = os.sched_getaffinity(worker)
    first, *rest = sorted(all_cores)
    _keep_to(worker, {first})
    for pid in others:
        _keep_to(pid, set(rest) or all_cores)
    try:
        yield
    finally:
        for pid in others:
            _keep_to(pid, all_cores)


def _keep_to(pid: int, cores: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended since
            os.sched_setaffinity(int(thread.name), cores)


def _quiet(worker: Read) -> Iterator[str]:
    """While nothing is counted."""
    for what, load in LOADS.items():
        readers = Reading(worker.address, replace(load, seconds=QUIET_SECONDS))
        spent, stolen = cpu_seconds_of(worker.pid), stolen_seconds(ALL_CORES)
        readers.begin()
        found = readers.end()
        spent, stolen = cpu_seconds_of(worker.pid) - spent, stolen_seconds(ALL_CORES) - stolen
        yield f"\nNothing to count, {what}: {spent / QUIET_SECONDS:.0%} of a core; {taken(stolen / QUIET_SECONDS)}\n"
        yield from _times([found], load, QUIET_SECONDS)


def slowed(name: str, spans: Sequence[tuple[str, Span]]) -> Iterator[str]:
    """What readers cost counting, by the spans with them and those before and after each, which have none."""
    rates, spent = [span.rate for _, span in spans], [span.cpu_seconds_per_million for _, span in spans]
    among = [place for place, (found, _) in enumerate(spans) if found == name]
    slower = [1 - rates[n] / ((rates[n - 1] + rates[n + 1]) / 2) for n in among]
    dearer = [spent[n] / ((spent[n - 1] + spent[n + 1]) / 2) - 1 for n in among]
    yield f"\nCounting as fast as it can ({median(rates[::2]):,.0f} events/s), {name}: {median(slower):.1%} slower"
    yield f"({', '.join(f'{s:.1%}' for s in slower)}), {median(dearer):.1%} more CPU an event ({', '.join(f'{s:.1%}' for s in dearer)})"
    yield taken(sum(spans[n][1].stolen for n in among) / len(among))
    yield f"\n- claim: by at most {SLOWED_MAX:.0%}: {'held' if median(slower) <= SLOWED_MAX else 'NOT HELD'}\n"
    yield from _times([spans[n][1].found for n in among], LOADS[name], SPAN_SECONDS * len(among))


def taken(cores: float) -> str:
    """How much the host kept from all: as much of each answer's time is none of the worker's."""
    return f"the host took {cores / len(ALL_CORES):.1%} of the machine meanwhile"


def _times(found: Iterable[dict[str, Any]], load: Load, seconds: float) -> Iterator[str]:
    took: dict[str, list[float]] = {}
    whole: dict[str, list[float]] = {}
    for one in found:
        for kind, times in one["took_ms"].items():
            whole.setdefault(kind, []).extend(times)
            took.setdefault(kind, []).extend(t - waited for t, waited in zip(times, one["waited_ms"][kind]))
        if one["delays_ms"]:
            took.setdefault(LISTENED, []).extend(one["delays_ms"])
    rows = []
    for kind, times in took.items():
        with_wait = f"{p99(whole[kind]):.1f}" if kind in whole else ""
        rows.append((kind, *(f"{x:.1f}" for x in (median(times), p99(times), max(times))), with_wait, str(len(times))))
    yield from table(HEADER, rows)
    yield ""
    yield from claims(took)
    if load.clients:
        yield each_page(len(took.get(LISTENED, ())), load.clients, seconds)


def each_page(ticks: int, pages: int, seconds: float) -> str:
    """Whether pages hear often enough of the worker, by the ticks that came to all of them in so many seconds."""
    between = seconds * pages / ticks if ticks else float("inf")
    held = "held" if between <= PAGES_SECONDS_MAX else "NOT HELD"
    return f"- claim: a page hears of the worker every {PAGES_SECONDS_MAX:g} s: every {between:.1f} s, {held}"


def claims(took: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Whether what is asked of the read side held."""
    for kind, times in took.items():
        most = SCRAPE_MS_MAX if kind == "scrape" else API_MS_MAX
        if kind != LISTENED:
            yield f"- claim: p99 of {kind} under {most:g} ms: {p99(times):.1f} ms, {'held' if p99(times) < most else 'NOT HELD'}"
