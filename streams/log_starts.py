"""Where the log of each assigned partition begins, asked for now and then: what retention has left before the reader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import structlog
from faust.transport.consumer import ensure_TP
from faust.types import TP

EVERY_SECONDS = 15.0
PATIENCE_SECONDS = 10.0
log = structlog.get_logger()


class Asked(Protocol):
    """The part of the consumer that is needed: its answer comes from the broker."""

    async def earliest_offsets(self, *partitions: TP) -> Mapping[Any, int]: ...


class LogStarts:
    """`known` has the first offset of each partition as of the last answer; nobody waits for an answer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.known: dict[TP, int] = {}
        self._clock = clock
        self._due = 0.0
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def look(self, consumer: Asked, tps: Collection[TP]) -> None:
        """Ask again when it is time, unless an answer is still awaited."""
        if not tps or self._clock() < self._due or (self._task is not None and not self._task.done()):
            return
        self._due = self._clock() + EVERY_SECONDS
        self._task = asyncio.create_task(self._ask(consumer, tps), name="log starts")

    async def close(self) -> None:
        """Await no more answers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self, consumer: Asked, tps: Collection[TP]) -> None:
        try:
            found = await asyncio.wait_for(consumer.earliest_offsets(*tps), PATIENCE_SECONDS)
        except Exception as error:
            if not self._failing:
                log.warning("where the logs begin cannot be read, trying again", error=repr(error))
            self._failing = True
            return
        self._failing = False
        self.known = {ensure_TP(tp): offset for tp, offset in found.items()}
