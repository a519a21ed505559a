"""A shop whose numbers a test sets: a worker's readings without a worker, behind the real API.

Every number of a report, a point or a comparison comes from the same table of people by device and
channel, so that values add up to totals and the page's own sums can be held against them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from math import sin
from typing import Any

from schemas.config import Config, parse
from schemas.duration import Duration
from schemas.errors import StoreUnavailable
from schemas.event import moment_of
from schemas.explanation import EntityExplanation
from schemas.funnel import Funnel
from schemas.history import Comparison, ComparisonReport, HistoryPoint, HistoryReport, Side, StagePoint
from schemas.report import (
    Adjusted,
    Alerts,
    AlertState,
    Breakdown,
    FunnelReport,
    FunnelSummary,
    Rate,
    StageReport,
    TimeToConvert,
    Transition,
)
from streams.archive import HistoryAsked
from streams.compare import judged
from streams.past import by_worth, page
from streams.periods import CompareAsked
from streams.rates import overall, proportion, rate
from streams.web.asked import micros
from streams.web.renderings import Renderings
from streams.web.stream import Hub

CONFIG = parse("""
sources: [{name: web, topic: clicks}]
funnels:
  - name: purchase
    title: Browse to order
    description: From looking at a product to a paid order.
    owner: shop
    source: web
    conversion_window: 30m
    windows: [10s, 1m, 5m, 1h, 24h]
    dimensions: {device: properties.device, channel: properties.channel}
    stages:
      - {name: view, title: Views a product, event: product_view}
      - {name: cart, title: Adds to cart, event: add_to_cart, target: 0.55}
      - {name: checkout, title: Begins checkout, event: begin_checkout, target: 0.75}
      - {name: pay, title: Pays, event: purchase, value: properties.amount, target: 0.70, benchmark: 0.62}
  - name: signup
    title: Sign-up to first project
    source: web
    conversion_window: 24h
    windows: [5m, 24h]
    stages: [{name: visit, event: visit}, {name: signup, event: signup}, {name: project, event: project}]
alerts:
  - {name: CheckoutToPayLow, funnel: purchase, stage: pay, window: 5m, below: 0.4}
