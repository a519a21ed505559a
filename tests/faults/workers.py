"""Workers as processes, with a fault built in where an experiment asks for one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.parts.requirements import ROOT
from tests.parts.worker import Deployment, Worker

FULL = Path("/dev/full")  # every write to it fails for want of room


class FaultyWorker(Worker):
    """`faults` are those of `tests.faults.entry`, and hold from the next start on; empty: the worker as it is."""

    def __init__(self, config: Path, settings: Mapping[str, str], faults: Mapping[str, Any] | None = None, *, mute: bool = False) -> None:
        super().__init__(config, settings)
        self.faults = dict(faults or {})
        self._mute = mute

    def command(self) -> list[str]:
        usual = super().command()
        if not self.faults:
            return usual
        python = usual.index(sys.executable)
        entry = ["-m", "tests.faults.entry", json.dumps(self.faults)]
        return [*usual[:python], f"PYTHONPATH={ROOT}", sys.executable, *entry, *usual[python + 3 :]]

    @classmethod
    def of(cls, deployment: Deployment, faults: Mapping[str, Any] | None = None, *, mute: bool = False, **settings: str) -> FaultyWorker:
        """A worker of a deployment, not started yet."""
        usual = deployment.worker(**settings)
        return cls(usual._config, usual._settings, faults, mute=mute)

    def ended(self, seconds: float) -> int:
        """Wait until it has ended by itself; its exit code."""
        assert self._child is not None
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"a worker was still there after {seconds:g} s") from None

    def up(self, seconds: float) -> None:
        """Wait until it counts; `start` waits for that as well, but ends a worker that takes its time."""
        deadline = time.monotonic() + seconds
        while not self.answers():
            assert time.monotonic() < deadline, f"a worker does not count after {seconds:g} s: {self.log(3)}"
            time.sleep(0.1)

    def log(self, lines: int = 20) -> str:
        return "" if self._mute else super().log(lines)

    @property
    def _log_path(self) -> Path:
        return FULL if self._mute else super()._log_path
