"""[pure] Whether two rates differ by more than chance would have it, and how much.

Finished entries are two proportions: the difference has Newcombe's interval, the test is Fisher's exact
one where numbers are small, and the score test elsewhere. Age-adjusted rates are two Poisson counts over
what was due: their ratio, by the binomial that is left once their sum is known. Of `users` nothing is
claimed: they are no proportion. Where several are tested, p-values are Holm's.

R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in
Medicine 17 (1998), 873-890, method 10. J. Przyborowski and H. Wilenski, Biometrika 31 (1940), 313-323.
S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
(1979), 65-70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, exp, inf, lgamma, log, log1p, sqrt
from statistics import NormalDist

from schemas.history import StepComparison
from schemas.report import Rate
from streams.rates import CONFIDENCE

LEVEL = 0.05
EXPECTED_MIN = 5.0  # of each cell of the table, for the score test: Cochran, Biometrics 10 (1954)
EXACT_MAX = 1000  # events of two Poisson counts; from here on the normal approximation is within 0.1% of the limits
TIES = 1 + 1e-7  # tables as unlikely as the one seen, but for rounding
NEWTON_STEPS = 60
CLOSE, NEGLIGIBLE = 1e-14, 1e-18


@dataclass(frozen=True)
class Found:
    """What is said of two rates. `test` is empty where nothing is claimed."""

    difference: float | None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    p: float | None = None
    test: str = ""


def compare(basis: str, a: Rate, b: Rate) -> Found:
    """Two rates of the same step on a basis."""
    if a.rate is None or b.rate is None:
        return Found(None)
    if basis == "entries":
        return _proportions(a, b)
    if basis == "adjusted":
        return _counts(a, b)
    return Found(a.rate - b.rate)


def judged(stages: Sequence[str], pairs: Sequence[Sequence[tuple[Rate, Rate]]], basis: str) -> tuple[list[list[StepComparison]], int]:
    """For each pair of sides the steps compared, significant or not over all of them; and how many tests that were."""
    found = [[compare(basis, a, b) for a, b in steps] for steps in pairs]
    tested = [one.p for steps in found for one in steps if one.p is not None]
    corrected = iter(holm(tested))
    out: list[list[StepComparison]] = []
    for steps, of_steps in zip(pairs, found):
        row: list[StepComparison] = []
        for stage, (a, b), one in zip(stages, steps, of_steps):
            adjusted = None if one.p is None else next(corrected)
            row.append(
                StepComparison(
                    stage=stage,
                    a=a,
                    b=b,
                    **vars(one),
                    p_adjusted=adjusted,
                    significant=None if adjusted is None else adjusted <= LEVEL,
                )
            )
        out.append(row)
    return out, len(tested)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values such that those up to a level are false together with no more than its chance."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    out, greatest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[place]))
        out[place] = greatest
    return out


# Two proportions


def _proportions(a: Rate, b: Rate) -> Found:
    successes, trials = (a.numerator, b.numerator), (int(a.denominator), int(b.denominator))
    low, high = newcombe(a, b)
    total, both = sum(trials), sum(successes)
    least = min(trials) * min(both, total - both) / total
    test, p = ("fisher", fisher(successes, trials)) if least < EXPECTED_MIN else ("score", score(successes, trials))
    assert a.rate is not None
    assert b.rate is not None
    return Found(a.rate - b.rate, low, high, p=p, test=test)


def newcombe(a: Rate, b: Rate) -> tuple[float, float]:
    """The interval of the difference of two proportions that have Wilson's intervals."""
    assert a.rate is not None
    assert b.rate is not None
    a_low, a_high, b_low, b_high = (0.0 if limit is None else limit for limit in (a.low, a.high, b.low, b.high))
    difference = a.rate - b.rate
    below = sqrt((a.rate - a_low) ** 2 + (b_high - b.rate) ** 2)
    above = sqrt((a_high - a.rate) ** 2 + (b.rate - b_low) ** 2)
    return max(-1.0, difference - below), min(1.0, difference + above)


def score(successes: tuple[int, int], trials: tuple[int, int]) -> float:
    """Two-sided p-value of the score test of equal proportions, which is Pearson's chi-square."""
    pooled = sum(successes) / sum(trials)
    spread = sqrt(pooled * (1 - pooled) * (1 / trials[0] + 1 / trials[1]))
    return 1.0 if not spread else normal_tails((successes[0] / trials[0] - successes[1] / trials[1]) / spread)


