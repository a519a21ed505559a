"""Questions in words, answered from a running service's reports: what the MCP server's tools return."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta

from schemas.answers import (
    AlertsNow,
    FunnelList,
    FunnelNow,
    FunnelPast,
    Meaning,
    Meanings,
    PastPoint,
    StageLine,
    ValueLine,
    WhatChanged,
)
from schemas.dictionary import Dictionary, Entry
from schemas.duration import Duration
from schemas.errors import UsageError
from schemas.history import HistoryPoint, StagePoint
from schemas.report import FunnelReport, FunnelSummary, StageReport
from streams.changed import Compared, percent, says_something, what_changed
from streams.client import Funnelwatch, Period

FUNNELS_MAX = 50
FUNNELS_COMPARED_MAX = 20
VALUES_MAX = 12
POINTS_MAX = 60
ALERTS_MAX = 30
TRANSITIONS_MAX = 10
MEANINGS_MAX = 8
STEPS = ("1m", "5m", "10m", "30m", "1h", "6h", "12h", "1d")
MINUTES_KEPT = timedelta(hours=48)
BASES = ("adjusted", "entries")  # in this order: the one that sees what is new at once, then the one that needs no history
NOTHING_YET = "nothing has been counted yet: /readyz says whether the worker is ready, and its lag whether there is anything to count"


def list_funnels(service: Funnelwatch) -> FunnelList:
    """Every funnel with what may be asked of it."""
    funnels = service.funnels()
    names = ", ".join(f"{f.name} ({percent(f.overall.rate) if f.overall else '–'})" for f in funnels[:VALUES_MAX])
    at = max((f.at for f in funnels if f.at is not None), default=None)
    summary = f"{len(funnels)} funnel{'s' * (len(funnels) != 1)}, as of {_iso(at)}; with overall rates: {names}."
    return FunnelList(summary=summary, funnels=tuple(funnels[:FUNNELS_MAX]), left_out=max(0, len(funnels) - FUNNELS_MAX))


def funnel_report(service: Funnelwatch, funnel: str, window: str | None, basis: str, by: str | None) -> FunnelNow:
    """A funnel over one trailing window."""
    report = service.funnel(funnel, window, basis, by)
    values = sorted(report.values, key=lambda value: -value.stages[0].users)
    return FunnelNow(
        summary=_told(report),
        funnel=report.name,
        window=report.window,
        basis=report.basis,
        at=report.at,
        stale=report.stale,
        stages=tuple(_line(stage) for stage in report.stages),
        overall=report.overall,
        by=by,
        values=tuple(
            ValueLine(value=v.value, users=tuple(s.users for s in v.stages), rates=_step_rates(v.stages), overall=v.overall.rate)
            for v in values[:VALUES_MAX]
        ),
        values_left_out=max(0, len(values) - VALUES_MAX),
    )


def changes(service: Funnelwatch, since: str, funnel: str | None, against: str) -> WhatChanged:
    """Which steps got worse or better since a time, and at which value of which dimension."""
    if against not in {"previous", "yesterday", "last_week"}:
        raise UsageError(f"there is no period {against!r} to compare with; there are: previous, yesterday, last_week")
    asked = _asked(service.funnels(), funnel)
    compared: list[Compared] = []
    why_not: dict[str, str] = {}
    for one in asked[:FUNNELS_COMPARED_MAX]:
        try:
            compared.append(_compared(service, one, _period(since, one), against))
        except UsageError as error:
            why_not[one.name] = str(error)
    why_not |= {
        one.name: f"only {FUNNELS_COMPARED_MAX} funnels are compared at once; ask for it by name" for one in asked[FUNNELS_COMPARED_MAX:]
    }
    if not compared:
        raise UsageError("; ".join(f"{name}: {why}" for name, why in why_not.items()))
    return what_changed(compared, why_not)


def past(service: Funnelwatch, funnel: str, since: str, window: str | None, basis: str, by: str | None, value: str | None) -> FunnelPast:
    """How a funnel's rates went since a time, in at most 60 points."""
    if (by is None) != (value is None):
        raise UsageError("`by` and `value` go together: a dimension, and one value of it")
    start, to = _period(since, _asked(service.funnels(), funnel)[0])
    page = service.history(
        funnel,
        start,
        to,
        step=_step(to - start, long_ago=to - start > MINUTES_KEPT),
        window=window,
        basis=basis,
        by=by,
        limit=POINTS_MAX + 2,
    )
    points = tuple(
        PastPoint(at=point.at, users=tuple(s.users for s in stages), rates=_step_rates(stages))
        for point in page.points
        if (stages := _stages_of(point, value))
    )
    of = f" of {by} {value}" if by else ""
    if not points:
        raise UsageError(f"{funnel}: there are no points{of} between {_iso(start)} and {_iso(to)}; name a later time or another value")
    ends = ", ".join(f"{stage} from {percent(first)} to {percent(last)}" for stage, first, last in _ends(page.stages, points))
    return FunnelPast(
        summary=f"{funnel}{of}, {len(points)} points every {page.step} from {_iso(points[0].at)} to {_iso(points[-1].at)}; rates: {ends}.",
        funnel=funnel, window=page.window, basis=page.basis, step=page.step, by=by, value=value, stages=page.stages, points=points,
        gaps=page.gaps,
    )  # fmt: skip


