"""Server-sent events: once a tick what has changed, computed and put into bytes once for all who listen.

An event carries a whole state, never a difference, so whoever comes back needs the newest one and no
other: `Last-Event-ID` names the state that a client has, and it is not sent again.

    event: funnels    id: ETAG    data: {"funnels": [report, ...]}        when any of them has changed
    event: alerts                 data: {"states": [...], "transitions": [...]}        when they have
    event: tick                   data: {"tick": n, "at": "wall-clock time"}           always

A client's bytes go straight to its connection (see `Line`), so that a thousand clients of one view cost
a rendering a tick and a thousand writes to sockets, and no task of theirs has to turn. Of those who do
not read, some ticks' bytes wait; who does not keep up is let go, and comes back by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple, Protocol

import anyio
import structlog
from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import StringConstraints
from starlette.types import Receive, Scope, Send

from schemas.config import Config
from schemas.errors import StoreError
from streams.web.asked import BASIS, WINDOW, check, funnel_of, unknown, window_of
from streams.web.conditional import etag
from streams.web.permitted import Audience
from streams.web.renderings import Asked, Renderings
from streams.web.views import EXAMPLE as VIEW_SHOWN
from streams.web.views import VIEW_LENGTH_MAX, VIEWS_MAX, asked_of

CLIENTS_MAX = 2000
REPORTS_MAX = 500  # different ones that are listened to
TICKS_BUFFERED_MAX = 5
OFFERED_AT_ONCE = 50  # clients; then others have their turn
RETRY_MS = 2000
PING_SECONDS = 5.0  # how often is looked whether there was a tick; if not, a comment is sent, so that proxies keep the connection
PING = b": no tick of late\n\n"
BUSY_SECONDS = 30
LINE = "funnelwatch.line"  # in the scope of a request
STREAMING = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

VIEW = (
    "a funnel and how to look at it, with what differs from the defaults: window, basis and by, parted by semicolons, signs in names "
    "percent-encoded; may be given many times, instead of the other parameters"
)
View = Annotated[str, StringConstraints(min_length=1, max_length=VIEW_LENGTH_MAX)]

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Selection(NamedTuple):
    """What a client listens to."""

    reports: tuple[Asked, ...]
    audience: Audience | None = None  # who hears of no other funnels' alerts


class Full(Exception):
    """There is room for no more clients, or for no more different reports."""


class Line(Protocol):
    """A connection as a stream uses it, once the answer has begun: what is written is sent without anybody waiting for it."""

    def write(self, chunk: bytes) -> None:
        """Send a part of the answer's body; nothing where the connection is closed."""
        ...

    def unsent(self) -> int:
        """How many bytes the network has yet to take."""
        ...

    def abort(self) -> None:
        """Close at once, in the middle of what is being sent."""
        ...


class Client:
    """One who listens."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.gone = False
        self._line: Line | None = None
        self._early: list[bytes] = []  # what came before there was a line
        self._sizes: deque[int] = deque(maxlen=TICKS_BUFFERED_MAX)  # of what was sent last, in bytes
        self._listening = anyio.CancelScope()

    def offer(self, chunk: bytes) -> bool:
        """Send bytes; False where more than some ticks' bytes wait already."""
        if self._line is None:
            self._early.append(chunk)
            return len(self._early) <= TICKS_BUFFERED_MAX
        if len(self._sizes) == TICKS_BUFFERED_MAX and self._line.unsent() > sum(self._sizes):
            return False
        self._sizes.append(len(chunk))
        self._line.write(chunk)
        return True

    def end(self) -> None:
        """Send no more than what waits, and close."""
        self.gone = True
        self._listening.cancel()

    def drop(self) -> None:
        """Close at once, whatever waits."""
        self.gone = True
        self._early.clear()
        if self._line is None:
            self.end()
        else:
            self._line.abort()

    async def listen(self, line: Line, receive: Receive) -> None:
        """Send what waits, and from now on what is offered, until either side ends it."""
        self._line = line
        early, self._early = self._early, []
        for chunk in early:
            self.offer(chunk)
        try:
            with self._listening:
                while (await receive())["type"] != "http.disconnect":
                    pass
        finally:
            self.gone = True


class _View:
    """A selection as it was last sent."""

    def __init__(self) -> None:
        self.clients: set[Client] = set()
        self.tag = ""
        self.body = b""  # of the event `funnels`


