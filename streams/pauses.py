"""Long work on the worker's loop is done in steps of a millisecond or two, and between two steps others have the loop.

Who connects and asks something is at work in several rounds of the loop: one for the connection, one for
what was sent, one for the answer. A step in each of these gaps would make an answer of 5 ms one of 15. So
a pause lasts until a round has found nothing to do, though not for ever: whoever asks all the time must
not keep a worker from counting.
"""

from __future__ import annotations

import asyncio
import gc
import time

QUIET_SECONDS = 50e-6  # a round in which nothing happened takes less
GIVEN_SECONDS_MAX = 0.01  # a round that is longer by itself is the last
# Of Python's garbage collector: how many new objects it may come to by itself before it looks at them, which is a pause
# of a tenth of a second and more. A chunk in work has some ten thousand: they are not to be looked at for every chunk.
COLLECT_AFTER = (300_000, 20, 50)
NEW_SECONDS, ALL_SECONDS = 1.0, 3600.0  # between two looks at what is new, and at everything


class Work:
    """Gives way each time that so much was done, in whatever it is counted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._since = 0

    async def did(self, much: int) -> None:
        self._since += much
        if self._since >= self._most:
            self._since = 0
            await give_way()


class Collecting:
    """Has the garbage collector look at what is new while that is little: a pause of a few milliseconds."""

    def __init__(self, now: float) -> None:
        self._new_at = self._all_at = now

    def tick(self, now: float) -> None:
        """Called again and again; `now` in seconds of a clock that never goes back."""
        if now - self._all_at >= ALL_SECONDS:
            gc.collect()
            self._new_at = self._all_at = now
        elif now - self._new_at >= NEW_SECONDS:
            gc.collect(1)
            self._new_at = now


async def give_way() -> None:
    """Let others have the loop until it is quiet."""
    began = time.perf_counter()
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0)
        now = time.perf_counter()
        if now - before < QUIET_SECONDS or now - began >= GIVEN_SECONDS_MAX:
            return
