"""`--warehouse`: what it costs to keep every window and channel live by asking a warehouse again, beside counting.

The warehouse is ClickHouse in process (chdb): `windowFunnel` over the bench's events in a Parquet file, at several lengths of
history. A question is for all windows of the bench's funnel, of everybody and by channel, so asked once a second it takes as many
cores as CPU seconds. What it takes to get the rows into the file is not counted.

The counting is a real worker at several steady rates, with the same windows: CPU of worker and Redis. It does not depend on history.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

from schemas.errors import FunnelwatchError
from tests.bench.contenders import Funnelwatch, Task
from tests.bench.environments import python_with
from tests.bench.markdown import table
from tests.bench.measure import cpu_seconds_of
from tests.bench.steady import steady
from tests.bench.topic import PARTITIONS
from tests.bench.workload import BEGIN_MS, EVENTS, USERS, Counts, clicks, recount
from tests.parts.kafka import Kafka, create_topic
from tests.parts.redis import RedisServer

PINS = Path(__file__).parent / "warehouse.txt"
ASKS = Path(__file__).parent / "with_chdb.py"
ROWS, LONGER = 400_000, (1, 4, 16)  # rows of history: so many, times these
PEOPLE = 50_000
WINDOWS_SECONDS = (60, 300, 3_600, 86_400, 604_800)  # the bench's funnel has the same
TIMES = 5
RATES = (500, 5_000, 20_000)
SETTLE_SECONDS, MEASURED_SECONDS = 5.0, 10.0
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Asked:
    """What a question costs at some length of history."""

    rows: int
    history_seconds: float
    megabytes: float
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Counted:
    """What counting costs at some rate."""

    rate: float  # events a second that were counted
    worker: float  # cores
    redis: float

    @property
    def cores(self) -> float:
        return self.worker + self.redis


def warehouse(kafka: Kafka, redis: RedisServer, rows: int = ROWS, people: int = PEOPLE) -> Iterator[str]:
    """The tables, and where which is cheaper."""
    with tempfile.TemporaryDirectory(prefix="funnelwatch-warehouse-") as folder:
        questions = _Questions(Path(folder), people)
        asked = [questions.ask(rows * times) for times in LONGER]
    yield f"ClickHouse {questions.version} in process; {len(WINDOWS_SECONDS)} windows in one question, of all and by channel. Medians of {TIMES}.\n"
    yield from _asked(asked)
    yield f"\n{questions.agreement}\n"
    counted = [_counted(kafka, redis, rate) for rate in RATES]
    yield from _counting(counted)
    yield ""
    yield from break_even(asked, counted)


class _Questions:
    """A history that grows, and the same question about it."""

    version = agreement = ""

    def __init__(self, folder: Path, people: int) -> None:
        self._csv, self._parquet = folder / "clicks.csv", folder / "clicks.parquet"
        self._people = people
        self._clicks = clicks(sys.maxsize, people)
        self._rows, self._end_ms = 0, BEGIN_MS

    def ask(self, rows: int) -> Asked:
        """About so many rows, more than before."""
        self._grow(rows)
        windows = ",".join(map(str, WINDOWS_SECONDS))
        command = [str(python_with(PINS)), str(ASKS), str(self._csv), str(self._parquet), str(self._end_ms), windows, str(TIMES)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise FunnelwatchError(f"ClickHouse did not answer about {rows:,} rows: {done.stderr.strip()[-1000:]}")
        said = json.loads(done.stdout)
        if not self.version:
            self.version = said["version"]
            self.agreement = agreement(said["answer"], recount(clicks(rows, self._people)))
        history = (self._end_ms - BEGIN_MS) / 1000
        return Asked(rows, history, said["bytes"] / 1e6, median(said["seconds"]), median(said["cpu_seconds"]))

    def _grow(self, rows: int) -> None:
        with self._csv.open("a") as file:
            for click in islice(self._clicks, rows - self._rows):
                file.write(f"{click.at_ms},{click.entity},{EVENTS[click.stage]},{click.channel}\n")
                self._end_ms = click.at_ms
        self._rows = rows


def agreement(answer: Sequence[tuple[int, int, str, int]], counts: Counts) -> str:
    """Whether users of the longest window are those of the recount, and what the question does not ask for."""
    widest = max(WINDOWS_SECONDS)
    told = {(USERS, stage, channel or None): users for window, stage, channel, users in answer if window == widest}
    right = {cell: users for cell, users in counts.items() if cell[0] == USERS}
    apart = {cell: abs(told.get(cell, 0) - right.get(cell, 0)) for cell in told.keys() | right.keys()}
    of_all = sum(gap > 0 for (_, _, channel), gap in apart.items() if channel is None)
    by_channel = [gap for (_, _, channel), gap in apart.items() if channel is not None]
    return (
        f"Over the first history the users of every stage {'are equal to the recount' if not of_all else f'DIFFER in {of_all} stages'}. "
        f"By channel {sum(gap > 0 for gap in by_channel)} of {len(by_channel)} numbers differ, by {max(by_channel, default=0):,} people at most: "
        "the question takes the channel of the latest event, a worker that of the walk's first. In a shorter window they differ by "
        "definition: `windowFunnel` sees only what is in the window, a worker counts whoever reaches a stage in it, wherever the walk began. "
        "And `windowFunnel` says how far each came, not how often or for how much; a worker counts that too, and entries."
    )


def _counted(kafka: Kafka, redis: RedisServer, rate: float) -> Counted:
    """Of a worker with this load, once it has settled."""
    name = f"bench-live-{uuid.uuid4().hex[:8]}"
    asyncio.run(create_topic(kafka.address, name, PARTITIONS))
    with Funnelwatch(Task(name, kafka.address, redis.url, name, 0, (kafka.pid, redis.pid))) as worker:
        with steady(kafka.address, name, rate):
            _wait_for_first(worker)
            time.sleep(SETTLE_SECONDS)
            began, done = time.monotonic(), worker.done()
            before = cpu_seconds_of(worker.pid), cpu_seconds_of(redis.pid)
            time.sleep(MEASURED_SECONDS)
            after = cpu_seconds_of(worker.pid), cpu_seconds_of(redis.pid)
            seconds, records = time.monotonic() - began, worker.done() - done
        worker.kill()
    return Counted(records / seconds, *((b - a) / seconds for a, b in zip(before, after)))


def _wait_for_first(worker: Funnelwatch) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not worker.done():
        if not worker.running or time.monotonic() > deadline:
            raise FunnelwatchError(f"the worker counted nothing of a steady load; its log ends with:\n{worker.log()}")
        time.sleep(0.1)


def _asked(asked: Sequence[Asked]) -> Iterator[str]:
    header = ("rows of history", "of", "Parquet MB", "a question, s", "CPU s; cores, asked each second")
    yield from table(
        header,
        [
            (f"{a.rows:,}", f"{a.history_seconds / 3600:.1f} h", f"{a.megabytes:.1f}", f"{a.seconds:.2f}", f"{a.cpu_seconds:.2f}")
            for a in asked
        ],
    )


def _counting(counted: Sequence[Counted]) -> Iterator[str]:
    header = ("events a second", "worker, cores", "Redis, cores", "both")
    rows = [(f"{c.rate:,.0f}", f"{c.worker:.3f}", f"{c.redis:.3f}", f"{c.cores:.3f}") for c in counted]
    yield from table(header, rows)


def break_even(asked: Sequence[Asked], counted: Sequence[Counted]) -> Iterator[str]:
    """How often the warehouse can be asked for what counting costs, by history and rate."""
    yield "Asking is as cheap as counting when it is done every so many seconds; cheaper when rarer, dearer when more often:\n"
    yield from table(
        ("rows of history", *(f"{c.rate:,.0f} events/s" for c in counted)),
        [(f"{a.rows:,}", *(f"{a.cpu_seconds / c.cores:,.1f} s" for c in counted)) for a in asked],
    )
    yield ""
    most = max(a.rows for a in asked)
    yield f"How long it takes until there are {most:,} rows: {', '.join(f'{most / c.rate / 3600:.1f} h at {c.rate:,.0f} events/s' for c in counted)}."
    each_second = [(a, c) for a in asked for c in counted if a.cpu_seconds < c.cores]
    if each_second:
        cases = "; ".join(f"{a.rows:,} rows at {c.rate:,.0f} events/s" for a, c in each_second)
        yield f"Asked once a second, the warehouse is the cheaper one here: {cases}."
    else:
        yield "Asked once a second, the warehouse is dearer in all of these cases."
