"""[pure] Counts to rates and reports. Rates always travel with their parts."""

from __future__ import annotations

from schemas.duration import Duration
from schemas.report import Breakdown, Rate, StageReport
from streams.windows import FunnelCounts


def rate(numerator: int, denominator: int) -> Rate:
    """numerator ÷ denominator; no rate where there is no denominator."""
    return Rate(numerator=numerator, denominator=denominator, rate=numerator / denominator if denominator else None)


def stage_reports(
    counts: FunnelCounts, window: Duration, at_us: int, dimension: str | None = None, value: str | None = None
) -> tuple[StageReport, ...]:
    """Every stage of a funnel over one trailing window, in total or for one value of a dimension."""
    reports: list[StageReport] = []
    before: int | None = None
    for place, stage in enumerate(counts.plan.funnel.stages):
        users = counts.users(place, window, at_us, dimension, value)
        reports.append(
            StageReport(
                name=stage.name,
                title=stage.title or stage.name,
                users=users,
                step=None if before is None else rate(users, before),
                lost=0 if before is None else max(0, before - users),
                events=counts.events(place, window, at_us, dimension, value),
                value=counts.value(place, window, at_us, dimension, value),
                target=stage.target,
                benchmark=stage.benchmark,
            )
        )
        before = users
    return tuple(reports)


def overall(stages: tuple[StageReport, ...]) -> Rate:
    """Users at the last stage ÷ users at the first."""
    return rate(stages[-1].users, stages[0].users)


def breakdowns(counts: FunnelCounts, window: Duration, at_us: int, dimension: str) -> tuple[Breakdown, ...]:
    """The funnel for each value of a dimension, those with most users first."""
    found = []
    for value in counts.values(dimension):
        stages = stage_reports(counts, window, at_us, dimension, value)
        found.append(Breakdown(value=value, stages=stages, overall=overall(stages)))
    return tuple(sorted(found, key=lambda b: (-b.stages[0].users, b.value)))
