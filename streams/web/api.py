"""The HTTP side: funnels, alerts, health, metrics, the page and its docs; every error is RFC 9457."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import datetime, timezone
from functools import cache
from http import HTTPStatus
from pathlib import Path as FilePath
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.access import Access, Token
from schemas.errors import StoreError
from schemas.report import Breakdown, FunnelReport, FunnelSummary, Rate, StageReport, TimeToConvert
from streams.web.access import Doorkeeper, Gate, needed_scope, place
from streams.web.alerts import EXAMPLES as ALERTS
from streams.web.alerts import alerts
from streams.web.asked import BASIS, WINDOW, check, cut, funnel_of, window_of
from streams.web.bounded import Bounded
from streams.web.compare import EXAMPLES as COMPARE
from streams.web.compare import comparison
from streams.web.conditional import conditional
from streams.web.dictionary import EXAMPLE as DICTIONARY
from streams.web.dictionary import meanings
from streams.web.entities import EXAMPLE as ENTITY
from streams.web.entities import entities
from streams.web.history import EXAMPLES as HISTORY
from streams.web.history import history
from streams.web.paging import LINK, following
from streams.web.permitted import Audience, Permitted, audience_of
from streams.web.problem import PROBLEM_TYPE, Problem, problem
from streams.web.readings import Readings
from streams.web.renderings import Asked
from streams.web.session import EXAMPLES as SESSION
from streams.web.session import session
from streams.web.stream import stream

PAGE = FilePath(__file__).parent / "page"
FUNNELS_MAX = 500  # in one list
BLOCK_BYTES = 2_000_000
# Not CONTENT_TYPE_LATEST: that names 1.0.0, which an older Prometheus does not know.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# Only over https: a browser remembers for a year not to come without.
HSTS = "max-age=31536000"
METHODS, ASKED, TOLD = (
    ["GET", "POST", "DELETE"],
    ["Authorization", "Content-Type", "If-None-Match", "Last-Event-ID"],
    ["ETag", "Link", "Retry-After"],
)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class FunnelList(BaseModel):
    """Every funnel of the config."""

    funnels: list[FunnelSummary]


class Health(BaseModel):
    """The answer of a probe."""

    ok: bool
    detail: str = Field(description="why, in a sentence")


class Api(FastAPI):
    """FastAPI with examples that keep their nulls: it drops every null from the document it makes."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        for path, example in EXAMPLES.items():
            answer = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            answer["example"] = example.model_dump(mode="json")
        access: Access = self.state.access
        if access.tokens:
            document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    needed = needed_scope(method.upper(), path, access)
                    operation["security"] = [{"token": [needed]}] if needed else []
        return document


def create_api(readings: Readings, version: str) -> FastAPI:
    """The whole HTTP side of a worker as one ASGI app, to be served on the worker's own loop."""
    access = readings.config.access
    doorkeeper = Doorkeeper(access)
    api = _served(readings, version, doorkeeper)

    @cache
    def narrow(audience: Audience) -> FastAPI:
        served = _served(Permitted(readings, audience), version, doorkeeper, audience)
        served.add_middleware(Shield)
        return served

    def app_for(token: Token) -> FastAPI:
        return narrow(audience_of(readings.config, [f.name for f in readings.config.funnels if token.sees(f.name)]))

    if access.tokens:
        api.add_middleware(Gate, doorkeeper=doorkeeper, app_for=app_for)
    if access.cors:
        api.add_middleware(CORSMiddleware, allow_origins=access.cors, allow_methods=METHODS, allow_headers=ASKED, expose_headers=TOLD)
    api.add_middleware(Bounded)
    api.add_middleware(Shield)
    return api


def _served(readings: Readings, version: str, doorkeeper: Doorkeeper, audience: Audience | None = None) -> FastAPI:
    api = Api(
        title="funnelwatch",
        version=version,
        description="Live funnels: users per stage and the rate of every step, over trailing windows of event time.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.access = doorkeeper.access
    api.include_router(_funnels(readings))
    api.include_router(history(readings), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE))
    api.include_router(comparison(readings), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE))
    api.include_router(stream(readings, audience), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE))
    api.include_router(
        alerts(readings), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.SERVICE_UNAVAILABLE)
    )
    api.include_router(entities(readings), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE))
    api.include_router(meanings(readings.config), responses=_errors())
    api.include_router(session(doorkeeper), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN))
    api.include_router(_probes(readings))
    api.include_router(_pages())
    api.mount("/page", StaticFiles(directory=PAGE))
    api.add_exception_handler(StarletteHTTPException, _refused)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(StoreError, _no_store)
    return api


