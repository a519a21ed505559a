"""[pure] The age-adjusted rate: conversions in a window by the worth of the entries that were due in it.

An entry counts in a window by the share of its conversions that usually come at the ages it has there,
C(age at the window's end) − C(age at its start), whenever it opened. With the baseline's level that sum is
the number of conversions to expect: indirect standardisation, in which age is time since the opening
(Breslow & Day, Statistical Methods in Cancer Research II, 1987, chapter 2). Then

    rate = baseline × observed ÷ expected = observed ÷ (expected ÷ baseline),

with the exact Poisson limits of the observed number (Garwood, Biometrika 28, 1936, by way of the
chi-square distribution: Ulm, American Journal of Epidemiology 131, 1990).

How many entries opened before a moment is known at the boundaries of buckets, at the finest ones that
are still kept; between two boundaries entries are taken to be spread evenly. Neighbouring buckets are
weighed together where they are narrow for their age, so that a rate costs some hundred products,
however long the conversion window is. Everything but those products (`groups`, `due`) is common to all
values of a dimension.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, repeat
from operator import itemgetter, mul
from statistics import NormalDist
from typing import NamedTuple

from schemas.duration import MICROS
from streams import COMPILED
from streams.baseline import HOUR_US, Baseline, Curve, NoBaseline, hour_of_week
from streams.retention import HOUR_SECONDS, LONGEST_SECONDS
from streams.weighing import weigh_from

GRAIN = 32  # buckets are weighed together up to a 32nd of their age
LEAST_WORTH = 1e-6  # of an entry; less is the rounding of nothing
PRIOR_CONVERSIONS = 10  # a projection starts from the baseline as if it had seen so many conversions at it
NEWTON_STEPS = 200
TERMS_MAX = 10_000
EPSILON = 1e-15
LEAST = 1e-300
EXACT_BELOW = 1000  # from here on Wilson and Hilferty are within 0.01% of the half width


# How many entries there are


class Entries:
    """Entries of a stage by bucket of opening, summed up: how many opened before any boundary of buckets.

    `kept` says how many buckets of each width (in seconds) to hold behind the newest; older ones are let go.
    """

    def __init__(self, kept: Mapping[int, int]) -> None:
        self._columns = {width: _Column(count) for width, count in kept.items()}

    @classmethod
    def of(cls, buckets: Mapping[int, Mapping[int, int]], kept: Mapping[int, int]) -> Entries:
        """From width -> number of a bucket -> entries opened in it."""
        self = cls(kept)
        for width, column in buckets.items():
            for bucket in sorted(column):
                self.add(width, bucket, column[bucket])
        return self

    def add(self, width: int, bucket: int, count: int) -> None:
        """Count more entries (or fewer: a correction) that opened in a bucket; quick for the newest ones."""
        self._columns[width].add(bucket, count)

    def weigh(self, weights: Weights, origin_us: int = 0) -> float:
        """Σ entries × weight; the edges of the weights are numbered from the bucket that holds the origin."""
        return sum([self._columns[of.width].weigh(of, origin_us // (of.width * MICROS)) for of in weights])

    def weigh_each(self, weights: Weights, origins_us: Sequence[int]) -> list[float]:
        """The same from each of the origins."""
        columns = [self._columns[of.width].weigh_each(of, [origin // (of.width * MICROS) for origin in origins_us]) for of in weights]
        return list(map(sum, zip(*columns))) if columns else [0.0] * len(origins_us)


class _Column:
    """The running sum over buckets of one width; `sums[k]` is that before bucket `base + k`."""

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.base = 0
        self.sums = array("q")
        self._floats: list[float] = []  # the same, as they were when they were last asked for

    def add(self, bucket: int, count: int) -> None:
        if not self.sums:
            self.base, self.sums = bucket, array("q", [0])
        self._floats = []
        newest = self.base + len(self.sums) - 2
        if bucket < newest - self.kept:
            return
        if bucket > newest + self.kept:  # all that is held is older than what is kept
            self.base, self.sums = bucket, self.sums[-1:]
        elif bucket < self.base:
            self.base, self.sums = bucket, self.sums[:1] * (self.base - bucket) + self.sums
        self.sums.extend(self.sums[-1:] * (bucket + 2 - self.base - len(self.sums)))
        for place in range(bucket + 1 - self.base, len(self.sums)):
            self.sums[place] += count
        if len(self.sums) > 2 * self.kept + 2:
            self.base += len(self.sums) - self.kept - 2
            self.sums = self.sums[-self.kept - 2 :]

    def weigh(self, of: Factors, origin: int) -> float:
        """Σ factor × sum before the edge, over ascending edges, which count from bucket `origin`."""
        if not self.sums:
            return 0.0
        base, edges, factors = self.base - origin, of.edges, of.factors
        self._reach(origin + edges[-1])
        sums = self.sums
        if base <= edges[0] and edges[-1] < base + len(sums):
            return math.fsum(map(mul, of.pick(sums[edges[0] - base :]), factors))
        first, end = bisect_left(edges, base), bisect_left(edges, base + len(sums))
        held = sum([sums[edge - base] * factor for edge, factor in zip(edges[first:end], factors[first:end])])
        return held + sums[0] * sum(factors[:first]) + sums[-1] * sum(factors[end:])

    def weigh_each(self, of: Factors, origins: Sequence[int]) -> list[float]:
        """The same from each of the ascending origins; quick where what is held reaches from the first to the last."""
        self._reach(origins[-1] + of.edges[-1])
        before = of.edges[0] - self.base
        low, high = origins[0] + before, origins[-1] + of.edges[-1] - self.base
        evenly = list(origins) == list(range(origins[0], origins[-1] + 1))
        if origins[0] == origins[-1] or low < 0 or high >= len(self.sums) or not (COMPILED or evenly):
            found = {origin: self.weigh(of, origin) for origin in dict.fromkeys(origins)}
            return [found[origin] for origin in origins]
        sums = self._floats = self._floats or list(map(float, self.sums))
        edges, factors = of.from_first
        if COMPILED:
            different = origins if evenly else list(dict.fromkeys(origins))
            worths = weigh_from(sums, [origin + before for origin in different], edges, factors)
            return worths if len(different) == len(origins) else list(map(dict(zip(different, worths)).__getitem__, origins))
        products = [map(mul, sums[low + edge : low + edge + len(origins)], repeat(factor)) for edge, factor in zip(edges, factors)]
        return list(map(math.fsum, zip(*products)))

    def _reach(self, edge: int) -> None:
        """Nobody has opened before an edge that lies beyond the newest bucket, but not by more than is kept."""
        beyond = edge + 1 - self.base - len(self.sums)
        if self.sums and 0 < beyond <= self.kept:
            self.sums.extend(self.sums[-1:] * beyond)
            self._floats = []


# What they weigh in a window


class Factors(NamedTuple):
    """Weights of groups of entries, as factors of the sums before their boundaries: Σ factor × sum is Σ weight × entries of the group."""

    width: int  # of the buckets, in seconds
    edges: tuple[int, ...]  # numbers of the buckets that begin at the boundaries, ascending
    factors: tuple[float, ...]
    pick: Callable[[Sequence[int]], Sequence[int]]  # what stands at the edges, of sums from the first edge on
    from_first: tuple[list[int], list[float]]  # edges, counted from the first, and factors

    @classmethod
    def of(cls, width: int, factors: Mapping[int, float]) -> Factors:
        """From edge -> factor."""
        edges = sorted(factors)
        places = [edge - edges[0] for edge in edges]
        pick = itemgetter(*places) if len(places) > 1 else itemgetter(slice(0, 1))  # of one place it would give no sequence
        of_edges = [factors[edge] for edge in edges]
        return cls(width, tuple(edges), tuple(of_edges), pick, (places, of_edges))


Weights = tuple[Factors, ...]


@dataclass(frozen=True)
class Groups:
    """Boundaries that part the entries which a window is about; no entry is in two groups."""

    start_us: int  # of the window
    moments_us: tuple[int, ...]  # of the boundaries, ascending; the last is T
    places: tuple[tuple[int, int], ...]  # of each boundary: width in seconds, number of the bucket that begins there
    joins: tuple[tuple[tuple[int, int], tuple[int, int]], ...]  # a boundary of two widths, as a place of each; coarsest first

    def weights(self, of_groups: Sequence[float]) -> Weights:
        """The weights of groups as factors of sums; sums of two widths are made one at a boundary of both."""
        factors: dict[int, dict[int, float]] = {width: {} for width, _ in self.places}
        for (width, edge), weight, following in zip(self.places, (0.0, *of_groups), (*of_groups, 0.0)):
            factors[width][edge] = weight - following
        for (coarse, coarse_edge), (fine, fine_edge) in self.joins:
            moved = sum(factors[coarse].values())
            for width, edge, factor in ((fine, fine_edge, moved), (coarse, coarse_edge, -moved)):
                factors[width][edge] = factors[width].get(edge, 0.0) + factor
        return tuple(Factors.of(width, found) for width, found in factors.items())

    def relative(self) -> Groups:
        """The same, told from the window's start and from the buckets that hold it: equal for all windows that part entries alike."""

        def place(width: int, edge: int) -> tuple[int, int]:
            return width, edge - self.start_us // (width * MICROS)

        return Groups(
            0,
            tuple(moment - self.start_us for moment in self.moments_us),
            tuple(place(*known) for known in self.places),
            tuple((place(*coarse), place(*fine)) for coarse, fine in self.joins),
        )


