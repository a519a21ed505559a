"""The events of one source in the order of their times, and the engine fed with them up to one moment after another.

What a source rejects, filters or finds late is settled in the order of arrival, as `replay` does it;
the rest waits on disk (only times and places are in memory) and is folded by time. So the counts as
of a moment do not depend on the order of arrival within the allowed lateness, and a file that lists
one person after the other is as good as one by time.
"""

from __future__ import annotations

import mmap
import tempfile
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from types import TracebackType
from typing import TYPE_CHECKING

from schemas.config import Config, Source
from schemas.duration import MICROS
from schemas.event import Batch
from streams.counting import Pending, ShardCount, Sweep
from streams.plan import Plan, Prepared
from streams.replay import admit, source_of
from streams.tail import Reached
from streams.values import Registry
from streams.windows import Cells, FunnelCounts

if TYPE_CHECKING:
    from typing_extensions import Self

CHUNK_RECORDS = 5_000
HOUR_US = 3600 * MICROS
STATES_MAX = 200_000  # held by a feed before those that may are brought to rest, as in the ledger
LONG_GATHERED = -2  # chunks ago: what a slice needs is gathered anew


class History:
    """The events of a source that count, by time. Use it as a context, for it keeps a file.

    since_us, at_us: leave out what happened before, and after.
    """

    def __init__(self, config: Config, source: str | None = None, *, since_us: int | None = None, at_us: int | None = None) -> None:
        self.config = config
        self.source: Source = source_of(config, source)
        self.consumed = 0
        self.fates: Cells = {}  # of those that are not fed: rejected, filtered, late
        self._plan = Plan(config, self.source)
        self._since_us, self._at_us = since_us, at_us
        self._watermark_us = -1
        self._newest: dict[str, int] = {}  # by entity
        self._times, self._ends = array("q"), array("q")
        self._order: Sequence[int] = ()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._bytes: mmap.mmap | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bytes is not None:
            self._bytes.close()
        self._file.close()

    def __len__(self) -> int:
        return len(self._times)

    @property
    def time_us(self) -> int:
        """T at its end: the time asked for, or the greatest accepted event time; -1 of an empty one."""
        return self._watermark_us if self._at_us is None or self._watermark_us < 0 else self._at_us

    def add(self, records: Sequence[bytes | None]) -> None:
        """Take records in their order of arrival."""
        plan, now_us = self._plan, time.time_ns() // 1000
        batch = plan.decoder.decode(records, [None] * len(records), now_us, self.source.max_skew.micros)
        prepared = plan.prepare(batch)
        self.consumed += len(records)
        for rejected in (*batch.rejected, *prepared.bad):
            self._note(f"rejected:{rejected.reason}")
        bad = {rejected.index for rejected in prepared.bad}
        lateness, written = self.source.allowed_lateness.micros, self._ends[-1] if self._ends else 0
        kept = []
        for place, (at_us, entity, match) in enumerate(zip(batch.times, batch.entities, prepared.matches)):
            if place in bad or not self._is_asked_for(at_us):
                continue
            self._watermark_us = max(self._watermark_us, at_us)
            newest = self._newest.get(entity, -1)
            if match is None:
                self._note("filtered")
            elif at_us < newest - lateness:
                self._note("late")
            else:
                self._newest[entity] = max(newest, at_us)
                kept.append(batch.raws[place])
                written += len(batch.raws[place])
                self._times.append(at_us)
                self._ends.append(written)
        self._file.write(b"".join(kept))

    def _is_asked_for(self, at_us: int) -> bool:
        return (self._since_us is None or at_us >= self._since_us) and (self._at_us is None or at_us <= self._at_us)

    def _note(self, fate: str) -> None:
        self.fates[fate] = self.fates.get(fate, 0) + 1

    def sort(self) -> None:
        """Put them by time, once all are there; simultaneous ones stay as they came."""
        self._newest.clear()
        times = self._times
        self._order = range(len(times)) if _ascend(times) else array("q", sorted(range(len(times)), key=times.__getitem__))
        self._file.flush()
        self._bytes = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) if times else None

    def at(self, place: int) -> int | None:
        """The time of an event; None past the last one."""
        return self._times[self._order[place]] if place < len(self._order) else None

    def records(self, start: int, end: int) -> list[bytes]:
        """Some of them, by their places in the order of time."""
        held, ends = self._bytes, self._ends
        if held is None:
            return []
        return [held[ends[n - 1] if n else 0 : ends[n]] for n in self._order[start:end]]


def _ascend(times: Sequence[int]) -> bool:
    return all(times[n] <= times[n + 1] for n in range(len(times) - 1))


