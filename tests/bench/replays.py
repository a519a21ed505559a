"""`--replay`: a file of ten million events, by the command that people use, beside one of a tenth of it about the same people.

The memory is the most that the process ever had, and what each file holds is recounted by `workload`, which shares no code with it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from schemas.errors import FunnelwatchError
from tests.bench.contenders import config
from tests.bench.markdown import table
from tests.bench.workload import REACHES, STAGES, USERS, VALUE, Click, Counts, clicks, recount

SIZES, PEOPLE = (1_000_000, 10_000_000), 50_000
MILLIONTHS = 1_000_000
HEADER = ("events", "file, MB", "seconds", "events/s", "CPU an event, µs", "most memory, MB")
MEMORY_RATIO_MAX = 1.25
LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Replayed:
    """One run of the command."""

    events: int
    file_bytes: int
    seconds: float
    cpu_seconds: float
    memory_bytes: int
    said: Any  # what it printed

    @property
    def row(self) -> Sequence[str]:
        rate, cpu = self.events / self.seconds, self.cpu_seconds / self.events * 1e6
        memory = f"{self.memory_bytes / 2**20:.0f}"
        return f"{self.events:,}", f"{self.file_bytes / 1e6:,.0f}", f"{self.seconds:.0f}", f"{rate:,.0f}", f"{cpu:.1f}", memory


def replays(sizes: Sequence[int] = SIZES, people: int = PEOPLE) -> Iterator[str]:
    """The table, and whether the claims hold. Raises FunnelwatchError if a count is not that of the recount."""
    found = [_one(events, people) for events in sizes]
    yield f"`funnelwatch replay FILE --json` of the bench's funnel and {people:,} people; every count was equal to a recount."
    yield ""
    yield from table(HEADER, [one.row for one in found])
    yield ""
    grown = found[-1].memory_bytes / found[0].memory_bytes
    held = "held" if grown < MEMORY_RATIO_MAX else "NOT HELD"
    yield f"claim: memory grows with people, not with events, under {MEMORY_RATIO_MAX:g} ×: {grown:.2f} ×, {held}"


def _one(events: int, people: int) -> Replayed:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(yaml.safe_dump(config("clicks")))
        with (folder / "events.jsonl").open("wb") as file:
            expected = recount(_noted(clicks(events, people), file))
        found = _replayed(folder, events)
    books = {fate: found.said[fate] for fate in ("consumed", "applied", "filtered", "late", "duplicate")}
    if books != {"consumed": events, "applied": events, "filtered": 0, "late": 0, "duplicate": 0} or found.said["rejected"]:
        raise FunnelwatchError(f"a replay of {events} events ends with {books}, rejected {found.said['rejected']}")
    if counts(found.said) != expected:
        raise FunnelwatchError(f"a replay of {events} events has other counts than a recount")
    return found


def _noted(found: Iterator[Click], file: BinaryIO) -> Iterator[Click]:
    for click in found:
        file.write(click.value() + b"\n")
        yield click


def _replayed(folder: Path, events: int) -> Replayed:
    command = [
        sys.executable,
        "-m",
        "streams.cli",
        "replay",
        str(folder / "events.jsonl"),
        "--config",
        str(folder / "config.yaml"),
        "--json",
    ]
    began, memory = time.perf_counter(), 0
    with (folder / "said.json").open("wb") as said, (folder / "log.txt").open("wb") as log:
        child = subprocess.Popen(command, stdout=said, stderr=log)
        while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
            memory = max(memory, _memory(child.pid))
            time.sleep(LOOK_SECONDS)
    _, status, used = ended
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if child.returncode != 0:
        raise FunnelwatchError(f"replay ended with {child.returncode}: {(folder / 'log.txt').read_text()[-2000:]}")
    size, printed = (folder / "events.jsonl").stat().st_size, json.loads((folder / "said.json").read_text())
    return Replayed(events, size, seconds, used.ru_utime + used.ru_stime, memory, printed)


def _memory(pid: int) -> int:
    """The most bytes that a process has had so far. What `wait4` says of it has that of the process which began it, too."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def counts(said: Any) -> Counts:
    """What a replay's JSON object says since ever, as the recount names it."""
    funnel = said["funnels"]["purchase"]
    split = {None: funnel["stages"], **{name: value["stages"] for name, value in funnel["dimensions"]["channel"].items()}}
    found = {}
    for channel, stages in split.items():
        for place, stage in enumerate(stages):
            assert stage["name"] == STAGES[place]
            found[USERS, place, channel] = stage["reached"]
            found[REACHES, place, channel] = stage["events"]
            found[VALUE, place, channel] = round(stage["value"] * MILLIONTHS)
    return {cell: count for cell, count in found.items() if count}
