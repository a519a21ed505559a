"""A funnel's past over HTTP: points at chosen steps, as JSON or CSV, page by page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

import msgspec
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import AwareDatetime, BaseModel

from schemas.config import Config
from schemas.errors import UsageError
from schemas.event import moment_of
from schemas.history import HistoryPoint, HistoryReport, StagePoint, ValuePoint
from schemas.report import Rate
from streams.archive import HistoryAsked
from streams.web.asked import BASIS, WINDOW, check, funnel_of, micros, window_of
from streams.web.conditional import conditional
from streams.web.stream import Hub

POINTS_MAX = 1000
POINTS = 500
HELD_MAX = 100  # answers of one tick
CSV = "text/csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a spreadsheet tells a formula
COLUMNS = (
    "at", "value", "stage", "users", "numerator", "denominator", "rate", "low", "high",
    "entries", "conversions", "pending", "events", "amount", "incomplete",
)  # fmt: skip


class Remembers(Protocol):
    """The part of `web.readings.Readings` that is needed here."""

    @property
    def config(self) -> Config: ...

    @property
    def hub(self) -> Hub: ...

    async def history(self, asked: HistoryAsked) -> tuple[HistoryReport, int | None]:
        """A page of a funnel's history, and where (µs) the next one begins. Raises UsageError and StoreError."""
        ...


def history(readings: Remembers) -> APIRouter:
    router = APIRouter(prefix="/api/v1/funnels", tags=["funnels"])
    once = _OnceATick(readings)

    @router.get("/{name}/history", summary="A funnel's past", response_model=HistoryReport, responses={200: ANSWER})
    async def past(
        request: Request,
        name: str = Path(description="the funnel's name", examples=[readings.config.funnels[0].name]),
        start: Annotated[
            AwareDatetime | None, Query(alias="from", description="the first boundary; by default an hour before `to`")
        ] = None,
        to: Annotated[AwareDatetime | None, Query(description="the last boundary; by default T")] = None,
        step: str | None = Query(
            None,
            description="1m to 30m (kept for 48 h) or 1h to 1d (90 d); by default the finest for 300 points, with `by` for 600 of all values",
        ),
        window: str | None = Query(
            None, description="a trailing window the config keeps; by default the funnel's first", json_schema_extra=WINDOW
        ),
        basis: str = Query("users", description="what a rate is made of: users, entries or adjusted", json_schema_extra=BASIS),
        by: str | None = Query(None, description="a dimension of the funnel, to have its values beside the total"),
        limit: int | None = Query(
            None, ge=1, le=POINTS_MAX, description=f"points a page, {POINTS} by default; fewer with `by` where it has many values"
        ),
        format: str | None = Query(None, pattern="^(json|csv)$", description="json or csv; by default what `Accept` prefers"),  # noqa: A002
    ) -> Response:
        """The window that ended at each step, as it was when it ended. A boundary that was missed has no point."""
        found = funnel_of(readings.config, name)
        chosen = window_of(found, window, readings.config.windows_of(found))
        check(found, basis, by)
        asked = HistoryAsked(name, chosen, basis, by, step, _micros(start), _micros(to), limit or POINTS)
        table = format == "csv" or (format is None and prefers_csv(request.headers.get("accept", "")))
        try:
            page = await once.of(asked, table=table)
        except UsageError as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from None
        head, headers = page.head, {"Vary": "Accept"}
        if page.next_us is not None:
            following = _following(request, head, page.next_us, asked, to)
            head = head.model_copy(update={"next": following})
            headers["Link"] = f'<{following}>; rel="next"'
        if table:
            headers["Content-Disposition"] = f'attachment; filename="{_file_name(name, asked)}"'
            return conditional(request, page.body, media_type=f"{CSV}; charset=utf-8", headers=headers)
        return conditional(request, as_json(head, page.body), headers=headers)

    return router


class _Page(NamedTuple):
    """An answer, but for the address of the page that follows."""

    head: HistoryReport  # without points
    body: bytes  # the points as JSON, or all of it as a table
    next_us: int | None


