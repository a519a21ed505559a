"""The record in Redis: the leader writes a point of every funnel when a minute or an hour closes; anybody reads.

On the lease's slot of a cluster:

    {PREFIX:leader}:history:DEF:60      stream  boundary in ms -> bytes of a point (`streams.points`), 48 h of them
    {PREFIX:leader}:history:DEF:3600    stream  the same by the hour, 90 days of them
    {PREFIX:leader}:history:DEF:names   hash    number -> the dimension and the value that it stands for

DEF is what a funnel counts: another definition has another record. `ledger/history.lua` writes for the
holder of the newest fencing token alone. Old points go by event time; a record that is no longer written
goes a week after its points would have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Protocol, cast

from redis.asyncio import Redis

from schemas.config import Config
from schemas.errors import StoreError
from streams.lease import leader_key, store_errors
from streams.pauses import give_way, in_turns
from streams.points import HOUR, KEPT_SECONDS, MINUTE, Names, Point, due, frame, pack, taking
from streams.rates import Split
from streams.reader import SourceView
from streams.values import SEPARATOR

BACKSTOP_SECONDS = 7 * 24 * HOUR  # beyond what is kept, in wall-clock time
AT_ONCE = 50  # points in one call


@dataclass(frozen=True)
class Entry:
    """A point to be written."""

    definition: int
    step: int
    at_us: int
    packed: bytes
    fresh: Mapping[int, Split]  # new names


class Record(Protocol):
    """Where points are kept. Every method may raise StoreError."""

    async def write(self, fence: int, entries: Sequence[Entry]) -> list[bool] | None:
        """Which of the points were new; None: another leads, and nothing was written."""
        ...

    async def points(self, definition: int, step: int, start_us: int, end_us: int) -> list[tuple[int, bytes]]:
        """Boundaries from start to end, both included, and the bytes of their points."""
        ...

    async def names(self, *definitions: int) -> list[dict[int, Split]]:
        """What the numbers of values stand for, by definition."""
        ...


class RedisRecord:
    """The contract of `Record` in Redis 7.0 or later, standalone or Cluster."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._write = client.register_script(resources.files("streams.ledger").joinpath("history.lua").read_text("utf-8"))

    def _key(self, definition: int, part: int | str) -> str:
        return leader_key(self._prefix, f"history:{definition}:{part}")

    async def write(self, fence: int, entries: Sequence[Entry]) -> list[bool] | None:
        keys, args = [leader_key(self._prefix, "fence")], list[int | str | bytes]([fence])
        for entry in entries:
            kept = KEPT_SECONDS[entry.step]
            fresh = [text for number, split in entry.fresh.items() for text in (str(number), SEPARATOR.join(split))]
            keys += [self._key(entry.definition, entry.step), self._key(entry.definition, "names")]
            args += [
                entry.at_us // 1000,
                max(0, entry.at_us // 1000 - kept * 1000),
                kept + BACKSTOP_SECONDS,
                max(KEPT_SECONDS.values()) + BACKSTOP_SECONDS,
                entry.packed,
                json.dumps(fresh),
            ]
        with store_errors():
            found = await self._write(keys=keys, args=args)
        return None if found == -1 else [bool(new) for new in found]

    async def points(self, definition: int, step: int, start_us: int, end_us: int) -> list[tuple[int, bytes]]:
        with store_errors():
            found = await self._client.xrange(self._key(definition, step), f"{max(0, start_us) // 1000}-0", f"{max(0, end_us) // 1000}-0")
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
        return [(int(name.partition(b"-")[0]) * 1000, fields[b"p"]) for name, fields in entries]

    async def names(self, *definitions: int) -> list[dict[int, Split]]:
        pipe = self._client.pipeline(transaction=False)
        for definition in definitions:
            pipe.hgetall(self._key(definition, "names"))
        with store_errors():
            found = cast("list[dict[bytes, bytes]]", await pipe.execute())
        return [{int(number): _split(text.decode()) for number, text in texts.items()} for texts in found]


def _split(text: str) -> Split:
    dimension, _, value = text.partition(SEPARATOR)
    return dimension, value


class Recorder:
    """The leader's part: at every tick, the points that have become due."""

    def __init__(self, config: Config, record: Record) -> None:
        self._windows = {funnel.name: tuple(int(window) for window in config.windows_of(funnel)) for funnel in config.funnels}
        self._record = record
        self._fence: int | None = None
        self._done: dict[tuple[str, int], int] = {}  # by source and step, the newest boundary that was seen to
        self._names: dict[int, Names] = {}  # by definition
        self._last: dict[tuple[int, int], tuple[int, Point]] = {}  # by definition and step, what was written last

    async def tick(self, fence: int, views: Mapping[str, SourceView]) -> None:
        """Record what is due. Raises StoreError."""
        if fence != self._fence:
            self._begin(fence)
        for name, view in views.items():
            for step in (MINUTE, HOUR):
                boundary_us = None if view.at_us is None else due(view.at_us, step, self._done.get((name, step), -1))
                if boundary_us is not None and view.at_us is not None and not view.stale:
                    await self._close(view, step, boundary_us, view.at_us)
                    if self._fence is None:
                        return  # another leads
                    self._done[name, step] = boundary_us

    def _begin(self, fence: int | None) -> None:
        """Know nothing: others may have written meanwhile."""
        self._fence = fence
        self._done.clear()
        self._names.clear()
        self._last.clear()

    async def _close(self, view: SourceView, step: int, boundary_us: int, at_us: int) -> None:
        points: list[tuple[Entry, Point]] = []
        await self._learn_names(view)
        for funnel in view.counts:
            found = await self._point(view, funnel, step, boundary_us, at_us)
            points += [found] if found is not None else []
            await give_way()  # so that a hundred funnels do not hold up the loop
        for begin in range(0, len(points), AT_ONCE):
            await self._put(points[begin : begin + AT_ONCE])

    async def _learn_names(self, view: SourceView) -> None:
        """Of all funnels at once: asked one after the other, each would wait behind what is being counted."""
        unknown = [counts.plan.definition for counts in view.counts.values() if counts.plan.definition not in self._names]
        if unknown:
            for definition, known in zip(unknown, await self._record.names(*unknown)):
                self._names[definition] = Names({split: number for number, split in known.items()})

    async def _point(self, view: SourceView, funnel: str, step: int, boundary_us: int, at_us: int) -> tuple[Entry, Point] | None:
        counts = view.counts[funnel]
        plan, definition = counts.plan, counts.plan.definition
        names = self._names[definition]
        point = await in_turns(taking(
            counts, view.adjusted(funnel), self._windows[funnel], boundary_us, at_us, names,
            lambda window: view.misses(plan, window), worth_by_value=step == HOUR,
        ))  # fmt: skip
        if point is None:
            return None
        then_us, before = self._last.get((definition, step), (-1, None))
        same = frame(then_us, step) == frame(boundary_us, step)
        return Entry(definition, step, boundary_us, pack(point, before if same else None), dict(names.fresh)), point

    async def _put(self, points: Sequence[tuple[Entry, Point]]) -> None:
        fence = self._fence
        if fence is None:  # lost with the points before these
            return
        entries = [entry for entry, _ in points]
        try:
            found = await self._record.write(fence, entries)
        except StoreError:
            self._begin(None)  # whether it was written is not known
            raise
        if found is None:
            self._begin(None)
            return
        for (entry, point), new in zip(points, found):
            place = entry.definition, entry.step
            if new:
                self._last[place] = entry.at_us, point
                for number in entry.fresh:
                    self._names[entry.definition].fresh.pop(number, None)
            else:
                self._last.pop(place, None)
