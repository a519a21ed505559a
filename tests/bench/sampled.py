"""`funnelwatch …` with a thread in it that writes down what the other threads do.

    python -m tests.bench.sampled FOLDER worker --config F

It samples from the moment that FOLDER/begin exists until FOLDER/end does, then writes FOLDER/found:
per thread its CPU seconds, and how often which function and which line of ours or of a library was
being executed. A sample is taken when the sampler gets the interpreter's lock, so what runs without
the lock (Redis and Kafka sockets, sleeping) shows as the line that waits for it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from streams.cli import main

SAMPLE_SECONDS = 0.002
TICKS = os.sysconf("SC_CLK_TCK")


class Sampler:
    """Counts, by thread, functions and lines at the top of the stack."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._functions: dict[str, Counter[str]] = {}
        self._lines: dict[str, Counter[str]] = {}
        self._within: dict[str, Counter[str]] = {}

    def run(self) -> None:
        while not (self._folder / "begin").exists():
            time.sleep(SAMPLE_SECONDS)
        before, began = _cpu_seconds(), time.perf_counter()
        while not (self._folder / "end").exists():
            self._sample()
            time.sleep(SAMPLE_SECONDS)
        seconds, after = time.perf_counter() - began, _cpu_seconds()
        cpu = {name: spent - before.get(name, 0.0) for name, spent in after.items()}
        found = {"seconds": seconds, "cpu": cpu, "functions": self._functions, "lines": self._lines, "within": self._within}
        (self._folder / "found.part").write_text(json.dumps(found))
        (self._folder / "found.part").rename(self._folder / "found")

    def _sample(self) -> None:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            name = names.get(ident)
            if name is not None and ident != threading.get_ident():
                self._note(name, frame)

    def _note(self, thread: str, frame: FrameType) -> None:
        self._functions.setdefault(thread, Counter())[_function(frame)] += 1
        self._lines.setdefault(thread, Counter())[f"{_file(frame)}:{frame.f_lineno}"] += 1
        within = self._within.setdefault(thread, Counter())
        for name in _stack(frame):
            within[name] += 1


def _stack(frame: FrameType | None) -> set[str]:
    found = set()
    while frame is not None:
        found.add(_function(frame))
        frame = frame.f_back
    return found


def _function(frame: FrameType) -> str:
    return f"{_file(frame)} {getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)}"


def _file(frame: FrameType) -> str:
    """The last three parts of the path."""
    return "/".join(Path(frame.f_code.co_filename).parts[-3:])


def _cpu_seconds() -> dict[str, float]:
    """By thread."""
    spent = {}
    for thread in threading.enumerate():
        if thread.native_id is not None:
            fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
            spent[thread.name] = (int(fields[11]) + int(fields[12])) / TICKS
    return spent


if __name__ == "__main__":
    threading.Thread(target=Sampler(Path(sys.argv[1])).run, name="sampler", daemon=True).start()
    sys.argv = ["funnelwatch", *sys.argv[2:]]
    main()
