"""[pure] The sequential detector: evidence for a worse rate added up bucket by bucket (CUSUM, Page 1954).

A closed bucket with k conversions of n entrants adds the logarithm of how much likelier it is at the rate
worth catching, p1 = threshold × (1 - effect), than at the threshold p0:

    users, entries    k ln(p1/p0) + (n - k) ln((1 - p1)/(1 - p0))      Bernoulli
    adjusted          k ln ρ - n p0 (ρ - 1),  ρ = p1/p0                Poisson; n is the worth of what was due

and the score is never less than 0. The alarm is at a limit. Buckets that late events may still change are
added on top of those that are settled, anew at every evaluation, so that order of arrival does not matter.

The limit. Where a bucket has the usual rate u, there is one θ > 0 with E exp(θ × increment) = 1 (Wald), and
exp(θ × increment) is then itself a likelihood ratio: of u against the rate u' that tilting by it gives. So
the detector with limit h is the CUSUM of u against u' with limit θh, whose mean time to a false alarm is

    exp(θh) ÷ (I ν²) buckets,   I ν² = exp(-2 Σ over m of (P(S_m > 0 | u) + P(S_m ≤ 0 | u')) ÷ m) ÷ I,

I being the mean of θ × increment at u', S_m the sum of m of them and ν the mean of exp(-overshoot) (D. Siegmund,
Sequential Analysis, 1985; A. Tartakovsky, I. Nikiforov and M. Basseville, Sequential Analysis, 2014); the
tests hold it against an exact Markov chain. It is solved for h at the wanted run length. Nobody can find a fall to q sooner
than in about ln(run length) ÷ KL(q, u) entrants (G. Lorden, Annals of Mathematical Statistics 42, 1971).

No limit can both find a fall within that and stay silent for as long at a rate just at the threshold: it
is the usual rate at which false pages are that rare. It is learned; while nothing is known of it, the
threshold itself is taken for it, and detection takes up to half as long again. At the threshold itself an
alarm comes once in a hundredth of the run length at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, erfc, exp, expm1, floor, lgamma, log, log1p, log2, pi, sqrt
from typing import Literal

from schemas.duration import MICROS

Phase = Literal["watching", "alarmed", "clearing"]

AT_THRESHOLD = 100  # run lengths: at the threshold itself the mean time to an alarm is a hundredth of that asked for
CAP = 1.1  # of the limit: the score goes no higher, so that it comes down soon
CLEAR = 0.5  # of the limit: what the score of an alarm must come down to
SAFETY = 2  # run lengths are aimed for, since traffic is not quite by chance alone, and one is the promise
TRAFFIC_HALF_LIFE = 360  # buckets
FADE = 0.5 ** (1 / TRAFFIC_HALF_LIFE)
RATE_MIN, RATE_MAX = 1e-6, 1 - 1e-6
RATE_LEAST = 1e-12  # of a rate that tilting gives
LIMIT_MIN = 1.0  # of θh: e to 1
TRAFFIC_MIN = 1e-3  # entrants a bucket
SINGLE = 64  # terms of Spitzer's sum that are taken one by one
EXACT_BELOW = 64  # entrants


@dataclass(frozen=True)
class Steps:
    """Closed buckets, one after the other from `start_us`: conversions and entrants (or worth) of each."""

    start_us: int
    width_seconds: int
    counts: Sequence[tuple[int, float]]
    settled: int  # so many of the first can change no more


@dataclass(frozen=True)
class Run:
    """Evidence added up to a moment, since when, and of how many entrants."""

    at_us: int
    score: float = 0.0
    began_us: int | None = None  # of the first bucket since the score was 0
    entrants: float = 0.0  # since then


@dataclass(frozen=True)
class DetectorState:
    """What is carried to the next evaluation."""

    score: float
    limit: float
    phase: Phase
    began_us: int | None  # since when there is evidence: the likeliest beginning of the fall (or rise)
    entrants: float  # since then
    seen_us: int  # the end of the last bucket
    settled: Run  # the same, without the buckets that late events may still change
    width_seconds: int
    basis: str
    traffic: float = 0.0  # Σ entrants of past buckets, each weighing half as much `TRAFFIC_HALF_LIFE` later
    buckets: float = 0.0  # Σ of those weights
    usual_rate: float | None = None  # what the limit is made for, and what that rests on
    usual_entrants: float = 0.0
    usual_asked: int = -1  # when it was last looked for, see `samples.Hours.asked`

    def cleared(self) -> DetectorState:
        """Without evidence, after all that was seen."""
        return replace(self, score=0.0, began_us=None, entrants=0.0, phase="watching", settled=Run(self.seen_us))


@dataclass(frozen=True)
class Watch:
    """What a rule asks of the detector at an evaluation."""

    threshold: float
    effect: float
    rises: bool
    run_seconds: int
    entrants_min: int
    usual: float | None  # on the safe side of what is known


@dataclass(frozen=True)
class Evidence:
    """What an outcome adds to the score: `hit` a conversion, `entrant` an entrant (or a unit of worth)."""

    hit: float
    entrant: float
    poisson: bool
    threshold: float
    worse: float

    def of(self, conversions: int, entrants: float) -> float:
        return self.hit * conversions + self.entrant * entrants


@lru_cache(maxsize=4096)
def evidence(threshold: float, effect: float, *, rises: bool, poisson: bool) -> Evidence:
    """The log likelihood ratio of threshold × (1 ∓ effect) to the threshold."""
    p0 = min(max(threshold, RATE_MIN), RATE_MAX)
    p1 = min(max(p0 * (1 + effect if rises else 1 - effect), RATE_MIN / 2), 1 - RATE_MIN / 2)
    if poisson:
        return Evidence(log(p1 / p0), p0 - p1, True, p0, p1)
    miss = log1p(-p1) - log1p(-p0)
    return Evidence(log(p1 / p0) - miss, miss, False, p0, p1)


def resume(before: DetectorState | None, basis: str, width_seconds: int, end_us: int) -> Run | None:
    """The settled evidence to go on from, where the state is about buckets of that kind before `end_us`."""
    if before is None or (before.basis, before.width_seconds) != (basis, width_seconds) or before.settled.at_us > end_us:
        return None
    return before.settled


Added = tuple[float, int | None, float]  # score, since when, and entrants since then: what a run is but for its end


def add(of: Evidence, before: Added, at_us: int, conversions: int, came: float, cap: float) -> Added:
    """Add a bucket that begins at `at_us`."""
    score, began_us, entrants = before
    added = of.hit * conversions + of.entrant * came
    score += added
    if score <= 0:
        return 0.0, None, 0.0
    if not added:
        return score, began_us, entrants
    return min(score, cap), at_us if began_us is None else began_us, entrants + came


def fold(of: Evidence, run: Run, width_seconds: int, counts: Iterable[tuple[int, float]], cap: float) -> Run:
    """Add buckets to a run, the first of which begins where it ends."""
    now: Added = run.score, run.began_us, run.entrants
    at_us, width_us = run.at_us, width_seconds * MICROS
    for conversions, came in counts:
        now = add(of, now, at_us, conversions, came, cap)
        at_us += width_us
    return Run(at_us, *now)


def watch(
    asked: Watch, basis: str, steps: Steps, before: DetectorState | None, usual: tuple[float | None, float, int] = (None, 0.0, -1)
) -> DetectorState:
    """The detector after more buckets; `usual` (rate, entrants, when it was looked for) is kept with it."""
    end_us = steps.start_us + len(steps.counts) * steps.width_seconds * MICROS
    run = resume(before, basis, steps.width_seconds, end_us)
    goes_on = None if run is None else before
    if run is None or run.at_us != steps.start_us:  # after a gap too long to make up
        run = Run(steps.start_us) if run is None else replace(run, at_us=steps.start_us)
    settled, open_ = steps.counts[: steps.settled], steps.counts[steps.settled :]
    traffic, buckets = (goes_on.traffic, goes_on.buckets) if goes_on else (0.0, 0.0)
    traffic, buckets = passed(traffic, buckets, settled)
    seen = traffic / buckets if buckets else sum(n for _, n in open_) / max(1, len(open_))
    of = evidence(asked.threshold, asked.effect, rises=asked.rises, poisson=basis == "adjusted")
    at = limit(of, asked.usual, seen, steps.width_seconds, asked.run_seconds)
    run = fold(of, run, steps.width_seconds, settled, CAP * at)
    now = fold(of, run, steps.width_seconds, open_, CAP * at) if open_ else run
    phase = _phase("watching" if goes_on is None else goes_on.phase, now, at, asked.entrants_min)
    return DetectorState(
        now.score, at, phase, now.began_us, now.entrants, end_us, run, steps.width_seconds, basis, traffic, buckets, *usual
    )


def passed(traffic: float, buckets: float, settled: Iterable[tuple[int, float]]) -> tuple[float, float]:
    """The traffic after more settled buckets: Σ entrants and Σ weights. What was before anybody came is none."""
    for _, entrants in settled:
        if buckets or entrants:
            traffic, buckets = traffic * FADE + entrants, buckets * FADE + 1
    return traffic, buckets


def _phase(before: Phase, now: Run, at: float, entrants_min: int) -> Phase:
    """An alarm lasts until half of the evidence is gone, so that it does not flicker at the limit."""
    if now.score >= at and now.entrants >= entrants_min:
        return "alarmed"
    return "clearing" if before == "alarmed" and now.score <= CLEAR * at else before


# The limit


@dataclass(frozen=True)
class Tilted:
    """The test as one of the usual rate u against the rate u' that it is the best test of, in steps of `size` entrants."""

    theta: float
    rate: float  # u
    other: float  # u'
    hit: float  # θ × evidence
    entrant: float
    size: float
    poisson: bool

    def information(self) -> float:
        """The mean of a step at u'."""
        return self.size * (self.hit * self.other + self.entrant)


