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
from collections.abc import Callable, Iterable
from typing import Any, cast

from streams.turns import Steps, T

QUIET_SECONDS = 50e-6  # a round in which nothing happened takes less
STRETCH_SECONDS = 0.001
GIVEN_SECONDS_MAX = 0.01  # a round that is longer by itself is the last
# Of Python's garbage collector: how many new objects it may come to by itself before it looks at them, which would be a pause
# of half a second. What is new is looked at more often, see `Collecting`.
COLLECT_AFTER = (1_000_000, 20, 50)
NEW_SECONDS, NEW_SECONDS_MAX, NEW_SHARE = 0.25, 1.0, 1 / 20  # between two looks at what is new, and the share of time they may take
ALL_SECONDS = 3600.0  # between two looks at everything


class Stretches:
    """Gives way each time that work has gone on for a millisecond: on a slow machine a step is less work, not more time."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = clock()

    async def pause(self) -> None:
        """Called between two parts of the work."""
        if self._clock() - self._began >= STRETCH_SECONDS:
            await give_way()
            self._began = self._clock()


class Collecting:
    """Has the garbage collector look at what is new, often, while that is little: a pause of a few milliseconds.

    Where records wait, those in work are new again and again, and each look at them would be a pause of a tenth of a second and
    more. What is new then is put aside (`gc.freeze`, which takes no time) until everything is looked at: next to nothing of it is
    in circles, and all else goes without the collector.
    """

    def __init__(self, now: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._new_at, self._all_due = now, now + ALL_SECONDS
        self._took = 0.0
        self._clock = clock

    def tick(self, now: float, *, behind: bool) -> None:
        """Called again and again; `now` in seconds of a clock that never goes back. `behind`: records wait to be counted."""
        if now >= self._all_due:
            gc.unfreeze()
            gc.collect()
            self._new_at, self._all_due = now, now + ALL_SECONDS
        elif behind:
            gc.freeze()
        elif now - self._new_at >= min(NEW_SECONDS_MAX, max(NEW_SECONDS, self._took / NEW_SHARE)):
            began = self._clock()
            gc.collect(1)
            self._took, self._new_at = self._clock() - began, now


async def give_way() -> None:
    """Let others have the loop until it is quiet."""
    began = time.perf_counter()
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0)
        now = time.perf_counter()
        if now - before < QUIET_SECONDS or now - began >= GIVEN_SECONDS_MAX:
            return


async def in_turns(steps: Steps[T]) -> T:
    """All steps of a work; whoever else waits on the loop comes in between."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return cast(T, done.value)
        await give_way()


async def let_go(columns: Iterable[list[Any]], rows: int) -> None:
    """Empty columns, so many rows at a time: all at once, those of a chunk of a hundred funnels are a pause of 20 ms."""
    while columns := [column for column in columns if column]:
        for column in columns:
            del column[-rows:]
        await give_way()