def groups(
    since: Mapping[int, int], start_us: int, at_us: int, conversion_us: int, *, by_hour: bool = False, known_us: int | None = None
) -> Groups:
    """Part the entries that may convert from `start_us` (of a window, on a boundary of its buckets) to T.

    `since` says from which bucket on each width (in seconds) is complete. The bucket that holds T counts
    as what is past of it. With `by_hour` no group is in two hours. `known_us` is until when entries are
    known, where that is after T.
    """
    widths = _usable(since, at_us, at_us if known_us is None else known_us)
    moments, places = [at_us], [(widths[0], at_us // (widths[0] * MICROS) + 1)]
    for width in widths:
        floor_us = max(since[width] * width * MICROS, 0)
        for moment in _boundaries(moments[-1], width * MICROS, floor_us, start_us, at_us, conversion_us, by_hour):
            moments.append(moment)
            places.append((width, moment // (width * MICROS)))
    used = list(dict.fromkeys(width for width, _ in places))
    joined = [(coarse, fine, _join_us(since, fine, coarse)) for fine, coarse in pairwise(used)]
    joins = [((coarse, us // (coarse * MICROS)), (fine, us // (fine * MICROS))) for coarse, fine, us in joined]
    return Groups(start_us, tuple(reversed(moments)), tuple(reversed(places)), tuple(reversed(joins)))


def complete_since(widths: Iterable[int], conversion_us: int, at_us: int) -> dict[int, int]:
    """From which bucket on each width a funnel keeps is complete at T, by the retention of its counts."""
    spans_us = {w: LONGEST_SECONDS[w] * MICROS + (conversion_us if w == HOUR_SECONDS else 0) for w in widths}
    return {width: (at_us - span_us) // (width * MICROS) for width, span_us in spans_us.items()}


def _usable(since: Mapping[int, int], at_us: int, known_us: int) -> list[int]:
    """The widths from the finest on, less those complete only after T, and those that reach no boundary of the next coarser one by then."""
    widths: list[int] = []
    for width in sorted(since, reverse=True):
        if not widths or (since[width] * width * MICROS <= at_us + 1 and _join_us(since, width, widths[0]) <= known_us):
            widths.insert(0, width)
    return widths


def _join_us(since: Mapping[int, int], fine: int, coarse: int) -> int:
    """The first boundary of coarser buckets from which the finer ones are complete."""
    return -(-since[fine] * fine // coarse) * coarse * MICROS


def _boundaries(end_us: int, width_us: int, floor_us: int, start_us: int, at_us: int, conversion_us: int, by_hour: bool) -> Iterator[int]:
    """Boundaries of buckets before `end_us`, descending to `floor_us` or the oldest entry that may convert in the window."""
    while end_us > max(floor_us, start_us - conversion_us):
        inside = end_us > start_us
        age_us = (at_us if inside else start_us) - end_us
        moment = (end_us - max(1, age_us // GRAIN)) // width_us * width_us
        limits = [floor_us]
        if inside and start_us % width_us == 0:
            limits.append(start_us)
        if by_hour:
            limits.append((end_us - 1) // HOUR_US * HOUR_US)
        end_us = max(moment, *limits)
        yield end_us


@dataclass(frozen=True)
class Due:
    """What entries weigh in a window: the share of their conversions that usually come in it."""

    worth: Weights
    usual: Weights  # the same × level of the hour of opening ÷ level


def worth_of(parted: Groups, curve: Curve) -> Weights:
    """The weights of `Due.worth` alone; the groups may be relative."""
    return parted.weights(_shares(parted, curve))


def due(parted: Groups, total: Baseline) -> Due:
    """The weights of a step in a window, from the baseline of its total; they hold for every value of a dimension."""
    shares = _shares(parted, total.curve)
    worth = parted.weights(shares)
    return Due(worth, parted.weights(_in_rhythm(parted, total, shares)) if total.hours else worth)


def _shares(parted: Groups, curve: Curve) -> list[float]:
    at_end, at_start = curve.means(parted.moments_us, parted.moments_us[-1]), curve.means(parted.moments_us, parted.start_us)
    return [end - start for end, start in zip(at_end, at_start)]


def to_come(parted: Groups, total: Baseline) -> Weights:
    """What entries that opened within the window weigh after it: the share of their conversions that usually comes after T."""
    at_end = total.curve.means(parted.moments_us, parted.moments_us[-1])
    shares = [1 - share if opened >= parted.start_us else 0.0 for opened, share in zip(parted.moments_us, at_end)]
    return parted.weights(_in_rhythm(parted, total, shares))


def _in_rhythm(parted: Groups, total: Baseline, shares: list[float]) -> list[float]:
    if not total.hours:
        return shares
    return [share * total.hours[hour_of_week(opened)] for opened, share in zip(parted.moments_us, shares)]


# Rates


@dataclass(frozen=True)
class Adjusted:
    """An age-adjusted rate with its parts; without a rate it is not ready, and says why."""

    numerator: int  # conversions observed in the window
    denominator: float  # the worth of the entries that were due in it, in entries
    expected: float  # conversions usual for those
    baseline: float | None  # expected ÷ denominator
    rate: float | None = None  # numerator ÷ denominator, 1 at most
    low: float | None = None  # confidence limits of the rate
    high: float | None = None
    capped: bool = False  # the rate would be more than 1
    reason: str = ""

    @property
    def ready(self) -> bool:
        return self.rate is not None


def adjusted(observed: int, entries: Entries, weights: Due | None, baseline: Baseline | NoBaseline, confidence: float = 0.95) -> Adjusted:
    """The rate of a step in a window, in total or for a value of a dimension.

    `observed` is the conversions into the stage in the window's buckets (x), `entries` those of the stage
    before it, `weights` those of the window (from the total), `baseline` that of the total or the value.
    """
    if isinstance(baseline, NoBaseline) or weights is None:
        reason = baseline.reason if isinstance(baseline, NoBaseline) else "the step has no baseline"
        return Adjusted(observed, 0.0, 0.0, None, reason=reason)
    worth = entries.weigh(weights.worth)
    if worth < LEAST_WORTH:
        return Adjusted(observed, 0.0, 0.0, baseline.level, reason="no entry was due to convert in the window")
    expected = baseline.level * (worth if weights.usual is weights.worth else entries.weigh(weights.usual))
    low, high = poisson_limits(observed, confidence)
    return Adjusted(
        observed,
        worth,
        expected,
        expected / worth,
        min(1.0, observed / worth),
        min(1.0, low / worth),
        min(1.0, high / worth),
        observed > worth,
    )


@dataclass(frozen=True)
class Projection:
    """The share of the entries opened in a window that will have converted in the end; None without entries."""

    entries: int
    converted: int  # so far
    remaining: float  # conversions still to come
    factor: float  # of the baseline, at which they are taken to come
    rate: float | None
    low: float | None
    high: float | None


def projected(
    opened: int, converted: int, entries: Entries, after: Weights, baseline: Baseline, now: Adjusted, confidence: float = 0.95
) -> Projection:
    """Where the entries of a window end up if the step goes on as it does `now`.

    Still to come are Σ entries × level × (1 − share converted by their age), times a factor. The factor is
    that of the window, observed ÷ expected, drawn towards 1 while few conversions are expected:
    (observed + k) ÷ (expected + k), the mean of a gamma prior of mean 1 and weight k after Poisson counts
    (Clayton & Kaldor, Biometrics 43, 1987). The limits are those of what is still to come, uncertain by its
    factor and by chance: a negative binomial, taken by the gamma distribution of its mean and variance.
    """
    usual = max(0.0, baseline.level * entries.weigh(after))
    weight = now.expected + PRIOR_CONVERSIONS
    factor = (now.numerator + PRIOR_CONVERSIONS) / weight
    remaining = factor * usual
    if not opened:
        return Projection(opened, converted, remaining, factor, None, None, None)
    low = high = remaining
    if remaining > LEAST_WORTH:
        scale = 1 + usual / weight  # variance ÷ mean
        low, high = (scale * gamma_quantile(p, remaining / scale) for p in ((1 - confidence) / 2, (1 + confidence) / 2))
    rate, least, most = (min(1.0, (converted + more) / opened) for more in (remaining, low, high))
    return Projection(opened, converted, remaining, factor, rate, least, most)


# Limits


@lru_cache(maxsize=65_536)
def poisson_limits(count: int, confidence: float) -> tuple[float, float]:
    """The two-sided exact limits of a Poisson mean of which `count` was observed."""
    tail = (1 - confidence) / 2
    return gamma_quantile(tail, count) if count else 0.0, gamma_quantile(1 - tail, count + 1)


def gamma_quantile(p: float, shape: float) -> float:
    """Where the gamma distribution of a shape and scale 1 reaches p; half the chi-square quantile of 2 × shape degrees of freedom.

    Newton's method, by the logarithm, on the regularised incomplete gamma function, kept between bounds; for great shapes
    Wilson and Hilferty's cube of a normal quantile (PNAS 17, 1931).
    """
    x = _wilson_hilferty(p, shape)
    if shape >= EXACT_BELOW or x <= LEAST:
        return x
    low, high = LEAST, math.inf
    for _ in range(NEWTON_STEPS):
        miss = gamma_share(x, shape) - p
        low, high = (low, x) if miss > 0 else (x, high)
        slope = math.exp(shape * math.log(x) - x - math.lgamma(shape))  # by the logarithm of x
        step = miss / slope if slope else math.inf
        following = x * math.exp(-step) if abs(step) < 1 else math.inf
        if not low < following < high:
            following = 2 * x if math.isinf(high) else math.sqrt(low) * math.sqrt(high)
        if abs(following - x) <= 1e-12 * x:
            return following
        x = following
    return x


def _wilson_hilferty(p: float, shape: float) -> float:
    root = 1 - 1 / (9 * shape) + NormalDist().inv_cdf(p) / (3 * math.sqrt(shape))
    if shape >= 1 and root > 0:
        return shape * root**3
    return max(LEAST, math.exp((math.log(p) + math.lgamma(shape + 1)) / shape))  # the first term of the series


def gamma_share(x: float, shape: float) -> float:
    """P(shape, x), the regularised lower incomplete gamma function: Abramowitz & Stegun 6.5.29 below the mean, 6.5.31 above."""
    scale = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    return scale * _series(x, shape) if x < shape + 1 else 1 - scale * _fraction(x, shape)


def _series(x: float, shape: float) -> float:
    term = total = 1 / shape
    for n in range(1, TERMS_MAX):
        term *= x / (shape + n)
        total += term
        if term < EPSILON * total:
            break
    return total


def _fraction(x: float, shape: float) -> float:
    """The continued fraction by Lentz's method, in its even form."""
    b = x + 1 - shape
    c, d = math.inf, 1 / b
    value = d
    for n in range(1, TERMS_MAX):
        a = -n * (n - shape)
        b += 2
        d = 1 / (a * d + b)
        c = b + a / c
        value *= c * d
        if abs(c * d - 1) < EPSILON:
            break
    return value
