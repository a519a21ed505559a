"""[pure] Between which limits a rate lies for sure, by how much was seen."""

from __future__ import annotations

from functools import lru_cache
from math import exp, lgamma, log, log1p, sqrt
from statistics import NormalDist

from alerting.samples import Sample
from streams.adjusted import poisson_limits

EXACT_BELOW = 40  # trials; fewer have the exact binomial limits, more have Wilson's


def bounds(sample: Sample, basis: str, confidence: float) -> tuple[float, float]:
    """The one-sided limits of a rate, each at `confidence`; the sample is not empty.

    users and entries: of min(numerator, denominator) out of the denominator, exact below EXACT_BELOW,
    Wilson's from there on. adjusted: the exact Poisson limits ÷ worth.
    """
    if basis == "adjusted":
        low, high = poisson_limits(sample.numerator, 2 * confidence - 1)
        return low / sample.denominator, high / sample.denominator
    # Whoever entered before the window and converted within it lets the ratio pass 1; evidence cannot.
    trials = round(sample.denominator)
    successes = min(sample.numerator, trials)
    if trials < EXACT_BELOW:
        return 1 - exact_upper(trials - successes, trials, confidence), exact_upper(successes, trials, confidence)
    return wilson(successes / trials, trials, confidence)


def wilson(rate: float, trials: float, confidence: float) -> tuple[float, float]:
    """Both ends of the one-sided Wilson score intervals of a proportion; `trials` above 0.

    With p the rate, n = trials and z the normal quantile of `confidence`:

        (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) ÷ (1 + z²/n)

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22 (1927), 209-212. L. D. Brown, T. T. Cai and
    A. DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16 (2001),
    101-133, recommend it for small n, where the textbook interval is far too narrow.
    """
    z = _quantile(confidence)
    middle = rate + z * z / (2 * trials)
    spread = z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # Rounding can carry the limits of 0 and of n out of n past 0 and 1.
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


@lru_cache(maxsize=256)
def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(confidence)


@lru_cache(maxsize=65_536)
def exact_upper(successes: int, trials: int, confidence: float) -> float:
    """The upper end of the exact one-sided interval: at what rate so few successes have the chance 1 - confidence.

    C. J. Clopper and E. S. Pearson, Biometrika 26 (1934), 404-413.
    """
    if successes >= trials:
        return 1.0
    low, high = successes / trials, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(successes, trials, middle) > 1 - confidence else (low, middle)
    return (low + high) / 2


def _at_most(successes: int, trials: int, rate: float) -> float:
    if rate >= 1:
        return 0.0
    if rate <= 0:
        return 1.0
    start, odds = lgamma(trials + 1) + trials * log1p(-rate), log(rate) - log1p(-rate)
    return sum(exp(start + k * odds - lgamma(k + 1) - lgamma(trials - k + 1)) for k in range(successes + 1))