def alerts(service: Funnelwatch) -> AlertsNow:
    """The alerts that are not at rest, and what happened last."""
    found = service.alerts(TRANSITIONS_MAX)
    active = [one for one in found.states if one.state != "inactive" or one.data not in {"ok", "low_sample"}]
    firing = [_named(one.rule, one.dimension, one.value) for one in active if one.state in {"firing", "recovering"}]
    said = f"{len(firing)} of {len(found.states)} alerts fire{'s' * (len(firing) == 1)}"
    summary = f"{said}: {', '.join(firing[:VALUES_MAX])}." if firing else f"{said}."
    return AlertsNow(summary=summary, active=tuple(active[:ALERTS_MAX]), transitions=tuple(found.transitions), rules=len(found.states))


def meanings(dictionary: Dictionary, word: str, funnel: str | None) -> Meanings:
    """What the dictionary has on a name of the config, or on a word of the reports; the best matches first."""
    wanted = re.sub(r"[\W_]+", " ", word.lower()).split()
    if not wanted:
        raise UsageError("name what is to be explained: a funnel, a stage, an alert, or a word such as `users` or `adjusted`")
    ranked = sorted(
        (
            (_match(one, wanted), place, one)
            for place, one in enumerate(_entries(dictionary))
            if funnel is None or one.funnel in ("", funnel)
        ),
        key=lambda found: (-found[0], found[1]),
    )
    found = [one for score, _, one in ranked if score > 0]
    if not found:
        raise UsageError(
            f"the dictionary has nothing on {word[:64]!r}; list_funnels names what there is, and `rate`, `users`, `entry` are words"
        )
    first = found[0]
    return Meanings(
        summary=f"{first.what} {first.title}: {first.meaning}",
        found=tuple(found[:MEANINGS_MAX]),
        left_out=max(0, len(found) - MEANINGS_MAX),
    )


def moment(text: str, now: datetime) -> datetime:
    """A time as people say it: `noon`, `14:30` (the last one there was, by the clock of `now`), `3h` ago, or ISO 8601."""
    said = text.strip().lower()
    said = {"noon": "12:00", "midday": "12:00", "midnight": "00:00", "today": "00:00"}.get(said, said)
    try:
        if re.fullmatch(r"[0-9]+[smhd]", said):
            return now - timedelta(seconds=Duration(said))
        if re.fullmatch(r"\d{1,2}:\d{2}", said):
            then = _on(now.date(), time.fromisoformat(said.zfill(5)), now)
            return then if then < now else _on(now.date() - timedelta(days=1), then.time(), now)
        # Python 3.10 knows no Z.
        then = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text.strip()))
    except (ValueError, OverflowError):
        raise UsageError(f"{text[:40]!r} is no time; write noon, 14:30, 3h (ago), or 2026-03-02T12:00:00+01:00") from None
    return then if then.tzinfo is not None else then.replace(tzinfo=now.tzinfo)


def _on(day: date, at: time, now: datetime) -> datetime:
    return datetime.combine(day, at, tzinfo=now.tzinfo)


def _asked(funnels: Sequence[FunnelSummary], name: str | None) -> list[FunnelSummary]:
    found = [one for one in funnels if name in (None, one.name)]
    if not found:
        raise UsageError(f"there is no funnel {name!r}; there are: {', '.join(one.name for one in funnels[:FUNNELS_MAX])}")
    return found


def _period(since: str, funnel: FunnelSummary) -> Period:
    """From a time on until the newest counts, by the clock of this machine."""
    if funnel.at is None:
        raise UsageError(NOTHING_YET)
    start = moment(since, funnel.at.astimezone())
    if start >= funnel.at:
        raise UsageError(f"{_iso(start)} is not before the newest counts ({_iso(funnel.at)}); name an earlier time")
    return start, funnel.at


