"""What a rule looks at: which buckets, of which basis, how far it widens, and what it takes for usual."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.conditions import judge
from alerting.detectors import DetectorState
from alerting.samples import BEGIN_WITH, CATCH_UP_MAX, Look, Sample, Usual, look
from schemas.config import Config
from schemas.duration import MICROS, Duration
from streams.adjusting import Adjusting
from streams.plan import Plan
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES
from streams.windows import FunnelCounts, age_cell, cell
from tests.parts.alerts import NIGHT_US, Counts, rule

S, HOUR = MICROS, 3600
PAY = 2
FINISHED = 1860  # seconds: conversion window and allowed lateness
SEQUENTIAL = {"detector": "sequential", "recover_above": None}


def looked(counts: FunnelCounts, at_us: int = NIGHT_US, before: DetectorState | None = None, **changes: Any) -> Look:
    split = changes.pop("split", None)
    return look(rule(**changes), counts, changes.pop("adjusting", None), PAY, split, at_us, before)


# Users


@pytest.mark.parametrize(("seconds", "counted"), [(-301, False), (-300, True), (-1, True), (0, True), (9, True)])
def test_users_are_those_of_the_full_buckets_before_the_boundary_and_of_all_after(seconds: int, counted: bool) -> None:
    found = looked(Counts().add(NIGHT_US + seconds * S, 100, 10))
    assert found.window == (Sample(10, 100, 300) if counted else Sample(0, 0, 300))
    assert (found.basis, found.steps, found.usual, found.baseline, found.long) == ("users", None, None, None, None)


def test_a_value_of_a_dimension_is_looked_at_by_itself() -> None:
    counts = Counts().add(NIGHT_US - S, 100, 10).add(NIGHT_US - S, 40, 9, "device", "ios")
    assert looked(counts, split=("device", "ios")).window == Sample(9, 40, 300)


def test_a_thin_window_doubles_until_enough_have_entered() -> None:
    counts = Counts()
    for minute in range(60):
        counts.add(NIGHT_US - minute * 60 * S - S, 2, 1)
    assert looked(counts).window == Sample(5, 10, 300)
    assert looked(counts, widen_to="1h").window == Sample(20, 40, 1200)
    assert looked(counts, widen_to="12m").window == Sample(12, 24, 720)
    assert looked(counts, widen_to="1h", min_entrants=10).window == Sample(5, 10, 300)
    assert looked(counts, widen_to="1h", min_entrants=1000).window == Sample(60, 120, 3600)


def test_a_window_widens_only_to_buckets_that_are_kept() -> None:
    counts = Counts({"widen_to": "3d"})
    counts.add(NIGHT_US - 2000 * S, 10, 5).add(NIGHT_US - 5 * HOUR * S, 5, 1).add(NIGHT_US - 40 * HOUR * S, 50, 1)
    assert [kept.seconds for kept in counts.plan.kept] == [10, 3600]
    assert looked(counts, widen_to="3d", min_entrants=10).window == Sample(5, 10, 2400)
    assert looked(counts, widen_to="3d", min_entrants=12).window == Sample(7, 65, 300 * 2**9 // HOUR * HOUR)
    assert looked(counts, widen_to="3d", min_entrants=100).window == Sample(7, 65, 3 * 86_400)


def test_a_long_window_is_looked_at_beside_the_short_one() -> None:
    counts = Counts().add(NIGHT_US - S, 100, 10).add(NIGHT_US - 1800 * S, 500, 200)
    assert looked(counts, long_window="1h").long == Sample(210, 600, 3600)


# Entries


@pytest.mark.parametrize(("age", "counted"), [(FINISHED, False), (FINISHED + 10, True), (FINISHED + 300, True), (FINISHED + 310, False)])
def test_entries_are_those_of_the_newest_window_in_which_all_are_finished(age: int, counted: bool) -> None:
    found = looked(Counts().add(NIGHT_US - age * S, 100, 10), basis="entries")
    assert (found.window, found.basis) == (Sample(10 * counted, 100 * counted, 300), "entries")


def test_entries_whose_fine_buckets_are_gone_when_they_are_finished_are_looked_at_by_the_hour() -> None:
    counts = shop("2d")
    at_us = NIGHT_US // (HOUR * S) * HOUR * S + HOUR * S + 60 * S
    put(counts, at_us // S - 2 * 86_400 - 100, 100, 10)
    assert looked(counts, at_us, basis="entries").window == Sample(10, 100, HOUR)


# Adjusted


def shop(conversion: str, **funnel: Any) -> FunnelCounts:
    """A funnel of one step, its rule's stage the second of three as everywhere."""
    stages = [{"name": name, "event": name} for name in ("view", "checkout", "pay")]
    made = {"name": "shop", "source": "web", "conversion_window": conversion, "windows": ["5m"], "stages": stages} | funnel
    setup = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": [made]})
    return FunnelCounts(Plan(setup, setup.sources[0]).funnels[0])


