"""uvicorn's server with an accept loop of its own: as many connections a turn as the loop has time for.

uvloop takes one connection a turn of the loop. While a worker counts, its loop turns a hundred times a
second or less; whoever floods it with connections would have everybody else wait behind them in the
kernel's queue. Here up to AT_ONCE_MAX are looked at a turn, and those of an address that has too many are
closed before anything is made of them, which costs a tenth. Of the others LET_IN_AT_ONCE_MAX are let in, since
each is two milliseconds of work until it has its first answer, and PER_SECOND on average, so that counting has
its time whoever comes; more wait in the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import uvicorn

from streams.web.connections import Room, measure

AT_ONCE_MAX, LET_IN_AT_ONCE_MAX = 200, 5
AGAIN_SECONDS = 0.1  # after the process had no file to open left, or enough had come
PER_SECOND = 500


class Server(uvicorn.Server):
    """Serves on the running loop, and leaves signals to whoever owns the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        doors = [Door(self, os.dup(one.fileno())) for server in self.servers for one in server.sockets]
        for server in self.servers:
            server.close()  # the doors have the listening sockets too
        self.servers = doors  # type: ignore[assignment]  # closed, and waited for, is all that they are
        for door in doors:
            door.open()

    def protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # as uvicorn itself calls it
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


class Door:
    """A listening socket."""

    def __init__(self, server: Server, descriptor: int) -> None:
        self._server = server
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._room: Room = server.config.http_protocol_class.room  # type: ignore[attr-defined]  # see `connections`
        self._loop = asyncio.get_running_loop()
        self._coming: set[asyncio.Task[object]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._measure = measure(PER_SECOND, self._loop.time())

    def open(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    async def wait_closed(self) -> None:
        """Those who were at the door are in, or gone."""
        await asyncio.gather(*self._coming, return_exceptions=True)

    def _accept(self) -> None:
        let_in = 0
        for _ in range(AT_ONCE_MAX):
            if not self._measure.available(self._loop.time()):
                self._rest()
                return
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._rest()
                return
            if not self._room.addresses.arrive(address[0]):
                accepted.close()
                self._room.note("too_many_of_one_address", self._loop.time())
                continue
            self._measure.take(self._loop.time())
            accepted.setblocking(False)
            coming: asyncio.Task[object] = self._loop.create_task(self._take(accepted, address[0]))
            self._coming.add(coming)
            coming.add_done_callback(self._coming.discard)
            let_in += 1
            if let_in == LET_IN_AT_ONCE_MAX:
                return  # the loop comes back here in its next turn

    def _rest(self) -> None:
        self._loop.remove_reader(self._socket)
        self._again = self._loop.call_later(AGAIN_SECONDS, self.open)

    async def _take(self, accepted: socket.socket, address: str) -> None:
        try:
            await self._loop.connect_accepted_socket(self._server.protocol, accepted, ssl=self._server.config.ssl)
        except OSError:
            self._room.addresses.depart(address)
