"""[pure] Which step of which funnel got worse (or better) between two periods, and at which value of a dimension.

Every test of every comparison is judged together, by Holm's method. A change is told in conversions: those
seen now, less those there would be at the rate before. A value of a dimension is named when it explains at
least half of the step's change, and surely (three standard deviations) more than its share would be if all
values had changed alike; of values that explain nearly as much, the one with the fewest entries is the most
telling. The decomposition is E. M. Kitagawa's, as of the alerts (`alerting.localise`): there against what
is usual, here against the period before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

from schemas.answers import StepChange, ValueChange, WhatChanged
from schemas.history import ComparisonReport, Side, StepComparison
from schemas.report import Rate
from streams.compare import LEVEL, holm

SHARE_MIN = 0.5
SURE = 3.0  # standard deviations
NEARLY = 0.9  # of the share that the best value explains
VALUES_SHOWN_MAX = 5
STEPS_SHOWN_MAX = 10


@dataclass(frozen=True)
class Compared:
    """A funnel's two periods: all of it, and value by value for each dimension. Side a is now, side b before."""

    funnel: str
    stages: tuple[str, ...]
    total: ComparisonReport
    by: tuple[ComparisonReport, ...]


def says_something(report: ComparisonReport) -> bool:
    """Whether a step has a rate in both periods."""
    return any(step.p is not None for comparison in report.comparisons for step in comparison.steps)


def what_changed(compared: Sequence[Compared], not_compared: dict[str, str]) -> WhatChanged:
    """The steps that changed by more than chance, the costliest first. Of at least one funnel."""
    judged = dict(_judged(compared))
    found = [change for one in compared for change in _steps(one, judged)]
    found.sort(key=lambda change: (not change.significant, -abs(change.conversions)))
    worse, better = [c for c in found if c.conversions < 0], [c for c in found if c.conversions >= 0]
    now, before = _periods(compared[0].total)
    steps = sum(len(one.stages) - 1 for one in compared)
    return WhatChanged(
        summary=_summary(worse, better, steps, len(compared)),
        since=now.from_,
        to=now.to,
        against_from=before.from_,
        against_to=before.to,
        worse=tuple(worse[:STEPS_SHOWN_MAX]),
        better=tuple(better[:STEPS_SHOWN_MAX]),
        compared=steps,
        tests=len(judged),
        bases={one.funnel: one.total.basis for one in compared},
        not_compared=not_compared,
    )


def _periods(report: ComparisonReport) -> tuple[Side, Side]:
    return report.comparisons[0].a, report.comparisons[0].b


def _judged(compared: Sequence[Compared]) -> Iterator[tuple[int, float]]:
    """The adjusted p-value of every test made, by the step compared (its id: they are kept by the reports)."""
    steps = [
        step
        for one in compared
        for report in (one.total, *one.by)
        for comparison in report.comparisons
        for step in comparison.steps
        if step.p is not None
    ]
    yield from zip(map(id, steps), holm([step.p or 0.0 for step in steps]))


def _steps(one: Compared, judged: dict[int, float]) -> Iterator[StepChange]:
    for place, step in enumerate(one.total.comparisons[0].steps):
        if step.a.rate is None or step.b.rate is None:
            continue
        gained = _gained(step)
        values = _values(one, place, gained, judged)
        p = judged.get(id(step))
        significant = p is not None and p <= LEVEL
        named = _place(one, place, gained, judged) if significant else None
        if not significant:  # the whole stands, but a value of it may not
            named = next((value for value in values if value.significant), None)
            if named is None:
                continue
            gained = named.conversions
        yield StepChange(
            summary=_sentence(one, place, step, gained, significant=significant, named=named),
            funnel=one.funnel,
            from_stage=one.stages[place],
            stage=step.stage,
            before=step.b,
            now=step.a,
            difference=step.a.rate - step.b.rate,
            conversions=gained,
            p_adjusted=p,
            significant=significant,
            place=named,
            values=values[:VALUES_SHOWN_MAX],
        )


def _expected(step: StepComparison) -> float:
    """Conversions there would be now at the rate before."""
    return step.a.denominator * step.b.numerator / step.b.denominator


def _gained(step: StepComparison) -> float:
    return step.a.numerator - _expected(step)


