"""Which partitions this worker counts, from where, and under which claim.

For every assigned partition: claim its shard, seek to the position the ledger names, fold chunks as
they come, and apply them one behind the other (one write in flight a partition; the next chunk is
decoded and folded meanwhile). Every answer of the ledger but `Ok`, and every failure, ends the same
way: forget the partition's states, make the chunks on their way void, claim again, seek, go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from faust.types import TP

from schemas.config import Source
from schemas.errors import FunnelwatchError, PositionBeyondEnd, RegistryUnavailable, StoreUnavailable
from streams.ledger.contract import UNKEYED, Claim, Corrupt, Fenced, Ledger, Mismatch, NoState, Ok, Outcome, Write
from streams.metrics import WorkerMetrics
from streams.pauses import give_way
from streams.portion import Portion
from streams.tally import Deltas
from streams.transport import Consumer

log = structlog.get_logger()
DRAIN_SECONDS = 2.0
RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0)
END_PATIENCE_SECONDS = 3.0


@dataclass
class Lane:
    """The chunks of a partition that wait to be counted, and the task that counts them."""

    chunks: asyncio.Queue[Any]
    task: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Stop counting; whoever waits for room goes on."""
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        while not self.chunks.empty():
            self.chunks.get_nowait()


@dataclass(eq=False)
class Partition:
    """One assigned partition."""

    tp: TP
    shard: str
    source: Source
    claim: Claim
    serial: int
    next: int  # where the next chunk to fold must start
    stored: int  # where the ledger stands, as far as we were told
    work: Any = None  # what the agent keeps here: a ShardCount, or nothing
    upstream: dict[int, int] = field(default_factory=dict)  # source partition -> highest offset folded
    writing: asyncio.Task[None] | None = None
    lane: Lane | None = None
    claimed_at: float = field(default_factory=time.monotonic)  # a backfill that a later reading shows is still to be done
    progressed_at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Watched:
    """A topic this worker reads: its source, its shards' name, and what work a fresh claim begins with."""

    source: Source
    shards: str  # "web" or "web/intake"
    begin: Callable[[Claim], Any]
    definitions: tuple[int, ...] = ()  # that are counted
    backfill: Callable[[Claim, TP, int], Awaitable[None]] | None = None  # what is asked for, from an offset to where the claim stands


class BackfillAsked(Exception):
    """Why a partition is claimed anew that is in order."""


