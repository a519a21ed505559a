"""One run, watched from outside: see the package's docstring for what is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import FunnelwatchError
from tests.bench.contenders import Contender, Funnelwatch
from tests.bench.workload import Counts

LOOK_SECONDS = 0.01
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
    cpu_seconds: float


@dataclass(frozen=True)
class Run:
    """Between the first look and the last."""

    records: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.records / self.seconds

    @property
    def cpu_seconds_per_million(self) -> float:
        return self.cpu_seconds / self.records * 1e6


def run(contender: Contender, expected: Counts, at_first: Callable[[], None] = lambda: None) -> Run:
    """Run it to its end and check what it counted; `at_first` is called at the first look.

    Raises:
        WrongContender: it ended, hung or counted wrong.

    """
    contender.start()
    first = _look(contender, 1)
    at_first()
    last = _look(contender, contender.task.events)
    if last.done == first.done:
        raise WrongContender(contender, f"was done with all {last.done} records at the first look; give it more events")
    _check(contender, expected, last.done)
    return Run(last.done - first.done, last.at - first.at, last.cpu_seconds - first.cpu_seconds)


def _look(contender: Contender, least: int) -> Look:
    """The first look that finds `least` records done."""
    deadline = time.monotonic() + RUN_SECONDS_MAX
    while (done := contender.done()) < least:
        if not contender.running:
            raise WrongContender(contender, f"ended after {done} of {contender.task.events} records")
        if time.monotonic() > deadline:
            raise WrongContender(contender, f"was done with only {done} records after {RUN_SECONDS_MAX:g} s")
        time.sleep(LOOK_SECONDS)
    return Look(time.perf_counter(), done, _cpu_seconds(contender.pid))


def _cpu_seconds(pid: int) -> float:
    """User and system time of all threads so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _check(contender: Contender, expected: Counts, done: int) -> None:
    if done != contender.task.events:
        raise WrongContender(contender, f"was done with {done} records of {contender.task.events}")
    if isinstance(contender, Funnelwatch) and contender.fates() != {"applied": done}:
        raise WrongContender(contender, f"did not apply all of {done} records: {dict(contender.fates())}")
    found = contender.counts()
    if found is not None and found != expected:
        wrong = {cell: (found.get(cell, 0), count) for cell, count in expected.items() if found.get(cell, 0) != count}
        raise WrongContender(contender, f"counted wrong; cell: (counted, right): {wrong or found}")
