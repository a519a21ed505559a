"""One run, watched from outside: see the package's docstring for what is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from schemas.errors import FunnelwatchError
from tests.bench.contenders import Contender, Funnelwatch
from tests.bench.workload import Counts

LOOK_SECONDS = 0.01
OTHERS_MAX = 0.1
RUN_SECONDS_MAX = 240.0
TICKS = os.sysconf("SC_CLK_TCK")


class WrongContender(FunnelwatchError):
    """A contender that did not finish, or did not do its job."""

    def __init__(self, contender: Contender, what: str) -> None:
        super().__init__(f"{contender.name} {what}; its log ends with:\n{contender.log()}")


@dataclass(frozen=True)
class Look:
    at: float
    done: int
    cpu_seconds: float  # of the contender
    parts: tuple[float, ...]  # CPU seconds of Kafka and Redis
    machine: float  # CPU seconds of everything that runs, this process left out


@dataclass(frozen=True)
class Run:
    """Between the first look and the last."""

    records: int
    seconds: float
    cpu_seconds: float
    parts: tuple[float, ...]
    machine: float
    late: Run | None = None  # its second half, if that was seen: a JVM has compiled itself by then

    @property
    def others(self) -> float:
        """The share of the machine that went to processes which have no part in the run."""
        strangers = self.machine - self.cpu_seconds - sum(self.parts)
        return max(0.0, strangers / self.seconds / (os.cpu_count() or 1))

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def cpu_seconds_per_million(self) -> tuple[float, ...]:
        """Of the contender, of Kafka, of Redis."""
        return tuple(seconds / self.records * 1e6 for seconds in (self.cpu_seconds, *self.parts))


def run(contender: Contender, expected: Counts, at_first: Callable[[], None] = lambda: None) -> Run:
    """Run it to its end and check what it counted; `at_first` is called at the first look.

    Raises:
        WrongContender: it ended, hung or counted wrong.

    """
    contender.start()
    first = _look(contender, 1)
    at_first()
    half = _look(contender, contender.task.events // 2)
    last = _look(contender, contender.task.events)
    if last.done == first.done:
        raise WrongContender(contender, f"was done with all {last.done} records at the first look; give it more events")
    _check(contender, expected, last.done)
    return _between(first, last, None if half.done in {first.done, last.done} else _between(half, last))


def _between(first: Look, last: Look, late: Run | None = None) -> Run:
    return Run(
        last.done - first.done,
        last.at - first.at,
        last.cpu_seconds - first.cpu_seconds,
        tuple(after - before for before, after in zip(first.parts, last.parts)),
        last.machine - first.machine,
        late,
    )


def _look(contender: Contender, least: int) -> Look:
    """The first look that finds `least` records done."""
    deadline = time.monotonic() + RUN_SECONDS_MAX
    while (done := contender.done()) < least:
        if not contender.running:
            raise WrongContender(contender, f"ended after {done} of {contender.task.events} records")
        if time.monotonic() > deadline:
            raise WrongContender(contender, f"was done with only {done} records after {RUN_SECONDS_MAX:g} s")
        time.sleep(LOOK_SECONDS)
    parts = tuple(cpu_seconds_of(pid) for pid in contender.task.parts)
    return Look(time.perf_counter(), done, cpu_seconds_of(contender.pid), parts, machine_seconds() - time.process_time())


def cpu_seconds_of(pid: int) -> float:
    """User and system time of all threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def machine_seconds() -> float:
    """User, nice, system, interrupts; what a host takes away counts as another's too."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


def stolen_seconds(cores: Collection[int]) -> float:
    """What the machine's host took from so many cores so far, while they had work to do; 0 where it does not tell."""
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")]
    return sum(int(fields[8]) for fields in lines if fields[0][3:].isdigit() and int(fields[0][3:]) in cores) / TICKS


def noise(others: float) -> Iterator[str]:
    """A warning, where strangers took too great a share of the machine."""
    if others > OTHERS_MAX:
        yield f"NOISY: others took up to {others:.0%} of the machine; repeat this when it is idle."


def p99(times: Sequence[float]) -> float:
    """Never more than the largest."""
    return quantiles(times, n=100, method="inclusive")[98] if len(times) > 1 else times[0]


def _check(contender: Contender, expected: Counts, done: int) -> None:
    if done != contender.task.events:
        raise WrongContender(contender, f"was done with {done} records of {contender.task.events}")
    if isinstance(contender, Funnelwatch) and contender.fates() != {"applied": done}:
        raise WrongContender(contender, f"did not apply all of {done} records: {dict(contender.fates())}")
    found = contender.counts()
    if found is not None and found != expected:
        wrong = {cell: (found.get(cell, 0), count) for cell, count in expected.items() if found.get(cell, 0) != count}
        raise WrongContender(contender, f"counted wrong; cell: (counted, right): {wrong or found}")
