"""How often others have their turn on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def turns_while(work: Callable[[], Awaitable[object]]) -> int:
    """How often others had their turn while something was done."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await work()
    task.cancel()
    return turns
