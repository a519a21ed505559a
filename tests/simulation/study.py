"""The rates of every moment, and what they are worth: how soon each shows the incident, how often limits hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from streams.adjusted import Adjusted, Groups, Projection, adjusted, complete_since, due, groups, projected, to_come
from streams.baseline import Baseline, NoBaseline, Terms, learn
from streams.windows import first_bucket
from tests.simulation.counts import ENDED, INTO, KEPT, OPENED, Counts
from tests.simulation.people import (
    BEGIN_US,
    DAY_US,
    FAILING,
    HOUR_US,
    LEVEL,
    SECOND_US,
    SLOT_US,
    WINDOW_US,
    Conversion,
    Scenario,
    sleepy,
    slots,
)

TERMS = Terms(WINDOW_US, 60 * SECOND_US, 7 * DAY_US, 200)
WINDOWS = (300, 900, 3600)
USUAL_WINDOW = 900
MINUTE_US = 60 * SECOND_US
HOLDS_US = 3 * HOUR_US  # a rate shows the incident from when it says so for so long without a break
HALF_FALLEN = 1 - FAILING / 2


@dataclass(frozen=True)
class Share:
    """A proportion with Wilson's 95% limits."""

    numerator: int
    denominator: int

    @property
    def rate(self) -> float:
        return self.numerator / self.denominator

    @property
    def high(self) -> float:
        n, p, z = self.denominator, self.rate, 1.96
        return (p + z * z / (2 * n) + z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


@dataclass(frozen=True)
class Reading:
    """What the counts say at T, the microsecond before a moment."""

    moment_us: int
    truth: float  # the share of conversions that succeed now, of all entries
    plain: Share  # of the entries of the last 24 hours
    mature: Share  # of the newest finished hour
    adjusted: dict[int, Adjusted]  # by window in seconds
    projection: Projection  # of the entries of the last hour


def read(scenario: Scenario, wanted: Callable[[int], bool], terms: Terms = TERMS) -> tuple[list[Reading], list[Conversion]]:
    """Simulate; the readings of the moments that are wanted, and all conversions, failed ones too."""
    counts, found = Counts(terms), []
    baseline: Baseline | NoBaseline = NoBaseline(0, "")
    everyone: list[Conversion] = []
    for slot in slots(scenario):
        everyone += slot.converting
        if counts.pass_slot(slot):
            baseline = learn(counts.hours, terms, counts.at_us)
        if wanted(counts.at_us + 1):
            if isinstance(baseline, NoBaseline):
                raise ValueError(baseline.reason)
            found.append(_reading(counts, baseline, scenario.broken_us))
    return found, everyone


def _reading(counts: Counts, baseline: Baseline, broken_us: int | None) -> Reading:
    at_us = counts.at_us
    hour = (at_us - WINDOW_US - TERMS.lateness_us) // HOUR_US - 1
    broken = broken_us is not None and at_us >= broken_us
    rates = {window: adjust(counts, baseline, window) for window in WINDOWS}
    return Reading(
        at_us + 1,
        LEVEL * (1 - FAILING if broken else 1),
        _entries_rate(counts, *_window(86_400, at_us)),
        _entries_rate(counts, hour * HOUR_US, (hour + 1) * HOUR_US),
        rates,
        _project(counts, baseline, rates[3600]),
    )


def _window(seconds: int, at_us: int) -> tuple[int, int]:
    """The first boundary and the end of the buckets of a trailing window."""
    width, first = first_bucket(seconds, at_us)
    return first * width * SECOND_US, (at_us // (width * SECOND_US) + 1) * width * SECOND_US


def _entries_rate(counts: Counts, first_us: int, end_us: int) -> Share:
    return Share(counts.total(ENDED, first_us, end_us), counts.total(OPENED, first_us, end_us))


def _parted(counts: Counts, start_us: int, baseline: Baseline) -> Groups:
    since = complete_since(KEPT, WINDOW_US, counts.at_us)
    return groups(since, start_us, counts.at_us, WINDOW_US, by_hour=bool(baseline.hours))


def adjust(counts: Counts, baseline: Baseline, window: int) -> Adjusted:
    """The adjusted rate over a trailing window, the way a reader of the counts asks for it."""
    start_us, end_us = _window(window, counts.at_us)
    observed = counts.total(INTO, start_us, end_us)
    return adjusted(observed, counts.entries, due(_parted(counts, start_us, baseline), baseline), baseline)


def _project(counts: Counts, baseline: Baseline, now: Adjusted) -> Projection:
    start_us, end_us = _window(3600, counts.at_us)
    after = to_come(_parted(counts, start_us, baseline), baseline)
    opened = _entries_rate(counts, start_us, end_us)
    return projected(opened.denominator, opened.numerator, counts.entries, after, baseline, now)


# What they are worth


@dataclass(frozen=True)
class Health:
    """How the limits of a rate hold while nothing is wrong."""

    checks: int
    covered: float  # share of the checks whose limits held the usual rate
    error: float  # standard error of that share
    mean: float  # of z = (observed - expected) ÷ √expected
    deviation: float

    @property
    def mean_error(self) -> float:
        return self.deviation / math.sqrt(self.checks)


def health(rates: Sequence[Adjusted], truth: float | None = None) -> Health:
    """Of adjusted rates; against the truth, or each against the baseline that it came with."""
    usual = [truth if truth is not None else _known(rate.baseline) for rate in rates]
    covered = fmean(_known(rate.low) <= level <= _known(rate.high) for rate, level in zip(rates, usual))
    scores = [(rate.numerator - rate.expected) / math.sqrt(rate.expected) for rate in rates]
    return Health(len(rates), covered, math.sqrt(0.95 * 0.05 / len(rates)), fmean(scores), stdev(scores))


def _known(value: float | None) -> float:
    assert value is not None
    return value


@dataclass(frozen=True)
class Delay:
    """Minutes from the incident until a rate shows it, and until it has fallen half as far as the truth."""

    shown: float | None
    halved: float | None


def delays(readings: Sequence[Reading], broken_us: int) -> dict[str, Delay]:
    """By name of the rate. A rate shows the incident when its limits are wholly below what is usual.

    The plain rate swings with the hour, so that only less than its lowest value on healthy days tells.
    """
    before = [r for r in readings if r.moment_us <= broken_us]
    after = [r for r in readings if r.moment_us > broken_us]
    lowest, last = min(r.plain.rate for r in before), before[-1]
    level = _known(last.adjusted[USUAL_WINDOW].baseline)
    found = {}
    for window in WINDOWS:
        rates = [(r.moment_us - broken_us, r.adjusted[window]) for r in after]
        found[f"adjusted, {window // 60} min"] = Delay(
            _from_when([(since, _known(rate.high) < level) for since, rate in rates]),
            _first([(since, _known(rate.rate) <= level * HALF_FALLEN) for since, rate in rates]),
        )
    plain = [(r.moment_us - broken_us, r.plain) for r in after]
    found["plain, 24 h"] = Delay(
        _from_when([(since, share.high < lowest) for since, share in plain]),
        _first([(since, share.rate <= last.plain.rate * HALF_FALLEN) for since, share in plain]),
    )
    mature = [(r.moment_us - broken_us, r.mature) for r in after]
    found["mature, newest hour"] = Delay(
        _from_when([(since, share.high < level) for since, share in mature]),
        _first([(since, share.rate <= level * HALF_FALLEN) for since, share in mature]),
    )
    return found


def _first(says: Iterable[tuple[int, bool]]) -> float | None:
    return next((since / MINUTE_US for since, said in says if said), None)


def _from_when(says: Iterable[tuple[int, bool]]) -> float | None:
    """The first minute from which it is said for `HOLDS_US` without a break."""
    begun: int | None = None
    for since, said in says:
        begun = None if not said else since if begun is None else begun
        if begun is not None and since - begun >= HOLDS_US:
            return begun / MINUTE_US
    return None


def false_against_yesterday(readings: Sequence[Reading]) -> float:
    """How often the plain rate of a healthy day is significantly below that of the same time a day before."""
    by_time = {r.moment_us: r.plain for r in readings}
    pairs = [(plain, by_time[moment - DAY_US]) for moment, plain in by_time.items() if moment - DAY_US in by_time]
    return fmean(_difference(now, then) < -1.96 for now, then in pairs)


def _difference(a: Share, b: Share) -> float:
    return (a.rate - b.rate) / math.sqrt(a.rate * (1 - a.rate) / a.denominator + b.rate * (1 - b.rate) / b.denominator)


@dataclass(frozen=True)
class Projected:
    """How projections of the last hour's entries turned out."""

    checks: int
    covered: float
    bias: float  # mean of projected - final


def projections(readings: Sequence[Reading], everyone: Iterable[Conversion]) -> Projected:
    """Against what became of the very entries, told by their people and not by buckets."""
    final: dict[int, int] = {}
    for conversion in everyone:
        if not conversion.failed:
            slot_us = conversion.opened_us // SLOT_US * SLOT_US
            final[slot_us] = final.get(slot_us, 0) + 1
    errors, covered = [], []
    for reading in readings:
        start_us, end_us = _window(3600, reading.moment_us - 1)
        truth = sum(final.get(at_us, 0) for at_us in range(start_us, end_us, SLOT_US)) / reading.projection.entries
        errors.append(_known(reading.projection.rate) - truth)
        covered.append(_known(reading.projection.low) <= truth <= _known(reading.projection.high))
    return Projected(len(errors), fmean(covered), fmean(errors))


# The studies


@dataclass(frozen=True)
class Study:
    """An incident after a healthy time."""

    broken_us: int
    readings: tuple[Reading, ...]  # of healthy days every 15 minutes, then finer
    healthy: Health  # of the 15-minute windows, one beside the other
    ramp: Health  # those of mornings, 5 to 11 o'clock
    delays: dict[str, Delay]
    lowest_plain: float
    highest_plain: float
    false_against_yesterday: float
    projected: Projected
    projected_broken: Projected


def incident(history_days: int, healthy_days: int, seed: int, traffic: float = 1.0) -> Study:
    """Learn from some days, check through others, then break paying at noon and look on until the next evening."""
    healthy_us = BEGIN_US + history_days * DAY_US
    broken_us = healthy_us + healthy_days * DAY_US + DAY_US // 2
    scenario = Scenario(history_days + healthy_days + 3, seed, broken_us, traffic)
    closely = range(broken_us - HOUR_US, broken_us + 6 * HOUR_US)

    def wanted(moment_us: int) -> bool:
        step = MINUTE_US if moment_us in closely else 5 * MINUTE_US if moment_us > broken_us - 36 * HOUR_US else 15 * MINUTE_US
        return healthy_us < moment_us <= broken_us + 36 * HOUR_US and moment_us % step == 0

    readings, everyone = read(scenario, wanted)
    usual = [r for r in readings if r.moment_us <= broken_us and r.moment_us % (15 * MINUTE_US) == 0]
    mornings = [r for r in usual if 5 * HOUR_US < r.moment_us % DAY_US <= 11 * HOUR_US]
    hourly = [r for r in readings if r.moment_us % HOUR_US == 0]
    return Study(
        broken_us,
        tuple(readings),
        health([r.adjusted[USUAL_WINDOW] for r in usual], LEVEL),
        health([r.adjusted[USUAL_WINDOW] for r in mornings], LEVEL),
        delays(readings, broken_us),
        min(r.plain.rate for r in usual),
        max(r.plain.rate for r in usual),
        false_against_yesterday(usual),
        projections([r for r in hourly if r.moment_us <= broken_us - DAY_US], everyone),  # of entries finished before it broke
        projections([r for r in hourly if broken_us < r.moment_us <= broken_us + DAY_US // 2], everyone),
    )


def incidents(count: int, seed: int, traffic: float = 1.0) -> list[dict[str, Delay]]:
    """The delays of so many incidents, each in a world of its own."""
    return [incident(history_days=4, healthy_days=3, seed=seed + number, traffic=traffic).delays for number in range(count)]


def rhythm(history_days: int, healthy_days: int, seed: int, traffic: float) -> dict[str, Health]:
    """Where nights convert less than days: how limits hold against one baseline for all hours, and one by hour of week."""
    scenario = Scenario(history_days + healthy_days, seed, traffic=traffic, by_hour=sleepy)
    begin_us = BEGIN_US + history_days * DAY_US
    terms = {"all": TERMS, "hour_of_week": replace(TERMS, by_hour=True)}
    rates: dict[str, list[Adjusted]] = {by: [] for by in terms}
    counts = Counts(TERMS)
    for slot in slots(scenario):
        counts.pass_slot(slot)
        if counts.at_us >= begin_us and (counts.at_us + 1) % (15 * MINUTE_US) == 0:
            for by, learned in terms.items():
                baseline = learn(counts.hours, learned, counts.at_us)
                assert isinstance(baseline, Baseline)
                rates[by].append(adjust(counts, baseline, USUAL_WINDOW))
    return {by: health(found) for by, found in rates.items()}
