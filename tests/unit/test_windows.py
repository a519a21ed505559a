"""What a trailing window holds, and that it holds the same however it is moved along."""

from __future__ import annotations

import random
from typing import Any

import pytest

from schemas.config import Config
from streams.plan import FunnelPlan, Plan
from streams.windows import EVENTS, USERS, VALUE, FunnelCounts, cell, first_bucket

SECOND = 1_000_000
HOUR, DAY = 3600, 86_400
AT_US = 1_690_000_000 * SECOND  # a boundary of 10 s, not of a minute
WINDOWS = {10: ("10s", "1m", "5m", "1h"), 60: ("2h", "24h"), 3600: ("25h", "7d")}


def plan(*windows: str) -> FunnelPlan:
    stages = [{"name": "view", "event": "v"}, {"name": "pay", "event": "p", "value": "properties.amount"}]
    funnel: dict[str, Any] = {"name": "f", "source": "web", "conversion_window": "60s", "windows": windows, "stages": stages}
    config = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": [funnel]})
    return Plan(config, config.sources[0]).funnels[0]


@pytest.fixture
def counts() -> FunnelCounts:
    return FunnelCounts(plan("1m", "1h"))


def add_users(counts: FunnelCounts, users: int, at_us: int, width: int = 10) -> None:
    counts.add(width, at_us // (width * SECOND), {cell(USERS, 0): users})


@pytest.mark.parametrize(
    ("window", "width", "reaches_back"),
    [(10, 10, 10), (60, 10, 60), (HOUR, 10, HOUR), (HOUR + 60, 60, HOUR + 40), (DAY, 60, DAY - 20), (7 * DAY, HOUR, 7 * DAY - 2000)],
)
def test_a_window_begins_w_buckets_back_counting_the_one_that_holds_t(window: int, width: int, reaches_back: int) -> None:
    """T is the last microsecond of its 10 s; it is 40 s into its minute, 1600 s into its hour."""
    at_us = AT_US - 1
    found_width, first = first_bucket(window, at_us)
    assert found_width == width
    assert first * width * SECOND == AT_US - reaches_back * SECOND


@pytest.mark.parametrize(("ago_seconds", "counted"), [(0, 1), (49, 1), (50, 1), (50.000001, 0), (60, 0), (-1, 1), (-3600, 1)])
def test_a_window_has_a_first_bucket_and_no_last(counts: FunnelCounts, ago_seconds: float, counted: int) -> None:
    add_users(counts, 1, AT_US - round(ago_seconds * SECOND))
    assert counts.users(0, 60, AT_US) == counted


def test_families_stages_and_values_do_not_mix(counts: FunnelCounts) -> None:
    bucket = AT_US // (10 * SECOND)
    cells = {
        cell(USERS, 0): 5,
        cell(USERS, 1): 4,
        cell(EVENTS, 0): 9,
        cell(VALUE, 1): 2_500_000,
        cell(USERS, 0, "d", "ads"): 3,
        cell(USERS, 0, "e", "ads"): 2,
        cell(EVENTS, 1, "d", "ads"): 7,
        cell(VALUE, 1, "d", "ads"): -250_000,
    }
    counts.add(10, bucket, cells)
    assert [counts.users(stage, 60, AT_US) for stage in (0, 1)] == [5, 4]
    assert [counts.events(stage, 60, AT_US) for stage in (0, 1)] == [9, 0]
    assert [counts.value(stage, 60, AT_US) for stage in (0, 1)] == [0, 2.5]
    assert [counts.users(0, 60, AT_US, d, "ads") for d in ("d", "e")] == [3, 2]
    assert counts.users(0, 60, AT_US, "d", "mail") == 0
    assert counts.events(1, 60, AT_US, "d", "ads") == 7
    assert counts.value(1, 60, AT_US, "d", "ads") == -0.25


def test_each_width_has_buckets_of_its_own() -> None:
    counts = FunnelCounts(plan("1h", "24h", "7d"))
    for users, width in ((1, 10), (2, 60), (4, HOUR)):
        add_users(counts, users, AT_US, width)
    assert [counts.users(0, window, AT_US) for window in (60, HOUR, DAY, 7 * DAY)] == [1, 1, 2, 4]


def test_what_was_counted_twice_adds_up_and_what_moved_is_taken_away(counts: FunnelCounts) -> None:
    for users in (2, 3, -1):
        add_users(counts, users, AT_US)
    assert counts.users(0, 60, AT_US) == 4


def test_totals_outlive_every_window(counts: FunnelCounts) -> None:
    counts.add_totals({cell(USERS, 0): 3, cell(EVENTS, 1, "d", "ads"): 2})
    counts.add_totals({cell(USERS, 0): -1})
    counts.forget_before(AT_US)
    assert counts.total(USERS, 0) == 2
    assert counts.total(EVENTS, 1, "d", "ads") == 2
    assert counts.total(EVENTS, 1) == 0


def test_the_values_of_a_dimension_are_those_ever_counted_in_order(counts: FunnelCounts) -> None:
    counts.add_totals({cell(USERS, 0, "d", value): 1 for value in ("mail", "ads", "__none__")} | {cell(USERS, 0, "de", "x"): 1})
    counts.add_totals({cell(USERS, 0, "d", "ads"): -1, cell(USERS, 0): 5})
    assert counts.values("d") == ("__none__", "ads", "mail")
    assert counts.values("e") == ()
    counts.add_totals({cell(USERS, 1, "d", value): 1 for value in ("blog", "mail")} | {cell(USERS, 0, "e", "y"): 1})
    assert counts.values("d") == ("__none__", "ads", "blog", "mail")
    assert counts.values("e") == ("y",)


def from_scratch(counts: FunnelCounts, window: int, at_us: int) -> int:
    """The definition: the sum of the buckets from the first one on."""
    width, first = first_bucket(window, at_us)
    return sum(cells.get(cell(USERS, 0), 0) for bucket, cells in counts.buckets.get(width, {}).items() if bucket >= first)


@pytest.mark.parametrize("steps", [(0, 0.1, 3, 10, 50, 700, 20_000), (0, 0.1, 3, 10, 25)], ids=["leaps", "steps"])
@pytest.mark.parametrize("seed", range(10))
def test_a_window_moved_along_holds_what_its_buckets_sum_up_to(seed: int, steps: tuple[float, ...]) -> None:
    """Counts come in anywhere, T moves by little and by much, old buckets are forgotten on the way."""
    chance = random.Random(seed)
    windows = [10, 60, 300, HOUR, 2 * HOUR, DAY]
    counts = FunnelCounts(plan("10s", "1m", "5m", "1h", "2h", "24h"))
    now = AT_US
    for _ in range(200):
        now += round(chance.choice(steps) * SECOND)
        at_us = now - chance.choice([0, 0, 0, 30, 4000]) * SECOND
        for width in (10, 60):
            add_users(counts, chance.randint(-3, 9), now - chance.choice([0, 15, 200, 3000]) * SECOND, width)
        for window in chance.sample(windows, 3):
            assert counts.users(0, window, at_us) == from_scratch(counts, window, at_us)
        if chance.random() < 0.2:
            expected = {window: from_scratch(counts, window, now) for window in windows}
            counts.forget_before(now)
            assert {window: counts.users(0, window, now) for window in windows} == expected


@pytest.mark.parametrize("seed", range(10))
def test_windows_that_were_made_ahead_of_t_are_what_their_buckets_sum_up_to_and_those_of_t_stay_until_it_moves(seed: int) -> None:
    chance = random.Random(seed)
    windows = [10, 60, 300, HOUR, DAY]
    counts = FunnelCounts(plan("10s", "1m", "5m", "1h", "24h"))
    now = AT_US
    for _ in range(100):
        following = now + round(chance.choice((0.1, 10, 50, 700)) * SECOND)
        for width in (10, 60):
            add_users(counts, chance.randint(0, 9), following - chance.choice([0, 15, 200, 3000]) * SECOND, width)
        held = {window: counts.window(window, now) for window in chance.sample(windows, 3)}
        counts.look_ahead(following)
        assert all(counts.window(window, now) is sums for window, sums in held.items())
        comes_between = chance.random() < 0.3
        if comes_between:
            add_users(counts, 1, following)
            add_users(counts, 1, following, 60)
        assert all(counts.users(0, window, now) == from_scratch(counts, window, now) for window in held)
        counts.move_on()
        made = {window: running.sums for (window, _), running in counts._running.items()}
        now = following
        assert all(counts.users(0, window, now) == from_scratch(counts, window, now) for window in windows)
        assert comes_between or all(counts.window(window, now) is sums for window, sums in made.items())


def test_forgetting_long_after_a_window_was_last_read_does_not_count_the_forgotten_in_it() -> None:
    counts = FunnelCounts(plan("1m"))
    for second in range(0, 8000, 10):
        add_users(counts, 1, AT_US + second * SECOND)
    assert counts.users(0, 60, AT_US) == 800
    later = AT_US + 7000 * SECOND
    counts.forget_before(later)
    assert counts.users(0, 60, later) == 105


def test_buckets_that_no_window_reaches_are_forgotten() -> None:
    counts = FunnelCounts(plan("1m", "24h"))
    for hours in range(100):
        for width in (10, 60):
            add_users(counts, 1, AT_US + hours * HOUR * SECOND, width)
        counts.forget_before(AT_US + hours * HOUR * SECOND)
    assert {width: len(buckets) for width, buckets in counts.buckets.items()} == {10: 2, 60: 25}
