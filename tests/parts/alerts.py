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
from schemas.duration import MICROS, bucket_seconds
from schemas.rule import Rule

WAIT_SECONDS = 10.0
# 2026-01-02 03:04:10 UTC, a boundary of every step up to ten seconds.
NIGHT_US = 1_767_323_050 * MICROS

RULE: dict[str, Any] = {
    "name": "CheckoutToPayLow",
    "funnel": "purchase",
    "stage": "pay",
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


class Counts:
    """Users of three stages by the bucket they came in, as the engine counts them."""

    def __init__(self) -> None:
        self._cells: list[tuple[int, int, int, str | None, str | None]] = []

    def add(self, at_us: int, checkout: int, pay: int, dimension: str | None = None, value: str | None = None) -> Counts:
        self._cells += [(at_us, 1, checkout, dimension, value), (at_us, 2, pay, dimension, value)]
        return self

    def users(
        self,
        stage: int,
        window_seconds: int,
        at_us: int,
        dimension: str | None = None,
        value: str | None = None,
    ) -> int:
        width_us = bucket_seconds(window_seconds) * MICROS
        first_us = at_us // width_us * width_us + width_us - window_seconds * MICROS
        wanted = (stage, dimension, value)
        return sum(n for us, s, n, d, v in self._cells if us >= first_us and (s, d, v) == wanted)

    def values(self, dimension: str) -> tuple[str, ...]:
        return tuple({v for *_, d, v in self._cells if d == dimension and v is not None})


def notification(status: str = "firing", value: str | None = None, incident_us: int = NIGHT_US) -> Notification:
    """What is said of the example rule when 100 of 812 pay, or 380 of 800 again 16 minutes later."""
    setup = config({"by": ["device"]})
    if status == "firing":
        verdict = Verdict("breach", 100, 812, 100 / 812, 0.1436)
        state = RuleState("firing", incident_us, incident_us, verdict, incident_us - 20 * MICROS, incident_us)
    else:
        verdict, at_us = Verdict("recovered", 380, 800, 0.475, 0.504), incident_us + 960 * MICROS
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
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.01)