def tilt(of: Evidence, usual: float, size: float) -> Tilted:
    """Where E exp(θ × evidence) = 1 at the usual rate. Raises ValueError at a rate at which evidence grows by itself."""
    theta = _root(of, usual)
    other = min(max(usual * exp(theta * (of.hit + (0.0 if of.poisson else of.entrant))), RATE_LEAST), 1 - RATE_LEAST)
    return Tilted(theta, usual, other, theta * of.hit, theta * of.entrant, size, of.poisson)


def _root(of: Evidence, usual: float) -> float:
    if of.hit * usual + of.entrant >= 0:
        raise ValueError(f"at a rate of {usual} the evidence for a rate of {of.worse} does not shrink")

    def moment(theta: float) -> float:
        if of.poisson:
            return usual * expm1(theta * of.hit) + theta * of.entrant
        return usual * expm1(theta * (of.hit + of.entrant)) + (1 - usual) * expm1(theta * of.entrant)

    high = 1.0
    while moment(high) < 0:
        high *= 2
    low = 0.0 if high == 1.0 else high / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if moment(middle) < 0 else (low, middle)
    return (low + high) / 2


def limit(of: Evidence, usual: float | None, traffic: float, width_seconds: int, run_seconds: int) -> float:
    """The score at which to alarm: at the usual rate it is reached once in the run length, at `traffic` entrants a bucket.

    `usual` is None while nothing is known of it; it counts as the threshold then, and where it is beyond it.
    """
    size = 2 ** (size_class(traffic) / 4)
    buckets = SAFETY * run_seconds / width_seconds
    rises = of.worse > of.threshold
    safe = of.threshold if usual is None else min(of.threshold, usual) if rises else max(of.threshold, usual)
    asked = _limit(of, _rounded(min(max(safe, RATE_MIN), RATE_MAX), up=rises), size, buckets)
    return max(asked, _limit(of, of.threshold, size, buckets / AT_THRESHOLD))


