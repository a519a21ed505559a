"""The HTTP side: funnels, alerts, health, metrics, the page and its docs; every error is RFC 9457."""

from __future__ import annotations

from datetime import datetime, timezone
from http import HTTPStatus
from pathlib import Path as FilePath
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import StoreError
from schemas.report import Breakdown, FunnelReport, FunnelSummary, Rate, StageReport, TimeToConvert
from streams.web.alerts import EXAMPLES as ALERTS
from streams.web.alerts import alerts
from streams.web.asked import check, cut, funnel_of, window_of
from streams.web.compare import EXAMPLES as COMPARE
from streams.web.compare import comparison
from streams.web.conditional import conditional
from streams.web.dictionary import EXAMPLE as DICTIONARY
from streams.web.dictionary import meanings
from streams.web.entities import EXAMPLE as ENTITY
from streams.web.entities import entities
from streams.web.history import EXAMPLES as HISTORY
from streams.web.history import history
from streams.web.readings import Readings
from streams.web.renderings import Asked
from streams.web.stream import stream

PAGE = FilePath(__file__).parent / "page"
# Not CONTENT_TYPE_LATEST: that names 1.0.0, which an older Prometheus does not know.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PROBLEM_TYPE = "application/problem+json"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class FunnelList(BaseModel):
    """Every funnel of the config."""

    funnels: list[FunnelSummary]


class Health(BaseModel):
    """The answer of a probe."""

    ok: bool
    detail: str = Field(description="why, in a sentence")


class Problem(BaseModel):
    """An error as RFC 9457 has it."""

    type: str = Field(default="about:blank", description="about:blank: the status says what kind of error this is")
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="what happened, and what there is instead")


class Api(FastAPI):
    """FastAPI with examples that keep their nulls: it drops every null from the document it makes."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        for path, example in EXAMPLES.items():
            answer = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            answer["example"] = example.model_dump(mode="json")
        return document


def create_api(readings: Readings, version: str) -> FastAPI:
    """The whole HTTP side of a worker as one ASGI app, to be served on the worker's own loop."""
    api = Api(
        title="funnelwatch",
        version=version,
        description="Live funnels: users per stage and the rate of every step, over trailing windows of event time.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    api.include_router(_funnels(readings))
    api.include_router(history(readings), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE))
    api.include_router(comparison(readings), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE))
    api.include_router(stream(readings), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE))
    api.include_router(
        alerts(readings), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.SERVICE_UNAVAILABLE)
    )
    api.include_router(entities(readings), responses=_errors(HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE))
    api.include_router(meanings(readings.config), responses=_errors())
    api.include_router(_probes(readings))
    api.include_router(_pages())
    api.mount("/page", StaticFiles(directory=PAGE))
    api.add_exception_handler(StarletteHTTPException, _refused)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(StoreError, _no_store)
    api.add_middleware(Shield)
    return api


def _funnels(readings: Readings) -> APIRouter:
    router = APIRouter(prefix="/api/v1/funnels", tags=["funnels"])
    one = readings.config.funnels[0]

    @router.get("", summary="All funnels", response_model=FunnelList, responses=_errors())
    async def funnels(request: Request) -> Response:
        """Every funnel of the config, with what may be asked of it and its overall rate."""
        return conditional(request, FunnelList(funnels=readings.summaries()).model_dump_json().encode())

    @router.get("/{name}", summary="One funnel", response_model=FunnelReport, responses=_errors(HTTPStatus.NOT_FOUND))
    async def funnel(
        request: Request,
        name: str = Path(description="the funnel's name", examples=[one.name]),
        window: str | None = Query(None, description="a trailing window the config keeps; by default the funnel's first"),
        basis: str = Query("users", description="what a rate is made of: users, entries or adjusted"),
        by: str | None = Query(None, description="a dimension of the funnel, to have its values beside the total"),
    ) -> Response:
        """Users per stage and the rate of every step over one window, as of the latest tick; made once a tick, whoever asks."""
        found = funnel_of(readings.config, name)
        chosen = window_of(found, window, readings.config.windows_of(found))
        check(found, basis, by)
        rendered = readings.hub.renderings.of(Asked(name, chosen, by, basis))
        return conditional(request, rendered.body, rendered.tag)

    return router


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
        return Response(readings.metrics(), media_type=METRICS_TYPE)

    return router


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


def _problem(status: int, detail: str, headers: Any = None) -> JSONResponse:
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return JSONResponse(body.model_dump(), status, headers, media_type=PROBLEM_TYPE)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    bare = error.detail == HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {cut(request.url.path)} is not served here; /docs lists what is" if bare else error.detail
    return _problem(error.status_code, detail, error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [f"{' '.join(str(p) for p in e['loc'])}: {e['msg']} (given: {cut(e['input'])})" for e in error.errors()]
    return _problem(HTTPStatus.BAD_REQUEST, "; ".join(wrong))


async def _no_store(request: Request, error: Exception) -> Response:
    log.warning("request_needs_store", method=request.method, path=request.url.path, error=str(error))
    return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "Redis does not answer as it should; /readyz says when it does again")


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
                _protect(MutableHeaders(scope=message), scope["path"])
            await send(message)

        try:
            await self.app(scope, receive, guarded)
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if started:
                # The status is out already: let the server cut the connection, so that nobody takes half for whole.
                raise
            await _problem(500, "something went wrong here, not in the request; the log of the service says what")(scope, receive, guarded)


def _protect(headers: MutableHeaders, path: str) -> None:
    headers.update(HEADERS)
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
    "/api/v1/dictionary": DICTIONARY,
    "/api/v1/entities/{id}": ENTITY,
    "/livez": HEALTHY,
    "/readyz": HEALTHY,
}
