"""The agents: a chunk comes in, its counts go to the ledger. Short on purpose.

Bodies never raise: Faust would not bring the chunk again. What fails ends in `Custodian.resync`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from schemas.config import Source
from schemas.event import Batch, EventDecoder
from schemas.presets import preset_of
from streams.audit import Checked
from streams.counting import Pending, ShardCount
from streams.custody import Custodian, Lane, Partition
from streams.dead_letter import RejectLimit, dead_letters
from streams.ledger.contract import Ledger, Write
from streams.metrics import WorkerMetrics
from streams.pauses import in_turns, let_go
from streams.plan import Plan
from streams.producer import AckedProducer, Outgoing
from streams.reading import Reading
from streams.records import Readers, carried_headers
from streams.tally import Deltas
from streams.transport import Chunk
from streams.values import Registry

log = structlog.get_logger()
Micros = Callable[[], int]
LANE_CHUNKS = 2
LET_GO_AT_ONCE = 500  # rows of each column
SWEEP_STATES = 1000  # looked through at once, between chunks


def now_us() -> int:
    return time.time_ns() // 1000


class Agent:
    """What both agents share: a lane a partition, failures that resync, bad records set aside.

    A lane takes the chunks of its partition in order and looks one chunk ahead: the next one is
    decoded, and what it needs is asked of Redis, before the one at hand is folded. Lanes wait for
    Redis side by side, so that the processor does not.
    """

    def __init__(
        self,
        custodian: Custodian,
        producer: AckedProducer,
        metrics: WorkerMetrics,
        source: Source,
        clock: Micros = now_us,
    ) -> None:
        self._custodian = custodian
        self._producer = producer
        self._metrics = metrics
        self._source = source
        self._clock = clock
        self._reading = Reading(source)
        self._limit = RejectLimit(source)

    async def process(self, chunk: Chunk) -> None:
        """Put a chunk into its partition's lane; waits while the lane is full. Never raises."""
        partition = self._custodian.partition(chunk.tp, chunk.serial)
        if partition is None:
            return
        if partition.lane is None:
            partition.lane = Lane(asyncio.Queue(LANE_CHUNKS))
            partition.lane.task = asyncio.create_task(self._run(partition, partition.lane.chunks))
        await partition.lane.chunks.put(chunk)

    async def _run(self, partition: Partition, chunks: asyncio.Queue[Chunk]) -> None:
        opened: Any = None
        try:
            while self._custodian.holds(partition):  # a cancel that meets a finishing Redis call can be lost
                if opened is not None and (chunks.empty() or self._wants_a_pause(partition)):
                    await self._close(partition, opened)
                    opened = None
                if opened is None:
                    await self._tidy(partition)
                    if chunks.empty() and self._wants_a_pause(partition):
                        continue
                chunk = await chunks.get()
                if chunk.start != partition.next:
                    raise RuntimeError(f"chunk starts at {chunk.start}, {partition.next} was due")
                partition.next = chunk.next
                if opened is not None and self._reading.must_ask(chunk.records):
                    await self._close(partition, opened)  # what is there is written, however long the registry takes
                    opened = None
                readers = await self._reading.readers(chunk.records)
                async with self._custodian.turn():
                    before, opened = opened, await self._open(partition, chunk, readers)
                if before is not None:
                    await self._close(partition, before)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._custodian.resync(partition, error)
        finally:
            if opened is not None:
                self._drop(opened)

    async def _open(self, partition: Partition, chunk: Chunk, readers: Readers) -> Any:
        """Decode a chunk and begin to look up what it needs."""
        raise NotImplementedError

    async def _close(self, partition: Partition, opened: Any) -> None:
        """Do the rest, up to the queued write."""
        raise NotImplementedError

    def _drop(self, opened: Any) -> None:
        """Let go of a chunk that is not closed any more."""

    def _wants_a_pause(self, partition: Partition) -> bool:
        """Whether there is something to do that needs all chunks closed."""
        return False

    async def _tidy(self, partition: Partition) -> None:
        """Do some of it; no chunk is open then."""

    async def _set_aside(self, letters: list[Outgoing]) -> None:
        await self._producer.send_all(letters)
        for letter in letters:
            self._metrics.dead_letters.labels(self._source.name, letter[3][0][1].decode()).inc()


