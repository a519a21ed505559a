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
from collections.abc import Callable

QUIET_SECONDS = 50e-6  # a round in which nothing happened takes less
GIVEN_SECONDS_MAX = 0.01  # a round that is longer by itself is the last
# Of Python's garbage collector: how many new objects it may come to by itself before it looks at them, which is a pause
# of a tenth of a second and more. A chunk in work has some ten thousand: they are not to be looked at for every chunk.
COLLECT_AFTER = (300_000, 20, 50)
NEW_SECONDS, ALL_SECONDS = 1.0, 3600.0  # between two looks at what is new (at least), and at everything
COLLECTING_SHARE = 1 / 300  # of the time may go into looking at what is new; of a worker that counts flat out that is much


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
    """Has the garbage collector look at what is new: once a second while that is little, else as seldom as it takes long."""

    def __init__(self, now: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._new_due, self._all_due = now + NEW_SECONDS, now + ALL_SECONDS
        self._clock = clock

    def tick(self, now: float) -> None:
        """Called again and again; `now` in seconds of a clock that never goes back."""
        if now >= self._all_due:
            gc.collect()
            self._new_due, self._all_due = now + NEW_SECONDS, now + ALL_SECONDS
        elif now >= self._new_due:
            began = self._clock()
            gc.collect(1)
            self._new_due = now + max(NEW_SECONDS, (self._clock() - began) / COLLECTING_SHARE)


async def give_way() -> None:
    """Let others have the loop until it is quiet."""
    began = time.perf_counter()
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0)
        now = time.perf_counter()
        if now - before < QUIET_SECONDS or now - began >= GIVEN_SECONDS_MAX:
            return
