"""Play experiments, seed by seed, and take down how each run went."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field

from tests.faults.catalogue import Experiment
from tests.faults.scene import Parts, Scene

SHOWN = 12  # lines of what went wrong


@dataclass(frozen=True)
class Run:
    """How one seed went; no complaint is a success."""

    seed: int
    seconds: float
    recovery: float | None
    complaint: str = ""


@dataclass
class Played:
    """An experiment and its runs."""

    experiment: Experiment
    runs: list[Run] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return sum(bool(run.complaint) for run in self.runs)


def play(experiment: Experiment, seed: int, parts: Parts, *, logs: bool = True) -> Run:
    """One run. A failure is an outcome like any other, whatever it was."""
    began = time.monotonic()
    scene = Scene(parts, experiment.name, seed)
    complaint = ""
    try:
        experiment.play(scene)
    except AssertionError as error:
        complaint = str(error) or "an assertion failed: " + traceback.format_exc(limit=-1)
    except Exception as error:
        complaint = f"{error!r}\n{traceback.format_exc(limit=-4)}"
    finally:
        if complaint and logs:
            complaint += "\n" + "\n".join(scene.logs())
        scene.close()
    return Run(seed, time.monotonic() - began, scene.recovery, complaint)


def told(experiment: Experiment, run: Run) -> str:
    """One run, as a line or as a failure with its seed."""
    head = f"{experiment.name} seed {run.seed}: {'FAILED' if run.complaint else 'exact'} in {run.seconds:.0f} s"
    if not run.complaint:
        return head + (f", recovered in {run.recovery:.1f} s" if run.recovery is not None else "")
    lines = run.complaint.splitlines()
    shown = [f"    {line}" for line in (lines if len(lines) <= 2 * SHOWN else [*lines[:SHOWN], "...", *lines[-SHOWN:]])]
    return "\n".join([head, *shown, f"    again: python -m tests.faults --only {experiment.name} --seed {run.seed}"])
