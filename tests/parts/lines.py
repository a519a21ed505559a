"""What streams write to in tests: a line that keeps it, and our API for ASGI clients that bring no line."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.web.stream import LINE, Client


class Kept:
    """A line whose bytes are looked at; `taking`: whether the network takes them."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.taking = True
        self.aborted = asyncio.Event()
        self._unsent = 0

    def write(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self._unsent += 0 if self.taking else len(chunk)

    def unsent(self) -> int:
        return self._unsent

    def catch_up(self) -> None:
        self.taking, self._unsent = True, 0

    def abort(self) -> None:
        self.aborted.set()

    def taken(self) -> bytes:
        """What came since the last time."""
        found, self.chunks = b"".join(self.chunks), []
        return found


class Page:
    """A client of a hub, listening on a line of its own."""

    def __init__(self, client: Client) -> None:
        self.client, self.line = client, Kept()
        self.listening = asyncio.create_task(client.listen(self.line, self._receive))

    async def _receive(self) -> Message:
        await self.line.aborted.wait()
        return {"type": "http.disconnect"}

    async def events(self) -> list[tuple[str, str, Any]]:
        """What it heard since the last time: name, id, data."""
        await asyncio.sleep(0)  # it may have yet to begin
        blocks = [dict(line.split(": ", 1) for line in block.split("\n") if line) for block in self.line.taken().decode().split("\n\n")]
        return [(block["event"], block.get("id", ""), json.loads(block["data"])) for block in blocks if "event" in block]

    async def names(self) -> list[str]:
        return [name for name, _, _ in await self.events()]


def lined(app: ASGIApp) -> ASGIApp:
    """The app with a line for each request, whose bytes are in the answer before the last of its body."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        line = Kept()

        async def told(message: Message) -> None:
            if message["type"] == "http.response.body":
                message["body"] = line.taken() + message.get("body", b"")
            await send(message)

        await app({**scope, LINE: line}, receive, told)

    return asked
