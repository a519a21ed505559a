"""Generated events of people who walk through a template's funnels. The same seed gives the same events.

Whatever a template says is used: its stages' events and conditions, its targets and thresholds (people
do a third better than the highest that is asked of a step), its dimensions and value properties.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.duration import Duration

FIRST_SECONDS = 1_767_225_600  # 2026-01-01
BETTER = 1.35  # than target and threshold
RATE_MAX = 0.92
BROKEN = 0.05  # of the last step's rate, from a moment on
VALUES = ("red", "green", "blue")

Event = dict[str, Any]


class Walks:
    """People who come evenly over `days`, each through the first funnel and then, where they get so far, the second."""

    def __init__(self, config: Mapping[str, Any], people: int, days: float, seed: int = 1) -> None:
        self._first, self._second = config["funnels"]
        self._rules = config["alerts"]
        self._people, self._seconds = people, days * 86_400
        self._dice = random.Random(seed)

    def lines(self, breaks_at: float | None = None) -> list[bytes]:
        """Their events by time; from the share `breaks_at` of the time on hardly anybody gets through the first funnel's last step."""
        end = FIRST_SECONDS + self._seconds
        breaks = FIRST_SECONDS + self._seconds * (2.0 if breaks_at is None else breaks_at)
        found = [event for person in range(self._people) for event in self._walk(person, breaks) if event["timestamp"] < end]
        found.sort(key=lambda event: (event["timestamp"], event["event_id"]))
        return [json.dumps(event).encode() for event in found]

    def _walk(self, person: int, breaks: float) -> Iterator[Event]:
        at = FIRST_SECONDS + self._seconds * person / self._people
        split = {path.removeprefix("properties."): value for path, value in self._split().items()}
        last = len(self._first["stages"]) - 1
        for place, stage in enumerate(self._first["stages"]):
            rate = self._rate(self._first, stage) * (BROKEN if place == last and at >= breaks else 1.0)
            if place and self._dice.random() >= rate:
                return
            yield self._event(stage, person, at, split)
            at += self._delay(self._first) / last
        for stage in self._second["stages"][1:]:
            at += self._delay(self._second) / 3
            if self._dice.random() >= self._rate(self._second, stage):
                return
            yield self._event(stage, person, at, split)

    def _rate(self, funnel: Mapping[str, Any], stage: Mapping[str, Any]) -> float:
        mine = [rule for rule in self._rules if (rule["funnel"], rule["stage"]) == (funnel["name"], stage["name"])]
        asked = [stage.get("target", 0.0), *(rule["below"] for rule in mine if "below" in rule)]
        return min(RATE_MAX, BETTER * (max(asked) or 0.4))

    def _delay(self, funnel: Mapping[str, Any]) -> float:
        return min(self._dice.expovariate(10), 0.5) * int(Duration(funnel["conversion_window"]))

    def _split(self) -> dict[str, str]:
        found = {}
        for spec in {**self._first.get("dimensions", {}), **self._second.get("dimensions", {})}.values():
            field, allow = (spec, VALUES) if isinstance(spec, str) else (spec["field"], spec.get("allow", VALUES))
            found[field] = self._dice.choice(allow)
        return found

    def _event(self, stage: Mapping[str, Any], person: int, at: float, split: Mapping[str, str]) -> Event:
        names = stage["event"] if isinstance(stage["event"], list) else [stage["event"]]
        properties: dict[str, Any] = dict(split)
        properties |= {path.removeprefix("properties."): wanted for path, wanted in stage.get("where", {}).items()}
        if "value" in stage:
            properties[stage["value"].removeprefix("properties.")] = round(self._dice.uniform(5, 500), 2)
        event = {"event": self._dice.choice(names), "timestamp": round(at, 3), "user_id": f"user-{person}", "properties": properties}
        return {**event, "event_id": f"{self._dice.getrandbits(64):016x}"}
