"""The engine over a file: the same decode, fold and tally as the worker, no Kafka, no Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from schemas.config import Config, Source
from schemas.duration import Duration
from schemas.errors import UsageError
from schemas.event import Batch, iso
from streams.counting import Pending, ShardCount
from streams.journeys import gather
from streams.plan import Plan
from streams.rates import rate
from streams.retention import CONVERSIONS, ENTRIES, EVENTS, USERS, VALUE
from streams.tail import Reached
from streams.values import VALUE_SCALE, Registry
from streams.windows import Cells, FunnelCounts

CHUNK_RECORDS = 10_000


@dataclass
class Replay:
    """What a replay found."""

    config: Config
    plan: Plan
    counts: dict[str, FunnelCounts]
    at_us: int | None
    consumed: int = 0
    fates: Cells = field(default_factory=dict)
    watermark_us: int = -1
    entities: dict[str, None] = field(default_factory=dict)
    trace: Reached | None = None
    states: dict[str, bytes] = field(default_factory=dict)  # of every entity, packed

    @property
    def time_us(self) -> int:
        """T: the time asked for, or the greatest accepted event time."""
        return self.watermark_us if self.at_us is None else self.at_us

    def to_json(self) -> dict[str, Any]:
        """The object that `funnelwatch replay --json` prints."""
        return {
            "consumed": self.consumed,
            **{fate: self._fate(fate) for fate in ("applied", "filtered", "late")},
            "rejected": {name.partition(":")[2]: n for name, n in sorted(self.fates.items()) if name.startswith("rejected:")},
            "duplicate": self.fates.get("duplicate", 0),
            "watermark": iso(self.watermark_us) if self.watermark_us >= 0 else None,
            "funnels": {name: self._funnel(counts) for name, counts in self.counts.items()},
        }

    def _fate(self, fate: str) -> int:
        """A fate, whatever its reason."""
        return sum(count for name, count in self.fates.items() if name.partition(":")[0] == fate)

    def _funnel(self, counts: FunnelCounts) -> dict[str, Any]:
        dimensions = {d: {v: {"stages": self._stages(counts, d, v)} for v in counts.values(d)} for d in counts.plan.dimensions}
        return {"stages": self._stages(counts), "dimensions": dimensions}

    def _stages(self, counts: FunnelCounts, dimension: str | None = None, value: str | None = None) -> list[dict[str, Any]]:
        funnel = counts.plan.funnel
        windows = self.config.windows_of(funnel)
        return [
            {
                "name": stage.name,
                "reached": counts.total(USERS, place, dimension, value),
                "windows": {str(w): self._window(counts, place, w, dimension, value) for w in windows},
                "entries": counts.total(ENTRIES, place, dimension, value),
                "conversions": counts.total(CONVERSIONS, place, dimension, value) if place + 1 < len(funnel.stages) else None,
                "events": counts.total(EVENTS, place, dimension, value),
                "value": counts.total(VALUE, place, dimension, value) / VALUE_SCALE,
            }
            for place, stage in enumerate(funnel.stages)
        ]

    def _window(self, counts: FunnelCounts, place: int, window: Duration, dimension: str | None, value: str | None) -> dict[str, Any]:
        users = counts.users(place, window, self.time_us, dimension, value)
        if place == 0:
            return {"users": users, "of": None, "rate": None}
        before = counts.users(place - 1, window, self.time_us, dimension, value)
        return {"users": users, "of": before, "rate": rate(users, before).rate}

    def per_entity(self) -> Iterator[dict[str, Any]]:
        """Where every entity got in every funnel: its deepest stage, and each reach in order."""
        for entity in sorted(self.entities):
            for funnel in self.plan.funnels:
                found = (self.trace or {}).get(entity, {}).get(funnel.number, [])
                reached = [((stage & 0xFF) + 1, at_us) for stage, at_us in found]
                deepest = max((stage for stage, _ in reached), default=0)
                line = {"entity": entity, "funnel": funnel.funnel.name, "stage": deepest}
                yield {**line, "reached": [[stage, iso(at_us)] for stage, at_us in reached]}


def replay(
    config: Config,
    records: Iterable[bytes],
    *,
    source: str | None = None,
    at_us: int | None = None,
    per_entity: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Replay:
    """Run the engine over records. `at_us`: leave out what happened later. Raises UsageError.

    `per_entity` keeps every reach in memory, for `Replay.per_entity`.
    """
    plan = Plan(config, source_of(config, source))
    found = Replay(config, plan, {f.funnel.name: FunnelCounts(f) for f in plan.funnels}, at_us)
    found.trace = {} if per_entity else None
    shard = ShardCount(plan)
    found.states = shard.states
    values: dict[Registry, set[str]] = {}
    stream = iter(records)
    while chunk := list(islice(stream, CHUNK_RECORDS)):
        keys, now_us = [None] * len(chunk), time.time_ns() // 1000
        pending = shard.decode(found.consumed, found.consumed + len(chunk), chunk, keys, now_us, whole=at_us is not None)
        left_out = _cut(pending.batch, at_us)
        if left_out:
            pending.prepared = plan.prepare(pending.batch)
            pending.gathered = gather(pending.batch, pending.prepared, shard.states)
        while pending.unknown:
            shard.learn(pending, {registry: admit(values, registry, texts) for registry, texts in pending.unknown.items()})
        _take(found, shard, pending, len(chunk) - left_out)
        if progress is not None:
            progress(len(chunk))
    return found


def source_of(config: Config, name: str | None) -> Source:
    names = [s.name for s in config.sources if config.funnels_of(s.name)]
    if name is None and len(names) != 1:
        raise UsageError(f"the config has {len(names)} sources with funnels; name one with --source: {', '.join(names)}")
    if name is not None and name not in names:
        raise UsageError(f"no source {name!r} with funnels in the config; there are: {', '.join(names)}")
    # A file has no record keys to compare.
    return config.source(name or names[0]).model_copy(update={"trust_key": True})


def _cut(batch: Batch, at_us: int | None) -> int:
    """Take out of the batch what happened after `at_us`; how many events that were."""
    if at_us is None or max(batch.times, default=0) <= at_us:
        return 0
    keep = [i for i, t in enumerate(batch.times) if t <= at_us]
    gone = len(batch) - len(keep)
    columns: tuple[list[Any], ...] = (batch.times, batch.entities, batch.names, batch.ids, batch.records)
    for column in columns:
        column[:] = [column[i] for i in keep]
    batch.raws = [batch.raws[i] for i in keep]
    return gone


def admit(known: dict[Registry, set[str]], registry: Registry, texts: Iterable[str]) -> dict[str, bool]:
    admitted = known.setdefault(registry, set())
    for text in sorted(texts):
        if len(admitted) < registry.max_values:
            admitted.add(text)
    return {text: text in admitted for text in texts}


def _take(found: Replay, shard: ShardCount, pending: Pending, consumed: int) -> None:
    counted = shard.fold(pending, found.trace)
    deltas = counted.write.deltas
    found.consumed += consumed
    found.watermark_us = deltas.watermark_us
    if found.trace is not None:
        found.entities.update(dict.fromkeys(pending.batch.entities))
    for fate, count in deltas.fates.items():
        found.fates[fate] = found.fates.get(fate, 0) + count
    by_definition: dict[int, FunnelCounts] = {c.plan.definition: c for c in found.counts.values()}
    for (definition, width, bucket), cells in deltas.buckets.items():
        by_definition[definition].add(width, bucket, cells)
    for definition, cells in deltas.totals.items():
        by_definition[definition].add_totals(cells)
    if deltas.expired:
        for counts in found.counts.values():
            counts.forget_before(found.watermark_us)
