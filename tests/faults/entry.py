"""A worker with a fault built in: `python -m tests.faults.entry FAULTS worker --config F`.

The product has no hooks for this; what is wrapped here is wrapped before it starts. FAULTS is a JSON
object with any of the keys of `BUILDERS`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

MOVED_SECONDS = 0.05


def signalled(name: str, when: str, nth: int, note: str = "", of: str = "") -> None:
    """Send this process a signal just before, or just after, the ledger's nth apply to shards of that name; a file notes that."""
    from streams.ledger.redis import RedisLedger

    original, done = RedisLedger.apply, 0

    async def apply(self: Any, claim: Any, write: Any) -> Any:
        nonlocal done
        counts = claim.shard.startswith(of)
        done += counts
        ours = counts and done == nth
        if ours and when == "before":
            strike()
        outcome = await original(self, claim, write)
        if ours and when == "after":
            strike()
        return outcome

    def strike() -> None:
        if note:
            Path(note).touch()
        os.kill(os.getpid(), signal.Signals[f"SIG{name}"])

    RedisLedger.apply = apply  # type: ignore[method-assign]


def raising(share: float, seed: int, until: str) -> None:
    """Have the counting agent raise wherever it does its work, until a file is there."""
    from streams.agents import CountingAgent
    from streams.counting import ShardCount

    dice = random.Random(seed)

    def perhaps() -> None:
        if dice.random() < share and not Path(until).exists():
            raise RuntimeError("injected")

    opened, closed, folded = CountingAgent._open, CountingAgent._close, ShardCount.fold

    def open_(self: Any, *args: Any) -> Any:
        perhaps()
        return opened(self, *args)

    async def close(self: Any, *args: Any) -> None:
        perhaps()
        await closed(self, *args)
        perhaps()

    def fold(self: Any, *args: Any) -> Any:
        found = folded(self, *args)
        perhaps()
        return found

    CountingAgent._open, CountingAgent._close, ShardCount.fold = open_, close, fold  # type: ignore[method-assign]


def clock(file: str) -> None:
    """Show the worker a wall clock that is off by as many seconds as a file says, at any moment."""
    off = 0.0
    seconds, nanoseconds = time.time, time.time_ns

    def follow() -> None:
        nonlocal off
        while True:
            off = float(Path(file).read_text() or 0)
            time.sleep(MOVED_SECONDS)

    off = float(Path(file).read_text() or 0)
    time.time = lambda: seconds() + off
    time.time_ns = lambda: nanoseconds() + int(off * 1_000_000_000)
    threading.Thread(target=follow, daemon=True).start()


BUILDERS = {"signalled": signalled, "raising": raising, "clock": clock}


def main() -> None:
    faults = json.loads(sys.argv.pop(1))
    if "clock" in faults:  # before anything of the product can take the functions by name
        clock(**faults.pop("clock"))
    for name, options in faults.items():
        BUILDERS[name](**options)
    from streams.cli import main as command

    command()


if __name__ == "__main__":
    main()