class Hub:
    """Everybody who listens. `publish` is called once a tick, after the counts were read."""

    def __init__(self, renderings: Renderings, alerts: Callable[[], Awaitable[bytes]], dropped: Callable[[], None] = lambda: None) -> None:
        self.renderings = renderings
        self._note_dropped = dropped
        self._alerts = alerts
        self._views: dict[Selection, _View] = {}
        self._alerts_body = b""  # the event `alerts`
        self._alerts_narrowed: tuple[bytes, dict[Audience, bytes]] = b"", {}  # what it is made of, and of that for some
        self.tick = 0
        self.dropped = 0  # clients that did not keep up, since ever
        self._closed = False
        self._pinging: asyncio.TimerHandle | None = None

    @property
    def clients(self) -> int:
        return sum(len(view.clients) for view in self._views.values())

    def join(self, selection: Selection, last_id: str = "") -> Client:
        """A new client, its first events waiting. Raises Full."""
        listened = {report for known in self._views for report in known.reports}
        if self._closed or self.clients >= CLIENTS_MAX or len(listened.union(selection.reports)) > REPORTS_MAX:
            raise Full
        view = self._views.get(selection)
        if view is None:
            view = self._views[selection] = _View()
            self._render(selection, view)
        client = Client(selection)
        first = [HELLO, self._alerts_for(selection.audience)]
        client.offer(b"".join([*first, *([view.body] if view.tag != last_id else []), self._beat()]))
        view.clients.add(client)
        if self._pinging is None:
            self._wait_to_ping()
        return client

    def leave(self, client: Client) -> None:
        view = self._views.get(client.selection)
        if view is not None:
            view.clients.discard(client)
            if not view.clients:
                del self._views[client.selection]

    async def publish(self) -> None:
        """A new tick: render what is listened to, once each, and hand it to all."""
        self.tick += 1
        self.renderings.clear()
        if not self._views:
            self._alerts_body = b""
            return
        changed = await self._read_alerts()
        beat = self._beat()
        for selection, view in list(self._views.items()):
            news = self._render(selection, view)
            chunk = b"".join([self._alerts_for(selection.audience) if changed else b"", view.body if news else b"", beat])
            await self._hand(list(view.clients), chunk)

    async def _hand(self, clients: Sequence[Client], chunk: bytes) -> None:
        """To some, and then to the next: neither many clients nor many views hold up the loop."""
        for number, client in enumerate(clients, 1):
            self._offer(client, chunk)
            if number % OFFERED_AT_ONCE == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    def _wait_to_ping(self) -> None:
        self._pinging = asyncio.get_running_loop().call_later(PING_SECONDS, self._ping, self.tick)

    def _ping(self, tick: int) -> None:
        """Send everybody a sign of life, unless there was a tick since the last look; go on while anybody listens."""
        self._pinging = None
        if self.tick == tick:
            for view in list(self._views.values()):
                for client in list(view.clients):
                    self._offer(client, PING)
        if self._views:
            self._wait_to_ping()

    def close(self) -> None:
        """Let everybody go, after what they have yet to be sent."""
        self._closed = True
        for view in self._views.values():
            for client in view.clients:
                client.end()

    def _offer(self, client: Client, chunk: bytes) -> None:
        if not client.gone and not client.offer(chunk):
            self._drop(client)

    def _drop(self, client: Client) -> None:
        self.dropped += 1
        self._note_dropped()
        self.leave(client)
        client.drop()
        log.info("client of the stream dropped", reason="it does not keep up", dropped=self.dropped)

    def _render(self, selection: Selection, view: _View) -> bool:
        """Bring a view up to date; whether it changed."""
        parts = [self.renderings.of(report) for report in selection.reports]
        tag = parts[0].tag if len(parts) == 1 else etag(b"".join(part.tag.encode() for part in parts))
        if tag == view.tag:
            return False
        body = b'{"funnels":[' + b",".join(part.body for part in parts) + b"]}"
        view.tag, view.body = tag, _event("funnels", body, tag)
        return True

    async def _read_alerts(self) -> bool:
        """Whether the alerts changed; without Redis they stay as they were."""
        try:
            body = await self._alerts()
        except StoreError:
            return False
        event = _event("alerts", body)
        changed, self._alerts_body = event != self._alerts_body, event
        if changed:
            self._alerts_narrowed = body, {}
        return changed

    def _alerts_for(self, audience: Audience | None) -> bytes:
        """The event `alerts` for those who may hear it, made once for them all."""
        if audience is None or not self._alerts_body:
            return self._alerts_body
        body, narrowed = self._alerts_narrowed
        if audience not in narrowed:
            narrowed[audience] = _event("alerts", audience.narrowed(body))
        return narrowed[audience]

    def _beat(self) -> bytes:
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return _event("tick", f'{{"tick":{self.tick},"at":"{at}"}}'.encode())


