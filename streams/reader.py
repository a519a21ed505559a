"""Follows the ledger: the counts of every funnel in memory, a second old at most.

A shard's counts are read whole once; after that only the deltas that were written since. What
cannot be followed (too far behind, or the shard was begun anew) is read whole again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from schemas.config import Config, Source
from schemas.duration import MICROS, Duration
from schemas.event import moment_of
from schemas.funnel import Funnel
from schemas.report import FunnelReport, FunnelSummary
from streams.adjusting import Adjusting
from streams.collector import SourceReading
from streams.ledger.contract import Changes, Kept, Ledger, Position
from streams.pauses import Stretches
from streams.plan import FunnelPlan, Plan
from streams.rates import breakdowns, overall, rate, stage_reports
from streams.retention import USERS
from streams.snapshots import read_whole
from streams.tally import BucketKey
from streams.watermark import is_catching_up, is_stale, report_time
from streams.windows import Cells, FunnelCounts, first_bucket

Ends = Mapping[str, Mapping[int, int]]  # source -> partition -> offset
NO_ENDS: Ends = {}
NOT_FOLLOWED = "", 0  # generation and sequence number of a shard whose position alone is asked for
W = TypeVar("W", bound=int)  # a window, in seconds


def now_us() -> int:
    return time.time_ns() // 1000


async def by_nobody() -> None:
    """What there is to wait for where none but their reader works on counts: nothing."""


@dataclass
class SourceView:
    """One source as it was last read."""

    source: Source
    plan: Plan
    counts: dict[str, FunnelCounts]
    positions: dict[str, Position] = field(default_factory=dict)  # shard -> position
    intake: dict[str, Position] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    intake_ends: dict[int, int] = field(default_factory=dict)
    at_us: int | None = None
    adjusting: dict[str, Adjusting] = field(default_factory=dict)  # by funnel, once it was asked for

    @property
    def kept(self) -> Kept:
        return [(f.definition, k.seconds, k.count) for f in self.plan.funnels for k in f.kept]

    @property
    def fates(self) -> Cells:
        sums: Cells = {}
        for position in self._all_positions:
            for fate, count in position.fates.items():
                sums[fate] = sums.get(fate, 0) + count
        return sums

    @property
    def lags(self) -> dict[int, int]:
        """Partition -> records not counted yet, where the end of the log is known."""
        return {p: max(0, self.ends[p] - at.next) for p, at in _by_partition(self.positions).items() if p in self.ends}

    @property
    def lag(self) -> int | None:
        intake = [max(0, self.intake_ends[p] - at.next) for p, at in _by_partition(self.intake).items() if p in self.intake_ends]
        return sum(self.lags.values()) + sum(intake) if self.ends else None

    @property
    def stale(self) -> bool:
        marks = {p: at.watermark_us for p, at in _by_partition(self.positions).items()}
        return is_stale(marks, self.lags, self.at_us)

    def settled(self, wall_clock_us: int) -> bool:
        """Whether rules may be judged: neither stale nor catching up with a backlog."""
        return not self.stale and not is_catching_up(self.at_us, wall_clock_us, self.lag)

    def adjusted(self, funnel: str) -> Adjusting:
        """The age-adjusted rates of a funnel as of T."""
        known = self.adjusting.get(funnel)
        if known is None:
            known = self.adjusting[funnel] = Adjusting(self.counts[funnel], self.source.allowed_lateness.micros)
        return known.at(self.at_us or 0)

    def since(self, definition: int) -> int:
        """The event time (µs) since which every shard has counted a definition, and no record is missing; -1: from the beginning."""
        counted = (position.since.get(definition, -1) for position in self.positions.values())
        return max((*counted, *(position.whole_us for position in self._all_positions)), default=-1)

    def misses(self, funnel: FunnelPlan, window_seconds: int) -> bool:
        """Whether a window that ends now holds events that were not counted, or not with all that chains may have begun with."""
        return bool(self.missing(funnel, [window_seconds]))

    def missing(self, funnel: FunnelPlan, windows: Iterable[W]) -> set[W]:
        """Which of some windows `misses` anything."""
        if self.at_us is None:
            return set()
        elsewhere = any(position.since and funnel.definition not in position.since for position in self.positions.values())
        if elsewhere or any(position.gap for position in self._all_positions):
            return set(windows)
        since_us = self.since(funnel.definition)
        if since_us < 0:
            return set()
        complete_us = since_us + funnel.funnel.conversion_window.micros
        found = set()
        for window in windows:
            width, first = first_bucket(window, self.at_us)
            if complete_us > first * width * MICROS:
                found.add(window)
        return found

    @property
    def gone(self) -> int:
        return sum(position.gone for position in self._all_positions)

    @property
    def _all_positions(self) -> tuple[Position, ...]:
        """Also those of a re-keyed source's own topic."""
        return (*self.positions.values(), *self.intake.values())


