"""`--profile`: where the worker's time goes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from tests.bench.contenders import Profiled, Task
from tests.bench.measure import Run, WrongContender, run
from tests.bench.workload import Counts

TOP = 25
FOUND_SECONDS_MAX = 10.0


def profile(task: Task, expected: Counts) -> Iterator[str]:
    """Run the worker once under the sampler and say what each of its threads did."""
    with Profiled(task) as worker:
        measured = run(worker, expected, at_first=(worker.control / "begin").touch)
        (worker.control / "end").touch()
        found = _found(worker)
    yield from _lines(measured, found)


def _found(worker: Profiled) -> dict[str, Any]:
    deadline = time.monotonic() + FOUND_SECONDS_MAX
    while not (worker.control / "found").exists():
        if time.monotonic() > deadline or not worker.running:
            raise WrongContender(worker, "wrote no profile")
        time.sleep(0.05)
    found: dict[str, Any] = json.loads((worker.control / "found").read_text())
    return found


def _lines(measured: Run, found: dict[str, Any]) -> Iterator[str]:
    worker, kafka, redis = measured.cpu_seconds_per_million
    yield f"{measured.rate:,.0f} events/s under the sampler; others took {measured.others:.0%} of the machine"
    yield f"CPU seconds per million events: worker {worker:.2f}, Kafka {kafka:.2f}, Redis {redis:.2f}"
    for thread, spent in sorted(found["cpu"].items(), key=lambda item: -item[1]):
        if thread not in found["functions"] or spent < 0.01:
            continue
        yield f"\n=== {thread}: {spent:.2f} CPU s in {found['seconds']:.2f} s"
        for title, kind in (("own time by function", "functions"), ("own time by line", "lines"), ("with what it calls", "within")):
            yield f"--- {title}"
            yield from _top(found[kind][thread], sum(found["functions"][thread].values()))


def _top(counts: dict[str, int], samples: int) -> Iterator[str]:
    for name, count in sorted(counts.items(), key=lambda item: -item[1])[:TOP]:
        yield f"{count / samples:7.1%}  {name}"
