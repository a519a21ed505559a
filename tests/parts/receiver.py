"""An HTTP server that answers as it is told and remembers what it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

HANG, DROP, TRICKLE = "hang", "drop", "trickle"
Answer = int | str


@dataclass(frozen=True)
class Request:
    """One request: its headers by lower-case name, its body as JSON."""

    path: str
    headers: dict[str, str]
    body: Any
    raw: bytes = b""


class Receiver:
    """Gives its `answers` in turn, and 200 from then on. HANG never answers, DROP ends the connection, TRICKLE never ends."""

    def __init__(self, *answers: Answer, headers: str = "", says: str = '{"said": "so"}') -> None:
        self.requests: list[Request] = []
        self.port = 0
        self._answers = list(answers)
        self._headers = headers
        self._says = says
        self._closing = asyncio.Event()
        self._serving: set[asyncio.Task[None] | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Receiver]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._closing.set()
            server.close()
            await asyncio.gather(*filter(None, self._serving))
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            self.requests.append(await _read(reader))
            await self._answer(self._answers.pop(0) if self._answers else 200, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _answer(self, answer: Answer, writer: asyncio.StreamWriter) -> None:
        if answer == HANG:
            await self._closing.wait()
        elif answer == TRICKLE:
            writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000\r\n")
            while not self._closing.is_set():
                writer.write(b"X-Slow: 1\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        elif answer != DROP:
            body = self._says.encode()
            head = f"HTTP/1.1 {answer} Said So\r\n{self._headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Request(first.split()[1], headers, json.loads(body), body)
