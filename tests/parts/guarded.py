"""The HTTP side of a worker that asks for tokens, over two funnels of two sources, in memory."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Any, cast

import httpx
import yaml

from alerting.desk import Desk
from alerting.memory_store import MemoryAlertStore
from schemas.access import hash_of
from schemas.config import Config, parse
from schemas.duration import Duration
from schemas.explanation import EntityExplanation, FunnelStanding, SourceExplanation
from schemas.history import ComparisonReport, HistoryReport
from schemas.report import Alerts, AlertState, FunnelReport, FunnelSummary, Rate, StageReport, Transition
from streams.archive import HistoryAsked
from streams.periods import CompareAsked
from streams.web.api import create_api
from streams.web.readings import Readings
from streams.web.renderings import Renderings
from streams.web.stream import Hub

AT = datetime(2026, 3, 2, 14, 32, 5, tzinfo=timezone.utc)
NOTHING = Rate(numerator=0, denominator=0, rate=None)
FUNNELS = {"purchase": "web", "signup": "app"}
TOKENS = {name: f"fw_{name}-{'x' * 36}" for name in ("reader", "shop", "entities", "scraper", "ops", "slow", "old")}
GRANTS: dict[str, dict[str, Any]] = {
    "reader": {},
    "shop": {"scopes": ["read", "entities"], "funnels": ["pur*"]},
    "entities": {"scopes": ["entities"]},
    "scraper": {"scopes": ["metrics"]},
    "ops": {"scopes": ["admin"]},
    "slow": {"limit": {"per": "30s", "most": 3}, "concurrent": 1},
    "old": {"expires": "2020-01-01"},
}
ACCESS = {"tokens": [{"name": name, "hash": hash_of(TOKENS[name]), **grant} for name, grant in GRANTS.items()], "metrics": "token"}


def config_with(access: dict[str, Any]) -> Config:
    """Two funnels with a rule each, and this access."""
    funnels = [
        {
            "name": name, "source": source, "conversion_window": "30m", "windows": ["1m"], "dimensions": {"device": "properties.device"},
            "stages": [{"name": "view", "event": "v"}, {"name": f"{name}-done", "event": "p"}],
        }
        for name, source in FUNNELS.items()
    ]  # fmt: skip
    rules = [{"name": f"{name}-low", "funnel": name, "stage": f"{name}-done", "window": "1m", "below": 0.4} for name in FUNNELS]
    sources = [{"name": source, "topic": f"{source}-clicks"} for source in FUNNELS.values()]
    return parse(yaml.safe_dump({"sources": sources, "funnels": funnels, "alerts": rules, "access": access}))


class GuardedReadings:
    """A worker whose every funnel has a number, an alert and an entity."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = MemoryAlertStore()
        self.desk = Desk(config, self.store)
        self.hub = Hub(Renderings(self.report), self.alerts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.desk, name)

    def summaries(self) -> list[FunnelSummary]:
        return [
            FunnelSummary(
                name=f.name, title="", description="", owner="", source=f.source, conversion_window="30m", windows=("1m",),
                dimensions=("device",), stages=tuple(s.name for s in f.stages), overall=None, at=None,
            )
            for f in self.config.funnels
        ]  # fmt: skip

    def report(self, funnel: str, window: Duration, by: str | None, basis: str) -> FunnelReport:
        stages = tuple(StageReport(name=s.name, users=0, step=None, lost=0, events=0, value=0) for s in self.config.funnel(funnel).stages)
        return FunnelReport(
            name=funnel, title="", source=FUNNELS[funnel], window=str(window), basis=basis, conversion_window="30m", at=AT, stale=False,
            incomplete=False, lag=None, stages=stages, overall=NOTHING, by=by,
        )  # fmt: skip

    async def alert_states(self) -> list[AlertState]:
        return await self.desk.alert_states()

    async def transitions(self, limit: int) -> list[Transition]:
        found = [
            Transition(
                at=AT, rule=rule.name, funnel=rule.funnel, stage=rule.stage, dimension=None, value=None,
                state="firing", numerator=3, denominator=10, rate=0.3, threshold=0.4,
            )
            for rule in self.config.alerts
        ]  # fmt: skip
        return found[:limit]

    async def alerts(self) -> bytes:
        return Alerts(states=await self.alert_states(), transitions=await self.transitions(50)).model_dump_json().encode()

    async def history(self, asked: HistoryAsked) -> tuple[HistoryReport, int | None]:
        raise NotImplementedError

    async def compare(self, asked: CompareAsked) -> ComparisonReport:
        raise NotImplementedError

    async def explanation(self, entity: str) -> EntityExplanation | None:
        if entity != "u-1":
            return None
        sources = tuple(
            SourceExplanation(
                source=source, partition=0, at=AT, newest=AT,
                funnels=(
                    FunnelStanding(
                        funnel=name, title="", order="ordered", conversion_window="30m", state="waiting", deepest="view", why="",
                        waiting=(), stages=(),
                    ),
                ),
            )
            for name, source in FUNNELS.items()
        )  # fmt: skip
        return EntityExplanation(entity=entity, sources=sources)

    def alive(self) -> tuple[bool, str]:
        return True, "fine"

    async def ready(self) -> tuple[bool, str]:
        return True, "fine"

    def metrics(self) -> list[bytes]:
        return [b"funnel_stage_users 3\n"]


class Guarded:
    """It, to be asked; every request is of one connection's address."""

    def __init__(self, access: dict[str, Any] | None = None) -> None:
        self.readings = GuardedReadings(config_with(ACCESS if access is None else access))
        self.app = create_api(cast("Readings", self.readings), "1.2.3")

    def ask(
        self,
        path: str,
        token: str | None = None,
        method: str = "GET",
        *,
        base: str = "http://funnelwatch",
        client: str = "10.0.0.7",
        **what: Any,
    ) -> httpx.Response:
        """What it answers; `token` goes into the header, by its name or as it is."""
        headers = dict(what.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {TOKENS.get(token, token)}"

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(client, 5))
            async with httpx.AsyncClient(transport=transport, base_url=base) as asking:
                return await asking.request(method, path, headers=headers, **what)

        return asyncio.run(go())