def _of_values(one: Compared, place: int) -> Iterator[tuple[str, str, StepComparison]]:
    for report in one.by:
        for comparison in report.comparisons:
            step = comparison.steps[place]
            if step.a.rate is not None and step.b.rate is not None:
                yield report.by or "", comparison.a.value or "", step


def _values(one: Compared, place: int, gained: float, judged: dict[int, float]) -> tuple[ValueChange, ...]:
    """Every value of every dimension, the ones that changed most first."""
    found = [_change(dimension, value, step, gained, judged) for dimension, value, step in _of_values(one, place)]
    return tuple(sorted(found, key=lambda change: (not change.significant, -abs(change.conversions))))


def _change(dimension: str, value: str, step: StepComparison, gained: float, judged: dict[int, float]) -> ValueChange:
    own, p = _gained(step), judged.get(id(step))
    return ValueChange(
        dimension=dimension,
        value=value,
        before=step.b,
        now=step.a,
        conversions=own,
        share=own / gained if gained else 0.0,
        p_adjusted=p,
        significant=p is not None and p <= LEVEL,
    )


def _place(one: Compared, place: int, gained: float, judged: dict[int, float]) -> ValueChange | None:
    """The value that explains most of a step's change, if there is one."""
    found: list[ValueChange] = []
    for report in one.by:
        steps = [(c.a.value or "", c.steps[place]) for c in report.comparisons]
        known = [(value, step) for value, step in steps if step.a.rate is not None and step.b.rate is not None]
        for value, step in known if len(known) > 1 else []:
            change = _change(report.by or "", value, step, gained, judged)
            surplus = _surplus(step, [other for _, other in known]) * (1 if gained > 0 else -1)
            if change.share >= SHARE_MIN and surplus >= SURE:
                found.append(change)
    if not found:
        return None
    best = max(change.share for change in found)
    return min((change for change in found if change.share >= NEARLY * best), key=lambda change: change.now.denominator)


def _surplus(step: StepComparison, all_values: Sequence[StepComparison]) -> float:
    """How many standard deviations more a value has gained than if all values had changed alike.

    Given the total, a value's conversions are binomial; what was to be expected of it is itself known by so
    many conversions only as there were before.
    """
    expected, own = sum(_expected(one) for one in all_values), _expected(step)
    if expected <= 0:
        return 0.0
    ratio = sum(one.a.numerator for one in all_values) / expected
    alike, share = ratio * own, own / expected
    spread = sqrt(max(0.0, alike * (1 - share) + ratio * ratio * own * step.a.denominator / step.b.denominator))
    return (step.a.numerator - alike) / spread if spread > 0 else 0.0


def percent(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.1%}"


def _rates(now: Rate, before: Rate) -> str:
    return f"{percent(now.rate)} after {percent(before.rate)}"


def _sentence(one: Compared, place: int, step: StepComparison, gained: float, *, significant: bool, named: ValueChange | None) -> str:
    what = f"{one.funnel}: {one.stages[place]} → {step.stage}"
    word, much = ("better", "more") if gained >= 0 else ("worse", "fewer")
    if not significant and named is not None:
        at = f"{named.dimension} {named.value}"
        return f"{what} got {word} for {at} alone: {_rates(named.now, named.before)}; over all it is {_rates(step.a, step.b)}."
    points = 100 * ((step.a.rate or 0.0) - (step.b.rate or 0.0))
    told = f"{what} got {word}: {_rates(step.a, step.b)} ({points:+.1f} points, about {abs(gained):,.0f} conversions {much})"
    if named is not None:
        part = f"all of it ({_rates(named.now, named.before)} there)"
        if named.share < 0.995:
            part = f"{named.share:.0%} of it ({_rates(named.now, named.before)} there)"
        return f"{told}; {named.dimension} {named.value} explains {part}."
    looked = ", ".join(report.by or "" for report in one.by)
    return f"{told}; no single value of {looked} explains it." if looked else f"{told}."


def _summary(worse: Sequence[StepChange], better: Sequence[StepChange], steps: int, funnels: int) -> str:
    over = f"{steps} steps of {funnels} funnel{'s' * (funnels != 1)} compared"
    if not worse:
        good = f" {better[0].summary}" if better else ""
        return f"Nothing got worse by more than chance ({over}).{good}"
    rest = len(worse) - 1
    more = f" {rest} more step{'s' * (rest != 1)} got worse." if rest else ""
    return f"{worse[0].summary}{more} ({over}.)"
