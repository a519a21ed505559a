"""[pure] Counts to rates and reports. Rates always travel with their parts.

Three bases (semantics): `users` is read at a glance, `entries` is the share of finished entries that
went on, `adjusted` holds what converted against what is usual for entries of that age.
"""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from statistics import NormalDist
from typing import Protocol

from schemas.duration import Duration
from schemas.report import Adjusted, Breakdown, Rate, StageReport, TimeToConvert
from streams.ages import quantile_us
from streams.retention import CONVERSIONS, ENTRIES, EVENTS, USERS, VALUE
from streams.values import VALUE_SCALE
from streams.windows import FunnelCounts, cell

BASES = ("users", "entries", "adjusted")
CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
SHOWN = (ENTRIES, CONVERSIONS, USERS, EVENTS, VALUE)  # counts of a stage in a report
RATES_HELD = 16_384  # small counts come again and again, and a rate is never changed
Split = tuple[str, str]  # dimension and value


class AdjustedRates(Protocol):
    """The age-adjusted rate of the step into a stage, over a trailing window."""

    def parts(self, stage: int, window_seconds: int, split: Split | None) -> tuple[int, float] | None:
        """What the rate is made of, at a small part of the cost of `step`; None where there is no rate."""
        ...

    def step(self, stage: int, window_seconds: int, split: Split | None) -> tuple[Rate, Adjusted]: ...


@lru_cache(maxsize=RATES_HELD)
def rate(numerator: int, denominator: int) -> Rate:
    """numerator ÷ denominator; no rate where there is no denominator."""
    return Rate(numerator=numerator, denominator=denominator, rate=numerator / denominator if denominator else None)


@lru_cache(maxsize=RATES_HELD)
def proportion(numerator: int, denominator: int) -> Rate:
    """A share of a whole, with its two-sided 95% Wilson score interval.

    E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    if not denominator:
        return rate(numerator, denominator)
    z, p, n = Z, numerator / denominator, denominator
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    spread = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Rate(numerator=numerator, denominator=n, rate=p, low=max(0.0, middle - spread), high=min(1.0, middle + spread))


def mature(counts: FunnelCounts, stage: int, window_seconds: int, at_us: int, split: Split | None = None) -> tuple[Rate, Rate]:
    """Of the entries at the stage before: the finished ones, and those that may still convert."""
    opened = stage - 1
    late = [counts.count(family, opened, window_seconds, at_us, split, pending=True) for family in (CONVERSIONS, ENTRIES)]
    both = [counts.count(family, opened, window_seconds, at_us, split) for family in (CONVERSIONS, ENTRIES)]
    return proportion(both[0] - late[0], both[1] - late[1]), rate(late[0], late[1])


def stage_reports(
    counts: FunnelCounts,
    window: Duration,
    at_us: int,
    dimension: str | None = None,
    value: str | None = None,
    *,
    basis: str = "users",
    adjusted: AdjustedRates | None = None,
) -> tuple[StageReport, ...]:
    """Every stage of a funnel over one trailing window, in total or for one value of a dimension."""
    reports: list[StageReport] = []
    split = None if dimension is None else (dimension, value or "")
    cells = counts.window(window, at_us)
    last = len(counts.plan.funnel.stages) - 1
    before: int | None = None
    for place, stage in enumerate(counts.plan.funnel.stages):
        opened, went_on, users, events, worth = [cells.get(cell(family, place, *(split or ())), 0) for family in SHOWN]
        step, pending, behind = _step(counts, place, window, at_us, split, basis, adjusted, users, before)
        reports.append(
            StageReport(
                name=stage.name,
                title=stage.title or stage.name,
                users=users,
                step=step,
                lost=0 if before is None else max(0, before - users),
                events=events,
                value=worth / VALUE_SCALE,
                entries=opened,
                conversions=went_on if place < last else None,
                pending=pending,
                adjusted=behind,
                time_to_convert=time_to_convert(counts.ages(place, window, at_us)) if place and split is None else None,
                target=stage.target,
                benchmark=stage.benchmark,
            )
        )
        before = users
    return tuple(reports)


def _step(
    counts: FunnelCounts, place: int, window: Duration, at_us: int, split: Split | None, basis: str,
    adjusted: AdjustedRates | None, users: int, before: int | None,
) -> tuple[Rate | None, Rate | None, Adjusted | None]:  # fmt: skip
    """The rate of the step into a stage on a basis, what is pending, and what stands behind an adjusted one."""
    if before is None:
        return None, None, None
    if basis == "entries":
        return *mature(counts, place, window, at_us, split), None
    if basis == "adjusted" and adjusted is not None:
        step, behind = adjusted.step(place, window, split)
        return step, None, behind
    return rate(users, before), None, None


def time_to_convert(ages: dict[int, int]) -> TimeToConvert:
    """Quantiles of the time to convert, from conversions by age bin."""
    p50, p90, p99 = (quantile_us(ages, share) for share in (0.5, 0.9, 0.99))
    return TimeToConvert(
        conversions=sum(ages.values()),
        p50_seconds=_seconds(p50),
        p90_seconds=_seconds(p90),
        p99_seconds=_seconds(p99),
    )


def _seconds(micros: float | None) -> float | None:
    return None if micros is None else round(micros / 1_000_000, 3)


def overall(stages: tuple[StageReport, ...]) -> Rate:
    """Users at the last stage ÷ users at the first."""
    return rate(stages[-1].users, stages[0].users)


def breakdowns(
    counts: FunnelCounts,
    window: Duration,
    at_us: int,
    dimension: str,
    *,
    basis: str = "users",
    adjusted: AdjustedRates | None = None,
) -> tuple[Breakdown, ...]:
    """The funnel for each value of a dimension, those with most users first."""
    found = []
    for value in counts.values(dimension):
        stages = stage_reports(counts, window, at_us, dimension, value, basis=basis, adjusted=adjusted)
        found.append(Breakdown(value=value, stages=stages, overall=overall(stages)))
    return tuple(sorted(found, key=lambda b: (-b.stages[0].users, b.value)))
