"""The rules that are compared, each fed bucket by bucket: the naive one of dashboards, and ours."""

from __future__ import annotations

from typing import Any, Protocol

from alerting.conditions import judge
from alerting.detectors import DetectorState, Steps
from alerting.lifecycle import RuleState, advance
from alerting.samples import Hours, Look, Sample, Usual
from schemas.config import Config
from schemas.duration import MICROS
from schemas.rule import Rule
from streams.baseline import HOUR_US
from streams.plan import Plan
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES
from streams.windows import FunnelCounts, cell
from tests.alerts_study.traffic import BUCKET_SECONDS, HEALTHY, THRESHOLD, Traffic

BUCKET_US = BUCKET_SECONDS * MICROS
BEGIN_US = 491_000 * HOUR_US
STAGE = 1
NAIVE_BUCKETS = 30  # 5 minutes
HISTORY_DAYS = 14


class Contender(Protocol):
    """Somebody who is told the counts of a bucket, and says whether a page goes out at its end."""

    def bucket(self, converted: int, entered: int) -> bool: ...

    @property
    def firing(self) -> bool: ...


class Naive:
    """`rate < threshold` over the last five minutes, for so many seconds."""

    def __init__(self, hold_seconds: int = 0) -> None:
        self._hold = hold_seconds // BUCKET_SECONDS
        self._converted, self._entered = [0], [0]
        self._held = 0
        self.firing = False

    def bucket(self, converted: int, entered: int) -> bool:
        self._converted.append(self._converted[-1] + converted)
        self._entered.append(self._entered[-1] + entered)
        since = max(0, len(self._entered) - 1 - NAIVE_BUCKETS)
        came = self._entered[-1] - self._entered[since]
        low = came > 0 and self._converted[-1] - self._converted[since] < THRESHOLD * came
        self._held = self._held + 1 if low else 0
        before, self.firing = self.firing, self._held > self._hold
        return self.firing and not before


def config(*rules: dict[str, Any], **funnel: Any) -> Config:
    """A funnel of one step, with rules over it."""
    stages = [{"name": "checkout", "event": "begin_checkout"}, {"name": "pay", "event": "purchase"}]
    made = {"name": "purchase", "source": "web", "conversion_window": "30m", "windows": ["5m"], "stages": stages, **funnel}
    source = {"name": "web", "topic": "clicks", "allowed_lateness": "0s"}
    alerts = [{"name": f"Low{place}", "funnel": "purchase", "stage": "pay", **rule} for place, rule in enumerate(rules)]
    return Config.model_validate({"sources": [source], "funnels": [made], "alerts": alerts})


WINDOWED = {"basis": "users", "window": "5m", "below": THRESHOLD, "widen_to": "1h", "for": "2m"}
SEQUENTIAL = {"basis": "users", "window": "5m", "below": THRESHOLD, "widen_to": "1h", "detector": "sequential", "effect": 0.4}


class Ours:
    """A rule of ours: the evaluator's judge, detector and lifecycle, on looks made from running sums.

    That such a look is what `alerting.samples.look` makes of the same counts is tested. What is usual is
    learned as it is there, from hours of counts.
    """

    def __init__(self, rule: dict[str, Any]) -> None:
        setup = config(rule)
        self.rule: Rule = setup.alerts[0]
        self.counts = FunnelCounts(Plan(setup, setup.sources[0]).funnels[0])
        self.state = RuleState()
        self.at_us = BEGIN_US
        self._usual: tuple[int, Usual | None] = (-1, None)
        self._converted, self._entered = [0], [0]
        self._hour = [0, 0]
        self._unseen: list[tuple[int, int]] = []

    def with_history(self, traffic: Traffic, per_minute: float, rate: float = HEALTHY) -> Ours:
        """Two weeks of it."""
        for hour in range(1, HISTORY_DAYS * 24 + 1):
            self._add_hour(BEGIN_US // HOUR_US - hour, *traffic.total(per_minute * 60, rate))
        return self

    def _add_hour(self, hour: int, converted: int, entered: int) -> None:
        names = {cell(ENTRIES, STAGE - 1): entered, cell(CONVERSIONS, STAGE - 1): converted, cell(CONVERTED, STAGE): converted}
        self.counts.add(3600, hour, names)

    @property
    def firing(self) -> bool:
        return self.state.fires

    @property
    def detector(self) -> DetectorState | None:
        return None if self.state.verdict is None else self.state.verdict.detector

    def bucket(self, converted: int, entered: int, *, judged: bool = True) -> bool:
        """`judged`: whether the rule is evaluated at the bucket's end; else it is when next it is."""
        self._converted.append(self._converted[-1] + converted)
        self._entered.append(self._entered[-1] + entered)
        self._unseen.append((converted, entered))
        self._hour[0] += converted
        self._hour[1] += entered
        self.at_us += BUCKET_US
        if self.at_us % HOUR_US == 0:
            self._add_hour(self.at_us // HOUR_US - 1, *self._hour)
            self._hour = [0, 0]
        if not judged:
            return False
        look = self.look()
        self._unseen.clear()
        self.state, change = advance(self.rule, self.state, judge(self.rule, look, self.detector), self.at_us)
        return change == "firing"

    def look(self) -> Look:
        """What `alerting.samples.look` would make of the counts."""
        seconds, widest = int(self.rule.window), int(self.rule.widen_to or self.rule.window)
        window = self._sample(seconds)
        while window.denominator < self.rule.min_entrants and seconds < widest:
            seconds = min(2 * seconds, widest) // BUCKET_SECONDS * BUCKET_SECONDS
            window = self._sample(seconds)
        if self.rule.detector == "windowed":
            return Look(self.at_us, "users", window)
        steps = Steps(self.at_us - len(self._unseen) * BUCKET_US, BUCKET_SECONDS, tuple(self._unseen), len(self._unseen))
        return Look(self.at_us, "users", window, usual=self._known(), steps=steps)

    def _sample(self, seconds: int) -> Sample:
        since = max(0, len(self._entered) - 1 - seconds // BUCKET_SECONDS)
        return Sample(self._converted[-1] - self._converted[since], self._entered[-1] - self._entered[since], seconds)

    def _known(self) -> Usual | None:
        hour = self.at_us // HOUR_US
        if self._usual[0] != hour:
            self._usual = hour, Hours(self.counts, STAGE, None, flowing=True).usual(self.at_us)
        return self._usual[1]