def size_class(traffic: float) -> int:
    """Traffic in steps of a quarter of a doubling, upward, so that few limits have to be found."""
    return ceil(4 * log2(max(traffic, TRAFFIC_MIN)))


def traffic_of(size: int) -> tuple[float, float]:
    """Between which traffic a class lies; the least has all that is less."""
    least = 2 ** ((size - 1) / 4)
    return -1.0 if least < TRAFFIC_MIN else least, 2 ** (size / 4)


def _rounded(rate: float, *, up: bool) -> float:
    """To three digits, towards the threshold."""
    unit = 10.0 ** (floor(log(rate) / log(10)) - 2)
    return min(RATE_MAX, (ceil(rate / unit - 1e-9) if up else floor(rate / unit + 1e-9)) * unit)


@lru_cache(maxsize=16_384)
def _limit(of: Evidence, usual: float, size: float, buckets: float) -> float:
    """Where size is less than an entrant a bucket, a step is one entrant, since only they are looks."""
    try:
        of_one = tilt(of, usual, max(1.0, size))
    except ValueError:  # rounding put it past the threshold
        of_one = tilt(of, of.threshold, max(1.0, size))
    return _reach(buckets * min(1.0, size) * alarm_rate(of_one)) / of_one.theta


def _reach(wanted: float) -> float:
    """x with exp(x) - x - 1 = wanted, LIMIT_MIN at least; the two last terms are what is lost by starting at 0."""
    x = LIMIT_MIN
    for _ in range(100):
        following = max(LIMIT_MIN, log(wanted + x + 1))
        if abs(following - x) < 1e-9:
            break
        x = following
    return x


def alarm_rate(of: Tilted) -> float:
    """I ν², by Spitzer's sum."""
    return exp(-2 * sum(weight * _wrong(of, count) for weight, count in _terms(of))) / of.information()


