"""Comparisons over HTTP: two periods of a funnel, or values of a dimension, with what chance would have explained."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import Annotated, Protocol

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import AwareDatetime, BaseModel

from schemas.config import Config
from schemas.errors import UsageError
from schemas.history import Comparison, ComparisonReport, Side, StepComparison
from schemas.report import Rate
from streams.periods import SHIFTS, CompareAsked
from streams.web.asked import BASIS, WINDOW, check, funnel_of, micros, unknown, window_of
from streams.web.conditional import conditional

VALUE_LENGTH_MAX = 131


class Compares(Protocol):
    """The part of `web.readings.Readings` that is needed here."""

    @property
    def config(self) -> Config: ...

    async def compare(self, asked: CompareAsked) -> ComparisonReport:
        """Two sides of a funnel, step by step. Raises UsageError and StoreError."""
        ...


def comparison(readings: Compares) -> APIRouter:
    router = APIRouter(prefix="/api/v1/funnels", tags=["funnels"])

    @router.get("/{name}/compare", summary="Compare periods or values", response_model=ComparisonReport)
    async def compare(
        request: Request,
        name: str = Path(description="the funnel's name", examples=[readings.config.funnels[0].name]),
        window: str | None = Query(
            None, description="length of the newest period, a window the config keeps; by default its longest", json_schema_extra=WINDOW
        ),
        basis: str = Query(
            "entries",
            description="what a rate is made of: entries, adjusted, or users (of which nothing is claimed)",
            json_schema_extra=BASIS,
        ),
        by: str | None = Query(None, description="a dimension: its values are compared with all others, or with themselves `against`"),
        value: str | None = Query(None, max_length=VALUE_LENGTH_MAX, description="only this value of it"),
        against_value: str | None = Query(None, max_length=VALUE_LENGTH_MAX, description="the value that it is compared with"),
        against: str | None = Query(
            None,
            description="the period compared with: previous, yesterday or last_week; without `by`, previous",
            json_schema_extra={"enum": [*SHIFTS]},
        ),
        start: Annotated[AwareDatetime | None, Query(alias="from", description="the period's beginning, instead of `window`")] = None,
        to: Annotated[AwareDatetime | None, Query(description="its end")] = None,
        against_from: Annotated[
            AwareDatetime | None, Query(description="beginning of the period compared with, instead of `against`")
        ] = None,
        against_to: Annotated[AwareDatetime | None, Query(description="its end")] = None,
    ) -> Response:
        """Two sides step by step: difference, interval, and whether it is more than chance, over all that were compared."""
        found = funnel_of(readings.config, name)
        kept = readings.config.windows_of(found)
        check(found, basis, by)
        if against is not None and against not in SHIFTS:
            raise unknown(found, "period", against, tuple(SHIFTS))
        if by is None and (value is not None or against_value is not None):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "a value is one of a dimension: say which, with `by`")
        if against_value is not None and value is None:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "`against_value` needs a `value` to compare with it")
        asked = CompareAsked(
            funnel=name,
            window=max(kept) if window is None else window_of(found, window, kept),
            basis=basis,
            by=by,
            value=value,
            against=against,
            against_value=against_value,
            period_us=_period("from", start, "to", to),
            against_us=_period("against_from", against_from, "against_to", against_to),
        )
        try:
            report = await readings.compare(asked)
        except UsageError as error:
            raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from None
        return conditional(request, report.model_dump_json().encode())

    return router


def _period(first: str, start: datetime | None, second: str, end: datetime | None) -> tuple[int, int] | None:
    if start is None and end is None:
        return None
    if start is None or end is None or start >= end:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"`{first}` and `{second}` go together, the earlier one first")
    return micros(start), micros(end)


_END = datetime(2026, 3, 2, 14, 32, tzinfo=timezone.utc)
_HOUR = timedelta(hours=1)
EXAMPLE = ComparisonReport(
    name="purchase", title="Browse to order", basis="entries", by="channel", at=_END.replace(second=5), compared=1, tests=1,
    note="Finished entries: Newcombe's interval of the difference; Fisher's exact test, or the score test where numbers allow.",
    comparisons=(
        Comparison(
            a=Side(from_=_END - _HOUR, to=_END, value="email"), b=Side(from_=_END - _HOUR, to=_END, value="email", others=True),
            steps=(
                StepComparison(
                    stage="pay",
                    a=Rate(numerator=200, denominator=1000, rate=0.2, low=0.1764, high=0.2259),
                    b=Rate(numerator=300, denominator=1000, rate=0.3, low=0.2724, high=0.3292),
                    difference=-0.1, low=-0.1374, high=-0.0622, p=2.4e-7, p_adjusted=2.4e-7, significant=True, test="score",
                ),
            ),
        ),
    ),
)  # fmt: skip
EXAMPLES: dict[str, BaseModel] = {"/api/v1/funnels/{name}/compare": EXAMPLE}
