"""What is promised of alerts: hardly a false page, and a fall found about as soon as can be. The long form is `python -m tests.alerts_study`."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from alerting.conditions import judge
from alerting.detectors import DetectorState, evidence, limit
from alerting.samples import look
from streams.plan import Plan
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES, USERS
from streams.windows import FunnelCounts, cell
from tests.alerts_study import delayed, hardships, report
from tests.alerts_study.__main__ import BEGIN, END, PAGE, write
from tests.alerts_study.chain import mean_time, one_bucket
from tests.alerts_study.contenders import BEGIN_US, BUCKET_US, SEQUENTIAL, STAGE, WINDOWED, Ours, config
from tests.alerts_study.levels import (
    NAIVE,
    NAIVE_FOR,
    OPTIMUM,
    SEQUENCE,
    Delays,
    Pages,
    delays,
    false_pages,
    false_pages_of_the_detector,
    false_pages_of_the_first_day,
)
from tests.alerts_study.optimum import bound_minutes
from tests.alerts_study.optimum import limit as optimum_limit
from tests.alerts_study.traffic import BROKEN, BUCKET_SECONDS, DAY_BUCKETS, HEALTHY, THRESHOLD, Traffic

pytestmark = pytest.mark.timeout(300)  # some days of evaluations take seconds, and four times that on a busy machine


@pytest.mark.parametrize("kind", [WINDOWED, SEQUENTIAL], ids=["windowed", "sequential"])
def test_the_rules_of_the_study_see_what_the_evaluator_would(kind: dict[str, object]) -> None:
    """The same counts as the ledger keeps them, looked at by the code that looks at those."""
    setup = config(kind)
    counts = FunnelCounts(Plan(setup, setup.sources[0]).funnels[0])
    traffic, ours = Traffic("same"), Ours({**kind})
    before: DetectorState | None = None
    for place in range(1500):
        converted, entered = traffic.bucket(2 if place < 700 else 30, HEALTHY if place < 900 else BROKEN)
        at_us = BEGIN_US + place * BUCKET_US
        named = {
            USERS: (STAGE, converted),
            CONVERTED: (STAGE, converted),
            CONVERSIONS: (STAGE - 1, converted),
            ENTRIES: (STAGE - 1, entered),
        }
        cells = {cell(family, stage): count for family, (stage, count) in named.items()} | {cell(USERS, STAGE - 1): entered}
        for kept in counts.plan.kept:
            counts.add(kept.seconds, at_us // (kept.seconds * 1_000_000), cells)
        ours.bucket(converted, entered)
        seen = judge(ours.rule, look(ours.rule, counts, None, STAGE, None, at_us + BUCKET_US, before), before)
        before = seen.detector
        told = ours.state.verdict
        assert told is not None
        assert (seen.outcome, seen.numerator, seen.denominator, seen.window_seconds) == (
            told.outcome, told.numerator, told.denominator, told.window_seconds,
        )  # fmt: skip
        if before is not None:
            assert told.detector is not None
            assert before.score == pytest.approx(told.detector.score)
            assert (before.limit, before.phase) == (told.detector.limit, told.detector.phase)


@pytest.mark.parametrize("per_minute", [2, 10, 50])
def test_at_every_level_the_exact_mean_time_to_a_false_page_is_over_100_days(per_minute: float) -> None:
    of = evidence(THRESHOLD, 0.4, rises=False, poisson=False)
    entrants = per_minute * BUCKET_SECONDS / 60
    at = limit(of, HEALTHY, entrants, BUCKET_SECONDS, 100 * 86_400)
    assert mean_time(one_bucket(of, HEALTHY, entrants), at) / DAY_BUCKETS > 150


@pytest.mark.parametrize("per_minute", [2, 10, 50, 500])
def test_healthy_days_bring_no_page(per_minute: float) -> None:
    assert false_pages(SEQUENCE, per_minute, 1, 7).pages == 0
    assert false_pages_of_the_first_day(per_minute, 1, 7).pages == 0
    assert false_pages_of_the_detector(per_minute, 20, 7).pages == 0


def test_the_naive_rule_pages_a_hundred_times_a_day_at_little_traffic() -> None:
    assert false_pages(NAIVE, 2, 2, 7).pages > 200
    assert false_pages(NAIVE_FOR, 2, 2, 7).pages > 40


@pytest.mark.parametrize(("per_minute", "incidents"), [(2, 24), (10, 40), (50, 40), (500, 30)])
def test_a_fall_is_found_about_as_soon_as_by_the_optimum(per_minute: float, incidents: int) -> None:
    found = delays(per_minute, incidents, 7)
    assert report.reached([], [], [found]) == []
    assert len(found.of[SEQUENCE]) == incidents
    assert median(found.of[OPTIMUM]) / 60 < bound_minutes(per_minute) * 1.1


@pytest.mark.parametrize(("per_minute", "minutes"), [(2, 44), (10, 11), (50, 2.5), (500, 0.3)])
def test_the_optimum_is_that_of_the_literature(per_minute: float, minutes: float) -> None:
    """The score needed ÷ what an entrant adds, less what it begins with, is about how long it takes."""
    assert optimum_limit(per_minute) / 0.1009 / per_minute == pytest.approx(minutes, rel=0.15)


def test_an_hour_of_nothing_brings_no_page() -> None:
    assert hardships.silence(1, 7).sequential == 0


def test_a_fall_that_lag_hides_is_found_when_the_lag_is_over() -> None:
    told = hardships.lag(1, 7)
    assert (told.sequential, len(told.delays)) == (0, 2)
    assert told.minutes is not None
    assert 5 <= told.minutes < 25


def test_one_device_of_five_is_found_by_its_own_rate() -> None:
    told = hardships.one_device(2, 7)
    assert (told.sequential, len(told.delays)) == (0, 2)


def test_on_adjusted_rates_a_campaign_is_no_fall_and_a_fall_is_found() -> None:
    found = {row.name: row for row in delayed.delayed(1, 7)}
    adjusted = found["adjusted, sequential"]
    assert (adjusted.campaign_pages, adjusted.calm_pages, adjusted.found) == (0, 0, 1)
    assert adjusted.delays[0] < 900
    assert found["users, sequential"].campaign_pages == 1


def test_a_goal_that_is_missed_is_said_to_be() -> None:
    slow = Delays(10, {OPTIMUM: [600.0], SEQUENCE: [800.0]})
    assert report.reached([Pages(SEQUENCE, 2, 100, 2)], [Pages("detector", 10, 1000, 10)], [slow]) == [
        "2 pages in 100 days at 2 a minute",
        "13.33 minutes where the optimum takes 10.00, at 10 a minute",
    ]


def test_tables_are_written_between_the_marks(tmp_path: Path) -> None:
    assert BEGIN in PAGE.read_text("utf-8")
    assert END in PAGE.read_text("utf-8")
    page = tmp_path / "alerts.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n", "utf-8")
    write(["| new |"], page)
    assert page.read_text("utf-8") == f"before\n\n{BEGIN}\n\n| new |\n\n{END}\n\nafter\n"
