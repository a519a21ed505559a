"""Between which limits a rate lies for sure."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.bounds import EXACT_BELOW, bounds, exact_upper, wilson
from alerting.samples import Sample


@pytest.mark.parametrize(
    ("successes", "trials", "confidence", "upper"),
    [
        (10, 100, 0.975, 0.17437),  # the upper end of the two-sided 95% interval
        (0, 30, 0.95, 0.08272),  # z² ÷ (n + z²)
        (30, 30, 0.95, 1.0),
        (12, 48, 0.5, 0.25),  # z = 0 leaves the proportion itself
    ],
)
def test_the_upper_bound_of_many_is_wilsons(successes: int, trials: int, confidence: float, upper: float) -> None:
    assert wilson(successes / trials, trials, confidence)[1] == pytest.approx(upper, abs=1e-5)
    assert wilson(1 - successes / trials, trials, confidence)[0] == pytest.approx(1 - upper, abs=1e-5)


@given(trials=st.integers(1, EXACT_BELOW - 1), data=st.data(), confidence=st.floats(0.5, 0.999))
def test_the_upper_bound_of_few_is_where_so_few_successes_are_as_unlikely_as_asked(
    trials: int, data: st.DataObject, confidence: float
) -> None:
    successes = data.draw(st.integers(0, trials - 1))
    upper = exact_upper(successes, trials, confidence)
    chance = sum(comb(trials, k) * upper**k * (1 - upper) ** (trials - k) for k in range(successes + 1))
    assert chance == pytest.approx(1 - confidence, abs=1e-9)


@given(trials=st.integers(1, 10**9), data=st.data(), confidence=st.floats(0.5, 0.999))
def test_the_rate_lies_between_its_bounds_and_they_between_0_and_1(trials: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, trials))
    low, upper = bounds(Sample(successes, trials, 300), "users", confidence)
    rate = successes / trials
    # At even odds the exact limits of a few lie to either side of the median, which is not the rate.
    slack = 0.05 if trials < EXACT_BELOW and confidence < 0.7 else 1e-9
    assert 0 <= low <= rate + slack
    assert rate - slack <= upper <= 1


@given(rate=st.floats(0.05, 0.95), fewer=st.integers(20, 1000), more=st.integers(2, 100))
def test_the_same_rate_proves_more_with_more_users(rate: float, fewer: int, more: int) -> None:
    successes = int(fewer * rate)
    low, upper = bounds(Sample(successes, fewer, 300), "users", 0.95)
    tighter = bounds(Sample(successes * more, fewer * more, 300), "users", 0.95)
    assert upper > tighter[1]
    assert low < tighter[0] or low == tighter[0] == 0


@given(trials=st.integers(1, 200), data=st.data(), less=st.floats(0.5, 0.99), more=st.floats(0.5, 0.99))
def test_more_confidence_asks_for_wider_limits(trials: int, data: st.DataObject, less: float, more: float) -> None:
    sample = Sample(data.draw(st.integers(0, trials)), trials, 300)
    less, more = sorted((less, more))
    narrow, wide = bounds(sample, "entries", less), bounds(sample, "entries", more)
    assert wide[0] <= narrow[0] + 1e-9
    assert wide[1] >= narrow[1] - 1e-9


@given(trials=st.integers(1, 200), data=st.data())
def test_one_more_success_raises_both_limits(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials - 1))
    before, after = (bounds(Sample(k, trials, 300), "users", 0.95) for k in (successes, successes + 1))
    assert after[0] > before[0] or before[0] == 0
    assert after[1] >= before[1]


def test_more_conversions_than_entrants_are_no_more_evidence_than_all() -> None:
    assert bounds(Sample(80, 40, 300), "users", 0.95) == bounds(Sample(40, 40, 300), "users", 0.95)


def test_of_adjusted_rates_the_limits_are_those_of_a_poisson_count() -> None:
    low, high = bounds(Sample(10, 50.0, 300), "adjusted", 0.975)
    assert (low, high) == pytest.approx((4.7954 / 50, 18.3904 / 50), abs=1e-5)  # Garwood's table for 10
    assert bounds(Sample(0, 50.0, 300), "adjusted", 0.95) == pytest.approx((0.0, 2.9957 / 50), abs=1e-5)