def _terms(of: Tilted) -> list[tuple[float, float]]:
    """(weight, number of steps): each number up to SINGLE, then blocks of them; as far as chance can be wrong."""
    spread = _cumulants(of, of.rate)[1] / (of.hit * of.rate + of.entrant) ** 2 / of.size
    last = 2 * SINGLE + 40 * spread
    found = [(1 / count, float(count)) for count in range(1, SINGLE + 1)]
    start = SINGLE + 0.5
    while start < last:
        end = start * 1.1
        found.append((log(end / start), sqrt(start * end)))
        start = end
    return found


def _wrong(of: Tilted, count: float) -> float:
    """P(S > 0) at u + P(S ≤ 0) at u', S being the sum of so many steps."""
    return _above_0(of, of.rate, count * of.size) + 1 - _above_0(of, of.other, count * of.size)


def _above_0(of: Tilted, rate: float, entrants: float) -> float:
    """The chance that evidence of so many entrants is above 0."""
    if entrants <= EXACT_BELOW:
        if of.poisson:
            return _poisson_above_0(of, rate * entrants, entrants)
        return _binomial_above_0(of, rate, round(entrants)) if of.size == 1 else _mixed_above_0(of, rate, entrants)
    mean, variance, third = _cumulants(of, rate)
    x = -mean * sqrt(entrants / variance)  # Edgeworth's expansion, to the skewness
    skewness = third / sqrt(entrants * variance**3)
    density = exp(-x * x / 2) / sqrt(2 * pi)
    return min(1.0, max(0.0, erfc(x / sqrt(2)) / 2 + skewness / 6 * (x * x - 1) * density))


def _cumulants(of: Tilted, rate: float) -> tuple[float, float, float]:
    """Mean, variance and third cumulant of the evidence of one entrant."""
    mean = of.hit * rate + of.entrant
    if of.poisson:
        return mean, of.hit**2 * rate, of.hit**3 * rate
    if of.size == 1:
        return mean, of.hit**2 * rate * (1 - rate), of.hit**3 * rate * (1 - rate) * (1 - 2 * rate)
    reached = of.hit + of.entrant  # a bucket has a Poisson number of entrants
    return mean, rate * reached**2 + (1 - rate) * of.entrant**2, rate * reached**3 + (1 - rate) * of.entrant**3


def _poisson_above_0(of: Tilted, mean: float, entrants: float) -> float:
    edge, above = -of.entrant * entrants / of.hit, of.hit > 0
    return _share(_poisson(mean, None if above else ceil(edge)), edge, above=above)


def _binomial_above_0(of: Tilted, rate: float, entrants: int) -> float:
    odds = log(rate) - log1p(-rate)
    start = entrants * log1p(-rate) + lgamma(entrants + 1)
    edge, above = -of.entrant * entrants / of.hit, of.hit > 0
    first, end = (max(0, floor(edge) + 1), entrants + 1) if above else (0, min(entrants + 1, max(0, ceil(edge))))
    return sum([exp(start + k * odds - lgamma(k + 1) - lgamma(entrants - k + 1)) for k in range(first, end)])


def _share(chances: Sequence[float], edge: float, *, above: bool) -> float:
    """The chance of a number above the edge, or below it."""
    return sum(chances[max(0, floor(edge) + 1) :]) if above else sum(chances[: max(0, ceil(edge))])


def _mixed_above_0(of: Tilted, rate: float, entrants: float) -> float:
    """Conversions and misses are Poisson each; those that add to the score must outweigh the others."""
    reached = of.hit + of.entrant
    if reached > 0:
        adds, takes, ratio = _poisson(rate * entrants), _poisson((1 - rate) * entrants), -of.entrant / reached
    else:
        adds, takes, ratio = _poisson((1 - rate) * entrants), _poisson(rate * entrants), -reached / of.entrant
    at_least = [0.0] * (len(adds) + 1)
    for number in range(len(adds) - 1, -1, -1):
        at_least[number] = at_least[number + 1] + adds[number]
    return sum(chance * at_least[min(len(adds), floor(number * ratio) + 1)] for number, chance in enumerate(takes))


def _poisson(mean: float, most: int | None = None) -> list[float]:
    """The chances of 0, 1, … up to far beyond the mean; only the first `most` where no others are asked about."""
    chance = exp(-mean)
    chances, end = [chance], int(mean + 10 * sqrt(mean) + 20)
    for number in range(1, end if most is None else min(end, most)):
        chance = chance * mean / number
        chances.append(chance)
    return chances
