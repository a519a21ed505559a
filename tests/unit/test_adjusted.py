"""The age-adjusted rate: what entries are worth in a window, the rate they make, its limits, and a projection."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import streams.adjusted
from streams.adjusted import (
    Adjusted,
    Entries,
    Factors,
    Groups,
    adjusted,
    complete_since,
    due,
    gamma_quantile,
    gamma_share,
    groups,
    poisson_limits,
    projected,
    to_come,
)
from streams.ages import age_bin
from streams.baseline import HOUR_US, Baseline, Hour, NoBaseline, Terms, hour_of_week, learn

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
DAY_US = 24 * HOUR_US
WINDOW_US = 6 * HOUR_US  # conversion window
NOON = 1_704_110_400_000_000
KEPT = {10: 400, 60: 1500, 3600: 800}
TERMS = Terms(WINDOW_US, MINUTE_US, 7 * DAY_US, 1)


def baseline(level: float = 0.25, hours: tuple[float, ...] = ()) -> Baseline:
    """Conversions by a log-normal delay of an hour or so."""
    rng = random.Random(5)
    bins: dict[int, int] = {}
    converted = 0
    while converted < 4000:
        age = int(rng.lognormvariate(0, 1) * HOUR_US)
        if age < WINDOW_US:
            bins[age_bin(age)] = bins.get(age_bin(age), 0) + 1
            converted += 1
    found = learn({0: Hour(16_000, 4000, bins)}, TERMS, DAY_US)
    assert isinstance(found, Baseline)
    return replace(found, level=level, hours=hours)


USUAL = baseline()


def counted(moments_us: list[int], widths: tuple[int, ...] = (10, 60, 3600)) -> dict[int, dict[int, int]]:
    """Openings in buckets of every width."""
    found: dict[int, dict[int, int]] = {width: {} for width in widths}
    for width in widths:
        for moment in moments_us:
            bucket = moment // (width * SECOND_US)
            found[width][bucket] = found[width].get(bucket, 0) + 1
    return found


def openings(rng: random.Random, at_us: int, number: int = 4000) -> list[int]:
    """Entries of the last day and a half, more and more of them."""
    return [at_us - int(36 * HOUR_US * (1 - math.sqrt(rng.random()))) for _ in range(number)]


def parted(start_us: int, at_us: int, widths: tuple[int, ...] = (10, 60, 3600), *, by_hour: bool = False) -> Groups:
    return groups(complete_since(widths, WINDOW_US, at_us), start_us, at_us, WINDOW_US, by_hour=by_hour)


# How many entries there are


def before(entries: Entries, width: int, edge: int) -> float:
    """Entries that opened from the hour 0 to before a boundary."""
    return entries.weigh((Factors.of(width, {0: -1.0, edge: 1.0} if edge else {0: 0.0}),))


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(-3, 9)), max_size=60), st.randoms())
def test_entries_add_up_whatever_the_order_they_are_counted_in(found: list[tuple[int, int]], rng: random.Random) -> None:
    entries = Entries({10: 400})
    rng.shuffle(found)
    for bucket, count in found:
        entries.add(10, bucket, count)
    for edge in (0, 1, 100, 299, 300, 301, 500):
        assert before(entries, 10, edge) == sum(count for bucket, count in found if bucket < edge)


def test_entries_from_buckets_are_those_that_were_added_one_by_one() -> None:
    buckets = counted(openings(random.Random(1), NOON))
    one, other = Entries.of(buckets, KEPT), Entries(KEPT)
    for width, column in buckets.items():
        for bucket, count in column.items():
            for _ in range(count):
                other.add(width, bucket, 1)
    weights = due(parted(NOON - HOUR_US, NOON), USUAL)
    assert one.weigh(weights.worth) == pytest.approx(other.weigh(weights.worth))


def test_what_is_no_longer_kept_is_let_go() -> None:
    entries = Entries({10: 100})
    for bucket in range(1000):
        entries.add(10, bucket, 1)
    assert entries.weigh((Factors.of(10, {950: -1.0, 1000: 1.0}),)) == 50
    assert len(entries._columns[10].sums) <= 202
    entries.add(10, 10, 5)  # older than what is kept
    entries.add(10, 50_000_000, 7)  # long after all that is held
    assert entries.weigh((Factors.of(10, {40_000_000: -1.0, 50_000_001: 1.0}),)) == 7
    assert len(entries._columns[10].sums) <= 202


@pytest.mark.parametrize("origins", [[0], [0, 1, 2, 3], [0, 0, 2], [0, 6, 12, 13], [-40, 0, 5], [0, 0, 0], [5, 300, 2000]])
def test_from_each_of_many_origins_entries_weigh_what_they_weigh_from_it_alone(origins: list[int]) -> None:
    """To the last bit, whether all is held that is asked about or not, and after more was added, too."""
    entries, weights = Entries.of(counted(openings(random.Random(2), NOON)), KEPT), (Factors.of(10, {0: -0.3, 7: 0.1, 90: 0.2}),)
    origins_us = [NOON - HOUR_US + origin * 10 * SECOND_US for origin in origins]
    for _ in range(2):
        assert entries.weigh_each(weights, origins_us) == [entries.weigh(weights, origin_us) for origin_us in origins_us]
        entries.add(10, (NOON - HOUR_US) // (10 * SECOND_US) + 4, 3)


def test_a_column_without_entries_weighs_nothing() -> None:
    assert Entries(KEPT).weigh(due(parted(NOON - HOUR_US, NOON), USUAL).worth) == 0


# What they weigh


@settings(max_examples=60)
@given(
    st.integers(0, 2 * HOUR_US),
    st.sampled_from([(10, 60, 3600), (10, 3600), (60, 3600), (3600,)]),
    st.sampled_from([60, 900, 7200, 86_400]),
    st.booleans(),
)
def test_no_entry_is_counted_twice_or_left_out(past_us: int, widths: tuple[int, ...], window: int, by_hour: bool) -> None:
    at_us = NOON + past_us
    width = max(widths[0], 60 if window > 3600 else widths[0]) * SECOND_US
    start_us = (at_us // width + 1) * width - window * SECOND_US
    found = parted(start_us, at_us, widths, by_hour=by_hour)
    moments = openings(random.Random(past_us), at_us)
    entries = Entries.of(counted(moments, widths), KEPT)
    assert list(found.moments_us) == sorted(set(found.moments_us))
    assert found.moments_us[-1] == at_us
    for first in range(0, len(found.moments_us) - 1, 7):
        ones = [0.0] * first + [1.0] * (len(found.moments_us) - 1 - first)
        since = [moment for moment in moments if moment >= found.moments_us[first]]
        assert entries.weigh(found.weights(ones)) == pytest.approx(len(since), abs=1e-6)


def test_groups_reach_back_to_all_that_may_still_convert_in_the_window() -> None:
    assert parted(NOON - HOUR_US, NOON).moments_us[0] <= NOON - HOUR_US - WINDOW_US


def test_a_width_that_reaches_no_boundary_of_the_coarser_one_is_not_used() -> None:
    since = {10: (NOON + 20 * MINUTE_US) // (10 * SECOND_US), 3600: NOON // HOUR_US - 100}
    at_us = NOON + 30 * MINUTE_US
    found = groups(since, at_us - 5 * MINUTE_US, at_us, WINDOW_US)
    assert {width for width, _ in found.places} == {3600}


def worth_of_buckets(moments: list[int], start_us: int, at_us: int, width: int) -> float:
    """Bucket by bucket, each spread over so much of its width as is past."""
    total = 0.0
    for bucket, count in counted(moments, (width,))[width].items():
        edges = [bucket * width * SECOND_US, min((bucket + 1) * width * SECOND_US, at_us)]
        total += count * (USUAL.curve.means(edges, at_us)[0] - USUAL.curve.means(edges, start_us)[0])
    return total


@pytest.mark.parametrize("minutes", [5, 15, 60])
@pytest.mark.parametrize("past_us", [0, 3_456_789, 9_999_999, 1_234_567_890])
def test_worth_is_the_sum_over_single_buckets(minutes: int, past_us: int, monkeypatch: pytest.MonkeyPatch) -> None:
    at_us = NOON + past_us
    start_us = (at_us // (10 * SECOND_US) + 1) * 10 * SECOND_US - minutes * MINUTE_US
    moments = openings(random.Random(minutes), at_us - 1)
    entries = Entries.of(counted(moments, (10,)), {10: 20_000})
    exact = worth_of_buckets(moments, start_us, at_us, 10)
    found = groups({10: 0}, start_us, at_us, WINDOW_US)
    assert entries.weigh(due(found, USUAL).worth) == pytest.approx(exact, rel=0.01)  # a few people: groups differ by chance
    monkeypatch.setattr(streams.adjusted, "GRAIN", 10**12)
    single = groups({10: 0}, start_us, at_us, WINDOW_US)
    assert entries.weigh(due(single, USUAL).worth) == pytest.approx(exact)


def test_coarser_buckets_stand_in_where_finer_ones_are_gone() -> None:
    rng = random.Random(9)
    at_us = NOON + 25 * MINUTE_US + 7 * SECOND_US
    moments = openings(rng, at_us, 40_000)
    start_us = at_us // (10 * SECOND_US) * 10 * SECOND_US - 890 * SECOND_US
    exact = worth_of_buckets(moments, start_us, at_us, 10)
    for widths in ((10, 60, 3600), (10, 3600)):
        entries = Entries.of(counted(moments, widths), KEPT)
        assert entries.weigh(due(parted(start_us, at_us, widths), USUAL).worth) == pytest.approx(exact, rel=0.01)


def test_the_bucket_that_holds_t_is_spread_over_what_is_past_of_it() -> None:
    """100 entries in the 4 s that are past: a few seconds old, not ten."""
    entries = Entries.of({10: {NOON // (10 * SECOND_US): 100}}, KEPT)
    at_us = NOON + 4 * SECOND_US
    found = due(groups({10: 0}, NOON - MINUTE_US, at_us, WINDOW_US), USUAL)
    assert entries.weigh(found.worth) == pytest.approx(100 * USUAL.curve.area(4 * SECOND_US) / (4 * SECOND_US))


def test_an_entry_is_worth_only_the_ages_it_has_in_the_window() -> None:
    weights = due(groups({10: 0}, NOON - 15 * MINUTE_US, NOON, WINDOW_US), USUAL).worth
    for minutes in (5, 20, 120, 359, 400):
        opened_us = NOON - minutes * MINUTE_US
        entries = Entries.of({10: {opened_us // (10 * SECOND_US): 1000}}, {10: 10_000})
        share = USUAL.curve.share(minutes * MINUTE_US) - USUAL.curve.share((minutes - 15) * MINUTE_US)
        assert entries.weigh(weights) == pytest.approx(1000 * share, abs=4)


def test_an_entry_older_than_the_conversion_window_is_worth_nothing() -> None:
    weights = due(groups({10: 0}, NOON - 15 * MINUTE_US, NOON, WINDOW_US), USUAL).worth
    old = Entries.of({10: {(NOON - 30 * MINUTE_US - WINDOW_US) // (10 * SECOND_US): 10**6}}, {10: 10_000})
    assert old.weigh(weights) == pytest.approx(0, abs=1e-6)


# Rates


def steady(per_bucket: int = 10) -> Entries:
    """As many entries in every ten seconds of twelve hours."""
    first = (NOON - 12 * HOUR_US) // (10 * SECOND_US)
    return Entries.of({10: dict.fromkeys(range(first, NOON // (10 * SECOND_US)), per_bucket)}, {10: 10_000})


def window(minutes: int = 15, usual: Baseline = USUAL) -> streams.adjusted.Due:
    return due(groups({10: 0}, NOON - minutes * MINUTE_US, NOON, WINDOW_US, by_hour=bool(usual.hours)), usual)


def test_under_steady_traffic_a_window_is_worth_what_enters_in_it() -> None:
    found = adjusted(225, steady(), window(), USUAL)
    assert found.denominator == pytest.approx(900, rel=0.001)
    assert found.expected == pytest.approx(225, rel=0.001)
    assert (found.baseline, found.rate) == (pytest.approx(0.25), pytest.approx(0.25, rel=0.001))
    assert found.ready


def test_a_rate_is_its_numerator_by_its_denominator_and_the_baseline_times_observed_by_expected() -> None:
    found = adjusted(90, steady(), window(), USUAL)
    assert found.rate == pytest.approx(found.numerator / found.denominator)
    assert found.rate == pytest.approx(USUAL.level * found.numerator / found.expected)


def test_its_limits_are_those_of_the_observed_number() -> None:
    found = adjusted(90, steady(), window(), USUAL, confidence=0.99)
    low, high = poisson_limits(90, 0.99)
    assert (found.low, found.high) == (pytest.approx(low / found.denominator), pytest.approx(high / found.denominator))


def test_a_rate_over_1_is_capped_and_says_so() -> None:
    found = adjusted(1000, steady(), window(), USUAL)
    assert (found.rate, found.capped, found.numerator) == (1, True, 1000)
    assert found.low is not None
    assert found.low <= 1 == found.high
    assert not adjusted(90, steady(), window(), USUAL).capped


def test_nothing_observed_is_a_rate_of_0_with_an_upper_limit() -> None:
    found = adjusted(0, steady(), window(), USUAL)
    assert (found.rate, found.low) == (0, 0)
    assert found.high == pytest.approx(3.6889 / found.denominator, rel=1e-4)


def test_without_a_baseline_there_is_no_rate_but_the_reason() -> None:
    found = adjusted(5, steady(), window(), NoBaseline(120, "needs 200 finished entries, has 120"))
    assert (found.ready, found.rate, found.reason) == (False, None, "needs 200 finished entries, has 120")
    assert not adjusted(5, steady(), None, USUAL).ready


@pytest.mark.parametrize("start_us", [NOON - 15 * MINUTE_US, NOON + 50 * SECOND_US])
def test_where_no_entry_was_due_there_is_no_rate(start_us: int) -> None:
    found = adjusted(0, Entries(KEPT), due(groups({10: 0}, start_us, NOON, WINDOW_US), USUAL), USUAL)
    assert (found.ready, found.reason) == (False, "no entry was due to convert in the window")


def test_a_value_is_expected_to_convert_at_its_own_level() -> None:
    found = adjusted(90, steady(), window(), replace(USUAL, level=0.1))
    assert found.expected == pytest.approx(90, rel=0.001)
    assert (found.baseline, found.rate) == (pytest.approx(0.1), pytest.approx(0.1, rel=0.001))


def test_by_hour_of_week_each_entry_counts_at_the_level_of_the_hour_it_opened_in() -> None:
    """From ten o'clock on twice as many convert; a quarter past noon most that are due opened then."""
    hours = tuple(2.0 if n >= hour_of_week(NOON - 2 * HOUR_US) else 1.0 for n in range(168))
    usual = baseline(0.2, hours)
    weights = window(15, usual)
    young = Entries.of({10: {(NOON - HOUR_US) // (10 * SECOND_US): 100}}, KEPT)
    old = Entries.of({10: {(NOON - 5 * HOUR_US) // (10 * SECOND_US): 100}}, {10: 10_000})
    assert adjusted(0, young, weights, usual).baseline == pytest.approx(0.4)
    assert adjusted(0, old, weights, usual).baseline == pytest.approx(0.2)
    assert 0.2 < (adjusted(0, steady(), weights, usual).baseline or 0) < 0.4


# Projections


def after(minutes: int, usual: Baseline = USUAL) -> streams.adjusted.Weights:
    return to_come(groups({10: 0}, NOON - minutes * MINUTE_US, NOON, WINDOW_US), usual)


def test_with_all_going_as_usual_entries_end_up_at_the_baseline() -> None:
    opened = 60 * 6 * 10
    sofar = sum(10 * 0.25 * USUAL.curve.share(n * 10 * SECOND_US + 5 * SECOND_US) for n in range(360))
    now = adjusted(900, steady(), window(60), USUAL)
    found = projected(opened, round(sofar), steady(), after(60), USUAL, now)
    assert found.rate == pytest.approx(0.25, rel=0.01)
    assert found.factor == pytest.approx(1, rel=0.001)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.25 < found.high


def test_what_is_still_to_come_comes_at_the_factor_of_now() -> None:
    usual = projected(3600, 0, steady(), after(60), USUAL, Adjusted(900, 3600, 900, 0.25, 0.25))
    broken = projected(3600, 0, steady(), after(60), USUAL, Adjusted(360, 3600, 900, 0.25, 0.1))
    assert broken.remaining / usual.remaining == pytest.approx(370 / 910)


def test_a_factor_of_little_evidence_is_drawn_towards_1() -> None:
    assert projected(3600, 0, steady(), after(60), USUAL, Adjusted(0, 8, 2, 0.25, 0.0)).factor == pytest.approx(10 / 12)
    assert projected(3600, 0, steady(), after(60), USUAL, Adjusted(0, 0, 0, 0.25)).factor == 1


def test_finished_entries_are_what_they_are() -> None:
    finished = Entries.of({10: {(NOON - WINDOW_US - HOUR_US) // (10 * SECOND_US): 1000}}, {10: 10_000})
    found = projected(1000, 240, finished, after(600), USUAL, Adjusted(90, 360, 90, 0.25, 0.25))
    assert (found.rate, found.low, found.high) == pytest.approx((0.24, 0.24, 0.24))


def test_without_entries_there_is_nothing_to_project() -> None:
    found = projected(0, 0, Entries(KEPT), after(60), USUAL, Adjusted(90, 360, 90, 0.25, 0.25))
    assert (found.rate, found.low, found.high) == (None, None, None)


# Limits


@pytest.mark.parametrize(
    ("p", "degrees", "value"),
    [  # tables of the chi-square distribution, as printed in textbooks
        (0.95, 1, 3.841),
        (0.99, 1, 6.635),
        (0.025, 2, 0.0506),
        (0.975, 2, 7.378),
        (0.05, 5, 1.145),
        (0.5, 10, 9.342),
        (0.95, 10, 18.307),
        (0.995, 10, 25.188),
        (0.005, 20, 7.434),
        (0.95, 30, 43.773),
        (0.975, 60, 83.298),
        (0.01, 100, 70.065),
        (0.99, 100, 135.807),
    ],
)
def test_quantiles_are_those_of_the_chi_square_tables(p: float, degrees: int, value: float) -> None:
    assert 2 * gamma_quantile(p, degrees / 2) == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [
        (0, 0, 3.689),
        (1, 0.025, 5.572),
        (2, 0.242, 7.225),
        (5, 1.623, 11.668),
        (10, 4.795, 18.390),
        (50, 37.111, 65.919),
        (100, 81.364, 121.627),
    ],
)
def test_limits_are_those_of_the_tables_of_the_poisson_distribution(count: int, low: float, high: float) -> None:
    assert poisson_limits(count, 0.95) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize("count", [1, 3, 17, 250, 999, 1000, 5000])
def test_at_a_limit_the_observed_number_is_just_improbable_enough(count: int, confidence: float) -> None:
    """By summing the Poisson probabilities themselves."""
    low, high = poisson_limits(count, confidence)
    tail = (1 - confidence) / 2

    def upto(most: int, mean: float) -> float:
        return math.fsum(math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(most + 1))

    rel = 1e-8 if count < 999 else 2e-3
    assert 1 - upto(count - 1, low) == pytest.approx(tail, rel=rel)
    assert upto(count, high) == pytest.approx(tail, rel=rel)


@given(st.floats(1e-3, 2000), st.floats(1e-4, 1 - 1e-4))
def test_a_quantile_leads_back_to_its_probability(shape: float, p: float) -> None:
    found = gamma_quantile(p, shape)
    assert found >= 0
    if found > 1e-290:
        assert gamma_share(found, shape) == pytest.approx(p, abs=1e-4 if shape >= 1000 else 1e-9)
