"""When counts prove a rate too low, when they show it back, and when they prove nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.conditions import judge, wilson_upper
from tests.parts.alerts import rule


@pytest.mark.parametrize(
    ("successes", "trials", "confidence", "upper"),
    [
        (10, 100, 0.975, 0.17437),  # the upper end of the two-sided 95% interval
        (0, 30, 0.95, 0.08272),  # z² ÷ (n + z²)
        (30, 30, 0.95, 1.0),
        (12, 48, 0.5, 0.25),  # z = 0 leaves the proportion itself
    ],
)
def test_the_upper_bound_is_wilsons(successes: int, trials: int, confidence: float, upper: float) -> None:
    assert wilson_upper(successes, trials, confidence) == pytest.approx(upper, abs=1e-5)


@given(trials=st.integers(1, 10**9), data=st.data(), confidence=st.floats(0.5, 0.999))
def test_the_upper_bound_lies_between_the_proportion_and_1(trials: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, trials))
    upper = wilson_upper(successes, trials, confidence)
    assert successes / trials - 1e-12 <= upper <= 1 + 1e-12


@given(rate=st.floats(0.05, 0.95), fewer=st.integers(20, 1000), more=st.integers(2, 100))
def test_the_same_rate_proves_more_with_more_users(rate: float, fewer: int, more: int) -> None:
    successes = int(fewer * rate)
    assert wilson_upper(successes * more, fewer * more, 0.95) < wilson_upper(successes, fewer, 0.95)


def test_a_low_rate_among_many_is_a_breach() -> None:
    verdict = judge(rule(), 100, 812)
    assert (verdict.outcome, verdict.numerator, verdict.denominator) == ("breach", 100, 812)
    assert verdict.rate == 100 / 812
    assert verdict.upper is not None
    assert 100 / 812 < verdict.upper < 0.40


def test_a_low_rate_that_may_be_chance_is_no_breach() -> None:
    assert judge(rule(), 9, 30).outcome == "healthy"
    assert judge(rule(confidence=0.5), 9, 30).outcome == "breach"


@pytest.mark.parametrize("numerator", [0, 5, 29])
def test_too_few_entrants_prove_nothing(numerator: int) -> None:
    verdict = judge(rule(min_entrants=30), numerator, 29)
    assert (verdict.outcome, verdict.upper) == ("unknown", None)
    assert judge(rule(min_entrants=30), 0, 30).outcome == "breach"


def test_nobody_is_not_a_rate_of_0() -> None:
    verdict = judge(rule(min_entrants=1), 0, 0)
    assert (verdict.outcome, verdict.rate) == ("unknown", None)


def test_more_conversions_than_entrants_are_a_rate_over_1_but_no_more_evidence_than_all() -> None:
    verdict = judge(rule(), 50, 40)
    assert (verdict.outcome, verdict.rate, verdict.upper) == ("recovered", 1.25, 1.0)
    assert judge(rule(below=1.0, recover_above=1.0), 50, 40).outcome == "recovered"


@pytest.mark.parametrize(("numerator", "outcome"), [(399, "healthy"), (400, "healthy"), (449, "healthy"), (450, "recovered")])
def test_between_below_and_recover_above_it_is_healthy_but_not_recovered(numerator: int, outcome: str) -> None:
    assert judge(rule(below=0.40, recover_above=0.45), numerator, 1000).outcome == outcome


def test_without_recover_above_the_threshold_itself_is_recovery() -> None:
    assert judge(rule(below=0.40, recover_above=None), 400, 1000).outcome == "recovered"
