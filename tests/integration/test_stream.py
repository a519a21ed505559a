"""Two hundred pages on one worker's stream, over real sockets: one computation a tick, and one that does not read."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from httpx_sse import EventSource

from schemas.settings import WebSettings
from streams.process import free_port
from streams.web.accepting import Server
from streams.web.connections import connections
from tests.parts.alerts import until
from tests.parts.answering import ShopReadings

PAGES = 200
TICKS = 5


class Served:
    """The API of a shop on a port of its own."""

    def __init__(self, readings: ShopReadings) -> None:
        self.readings = readings
        self.hub = readings.hub
        self.port = free_port()

    async def tick(self) -> None:
        await self.readings.shop.run(10)
        await self.hub.publish()

    async def listen(self, query: str = "?funnel=f&window=5m", limit: int = 2**16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        writer.write(f"GET /api/v1/stream{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await writer.drain()
        return reader, writer


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    readings = ShopReadings()
    await readings.shop.run(120)
    await readings.hub.publish()
    served = Served(readings)
    options = connections(WebSettings(), time.monotonic(), lambda why: None)
    server = Server(
        uvicorn.Config(readings.app(), port=served.port, log_config=None, lifespan="off", timeout_graceful_shutdown=5, **options)
    )
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield served
    readings.hub.close()
    server.should_exit = True
    await serving


async def headers_of(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\r\n\r\n")).decode().lower()


async def ticks_of(reader: asyncio.StreamReader, count: int) -> int:
    """Read until so many ticks have come; how many funnels' events there were among them."""
    funnels = 0
    while count:
        line = await asyncio.wait_for(reader.readline(), 60)
        funnels += line == b"event: funnels\n"
        count -= line == b"event: tick\n"
    return funnels


async def test_two_hundred_pages_cost_one_computation_a_tick(served: Served) -> None:
    pages = [await served.listen() for _ in range(PAGES)]
    heads = [await headers_of(reader) for reader, _ in pages]
    assert all("content-type: text/event-stream" in head and "cache-control: no-store" in head for head in heads)
    await until(lambda: served.hub.clients == PAGES)
    computed = served.readings.reported
    assert computed == 1  # for the first of them
    for _ in range(TICKS):
        await served.tick()
    seen = await asyncio.gather(*[ticks_of(reader, 1 + TICKS) for reader, _ in pages])
    assert seen == [1 + TICKS] * PAGES
    assert served.readings.reported == computed + TICKS
    for _, writer in pages:
        writer.close()
    await until(lambda: served.hub.clients == 0)
    await served.tick()
    assert served.readings.reported == computed + TICKS


async def test_a_page_that_does_not_read_is_dropped_while_the_others_go_on(served: Served) -> None:
    """Once the sockets' buffers are full, and then those of some ticks."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", served.port))
    deaf.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    reader, writer = await served.listen("")
    await headers_of(reader)
    await until(lambda: served.hub.clients == 2)
    for tick in range(100):
        served.readings.alerts = b'{"states":[],"transitions":["%d%s"]}' % (tick, b"x" * 500_000)
        await served.hub.publish()
        await asyncio.wait_for(drained(reader, tick), 60)
        if served.hub.dropped:
            break
    assert (served.hub.dropped, served.hub.clients) == (1, 1)
    await served.hub.publish()
    assert await ticks_of(reader, 1) == 0
    deaf.close()
    writer.close()


async def test_an_http_client_takes_the_stream_for_an_answer_like_any_other(served: Served) -> None:
    """What goes past the server's own writing is framed as the head of the answer says, up to its end."""
    async with httpx.AsyncClient() as web, web.stream("GET", f"http://127.0.0.1:{served.port}/api/v1/stream?funnel=f&window=5m") as answer:
        events = EventSource(answer).aiter_sse()
        heard = [await anext(events) for _ in range(3)]
        await served.tick()
        heard += [await anext(events) for _ in range(3)]
        served.hub.close()
        rest = [event async for event in events]
    assert answer.headers["transfer-encoding"] == "chunked"
    assert [event.event for event in heard] == ["hello", "funnels", "tick", "alerts", "funnels", "tick"]
    assert [json.loads(heard[n].data)["funnels"][0]["stages"][0]["users"] for n in (1, 4)] == [120, 130]
    assert rest == []


async def test_a_client_of_http_1_0_is_sent_the_events_bare(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /api/v1/stream HTTP/1.0\r\nHost: x\r\n\r\n")
    head = await headers_of(reader)
    assert "transfer-encoding" not in head
    assert await reader.readline() == b"retry: 2000\n"
    await ticks_of(reader, 1)
    served.hub.close()
    assert (await asyncio.wait_for(reader.read(), 60)).endswith(b"\n\n")
    writer.close()


async def drained(reader: asyncio.StreamReader, tick: int) -> None:
    """Read on to the end of the tick at which the alerts were of that number."""
    seen = False
    while True:
        line = await read_line(reader)
        seen = seen or line.startswith(b'data: {"states":[],"transitions":["%d' % tick)
        if seen and line == b"event: tick":
            return


async def read_line(reader: asyncio.StreamReader) -> bytes:
    """A line of any length, all but its first hundred bytes forgotten."""
    found = b""
    while True:
        try:
            return (found + (await reader.readuntil(b"\n")))[:100].rstrip(b"\n")
        except asyncio.LimitOverrunError as overrun:
            found = (found + await reader.readexactly(overrun.consumed))[:100]
