"""Alerts over HTTP: where the rules stand, and what people do about it. What changes something is taken as JSON alone.

A page of another site can make a browser post a form to this address, but not JSON, and not a
DELETE, without asking first; and it is told nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Annotated, Protocol, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, Field

from schemas.errors import UsageError
from schemas.report import Alerts, AlertState, AuditEntry, DeadLetterReport, SilenceReport, Transition
from schemas.silence import NewAcknowledgement, NewSilence, Resend, Signed
from streams.web.access import signature
from streams.web.paging import LINK, SKIP, paged

TRANSITIONS_MAX = 1000
AUDIT_MAX = 20_000  # of what people did, and of what they looked at, half each
DEAD_LETTERS_MAX = 1000
SILENCES_MAX = 1000
T = TypeVar("T")
By = TypeVar("By", NewSilence, NewAcknowledgement, Resend, Signed)


class Alerting(Protocol):
    """The part of `web.readings.Readings` that is needed here. Every method may raise StoreError."""

    async def alert_states(self) -> list[AlertState]:
        """Where every rule stands, for the total and each dimension value it judges."""
        ...

    async def transitions(self, limit: int) -> list[Transition]:
        """The last changes of state, newest first, `limit` at most."""
        ...

    async def silences(self) -> list[SilenceReport]:
        """Every silence: active, to come, and over."""
        ...

    async def add_silence(self, asked: NewSilence) -> SilenceReport:
        """Raises UsageError."""
        ...

    async def expire_silence(self, name: str, by: Signed) -> SilenceReport | None:
        """None: there is none of that id."""
        ...

    async def acknowledge(self, asked: NewAcknowledgement) -> AlertState | None:
        """None: there is no such alert. Raises UsageError when it does not fire."""
        ...

    async def dead_letters(self) -> list[DeadLetterReport]:
        """What was given up, newest first."""
        ...

    async def resend(self, asked: Resend) -> bool:
        """False: there is no dead letter of that id."""
        ...

    async def audit(self, limit: int) -> list[AuditEntry]:
        """What people did, newest first."""
        ...


class Silences(BaseModel):
    """Every silence that is kept."""

    silences: list[SilenceReport]


class DeadLetters(BaseModel):
    """Notifications that were given up."""

    dead_letters: list[DeadLetterReport] = Field(description="newest first")


class Audit(BaseModel):
    """What people did to the alerts."""

    entries: list[AuditEntry] = Field(description="newest first")


async def as_json(request: Request) -> None:
    """Refuse a body that does not say it is JSON."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body as JSON, with Content-Type: application/json")


