"""What is learned from finished entries: a level, a curve, a rhythm of the week; or why nothing is."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ages import age_bin, bin_start_us
from streams.baseline import HOUR_US, Baseline, Hour, NoBaseline, Terms, finished_until_us, hour_of_week, hours_of, learn, learn_value
from streams.retention import CONVERSIONS, ENTRIES
from streams.windows import age_cell, cell

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
DAY_US = 24 * HOUR_US
MONDAY = 1_704_067_200_000_000 // HOUR_US  # the hour 2024-01-01 00:00 UTC
TERMS = Terms(conversion_us=30 * MINUTE_US, lateness_us=MINUTE_US, half_life_us=7 * DAY_US, min_entries=200)
WEEKLY = replace(TERMS, by_hour=True, half_life_us=1000 * DAY_US)
READY_US = MONDAY * HOUR_US + 3 * DAY_US  # the first hour is finished, whatever the conversion window
LATER_US = MONDAY * HOUR_US + 40 * DAY_US


def hour(entries: int, *ages_us: int) -> Hour:
    bins: dict[int, int] = {}
    for age in ages_us:
        bins[age_bin(age)] = bins.get(age_bin(age), 0) + 1
    return Hour(entries, len(ages_us), bins)


def known(found: Baseline | NoBaseline) -> Baseline:
    assert isinstance(found, Baseline)
    return found


def test_the_level_is_the_share_of_finished_entries_that_converted() -> None:
    found = known(learn({MONDAY: hour(400, *[MINUTE_US] * 100)}, TERMS, READY_US))
    assert (found.entries, found.level) == pytest.approx((400 * weight(MONDAY), 0.25))


def weight(number: int, at_us: int = READY_US) -> float:
    return float(0.5 ** ((finished_until_us(TERMS, at_us) - (number + 1) * HOUR_US) / TERMS.half_life_us))


def test_the_newest_finished_hour_weighs_1_and_one_a_half_life_older_half() -> None:
    newest = finished_until_us(TERMS, LATER_US) // HOUR_US - 1
    hours = {newest: hour(300, *[MINUTE_US] * 30), newest - 7 * 24: hour(600, *[MINUTE_US] * 300)}
    found = known(learn(hours, TERMS, LATER_US))
    assert found.entries == pytest.approx(300 + 600 / 2)
    assert found.level == pytest.approx((30 + 300 / 2) / (300 + 600 / 2))


def test_an_hour_is_finished_when_its_end_the_conversion_window_and_the_lateness_are_past() -> None:
    ready_us = (MONDAY + 1) * HOUR_US + 31 * MINUTE_US
    hours = {MONDAY: hour(400, MINUTE_US)}
    assert isinstance(learn(hours, TERMS, ready_us), Baseline)
    assert learn(hours, TERMS, ready_us - 1) == NoBaseline(0, "needs 200 finished entries, has 0")


def test_what_is_learned_changes_only_when_another_hour_is_finished() -> None:
    hours = {MONDAY + n: hour(300 + n, *[MINUTE_US] * (50 + n)) for n in range(20)}
    begin_us = (MONDAY + 9) * HOUR_US + 31 * MINUTE_US
    assert finished_until_us(TERMS, begin_us) == finished_until_us(TERMS, begin_us + HOUR_US - 1)
    assert learn(hours, TERMS, begin_us) == learn(hours, TERMS, begin_us + HOUR_US - 1)
    assert learn(hours, TERMS, begin_us) != learn(hours, TERMS, begin_us + HOUR_US)


def test_with_too_few_finished_entries_it_says_how_many_there_are() -> None:
    ready_us = (MONDAY + 1) * HOUR_US + 31 * MINUTE_US
    assert learn({MONDAY: hour(120, MINUTE_US)}, TERMS, ready_us) == NoBaseline(120, "needs 200 finished entries, has 120")


def test_where_nobody_converted_there_is_no_curve() -> None:
    ready_us = (MONDAY + 1) * HOUR_US + 31 * MINUTE_US
    assert learn({MONDAY: hour(500)}, TERMS, ready_us) == NoBaseline(500, "none of 500 finished entries converted")


def test_the_curve_is_exact_at_the_ends_of_bins_and_straight_between_them() -> None:
    ages = [10 * SECOND_US] * 10 + [5 * MINUTE_US] * 30 + [20 * MINUTE_US] * 60
    curve = known(learn({MONDAY: hour(400, *ages)}, TERMS, READY_US)).curve
    for age, below, upto in ((10 * SECOND_US, 0.0, 0.1), (5 * MINUTE_US, 0.1, 0.4), (20 * MINUTE_US, 0.4, 1.0)):
        start, end = bin_start_us(age_bin(age)), bin_start_us(age_bin(age) + 1)
        assert (curve.share(start), curve.share(end)) == pytest.approx((below, upto))
        assert curve.share((start + end) / 2) == pytest.approx((below + upto) / 2)
    assert curve.share(15 * MINUTE_US) == pytest.approx(0.4)


def test_before_the_opening_nobody_has_converted_and_from_the_conversion_window_on_all_have() -> None:
    curve = known(learn({MONDAY: hour(400, 29 * MINUTE_US + 59 * SECOND_US)}, TERMS, READY_US)).curve
    assert [curve.share(age) for age in (-HOUR_US, 0, 30 * MINUTE_US, HOUR_US)] == [0, 0, 1, 1]
    assert curve.ages_us[-1] == 30 * MINUTE_US


@pytest.mark.parametrize("conversion_us", [30 * MINUTE_US, bin_start_us(80)])
def test_a_conversion_at_the_very_end_of_the_window_counts_at_its_end(conversion_us: int) -> None:
    terms = replace(TERMS, conversion_us=conversion_us)
    curve = known(learn({MONDAY: hour(400, MINUTE_US, conversion_us)}, terms, READY_US)).curve
    start = bin_start_us(age_bin(conversion_us - 1))
    assert (curve.share(start), curve.share(conversion_us)) == pytest.approx((0.5, 1))
    assert curve.ages_us[-2:] == (start, conversion_us)


@given(st.lists(st.integers(0, 30 * MINUTE_US), min_size=1, max_size=40))
def test_a_curve_only_rises_and_its_area_is_the_sum_of_its_shares(ages: list[int]) -> None:
    curve = known(learn({MONDAY: hour(400, *ages)}, TERMS, READY_US)).curve
    assert list(curve.ages_us) == sorted(set(curve.ages_us))
    assert (curve.ages_us[0], curve.shares[0], curve.shares[-1]) == (0, 0, 1)
    assert all(a <= b for a, b in pairwise(curve.shares))
    for age in ages:
        by_bin_end = sum(a <= age for a in ages) / len(ages)
        assert curve.share(min(bin_start_us(age_bin(age) + 1), 30 * MINUTE_US)) >= by_bin_end - 1e-9
    knots = sorted({*curve.ages_us, *ages, 40 * MINUTE_US})
    area = 0.0
    for young, old in pairwise(knots):
        area += (old - young) * (curve.share(young) + curve.share(old)) / 2  # straight in between
        assert curve.area(old) == pytest.approx(area)


def test_the_mean_share_of_entries_spread_over_a_bucket_is_that_of_many_single_ones() -> None:
    curve = known(learn({MONDAY: hour(400, *[n * 7 * SECOND_US for n in range(1, 200)])}, TERMS, READY_US)).curve
    moments = [0, 10 * SECOND_US, 70 * SECOND_US, 1000 * SECOND_US]
    at_us = 900 * SECOND_US  # the last of them is still to come in part: nobody converts before the opening
    for found, start, end in zip(curve.means(moments, at_us), moments, moments[1:]):
        step = (end - start) / 2000
        single = [curve.share(at_us - (start + (n + 0.5) * step)) for n in range(2000)]
        assert found == pytest.approx(sum(single) / 2000, abs=1e-5)


def test_many_conversions_in_one_wide_bin_are_noted() -> None:
    terms = replace(TERMS, conversion_us=DAY_US)
    ages = [HOUR_US // 2] * 60 + [20 * HOUR_US] * 40
    found = known(learn({MONDAY: hour(400, *ages)}, terms, READY_US))
    assert found.note == "40% of the conversions come at an age between 18.6 and 23.3 hours, taken to be spread evenly"


def test_many_conversions_in_a_narrow_bin_are_nothing_to_note() -> None:
    assert known(learn({MONDAY: hour(400, *[MINUTE_US] * 100)}, TERMS, READY_US)).note == ""


def test_hours_of_the_week_begin_on_monday_in_utc() -> None:
    assert hour_of_week(MONDAY * HOUR_US) == 0
    assert hour_of_week((MONDAY + 167) * HOUR_US + HOUR_US - 1) == 167
    assert hour_of_week((MONDAY + 168) * HOUR_US) == 0


def week(entries: int, level: dict[int, float], rng: random.Random, weeks: int = 4) -> dict[int, Hour]:
    """Weeks of hours with so many entries each, by chance at a level of 0.3 where none is given."""
    found = {}
    for number in range(168 * weeks):
        converted = sum(rng.random() < level.get(number % 168, 0.3) for _ in range(entries))
        found[MONDAY + number] = hour(entries, *[MINUTE_US] * converted)
    return found


def test_by_hour_of_week_an_hour_with_many_entries_has_its_own_level() -> None:
    nights = {n: 0.15 for n in range(168) if n % 24 < 6}
    found = known(learn(week(500, nights, random.Random(1)), WEEKLY, LATER_US))
    for n in range(168):
        assert found.level * found.hours[n] == pytest.approx(nights.get(n, 0.3), abs=0.05)


def test_an_hour_with_few_entries_is_drawn_to_the_level_of_all() -> None:
    hours = week(500, {n: 0.15 for n in range(168) if n % 24 < 6}, random.Random(1))
    hours |= {MONDAY + 12 + 168 * n: hour(1, MINUTE_US) for n in range(4)}  # four entries at noon on Monday, all converted
    found = known(learn(hours, WEEKLY, LATER_US))
    assert 1 < found.hours[12] < 1.3  # their own would be more than 3


def test_where_hours_differ_by_chance_alone_they_are_all_drawn_to_the_level_of_all() -> None:
    hours = week(5, {}, random.Random(2))
    found = known(learn(hours, WEEKLY, LATER_US))
    own = [sum(hours[MONDAY + n + 168 * w].conversions for w in range(4)) / 20 for n in range(168)]
    assert max(own) > 1.8 * found.level
    assert max(found.hours) < 1.2


def test_an_hour_of_the_week_never_seen_has_the_level_of_all() -> None:
    hours = {number: found for number, found in week(100, {0: 0.1}, random.Random(3)).items() if (number - MONDAY) % 168 != 50}
    assert known(learn(hours, WEEKLY, LATER_US)).hours[50] == 1


def test_a_value_has_the_curve_of_the_total_at_its_own_level() -> None:
    total = known(learn({MONDAY: hour(4000, *[MINUTE_US] * 1000)}, TERMS, READY_US))
    found = learn_value({MONDAY: Hour(2000, 900, {})}, TERMS, READY_US, total)
    assert found == replace(total, entries=pytest.approx(2000 * weight(MONDAY)), level=pytest.approx(0.45))


def test_a_value_that_comes_at_hours_which_convert_little_is_not_blamed_for_them() -> None:
    """Its night entries convert at half the usual, as everybody's do: its level is the total's."""
    total = known(learn(week(500, {n: 0.15 for n in range(168) if n % 24 < 6}, random.Random(4)), WEEKLY, LATER_US))
    night = {MONDAY + 168 * w + n: Hour(1000, round(1000 * total.level * total.hours[n]), {}) for w in range(4) for n in range(6)}
    assert known(learn_value(night, WEEKLY, LATER_US, total)).level == pytest.approx(total.level, rel=0.01)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(Hour(120, 60, {}), "needs 200 finished entries, has 120"), (Hour(300, 0, {}), "none of 300 finished entries converted")],
)
def test_a_value_too_says_why_it_has_no_baseline(value: Hour, reason: str) -> None:
    ready_us = (MONDAY + 1) * HOUR_US + 31 * MINUTE_US
    total = known(learn({MONDAY: hour(4000, *[MINUTE_US] * 1000)}, TERMS, ready_us))
    assert learn_value({MONDAY: value}, TERMS, ready_us, total) == NoBaseline(value.entries, reason)


def test_hours_are_read_from_the_cells_of_a_step() -> None:
    cells = {cell(ENTRIES, 0): 7, cell(CONVERSIONS, 0): 3, age_cell(1, 40): 2, age_cell(1, 41): 1, age_cell(11, 40): 5, cell(ENTRIES, 1): 4}
    cells |= {cell(ENTRIES, 0, "channel", "ads"): 2, cell(CONVERSIONS, 0, "channel", "ads"): 1}
    buckets = {MONDAY: cells, MONDAY + 1: {cell(ENTRIES, 1): 9}}
    assert hours_of(buckets, 1) == {MONDAY: Hour(7, 3, {40: 2, 41: 1})}
    assert hours_of(buckets, 1, "channel", "ads") == {MONDAY: Hour(2, 1, {})}
    assert hours_of(buckets, 2) == {MONDAY: Hour(4, 0, {}), MONDAY + 1: Hour(9, 0, {})}
