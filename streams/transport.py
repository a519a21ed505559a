"""A Faust transport that hands an agent a whole fetched chunk of a partition.

Select it by the broker URL's scheme: `chunked://host:port`. An agent over it is a normal
`@app.agent`; each message's value is a `Chunk`. Rebalancing, assignment, flow control and shutdown
stay Faust's. What is ours:

* one message a fetched partition slice instead of one a record (a message object, a queue hop,
  sensors and an ack for each record cost a hundred times what the record does);
* where a partition is read from is the business of `Custody` (the ledger), not of Kafka's commits:
  those are written only as a hint for lag tools;
* every chunk says where it starts: where the chunk before it ended, or the target of the seek, so
  that a chunk lost on the way is seen as a hole and not mistaken for silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, cast

import aiokafka
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException
from faust.serializers.schemas import Schema
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

SEEK_SECONDS_MAX = 5.0
FETCH_SECONDS = 0.5  # a seek that is asked for waits this long at most
IDLE_SECONDS = 0.05


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one partition. `serial` tells which seek of the partition they follow."""

    tp: TP
    start: int
    next: int
    serial: int
    records: list[Any]  # offset, timestamp, key, value, headers


class Custody(Protocol):
    """Who knows where each partition is to be read from."""

    async def assigned(self, consumer: Consumer, tps: set[TP]) -> None:
        """Partitions are ours: decide where to read and call `Consumer.seek_to`, soon or later."""

    async def revoked(self, tps: set[TP]) -> None:
        """Partitions are ours no longer: finish what is being written and forget them."""

    def overtaken(self, tp: TP) -> None:
        """Records left the topic before they were read: claim again, and count them as gone."""

    def committable(self, tp: TP) -> int | None:
        """The position to tell Kafka about."""

    def records_max(self, tp: TP) -> int:
        """The most records of a chunk."""


class _Forgetful(dict[TP, "int | None"]):
    """Faust drops messages below the highest offset it has seen; after a seek that would lose them."""

    def __getitem__(self, tp: TP) -> int | None:
        return None


class _Batches(dict[Any, Any]):
    """A fetcher's results, unpacked a batch at a time: lists of records as the parser made them.

    aiokafka hands records over one by one, each wrapped in a Python object of eleven fields, topic and
    partition among them. A chunk knows those already, and the wrapping costs more than the parsing.
    """

    def __setitem__(self, tp: Any, result: Any) -> None:
        if type(result) is FetchResult:
            fetched = result._partition_records
            fetched._records_iterator = _unpacked(fetched)
        super().__setitem__(tp, result)