def alerts(readings: Alerting) -> APIRouter:
    router = APIRouter(prefix="/api/v1", tags=["alerts"])
    written = [Depends(as_json)]

    @router.get("/alerts", summary="Alerts", response_model=Alerts, responses={200: {"headers": LINK}})
    async def states(
        request: Request,
        response: Response,
        limit: int = Query(
            50, ge=1, le=TRANSITIONS_MAX, description=f"how many transitions at most; the newest {TRANSITIONS_MAX} are there"
        ),
        skip: int = Query(0, ge=0, le=TRANSITIONS_MAX, description=SKIP),
    ) -> Alerts:
        """Where every rule stands now, and the last changes of state. `Link` has earlier ones."""
        found = await readings.transitions(skip + limit + 1)
        return Alerts(states=await readings.alert_states(), transitions=paged(request, response, found, limit, skip))

    @router.post("/alerts/ack", summary="Acknowledge an alert", response_model=AlertState, dependencies=written)
    async def acknowledge(request: Request, asked: NewAcknowledgement) -> AlertState:
        """Say that somebody has seen an incident; it holds until the incident is over."""
        return _found(await _done(readings.acknowledge(_signed(request, asked))), "no such alert; /api/v1/alerts lists what there is")

    @router.get("/alerts/dead-letters", summary="Dead letters", response_model=DeadLetters, responses={200: {"headers": LINK}})
    async def dead_letters(
        request: Request,
        response: Response,
        limit: int = Query(DEAD_LETTERS_MAX, ge=1, le=DEAD_LETTERS_MAX, description="how many at most"),
        skip: int = Query(0, ge=0, le=DEAD_LETTERS_MAX, description=SKIP),
    ) -> DeadLetters:
        """Notifications that a channel refused, or did not take for a day; they wait here for somebody to look. `Link` has older ones."""
        return DeadLetters(dead_letters=paged(request, response, await readings.dead_letters(), limit, skip))

    @router.post("/alerts/dead-letters", summary="Resend a dead letter", response_model=Resend, dependencies=written)
    async def resend(request: Request, asked: Resend) -> Resend:
        """Put a dead letter back among what waits to be sent."""
        _found(await readings.resend(_signed(request, asked)) or None, "no dead letter of that id; GET lists what there is")
        return asked

    @router.get("/silences", summary="Silences", response_model=Silences, responses={200: {"headers": LINK}})
    async def silences(
        request: Request,
        response: Response,
        limit: int = Query(SILENCES_MAX, ge=1, le=SILENCES_MAX, description="how many at most"),
        skip: int = Query(0, ge=0, le=SILENCES_MAX, description="how many to leave out: those of the pages before"),
    ) -> Silences:
        """Every silence: active, to come (a maintenance window), and over. `Link` has more."""
        return Silences(silences=paged(request, response, await readings.silences(), limit, skip))

    @router.post("/silences", summary="Silence alerts", response_model=SilenceReport, status_code=HTTPStatus.CREATED, dependencies=written)
    async def silence(request: Request, asked: NewSilence) -> SilenceReport:
        """Tell nobody of the alerts that match, from now or from later on; what still fires at the end is told then."""
        return await _done(readings.add_silence(_signed(request, asked)))

    @router.delete("/silences/{id}", summary="End a silence", response_model=SilenceReport)
    async def expire(
        request: Request,
        by: Annotated[Signed, Query()],
        id: str = Path(description="the silence", max_length=64),  # noqa: A002
    ) -> SilenceReport:
        """End a silence now."""
        found = await _done(readings.expire_silence(id, _signed(request, by)))
        return _found(found, "no silence of that id; /api/v1/silences lists what there is")

    @router.get("/audit", summary="Audit log", response_model=Audit, responses={200: {"headers": LINK}})
    async def audit(
        request: Request,
        response: Response,
        limit: int = Query(100, ge=1, le=AUDIT_MAX, description=f"how many entries at most; the newest {AUDIT_MAX:,} are there"),
        skip: int = Query(0, ge=0, le=AUDIT_MAX, description=SKIP),
    ) -> Audit:
        """Who silenced, acknowledged or resent what, when and why; and who looked at which entity. `Link` has earlier ones."""
        return Audit(entries=paged(request, response, await readings.audit(skip + limit + 1), limit, skip))

    return router


def _signed(request: Request, asked: By) -> By:
    """With the token that it came with beside what its author calls himself."""
    return asked.model_copy(update={"author": signature(request, asked.author)})


async def _done(work: Awaitable[T]) -> T:
    try:
        return await work
    except UsageError as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from None


def _found(found: T | None, otherwise: str) -> T:
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is {otherwise}")
    return found


AT = datetime(2026, 3, 2, 14, 32, 5, tzinfo=timezone.utc)
TRANSITION = Transition(
    at=AT, rule="PayLow", funnel="purchase", stage="pay", dimension=None, value=None,
    state="firing", numerator=310, denominator=1000, rate=0.31, threshold=0.4,
)  # fmt: skip
STATE = AlertState(
    rule="PayLow", funnel="purchase", stage="pay", dimension=None, value=None, state="firing", since=AT, at=AT, flaps=1, told=True,
    numerator=310, denominator=1000, rate=0.31, low=0.28, upper=0.34, threshold=0.4, window_seconds=300, severity="page", window="5m",
)  # fmt: skip
SILENCE = SilenceReport(
    id="5f3c91aa", matchers={"rule": "Pay*"}, starts=AT, ends=AT.replace(hour=16), author="kim", reason="payment provider moves",
    state="active",
)  # fmt: skip
LETTER = DeadLetterReport(
    id="oncall/PayLow/1772461925000000/firing", channel="oncall", status="firing",
    title="Browse to order: Product page → Paid at 31%, under 40%", error="HTTP 403", attempts=1, at=AT, transition=TRANSITION,
)  # fmt: skip
ENTRY = AuditEntry(
    at=AT, author="kim", action="silence_added", subject="5f3c91aa",
    detail="rule=Pay* from 2026-03-02T14:32:05Z to 2026-03-02T16:32:05Z", reason="payment provider moves",
)  # fmt: skip
EXAMPLES: dict[str, BaseModel] = {
    "/api/v1/alerts": Alerts(states=[STATE], transitions=[TRANSITION]),
    "/api/v1/alerts/dead-letters": DeadLetters(dead_letters=[LETTER]),
    "/api/v1/silences": Silences(silences=[SILENCE]),
    "/api/v1/audit": Audit(entries=[ENTRY]),
}