@dataclass
class _Counting:
    chunk: Chunk
    records: Sequence[Any]
    pending: Pending
    lookup: asyncio.Task[Lookup] | None


@dataclass
class Lookup:
    """What Redis said of a chunk's entities and dimension values."""

    states: list[bytes | None]
    admitted: dict[Registry, dict[str, bool]]
    former: dict[str, tuple[str, bytes]]  # entity -> a former name, and the state under it


class CountingAgent(Agent):
    """Counts a topic that is keyed by its entity."""

    def __init__(self, ledger: Ledger, plan: Plan, *shared: Any, states_max: int, reading: Reading | None = None) -> None:
        super().__init__(*shared)
        self._reading = reading or self._reading
        self._ledger = ledger
        self._plan = plan
        self._rekeyed = not self._source.entity_key
        self._states_max = states_max

    async def _open(self, partition: Partition, chunk: Chunk, readers: Readers) -> _Counting:
        work: ShardCount = partition.work
        records: Sequence[Any] = chunk.records
        upstream: Mapping[int, int] = {}
        if self._rekeyed:
            records, upstream = not_seen(records, partition.upstream)
            partition.upstream.update(upstream)
        values, keys = self._reading.values(records, readers), [r.key for r in records]
        pending = await in_turns(work.decoding(chunk.start, chunk.next, values, keys, self._clock(), upstream))
        lookup = asyncio.create_task(self._look_up(partition.shard, pending)) if pending.missing or pending.unknown else None
        return _Counting(chunk, records, pending, lookup)

    async def _look_up(self, shard: str, pending: Pending) -> Lookup:
        missing = pending.missing
        former = [pending.former[entity] for entity in missing] if pending.former else []
        # In one go: asked one after the other, a state that a sweep moves meanwhile would be under neither name.
        found = await self._ledger.states(shard, [*missing, *former])
        states, before = found[: len(missing)], found[len(missing) :]
        moving = {entity: (name, old) for entity, name, new, old in zip(missing, former, states, before) if new is None and old is not None}
        return Lookup(states, await self._admit(pending), moving)

    async def _admit(self, pending: Pending) -> dict[Registry, dict[str, bool]]:
        return {r: await self._ledger.admit(self._source.name, r, sorted(texts)) for r, texts in pending.unknown.items()}

    def _drop(self, opened: _Counting) -> None:
        if opened.lookup is not None:
            opened.lookup.cancel()
            opened.lookup.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody will ask how it ended

    async def _close(self, partition: Partition, opened: _Counting) -> None:
        work: ShardCount = partition.work
        pending = opened.pending
        if opened.lookup is not None:
            found = await opened.lookup
            work.hold(pending.missing, found.states)
            work.hold_former(found.former)
            if found.admitted:
                work.learn(pending, found.admitted)
            while pending.unknown:  # combinations, once their parts are known
                work.learn(pending, await self._admit(pending))
        async with self._custodian.turn():
            counted = await in_turns(work.folding(pending))
        if counted.checked is not None:
            self._report(partition.shard, counted.checked)
        self._limit.note(counted.records, counted.rejected)
        letters = dead_letters(self._source, opened.chunk.tp, opened.records, counted.rejected)
        await self._custodian.submit(partition, counted.write, self._set_aside(letters) if letters else None)
        del counted, letters
        await let_go([opened.chunk.records, *pending.columns()], LET_GO_AT_ONCE)

    def _report(self, shard: str, checked: Checked) -> None:
        self._metrics.audit_difference.labels(self._source.name).inc(checked.more)
        self._metrics.audit_events.labels(self._source.name).inc(checked.events)
        if checked.differing:
            log.error("counts differ from their recount", shard=shard, difference=checked.more, first="; ".join(checked.differing))

    def _wants_a_pause(self, partition: Partition) -> bool:
        work: ShardCount = partition.work
        return self._is_full(partition) or work.sweep.is_due(work.watermark_us)

    def _is_full(self, partition: Partition) -> bool:
        """Whether the partition holds more in memory than it may."""
        return len(partition.work.states) > self._states_max // max(1, len(self._custodian.partitions()))

    async def _tidy(self, partition: Partition) -> None:
        work: ShardCount = partition.work
        if self._is_full(partition):
            await self._custodian.written(partition)
            work.states.clear()  # stored all; read back as they are needed
        if work.sweep.is_due(work.watermark_us):
            await self._sweep(partition, work)

    async def _sweep(self, partition: Partition, work: ShardCount) -> None:
        """Look through some of the stored states, and write what may rest or go."""
        if work.names is not None:
            await self._custodian.written(partition)  # else a name that is just being left behind would be looked at
        cursor, found = await self._ledger.scan(partition.shard, work.sweep.cursor, SWEEP_STATES)
        resting, forgotten = work.rest(found)
        work.sweep.went_on(cursor, work.watermark_us)
        if resting or forgotten:
            write = Write(partition.next, partition.next, Deltas(watermark_us=work.watermark_us), resting, forgotten=forgotten)
            await self._custodian.submit(partition, write)