class Custodian:
    """See `transport.Custody`. One a worker."""

    def __init__(
        self,
        ledger: Ledger,
        watched: dict[str, Watched],
        metrics: WorkerMetrics,
        *,
        session_seconds: float,
        end_slack: int = 0,
        keys: Sequence[str] = UNKEYED,
    ) -> None:
        self._ledger = ledger
        self._watched = watched
        self._metrics = metrics
        self._session_seconds = session_seconds
        self._end_slack = end_slack
        self._keys = keys  # fingerprints of pseudonym keys, ours first
        self._partitions: dict[TP, Partition] = {}
        self._taking: dict[TP, asyncio.Task[None]] = {}
        self.halted: dict[TP, str] = {}
        self.assigned_tps: set[TP] = set()
        self.consumer: Consumer | None = None
        self._turn = asyncio.Lock()
        self._portions: defaultdict[TP, Portion] = defaultdict(Portion)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """For work on a chunk that holds up the loop: one lane's at a time, and whoever waits on the loop comes in between."""
        async with self._turn:
            await give_way()
            yield

    def partition(self, tp: TP, serial: int) -> Partition | None:
        """The partition, unless chunks of that serial are void."""
        held = self._partitions.get(tp)
        return held if held is not None and held.serial == serial else None

    def holds(self, partition: Partition) -> bool:
        """Whether the partition is still counted under its claim."""
        return self._partitions.get(partition.tp) is partition

    def partitions(self) -> list[Partition]:
        return list(self._partitions.values())

    def overtaken(self, tp: TP) -> None:
        held = self._partitions.get(tp)
        if held is not None:
            self.resync(held, RuntimeError("records left the topic before they were read"))

    def records_max(self, tp: TP) -> int:
        return self._portions[tp].records

    def committable(self, tp: TP) -> int | None:
        held = self._partitions.get(tp)
        return held.stored if held else None

    # Assignment

    async def assigned(self, consumer: Consumer, tps: set[TP]) -> None:
        self.consumer = consumer
        self.assigned_tps = {tp for tp in tps if tp.topic in self._watched}
        for tp in set(self._partitions) | set(self._taking):
            self._drop(tp)
        self.halted.clear()
        for tp in self.assigned_tps:
            self._take_soon(tp)
        await asyncio.gather(*[asyncio.shield(task) for task in self._taking.values()], return_exceptions=True)

    async def revoked(self, tps: set[TP]) -> None:
        self.assigned_tps -= tps
        await self.drain(tps)
        for tp in tps:
            self._drop(tp)

    async def drain(self, tps: set[TP] | None = None) -> None:
        """Wait a little for what is being written."""
        writing = [p.writing for p in self._partitions.values() if p.writing and (tps is None or p.tp in tps)]
        if writing:
            await asyncio.wait(writing, timeout=DRAIN_SECONDS)

    def _drop(self, tp: TP) -> None:
        held = self._partitions.pop(tp, None)
        if held is not None:
            self._end(held)
        task = self._taking.pop(tp, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        self._metrics.forget(tp)

    # Claims

    def _take_soon(self, tp: TP, after_seconds: float = 0.0) -> None:
        self._taking[tp] = asyncio.create_task(self._take(tp, after_seconds), name=f"claim {tp.topic}[{tp.partition}]")

    async def _take(self, tp: TP, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        for attempt in range(1_000_000):
            if tp not in self.assigned_tps:
                break
            try:
                await self._claim(tp)
                break
            except FunnelwatchError as error:
                if not error.retriable:
                    self._halt(tp, error)
                    break
                log.warning("claim failed, trying again", topic=tp.topic, partition=tp.partition, error=str(error))
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("claim failed, trying again", topic=tp.topic, partition=tp.partition, error=repr(error))
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
        if self._taking.get(tp) is asyncio.current_task():
            del self._taking[tp]

    async def _claim(self, tp: TP) -> None:
        consumer = self._consumer()
        watched = self._watched[tp.topic]
        first, end = (await consumer.log_range([tp]))[tp]
        shard = f"{watched.shards}:{tp.partition}"
        begin = first if watched.source.start == "earliest" else end
        count = consumer.partition_count(tp.topic)
        claim = await self._ledger.claim(shard, count, begin, watched.definitions, self._keys)
        if claim.corrupt:
            log.error("a write was torn; the shard is counted anew from the topic", shard=shard)
            await self._ledger.reset(shard)
            claim = await self._ledger.claim(shard, count, first, watched.definitions, self._keys)
        stored = await self._mend(tp, claim, first, end)
        if watched.backfill is not None and claim.backfills:
            await watched.backfill(replace(claim, next=stored), tp, first)
        if tp not in self.assigned_tps:
            return
        consumer.seek_to(tp, stored)
        self._partitions[tp] = Partition(
            tp, shard, watched.source, claim, consumer.serial(tp), stored, stored, work=watched.begin(claim), upstream=dict(claim.upstream)
        )

    async def _mend(self, tp: TP, claim: Claim, first: int, end: int) -> int:
        """Where to read on, when the log has moved under the stored position."""
        if claim.next < first:
            lost = first - claim.next
            log.error("records left the topic before they were counted", topic=tp.topic, partition=tp.partition, records=lost)
            write = Write(claim.next, first, Deltas(watermark_us=claim.watermark_us), gone=lost)
            outcome = await self._ledger.apply(claim, write)
            if not isinstance(outcome, Ok):
                raise StoreUnavailable(f"{claim.shard} changed hands while it was claimed")
            return first
        deadline = time.monotonic() + END_PATIENCE_SECONDS
        while claim.next > end + self._end_slack:
            if time.monotonic() > deadline:
                raise PositionBeyondEnd(tp.topic, tp.partition, claim.next, end)
            await asyncio.sleep(0.2)
            end = (await self._consumer().log_range([tp]))[tp][1]
        return claim.next

    def _consumer(self) -> Consumer:
        if self.consumer is None:
            raise StoreUnavailable("the Kafka consumer is not there yet")
        return self.consumer

    def _halt(self, tp: TP, error: FunnelwatchError) -> None:
        log.error("stopped reading a partition", topic=tp.topic, partition=tp.partition, error=str(error))
        self.halted[tp] = str(error)
        self._metrics.conflict("halted")

    # Writes

    async def submit(self, partition: Partition, write: Write, before: Coroutine[Any, Any, None] | None = None) -> None:
        """Queue a write behind the one in flight; waits while there is one. `before` runs first."""
        await self.written(partition)
        if not self.holds(partition):
            if before is not None:
                before.close()
            return
        partition.writing = asyncio.create_task(self._write(partition, write, before))

    async def written(self, partition: Partition) -> None:
        """Wait for the write in flight."""
        if partition.writing is not None:
            await asyncio.wait([partition.writing])

    async def _write(self, partition: Partition, write: Write, before: Awaitable[None] | None) -> None:
        try:
            if before is not None:
                await before
            outcome = await self._ledger.apply(partition.claim, write)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.resync(partition, error)
            return
        if isinstance(outcome, Ok):
            self._metrics.apply_seconds.observe(outcome.seconds)
            self._portions[partition.tp].took(write.next - write.start, outcome.seconds)
            partition.stored = write.next
            partition.progressed_at = time.monotonic()
        else:
            self.resync(partition, outcome)

    def resync(self, partition: Partition, why: Outcome | BaseException) -> None:
        """Forget the partition's states, make what is on its way void, and claim it again."""
        tp = partition.tp
        if not self.holds(partition):
            return
        del self._partitions[tp]
        self._consumer().void(tp)
        self._end(partition)
        kind, wait = self._verdict(partition, why)
        self._metrics.conflict(kind)
        log.warning("partition resynced", shard=partition.shard, why=kind, detail=str(why), retry_seconds=wait)
        if isinstance(why, FunnelwatchError) and not why.retriable:
            self._halt(tp, why)
        elif tp in self.assigned_tps and tp not in self._taking:
            self._take_soon(tp, wait)

    def _end(self, partition: Partition) -> None:
        if partition.lane is not None:
            partition.lane.end()
        if partition.writing is not None and partition.writing is not asyncio.current_task():
            partition.writing.cancel()

    def _verdict(self, partition: Partition, why: Outcome | BaseException) -> tuple[str, float]:
        match why:
            case Fenced(epoch):
                # A higher epoch: somebody else counts it. Let a rebalance come first, then look again.
                return "fenced", 0.0 if epoch < partition.claim.epoch else self._session_seconds + 2.0
            case Mismatch():
                return "mismatch", 0.0
            case Corrupt():
                return "corrupt", 0.0
            case NoState():
                return "nostate", 0.0
            case BackfillAsked():
                return "backfill", 0.0
            case StoreUnavailable():
                return "unavailable", RETRY_SECONDS[1]
            case RegistryUnavailable():
                return "unavailable", RETRY_SECONDS[3]
        return "failed", RETRY_SECONDS[2]
