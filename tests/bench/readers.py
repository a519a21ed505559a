"""Those who read: `python -m tests.bench.readers ADDRESS LOAD` asks a worker as LOAD (JSON) says and prints how long it took.

Connects, prints `ready`, waits for a line on stdin, reads for LOAD's seconds, prints one JSON object: by kind of request
the milliseconds of each, and how many of them it was itself ready to go on and had no core; of every event `tick` of the
stream how old it was when it arrived.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

BUFFERED_MAX = 2**26
SCHEDSTAT = Path("/proc/self/schedstat")
AT_ONCE = 50  # connections begun at the same time


@dataclass(frozen=True)
class Load:
    """What is asked of a worker."""

    seconds: float
    requests: float = 0.0  # a second, of all kinds but scrapes, one after the other
    scrape_seconds: float = 0.0  # between scrapes; 0: none
    clients: int = 0  # of the stream
    funnels: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    by: str = ""

    @property
    def asks(self) -> bool:
        """Whether it asks anything at all."""
        return bool(self.requests or self.scrape_seconds or self.clients)

    def text(self) -> str:
        return json.dumps(asdict(self))

    def request(self, number: int, chance: random.Random) -> tuple[str, str]:
        """Kind and path of a request."""
        funnel, window = chance.choice(self.funnels), chance.choice(self.windows)
        one, asked = f"/api/v1/funnels/{funnel}", f"window={window}"
        kinds = {
            "funnels": "/api/v1/funnels",
            "funnel": f"{one}?{asked}",
            "funnel by value": f"{one}?{asked}&by={self.by}",
            "history": f"{one}/history?{asked}&basis=entries",
            "history by value": f"{one}/history?{asked}&basis=entries&by={self.by}",
            "compare": f"{one}/compare?window={self.windows[0]}&by={self.by}",
        }
        kind = list(kinds)[number % len(kinds)]
        return kind, kinds[kind]


@dataclass
class Found:
    took_ms: dict[str, list[float]] = field(default_factory=dict)
    waited_ms: dict[str, list[float]] = field(default_factory=dict)  # of these
    delays_ms: list[float] = field(default_factory=list)

    @contextmanager
    def one(self, kind: str) -> Iterator[None]:
        """A request and its answer."""
        waited_ms, began = own_wait_ms(), time.perf_counter()
        yield
        took_ms = (time.perf_counter() - began) * 1000
        self.took_ms.setdefault(kind, []).append(took_ms)
        self.waited_ms.setdefault(kind, []).append(min(took_ms, own_wait_ms() - waited_ms))


def own_wait_ms() -> float:
    """How long this process has been ready to run and had no core, as Linux tells (proc(5), schedstat); 0 where nobody does."""
    return int(SCHEDSTAT.read_text().split()[1]) / 1e6 if SCHEDSTAT.exists() else 0.0


class Connection:
    """HTTP/1.1 as far as it is needed; a client library would take longer than what is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: str) -> Connection:
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port), limit=BUFFERED_MAX))

    async def get(self, path: str) -> bytes:
        """The body, however long."""
        head = await self.begin(path)
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), None)
        body = await self._chunks() if length is None else await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path}: {head[:40]!r} {body[:200]!r}")
        return body

    async def _chunks(self) -> bytes:
        found = []
        while size := int(await self._reader.readline(), 16):
            found.append(await self._reader.readexactly(size + 2))
        await self._reader.readline()
        return b"".join(found)

    async def begin(self, path: str) -> bytes:
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        return await self._reader.readuntil(b"\r\n\r\n")

    async def line(self) -> bytes:
        return await self._reader.readline()

    def close(self) -> None:
        self._writer.close()


async def _every(seconds: float, until: float, work: Callable[[int], Awaitable[None]]) -> None:
    """Begin work at fixed times; one that is late is not waited for any longer."""
    number, at = 0, time.monotonic()
    while at < until:
        await asyncio.sleep(at - time.monotonic())
        await work(number)
        number, at = number + 1, max(at + seconds, time.monotonic())


async def _requests(load: Load, connection: Connection, until: float, found: Found) -> None:
    chance = random.Random(1)

    async def ask(number: int) -> None:
        kind, path = load.request(number, chance)
        with found.one(kind):
            await connection.get(path)

    await _every(1 / load.requests, until, ask)


async def _scrapes(load: Load, connection: Connection, until: float, found: Found) -> None:
    async def scrape(_: int) -> None:
        with found.one("scrape"):
            await connection.get("/metrics")

    await _every(load.scrape_seconds, until, scrape)


async def _listen(connection: Connection, found: Found) -> None:
    while line := await connection.line():
        if line.startswith(b'data: {"tick":'):
            at = datetime.fromisoformat(json.loads(line[6:])["at"].replace("Z", "+00:00"))
            found.delays_ms.append((time.time() - at.timestamp()) * 1000)


async def read(address: str, load: Load, begin: Callable[[], Awaitable[Any]]) -> Found:
    """Ask as the load says; `begin` is waited for once all are connected."""
    found = Found()
    listeners: list[tuple[Connection, asyncio.Task[None]]] = []
    # Each another selection would be work for the worker; a thousand pages of one team look at the same.
    path = "/api/v1/stream?" + "&".join(f"funnel={name}" for name in load.funnels[:3])
    while len(listeners) < load.clients:
        opened = await asyncio.gather(*[Connection.open(address) for _ in range(min(AT_ONCE, load.clients - len(listeners)))])
        await asyncio.gather(*[connection.begin(path) for connection in opened])
        listeners += [(connection, asyncio.create_task(_listen(connection, found))) for connection in opened]
    await begin()
    found.delays_ms.clear()
    until = time.monotonic() + load.seconds
    work: list[Awaitable[None]] = [asyncio.sleep(load.seconds)]
    # Not opened before: an idle connection is closed.
    work += [_requests(load, await Connection.open(address), until, found)] if load.requests else []
    work += [_scrapes(load, await Connection.open(address), until, found)] if load.scrape_seconds else []
    await asyncio.gather(*work)
    for connection, task in listeners:
        task.cancel()
        connection.close()
    return found


async def main() -> None:
    load = Load(**json.loads(sys.argv[2]))

    async def begin() -> None:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

    print(json.dumps(asdict(await read(sys.argv[1], load, begin))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
