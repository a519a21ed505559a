"""The figures as Markdown tables: those of deploy/adjusted.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from tests.simulation.study import MINUTE_US, WINDOWS, Delay, Health, Projected, Reading, Study

MINUTES = (0, 15, 30, 60, 240)  # after the incident

RATES: dict[str, Callable[[Reading], float]] = {
    **{f"adjusted, {window // 60} min": lambda r, window=window: r.adjusted[window].rate or 0.0 for window in WINDOWS},
    "plain, 24 h": lambda r: r.plain.rate,
    "mature, newest hour": lambda r: r.mature.rate,
}


def lines(study: Study, nights: dict[str, Health], incidents: Sequence[dict[str, Delay]]) -> Iterator[str]:
    """One after the other: how soon a rate tells, how its limits hold, what its projections are worth."""
    yield from _rates(study)
    yield ""
    yield from _delays(incidents)
    yield ""
    yield from _health(study, nights)
    yield ""
    yield from _projections(study)
    yield ""
    yield (
        f"On the healthy days the plain 24-hour rate swung between {study.lowest_plain:.3f} and {study.highest_plain:.3f}, "
        f"and {study.false_against_yesterday:.0%} of its checks were significantly below the same time of the day before."
    )


def _rates(study: Study) -> Iterator[str]:
    by_minute = {(r.moment_us - study.broken_us) / MINUTE_US: r for r in study.readings}
    yield _row("rate, so long after the incident", *(f"{minute} min" for minute in MINUTES))
    yield _row("---", *["---:"] * len(MINUTES))
    yield _row("truth", *(f"{by_minute[minute].truth:.3f}" for minute in MINUTES))
    for name, of in RATES.items():
        yield _row(name, *(f"{of(by_minute[minute]):.3f}" for minute in MINUTES))


def _delays(incidents: Sequence[dict[str, Delay]]) -> Iterator[str]:
    yield _row(f"of {len(incidents)} incidents", "shows it after", "half fallen after")
    yield _row("---", *["---:"] * 2)
    for name in RATES:
        delays = [found[name] for found in incidents]
        yield _row(name, _spread([delay.shown for delay in delays]), _spread([delay.halved for delay in delays]))


def _spread(minutes: Sequence[float | None]) -> str:
    """The median, and the least and the most."""
    known = sorted(math.inf if found is None else found for found in minutes)
    return f"{_ago(median(known))} ({_ago(known[0])} to {_ago(known[-1])})"


def _health(study: Study, nights: dict[str, Health]) -> Iterator[str]:
    yield _row("adjusted, 15 min, nothing wrong", "checks", "limits hold the usual rate", "mean of z", "deviation of z")
    yield _row("---", *["---:"] * 4)
    named = {
        "all day": study.healthy,
        "mornings, 5 to 11 o'clock": study.ramp,
        "nights convert half as well, `by: all`": nights["all"],
        "the same, `by: hour_of_week`": nights["hour_of_week"],
    }
    for name, found in named.items():
        covered = f"{found.covered:.1%} ± {found.error:.1%}"
        yield _row(name, f"{found.checks:,}", covered, f"{found.mean:+.2f} ± {found.mean_error:.2f}", f"{found.deviation:.2f}")


def _projections(study: Study) -> Iterator[str]:
    yield _row("projection for the entries of the last hour", "checks", "limits hold what became of them", "mean of projected − final")
    yield _row("---", *["---:"] * 3)
    named: dict[str, Projected] = {"healthy days": study.projected, "the 12 hours after the incident": study.projected_broken}
    for name, found in named.items():
        yield _row(name, f"{found.checks:,}", f"{found.covered:.0%}", f"{found.bias:+.4f}")


def _ago(minutes: float) -> str:
    if math.isinf(minutes):
        return "never"
    return f"{minutes:.0f} min" if minutes < 60 else f"{minutes / 60:.1f} h"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