""")
DEVICES = {"ios": 0.35, "android": 0.4, "web": 0.25}
CHANNELS = {"search": 0.45, "ads": 0.3, "mail": 0.15, "__none__": 0.1}
RATES = {"purchase": (0.62, 0.8, 0.72), "signup": (0.3, 0.55)}
USUAL_LAG = 3
VALUE_EACH = 37.5


@dataclass
class Shop:
    """What is true of the shop now; a test changes it, and the next tick shows it."""

    per_minute: float = 1200.0
    android_pays: float = 0.72
    stale: bool = False
    incomplete: bool = False
    lag: int | None = USUAL_LAG
    behind_seconds: float = 1.0
    incident_minutes: float = 0.0  # since when, for the points of the past
    states: list[AlertState] = field(default_factory=list)
    changes: list[Transition] = field(default_factory=list)
    store_away: bool = False

    @property
    def at(self) -> datetime:
        return datetime.now(timezone.utc) - timedelta(seconds=self.behind_seconds)

    def people(self, funnel: str, seconds: float, device: str, channel: str, android_pays: float | None = None) -> list[int]:
        """How many reached each stage."""
        rates = list(RATES[funnel])
        if funnel == "purchase" and device == "android":
            rates[-1] = self.android_pays if android_pays is None else android_pays
        reached = [self.per_minute * seconds / 60 * DEVICES[device] * CHANNELS[channel]]
        for step in rates:
            reached.append(reached[-1] * step)
        return [round(number) for number in reached]

    def count(self, funnel: str, seconds: float, by: str | None = None, value: str | None = None) -> list[int]:
        """The same, of all people or of a value."""
        cells = [
            self.people(funnel, seconds, device, channel)
            for device in DEVICES
            for channel in CHANNELS
            if value in (None, {"device": device, "channel": channel}.get(by or ""))
        ]
        return [sum(column) for column in zip(*cells)]


class ShopReadings:
    """Implements `web.readings.Readings` over a shop."""

    def __init__(self, shop: Shop) -> None:
        self.config: Config = CONFIG
        self.shop = shop
        self.hub = Hub(Renderings(self.report), self._alerts)

    def summaries(self) -> list[FunnelSummary]:
        return [self._summary(funnel) for funnel in self.config.funnels]

    def _summary(self, funnel: Funnel) -> FunnelSummary:
        return FunnelSummary(
            name=funnel.name, title=funnel.title, description=funnel.description, owner=funnel.owner, source=funnel.source,
            conversion_window=str(funnel.conversion_window), windows=tuple(map(str, self.config.windows_of(funnel))),
            dimensions=tuple(funnel.dimensions), stages=tuple(stage.name for stage in funnel.stages), overall=None, at=self.shop.at,
        )  # fmt: skip

    def report(self, funnel: str, window: Duration, by: str | None, basis: str) -> FunnelReport:
        found = self.config.funnel(funnel)
        stages = self._stages(found, self.shop.count(funnel, int(window)), basis)
        values = tuple(
            self._breakdown(found, window, by, value, basis) for value in ({"device": DEVICES, "channel": CHANNELS}.get(by or "", ()))
        )
        return FunnelReport(
            name=funnel, title=found.title, source=found.source, window=str(window), basis=basis,
            conversion_window=str(found.conversion_window), at=self.shop.at.replace(microsecond=0), stale=self.shop.stale,
            incomplete=self.shop.incomplete, lag=self.shop.lag, stages=stages, overall=overall(stages), by=by, values=values,
        )  # fmt: skip

    def _breakdown(self, funnel: Funnel, window: Duration, by: str | None, value: str, basis: str) -> Breakdown:
        stages = self._stages(funnel, self.shop.count(funnel.name, int(window), by, value), basis)
        return Breakdown(value=value, stages=stages, overall=overall(stages))

    def _stages(self, funnel: Funnel, users: list[int], basis: str) -> tuple[StageReport, ...]:
        return tuple(
            StageReport(
                name=stage.name, title=stage.title or stage.name, users=users[place],
                step=step_of(basis, users[place], users[place - 1]) if place else None,
                lost=max(0, users[place - 1] - users[place]) if place else 0,
                events=users[place], value=users[place] * VALUE_EACH if stage.value else 0, entries=users[place],
                conversions=users[place + 1] if place + 1 < len(users) else None,
                pending=rate(users[place] // 9, users[place - 1] // 9) if place and basis == "entries" else None,
                adjusted=usual(RATES[funnel.name][place - 1], users[place - 1]) if place and basis == "adjusted" else None,
                time_to_convert=TimeToConvert(conversions=users[place], p50_seconds=42.5, p90_seconds=170.2, p99_seconds=603.1) if place else None,
                target=stage.target, benchmark=stage.benchmark,
            )
            for place, stage in enumerate(funnel.stages)
        )  # fmt: skip

    async def history(self, asked: HistoryAsked) -> tuple[HistoryReport, int | None]:
        funnel = self.config.funnel(asked.funnel)
        at_us = micros(self.shop.at)
        wanted = page(at_us, asked.start_us, asked.end_us, asked.step, asked.limit)
        points = tuple(self._point(funnel, asked, moment_of(boundary)) for boundary in wanted.boundaries)
        return HistoryReport(
            name=funnel.name, title=funnel.title, source=funnel.source, window=str(asked.window), basis=asked.basis, by=asked.by,
            step=str(wanted.step), from_=moment_of(wanted.start_us), to=moment_of(wanted.end_us), at=self.shop.at, since=None,
            stages=tuple(stage.name for stage in funnel.stages), points=points, gaps=0, next=None,
        ), wanted.next_us  # fmt: skip

    def _point(self, funnel: Funnel, asked: HistoryAsked, at: datetime) -> HistoryPoint:
        """The present, but for a wave of traffic and an incident that may not have begun yet."""
        wave = 1 + 0.25 * sin(at.timestamp() / 4000) + 0.03 * sin(at.timestamp() / 61)
        pays = self.shop.android_pays if at > self.shop.at - timedelta(minutes=self.shop.incident_minutes) else RATES["purchase"][-1]
        cells = [self.shop.people(funnel.name, int(asked.window) * wave, d, c, pays) for d in DEVICES for c in CHANNELS]
        users = [sum(column) for column in zip(*cells)]
        moved = [round(number * (1 + 0.02 * sin(at.timestamp() / 97 + place))) if place else number for place, number in enumerate(users)]
        steps = [step_of(asked.basis, moved[p], moved[p - 1]) if p else None for p in range(len(users))]
        return HistoryPoint(at=at, stages=tuple(StagePoint(users=u, step=s, events=u, value=0) for u, s in zip(moved, steps)))

    async def compare(self, asked: CompareAsked) -> ComparisonReport:
        funnel = self.config.funnel(asked.funnel)
        names = [stage.name for stage in funnel.stages][1:]
        values = list({"device": DEVICES, "channel": CHANNELS}[asked.by or ""])
        all_people = self.shop.count(funnel.name, int(asked.window))
        pairs: list[list[tuple[Rate, Rate]]] = []
        for value in values:
            own = self.shop.count(funnel.name, int(asked.window), asked.by, value)
            rest = [everybody - here for everybody, here in zip(all_people, own)]
            pairs.append([tuple(step_of(asked.basis, side[p], side[p - 1]) for side in (own, rest)) for p in range(1, len(own))])  # type: ignore[misc]
        steps, tests = judged(names, pairs, asked.basis)
        at = self.shop.at
        side = {"from_": at - timedelta(seconds=int(asked.window)), "to": at}
        return ComparisonReport(
            name=funnel.name, title=funnel.title, basis=asked.basis, by=asked.by, at=at, compared=len(values), tests=tests, note="",
            comparisons=tuple(
                Comparison(a=Side(**side, value=value), b=Side(**side, value=value, others=True), steps=tuple(row))
                for value, row in zip(values, steps)
            ),
        )  # fmt: skip

    async def explanation(self, entity: str) -> EntityExplanation | None:
        return None

    async def alert_states(self) -> list[AlertState]:
        if self.shop.store_away:
            raise StoreUnavailable("away")
        return self.shop.states

    async def transitions(self, limit: int) -> list[Transition]:
        return self.shop.changes[:limit]

    async def _alerts(self) -> bytes:
        alerts = Alerts(states=await self.alert_states(), transitions=await self.transitions(50))
        return alerts.model_dump_json().encode()

    def alive(self) -> tuple[bool, str]:
        return True, "all is well"

    async def ready(self) -> tuple[bool, str]:
        return True, "all is well"

    def metrics(self) -> list[bytes]:
        return [b""]


def step_of(basis: str, numerator: int, denominator: int) -> Rate:
    if basis == "users":
        return rate(numerator, denominator)
    return proportion(numerator, denominator) if basis == "entries" else by_worth(numerator, float(denominator))


def usual(baseline: float, entries: int) -> Adjusted:
    return Adjusted(ready=True, reason="", expected=entries * baseline, baseline=baseline, capped=False, projected=None)


def state(now: datetime, rule: str, is_: str, minutes: float, **more: Any) -> AlertState:
    """An alert that has been in a state for some minutes."""
    given: dict[str, Any] = {
        "rule": rule, "funnel": "purchase", "stage": "pay", "dimension": None, "value": None, "state": is_,
        "since": now - timedelta(minutes=minutes), "at": now, "numerator": 310, "denominator": 1000, "rate": 0.31,
        "low": 0.28, "upper": 0.34, "threshold": 0.4, "severity": "page", "window": "5m",
    }  # fmt: skip
    return AlertState(**{**given, **more})


def pipeline(now: datetime, is_: str = "inactive", data: str = "ok", minutes: float = 90) -> AlertState:
    return state(
        now, "FunnelwatchPipeline", is_, minutes, funnel="", stage="", dimension="source", value="web", data=data, data_since=now,
        numerator=0, denominator=0, rate=None, low=None, upper=None, threshold=None, window="2m",
    )  # fmt: skip


def change(now: datetime, minutes: float, rule: str, is_: str, **more: Any) -> Transition:
    """A transition of some minutes ago."""
    given: dict[str, Any] = {
        "at": now - timedelta(minutes=minutes), "rule": rule, "funnel": "purchase", "stage": "pay", "dimension": None, "value": None,
        "state": is_, "numerator": 310, "denominator": 1000, "rate": 0.31, "threshold": 0.4,
    }  # fmt: skip
    return Transition(**{**given, **more})


def every_state(now: datetime) -> tuple[list[AlertState], list[Transition]]:
    """Alerts in all their states, and how they came to them."""
    android: dict[str, Any] = {"dimension": "device", "value": "android"}
    states = [
        state(now, "CheckoutToPayLow", "firing", 12, acknowledged_by="kim", acknowledged_at=now - timedelta(minutes=9), flaps=2),
        state(now, "PayByDevice", "recovering", 20, **android, baseline=0.7, recovering_since=now),
        state(now, "CartLow", "pending", 1, stage="cart", numerator=512, rate=0.512, threshold=0.55),
        state(now, "CheckoutLow", "inactive", 50, stage="checkout", data="no_data", rate=None, numerator=0, denominator=0),
        state(now, "SignupLow", "inactive", 240, funnel="signup", stage="signup", data="stale", silenced_by=("5f3c91aa",)),
        state(now, "ProjectLow", "inactive", 240, funnel="signup", stage="project", numerator=800, rate=0.8, data="low_sample"),
        pipeline(now, "firing", "stale", 3),
    ]
    changes = [
        change(now, 1, "CartLow", "pending", stage="cart"),
        change(now, 3, "FunnelwatchPipeline", "stale", funnel="", stage="", dimension="source", value="web", rate=None, denominator=0, numerator=0, threshold=None),
        change(now, 12, "CheckoutToPayLow", "firing"),
        change(now, 14, "CheckoutToPayLow", "pending"),
        change(now, 20, "PayByDevice", "firing", **android),
        change(now, 22, "PayByDevice", "pending", **android),
        change(now, 41, "CheckoutToPayLow", "resolved"),
        change(now, 48, "CheckoutToPayLow", "firing"),
        change(now, 50, "CheckoutLow", "no_data", stage="checkout", rate=None, numerator=0, denominator=0),
    ]  # fmt: skip
    return states, changes


def incident(now: datetime) -> Shop:
    """Payments on android fail, and alerts stand in every state."""
    states, changes = every_state(now)
    return Shop(android_pays=0.28, incident_minutes=12, states=states, changes=changes)