def _by_partition(positions: dict[str, Position]) -> dict[int, Position]:
    return {int(shard.rpartition(":")[2]): position for shard, position in positions.items()}


def _described(config: Config, funnel: Funnel) -> FunnelSummary:
    """A funnel as configured: what of its summary is always the same."""
    return FunnelSummary(
        name=funnel.name,
        title=funnel.title or funnel.name,
        description=funnel.description,
        owner=funnel.owner,
        source=funnel.source,
        conversion_window=str(funnel.conversion_window),
        windows=tuple(str(w) for w in config.windows_of(funnel)),
        dimensions=tuple(funnel.dimensions),
        stages=tuple(s.name for s in funnel.stages),
        overall=None,
        at=None,
    )


class Reader:
    """Reads the ledger tick by tick, and reports from what it has."""

    def __init__(self, config: Config, ledger: Ledger, clock: Callable[[], int] = now_us) -> None:
        self.config = config
        self._ledger = ledger
        self._clock = clock
        self.views = {s.name: self._new_view(s) for s in config.sources}
        self._described = {funnel.name: _described(config, funnel) for funnel in config.funnels}
        self.read_at: float | None = None  # monotonic seconds of the last complete tick

    def _new_view(self, source: Source) -> SourceView:
        plan = Plan(self.config, source)
        return SourceView(source, plan, {f.funnel.name: FunnelCounts(f, blocks={}) for f in plan.funnels})

    async def tick(self, ends: Ends = NO_ENDS, unused: Callable[[], Awaitable[None]] = by_nobody) -> None:
        """Bring every source up to date. Raises StoreUnavailable.

        `ends` is what this worker knows itself of where its partitions' logs end, which may have yet to come to the ledger.
        `unused` is waited for before counts change: somebody may be at work on them as they are.

        All that is asked of the ledger is asked at once: while chunks are counted, an answer waits until one is done, and a
        question after it for the next.
        """
        found = await asyncio.gather(*[self._tick_source(name, ends, unused) for name in self.views], return_exceptions=True)
        for failed in found:
            if failed is not None:
                raise failed
        self.read_at = time.monotonic()

    async def _tick_source(self, name: str, known: Ends, unused: Callable[[], Awaitable[None]]) -> None:
        view, intake = self.views[name], f"{name}/intake"
        shards, intakes, ends, intake_ends, changes, intake_changes = await asyncio.gather(
            self._ledger.shards(name),
            self._ledger.shards(intake),
            self._ledger.ends(name),
            self._ledger.ends(intake),
            self._changes({shard: (at.generation, at.sequence) for shard, at in view.positions.items()}),
            self._changes(dict.fromkeys(view.intake, NOT_FOLLOWED)),
        )
        await unused()
        if set(view.positions) != set(shards) or not await self._follow(view, changes):
            view = await self._read_whole(name, shards)
        new = [shard for shard in intakes if shard not in view.intake]
        for shard, change in (*intake_changes.items(), *(await self._changes(dict.fromkeys(new, NOT_FOLLOWED))).items()):
            if change is not None:
                view.intake[shard] = change.position
        view.ends, view.intake_ends = {**ends, **known.get(name, {})}, {**intake_ends, **known.get(intake, {})}
        marks = [p.watermark_us for p in view.positions.values()]
        at_us = report_time(marks, self._clock(), view.at_us)
        if at_us is not None:
            await _with_each(view, lambda counts: counts.look_ahead(at_us))
            for counts in view.counts.values():
                counts.move_on()
            view.at_us = at_us
            await _with_each(view, lambda counts: counts.forget_before(at_us))

    async def _changes(self, since: Mapping[str, tuple[str, int]]) -> dict[str, Changes | None]:
        """What was written to some shards since they had a generation and sequence number."""
        found = await asyncio.gather(*[self._ledger.changes(shard, *known) for shard, known in since.items()])
        return dict(zip(since, found))

    async def _follow(self, view: SourceView, changes: Mapping[str, Changes | None]) -> bool:
        """Add what was written since; False when a shard has to be read whole."""
        if any(change is None or change.deltas is None for change in changes.values()):
            return False
        for shard, change in changes.items():
            if change is not None:
                for buckets, totals in change.deltas or ():
                    await _add(view, buckets, totals)
                view.positions[shard] = change.position
        return True

    async def _read_whole(self, name: str, shards: list[str]) -> SourceView:
        old, view = self.views[name], self._new_view(self.config.source(name))
        found = await asyncio.gather(*[read_whole(self._ledger, shard, view.kept) for shard in shards])
        for shard, whole in zip(shards, found):
            if whole is not None:
                for buckets, totals in whole.counts:
                    await _add(view, buckets, totals)
                view.positions[shard] = whole.position
        view.at_us = old.at_us
        self.views[name] = view
        return view

    # Reports

    def counts(self) -> dict[str, FunnelCounts]:
        """The counts of every funnel, by name."""
        return {name: counts for view in self.views.values() for name, counts in view.counts.items()}

    def report(self, funnel: str, window: Duration, by: str | None = None, basis: str = "users") -> FunnelReport:
        """One funnel over one trailing window. Raises KeyError for a funnel that is not there."""
        spec = self.config.funnel(funnel)
        view = self.views[spec.source]
        counts, at_us = view.counts[funnel], view.at_us
        adjusted = view.adjusted(funnel) if basis == "adjusted" else None
        stages = stage_reports(counts, window, at_us or 0, basis=basis, adjusted=adjusted)
        since_us = view.since(counts.plan.definition)
        return FunnelReport(
            name=funnel,
            title=spec.title or funnel,
            source=spec.source,
            window=str(window),
            conversion_window=str(spec.conversion_window),
            at=None if at_us is None else moment_of(at_us),
            stale=view.stale,
            basis=basis,
            incomplete=view.misses(counts.plan, window),
            since=moment_of(since_us) if since_us >= 0 else None,
            lag=view.lag,
            stages=stages,
            overall=overall(stages),
            by=by,
            values=breakdowns(counts, window, at_us or 0, by, basis=basis, adjusted=adjusted) if by else (),
        )

    def summary(self, funnel: Funnel) -> FunnelSummary:
        """A funnel as configured, with its overall rate over the first of its windows."""
        view = self.views[funnel.source]
        counts, at_us, last = view.counts[funnel.name], view.at_us, len(funnel.stages) - 1
        users = [] if at_us is None else [counts.count(USERS, stage, funnel.windows[0], at_us) for stage in (last, 0)]
        now = {"overall": rate(*users) if users else None, "at": None if at_us is None else moment_of(at_us)}
        return self._described[funnel.name].model_copy(update=now)

    def readings(self) -> list[SourceReading]:
        """What the metrics are made of."""
        return [self._reading(view) for view in self.views.values()]

    def _reading(self, view: SourceView) -> SourceReading:
        funnels = {f.funnel.name: f.funnel for f in view.plan.funnels}
        return SourceReading(
            view.source.name,
            view.at_us,
            view.fates,
            view.gone,
            {p: at.watermark_us for p, at in _by_partition(view.positions).items()},
            view.counts,
            {name: tuple((str(w), int(w)) for w in self.config.windows_of(f)) for name, f in funnels.items()},
            {name: view.adjusted(name) for name in funnels},
            lambda name: {str(window) for window in view.missing(view.counts[name].plan, self.config.windows_of(funnels[name]))},
        )


async def _with_each(view: SourceView, work: Callable[[FunnelCounts], None]) -> None:
    """Work on the counts of every funnel, a step at a time."""
    stretches = Stretches()
    for counts in view.counts.values():
        work(counts)
        await stretches.pause()


async def _add(view: SourceView, buckets: Mapping[BucketKey, Cells], totals: Mapping[int, Cells]) -> None:
    """Add counts; a chunk of a hundred funnels has thousands of buckets, so others have their turn in between."""
    by_definition = {counts.plan.definition: counts for counts in view.counts.values()}
    stretches = Stretches()
    for (definition, width, bucket), cells in buckets.items():
        if definition in by_definition:
            by_definition[definition].add(width, bucket, cells)
        await stretches.pause()
    for definition, cells in totals.items():
        if definition in by_definition:
            by_definition[definition].add_totals(cells)
        await stretches.pause()
