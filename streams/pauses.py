"""Long work on the worker's loop is done in steps of a millisecond or two, and between two steps others have the loop.

Who connects and asks something is at work in several rounds of the loop: one for the connection, one for
what was sent, one for the answer. A step in each of these gaps would make an answer of 5 ms one of 15. So
a pause lasts until a round has found nothing to do, though not for ever: whoever asks all the time must
not keep a worker from counting.
"""

from __future__ import annotations

import asyncio
import time

QUIET_SECONDS = 50e-6  # a round in which nothing happened takes less
GIVEN_SECONDS_MAX = 0.01  # a round that is longer by itself is the last
# Of Python's garbage collector: new objects until it looks at them (a chunk has not so many at a time, and to look at
# them is a pause of a few milliseconds), until it looks at those once more, and until it looks at all.
COLLECT_AFTER = (10_000, 1, 500)


async def give_way() -> None:
    """Let others have the loop until it is quiet."""
    began = time.perf_counter()
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0)
        now = time.perf_counter()
        if now - before < QUIET_SECONDS or now - began >= GIVEN_SECONDS_MAX:
            return