def put(counts: FunnelCounts, opened: int, entries: int, conversions: int, after: int = 0) -> None:
    """Entries that open at a second, and those of them that convert, so many seconds after."""
    for kept in counts.plan.kept:
        cells = {cell(ENTRIES, PAY - 1): entries, cell(CONVERSIONS, PAY - 1): conversions, age_cell(PAY, 0): conversions}
        counts.add(kept.seconds, opened // kept.seconds, cells)
        counts.add(kept.seconds, (opened + after) // kept.seconds, {cell(CONVERTED, PAY): conversions})


def with_history() -> tuple[FunnelCounts, Adjusting]:
    """Five hours of ten entries every ten seconds, four of which convert at once."""
    counts = shop("30m")
    for opened in range(NIGHT_US // S - 5 * HOUR, NIGHT_US // S, 10):
        put(counts, opened, 10, 4)
    return counts, Adjusting(counts, 60 * S).at(NIGHT_US + 3 * S)


def test_while_there_is_no_baseline_an_adjusted_rule_looks_at_entries() -> None:
    counts = Counts().add(NIGHT_US - FINISHED * S - 60 * S, 100, 10)
    found = look(rule(basis="adjusted"), counts, Adjusting(counts, 60 * S).at(NIGHT_US), PAY, None, NIGHT_US)
    assert (found.basis, found.window, found.baseline_rate) == ("entries", Sample(10, 100, 300), None)
    assert looked(counts, basis="adjusted").basis == "entries"


def test_an_adjusted_rule_looks_at_what_converted_of_the_worth_of_what_was_due() -> None:
    counts, adjusting = with_history()
    found = look(rule(basis="adjusted"), counts, adjusting, PAY, None, NIGHT_US)
    assert (found.basis, found.window.numerator, found.window.seconds) == ("adjusted", 120, 300)
    assert found.window.denominator == pytest.approx(300, rel=0.01)
    assert found.baseline_rate == pytest.approx(0.4)


def test_the_worth_of_a_span_is_that_of_the_window_that_ends_with_it() -> None:
    counts, adjusting = with_history()
    found = look(rule(basis="adjusted"), counts, adjusting, PAY, None, NIGHT_US)
    step, _ = adjusting.at(NIGHT_US - 1).step(PAY, Duration("5m"), None)
    assert found.window.denominator == pytest.approx(step.denominator, abs=0.001)
    assert found.window.numerator == step.numerator


@pytest.mark.parametrize("later", [10, 60, 300, 1800, 3000])
@pytest.mark.parametrize(
    "ends", [NIGHT_US - 250 * S, NIGHT_US - 240 * S, NIGHT_US - 300 * S, NIGHT_US - 1500 * S]
)  # 3:00, before and after
def test_the_worth_of_a_span_does_not_depend_on_when_it_is_asked_about(later: int, ends: int) -> None:
    """Whatever the traffic did within the hour whose end the fine and the coarse buckets share."""
    counts = shop("30m")
    for opened in range(ends // S - 5 * HOUR, ends // S + later, 10):
        conversions = 10 if opened % 1200 < 600 else 1
        put(counts, opened, 2 * conversions + opened % 3, conversions, after=opened % 900)
        put(counts, opened, 0, 3, after=400)
    adjusting = Adjusting(counts, 60 * S)
    at_once = adjusting.at(ends).worth(PAY, ends - 10 * S, ends, None)
    assert at_once > 0
    assert adjusting.at(ends + later * S).worth(PAY, ends - 10 * S, ends, None) == pytest.approx(at_once, rel=0.1)


def test_what_comes_after_the_boundary_belongs_to_the_next_look() -> None:
    counts, adjusting = with_history()
    before = look(rule(basis="adjusted"), counts, adjusting, PAY, None, NIGHT_US)
    put(counts, NIGHT_US // S + 2, 1000, 1000)
    after = look(rule(basis="adjusted"), counts, adjusting, PAY, None, NIGHT_US)
    assert after == before


def test_the_steps_of_an_adjusted_rule_add_up_to_its_window() -> None:
    counts, adjusting = with_history()
    found = look(rule(basis="adjusted", **SEQUENTIAL), counts, adjusting, PAY, None, NIGHT_US)
    assert found.steps is not None
    window = found.steps.counts[-30:]
    assert sum(k for k, _ in window) == found.window.numerator
    assert sum(n for _, n in window) == pytest.approx(found.window.denominator, rel=1e-3)


# Steps


def carried(found: Look, before: DetectorState | None = None, **changes: Any) -> DetectorState:
    state = judge(rule(**SEQUENTIAL | changes), found, before).detector
    assert state is not None
    return state


def test_steps_are_the_conversions_and_entries_of_closed_buckets() -> None:
    counts = Counts().add(NIGHT_US - 10 * S, 7, 3).add(NIGHT_US, 50, 50).add(NIGHT_US - 20 * S, 5, 1)
    steps = looked(counts, **SEQUENTIAL).steps
    assert steps is not None
    assert (steps.width_seconds, len(steps.counts), steps.start_us) == (10, BEGIN_WITH, NIGHT_US - BEGIN_WITH * 10 * S)
    assert list(steps.counts[-3:]) == [(0, 0), (1, 5), (3, 7)]
    assert steps.settled == BEGIN_WITH - 6  # late events may change the last minute


def test_steps_go_on_where_the_last_look_was_sure() -> None:
    counts = Counts().add(NIGHT_US - 10 * S, 7, 3)
    state = carried(looked(counts, **SEQUENTIAL))
    assert state.settled.at_us == NIGHT_US - 60 * S
    steps = looked(counts, NIGHT_US + 10 * S, state, **SEQUENTIAL).steps
    assert steps is not None
    assert (steps.start_us, len(steps.counts), steps.settled) == (NIGHT_US - 60 * S, 7, 1)
    late = looked(counts, NIGHT_US + 86_400 * S, state, **SEQUENTIAL).steps
    assert late is not None
    assert len(late.counts) == CATCH_UP_MAX
    assert carried(looked(counts, NIGHT_US + 86_400 * S, state, **SEQUENTIAL), state).seen_us == NIGHT_US + 86_400 * S


def test_steps_of_finished_entries_are_sure_at_once() -> None:
    counts = Counts().add(NIGHT_US - (FINISHED + 10) * S, 7, 3)
    steps = looked(counts, basis="entries", **SEQUENTIAL).steps
    assert steps is not None
    assert (steps.counts[-1], steps.settled) == ((3, 7), len(steps.counts))
    assert steps.start_us + len(steps.counts) * 10 * S == NIGHT_US - FINISHED * S


minutes = st.lists(st.integers(0, 6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=20, max_size=60)


@settings(max_examples=25, deadline=None)
@given(came=minutes, delays=st.lists(st.integers(0, 5), min_size=60, max_size=60), lagging=st.booleans())
def test_whatever_order_events_arrive_in_the_detector_ends_up_the_same(
    came: list[tuple[int, int]], delays: list[int], lagging: bool
) -> None:
    """Each bucket is counted so many buckets late, within the allowed lateness; with `lagging` half of the looks are missed."""
    prompt, late = Counts(), Counts()
    in_time, delayed = None, None
    arrivals: dict[int, list[int]] = {}
    for place in range(len(came)):
        arrivals.setdefault(place + delays[place], []).append(place)
    for place in range(len(came) + 6):
        at_us = NIGHT_US + (place + 1) * 10 * S
        if place < len(came):
            prompt.add(at_us - 10 * S, came[place][1], came[place][0])
        for old in arrivals.get(place, []):
            late.add(NIGHT_US + old * 10 * S, came[old][1], came[old][0])
        in_time = carried(looked(prompt, at_us, in_time, **SEQUENTIAL), in_time, below=0.4)
        if not lagging or place % 2 or place == len(came) + 5:
            delayed = carried(looked(late, at_us, delayed, **SEQUENTIAL), delayed, below=0.4)
    assert in_time is not None
    assert delayed is not None
    if in_time.score < in_time.limit / 2:  # the cap depends on what was known when
        assert delayed.score == pytest.approx(in_time.score)


# What is usual


def hourly(days: int, rate_of: Any, entries: int = 100) -> Counts:
    """Hours before the one that holds NIGHT_US."""
    counts = Counts()
    now = NIGHT_US // (HOUR * S)
    for hour in range(now - 24 * days, now):
        counts.add(hour * HOUR * S, entries, round(entries * rate_of(hour)))
    return counts


NOW = NIGHT_US // (HOUR * S)


@pytest.mark.parametrize("basis", ["users", "entries"])
def test_what_is_usual_is_learned_from_two_weeks(basis: str) -> None:
    counts = hourly(20, lambda hour: 0.9 if hour < NOW - 14 * 24 else 0.35)
    usual = looked(counts, basis=basis, **SEQUENTIAL).usual
    assert usual is not None
    assert usual.rate == pytest.approx(0.35)
    assert usual.hour == NOW
    assert usual.entrants == 100 * (14 * 24 - (0 if basis == "users" else 1))  # the last hour's entries are not finished


def test_what_is_usual_at_this_hour_of_the_day_is_told_apart_where_hours_differ() -> None:
    counts = hourly(14, lambda hour: 0.30 if hour % 24 == NOW % 24 else 0.40, entries=1000)
    usual = looked(counts, **SEQUENTIAL).usual
    assert usual is not None
    assert usual.rate == pytest.approx(0.30, abs=0.005)


def test_what_is_usual_is_learned_once_an_hour() -> None:
    counts = hourly(3, lambda _: 0.35)
    state = carried(looked(counts, **SEQUENTIAL))
    for hours in range(2, 60):
        counts.add(NIGHT_US - hours * HOUR * S, 1000, 0)
    later = NIGHT_US + 50 * S
    assert looked(counts, later, state, **SEQUENTIAL).usual == Usual(state.usual_rate or 0, state.usual_entrants, NOW)
    following = looked(counts, NIGHT_US + HOUR * S, state, **SEQUENTIAL).usual
    assert following is not None
    assert following.rate < 0.30


def test_before_the_first_hour_is_over_nothing_is_usual() -> None:
    assert looked(Counts().add(NIGHT_US, 100, 50), **SEQUENTIAL).usual is None


def dropped(counts: FunnelCounts, at_us: int = NIGHT_US, basis: str = "users", **drop: Any) -> Usual | None:
    return looked(counts, at_us, below=None, recover_above=None, basis=basis, drop={"by": 0.25, **drop}).baseline


@pytest.mark.parametrize(("since", "ago"), [("yesterday", 24), ("last_week", 168)])
@pytest.mark.parametrize("basis", ["users", "entries"])
def test_a_drop_is_measured_from_the_hour_that_holds_the_same_window_then(since: str, ago: int, basis: str) -> None:
    counts = hourly(8, lambda hour: 0.60 if hour == NOW - ago else 0.2)
    inside, across = NIGHT_US // (HOUR * S) * HOUR * S + 600 * S, NIGHT_US // (HOUR * S) * HOUR * S + 60 * S
    assert dropped(counts, inside, basis, **{"from": since}) == Usual(0.6, 100, NOW)
    assert dropped(counts, across, basis, **{"from": since}) == Usual(0.4, 200, NOW)  # the window holds some of the hour before


def test_a_median_is_of_the_same_hour_of_the_week_where_there_are_three() -> None:
    counts = hourly(29, lambda hour: 0.6 if (NOW - hour) % 168 == 0 else 0.3)
    at_us = NOW * HOUR * S + 600 * S
    same, all_of_them = dropped(counts, at_us, over="28d"), dropped(counts, at_us, over="14d")
    assert same is not None
    assert all_of_them is not None
    assert (same.rate, all_of_them.rate) == (0.6, 0.3)
    assert same.entrants == pytest.approx(4 * 100 * 0.64)


def test_a_bad_hour_does_not_move_a_median() -> None:
    counts = hourly(14, lambda hour: 0.0 if hour > NOW - 24 else 0.5)
    found = dropped(counts, over="14d")
    assert found is not None
    assert found.rate == 0.5


def test_where_hours_are_thin_they_are_taken_together() -> None:
    counts = hourly(14, lambda hour: 0.5, entries=2)
    assert dropped(counts, over="14d") == Usual(0.5, (14 * 24 - 1) * 2, NOW)  # the window began within the last hour


@pytest.mark.parametrize("since", ["yesterday", "last_week", "median"])
def test_with_fewer_entrants_than_a_rate_needs_there_is_nothing_to_compare_with(since: str) -> None:
    counts = Counts()
    for hours in (24, 168):
        counts.add(NIGHT_US - hours * HOUR * S, 14, 7)
    assert dropped(counts, **{"from": since}) is None


def test_the_target_is_that_of_the_stage() -> None:
    stages = [{"name": n, "event": n} for n in ("view", "checkout")] + [{"name": "pay", "event": "pay", "target": 0.7}]
    found = looked(shop("30m", stages=stages), below=None, recover_above=None, below_target=True)
    assert found.target == 0.7
