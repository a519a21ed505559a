"""One entity: where it stands in each funnel and why it is not further, read from the ledger when asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Protocol

from fastapi import APIRouter, HTTPException, Path, Request

from schemas.config import Config
from schemas.event import ENTITY_LENGTH_MAX
from schemas.explanation import EntityExplanation, Entry, FunnelStanding, Reach, SourceExplanation, StageStanding, Wait
from streams.explain import explain, unknown
from streams.ledger.contract import Ledger
from streams.reader import SourceView
from streams.web.access import reader


class Explains(Protocol):
    """The part of `web.readings.Readings` that is needed here."""

    @property
    def config(self) -> Config: ...

    async def explanation(self, entity: str) -> EntityExplanation | None:
        """Where an entity stands in every source that knows it; None: none does. Raises StoreError."""
        ...

    async def entity_read(self, entity: str, author: str, sources: Sequence[str]) -> None:
        """Note in the audit log who looked at an entity, and where it is known. Raises StoreError."""
        ...


async def explained(ledger: Ledger, views: Mapping[str, SourceView], entity: str, names: Sequence[str] = ()) -> EntityExplanation | None:
    """An entity in every source that has a state of it, as of the source's T; None: none has. Raises StoreUnavailable.

    `names` are those that it may be stored under, that of today first; by default its own.
    """
    found: list[SourceExplanation] = []
    for name, view in views.items():
        shards = await ledger.shards(name)
        states = await asyncio.gather(*[ledger.states(shard, names or (entity,)) for shard in shards])
        for shard, stored in zip(shards, states):
            packed = next((state for state in stored if state is not None), None)
            if packed is not None:
                found.append(explain(view.plan, packed, view.at_us, int(shard.rpartition(":")[2])))
    return EntityExplanation(entity=entity, sources=tuple(found)) if found else None


def entities(readings: Explains) -> APIRouter:
    router = APIRouter(prefix="/api/v1/entities", tags=["entities"])

    # An entity may have any character, a slash too.
    @router.get("/{id:path}", summary="One entity", response_model=EntityExplanation)
    async def entity(
        request: Request,
        id: str = Path(description="the entity: its user_id, or anonymous_id", min_length=1, max_length=ENTITY_LENGTH_MAX),  # noqa: A002
    ) -> EntityExplanation:
        """Where the entity stands in each funnel: when it reached which stage, and why it is not further."""
        found = await readings.explanation(id)
        # Before the answer: nobody looks unnoted, and without the store nobody looks.
        await readings.entity_read(id, reader(request), [] if found is None else [one.source for one in found.sources])
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, unknown(id, [source.name for source in readings.config.sources]))
        return found

    return router


def _at(minute: int, second: int) -> datetime:
    return datetime(2026, 3, 2, 14, minute, second, tzinfo=timezone.utc)


EXAMPLE = EntityExplanation(
    entity="u-1834",
    sources=(
        SourceExplanation(
            source="web",
            partition=3,
            at=_at(32, 5),
            newest=_at(20, 41),
            funnels=(
                FunnelStanding(
                    funnel="purchase",
                    title="Browse to order",
                    order="ordered",
                    conversion_window="30m",
                    state="waiting",
                    deepest="cart",
                    why='Reached "cart" at 2026-03-02T14:20:41Z. Waiting for "pay" until 2026-03-02T14:48:12Z '
                    '(30m after "view" at 2026-03-02T14:18:12Z).',
                    waiting=(Wait(stage="pay", until=_at(48, 12)),),
                    stages=(
                        StageStanding(
                            name="view",
                            title="Product page",
                            reached=Reach(at=_at(18, 12), since=_at(18, 12), before=_at(18, 12).replace(microsecond=1)),
                            start=_at(18, 12),
                            until=_at(48, 12),
                            values={"channel": "email"},
                            entry=Entry(opened=_at(18, 12), converted=True, until=_at(48, 12), pending=False),
                        ),
                        StageStanding(
                            name="cart",
                            title="Cart",
                            reached=Reach(at=_at(20, 41), since=_at(20, 41), before=_at(20, 41).replace(microsecond=1)),
                            start=_at(18, 12),
                            until=_at(48, 12),
                            values={"channel": "email"},
                            entry=Entry(opened=_at(20, 41), converted=False, until=_at(50, 41), pending=True),
                        ),
                        StageStanding(name="pay", title="Paid", reached=None, start=None, until=None, values={}, entry=None),
                    ),
                ),
            ),
        ),
    ),
)
