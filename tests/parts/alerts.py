"""What the tests of alerts share: a config, counts to be judged, and a wait for a condition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from alerting.conditions import Verdict
from alerting.lifecycle import AlertKey, RuleState
from alerting.message import Notification, compose
from schemas.config import Config
from schemas.duration import MICROS, Duration
from schemas.rule import Rule
from streams.plan import Plan
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES, USERS
from streams.windows import FunnelCounts, age_cell, cell

WAIT_SECONDS = 10.0
# 2026-01-02 03:04:10 UTC, a boundary of every step up to ten seconds.
NIGHT_US = 1_767_323_050 * MICROS

RULE: dict[str, Any] = {
    "name": "CheckoutToPayLow",
    "funnel": "purchase",
    "stage": "pay",
    "basis": "users",
    "window": "5m",
    "below": 0.40,
    "for": "20s",
    "recover_above": 0.45,
    "severity": "page",
    "notify": ["oncall"],
}


def rule(**changes: Any) -> Rule:
    return Rule.model_validate(RULE | changes)


def config(*rules: dict[str, Any], channels: dict[str, Any] | None = None) -> Config:
    """A shop's funnel with the given rules; each is RULE with changes."""
    return Config.model_validate(
        {
            "sources": [{"name": "web", "topic": "clicks"}, {"name": "app", "topic": "taps"}],
            "funnels": [_funnel("purchase", "web"), _funnel("in-app", "app")],
            "alerts": [RULE | changes for changes in rules],
            "channels": channels or {"oncall": {"type": "log"}},
        }
    )


def _funnel(name: str, source: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": "Browse to order",
        "source": source,
        "conversion_window": "30m",
        "windows": ["5m"],
        "dimensions": {"device": "properties.device", "channel": "properties.channel"},
        "stages": [
            {"name": "view", "event": "product_view"},
            {"name": "checkout", "event": "begin_checkout"},
            {"name": "pay", "event": "purchase"},
        ],
    }


class Counts(FunnelCounts):
    """The shop's counts: who came to checkout and who paid, in the buckets of the moment they are added at."""

    def __init__(self, *rules: dict[str, Any], lateness: str = "60s") -> None:
        setup = config(*(rules or ({},)))
        source = setup.sources[0].model_copy(update={"allowed_lateness": Duration(lateness)})
        super().__init__(Plan(setup, source).funnels[0])

    def add(self, at_us: int, checkout: int, pay: int, dimension: str | None = None, value: str | None = None) -> Counts:
        """All of them reach their stages at that moment: users, and entries that convert at once."""
        split = () if dimension is None else (dimension, value or "")
        cells = {
            cell(USERS, 1, *split): checkout,
            cell(USERS, 2, *split): pay,
            cell(ENTRIES, 1, *split): checkout,
            cell(CONVERSIONS, 1, *split): pay,
            cell(CONVERTED, 2, *split): pay,
        }
        if dimension is None:
            cells[age_cell(2, 0)] = pay
        for kept in self.plan.kept:
            super().add(kept.seconds, at_us // (kept.seconds * MICROS), cells)
        self.add_totals(cells)
        return self


def notification(status: str = "firing", value: str | None = None, incident_us: int = NIGHT_US) -> Notification:
    """What is said of the example rule when 100 of 812 pay, or 380 of 800 again 16 minutes later."""
    setup = config({"by": ["device"]})
    if status == "firing":
        verdict = Verdict("breach", 100, 812, 100 / 812, low=0.1055, upper=0.1436, threshold=0.40, window_seconds=300, recovery=0.45)
        state = RuleState("firing", incident_us, incident_us, verdict, incident_us - 20 * MICROS, incident_us)
    else:
        verdict = Verdict("recovered", 380, 800, 0.475, low=0.446, upper=0.504, threshold=0.40, window_seconds=300, recovery=0.45)
        at_us = incident_us + 960 * MICROS
        state = RuleState("inactive", at_us, at_us, verdict, incident_us - 20 * MICROS, incident_us)
    alert = AlertKey("CheckoutToPayLow", value and "device", value)
    return compose(setup.alerts[0], setup.funnels[0], alert, state)


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Return once the condition holds; fail after ten seconds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        held = condition()
        if held is True or (not isinstance(held, bool) and await held):
            return
        assert time.monotonic() < deadline, "waited in vain for a condition"
        await asyncio.sleep(0.01)
