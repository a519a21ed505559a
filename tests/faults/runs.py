"""The runs that were played, a JSON object a line: ten seeds of everything take hours, and need not be played in one go."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Queue

from tests.bench.machine import commit
from tests.faults.catalogue import Experiment
from tests.faults.play import Played, Run

COMPLAINT_MAX = 300


@dataclass(frozen=True)
class Kept:
    """A run, of which experiment, when, on which commit, and in which circumstances."""

    experiment: str
    run: Run
    day: str
    commit: str
    how: str


class Runs:
    """Runs in a file; of one experiment and seed the newest counts."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.kept: dict[tuple[str, int], Kept] = {(found.experiment, found.run.seed): found for found in _read(file)}

    def add(self, kept: Kept) -> None:
        """Written at once, a complaint by its first line: whoever ends the rest early loses nothing of this."""
        kept = replace(kept, run=replace(kept.run, complaint=kept.run.complaint.partition("\n")[0][:COMPLAINT_MAX]))
        self.kept[kept.experiment, kept.run.seed] = kept
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(json.dumps(asdict(kept)) + "\n")

    def played(self, known: Mapping[str, Experiment]) -> list[Played]:
        """By experiment, in the order of the catalogue; those that are no more are left out."""
        found = {name: Played(experiment) for name, experiment in known.items()}
        for (name, _), kept in sorted(self.kept.items()):
            if name in found:
                found[name].runs.append(kept.run)
        return [played for played in found.values() if played.runs]

    def circumstances(self) -> Iterator[str]:
        """A line for each day, commit and machine."""
        found = Counter((kept.day, kept.commit, kept.how) for kept in self.kept.values())
        for (day, at, how), runs in sorted(found.items()):
            yield f"{runs} run{'s' * (runs != 1)} on {day} at {at}: {how}"


def _read(file: Path | None) -> Iterator[Kept]:
    if file is None or not file.exists():
        return
    for line in file.read_text().splitlines():
        fields = json.loads(line)
        yield Kept(**{**fields, "run": Run(**fields["run"])})


def to_play(chosen: Iterable[Experiment], seeds: Sequence[int], without: Container[tuple[str, int]]) -> Iterator[tuple[Experiment, int]]:
    """Seed by seed, so that whoever stops early has seen everything once; those in `without` need not be played again."""
    experiments = list(chosen)
    for number, seed in enumerate(seeds):
        for experiment in experiments:
            if (experiment.name, seed) not in without and not (experiment.once and number):
                yield experiment, seed


def play_and_keep(
    which: Iterable[tuple[Experiment, int]], lanes: Sequence[Callable[[Experiment, int], Run]], runs: Runs, day: str, how: str
) -> Iterator[tuple[Experiment, Run]]:
    """Play as many at a time as there are lanes; what fails is kept like the rest, and the rest goes on.

    What is on its way when the caller goes, or is interrupted, is waited for, so that it stops what it
    started, but not kept: nobody knows what ended it.
    """
    at, done = commit(), Queue[Future[tuple[Experiment, Run]]]()
    free = Queue[Callable[[Experiment, int], Run]]()
    for lane in lanes:
        free.put(lane)

    def play(experiment: Experiment, seed: int) -> tuple[Experiment, Run]:
        lane = free.get()
        try:
            return experiment, lane(experiment, seed)
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes)) as pool:
        try:
            playing = [pool.submit(play, experiment, seed) for experiment, seed in which]
            for one in playing:
                one.add_done_callback(done.put)
            for _ in playing:
                experiment, run = done.get().result()
                runs.add(Kept(experiment.name, run, day, at, how))
                yield experiment, run
        finally:
            pool.shutdown(cancel_futures=True)
