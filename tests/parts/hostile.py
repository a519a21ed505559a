"""Thousands of clients that mean no good, in a process of its own: `python -m tests.parts.hostile PORT COUNT`.

Each is of one of five kinds, and whenever it is thrown out it comes back a little later:

    idle      connects, and says nothing
    slow      sends a request's head, a line a second, and never its end
    deaf      asks for the live stream, and reads nothing of it
    long      sends a head of half a megabyte
    garbage   sends bytes that are no HTTP

It prints a line a second: how many are connected, how many ever were, how often one was thrown out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE, Popen
from threading import Thread
from typing import Any

KINDS = {"idle": 30, "slow": 30, "deaf": 25, "long": 5, "garbage": 10}
BACK_SECONDS = (1.0, 5.0)
ADDRESSES = 10  # that they come from, none of which is the honest ones'
AT_ONCE = 200  # connecting at a time
FILES_SPARE = 200
LONG = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 500_000
STREAM = b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n"


class Client(asyncio.Protocol):
    """One connection of a kind."""

    def __init__(self, kind: str, seen: Counter[str]) -> None:
        self.kind, self.seen = kind, seen
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.seen["connected"] += 1
        self.seen["ever"] += 1
        first = {"slow": b"GET / HTTP/1.1\r\n", "deaf": STREAM, "long": LONG, "garbage": random.randbytes(300)}.get(self.kind, b"")
        if self.kind == "deaf":
            transport.pause_reading()
        transport.write(first)

    def connection_lost(self, exc: Exception | None) -> None:
        self.seen["connected"] -= 1
        self.seen["thrown out"] += 1
        if not self.over.done():
            self.over.set_result(None)

    async def stay(self) -> None:
        while not self.over.done():
            if self.kind == "slow":
                self.transport.write(b"X: y\r\n")
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self.over), 1.0 if self.kind == "slow" else 3600)


async def haunt(port: int, kind: str, address: str, seen: Counter[str], door: asyncio.Semaphore) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            async with door:
                _, client = await loop.create_connection(lambda: Client(kind, seen), "127.0.0.1", port, local_addr=(address, 0))
            await client.stay()
        except OSError:
            seen["refused"] += 1
        await asyncio.sleep(random.uniform(*BACK_SECONDS))


async def crowd(port: int, count: int) -> None:
    seen: Counter[str] = Counter()
    door = asyncio.Semaphore(AT_ONCE)
    kinds = random.choices(list(KINDS), list(KINDS.values()), k=count)
    tasks = [asyncio.create_task(haunt(port, kind, f"127.0.1.{1 + number % ADDRESSES}", seen, door)) for number, kind in enumerate(kinds)]
    while tasks:
        await asyncio.sleep(1)
        print(json.dumps(seen), flush=True)


def main() -> None:
    port, count = map(int, sys.argv[1:])
    os.nice(2)  # as if it were another machine
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(crowd(port, count))


def clients_max() -> int:
    """How many such clients this machine lets a process have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 10_000 if hard == resource.RLIM_INFINITY else min(10_000, hard - FILES_SPARE)


class Crowd:
    """What the clients last said of themselves."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}


@contextmanager
def hostile_clients(port: int, count: int) -> Iterator[Crowd]:
    """So many of them, as long as the block lasts."""
    crowd = Crowd()
    child = Popen([sys.executable, "-m", "tests.parts.hostile", str(port), str(count)], stdout=PIPE, stderr=DEVNULL, text=True)

    def listen() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            crowd.seen = json.loads(line)

    listening = Thread(target=listen, daemon=True)
    listening.start()
    try:
        yield crowd
    finally:
        child.kill()
        child.wait()
        listening.join()
        assert child.stdout is not None
        child.stdout.close()


if __name__ == "__main__":
    main()
