"""[pure] What a step usually does: how many of its entries convert in the end, and by what age.

Both are learned from finished (mature) entries, hour of opening by hour of opening, each hour weighing
half as much `half_life` later: C(a) = Σ weight × conversions by age a ÷ Σ weight × entries. It is kept
as a level, C(conversion window), and a curve, C(a) ÷ level, which rises from 0 to 1.

The curve is a straight line within each of the age bins that conversions are counted in (`ages`), exact
at their ends and at the conversion window. Bins widen with age, to about a fifth of it: a step that
converts in a rush within one wide bin ("they come back next day at nine") has a curve that does not
know when in the bin, and says so in `note`.

By hour of week, each of the 168 hours (UTC) has a level of its own, drawn towards the common level as
far as it has too few entries to tell: the credibility of Bühlmann and Straub (Mitteilungen der Vereinigung
schweizerischer Versicherungsmathematiker 70, 1970), by which an hour's own rate weighs n ÷ (n + k), k
being the variance of one entry by that between hours. The curve is common to all hours.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from schemas.duration import MICROS
from streams.ages import age_bin, bin_start_us
from streams.retention import CONVERSIONS, ENTRIES, HOUR_SECONDS
from streams.windows import Cells, age_cell, cell

HOUR_US = HOUR_SECONDS * MICROS
HOURS_OF_WEEK = 168
EPOCH_HOUR_OF_WEEK = 72  # the epoch was a Thursday
NOTED_SHARE = 0.1  # of the conversions, in one bin wider than an hour


@dataclass(frozen=True)
class Terms:
    """What is learned from, and how."""

    conversion_us: int
    lateness_us: int
    half_life_us: int
    min_entries: int
    by_hour: bool = False  # of the week


@dataclass(frozen=True)
class Hour:
    """The entries that opened within one hour, and their conversions; by age bin for the total, not for a value."""

    entries: int
    conversions: int
    ages: Mapping[int, int]


@dataclass(frozen=True)
class Curve:
    """The share of the conversions there will ever be that have come by an age; 0 before the opening, 1 from the last knot on."""

    ages_us: tuple[int, ...]  # knots: 0, …, conversion window
    shares: tuple[float, ...]  # 0, …, 1
    slopes: tuple[float, ...]  # after the knot, per µs; 0 after the last
    areas: tuple[float, ...]  # ∫ share from 0 to the knot, in µs

    def share(self, age_us: float) -> float:
        """The share converted by an age."""
        if age_us <= 0:
            return 0.0
        place = bisect_right(self.ages_us, age_us) - 1
        return self.shares[place] + self.slopes[place] * (age_us - self.ages_us[place])

    def area(self, age_us: float) -> float:
        """∫ share from 0 to an age."""
        if age_us <= 0:
            return 0.0
        place = bisect_right(self.ages_us, age_us) - 1
        past = age_us - self.ages_us[place]
        return self.areas[place] + past * (self.shares[place] + self.slopes[place] * past / 2)

    def means(self, moments_us: Sequence[int], at_us: int) -> list[float]:
        """The mean share at T of entries spread evenly between each two neighbours of ascending moments of opening."""
        areas = [self.area(at_us - moment) for moment in moments_us]
        return [(old - young) / (end - start) for (old, young), (start, end) in zip(pairwise(areas), pairwise(moments_us))]


@dataclass(frozen=True)
class Baseline:
    """What is usual. `level` × `hours[hour of week]` × `curve` is C(a) of entries that opened in that hour."""

    entries: float  # finished ones, each by its weight
    level: float  # share that converts in the end
    curve: Curve
    hours: tuple[float, ...] = ()  # level of each hour of the week ÷ level; empty: one level at all hours
    note: str = ""  # what a reader should know of it


@dataclass(frozen=True)
class NoBaseline:
    """Nothing usual is known yet, and why, in words for a page."""

    entries: float
    reason: str


def hour_of_week(at_us: int) -> int:
    """0 to 167, from Monday 00:00 UTC."""
    return (at_us // HOUR_US + EPOCH_HOUR_OF_WEEK) % HOURS_OF_WEEK


def finished_until_us(terms: Terms, at_us: int) -> int:
    """The end of the newest hour whose entries are finished at T. What is learned changes only when this does."""
    return (at_us - terms.conversion_us - terms.lateness_us) // HOUR_US * HOUR_US


def hours_of(buckets: Mapping[int, Cells], stage: int, dimension: str | None = None, value: str = "") -> dict[int, Hour]:
    """What hourly buckets (number -> cells) say of the step into a stage, in total or for a value of a dimension."""
    entries, conversions = cell(ENTRIES, stage - 1, dimension, value), cell(CONVERSIONS, stage - 1, dimension, value)
    prefix = age_cell(stage, 0)[:-1]
    return {
        bucket: Hour(
            cells[entries],
            cells.get(conversions, 0),
            {} if dimension is not None else {int(name[len(prefix) :]): n for name, n in cells.items() if name.startswith(prefix)},
        )
        for bucket, cells in buckets.items()
        if cells.get(entries)
    }


def learn(hours: Mapping[int, Hour], terms: Terms, at_us: int) -> Baseline | NoBaseline:
    """The baseline of a step's total at T, from hours of opening (number of the hour since the epoch -> counts)."""
    finished = _finished(hours, terms, at_us)
    entries = sum(weight * hour.entries for weight, _, hour in finished)
    if entries < terms.min_entries:
        return _too_few(terms, entries)
    ages: defaultdict[int, float] = defaultdict(float)
    for weight, _, hour in finished:
        for number, count in hour.ages.items():
            ages[number] += weight * count
    converted = sum(ages.values())
    if converted <= 0:
        return NoBaseline(entries, f"none of {entries:.0f} finished entries converted")
    level = converted / entries
    curve = _curve(ages, terms.conversion_us)
    return Baseline(entries, level, curve, _by_hour(finished, level) if terms.by_hour else (), _note(curve))


