"""What the demo runs beside itself: its topic, its worker, and how Ctrl-C ends them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.errors import UsageError
from streams.client import Funnelwatch
from streams.process import LOCALHOST, Process, ProcessFailed, free_port

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

DEFAULT_PORT = 6066
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Worker(Process):
    """`funnelwatch worker` on a config, with settings of its own beside those of the environment."""

    name: ClassVar[str] = "worker"
    start_seconds: ClassVar[float] = 60.0
    grace_seconds: ClassVar[float] = 20.0

    def __init__(self, config: Path, settings: dict[str, str], port: int) -> None:
        super().__init__(port)
        self._config = config
        self._settings = settings | {"FUNNELWATCH_WEB__PORT": str(port), "FUNNELWATCH_WEB__HOST": LOCALHOST}

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def command(self) -> list[str]:
        settings = [f"{name}={value}" for name, value in self._settings.items()]
        return ["env", *settings, sys.executable, "-m", "streams.cli", "worker", "--config", str(self._config)]

    def answers(self) -> bool:
        with Funnelwatch(self.url) as service:
            return service.ready()


class Interrupts:
    """The first Ctrl-C (or SIGTERM) ends the traffic; one that comes when there is none ends all at once."""

    def __init__(self) -> None:
        self._processes: list[Process] = []
        self._stop: Callable[[], object] | None = None
        self._before: list[object] = []

    def __enter__(self) -> Self:
        self._before = [signal.signal(number, self._handle) for number in SIGNALS]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in zip(SIGNALS, self._before, strict=True):
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned before

    def watch(self, process: Process) -> None:
        """Kill this one too when there is no time."""
        self._processes.append(process)

    def stop_with(self, stop: Callable[[], object] | None) -> None:
        """What the next Ctrl-C calls, once."""
        self._stop = stop

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
            return
        for process in self._processes:
            # Only a signal: the interrupted code may be waiting for the very same process.
            with suppress(ProcessLookupError, ProcessFailed):
                os.killpg(process.pid, signal.SIGKILL)
        raise KeyboardInterrupt


def choose_port(wanted: int | None) -> int:
    """The wanted port, which must be free; else the usual one, or any when that is taken."""
    if _is_free(wanted or DEFAULT_PORT):
        return wanted or DEFAULT_PORT
    if wanted is not None:
        raise UsageError(f"port {wanted} of {LOCALHOST} is taken; choose another, or leave out --port")
    return free_port()


def create_topic(brokers: str, topic: str, partitions: int) -> None:
    asyncio.run(_create_topic(brokers, NewTopic(topic, partitions, replication_factor=1)))


async def _create_topic(brokers: str, topic: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.create_topics([topic])
    finally:
        await admin.close()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does: a port that only lingers from an earlier run is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
    return True