class RekeyingAgent(Agent):
    """Writes the records of an unkeyed topic to its keyed copy, with where they came from in headers."""

    def __init__(self, *shared: Any, reading: Reading | None = None) -> None:
        super().__init__(*shared)
        self._reading = reading or self._reading
        source = self._source
        self._decoder = EventDecoder(source.fields, (), record_bytes_max=source.record_bytes_max, preset=preset_of(source.preset))

    async def _open(self, partition: Partition, chunk: Chunk, readers: Readers) -> tuple[Chunk, Batch]:
        values, keys = self._reading.values(chunk.records, readers), [r.key for r in chunk.records]
        return chunk, self._decoder.decode(values, keys, self._clock(), self._source.max_skew.micros)

    async def _close(self, partition: Partition, opened: tuple[Chunk, Batch]) -> None:
        chunk, batch = opened
        self._limit.note(len(chunk.records), batch.rejected)
        bad = {r.index for r in batch.rejected}
        good = [r for i, r in enumerate(chunk.records) if i not in bad]
        outgoing = [self._copy(chunk.tp, entity, record) for entity, record in zip(batch.entities, good)]
        letters = dead_letters(self._source, chunk.tp, chunk.records, batch.rejected)
        fates = Counter(f"rejected:{r.reason}" for r in batch.rejected)
        write = Write(chunk.start, chunk.next, Deltas(fates=dict(fates)), began_us=batch.began_us)
        await self._custodian.submit(partition, write, self._send(outgoing, letters))

    async def _send(self, outgoing: list[Outgoing], letters: list[Outgoing]) -> None:
        await self._set_aside(letters)
        await self._producer.send_all(outgoing)

    def _copy(self, tp: Any, entity: str, record: Any) -> Outgoing:
        headers = [
            ("fw-source-topic", tp.topic.encode()),
            ("fw-source-partition", str(tp.partition).encode()),
            ("fw-source-offset", str(record.offset).encode()),
            *carried_headers(self._source, record),
        ]
        return self._source.keyed_topic, entity.encode(), record.value, headers


def not_seen(records: Sequence[Any], highest: Mapping[int, int]) -> tuple[list[Any], dict[int, int]]:
    """The re-keyed records that are newer than the highest counted of their source partition."""
    found, now = [], dict(highest)
    for record in records:
        headers = dict(record.headers)
        origin, offset = int(headers["fw-source-partition"]), int(headers["fw-source-offset"])
        if offset > now.get(origin, -1):
            now[origin] = offset
            found.append(record)
    return found, {p: o for p, o in now.items() if highest.get(p) != o}