def _event(name: str, data: bytes, tag: str = "") -> bytes:
    """JSON has no line break that would have to be looked for."""
    return b"".join([b"event: ", name.encode(), b"\nid: " + tag.encode() if tag else b"", b"\ndata: ", data, b"\n\n"])


HELLO = f"retry: {RETRY_MS}\n".encode() + _event("hello", b"{}")


class Streamed(Response):
    """A client's events, written to the connection's `Line`, which the server puts in the scope."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, client: Client) -> None:
        self.status_code = HTTPStatus.OK
        self.background = None
        self.init_headers(STREAMING)
        self._hub, self._client = hub, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._client.listen(scope[LINE], receive)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._hub.leave(self._client)


class Streams(Protocol):
    """The part of `web.readings.Readings` that is needed here."""

    @property
    def config(self) -> Config: ...

    @property
    def hub(self) -> Hub: ...


def stream(readings: Streams, audience: Audience | None = None) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["funnels"])

    @router.get("/stream", summary="Live events", response_class=Response, responses={200: ANSWER})
    async def events(
        request: Request,
        funnel: Annotated[list[str] | None, Query(max_length=100, description="which funnels; by default all")] = None,
        window: str | None = Query(None, description="a trailing window; by default each funnel's first", json_schema_extra=WINDOW),
        basis: str = Query("users", description="what a rate is made of: users, entries or adjusted", json_schema_extra=BASIS),
        by: str | None = Query(None, description="a dimension, to have its values beside the total"),
        view: Annotated[list[View] | None, Query(max_length=VIEWS_MAX, description=VIEW, examples=[[VIEW_SHOWN]])] = None,
    ) -> Response:
        """Server-sent events: the reports and the alerts when they change, and a tick every second. Every event is a whole state."""
        if view and not request.query_params.keys().isdisjoint({"funnel", "window", "basis", "by"}):
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"`view` goes instead of `funnel`, `window`, `basis` and `by`: {VIEW_SHOWN}")
        chosen = Selection(asked_of(readings.config, view)) if view else select(readings.config, funnel or (), window, basis, by)
        selection = chosen._replace(audience=audience)
        try:
            client = readings.hub.join(selection, request.headers.get("last-event-id", ""))
        except Full:
            detail = f"{readings.hub.clients} clients listen already, which is about as many as are served; try again later"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(BUSY_SECONDS)}) from None
        return Streamed(readings.hub, client)

    return router


def select(config: Config, names: Sequence[str], window: str | None, basis: str, by: str | None) -> Selection:
    """The reports asked for. Named funnels must have the window and the dimension; of all, those that have them show them."""
    funnels = [funnel_of(config, name) for name in dict.fromkeys(names)] or list(config.funnels)
    reports: list[Asked] = []
    without: HTTPException | None = None  # the window
    with_it = 0
    for found in funnels:
        kept = config.windows_of(found)
        check(found, basis, by if names else None)
        try:
            chosen = window_of(found, window, kept)
            with_it += 1
        except HTTPException as error:
            if names:
                raise
            chosen, without = kept[0], without or error
        reports.append(Asked(found.name, chosen, by if by in found.dimensions else None, basis))
    if without is not None and not with_it:
        raise without
    if by is not None and all(report.by is None for report in reports):
        raise unknown(funnels[0], "dimension", by, tuple(funnels[0].dimensions))
    return Selection(tuple(reports))


_SHOWN = """event: funnels
id: "5f3c91aa5f3c91aa"
data: {"funnels":[{"name":"purchase","window":"5m"}]}

event: tick
data: {"tick":1834,"at":"2026-03-02T14:32:05.120Z"}

"""
_EVENT = {
    "description": "each event",
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["hello", "funnels", "alerts", "tick"]},
        "id": {"type": "string", "description": "of the state, for Last-Event-ID"},
        "retry": {"type": "integer", "description": "ms to wait before coming back"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
ANSWER: dict[str, Any] = {
    "description": "OK; goes on until either side ends it",
    "content": {"text/event-stream": {"schema": _EVENT, "example": _SHOWN}},
}
