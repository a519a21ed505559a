"""The worker as a user runs it: `funnelwatch worker --config F`, a process of its own, set up by its environment."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import httpx

from streams.process import Process

SESSION_SECONDS = 3.0
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Worker(Process):
    """A worker with the given settings (`KAFKA__GROUP`: value); it is up when it is ready to count."""

    name: ClassVar[str] = "worker"
    start_seconds: ClassVar[float] = 60.0
    grace_seconds: ClassVar[float] = 20.0

    def __init__(self, config: Path, settings: Mapping[str, str]) -> None:
        super().__init__()
        self._config = config
        self.exit_code: int | None = None
        self._settings = {**settings, "WEB__PORT": str(self.port)}

    def command(self) -> list[str]:
        environment = [f"FUNNELWATCH_{name}={value}" for name, value in self._settings.items()]
        return ["env", "FUNNELWATCH_COMPILED=1", *environment, sys.executable, "-m", "streams.cli", "worker", "--config", str(self._config)]

    def answers(self) -> bool:
        try:
            return self.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End it in order; `exit_code` says how it ended."""
        child = self._child
        super().stop()
        if child is not None:
            self.exit_code = child.returncode

    def __exit__(self, *_: object) -> None:
        self.kill()  # the test is over; an orderly end is asked for where it matters
        self.close()

    def get(self, path: str, **params: str) -> httpx.Response:
        """What it answers over HTTP."""
        return httpx.get(f"http://{self.address}{path}", params=params, timeout=5.0)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0 where there are none."""
        samples = SAMPLE.findall(self.get("/metrics").raise_for_status().text)
        return sum(
            float(value) for found, shown, value in samples if found == name and labels.items() <= dict(LABEL.findall(shown)).items()
        )


@dataclass(frozen=True)
class Deployment:
    """One ledger, one config, and as many workers as a test wants."""

    kafka: str
    redis: str
    prefix: str
    config: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def worker(self, **settings: str) -> Worker:
        """A worker that is not started yet; settings go over those of the deployment."""
        usual = {
            "KAFKA__BROKERS": self.kafka,
            "KAFKA__GROUP": self.prefix,
            "KAFKA__SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
            "KAFKA__HEARTBEAT_SECONDS": "0.5",
            "REDIS__URL": self.redis,
            "REDIS__PREFIX": self.prefix,
        }
        return Worker(self.config, {**usual, **self.settings, **settings})


@contextmanager
def together(*workers: Worker) -> Iterator[None]:
    """Start workers at the same time; end them all."""
    with ThreadPoolExecutor(len(workers)) as pool:
        try:
            list(pool.map(Worker.start, workers))
            yield
        finally:
            for worker in workers:
                worker.kill()
                worker.close()
