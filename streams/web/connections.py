"""Connections as uvicorn has them, with an end to those that cost and bring nothing: slow, idle, deaf, overlong, garbage.

uvicorn waits for ever for a request's first byte and for its last, and for a caller to read its answer;
it counts every open socket against its limit, so that a few thousand silent ones shut honest callers
out; and it writes a line in the log for each that makes no sense. Here

* a request must be there within REQUEST_SECONDS, its body with it, and an answer be read on within SEND_SECONDS;
* those that have yet to ask are WAITING_MAX at most: one more, and the oldest of them is let go. Who
  means to ask does so at once, and is served before those that came to wait;
* there are `connections_max` in all, fewer than the process may open files, so that Kafka and Redis are
  always reached; where nobody waits who could be let go, one more is refused;
* so many requests a second are answered, which leaves time for counting, whoever asks how often; more
  get a 503 that costs little. Probes have a measure of their own;
* one address has `connections_per_address`, half of them streams, unless it is a proxy's;
* what is no HTTP gets a 400, 413 or 431, and the log a count once a minute; of requests sent at once, PIPELINED_MAX
  wait behind the one that is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar, cast

import httptools
import structlog
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from alerting.limits import Bucket
from schemas.channel import Limit
from schemas.duration import Duration
from schemas.settings import WebSettings
from streams.web.addresses import Addresses
from streams.web.api import HEADERS, Shield
from streams.web.bounded import HEAD_BYTES_MAX, HEAD_TOO_LONG, TOO_LONG
from streams.web.problem import PROBLEM_TYPE, problem
from streams.web.stream import LINE

REQUEST_SECONDS = 10.0
SEND_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 15
SEND_BUFFER_BYTES = 32_768  # of a connection; of a stream's as many again, and twice, in the kernel
PIPELINED_MAX = 8
REQUEST_BYTES_MAX = 1_000_000  # with whatever stands around a body, and after it
WAITING_MAX = 1000
CONNECTIONS_MAX = 4000
BACKLOG = 512  # in the kernel: who asks waits behind them
FILES_KEPT = 256  # for Kafka, Redis, the log and what else there is
FILES_WANTED = 8192
BURST_SECONDS = 5
STREAM = "/api/v1/stream"
NO_HTTP = "this is no request of HTTP/1.1 that can be answered here"
PROBES = frozenset({"/livez", "/readyz"})
PROBES_PER_SECOND = 50
TOLD_SECONDS = 60.0
BUSY = Shield(
    problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "more requests come than are answered beside the counting; try again in a moment",
        {"Retry-After": "2", "Connection": "close"},
    )
)
TOO_MANY = Shield(
    problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "this address has as many live pages as one may have; FUNNELWATCH_WEB__CONNECTIONS_PER_ADDRESS bounds them, but for a proxy",
        {"Retry-After": "30", "Connection": "close"},
    )
)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Room:
    """The connections of a server that have yet to ask, the oldest first; what is let go, and how often it may be asked."""

    def __init__(
        self, connections_max: int, requests_per_second: int, now: float, count: Callable[[str], None], addresses: Addresses
    ) -> None:
        self.waiting_max, self.connections_max = min(WAITING_MAX, connections_max), connections_max
        self._count = count
        self.addresses = addresses
        self.waiting: dict[Connection, None] = {}
        self.let_go: dict[str, int] = {}
        self._told_at: float | None = None
        self._requests, self._probes = (measure(n, now) for n in (requests_per_second, PROBES_PER_SECOND))

    def enter(self, newcomer: Connection, connections: int, now: float) -> bool:
        """Let one more wait; False: there is no room, and nobody waits who could be let go."""
        crowded = connections > self.connections_max
        if crowded and not self.waiting:
            self.note("full", now)
            return False
        if crowded or len(self.waiting) >= self.waiting_max:
            oldest = next(iter(self.waiting))
            self.leave(oldest)
            oldest.abort()
            self.note("crowded_out", now)
        self.waiting[newcomer] = None
        return True

    def leave(self, one: Connection) -> None:
        self.waiting.pop(one, None)

    def answers(self, path: str, now: float) -> bool:
        """Whether one more request is answered now."""
        if (self._probes if path in PROBES else self._requests).take(now):
            return True
        self.note("too_many_requests", now)
        return False

    def note(self, why: str, now: float) -> None:
        """Count what was let go, and tell of it now and then."""
        self.let_go[why] = self.let_go.get(why, 0) + 1
        self._count(why)
        if self._told_at is None or now - self._told_at >= TOLD_SECONDS:
            self._told_at = now
            log.warning("connections or requests let go, since the start", **self.let_go)


def measure(per_second: int, now: float) -> Bucket:
    return Bucket(Limit.model_construct(per=Duration(f"{BURST_SECONDS}s"), most=per_second * BURST_SECONDS), now)


class Written:
    """The `Line` of a connection: bytes past ASGI and uvicorn, of which each would cost a thousand streams a tenth of a second a tick."""

    def __init__(self, transport: asyncio.Transport, chunked: bool) -> None:
        self._transport, self._chunked = transport, chunked
        self.unsent = transport.get_write_buffer_size
        self.abort = transport.abort

    def write(self, chunk: bytes) -> None:
        if self._transport.is_closing():
            return
        if self._chunked:
            self._transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
        else:
            self._transport.write(chunk)


class Connection(HttpToolsProtocol):
    """One of them; `room` is its server's."""

    room: ClassVar[Room]

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._app, self.app = self.app, self._run
        self._deadline: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._in_head, self._came = True, 0  # of a request that has yet to come whole, and how many bytes of it there are

    @property
    def _now(self) -> float:
        return self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        self._wait(REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self.room.addresses.depart(self.client[0])
        self._asked()
        self._sent()
        self._unset_keepalive_if_required()  # which uvicorn leaves where the connection broke
        super().connection_lost(exc)
        # What goes round in a circle would stay until Python's garbage collector looks, which is a pause for everybody.
        self.app, self.cycle = self._app, None  # type: ignore[assignment]  # as uvicorn begins with it
        self.pipeline.clear()

    # Until there is a request

    def _wait(self, seconds: float) -> None:
        if self.room.enter(self, len(self.connections), self._now):
            self._deadline = self.loop.call_later(seconds, self._too_slow)
        else:
            self.abort()

    def _wait_again(self) -> None:
        """For the next request; uvicorn has a time of its own for the first byte."""
        if self._deadline is None and self._idle and not self.transport.is_closing():
            self._wait(KEEP_ALIVE_SECONDS + REQUEST_SECONDS)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        room = (HEAD_BYTES_MAX if self._in_head else REQUEST_BYTES_MAX) - self._came  # the parser has no limit of its own
        if len(data) > room and (not self._in_head or data.find(b"\r\n\r\n", 0, max(0, room)) < 0):
            if self._in_head:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, HEAD_TOO_LONG)
            else:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LONG)
            return
        self._came += len(data)
        try:
            while data:
                data = self._fed(data)
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, NO_HTTP)

    def _fed(self, data: bytes) -> bytes:
        """Parse; what is left is to be parsed anew. Nothing here is upgraded to anything, whoever asks for it."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as asked:
            self.parser = httptools.HttpRequestParser(self)
            return data[asked.args[0] :]
        return b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes after a body is of no use here
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        hosts = sum(name == b"host" for name, _ in self.headers)
        if len(self.pipeline) >= PIPELINED_MAX or hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            raise ValueError("a request that is not taken; the parser ends with it")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._came = True, 0
        self._asked()
        self._wait_again()  # where it was answered before all of it was there

    def _asked(self) -> None:
        self.room.leave(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self.room.note("slow", self._now)
        self.abort()

    # While it is answered

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["http_version"] == "1.0":
            send = unframed(cast("RequestResponseCycle", send.__self__))  # type: ignore[attr-defined]  # a method of it
        try:
            if not self.room.answers(scope["path"], self._now):
                await BUSY(scope, receive, send)
            elif scope["path"] == STREAM and self.client is not None:
                await self._stream(self.client[0], scope, receive, send)
            else:
                await self._app(scope, receive, send)
        finally:
            self._watch()

    async def _stream(self, address: str, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.room.addresses.listen(address):
            self.room.note("too_many_of_one_address", self._now)
            await TOO_MANY(scope, receive, send)
            return
        # So that one who does not read is soon known. Not for other answers: dozens of megabytes of metrics would take seconds so.
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        scope[LINE] = Written(self.transport, chunked=scope["http_version"] != "1.0")
        try:
            await self._app(scope, receive, send)
        finally:
            self.room.addresses.end(address)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_again()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def _watch(self) -> None:
        """Look again whether what waits to be sent gets less."""
        self._sent()
        waiting = self.transport.get_write_buffer_size()
        if waiting:
            self._sending = self.loop.call_later(SEND_SECONDS, self._look, waiting)

    def _look(self, before: int) -> None:
        if self.transport.get_write_buffer_size() >= before and (self.flow.write_paused or self.transport.is_closing() or self._idle):
            self.room.note("deaf", self._now)
            self.abort()
        else:
            self._watch()

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _sent(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    # What ends it

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self.transport.abort()

    def _refuse(self, status: HTTPStatus, what: str) -> None:
        """Tell what is no HTTP so, as every error here is told; where an answer is under way already, it breaks off."""
        self.room.note("not_http", self._now)
        if not self._idle:
            self.abort()
            return
        body = json.dumps({"type": "about:blank", "title": status.phrase, "status": int(status), "detail": what}).encode()
        headers = {**HEADERS, "Content-Type": PROBLEM_TYPE, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {int(status)} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.transport.write("\r\n".join(lines).encode() + body)
        self.transport.close()
        self._watch()


def unframed(cycle: RequestResponseCycle) -> Send:
    """How to answer HTTP/1.0, which knows no chunks: without a length, the end is the connection's (RFC 9112, 6.1 and 6.3)."""
    endless = False

    async def send(message: Message) -> None:
        nonlocal endless
        if message["type"] == "http.response.start":
            endless = not any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            if endless:
                cycle.chunked_encoding = False
        elif endless:
            cycle.expected_content_length = len(message.get("body", b""))  # to which uvicorn holds what follows
        await cycle.send(message)  # type: ignore[arg-type]  # uvicorn has types of its own for messages

    return send


def connections(web: WebSettings, now: float, count: Callable[[str], None]) -> dict[str, Any]:
    """Options of uvicorn that make it so; `count` is told why one is let go. Raises the process's limit of open files where it is low."""
    addresses = Addresses(web.connections_per_address, web.proxies)
    room = Room(max(WAITING_MAX // 10, min(CONNECTIONS_MAX, _files() - FILES_KEPT)), web.requests_per_second, now, count, addresses)
    return {
        "http": type("Connection", (Connection,), {"room": room}),
        "ws": "none",
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "forwarded_allow_ips": web.proxies,
        "backlog": BACKLOG,
    }


def _files() -> int:
    """How many files this process may open, after asking for as many as it wants."""
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return FILES_WANTED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return FILES_WANTED if soft == resource.RLIM_INFINITY else soft