def _unpacked(fetched: Any) -> Iterator[list[Any]]:
    """The records of a fetch, batch by batch; `fetched.next_fetch_offset` follows. Aborted transactions are read too."""
    batches = fetched._records
    while batches.has_next():
        batch = batches.next_batch()
        if fetched._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"wrong checksum in {fetched._tp}")
        records = [] if batch.is_control_batch else list(batch)
        if records and records[0].offset < fetched.next_fetch_offset:  # a batch comes whole, from its beginning
            records = [r for r in records if r.offset >= fetched.next_fetch_offset]
        fetched.next_fetch_offset = max(fetched.next_fetch_offset, batch.next_offset)
        if records:
            yield records


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The driver's thread, which waits for records as long and for as many as the transport says, not the driver's fixed 1.5 s."""

    async def on_start(self) -> None:
        await super().on_start()
        self._consumer._fetcher._records = _Batches()

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = cast(Transport, transport).fetch_wait_ms
        consumer._fetch_min_bytes = cast(Transport, transport).fetch_bytes_min
        return consumer


class Consumer(driver.Consumer):
    """Yields chunks, and reads where the custody says."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _Forgetful()
        self._serial: dict[TP, int] = {}
        self._start: dict[TP, int] = {}
        self._seeks: dict[TP, int] = {}
        self.turned_at = self._loop_time()

    @property
    def custody(self) -> Custody:
        return cast(Custody, self.app.custody)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _loop_time(self) -> float:
        return asyncio.get_event_loop().time()

    def serial(self, tp: TP) -> int:
        """Which seek of the partition is the newest; chunks of an older one are void."""
        return self._serial.get(tp, 0)

    def seek_to(self, tp: TP, offset: int) -> None:
        """Read the partition from `offset`: takes effect before the next fetch."""
        self.void(tp)
        self._seeks[tp] = offset

    def void(self, tp: TP) -> None:
        """Make every chunk of the partition that is on its way void, until the next `seek_to`."""
        self._serial[tp] = self._serial.get(tp, 0) + 1
        self._seeks.pop(tp, None)
        self._start.pop(tp, None)

    async def perform_seek(self) -> None:
        """Called when partitions were assigned. Never longer than a few seconds: past the request
        timeout Faust's recovery task ends silently and the worker holds its partitions for ever."""
        tps = {ensure_TP(tp) for tp in self.assignment()}
        for tp in tps:
            self.void(tp)
        try:
            await asyncio.wait_for(self.custody.assigned(self, tps), SEEK_SECONDS_MAX)
        except asyncio.TimeoutError:
            self.log.warning("claiming partitions goes on in the background")

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Faust's part first (it stops the flow), then the custody's."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self.void(tp)
        await self.custody.revoked(revoked)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """One message a partition slice. `Faust` calls this in a loop."""
        self.turned_at = self._loop_time()
        await self._run_seeks()
        serials = dict(self._serial)
        ready = set(self._start)
        records, _ = await self._wait_next_records(timeout)
        if records is None or self.should_stop or not self.flow_active:
            return
        generation = self.app.consumer_generation_id
        for key, batches in records.items():
            tp = ensure_TP(key)
            if not batches or tp not in ready or self._serial.get(tp) != serials.get(tp):
                continue
            found = batches[0] if len(batches) == 1 else list(chain.from_iterable(batches))
            overtaken = found[0].offset > self._start[tp] and await self._overtaken(tp)
            if not self.flow_active or generation != self.app.consumer_generation_id:
                return
            if self._serial.get(tp) != serials.get(tp):  # taken away, or sought anew, while the broker was asked
                continue
            if overtaken:
                self.custody.overtaken(tp)
                continue
            most = self.custody.records_max(tp)
            for begin in range(0, len(found), most):
                if self._serial.get(tp) != serials.get(tp):  # void since the piece before
                    break
                part = found[begin : begin + most] if len(found) > most else found
                chunk = Chunk(tp, self._start[tp], part[-1].offset + 1, serials[tp], part)
                self._start[tp] = chunk.next
                yield tp, self._chunk_message(chunk)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        ready = (active_partitions or set()) & self._start.keys()
        if not ready:  # nothing may be read yet: an unclaimed partition's records would be thrown away
            await asyncio.sleep(IDLE_SECONDS)
            return {}
        return await super()._getmany(ready, min(timeout, FETCH_SECONDS))

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter({ensure_TP(tp) for tp in self.assignment()})

    async def _overtaken(self, tp: TP) -> bool:
        """Whether the hole before a fetch is one of retention: the log now begins past where we were to read, or nobody can say."""
        try:
            first = await self.earliest_offsets(tp)
        except Exception as error:
            self.log.warning("where the log begins cannot be read, the partition is claimed again: %r", error)
            return True
        return any(offset > self._start.get(tp, offset) for offset in first.values())

    async def _run_seeks(self) -> None:
        if not self._seeks:
            return
        seeks, self._seeks = self._seeks, {}
        serials = dict(self._serial)
        assigned = {ensure_TP(tp) for tp in self.assignment()}
        seeks = {tp: offset for tp, offset in seeks.items() if tp in assigned}
        try:
            await self.seek_wait(seeks)
        except Exception as error:  # a rebalance may take the partitions away under our hands
            self.log.warning("seek put off: %r", error)
            self._seeks = {**seeks, **self._seeks}
            await asyncio.sleep(0.1)
            return
        # A seek asked for meanwhile makes this one void.
        self._start.update({tp: offset for tp, offset in seeks.items() if self._serial[tp] == serials[tp]})

    def _chunk_message(self, chunk: Chunk) -> ConsumerMessage:
        last = chunk.records[-1]
        return ConsumerMessage(
            chunk.tp.topic,
            chunk.tp.partition,
            chunk.next - 1,
            (last.timestamp or 0) / 1000.0,
            last.timestamp_type,
            [],
            None,
            cast(bytes, chunk),
            None,
            0,
            len(chunk.records),
            chunk.tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Holes in offsets are normal between chunks; there is nothing to remember."""

    def _new_offset(self, tp: TP) -> int | None:
        """What Faust may commit: never more than the ledger has."""
        self._acked.pop(tp, None)
        self._acked_index.pop(tp, None)
        return self.custody.committable(tp)

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has."""
        found = self._thread._ensure_consumer()._client.cluster.partitions_for_topic(topic)
        return len(found or ())

    async def log_range(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        """(first offset, end offset) of each partition's log."""
        wanted = list(tps)
        first: Mapping[Any, int] = await self.earliest_offsets(*wanted)
        end: Mapping[Any, int] = await self.highwaters(*wanted)
        starts = {ensure_TP(tp): offset for tp, offset in first.items()}
        ends = {ensure_TP(tp): offset for tp, offset in end.items()}
        return {tp: (starts[tp], ends[tp]) for tp in wanted}


class Transport(driver.Transport):
    """Selected by `chunked://`."""

    Consumer = Consumer
    fetch_wait_ms: int = 100
    fetch_bytes_min: int = 1


class ChunkSchema(Schema[Any, Any]):
    """Hands the chunk through as it is: there is nothing to decode here."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> None:
        return None

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return message.value
