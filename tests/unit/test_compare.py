"""Comparisons: the published examples of each method, what is claimed of which basis, and what many tests cost."""

from __future__ import annotations

import random
from fractions import Fraction
from math import comb

import pytest

from schemas.report import Rate
from streams.compare import binomial_limits, binomial_test, compare, fisher, holm, judged, newcombe, score
from streams.rates import proportion, rate


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((0, 10), (0, 10), -0.2775, 0.2775),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(a: tuple[int, int], b: tuple[int, int], low: float, high: float) -> None:
    """Table II of Newcombe 1998, method 10."""
    assert newcombe(proportion(*a), proportion(*b)) == pytest.approx((low, high), abs=2e-4)


def test_fishers_test_is_that_of_the_tea_tasting_lady() -> None:
    """3 of 4 cups right on either side: 34 of 70 tables are no likelier."""
    assert fisher((3, 1), (4, 4)) == pytest.approx(34 / 70)
    assert fisher((4, 0), (4, 4)) == pytest.approx(2 / 70)


def test_fishers_test_sums_all_tables_no_likelier_than_the_one_seen() -> None:
    chance = random.Random(5)
    for _ in range(50):
        trials = chance.randint(1, 25), chance.randint(1, 25)
        successes = chance.randint(0, trials[0]), chance.randint(0, trials[1])
        both = sum(successes)
        ways = {k: comb(trials[0], k) * comb(trials[1], both - k) for k in range(both + 1)}
        seen = ways[successes[0]]
        assert fisher(successes, trials) == pytest.approx(sum(w for w in ways.values() if w <= seen) / comb(sum(trials), both))


def test_the_score_test_is_pearsons_chi_square() -> None:
    """30/100 against 45/100: chi-square 4.8, p 0.02846."""
    assert score((30, 45), (100, 100)) == pytest.approx(0.02846, abs=1e-5)
    assert score((0, 0), (100, 100)) == 1.0


def test_small_numbers_are_tested_exactly_and_great_ones_by_their_score() -> None:
    assert compare("entries", proportion(3, 10), proportion(9, 10)).test == "fisher"
    assert compare("entries", proportion(300, 1000), proportion(350, 1000)).test == "score"


def test_two_poisson_counts_are_told_apart_by_the_binomial_of_their_sum() -> None:
    """Of 10 events over equal exposures 9 on one side: p 22 ÷ 1024; the limits of 9 of 10 are 0.5550 and 0.9975."""
    assert binomial_test(9, 10, 0.5) == pytest.approx(22 / 1024)
    assert binomial_limits(9, 10, 0.95) == pytest.approx((0.5550, 0.9975), abs=1e-4)
    found = compare("adjusted", _adjusted(9, 20.0), _adjusted(1, 20.0))
    assert (found.test, found.ratio) == ("poisson", pytest.approx(9.0))
    assert found.ratio_low == pytest.approx(0.5550 / 0.4450, abs=1e-3)
    assert found.low is None


def test_exact_and_approximate_limits_of_a_share_meet() -> None:
    exact, near = binomial_limits(300, 1000, 0.95), binomial_limits(3003, 10_010, 0.95)
    assert exact == pytest.approx((0.2717, 0.3295), abs=1e-3)
    assert near == pytest.approx((0.2911, 0.3090), abs=1e-3)
    assert binomial_test(530, 1000, 0.5) == pytest.approx(binomial_test(531, 1001, 0.5), abs=0.01)


def at_most(k: int, n: int, share: Fraction) -> Fraction:
    return sum((comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k + 1)), Fraction())


def test_exact_limits_are_where_fewer_or_more_would_have_a_fortieth_chance() -> None:
    """By fractions: just inside a limit the chance is more, just outside it is less."""
    chance = random.Random(9)
    for n in (1, 2, 7, 60, 300):
        k = chance.randint(0, n)
        low, high = binomial_limits(k, n, 0.95)
        close = Fraction(1, 10**11)
        if k < n:
            assert at_most(k, n, Fraction(high) * (1 + close)) < Fraction(1, 40) < at_most(k, n, Fraction(high) * (1 - close))
        else:
            assert high == 1
        if k:
            assert 1 - at_most(k - 1, n, Fraction(low) * (1 - close)) < Fraction(1, 40) < 1 - at_most(k - 1, n, Fraction(low) * (1 + close))
        else:
            assert low == 0


def test_the_exact_test_is_twice_the_lesser_tail_by_fractions() -> None:
    chance = random.Random(2)
    for _ in range(60):
        n = chance.choice([1, 3, 20, 200])
        k, share = chance.randint(0, n), Fraction(chance.randint(1, 999), 1000)
        expected = min(Fraction(1), 2 * min(at_most(k, n, share), 1 - at_most(k - 1, n, share)))
        assert binomial_test(k, n, float(share)) == pytest.approx(float(expected), rel=1e-11)


def test_a_ratio_to_nothing_has_no_upper_end() -> None:
    found = compare("adjusted", _adjusted(5, 20.0), _adjusted(0, 20.0))
    assert (found.ratio, found.ratio_high) == (None, None)
    assert found.ratio_low is not None


def test_nothing_is_claimed_of_users() -> None:
    """A difference, and neither interval nor test."""
    found = compare("users", rate(30, 100), rate(45, 100))
    assert found.difference == pytest.approx(-0.15)
    assert (found.low, found.p, found.test) == (None, None, "")


@pytest.mark.parametrize("basis", ["users", "entries", "adjusted"])
def test_a_side_without_a_rate_is_compared_with_nothing(basis: str) -> None:
    found = compare(basis, proportion(3, 10), rate(0, 0))
    assert (found.difference, found.p) == (None, None)


def test_holms_p_values_are_those_of_his_procedure() -> None:
    """The smallest times m, the next times m − 1, never falling, at most 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_of_many_equal_values_hardly_any_is_called_different() -> None:
    """Twenty values of the same rate, two hundred times: one false finding or more in about 5% of them, not in 64%."""
    chance = random.Random(11)
    false = 0
    for _ in range(200):
        pairs = [[(_drawn(chance), _drawn(chance))] for _ in range(20)]
        steps, tests = judged(["pay"], pairs, "entries")
        assert tests == 20
        false += any(step.significant for row in steps for step in row)
    assert false <= 20


def test_a_difference_that_is_there_is_found() -> None:
    steps, tests = judged(["pay"], [[(proportion(200, 1000), proportion(300, 1000))], [(rate(0, 0), proportion(300, 1000))]], "entries")
    assert tests == 1
    found, nothing = steps[0][0], steps[1][0]
    assert found.significant
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.1 < found.high < 0
    assert (nothing.significant, nothing.p_adjusted) == (None, None)


def _drawn(chance: random.Random) -> Rate:
    return proportion(sum(chance.random() < 0.3 for _ in range(100)), 100)


def _adjusted(observed: int, worth: float) -> Rate:
    return Rate(numerator=observed, denominator=worth, rate=min(1.0, observed / worth))