def fisher(successes: tuple[int, int], trials: tuple[int, int]) -> float:
    """Two-sided p-value of Fisher's exact test: the chance of all tables no likelier than the one seen."""
    (first, second), both = trials, sum(successes)
    tables = range(max(0, both - second), min(both, first) + 1)
    # Each is C(first, k) × C(second, both − k) ÷ C(first + second, both), in logarithms.
    same = lgamma(first + 1) + lgamma(second + 1) - _choose(first + second, both)
    chances = [exp(same - lgamma(k + 1) - lgamma(first - k + 1) - lgamma(both - k + 1) - lgamma(second - both + k + 1)) for k in tables]
    seen = chances[successes[0] - tables.start] * TIES
    return min(1.0, sum(chance for chance in chances if chance <= seen))


def _choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def normal_tails(z: float) -> float:
    """The chance of a standard normal value at least as far from 0."""
    return erfc(abs(z) / sqrt(2))


# Two Poisson counts


def _counts(a: Rate, b: Rate) -> Found:
    assert a.rate is not None
    assert b.rate is not None
    events, share = a.numerator + b.numerator, a.denominator / (a.denominator + b.denominator)
    if not events:
        return Found(0.0, p=1.0, test="poisson")
    odds = share / (1 - share)  # of a, if the rates are the same
    low, high = binomial_limits(a.numerator, events, CONFIDENCE)
    return Found(
        a.rate - b.rate,
        ratio=None if not b.numerator else a.numerator / b.numerator / odds,
        ratio_low=low / (1 - low) / odds if low < 1 else None,
        ratio_high=high / (1 - high) / odds if high < 1 else None,
        p=binomial_test(a.numerator, events, share),
        test="poisson",
    )


def binomial_test(k: int, n: int, share: float) -> float:
    """Two-sided p-value of k out of n at a share: twice the lesser tail; by the normal distribution for great n."""
    if n > EXACT_MAX:
        return normal_tails((k - n * share) / sqrt(n * share * (1 - share)))
    return min(1.0, 2 * min(_at_most(k, n, share), _at_most(n - k, n, 1 - share)))


def binomial_limits(k: int, n: int, confidence: float) -> tuple[float, float]:
    """Two-sided limits of a share: exact (Clopper and Pearson, Biometrika 26, 1934), Wilson's for great n."""
    if n > EXACT_MAX:
        return _wilson(k, n, confidence)
    tail = (1 - confidence) / 2
    return 1 - _upper(n - k, n, tail), _upper(k, n, tail)


def _wilson(k: int, n: int, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = k / n
    middle, scale = p + z * z / (2 * n), 1 + z * z / n
    spread = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def _upper(k: int, n: int, tail: float) -> float:
    """At which share k or fewer out of n have the chance `tail`: by Newton's method on its logarithm, kept between bounds."""
    if k >= n:
        return 1.0
    low, share, high = k / n, _wilson(k, n, 1 - 2 * tail)[1], 1.0
    for _ in range(NEWTON_STEPS):
        chance, of_k = _lesser_tail(k, n, share)
        miss = log(chance / tail) if chance else -inf
        low, high = (share, high) if miss > 0 else (low, share)
        step = miss * chance * (1 - share) / ((n - k) * of_k) if of_k else inf
        if abs(step) <= CLOSE * share:
            return share + step
        share = share + step if low < share + step < high else (low + high) / 2
    return share


def _at_most(k: int, n: int, share: float) -> float:
    if k < 0:
        return 0.0
    if k >= n or share <= 0:
        return 1.0
    return _lesser_tail(k, n, share)[0] if k < n * share else 1 - _lesser_tail(n - k - 1, n, 1 - share)[0]


def _lesser_tail(k: int, n: int, share: float) -> tuple[float, float]:
    """The chance of k or fewer, where k is less than is to be expected, and that of k: each fewer is less likely than the one before."""
    if not 0 < share < 1:
        return 0.0, 0.0
    total = chance = of_k = exp(_choose(n, k) + k * log(share) + (n - k) * log1p(-share))
    odds = (1 - share) / share
    for i in range(k, 0, -1):
        chance *= i / (n - i + 1) * odds
        total += chance
        if chance < NEGLIGIBLE * total:
            break
    return total, of_k