def _funnels(readings: Readings) -> APIRouter:
    router = APIRouter(prefix="/api/v1/funnels", tags=["funnels"])
    one = readings.config.funnels[0]

    @router.get("", summary="All funnels", response_model=FunnelList, responses=_errors(HTTPStatus.NOT_FOUND) | {200: {"headers": LINK}})
    async def funnels(
        request: Request,
        limit: int = Query(FUNNELS_MAX, ge=1, le=FUNNELS_MAX, description="how many at most"),
        after: str | None = Query(None, description="only those that the config has after this funnel: the last one of the page before"),
    ) -> Response:
        """Every funnel of the config, in its order, with what may be asked of it and its overall rate. `Link` has the next page."""
        names = [found.name for found in readings.config.funnels]
        begin = 0 if after is None else names.index(funnel_of(readings.config, after).name) + 1
        shown = names[begin : begin + limit]
        rendered = readings.hub.renderings.once(("funnels", *shown), lambda: _listed(readings, frozenset(shown)))
        headers = following(request, after=shown[-1]) if shown and shown[-1] != names[-1] else None
        return conditional(request, rendered.body, rendered.tag, headers=headers)

    @router.get("/{name}", summary="One funnel", response_model=FunnelReport, responses=_errors(HTTPStatus.NOT_FOUND))
    async def funnel(
        request: Request,
        name: str = Path(description="the funnel's name", examples=[one.name]),
        window: str | None = Query(
            None, description="a trailing window the config keeps; by default the funnel's first", json_schema_extra=WINDOW
        ),
        basis: str = Query("users", description="what a rate is made of: users, entries or adjusted", json_schema_extra=BASIS),
        by: str | None = Query(None, description="a dimension of the funnel, to have its values beside the total"),
    ) -> Response:
        """Users per stage and the rate of every step over one window, as of the latest tick; made once a tick, whoever asks."""
        found = funnel_of(readings.config, name)
        chosen = window_of(found, window, readings.config.windows_of(found))
        check(found, basis, by)
        rendered = readings.hub.renderings.of(Asked(name, chosen, by, basis))
        return conditional(request, rendered.body, rendered.tag)

    return router


def _listed(readings: Readings, names: Collection[str]) -> bytes:
    return FunnelList(funnels=[one for one in readings.summaries() if one.name in names]).model_dump_json().encode()


def _probes(readings: Readings) -> APIRouter:
    router = APIRouter(tags=["service"])
    probed = _errors() | {503: {"model": Health, "description": "No; `detail` says why"}}

    @router.get("/livez", summary="Liveness", response_model=Health, responses=probed)
    async def livez() -> Response:
        """Whether the consume loop turns; if not, the process should be restarted."""
        return _health(*readings.alive())

    @router.get("/readyz", summary="Readiness", response_model=Health, responses=probed)
    async def readyz() -> Response:
        """Whether partitions are assigned and Redis answers."""
        return _health(*await readings.ready())

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response, responses={200: METRICS_ANSWER})
    async def metrics() -> Response:
        """Every metric in the Prometheus text format."""
        return StreamingResponse(_blocks(readings.metrics()), media_type=METRICS_TYPE)

    return router


async def _blocks(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Pieces put together into blocks; others have their turn after each."""
    waiting, size = list[bytes](), 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= BLOCK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
            await asyncio.sleep(0)
    yield b"".join(waiting)


def _pages() -> APIRouter:
    router = APIRouter(include_in_schema=False, default_response_class=FileResponse)

    @router.get("/")
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @router.get("/docs")
    async def docs() -> FileResponse:
        return FileResponse(PAGE / "docs.html")

    @router.get("/favicon.ico", response_class=Response)
    async def icon() -> Response:
        """There is none; saying so keeps the browser's console free of a 404."""
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return router


def _health(ok: bool, detail: str) -> Response:
    return JSONResponse(Health(ok=ok, detail=detail).model_dump(), 200 if ok else 503)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    bare = error.detail == HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {cut(request.url.path)} is not served here; /docs lists what is" if bare else error.detail
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _allowed(request)
    return problem(error.status_code, detail, headers)


def _allowed(request: Request) -> str:
    """Every method of the address; Starlette names those of its first route alone."""
    asked = {method: {**request.scope, "method": method} for method in ("DELETE", "GET", "POST")}
    return ", ".join(method for method, scope in asked.items() if any(r.matches(dict(scope))[0] == Match.FULL for r in request.app.routes))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [f"{' '.join(str(p) for p in e['loc'])}: {e['msg']} (given: {cut(e['input'])})" for e in error.errors()]
    return problem(HTTPStatus.BAD_REQUEST, "; ".join(wrong))


async def _no_store(request: Request, error: Exception) -> Response:
    log.warning("request_needs_store", method=request.method, path=place(request.url.path), error=str(error))
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "Redis does not answer as it should; /readyz says when it does again")


