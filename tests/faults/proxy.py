"""A TCP proxy that misbehaves on demand: it dawdles, swallows, or hangs up once the request is through."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Coroutine
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from streams.process import LOCALHOST, free_port

if TYPE_CHECKING:
    from typing_extensions import Self

CHUNK = 65_536
POLL_SECONDS = 0.02
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed so is reset


class Proxy:
    """Forwards 127.0.0.1:`port` to another port of this machine, from a thread of its own.

    Set `delay_seconds` (both ways together), `holds` (everything is kept until it is let go again),
    `resets` (share of the answers that never arrive: the connection is reset instead) or `target` while
    it runs.
    """

    def __init__(self, target: int, dice: random.Random) -> None:
        self.port = free_port()
        self.target = target
        self.delay_seconds = 0.0
        self.holds = False
        self.resets = 0.0
        self.reset_count = 0
        self._dice = dice
        self._ends: set[asyncio.StreamWriter] = set()
        self._up, self._over = Event(), Event()
        self._thread = Thread(target=lambda: asyncio.run(self._serve()), name=f"proxy {self.port}")

    @property
    def url(self) -> str:
        return f"redis://{LOCALHOST}:{self.port}/0"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(5), "the proxy does not come up"
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._forward, LOCALHOST, self.port)
        self._up.set()
        while not self._over.is_set():
            await asyncio.sleep(POLL_SECONDS)
        server.close()
        while self._ends:  # not cancelled: what serves a connection ends when the connection does
            self.holds = False
            for end in self._ends:
                end.transport.abort()
            await asyncio.sleep(POLL_SECONDS)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = {writer}
        self._ends.add(writer)
        try:
            back, behind = await asyncio.open_connection(LOCALHOST, self.target)
            ends.add(behind)
            self._ends.add(behind)
            await _first_of(self._pump(reader, behind), self._pump(back, writer, answers=True))
        except OSError:
            pass  # there is nobody behind
        finally:
            for end in ends:
                end.transport.abort()
            self._ends -= ends

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        """Carry bytes one way; what is delayed does not hold up what comes behind it."""
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            while True:
                due, data = await late.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                while self.holds:
                    await asyncio.sleep(POLL_SECONDS)
                if answers and self.resets and self._dice.random() < self.resets:
                    self._reset(writer)
                    return
                writer.write(data)
                await writer.drain()

        async def take() -> None:
            while data := await reader.read(CHUNK):
                late.put_nowait((loop.time() + self.delay_seconds / 2, data))

        await _first_of(take(), deliver())

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        """What was asked has been done by now; who asked never hears of it."""
        self.reset_count += 1
        connection: socket.socket | None = writer.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()


async def _first_of(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one has ended, however it did; then none goes on."""
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
