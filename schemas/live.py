"""What the stream of live events says, event by event; each is a whole state."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from schemas.report import FunnelReport


class Reports(BaseModel):
    """The reports listened to, when any of them has changed."""

    model_config = ConfigDict(frozen=True)

    funnels: tuple[FunnelReport, ...]


class Tick(BaseModel):
    """The service lives: once a second, whether or not anything changed."""

    model_config = ConfigDict(frozen=True)

    tick: int
    at: datetime
