"""What a worker does beside consuming: follow the ledger, hold the lease, judge rules, answer readers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import structlog

from alerting.channels import build
from alerting.delivery import Delivery
from alerting.desk import Desk
from alerting.evaluator import Evaluator
from alerting.leadership import Leadership
from alerting.pipeline import Intake
from alerting.store import RedisAlertStore
from schemas.config import Config
from schemas.duration import Duration
from schemas.errors import FunnelwatchError, StoreError
from schemas.explanation import EntityExplanation
from schemas.history import ComparisonReport, HistoryReport
from schemas.report import Alerts, AlertState, AuditEntry, DeadLetterReport, FunnelReport, FunnelSummary, SilenceReport, Transition
from schemas.settings import Settings
from schemas.silence import NewAcknowledgement, NewSilence, Resend, Signed
from streams.archive import Archive, HistoryAsked
from streams.brokers import brokers_of
from streams.collector import LedgerText
from streams.custody import BackfillAsked, Custodian, Partition
from streams.lease import Lease
from streams.ledger.redis import RedisLedger
from streams.log_starts import LogStarts
from streams.logs import tell_held_back
from streams.metrics import WorkerMetrics, exposition
from streams.pauses import Collecting
from streams.periods import CompareAsked
from streams.privacy import pseudonyms_of
from streams.reader import Reader, SourceView, now_us
from streams.recorder import Recorder, RedisRecord
from streams.redis_client import connect
from streams.web.entities import explained
from streams.web.renderings import Renderings
from streams.web.stream import Hub

log = structlog.get_logger()
TURN_SECONDS_MAX = 30.0
READ_SECONDS_MAX = 15.0
BEHIND_RECORDS = 10_000  # more than these in the log and not counted: records wait
LOOK_SECONDS = 0.25  # between two readings of the ledger
SHARDS_READ_A_SECOND = 64  # in looks between ticks, so that many partitions cost no more than a few
REJECTED = "rejected"
TRANSITIONS_STREAMED = 50


class Service:
    """The reading half of a worker; `web.readings.Readings` for its API."""

    def __init__(self, config: Config, settings: Settings, version: str) -> None:
        self.config = config
        self._settings = settings
        redis, prefix = settings.redis, settings.redis.prefix
        self._client = connect(redis)
        self.names = pseudonyms_of(settings.privacy)
        self.ledger = RedisLedger(self._client, prefix, fences=settings.worker.fences)
        self.worker = WorkerMetrics(version)
        self.reader = Reader(config, self.ledger)
        self.custodian: Custodian | None = None
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._store = RedisAlertStore(self._client, prefix)
        lease = Lease(self._client, prefix, settings.worker.lease_seconds, owner)
        self._leadership = Leadership(lease, settings.worker.lease_seconds, self._store)
        web, dashboard = settings.web.url, settings.web.dashboard_url
        self._evaluator = Evaluator(config, self._store, web, dashboard_url=dashboard, tick_seconds=settings.worker.tick_seconds)
        self._desk = Desk(config, self._store)
        record = RedisRecord(self._client, prefix)
        self._recorder, self._archive = Recorder(config, record), Archive(self.reader, record)
        self.hub = Hub(Renderings(self.report), self._alerts, self.worker.stream_dropped.inc)
        self.worker.stream_clients.set_function(lambda: self.hub.clients)
        senders = {name: build(name, channel, brokers=brokers_of(settings.kafka)) for name, channel in config.channels.items()}
        self._delivery = Delivery(config, self._store, senders, self.worker.notification, web_url=web, dashboard_url=dashboard)
        self.worker.channels(senders)
        self._states: list[AlertState] = []
        self._states_asked = -math.inf  # when
        self._shown: Alerts | None = None  # as read in this tick
        self._ledger_text = LedgerText()
        self._failing: set[str] = set()
        self._reading_at = -math.inf  # when the last complete reading of the ledger began
        self._reading_took = 0.0  # seconds
        self._leading: asyncio.Task[bool] | None = None  # what only one of all workers does, of the last tick
        self._stopping = False
        self._log_starts = LogStarts()
        self._collecting = Collecting(time.monotonic())

    # The tick

    async def run(self) -> None:
        """Tick until `stop`, or until cancelled."""
        delivery = asyncio.create_task(self._delivery.run(self._leadership.leads))
        try:
            # On Python 3.10 and 3.11 a cancel that meets a finishing Redis call is lost: hence the flag.
            while not self._stopping:
                started = time.monotonic()
                await self._tick()
                await self._look_until(started + self._settings.worker.tick_seconds)
        finally:
            if self._leading is not None and not self._stopping:
                self._leading.cancel()
            await self._led()
            await self._log_starts.close()
            await self._delivery.close()
            await delivery

    def stop(self) -> None:
        """End `run` after the tick at hand."""
        self._stopping = True
        self.hub.close()

    async def _tick(self) -> None:
        tell_held_back()
        self._note_partitions()
        self._begin_backfills()
        # Side by side as far as one does not need the other: while chunks are counted, each question to Redis waits behind one.
        shows_alerts = self._leadership.fence is not None or self.hub.clients > 0
        read, *_ = await asyncio.gather(
            self._read(),
            self._guarded("publishing ends", self._publish_ends()),
            self._guarded("holding the lease", self._leadership.hold()),
            self._guarded("reading alerts", self._read_alerts(shows_alerts)),
        )
        self.worker.lease.set(self._leadership.fence is not None)
        await self._led()  # where the ledger could not be read
        self._leading = asyncio.create_task(self._guarded("leading", self._lead()))
        if read:
            await self._guarded("publishing reports", self.hub.publish())

    async def _led(self) -> None:
        """Until nobody judges or records the counts as they are. Meanwhile the next reading can ask for what was counted since."""
        if self._leading is not None:
            await asyncio.wait([self._leading])

    async def _lead(self) -> None:
        """What only one of all workers does."""
        fence = self._leadership.fence
        if fence is None:
            self._ledger_text.forget()
            return
        await self._guarded("evaluating rules", self._evaluate(fence))
        await self._guarded("recording history", self._recorder.tick(fence, self.reader.views))
        await self._guarded("writing metrics", self._ledger_text.follow(self.reader.readings()))

    async def _look_until(self, next_tick: float) -> None:
        """What is counted between two ticks is to be seen before the next, as far as that is no work to speak of."""
        shards = sum(len(view.positions) for view in self.reader.views.values())
        pause = max(LOOK_SECONDS, shards / SHARDS_READ_A_SECOND)
        while not self._stopping and next_tick - time.monotonic() > pause + self._reading_took:
            await asyncio.sleep(pause)
            if self._leading is not None and not self._leading.done():
                continue  # it would wait for that, and the tick for it
            if await self._read() and self._leadership.fence is not None and self._ledger_text.is_little:
                await self._guarded("writing metrics", self._ledger_text.follow(self.reader.readings()))
        await asyncio.sleep(max(0.05, next_tick - time.monotonic()))

    async def _read(self) -> bool:
        """Whether the ledger could be read; what is asked for from now on is of this reading."""
        began = time.monotonic()
        lag = sum(self._lag(partition) or 0 for partition in self._partitions())
        self._collecting.tick(began, behind=lag > BEHIND_RECORDS)
        read = await self._guarded("reading the ledger", self.reader.tick(self._ends(), self._led))
        if read:
            self._reading_at, self._reading_took = began, time.monotonic() - began
            self.hub.renderings.clear()
        return read

    async def _evaluate(self, fence: int) -> None:
        views, now, shown = self.reader.views, now_us(), self._shown
        intakes = {name: Intake(view.at_us, view.settled(now), _taken(view)) for name, view in views.items()}
        ruled = {rule.funnel: views[self.config.funnel(rule.funnel).source] for rule in self.config.alerts}
        adjusting = {name: view.adjusted(name) for name, view in ruled.items()}
        transitions = await self._evaluator.tick(fence, self.reader.counts(), adjusting, intakes, now)
        for transition in transitions:
            log.info("alert", **transition.model_dump(mode="json"))
        if transitions or shown is None:
            await self._states_now()

    async def _read_alerts(self, needed: bool) -> None:
        """As they are at the beginning of a tick, for the metrics and for pages, where there are any."""
        self._shown = None
        if needed:
            self._shown = await self._alerts_now()

    async def _alerts_now(self) -> Alerts:
        states, transitions = await asyncio.gather(self._states_now(), self.transitions(TRANSITIONS_STREAMED))
        return Alerts(states=states, transitions=transitions)

    async def _states_now(self) -> list[AlertState]:
        asked = time.monotonic()
        states = await self.alert_states()
        if asked > self._states_asked:  # an answer may come after that to a later question
            self._states, self._states_asked = states, asked
        return states

    async def _guarded(self, what: str, work: Coroutine[Any, Any, object]) -> bool:
        """Do one part of a tick; a failure is logged when it begins and when it ends, and stops nothing."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if what not in self._failing:
                self._failing.add(what)
                shown = str(error) if isinstance(error, FunnelwatchError) else repr(error)
                log.warning(f"{what} fails", error=shown, exc_info=not isinstance(error, FunnelwatchError))
            return False
        if what in self._failing:
            self._failing.discard(what)
            log.info(f"{what} works again")
        return True

    def _note_partitions(self) -> None:
        for partition in self._partitions():
            lag = self._lag(partition)
            if lag is not None:
                idle = time.monotonic() - partition.progressed_at
                shown = partition.shard.rpartition(":")[0]
                self.worker.at(partition.tp, shown, lag, idle)
                start = self._log_starts.known.get(partition.tp)
                if start is not None:
                    self.worker.kept(partition.tp, shown, max(0, partition.stored - start))
        if self.custodian is not None and self.custodian.consumer is not None:
            self._log_starts.look(self.custodian.consumer, [partition.tp for partition in self._partitions()])

    def _begin_backfills(self) -> None:
        """Claim a partition anew that was asked for a backfill since it was claimed: that is when it is done."""
        asked = {}
        for view in self.reader.views.values():
            ours = {funnel.definition for funnel in view.plan.funnels}
            asked.update({shard: ours.intersection(position.backfills) for shard, position in view.positions.items()})
        for partition in self._partitions():
            if self.custodian is not None and partition.claimed_at < self._reading_at and asked.get(partition.shard):
                self.custodian.resync(partition, BackfillAsked())

    async def _publish_ends(self) -> None:
        await asyncio.gather(*[self.ledger.publish_ends(name, ends) for name, ends in self._ends().items()])

    def _ends(self) -> dict[str, dict[int, int]]:
        """By source and partition, where the logs end that are read here."""
        by_source: dict[str, dict[int, int]] = {}
        for partition in self._partitions():
            end = self._end(partition)
            if end is not None:
                # The log's end as the broker reports it can trail what was already read.
                by_source.setdefault(partition.shard.rpartition(":")[0], {})[partition.tp.partition] = max(end, partition.stored)
        return by_source

    def _partitions(self) -> list[Partition]:
        return self.custodian.partitions() if self.custodian else []

    def _end(self, partition: Partition) -> int | None:
        consumer = self.custodian.consumer if self.custodian else None
        if consumer is None:
            return None
        with contextlib.suppress(Exception):  # between assignments the driver has no such partition
            return cast(int, consumer.highwater(partition.tp))
        return None

    def _lag(self, partition: Partition) -> int | None:
        """Records that are in the log and not counted."""
        end = self._end(partition)
        return None if end is None else max(0, end - partition.stored)

    async def close(self) -> None:
        """Give the lease back and let go of connections."""
        with contextlib.suppress(StoreError, asyncio.TimeoutError):
            await asyncio.wait_for(self._leadership.release(), self._settings.redis.timeout_seconds)
        await self.ledger.close()
        tell_held_back(ending=True)

    # Readings

    def summaries(self) -> list[FunnelSummary]:
        return [self.reader.summary(funnel) for funnel in self.config.funnels]

    def report(self, funnel: str, window: Duration, by: str | None, basis: str) -> FunnelReport:
        return self.reader.report(funnel, window, by, basis)

    async def history(self, asked: HistoryAsked) -> tuple[HistoryReport, int | None]:
        return await self._archive.history(asked)

    async def compare(self, asked: CompareAsked) -> ComparisonReport:
        return await self._archive.compare(asked)

    async def explanation(self, entity: str) -> EntityExplanation | None:
        return await explained(self.ledger, self.reader.views, entity, () if self.names is None else self.names.stored(entity))

    async def alert_states(self) -> list[AlertState]:
        return await self._desk.alert_states()

    async def _alerts(self) -> bytes:
        shown = self._shown or await self._alerts_now()  # where nobody listened when the tick began, or Redis did not answer then
        return shown.model_dump_json().encode()

    async def transitions(self, limit: int) -> list[Transition]:
        return await self._store.transitions(limit)

    async def silences(self) -> list[SilenceReport]:
        return await self._desk.silences()

    async def add_silence(self, asked: NewSilence) -> SilenceReport:
        return await self._desk.add_silence(asked)

    async def expire_silence(self, name: str, by: Signed) -> SilenceReport | None:
        return await self._desk.expire_silence(name, by)

    async def acknowledge(self, asked: NewAcknowledgement) -> AlertState | None:
        return await self._desk.acknowledge(asked)

    async def dead_letters(self) -> list[DeadLetterReport]:
        return await self._desk.dead_letters()

    async def resend(self, asked: Resend) -> bool:
        return await self._desk.resend(asked)

    async def entity_read(self, entity: str, author: str, sources: Sequence[str]) -> None:
        named = entity if self.names is None else self.names.stored(entity)[0]  # what the log has cannot be guessed then
        await self._desk.entity_read(named, author, sources)

    async def audit(self, limit: int) -> list[AuditEntry]:
        return await self._desk.audit(limit)

    def alive(self) -> tuple[bool, str]:
        consumer = self.custodian.consumer if self.custodian else None
        if consumer is None:
            return True, "waiting for partitions"
        still = asyncio.get_event_loop().time() - consumer.turned_at
        if still > TURN_SECONDS_MAX:
            return False, f"the consume loop has not turned for {still:.0f} s"
        return True, "the consume loop turns"

    async def ready(self) -> tuple[bool, str]:
        custodian = self.custodian
        if custodian is None or custodian.consumer is None:
            return False, "no partitions assigned yet"
        if custodian.halted:
            return False, next(iter(custodian.halted.values()))
        counted, assigned = len(custodian.partitions()), len(custodian.assigned_tps)
        if counted < assigned:
            return False, f"{counted} of {assigned} assigned partitions claimed"
        await self.ledger.ping()
        if self.reader.read_at is None or time.monotonic() - self.reader.read_at > READ_SECONDS_MAX:
            return False, "the ledger has not been read lately"
        return True, f"counting {counted} partitions"

    def metrics(self) -> list[bytes]:
        serves = self._leadership.fence is not None and self._ledger_text.complete
        return [exposition(self.worker), *(self._ledger_text.pieces(self.reader.readings(), self._states) if serves else ())]


def _taken(view: SourceView) -> int:
    """Records of a source that were ever counted or found to be of no account, the rejected ones apart."""
    return sum(count for fate, count in view.fates.items() if not fate.startswith(REJECTED))