class Feed:
    """The engine over a history, as of one moment after the other.

    `config` may have other rules than the history's, but the same source and stages. `past_seconds`: for
    so long before the moment counts can be read as they were, but for users. `families`: nothing else is counted.
    """

    def __init__(
        self, history: History, config: Config | None = None, past_seconds: int = 0, families: frozenset[str] | None = None
    ) -> None:
        self.history = history
        self.plan = Plan(config or history.config, history.source, past_seconds)
        if families is not None:
            for plan in self.plan.funnels:
                plan.kept = tuple(replace(kept, families=kept.families & families) for kept in plan.kept)
        self.trace: Reached | None = None  # where every reach is added, while there is such a place
        self.counts = {funnel.funnel.name: FunnelCounts(funnel) for funnel in self.plan.funnels}
        self.fates: Cells = {}
        self.last_us: int | None = None  # of the last event fed
        self._by_definition = {counts.plan.definition: counts for counts in self.counts.values()}
        self._shard, self._sweep = ShardCount(self.plan), Sweep(self.plan.state_seconds)
        self._admitted: dict[Registry, set[str]] = {}
        self._fed = 0  # events
        self._decoded: tuple[int, Pending] | None = None  # a chunk, and the place of its first event
        self._hour = -1

    @property
    def next_us(self) -> int | None:
        """The time of the next event."""
        return self.history.at(self._fed)

    def until(self, end_us: int) -> None:
        """Count all events before a moment, and drop what no window at it reaches."""
        while (following := self.next_us) is not None and following < end_us:
            first, pending = self._chunk()
            start = self._fed - first
            end = bisect_left(pending.batch.times, end_us, start)
            self._fold(_part(pending, start, end))
            self._fed, self.last_us = first + end, pending.batch.times[end - 1]
        if end_us // HOUR_US != self._hour:
            self._hour = end_us // HOUR_US
            for counts in self.counts.values():
                counts.forget_before(end_us)
            self._rest()

    def _chunk(self) -> tuple[int, Pending]:
        """The decoded chunk that holds the next event."""
        known = self._decoded
        if known is None or self._fed >= known[0] + known[1].records:
            raws = self.history.records(self._fed, self._fed + CHUNK_RECORDS)
            keys, now_us = [None] * len(raws), time.time_ns() // 1000
            pending = self._shard.decode(self._fed, self._fed + len(raws), raws, keys, now_us, whole=True)
            while pending.unknown:
                self._shard.learn(
                    pending, {registry: admit(self._admitted, registry, texts) for registry, texts in pending.unknown.items()}
                )
            known = self._decoded = self._fed, pending
        return known

    def _fold(self, part: Pending) -> None:
        deltas = self._shard.fold(part, self.trace).write.deltas
        for (definition, width, bucket), cells in sorted(deltas.buckets.items(), key=itemgetter(0)):  # what follows them is quick in order
            self._by_definition[definition].add(width, bucket, cells)
        for definition, cells in deltas.totals.items():
            self._by_definition[definition].add_totals(cells)
        for fate, count in deltas.fates.items():
            self.fates[fate] = self.fates.get(fate, 0) + count

    def _rest(self) -> None:
        shard = self._shard
        if len(shard.states) > STATES_MAX and self._sweep.is_due(shard.watermark_us):
            shard.states.update(shard.rest([*shard.states.items()])[0])
            self._sweep.went_on(0, shard.watermark_us)


def _part(pending: Pending, start: int, end: int) -> Pending:
    """Some events of a decoded chunk."""
    batch, prepared = pending.batch, pending.prepared
    at = slice(start, end)
    amounts = {place - start: prepared.amounts[place] for place in range(start, end) if place in prepared.amounts}
    part = Prepared(prepared.matches[at], prepared.values[at], {}, amounts)
    return replace(
        pending,
        start=pending.start + start,
        next=pending.start + end,
        batch=Batch(batch.times[at], batch.entities[at], batch.names[at], batch.ids[at], batch.records[at], batch.raws[at]),
        prepared=part,
        as_of=LONG_GATHERED,
        records=end - start,
    )


def history_of(
    config: Config, records: Iterable[bytes], source: str | None = None, *, since_us: int | None = None, at_us: int | None = None
) -> History:
    """The history that records make. Raises UsageError; close it."""
    history = History(config, source, since_us=since_us, at_us=at_us)
    chunk: list[bytes] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == CHUNK_RECORDS:
            history.add(chunk)
            chunk = []
    history.add(chunk)
    history.sort()
    return history
