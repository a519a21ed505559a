"""Hours of nothing but work."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import yaml

from tests.books import SHOWN, read_books, wrong_cells
from tests.faults.catalogue import experiment
from tests.faults.endless import LAP, Laps, in_all
from tests.faults.scene import Scene
from tests.faults.workers import FaultyWorker
from tests.oracle import recount
from tests.oracle_events import Record

RATE = 10_000.0
SAMPLE_SECONDS = 1.0
SAMPLES_LEAST = 300  # until then a worker is still filling what it may hold
GROWTH_MAX = 1.15  # of memory, from the second fifth of the time to the last
FILES_SPARE = 5
STATES_MAX = {"WORKER__STATES_MAX": "10000"}  # so that what a worker may hold is held early on
KEPT = {"retention_bytes": "268435456", "segment_bytes": "67108864"}  # of a partition


@experiment(once=True)
def soak(scene: Scene) -> None:
    """10,000 events a second for as long as `--seconds` says: counts exact, workers' memory flat, no file left open

    What a lap of the load must come to is recounted once, as the topic is too long to be read again.
    """
    seconds = scene.parts.soak_seconds
    laps = max(1, round(seconds * RATE / LAP))
    scene.deploy(**KEPT)
    records = Laps(laps, scene.seed)
    workers = scene.workers(**STATES_MAX, KAFKA__FETCH_BYTES_MAX="1048576")
    samples: list[list[tuple[int, int]]] = []
    with scene.load(records, RATE) as load:
        deadline = time.monotonic() + seconds * 1.5 * scene.parts.patience
        while load.share < 1:
            assert time.monotonic() < deadline, f"only {load.share:.0%} of the load was produced in time"
            samples.append([_size(worker) for worker in workers])
            time.sleep(SAMPLE_SECONDS)
        load.finish()
    scene.over()
    ends = scene.catches_up()
    lap = recount(yaml.safe_load(scene.deployment.config.read_text()), [Record(0, n, *click) for n, click in enumerate(records[:LAP])])
    books = read_books(scene.deployment)
    expected = in_all(lap, laps, books.oldest)
    wrong = wrong_cells(expected, books)
    assert not wrong, f"{len(wrong)} cells are wrong: {wrong[:SHOWN]}"
    assert books.fates == expected.fates, f"fates: must be {expected.fates}, are {books.fates}"
    assert sum(ends.values()) == expected.records
    for number in range(len(workers)):
        flat([each[number] for each in samples], f"worker {number}")


def _size(worker: FaultyWorker) -> tuple[int, int]:
    """Kilobytes of memory, and open files."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]), len(os.listdir(f"/proc/{worker.pid}/fd"))  # noqa: PTH208


def flat(samples: Sequence[tuple[int, int]], whose: str) -> None:
    """Neither memory nor open files have grown since the second fifth of the time; too short a time shows nothing."""
    if len(samples) < SAMPLES_LEAST:
        return
    fifth = len(samples) // 5
    early, late = samples[fifth : 2 * fifth], samples[-fifth:]
    memory = [median(kilobytes for kilobytes, _ in part) for part in (early, late)]
    files = [max(files for _, files in part) for part in (early, late)]
    assert memory[1] <= GROWTH_MAX * memory[0], f"{whose} grew from {memory[0] / 1024:.0f} to {memory[1] / 1024:.0f} MB"
    assert files[1] <= files[0] + FILES_SPARE, f"{whose} had {files[0]} files open, then {files[1]}"
