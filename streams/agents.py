"""The agents: a chunk comes in, its counts go to the ledger. Short on purpose.

Bodies never raise: Faust would not bring the chunk again. What fails ends in `Custodian.resync`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.config import Source
from schemas.event import EventDecoder
from streams.counting import ShardCount
from streams.custody import Custodian, Partition
from streams.dead_letter import RejectLimit, dead_letters
from streams.ledger.contract import Ledger, Write
from streams.metrics import WorkerMetrics
from streams.plan import Plan, Registry
from streams.producer import AckedProducer, Outgoing
from streams.tally import Deltas
from streams.transport import Chunk

Micros = Callable[[], int]


def now_us() -> int:
    return time.time_ns() // 1000


class Agent:
    """What both agents share: void chunks are dropped, failures resync, bad records are set aside."""

    def __init__(self, custodian: Custodian, producer: AckedProducer, metrics: WorkerMetrics, source: Source, clock: Micros = now_us) -> None:
        self._custodian = custodian
        self._producer = producer
        self._metrics = metrics
        self._source = source
        self._clock = clock
        self._limit = RejectLimit(source)

    async def process(self, chunk: Chunk) -> None:
        """Take one chunk as far as its queued write. Never raises."""
        partition = self._custodian.partition(chunk.tp, chunk.serial)
        if partition is None:
            return
        try:
            if chunk.start != partition.next:
                raise RuntimeError(f"chunk starts at {chunk.start}, {partition.next} was due")
            await self._process(partition, chunk)
        except Exception as error:
            self._custodian.resync(partition, error)

    async def _process(self, partition: Partition, chunk: Chunk) -> None:
        raise NotImplementedError

    def _current(self, partition: Partition, chunk: Chunk) -> bool:
        return self._custodian.partition(chunk.tp, chunk.serial) is partition

    async def _set_aside(self, letters: list[Outgoing]) -> None:
        await self._producer.send_all(letters)
        for letter in letters:
            self._metrics.dead_letters.labels(self._source.name, letter[3][0][1].decode()).inc()


class CountingAgent(Agent):
    """Counts a topic that is keyed by its entity."""

    def __init__(self, ledger: Ledger, plan: Plan, *shared: Any, states_max: int) -> None:
        super().__init__(*shared)
        self._ledger = ledger
        self._plan = plan
        self._rekeyed = not self._source.entity_key
        self._states_max = states_max

    async def _process(self, partition: Partition, chunk: Chunk) -> None:
        work: ShardCount = partition.work
        records: Sequence[Any] = chunk.records
        upstream: Mapping[int, int] = {}
        if self._rekeyed:
            records, upstream = _not_seen(records, partition.upstream)
        pending = work.decode(chunk.start, chunk.next, [r.value for r in records], [r.key for r in records], self._clock(), upstream)
        if pending.unknown:
            work.learn(pending, await self._admitted(pending.unknown))
        if pending.missing:
            work.hold(pending.missing, await self._ledger.states(partition.shard, pending.missing))
        if not self._current(partition, chunk):
            return
        counted = work.fold(pending)
        self._limit.note(counted.records, counted.rejected)
        partition.next = chunk.next
        partition.upstream.update(upstream)
        letters = dead_letters(self._source, chunk.tp, records, counted.rejected)
        await self._custodian.submit(partition, counted.write, self._set_aside(letters) if letters else None)
        if len(work.states) > self._states_max // len(self._custodian.partitions() or (partition,)):
            await self._custodian.written(partition)
            work.states.clear()  # read back from the ledger as they are needed

    async def _admitted(self, unknown: Mapping[Registry, set[str]]) -> dict[Registry, dict[str, bool]]:
        return {r: await self._ledger.admit(self._source.name, r, sorted(texts)) for r, texts in unknown.items()}


class RekeyingAgent(Agent):
    """Writes the records of an unkeyed topic to its keyed copy, with where they came from in headers."""

    def __init__(self, *shared: Any) -> None:
        super().__init__(*shared)
        self._decoder = EventDecoder(self._source.fields, (), record_bytes_max=self._source.record_bytes_max)

    async def _process(self, partition: Partition, chunk: Chunk) -> None:
        batch = self._decoder.decode(
            [r.value for r in chunk.records], [r.key for r in chunk.records], self._clock(), self._source.max_skew.micros
        )
        self._limit.note(len(chunk.records), batch.rejected)
        bad = {r.index for r in batch.rejected}
        good = [r for i, r in enumerate(chunk.records) if i not in bad]
        outgoing = [self._rekeyed(chunk.tp, entity, record) for entity, record in zip(batch.entities, good)]
        fates: dict[str, int] = {}
        for r in batch.rejected:
            fates[f"rejected:{r.reason}"] = fates.get(f"rejected:{r.reason}", 0) + 1
        partition.next = chunk.next
        letters = dead_letters(self._source, chunk.tp, chunk.records, batch.rejected)
        write = Write(chunk.start, chunk.next, Deltas(fates=fates))
        await self._custodian.submit(partition, write, self._send(outgoing, letters))

    async def _send(self, outgoing: list[Outgoing], letters: list[Outgoing]) -> None:
        await self._set_aside(letters)
        await self._producer.send_all(outgoing)

    def _rekeyed(self, tp: Any, entity: str, record: Any) -> Outgoing:
        headers = [
            ("fw-source-topic", tp.topic.encode()),
            ("fw-source-partition", str(tp.partition).encode()),
            ("fw-source-offset", str(record.offset).encode()),
        ]
        return self._source.keyed_topic, entity.encode(), record.value, headers


def _not_seen(records: Sequence[Any], highest: Mapping[int, int]) -> tuple[list[Any], dict[int, int]]:
    """The re-keyed records that are newer than the highest counted of their source partition."""
    found, now = [], dict(highest)
    for record in records:
        headers = dict(record.headers)
        origin, offset = int(headers["fw-source-partition"]), int(headers["fw-source-offset"])
        if offset > now.get(origin, -1):
            now[origin] = offset
            found.append(record)
    return found, {p: o for p, o in now.items() if highest.get(p) != o}
