"""What the documentation promises of adjusted rates, in a world where everybody's fate is known."""

from __future__ import annotations

import math

import pytest

from streams.adjusted import adjusted, complete_since, due, groups
from streams.baseline import Baseline, learn
from tests.simulation.counts import KEPT, Counts
from tests.simulation.people import BEGIN_US, DAY_US, HOUR_US, LEVEL, SECOND_US, SLOT_US, WINDOW_US, Scenario, delay_share, slots
from tests.simulation.study import TERMS, Study, adjust, incident, rhythm

MINUTE_US = 60 * SECOND_US

pytestmark = pytest.mark.timeout(300)  # twelve simulated days take ten seconds, and four times that on a busy machine


@pytest.fixture(scope="module")
def study() -> Study:
    return incident(history_days=6, healthy_days=3, seed=2, traffic=0.4)


def test_the_adjusted_rate_shows_an_incident_within_minutes(study: Study) -> None:
    assert 0 < (study.delays["adjusted, 15 min"].shown or math.inf) <= 10
    assert 0 < (study.delays["adjusted, 15 min"].halved or math.inf) <= 15
    assert 0 < (study.delays["adjusted, 5 min"].halved or math.inf) <= 10


def test_the_plain_rate_of_a_day_takes_hours_to_show_it(study: Study) -> None:
    assert (study.delays["plain, 24 h"].shown or math.inf) >= 60
    assert (study.delays["plain, 24 h"].halved or math.inf) >= 180


def test_finished_entries_show_it_towards_the_next_day(study: Study) -> None:
    assert (study.delays["mature, newest hour"].shown or math.inf) >= 12 * 60
    assert (study.delays["mature, newest hour"].halved or math.inf) >= 18 * 60


def test_an_hour_later_the_adjusted_rate_is_the_true_one(study: Study) -> None:
    later = [r for r in study.readings if r.moment_us >= study.broken_us + HOUR_US and r.moment_us % (15 * MINUTE_US) == 0]
    within = [r for r in later if (r.adjusted[900].low or 0) <= r.truth <= (r.adjusted[900].high or 0)]
    assert len(within) / len(later) > 0.88


def test_on_healthy_days_the_limits_hold_as_often_as_they_promise(study: Study) -> None:
    assert study.healthy.checks > 300
    assert abs(study.healthy.covered - 0.95) < 3 * study.healthy.error
    assert abs(study.healthy.mean) < 3 * study.healthy.mean_error + 0.05  # the baseline is an estimate too
    assert 0.88 < study.healthy.deviation < 1.12


def test_they_hold_while_traffic_grows_in_the_morning(study: Study) -> None:
    assert study.ramp.checks > 60
    assert abs(study.ramp.covered - 0.95) < 3 * study.ramp.error
    assert abs(study.ramp.mean) < 3 * study.ramp.mean_error + 0.05


def test_a_projection_of_an_hour_comes_true(study: Study) -> None:
    for found in (study.projected, study.projected_broken):
        assert found.covered > 0.95 - 3 * math.sqrt(0.05 * 0.95 / found.checks)
        assert abs(found.bias) < 0.01


def test_what_is_expected_is_what_a_cohort_of_known_people_would_do() -> None:
    """Person by person, with the true distribution of delays, from a list that no bucket was made of."""
    counts, moments = Counts(TERMS), []
    everyone: list[int] = []
    for slot in slots(Scenario(days=4, seed=3, traffic=0.3)):
        counts.pass_slot(slot)
        others = slot.opened - len(slot.converting)
        everyone += [c.opened_us for c in slot.converting]
        everyone += [slot.start_us + (2 * n + 1) * SLOT_US // (2 * others) for n in range(others)]
        if slot.start_us + SLOT_US in {BEGIN_US + 4 * DAY_US - n * HOUR_US for n in (0, 8, 17)}:
            moments.append((counts.at_us, adjust(counts, _learned(counts), 900), len(everyone)))
    assert len(moments) == 3
    for at_us, rate, known in moments:
        start_us = at_us + 1 - 900 * SECOND_US
        young = [opened for opened in everyone[:known] if opened > start_us - WINDOW_US]
        worth = sum(delay_share(at_us - opened) - delay_share(start_us - opened) for opened in young)
        assert rate.denominator == pytest.approx(worth, rel=0.02)


def _learned(counts: Counts) -> Baseline:
    found = learn(counts.hours, TERMS, counts.at_us)
    assert isinstance(found, Baseline)
    return found


def test_the_curve_learned_is_the_one_people_convert_by() -> None:
    counts = Counts(TERMS)
    for slot in slots(Scenario(days=4, seed=4, traffic=0.3)):
        counts.pass_slot(slot)
    baseline = _learned(counts)
    assert baseline.level == pytest.approx(LEVEL, rel=0.02)
    ages = [30 * MINUTE_US * n for n in range(1, 48)]
    assert max(abs(baseline.curve.share(age) - delay_share(age)) for age in ages) < 0.01


def test_by_the_hour_alone_the_rate_is_the_same_within_its_limits() -> None:
    """A funnel whose windows are longer than a day keeps no finer buckets, and T lies within an hour."""
    counts = Counts(TERMS)
    for slot in slots(Scenario(days=3, seed=5, traffic=0.3)):
        counts.pass_slot(slot)
        if slot.start_us + SLOT_US == BEGIN_US + 2 * DAY_US + 13 * HOUR_US + 25 * MINUTE_US:
            break
    baseline = _learned(counts)
    start_us = counts.at_us // HOUR_US * HOUR_US - 5 * HOUR_US
    worths = []
    for widths in (KEPT, (3600,)):
        since = complete_since(widths, WINDOW_US, counts.at_us)
        weights = due(groups(since, start_us, counts.at_us, WINDOW_US), baseline)
        worths.append(adjusted(0, counts.entries, weights, baseline).denominator)
    assert worths[0] == pytest.approx(worths[1], rel=0.005)


def test_where_nights_convert_less_a_baseline_by_hour_of_week_is_fair_to_them() -> None:
    found = rhythm(history_days=15, healthy_days=2, seed=6, traffic=0.3)
    assert found["all"].covered < 0.85
    assert found["hour_of_week"].covered > 0.95 - 3 * found["hour_of_week"].error
