"""The figures as the Markdown tables of deploy/alerts.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from tests.alerts_study.delayed import Delayed
from tests.alerts_study.hardships import Told
from tests.alerts_study.levels import CONTENDERS, LEVELS, OPTIMUM, RATES, SEQUENCE, Delays, Pages, mean_seconds
from tests.alerts_study.optimum import bound_minutes
from tests.alerts_study.traffic import BUCKET_SECONDS

RATIO_MOST = 1.25
EVALUATION_MINUTES = BUCKET_SECONDS / 60


def levels(pages: Sequence[Pages], bare: Sequence[Pages], delays: Sequence[Delays]) -> Iterator[str]:
    by_level = {found.per_minute: found for found in delays}
    counted = {(found.name, found.per_minute): found for found in pages}
    alone = {found.per_minute: found for found in bare}
    yield _row("entrants a minute", *(f"{level}" for level in LEVELS))
    yield _row("---", *["---:"] * len(LEVELS))
    yield _head("false pages a day, true rate 0.35")
    for name in CONTENDERS:
        yield _row(_named(name), *(_a_day(counted[name, level]) for level in LEVELS))
    yield _head("the same in 100 days (of so many simulated)")
    yield _row(_named(SEQUENCE), *(_in_100(counted[SEQUENCE, level]) for level in LEVELS))
    yield _row("its detector alone", *(_in_100(alone[level]) for level in LEVELS))
    yield _head("minutes from the fall to 0.15 to the page, median")
    for name in CONTENDERS:
        yield _row(_named(name), *(_minutes(by_level[level].of[name]) for level in LEVELS))
    yield _row("optimum, told both rates", *(_minutes(by_level[level].of[OPTIMUM]) for level in LEVELS))
    yield _row("Lorden's bound", *(_short(bound_minutes(level)) for level in LEVELS))
    yield _row("**sequential ÷ optimum**", *(_ratio(by_level[level]) for level in LEVELS))
    yield _row("sequential, in nine of ten falls", *(_ninth(by_level[level].of[SEQUENCE]) for level in LEVELS))


def by_rate() -> Iterator[str]:
    yield _row("true rate, entrants a minute", *(f"{level}" for level in LEVELS))
    yield _row("---", *["---:"] * len(LEVELS))
    for rate in RATES:
        yield _row(f"{rate:.2f}", *(_long(mean_seconds(level, rate)) for level in LEVELS))


def _long(seconds: float) -> str:
    unit, size = next(((u, s) for u, s in (("d", 86_400), ("h", 3600), ("min", 60)) if seconds >= s), ("s", 1))
    return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"


def hardships(told: Sequence[Told]) -> Iterator[str]:
    yield _row("10 entrants a minute", "days", "rate < 0.30 for 5m", "windowed", "sequential", "minutes to the page", "")
    yield _row("---", *["---:"] * 5, "---")
    for row in told:
        yield _row(row.what, f"{row.days:g}", *(str(n) for n in (row.naive, row.windowed, row.sequential)), _short(row.minutes), row.note)


def delayed(found: Sequence[Delayed]) -> Iterator[str]:
    runs = found[0].runs
    yield _row(f"of {runs} campaigns and falls", "pages in a calm hour", "pages for a campaign", "falls found", "minutes to the page")
    yield _row("---", *["---:"] * 4)
    for row in found:
        yield _row(row.name, str(row.calm_pages), str(row.campaign_pages), str(row.found), _minutes(row.delays))


def reached(pages: Sequence[Pages], bare: Sequence[Pages], delays: Sequence[Delays]) -> list[str]:
    """Where the goals of the README are missed; nothing: they are reached."""
    missed = [f"{p.pages} pages in {p.days:g} days at {p.per_minute:g} a minute" for p in (*pages, *bare) if p.pages * 100 > p.days]
    for found in delays:
        best, ours = (median(found.of[name]) / 60 for name in (OPTIMUM, SEQUENCE))
        if ours > RATIO_MOST * best + EVALUATION_MINUTES:
            missed.append(f"{ours:.2f} minutes where the optimum takes {best:.2f}, at {found.per_minute:g} a minute")
    return missed


def _named(name: str) -> str:
    return f"`{name}`" if name.startswith("rate") else name


def _a_day(found: Pages) -> str:
    a_day = found.pages / found.days
    return f"{a_day:.0f}" if a_day >= 10 else f"{a_day:.2g}"


def _in_100(found: Pages) -> str:
    return f"{found.pages / found.days * 100:.2g} ({found.days:,.0f})"


def _minutes(seconds: Sequence[float]) -> str:
    return _short(median(seconds) / 60) if seconds else ""


def _short(minutes: float | None) -> str:
    if minutes is None:
        return ""
    return f"{minutes:.0f}" if minutes >= 20 else f"{minutes:.1f}" if minutes >= 1 else f"{minutes:.2f}"


def _ratio(found: Delays) -> str:
    best, ours = (median(found.of[name]) / 60 for name in (OPTIMUM, SEQUENCE))
    rest = f" ({(ours - EVALUATION_MINUTES) / best:.2f} but for an evaluation)" if ours > RATIO_MOST * best else ""
    return f"{ours / best:.2f}{rest}"


def _ninth(seconds: Sequence[float]) -> str:
    return _short(sorted(seconds)[len(seconds) * 9 // 10] / 60)


def _head(title: str) -> str:
    return _row(f"**{title}**", *[""] * len(LEVELS))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