def _compared(service: Funnelwatch, one: FunnelSummary, period: Period, against: str) -> Compared:
    """The two periods of a funnel, on the first basis that has something to say of both."""
    why = "no step has a rate in both periods: too little was finished in one of them; take an earlier time"
    for basis in BASES:
        total = service.compare_periods(one.name, period, against, basis=basis)
        if says_something(total):
            by = [service.compare_periods(one.name, period, against, basis=basis, by=dimension) for dimension in one.dimensions]
            return Compared(one.name, one.stages, total, tuple(by))
    raise UsageError(why)


def _told(report: FunnelReport) -> str:
    first, last = report.stages[0], report.stages[-1]
    said = (
        f"{report.name}, last {report.window}: {first.users:,} {first.name} → {last.users:,} {last.name} ({percent(report.overall.rate)})"
    )
    steps = list(zip(report.stages, report.stages[1:]))
    before, worst = max(steps, key=lambda pair: pair[1].lost)
    leak = f"; most leave at {before.name} → {worst.name}: {worst.lost:,} people" if worst.lost else ""
    under = [s for s in report.stages if s.step and s.step.rate is not None and s.target is not None and s.step.rate < s.target]
    targets = "; ".join(f"{s.name} at {percent(s.step.rate if s.step else None)} is under its target of {percent(s.target)}" for s in under)
    late = " These numbers are stale: part of the events is not counted yet." if report.stale else ""
    return f"{said}{leak}{'; ' if targets else ''}{targets}.{late}"


def _line(stage: StageReport) -> StageLine:
    taken = stage.time_to_convert
    return StageLine(
        name=stage.name, title=stage.title, users=stage.users, step=stage.step, lost=stage.lost, target=stage.target,
        p50_seconds=None if taken is None else taken.p50_seconds,
    )  # fmt: skip


def _step_rates(stages: Iterable[StageReport | StagePoint]) -> tuple[float | None, ...]:
    """Of every step in turn; the first stage has none."""
    return tuple(None if stage.step is None else stage.step.rate for stage in stages)[1:]


def _stages_of(point: HistoryPoint, value: str | None) -> tuple[StagePoint, ...]:
    return point.stages if value is None else next((v.stages for v in point.values if v.value == value), ())


def _step(length: timedelta, *, long_ago: bool) -> str:
    """The finest step that gives no more points than an answer has."""
    steps = STEPS[STEPS.index("1h") :] if long_ago else STEPS
    return next((step for step in steps if length.total_seconds() / int(Duration(step)) <= POINTS_MAX), STEPS[-1])


def _ends(stages: Sequence[str], points: Sequence[PastPoint]) -> Iterator[tuple[str, float | None, float | None]]:
    yield from zip(stages[1:], points[0].rates, points[-1].rates)


def _entries(dictionary: Dictionary) -> Iterator[Meaning]:
    for term in dictionary.terms:
        yield Meaning(what="term", funnel="", name=term.key, title=term.term, meaning=term.meaning, counted=())
    for funnel in dictionary.funnels:
        yield _meaning("funnel", funnel.name, funnel)
        for what, entries in (("stage", funnel.stages), ("step", funnel.steps), ("dimension", funnel.dimensions), ("alert", funnel.alerts)):
            yield from (_meaning(what, funnel.name, entry) for entry in entries)
    yield from (_meaning("source", "", source) for source in dictionary.sources)
    yield _meaning("alert", "", dictionary.pipeline)


def _meaning(what: str, funnel: str, entry: Entry) -> Meaning:
    return Meaning(
        what=what, funnel=funnel, name=entry.name, title=entry.title, meaning=entry.meaning, counted=entry.counted, target=entry.target,
        owner=entry.owner,
    )  # fmt: skip


def _match(one: Meaning, wanted: Sequence[str]) -> float:
    """How well an entry fits: its name and title word by word, then whether the words occur in its meaning; 0: not at all."""
    named = set(re.sub(r"[\W_]+", " ", f"{one.name} {one.title}".lower()).split())
    hits = len(named.intersection(wanted))
    if hits:
        return 2 + hits / len(wanted) + hits / len(named)
    return sum(word in one.meaning.lower() for word in wanted) / len(wanted) if len(wanted[0]) > 3 else 0.0


def _named(rule: str, dimension: str | None, value: str | None) -> str:
    return rule if dimension is None else f"{rule} ({dimension} {value})"


def _iso(at: datetime | None) -> str:
    return "no event yet" if at is None else at.astimezone().isoformat(timespec="seconds")
