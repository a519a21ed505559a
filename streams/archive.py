"""Answers about the past: a funnel's history and comparisons, from the record and the counts at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from schemas.duration import MICROS, Duration
from schemas.errors import UsageError
from schemas.event import iso, moment_of
from schemas.history import Comparison, ComparisonReport, HistoryReport
from streams.compare import judged
from streams.past import Page, PointAt, Recorded, page, points, recorded, splits_of
from streams.periods import CompareAsked, Part, Span, Users, live, other, pairs
from streams.points import FRAME, HOUR, KEPT_SECONDS, MINUTE, frame
from streams.rates import Split
from streams.reader import Reader, SourceView
from streams.recorder import Record
from streams.retention import BUCKET_US
from streams.windows import FunnelCounts

CELLS_MAX = 2500  # points × (1 + values) of a page
NOTES = {
    "users": "Users are no proportion (who pays need not be among who viewed in the same window), so no interval and no test.",
    "entries": "Finished entries: Newcombe's interval of the difference; Fisher's exact test, or the score test where numbers allow.",
    "adjusted": "Conversions by what was due: the exact interval of the ratio of two Poisson counts, and its test.",
}


@dataclass(frozen=True)
class HistoryAsked:
    """What history is wanted; times in µs of event time."""

    funnel: str
    window: Duration
    basis: str
    by: str | None
    step: str | None
    start_us: int | None
    end_us: int | None
    limit: int


class Archive:
    """Over the reader's counts and the record. Raises UsageError where something cannot be had, StoreError where Redis cannot."""

    def __init__(self, reader: Reader, record: Record) -> None:
        self._reader = reader
        self._record = record

    async def history(self, asked: HistoryAsked) -> tuple[HistoryReport, int | None]:
        """One page of a funnel's history, and where the next one begins (µs); its address is left to whoever knows addresses."""
        view, counts = self._view(asked.funnel)
        if view.at_us is None:
            return self._report(asked, view, None, ()), None
        splits = splits_of(counts, asked.by)
        most = min(asked.limit, max(1, CELLS_MAX // len(splits)))
        cut = page(view.at_us, asked.start_us, asked.end_us, asked.step, most, len(splits))
        found: Mapping[int, Recorded] = {}
        if asked.basis != "entries" and cut.boundaries:
            found = await self._recorded(counts, cut, int(asked.window), asked.by)
        # At once, so that all points are of the same counts; CELLS_MAX bounds how long that takes.
        made = list(points(counts, view.at_us, cut, int(asked.window), asked.basis, splits, found))
        return self._report(asked, view, cut, made), cut.next_us

    async def _recorded(self, counts: FunnelCounts, cut: Page, window: int, by: str | None) -> dict[int, Recorded]:
        step, definition = cut.recorded_step, counts.plan.definition
        begin_us = frame(cut.start_us, step) * FRAME * step * MICROS
        names, entries = await asyncio.gather(self._names(definition, by), self._record.points(definition, step, begin_us, cut.end_us))
        # In a thread: two days by minutes are a tenth of a second of work, and nothing of it changes meanwhile.
        return await asyncio.to_thread(recorded, entries, names, window, by, cut.boundaries)

    async def _names(self, definition: int, by: str | None) -> dict[int, Split]:
        return {} if by is None else (await self._record.names(definition))[0]

    def _view(self, funnel: str) -> tuple[SourceView, FunnelCounts]:
        view = self._reader.views[self._reader.config.funnel(funnel).source]
        return view, view.counts[funnel]

    def _report(self, asked: HistoryAsked, view: SourceView, cut: Page | None, made: Sequence[PointAt]) -> HistoryReport:
        spec = self._reader.config.funnel(asked.funnel)
        since_us = view.since(view.counts[asked.funnel].plan.definition)
        some = cut is not None and len(cut.boundaries) > 0
        head = HistoryReport(
            name=asked.funnel,
            title=spec.title or asked.funnel,
            source=spec.source,
            window=str(asked.window),
            basis=asked.basis,
            by=asked.by,
            step=asked.step or "1m" if cut is None else str(cut.step),
            from_=moment_of(cut.start_us) if cut is not None and some else None,
            to=moment_of(cut.boundaries[-1]) if cut is not None and some else None,
            at=None if view.at_us is None else moment_of(view.at_us),
            since=moment_of(since_us) if since_us >= 0 else None,
            stages=tuple(stage.name for stage in spec.stages),
            points=(),
            gaps=0 if cut is None else len(cut.boundaries) - len(made),
            next=None,
        )
        return head.model_copy(update={"points": tuple(made)})  # which say the same as those of the model

    async def compare(self, asked: CompareAsked) -> ComparisonReport:
        """Two periods, or values of a dimension, step by step."""
        view, counts = self._view(asked.funnel)
        spec, note = counts.plan.funnel, NOTES[asked.basis]
        compared: list[tuple[Part, Part]] = []
        if view.at_us is not None:
            users = asked.basis == "users"
            first, second = await self._users(asked, counts, view.at_us) if users else self._spans(asked, view)
            compared, left_out = pairs(asked, counts, first, second)
            note += f" {left_out} values with fewer entrants were left out." if left_out else ""
        rates = [list(zip(a.rates(len(spec.stages)), b.rates(len(spec.stages)))) for a, b in compared]
        steps, tests = judged([stage.name for stage in spec.stages[1:]], rates, asked.basis)
        return ComparisonReport(
            name=asked.funnel,
            title=spec.title or asked.funnel,
            basis=asked.basis,
            by=asked.by,
            at=None if view.at_us is None else moment_of(view.at_us),
            compared=len(compared),
            tests=tests,
            note=note,
            comparisons=tuple(
                Comparison(a=a.side, b=b.side, pending_a=a.pending, pending_b=b.pending, steps=tuple(row))
                for (a, b), row in zip(compared, steps)
            ),
        )

    def _spans(self, asked: CompareAsked, view: SourceView) -> tuple[Span, Span | None]:
        """The periods by their buckets; the second is None where values are compared."""
        counts, at_us = view.counts[asked.funnel], view.at_us or 0
        first = asked.period_us
        if first is None:
            # On basis entries the newest of which all are finished.
            end_us = at_us - (counts.plan.mature_after_us if asked.basis == "entries" else 0)
            end_us = end_us // BUCKET_US * BUCKET_US
            first = end_us - asked.window.micros, end_us
        second = other(asked, first)
        if second is not None and first[0] < second[1] and second[0] < first[1] and asked.against_value is None:
            raise UsageError("the two periods overlap: what is in both cannot differ from itself; ask for periods apart")
        worth = view.adjusted(asked.funnel) if asked.basis == "adjusted" else None
        span = partial(Span, counts, at_us, worth=worth, by=asked.by)
        return span(first), None if second is None else span(second)

    async def _users(self, asked: CompareAsked, counts: FunnelCounts, at_us: int) -> tuple[Users, Users | None]:
        """The periods by how many people they held: the newest window as it is, others from the record."""
        first = asked.period_us
        windows = {int(window): window for window in self._reader.config.windows_of(counts.plan.funnel)}
        length = int(asked.window) if first is None else (first[1] - first[0]) // MICROS
        against = other(asked, first or (at_us - asked.window.micros, at_us))
        for period in (first, against):
            if period is not None and ((period[1] - period[0]) // MICROS != length or length not in windows):
                kept = ", ".join(map(str, windows.values()))
                raise UsageError(
                    f"how many people a period held is known for the funnel's windows alone: take one of {kept}, or basis entries"
                )
        if first is None:
            held = Users(at_us - length * MICROS, at_us, live(counts, length, at_us, asked.by))
        else:
            held = await self._held(counts, length, first[1], at_us, asked.by)
        return held, None if against is None else await self._held(counts, length, against[1], at_us, asked.by)

    async def _held(self, counts: FunnelCounts, length: int, end_us: int, at_us: int, by: str | None) -> Users:
        step = MINUTE if end_us > at_us - KEPT_SECONDS[MINUTE] * MICROS else HOUR
        boundary_us = end_us // (step * MICROS) * step * MICROS
        cut = Page(Duration(f"{step}s"), boundary_us, boundary_us, None)
        found = (await self._recorded(counts, cut, length, by)).get(boundary_us)
        if found is None:
            raise UsageError(
                f"of the window of {length} s that ended at {iso(boundary_us)} nothing was recorded; take another time, or basis entries"
            )
        return Users(boundary_us - length * MICROS, boundary_us, found.users)