class Shield:
    """Puts the security headers on every answer, and turns an unexpected exception into a 500.

    It stands in for Starlette's own handler of last resort, which raises the exception once more for
    the server to print.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _protect(MutableHeaders(scope=message), scope)
            await send(message)

        try:
            await self.app(scope, receive, guarded)
        except Exception:
            log.exception("request_failed", method=scope["method"], path=place(scope["path"]))
            if started:
                # The status is out already: let the server cut the connection, so that nobody takes half for whole.
                raise
            await problem(500, "something went wrong here, not in the request; the log of the service says what")(scope, receive, guarded)


def _protect(headers: MutableHeaders, scope: Scope) -> None:
    path = scope["path"]
    headers.update(HEADERS)
    if scope["scheme"] == "https":
        headers["Strict-Transport-Security"] = HSTS
    # no-cache: may be kept, but is asked about by its ETag before it is shown again.
    kept = path.startswith("/page/") or (path.startswith("/api/") and "etag" in headers)
    headers["Cache-Control"] = "no-cache" if kept else "no-store"


def _errors(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """The errors an endpoint may give, for the OpenAPI document."""
    errors: dict[int | str, dict[str, Any]] = {int(status): _error(status, status.phrase) for status in statuses}
    # FastAPI would promise a 422 of its own shape; "default" keeps it from that.
    return errors | {"default": _error(HTTPStatus.BAD_REQUEST, "Any other error")}


def _error(status: HTTPStatus, description: str) -> dict[str, Any]:
    example = Problem(title=status.phrase, status=status, detail="what happened, and what there is instead")
    content = {"schema": Problem.model_json_schema(), "example": example.model_dump()}
    return {"description": description, "content": {PROBLEM_TYPE: content}}


METRICS_ANSWER = {"description": "OK", "content": {METRICS_TYPE: {"example": 'funnel_stage_users{funnel="purchase",stage="pay"} 310\n'}}}
AT = datetime(2026, 3, 2, 14, 32, 5, tzinfo=timezone.utc)
OVERALL = Rate(numerator=310, denominator=1000, rate=0.31)
STAGES = (
    StageReport(name="view", title="Product page", users=1000, step=None, lost=0, events=1450, value=0, entries=1010, conversions=301),
    StageReport(
        name="pay",
        title="Paid",
        users=310,
        step=OVERALL,
        lost=690,
        events=318,
        value=9540.5,
        entries=312,
        target=0.4,
        time_to_convert=TimeToConvert(conversions=301, p50_seconds=42.5, p90_seconds=170.2, p99_seconds=603.1),
    ),
)
SUMMARY = FunnelSummary(
    name="purchase",
    title="Browse to order",
    description="",
    owner="shop",
    source="web",
    conversion_window="30m",
    windows=("1m", "5m"),
    dimensions=("channel",),
    stages=("view", "pay"),
    overall=OVERALL,
    at=AT,
)
REPORT = FunnelReport(
    name="purchase",
    title="Browse to order",
    source="web",
    window="5m",
    conversion_window="30m",
    at=AT,
    stale=False,
    incomplete=False,
    lag=0,
    stages=STAGES,
    overall=OVERALL,
    by="channel",
    values=(Breakdown(value="email", stages=STAGES, overall=OVERALL),),
)
HEALTHY = Health(ok=True, detail="all is well")
EXAMPLES: dict[str, BaseModel] = {
    "/api/v1/funnels": FunnelList(funnels=[SUMMARY]),
    "/api/v1/funnels/{name}": REPORT,
    **HISTORY,
    **COMPARE,
    **ALERTS,
    **SESSION,
    "/api/v1/dictionary": DICTIONARY,
    "/api/v1/entities/{id}": ENTITY,
    "/livez": HEALTHY,
    "/readyz": HEALTHY,
}