def learn_value(hours: Mapping[int, Hour], terms: Terms, at_us: int, total: Baseline) -> Baseline | NoBaseline:
    """The baseline of one value of a dimension: the total's curve and rhythm of the week at a level of its own.

    The level is the total's × the value's conversions ÷ those that its entries would have had at the total's levels.
    """
    finished = _finished(hours, terms, at_us)
    entries = sum(weight * hour.entries for weight, _, hour in finished)
    if entries < terms.min_entries:
        return _too_few(terms, entries)
    converted = sum(weight * hour.conversions for weight, _, hour in finished)
    if converted <= 0:
        return NoBaseline(entries, f"none of {entries:.0f} finished entries converted")
    usual = sum(weight * hour.entries * _rhythm(total.hours, start_us) for weight, start_us, hour in finished)
    return replace(total, entries=entries, level=min(1.0, converted / usual))


_Finished = tuple[float, int, Hour]  # weight, start in µs, counts


def _finished(hours: Mapping[int, Hour], terms: Terms, at_us: int) -> list[_Finished]:
    until = finished_until_us(terms, at_us) // HOUR_US
    half_life = terms.half_life_us / HOUR_US
    return [(0.5 ** ((until - 1 - number) / half_life), number * HOUR_US, hour) for number, hour in sorted(hours.items()) if number < until]


def _too_few(terms: Terms, entries: float) -> NoBaseline:
    return NoBaseline(entries, f"needs {terms.min_entries} finished entries, has {int(entries)}")


def _rhythm(hours: Sequence[float], start_us: int) -> float:
    return hours[hour_of_week(start_us)] if hours else 1.0


def _curve(ages: Mapping[int, float], conversion_us: int) -> Curve:
    """Through the ends of the bins that hold conversions; what lies between them is flat."""
    last = age_bin(conversion_us - 1)  # an age of the whole conversion window converts too, and may begin a bin
    knots = {0: 0.0}
    converted = 0.0
    for number in sorted(number for number, count in ages.items() if count > 0):
        knots.setdefault(bin_start_us(min(number, last)), converted)
        converted += ages[number]
        knots[min(bin_start_us(min(number, last) + 1), conversion_us)] = converted
    knots.setdefault(conversion_us, converted)
    shares = {age: count / converted for age, count in knots.items()}
    pieces = [(old - young, low, high) for (young, low), (old, high) in pairwise(shares.items())]
    return Curve(
        tuple(shares),
        tuple(shares.values()),
        (*((high - low) / width for width, low, high in pieces), 0.0),
        tuple(accumulate((width * (low + high) / 2 for width, low, high in pieces), initial=0.0)),
    )


def _note(curve: Curve) -> str:
    steps = [(shares[1] - shares[0], ages) for ages, shares in zip(pairwise(curve.ages_us), pairwise(curve.shares))]
    share, (young, old) = max((step for step in steps if step[1][1] - step[1][0] > HOUR_US), default=(0.0, (0, 0)))
    if share < NOTED_SHARE:
        return ""
    ages = f"between {young / HOUR_US:.1f} and {old / HOUR_US:.1f} hours"
    return f"{share:.0%} of the conversions come at an age {ages}, taken to be spread evenly"


@dataclass
class _Sums:
    """Of one hour of the week, over the weeks."""

    entries: float = 0.0
    squares: float = 0.0  # Σ weight² × entries
    converted: float = 0.0

    @property
    def size(self) -> float:
        """As many entries of equal weight would tell as much."""
        return self.entries**2 / self.squares


def _by_hour(finished: Sequence[_Finished], level: float) -> tuple[float, ...]:
    """The level of each hour of the week ÷ that of all, by Bühlmann and Straub."""
    sums = [_Sums() for _ in range(HOURS_OF_WEEK)]
    for weight, start_us, hour in finished:
        into = sums[hour_of_week(start_us)]
        into.entries += weight * hour.entries
        into.squares += weight * weight * hour.entries
        into.converted += weight * hour.conversions
    trust = credibility([(s.size, s.converted / s.entries) for s in sums if s.entries], level)
    return tuple(1.0 if not s.entries else 1 + trust(s.size) * (s.converted / s.entries / level - 1) for s in sums)


def credibility(groups: Sequence[tuple[float, float]], level: float) -> Callable[[float], float]:
    """How far a group's own rate counts, by its size: from (size, rate) of all groups, the variances by moments."""
    total = sum(size for size, _ in groups)
    within = level * (1 - level)
    room = total - sum(size * size for size, _ in groups) / total
    between = (sum(size * (rate - level) ** 2 for size, rate in groups) - (len(groups) - 1) * within) / room if room > 0 else 0.0
    if between <= 0:  # the hours differ no more than chance would have them
        return lambda _: 0.0
    return lambda size: size / (size + within / between)