class _OnceATick:
    """Answers of the latest tick, whoever else asks for them too: a page by many values is a megabyte of JSON."""

    def __init__(self, readings: Remembers) -> None:
        self._readings = readings
        self._tick = -1
        self._held: dict[tuple[HistoryAsked, bool], _Page] = {}

    async def of(self, asked: HistoryAsked, *, table: bool) -> _Page:
        """Raises UsageError and StoreError."""
        tick = self._readings.hub.tick
        if tick != self._tick:
            self._tick = tick
            self._held = {}
        held = self._held
        if (asked, table) not in held:
            page = await self._made(asked, table=table)
            if len(held) < HELD_MAX:
                held[asked, table] = page
            return page
        return held[asked, table]

    async def _made(self, asked: HistoryAsked, *, table: bool) -> _Page:
        report, next_us = await self._readings.history(asked)
        body = as_csv(report).encode() if table else points_json(report)
        return _Page(report.model_copy(update={"points": ()}), body, next_us)


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else micros(moment)


def _following(request: Request, report: HistoryReport, next_us: int, asked: HistoryAsked, to: datetime | None) -> str:
    """The address of the next page: this one's, with its step and its end, which would move with T."""
    begin = moment_of(next_us)
    end = to or report.at
    query = {
        **request.query_params,
        "from": _iso(begin),
        "step": report.step,
        "limit": str(asked.limit),
        **({} if end is None else {"to": _iso(end)}),
    }
    return f"{quote(request.url.path)}?{urlencode(query)}"


def _iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def prefers_csv(accept: str) -> bool:
    """Whether an `Accept` header would rather have CSV than JSON."""
    weights = {"csv": 0.0, "json": 0.0}
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        given = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        weight = float(given) if re.fullmatch(r"[01](\.\d{0,3})?", given) else 0.0
        if kind == CSV:
            weights["csv"] = max(weights["csv"], weight)
        elif kind in {"application/json", "application/*", "*/*"}:
            weights["json"] = max(weights["json"], weight)
    return weights["csv"] > 0 and weights["csv"] >= weights["json"]


def points_json(report: HistoryReport) -> bytes:
    """The points of a report as pydantic writes them, in a third of the time; light ones (`past.PointStage`) too."""
    return msgspec.json.encode(report.points, enc_hook=vars)


def as_json(head: HistoryReport, points: bytes) -> bytes:
    """A report from what stands around its points, and these."""
    return msgspec.json.encode({**head.model_dump(mode="json"), "points": msgspec.Raw(points)})


def as_csv(report: HistoryReport) -> str:
    """A line for each point, value and stage; `value` is empty for the total."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for point in report.points:
        for value, stages in (("", point.stages), *((v.value, v.stages) for v in point.values)):
            for name, stage in zip(report.stages, stages):
                writer.writerow([_iso(point.at), _plain(value), _plain(name), *_cells(stage), int(point.incomplete)])
    return out.getvalue()


def _cells(stage: StagePoint) -> Iterator[Any]:
    step, pending = stage.step, stage.pending
    yield stage.users
    yield from (None,) * 5 if step is None else (step.numerator, step.denominator, step.rate, step.low, step.high)
    yield from (stage.entries, stage.conversions, None if pending is None else pending.denominator, stage.events, stage.value)


def _plain(text: str) -> str:
    """A text that no spreadsheet takes for a formula; values come from whoever sends events."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _file_name(name: str, asked: HistoryAsked) -> str:
    words = [name, asked.basis, str(asked.window), *([asked.by] if asked.by else []), "history"]
    return re.sub(r"[^A-Za-z0-9.-]+", "-", "-".join(words)).strip("-") + ".csv"


_AT = datetime(2026, 3, 2, 14, 32, tzinfo=timezone.utc)
_STAGES = (
    StagePoint(users=1000, events=1450, value=0),
    StagePoint(users=310, step=Rate(numerator=310, denominator=1000, rate=0.31), events=318, value=9540.5),
)
EXAMPLE = HistoryReport(
    name="purchase", title="Browse to order", source="web", window="5m", basis="users", by="channel", step="1m",
    from_=_AT, to=_AT, at=_AT.replace(second=5), since=None, stages=("view", "pay"),
    points=(HistoryPoint(at=_AT, stages=_STAGES, values=(ValuePoint(value="email", stages=_STAGES),)),),
    gaps=0, next="/api/v1/funnels/purchase/history?by=channel&from=2026-03-02T14%3A33%3A00Z&step=1m&limit=250",
)  # fmt: skip
ANSWER: dict[str, Any] = {
    "description": "OK; `Link` has the next page, `ETag` allows `If-None-Match`",
    "content": {CSV: {"schema": {"type": "string"}, "example": as_csv(EXAMPLE)}},
}
EXAMPLES: dict[str, BaseModel] = {"/api/v1/funnels/{name}/history": EXAMPLE}
