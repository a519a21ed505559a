"""The HTTP side over a shop in memory: reports, history, comparisons and the stream, without alerts."""

from __future__ import annotations

from typing import cast

from fastapi import FastAPI

from schemas.config import Config
from schemas.duration import Duration
from schemas.history import ComparisonReport, HistoryReport
from schemas.report import FunnelReport, FunnelSummary
from streams.archive import Archive, HistoryAsked
from streams.periods import CompareAsked
from streams.web.api import create_api
from streams.web.readings import Readings
from streams.web.renderings import Renderings
from streams.web.stream import Hub
from tests.parts.record import Shop


class ShopReadings:
    """What the API asks of a worker, but for alerts and entities. `reported` counts reports computed."""

    def __init__(self, shop: Shop | None = None) -> None:
        self.shop = shop or Shop()
        self.config: Config = self.shop.config
        self.reported = 0
        self.alerts = b'{"states":[],"transitions":[]}'
        self.hub = Hub(Renderings(self.report), self.alerts_shown)
        self._archive = Archive(self.shop.reader, self.shop.record)

    def app(self) -> FastAPI:
        return create_api(cast("Readings", self), "1.2.3")

    def report(self, funnel: str, window: Duration, by: str | None, basis: str) -> FunnelReport:
        self.reported += 1
        return self.shop.reader.report(funnel, window, by, basis)

    def summaries(self) -> list[FunnelSummary]:
        return [self.shop.reader.summary(funnel) for funnel in self.config.funnels]

    async def alerts_shown(self) -> bytes:
        return self.alerts

    async def history(self, asked: HistoryAsked) -> tuple[HistoryReport, int | None]:
        return await self._archive.history(asked)

    async def compare(self, asked: CompareAsked) -> ComparisonReport:
        return await self._archive.compare(asked)
