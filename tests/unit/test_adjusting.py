"""The adjusted rates of a funnel, from what its ledger holds: ready when there is history, the same however they are kept up."""

from __future__ import annotations

import json
import random

import pytest

from schemas.config import Config
from schemas.duration import MICROS, Duration
from streams.adjusting import Adjusting
from streams.counting import ShardCount
from streams.plan import Plan
from streams.rates import stage_reports
from streams.retention import CONVERTED
from streams.windows import FunnelCounts

BEGIN = 1_699_999_200  # an hour begins
LEVEL = {"ios": 0.6, "web": 0.4}
WINDOW = Duration("15m")


def config(by: str = "all") -> Config:
    funnel = {
        "name": "f",
        "source": "web",
        "conversion_window": "10m",
        "windows": ["15m", "2h"],
        "dimensions": {"device": "properties.device"},
        "stages": [{"name": "view", "event": "view"}, {"name": "pay", "event": "pay"}],
        "baseline": {"by": by, "min_entries": 200},
    }
    return Config.model_validate({"sources": [{"name": "web", "topic": "t", "trust_key": True}], "funnels": [funnel]})


def device(visitor: int) -> str:
    return ("ios", "web")[visitor // 4 % 2]


def record(at: float, name: str, visitor: int) -> bytes:
    event = {"event": name, "timestamp": at, "user_id": f"u{visitor}", "properties": {"device": device(visitor)}}
    return json.dumps(event).encode()


class Shop:
    """A visitor every four seconds, from both devices in turn; who pays does so within some minutes."""

    def __init__(self, setup: Config) -> None:
        self.count = ShardCount(Plan(setup, setup.sources[0]))
        self.counts = FunnelCounts(self.count.plan.funnels[0])
        self.chance = random.Random(3)
        self.now = BEGIN
        self.to_come: list[tuple[float, str, int]] = []  # time, event, visitor

    def run(self, seconds: int, failing: float = 0.0) -> None:
        """Let time pass; of the payments within it a share fails."""
        self.to_come = [event for event in self.to_come if self.chance.random() >= failing]
        end = self.now + seconds
        while self.now < end:
            self.now += 4
            self.to_come.append((self.now, "view", self.now))
            if self.chance.random() < LEVEL[device(self.now)] * (1 - failing):
                self.to_come.append((self.now + min(599.0, self.chance.lognormvariate(4.5, 0.8)), "pay", self.now))
        due = sorted(event for event in self.to_come if event[0] <= self.now)
        self.to_come = [event for event in self.to_come if event[0] > self.now]
        self._count([record(*event) for event in due])

    def _count(self, records: list[bytes]) -> None:
        pending = self.count.decode(0, len(records), [*records], [None] * len(records), 10**18)
        while pending.unknown:
            self.count.learn(pending, {r: dict.fromkeys(texts, True) for r, texts in pending.unknown.items()})
        deltas = self.count.fold(pending).write.deltas
        for (_, width, bucket), cells in deltas.buckets.items():
            self.counts.add(width, bucket, cells)
        for cells in deltas.totals.values():
            self.counts.add_totals(cells)

    @property
    def at_us(self) -> int:
        return self.count.watermark_us


def adjusting(shop: Shop) -> Adjusting:
    return Adjusting(shop.counts, 60 * MICROS).at(shop.at_us)


def test_without_history_it_says_what_is_missing() -> None:
    shop = Shop(config())
    shop.run(600)
    rate, behind = adjusting(shop).step(1, WINDOW, None)
    assert (rate.rate, behind.ready) == (None, False)
    assert behind.reason == "needs 200 finished entries, has 0"
    assert rate.numerator > 0


@pytest.mark.parametrize("by", ["all", "hour_of_week"])
def test_on_a_healthy_day_the_usual_rate_lies_within_the_interval_for_the_total_and_each_value(by: str) -> None:
    shop = Shop(config(by))
    shop.run(4 * 3600)
    rates = adjusting(shop)
    for split, level in ((None, 0.5), (("device", "ios"), 0.6), (("device", "web"), 0.4)):
        rate, behind = rates.step(1, WINDOW, split)
        assert behind.ready
        assert behind.baseline == pytest.approx(level, abs=0.05)
        assert rate.low is not None
        assert rate.high is not None
        assert rate.low < level < rate.high
        assert rate.numerator == shop.counts.count(CONVERTED, 1, WINDOW, shop.at_us, split)
        assert behind.projected is not None
        assert behind.projected.rate == pytest.approx(level, abs=0.12)


def test_a_broken_step_shows_within_minutes() -> None:
    shop = Shop(config())
    shop.run(4 * 3600)
    shop.run(900, failing=0.8)
    rate, behind = adjusting(shop).step(1, WINDOW, None)
    assert rate.high is not None
    assert behind.baseline is not None
    assert rate.high < behind.baseline


def test_what_is_kept_up_with_is_what_is_read_anew() -> None:
    shop = Shop(config())
    shop.run(3 * 3600)
    followed = adjusting(shop)
    followed.step(1, WINDOW, None)
    followed.step(1, WINDOW, ("device", "web"))
    shop.run(2400)
    followed.at(shop.at_us)
    for split in (None, ("device", "web")):
        assert followed.step(1, WINDOW, split) == adjusting(shop).step(1, WINDOW, split)


def test_reports_show_it_on_its_basis_alone() -> None:
    shop = Shop(config())
    shop.run(2 * 3600)
    on_users = stage_reports(shop.counts, WINDOW, shop.at_us)[1]
    on_entries = stage_reports(shop.counts, WINDOW, shop.at_us, basis="entries")[1]
    on_adjusted = stage_reports(shop.counts, WINDOW, shop.at_us, basis="adjusted", adjusted=adjusting(shop))[1]
    assert (on_users.adjusted, on_users.pending, on_entries.adjusted, on_adjusted.pending) == (None, None, None, None)
    assert on_adjusted.adjusted is not None
    assert on_entries.pending is not None
    assert on_entries.step is not None
    first = stage_reports(shop.counts, WINDOW, shop.at_us)[0]
    assert on_entries.step.denominator + on_entries.pending.denominator == first.entries
    assert on_entries.step.numerator + on_entries.pending.numerator == first.conversions
    assert on_entries.step.low is not None
    assert on_users.time_to_convert is not None
    assert on_users.time_to_convert.conversions == first.conversions
