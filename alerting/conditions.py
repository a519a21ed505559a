"""[pure] A rule and two counts make a verdict: is the rate proven to be too low?"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Literal

from schemas.rule import Rule

Outcome = Literal["breach", "healthy", "recovered", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """What the counts of one window say about a rule.

    breach: even the upper bound of the rate is under `below`. recovered: the rate has reached the
    rule's recovery. healthy: neither is shown. unknown: too few entrants to say anything.
    """

    outcome: Outcome
    numerator: int
    denominator: int
    rate: float | None
    upper: float | None


def judge(rule: Rule, numerator: int, denominator: int) -> Verdict:
    """The verdict on `numerator` users at the rule's stage, of `denominator` at the stage before."""
    rate = numerator / denominator if denominator else None
    if rate is None or denominator < rule.min_entrants:
        return Verdict("unknown", numerator, denominator, rate, None)
    # Whoever entered before the window and converted within it lets the ratio pass 1; evidence cannot.
    upper = wilson_upper(min(numerator, denominator), denominator, rule.confidence)
    return Verdict(_outcome(rule, rate, upper), numerator, denominator, rate, upper)


def _outcome(rule: Rule, rate: float, upper: float) -> Outcome:
    if upper < rule.below:
        return "breach"
    return "recovered" if rate >= rule.recovery else "healthy"


def wilson_upper(successes: int, trials: int, confidence: float) -> float:
    """The upper end of the one-sided Wilson score interval of a proportion; `trials` at least 1.

    With p = successes ÷ trials, n = trials and z the normal quantile of `confidence`:

        (p + z²/2n + z √(p(1 - p)/n + z²/4n²)) ÷ (1 + z²/n)

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22 (1927), 209-212. L. D. Brown, T. T. Cai and
    A. DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16 (2001),
    101-133, recommend it for small n, where the textbook interval is far too narrow.
    """
    z = NormalDist().inv_cdf(confidence)
    p, n = successes / trials, trials
    spread = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding can carry the bound of n out of n past 1.
    return min(1.0, (p + z * z / (2 * n) + spread) / (1 + z * z / n))
