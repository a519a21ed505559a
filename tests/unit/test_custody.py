"""Who counts a partition, from where, and what happens when the ledger says anything but yes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from faust.types import TP

from schemas.config import Source
from schemas.errors import StoreError, StoreUnavailable
from streams import custody
from streams.custody import RETRY_SECONDS, Custodian, Lane, Partition, Watched
from streams.ledger.contract import UNKEYED, Claim, Corrupt, Fenced, Mismatch, NoState, Ok, Outcome, Position, Write
from streams.ledger.memory import MemoryLedger
from streams.metrics import WorkerMetrics
from streams.portion import SECONDS_MAX
from streams.tally import Deltas

CLICKS = TP("clicks", 0)
OTHER = TP("clicks", 1)
SESSION_SECONDS = 6.0
SOURCE = Source(name="web", topic="clicks")
sleep = asyncio.sleep


class FakeConsumer:
    """A log of every partition, and a note of where it was to be read."""

    def __init__(self) -> None:
        self.logs: dict[TP, tuple[int, int]] = {CLICKS: (0, 100), OTHER: (0, 100)}
        self.ends_to_come: list[int] = []
        self.failures: list[Exception] = []
        self.partitions = 2
        self.serials: Counter[TP] = Counter()
        self.sought: list[tuple[TP, int]] = []

    async def log_range(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        if self.failures:
            raise self.failures.pop(0)
        found = {tp: self.logs[tp] for tp in tps}
        if self.ends_to_come:
            self.logs = {tp: (first, self.ends_to_come[0]) for tp, (first, _) in self.logs.items()}
            del self.ends_to_come[0]
        return found

    def partition_count(self, topic: str) -> int:
        return self.partitions

    def serial(self, tp: TP) -> int:
        return self.serials[tp]

    def seek_to(self, tp: TP, offset: int) -> None:
        self.void(tp)
        self.sought.append((tp, offset))

    def void(self, tp: TP) -> None:
        self.serials[tp] += 1


class ScriptedLedger(MemoryLedger):
    """Answers as it is told to, then as a ledger does; waits at a gate before it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Outcome | Exception] = []
        self.claim_failures: list[Exception] = []
        self.corrupt_claims = 0
        self.claims = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.claim_gate = asyncio.Event()
        self.claim_gate.set()

    async def claim(self, shard: str, partitions: int, start: int, definitions: Sequence[int] = (), keys: Sequence[str] = UNKEYED) -> Claim:
        with suppress(asyncio.CancelledError):  # a cancel that meets a finishing Redis call can be lost
            await self.claim_gate.wait()
        if self.claim_failures:
            raise self.claim_failures.pop(0)
        self.claims += 1
        found = await super().claim(shard, partitions, start, (), keys)
        if self.corrupt_claims:
            self.corrupt_claims -= 1
            return replace(found, corrupt=True)
        return found

    async def apply(self, claim: Claim, write: Write) -> Outcome:
        await self.gate.wait()
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return await super().apply(claim, write)

    async def position(self, shard: str = "web:0") -> Position:
        found = await self.changes(shard, "", 0)
        assert found is not None
        return found.position


class Work:
    """What a fresh claim begins with."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest_asyncio.fixture
async def ledger() -> ScriptedLedger:
    return ScriptedLedger()


@pytest.fixture
def metrics() -> WorkerMetrics:
    return WorkerMetrics("test")


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was slept, without sleeping."""
    slept: list[float] = []

    async def nap(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", nap)
    return slept


MakeCustodian = Callable[..., Custodian]


@pytest_asyncio.fixture
async def make_custodian(ledger: ScriptedLedger, metrics: WorkerMetrics, naps: list[float]) -> AsyncIterator[MakeCustodian]:
    made: list[Custodian] = []

    def make(source: Source = SOURCE, **settings: Any) -> Custodian:
        watched = {"clicks": Watched(source, "web", Work)}
        made.append(Custodian(ledger, watched, metrics, session_seconds=SESSION_SECONDS, **settings))
        return made[-1]

    yield make
    for custodian in made:
        ledger.gate.set()
        await custodian.revoked({CLICKS, OTHER})
        await settle()


@pytest_asyncio.fixture
async def custodian(make_custodian: MakeCustodian) -> Custodian:
    return make_custodian()


async def settle() -> None:
    """Let every task run until it waits for something real."""
    for _ in range(100):
        await sleep(0)


async def assign(custodian: Custodian, consumer: Any, *tps: TP) -> None:
    await custodian.assigned(consumer, set(tps or (CLICKS,)))
    await settle()


def held(custodian: Custodian, consumer: FakeConsumer, tp: TP = CLICKS) -> Partition:
    """The partition, as an agent gets it for a chunk of the newest seek."""
    found = custodian.partition(tp, consumer.serial(tp))
    assert found is not None
    return found


def chunk(start: int, following: int) -> Write:
    return Write(start, following, Deltas(fates={"applied": following - start}, watermark_us=following))


async def write(custodian: Custodian, partition: Partition, start: int, following: int) -> None:
    await custodian.submit(partition, chunk(start, following))
    await settle()


def conflicts(metrics: WorkerMetrics) -> dict[str, float]:
    samples = [s for m in metrics.registry.collect() if m.name == "funnel_ledger_conflicts" for s in m.samples]
    return {s.labels["kind"]: s.value for s in samples if s.name.endswith("_total") and s.value}


# Claims


async def test_an_assigned_partition_is_claimed_and_read_from_where_the_ledger_stands(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    before = await ledger.claim("web:0", 2, 0)
    await ledger.apply(before, chunk(0, 7))
    await assign(custodian, consumer)
    partition = held(custodian, consumer)
    assert consumer.sought == [(CLICKS, 7)]
    assert (partition.next, partition.stored, custodian.committable(CLICKS)) == (7, 7, 7)
    assert (partition.claim.epoch, partition.work.claim) == (2, partition.claim)


@pytest.mark.parametrize(("start", "begin"), [("earliest", 3), ("latest", 9)])
async def test_a_new_shard_begins_where_its_source_says(
    make_custodian: MakeCustodian, consumer: FakeConsumer, start: str, begin: int
) -> None:
    consumer.logs[CLICKS] = (3, 9)
    await assign(make_custodian(SOURCE.model_copy(update={"start": start})), consumer)
    assert consumer.sought == [(CLICKS, begin)]


async def test_topics_of_others_are_left_alone(custodian: Custodian, consumer: FakeConsumer) -> None:
    await assign(custodian, consumer, TP("else", 0), CLICKS)
    assert [p.tp for p in custodian.partitions()] == [CLICKS]
    assert custodian.committable(TP("else", 0)) is None


async def test_a_claim_that_fails_is_tried_again_ever_more_slowly(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, naps: list[float]
) -> None:
    ledger.claim_failures = [StoreUnavailable("down"), StoreUnavailable("down"), OSError("gone")]
    consumer.failures = [RuntimeError("no leader"), RuntimeError("no leader")]
    await assign(custodian, consumer)
    assert naps == [0.0, *RETRY_SECONDS, RETRY_SECONDS[-1]]
    assert held(custodian, consumer).stored == 0


async def test_a_torn_shard_is_counted_anew_from_the_first_record_there_is(
    make_custodian: MakeCustodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    torn = await ledger.claim("web:0", 2, 0)
    await ledger.apply(torn, chunk(0, 7))
    consumer.logs[CLICKS] = (2, 9)
    ledger.corrupt_claims = 1
    custodian = make_custodian(SOURCE.model_copy(update={"start": "latest"}))
    await assign(custodian, consumer)
    assert consumer.sought == [(CLICKS, 2)]
    assert (await ledger.position()).fates == {}
    await write(custodian, held(custodian, consumer), 2, 3)
    assert (await ledger.position()).next == 3


async def test_records_that_are_gone_are_counted_and_passed_over(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    before = await ledger.claim("web:0", 2, 0)
    await ledger.apply(before, chunk(0, 5))
    consumer.logs[CLICKS] = (9, 20)
    await assign(custodian, consumer)
    assert consumer.sought == [(CLICKS, 9)]
    position = await ledger.position()
    assert (position.next, position.gone, position.watermark_us, position.fates) == (9, 4, 5, {"applied": 5})
    await write(custodian, held(custodian, consumer), 9, 10)
    assert (await ledger.position()).next == 10


async def test_a_shard_that_changes_hands_while_it_is_mended_is_claimed_again(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    await ledger.claim("web:0", 2, 5)
    consumer.logs[CLICKS] = (9, 20)
    ledger.answers = [Fenced(9)]
    await assign(custodian, consumer)
    assert ((await ledger.position()).gone, consumer.sought) == (4, [(CLICKS, 9)])


async def test_a_position_past_the_end_of_the_log_stops_the_partition(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, metrics: WorkerMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "END_PATIENCE_SECONDS", 0.0)
    await ledger.claim("web:0", 2, 101)
    await assign(custodian, consumer, CLICKS, OTHER)
    assert "clicks[0]: the ledger stands at offset 101, the log ends at 100" in custodian.halted[CLICKS]
    assert (consumer.sought, [p.tp for p in custodian.partitions()]) == ([(OTHER, 0)], [OTHER])
    assert conflicts(metrics) == {"halted": 1}


async def test_an_end_that_is_reported_late_is_waited_for(custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger) -> None:
    await ledger.claim("web:0", 2, 105)
    consumer.ends_to_come = [103, 105]
    await assign(custodian, consumer)
    assert (consumer.sought, custodian.halted) == ([(CLICKS, 105)], {})


async def test_a_position_may_be_past_the_end_by_the_slack(
    make_custodian: MakeCustodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    await ledger.claim("web:0", 2, 105)
    await assign(make_custodian(end_slack=5), consumer)
    assert consumer.sought == [(CLICKS, 105)]


async def test_a_topic_with_another_partition_count_is_not_counted(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, metrics: WorkerMetrics
) -> None:
    await ledger.claim("web:0", 3, 0)
    await assign(custodian, consumer)
    assert "has 2 partitions, its counts were begun with 3" in custodian.halted[CLICKS]
    assert (consumer.sought, custodian.partitions(), conflicts(metrics)) == ([], [], {"halted": 1})


async def test_what_was_stopped_is_tried_again_when_it_is_assigned_again(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    await ledger.claim("web:0", 3, 0)
    await assign(custodian, consumer)
    consumer.partitions = 3
    await assign(custodian, consumer)
    assert custodian.halted == {}
    assert held(custodian, consumer).stored == 0


# Rebalances


async def test_every_assignment_claims_anew_and_makes_earlier_chunks_void(custodian: Custodian, consumer: FakeConsumer) -> None:
    await assign(custodian, consumer)
    before, serial = held(custodian, consumer), consumer.serial(CLICKS)
    await assign(custodian, consumer, CLICKS, OTHER)
    assert custodian.partition(CLICKS, serial) is None
    assert not custodian.holds(before)
    assert held(custodian, consumer).claim.epoch == before.claim.epoch + 1
    assert {p.tp for p in custodian.partitions()} == {CLICKS, OTHER}


async def test_a_partition_taken_away_is_held_no_more_the_others_are(custodian: Custodian, consumer: FakeConsumer) -> None:
    await assign(custodian, consumer, CLICKS, OTHER)
    await custodian.revoked({CLICKS})
    assert [p.tp for p in custodian.partitions()] == [OTHER]
    assert (custodian.committable(CLICKS), custodian.assigned_tps) == (None, {OTHER})


async def test_what_is_being_written_is_finished_before_a_partition_goes(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    await assign(custodian, consumer)
    ledger.gate.clear()
    await write(custodian, held(custodian, consumer), 0, 5)
    going = asyncio.create_task(custodian.revoked({CLICKS}))
    await settle()
    assert not going.done()
    ledger.gate.set()
    await going
    assert (await ledger.position()).next == 5


async def test_a_write_that_hangs_does_not_hold_up_a_rebalance(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, metrics: WorkerMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "DRAIN_SECONDS", 0.01)
    await assign(custodian, consumer)
    ledger.gate.clear()
    await write(custodian, held(custodian, consumer), 0, 5)
    await custodian.revoked({CLICKS})
    ledger.gate.set()
    await settle()
    assert ((await ledger.position()).next, conflicts(metrics)) == (0, {})


async def test_a_partition_taken_away_while_it_was_being_claimed_is_not_read(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    ledger.claim_failures = [StoreUnavailable("down")] * 10_000
    taking = asyncio.create_task(custodian.assigned(consumer, {CLICKS}))  # type: ignore[arg-type]  # a fake
    await settle()
    await custodian.revoked({CLICKS})
    ledger.claim_failures.clear()
    await settle()
    assert (taking.done(), consumer.sought, custodian.partitions()) == (True, [], [])


async def test_a_claim_that_cannot_be_called_off_is_not_used(custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger) -> None:
    ledger.claim_gate.clear()
    taking = asyncio.create_task(custodian.assigned(consumer, {CLICKS}))  # type: ignore[arg-type]  # a fake
    await settle()
    await custodian.revoked({CLICKS})
    await settle()
    assert (taking.done(), ledger.claims, consumer.sought, custodian.partitions()) == (True, 1, [], [])


async def test_what_an_assignment_leaves_out_is_held_no_more(custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger) -> None:
    await assign(custodian, consumer, CLICKS, OTHER)
    ledger.gate.clear()
    await write(custodian, held(custodian, consumer), 0, 5)
    await assign(custodian, consumer, OTHER)
    ledger.gate.set()
    await settle()
    assert [p.tp for p in custodian.partitions()] == [OTHER]
    assert (await ledger.position()).next == 0


# Writes


async def test_writes_go_one_behind_the_other(custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger) -> None:
    await assign(custodian, consumer)
    partition = held(custodian, consumer)
    ledger.gate.clear()
    await write(custodian, partition, 0, 5)
    second = asyncio.create_task(custodian.submit(partition, chunk(5, 9)))
    await settle()
    assert (second.done(), partition.stored) == (False, 0)
    ledger.gate.set()
    await settle()
    assert (second.done(), partition.stored, custodian.committable(CLICKS)) == (True, 9, 9)
    assert (await ledger.position()).fates == {"applied": 9}


async def test_partitions_do_not_wait_for_each_other(custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger) -> None:
    await assign(custodian, consumer, CLICKS, OTHER)
    ledger.gate.clear()
    for tp in (CLICKS, OTHER):
        await asyncio.wait_for(custodian.submit(held(custodian, consumer, tp), chunk(0, 5)), 1.0)
    ledger.gate.set()
    await settle()
    assert [p.stored for p in custodian.partitions()] == [5, 5]


async def test_a_chunk_that_took_the_ledger_long_makes_the_next_of_its_partition_smaller(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    await assign(custodian, consumer, CLICKS, OTHER)
    first = custodian.records_max(CLICKS)
    ledger.answers = [Ok(seconds=2 * SECONDS_MAX)]
    await write(custodian, held(custodian, consumer), 0, first)
    assert (custodian.records_max(CLICKS), custodian.records_max(OTHER)) == (first // 2, first)


async def test_how_long_chunks_took_the_ledger_is_measured_of_those_that_it_took(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, metrics: WorkerMetrics
) -> None:
    await assign(custodian, consumer)
    ledger.answers = [Ok(seconds=0.25), NoState()]
    for start in (0, 5):
        await write(custodian, held(custodian, consumer), start, start + 5)
    said = {sample.name: sample.value for metric in metrics.registry.collect() for sample in metric.samples}
    assert (said["funnel_apply_seconds_sum"], said["funnel_apply_seconds_count"]) == (0.25, 1)


async def test_dead_letters_are_out_before_the_position_moves_past_them(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    await assign(custodian, consumer)
    stood: list[int] = []

    async def letters() -> None:
        stood.append((await ledger.position()).next)

    await custodian.submit(held(custodian, consumer), chunk(0, 5), letters())
    await settle()
    assert (stood, (await ledger.position()).next) == ([0], 5)


async def test_a_chunk_whose_dead_letters_are_not_taken_is_not_written(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, metrics: WorkerMetrics
) -> None:
    await assign(custodian, consumer)
    partition = held(custodian, consumer)

    async def letters() -> None:
        raise StoreUnavailable("Kafka did not take them")

    await custodian.submit(partition, chunk(0, 5), letters())
    await settle()
    assert ((await ledger.position()).next, conflicts(metrics)) == (0, {"unavailable": 1})
    assert not custodian.holds(partition)
    assert held(custodian, consumer).next == 0


REFUSALS: list[tuple[Outcome | Exception, str, float]] = [
    (Mismatch(3), "mismatch", 0.0),
    (Corrupt(), "corrupt", 0.0),
    (NoState(), "nostate", 0.0),
    (Fenced(0), "fenced", 0.0),
    (Fenced(1), "fenced", SESSION_SECONDS + 2.0),
    (Fenced(2), "fenced", SESSION_SECONDS + 2.0),
    (StoreUnavailable("down"), "unavailable", 0.5),
    (RuntimeError("what nobody thought of"), "failed", 1.0),
]


@pytest.mark.parametrize(("answer", "kind", "wait_seconds"), REFUSALS, ids=[repr(answer) for answer, _, _ in REFUSALS])
async def test_every_answer_but_ok_forgets_claims_again_and_seeks(
    custodian: Custodian,
    consumer: FakeConsumer,
    ledger: ScriptedLedger,
    metrics: WorkerMetrics,
    naps: list[float],
    answer: Outcome | Exception,
    kind: str,
    wait_seconds: float,
) -> None:
    await assign(custodian, consumer)
    before, serial = held(custodian, consumer), consumer.serial(CLICKS)
    await write(custodian, before, 0, 5)
    ledger.answers = [answer]
    await write(custodian, before, 5, 9)
    assert (conflicts(metrics), naps) == ({kind: 1}, [0.0, wait_seconds])
    assert custodian.partition(CLICKS, serial) is None
    after = held(custodian, consumer)
    assert (after.next, after.stored, consumer.sought) == (5, 5, [(CLICKS, 0), (CLICKS, 5)])
    assert (after.claim.epoch, after.work is before.work) == (2, False)
    await write(custodian, before, 5, 9)
    assert after.stored == 5, "what was folded before is written no more"
    await write(custodian, after, 5, 9)
    assert (await ledger.position()).fates == {"applied": 9}


async def test_a_newer_claim_of_another_worker_is_waited_out(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, naps: list[float]
) -> None:
    await assign(custodian, consumer)
    partition = held(custodian, consumer)
    theirs = await ledger.claim("web:0", 2, 0)
    assert await ledger.apply(theirs, chunk(0, 3)) == Ok()
    await write(custodian, partition, 0, 5)
    assert naps == [0.0, SESSION_SECONDS + 2.0]
    assert consumer.sought[-1] == (CLICKS, 3)


async def test_a_claim_that_was_rolled_back_is_made_again_at_once(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, naps: list[float]
) -> None:
    await assign(custodian, consumer)
    await assign(custodian, consumer)
    partition = held(custodian, consumer)
    naps.clear()
    await ledger.reset("web:0")
    await ledger.claim("web:0", 2, 0)
    await write(custodian, partition, 0, 5)
    assert naps == [0.0]
    assert held(custodian, consumer).claim.epoch == 2


async def test_what_was_fenced_is_not_claimed_again_once_it_is_taken_away(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await assign(custodian, consumer)
    monkeypatch.setattr(asyncio, "sleep", sleep)  # long enough to be taken away meanwhile
    ledger.answers = [Fenced(2)]
    await write(custodian, held(custodian, consumer), 0, 5)
    assert ledger.claims == 1
    await custodian.revoked({CLICKS})
    await settle()
    assert (ledger.claims, custodian.partitions()) == (1, [])


async def test_a_store_that_refuses_for_good_stops_the_partition(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, metrics: WorkerMetrics
) -> None:
    await assign(custodian, consumer)
    ledger.answers = [StoreError("a key of the shard has another type")]
    await write(custodian, held(custodian, consumer), 0, 5)
    assert custodian.halted == {CLICKS: "a key of the shard has another type"}
    assert (custodian.partitions(), ledger.claims, conflicts(metrics)) == ([], 1, {"failed": 1, "halted": 1})


async def test_a_resync_leaves_other_partitions_alone(custodian: Custodian, consumer: FakeConsumer) -> None:
    await assign(custodian, consumer, CLICKS, OTHER)
    other, serials = held(custodian, consumer, OTHER), dict(consumer.serials)
    custodian.resync(held(custodian, consumer), NoState())
    assert consumer.serials == {CLICKS: serials[CLICKS] + 1, OTHER: serials[OTHER]}, "what is on its way is void at once"
    await settle()
    assert held(custodian, consumer, OTHER) is other
    assert held(custodian, consumer).claim.epoch == 2


async def test_a_partition_is_resynced_once_however_often_it_fails(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger, metrics: WorkerMetrics
) -> None:
    await assign(custodian, consumer)
    partition = held(custodian, consumer)
    for _ in range(3):
        custodian.resync(partition, NoState())
    await settle()
    custodian.resync(partition, NoState())
    await settle()
    assert (ledger.claims, conflicts(metrics)) == (2, {"nostate": 1})


async def test_a_resync_calls_off_what_is_being_written_and_counted(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    await assign(custodian, consumer)
    partition = held(custodian, consumer)
    partition.lane = Lane(asyncio.Queue(1))
    partition.lane.task = asyncio.create_task(sleep(60))
    await partition.lane.chunks.put("a chunk")
    waiting = asyncio.create_task(partition.lane.chunks.put("the next"))
    ledger.gate.clear()
    await write(custodian, partition, 0, 5)
    custodian.resync(partition, Mismatch(3))
    ledger.gate.set()
    await settle()
    assert (partition.lane.task.cancelled(), waiting.done()) == (True, True)
    assert (await ledger.position()).next == 0


async def test_nothing_is_begun_for_a_partition_that_is_not_held(
    custodian: Custodian, consumer: FakeConsumer, ledger: ScriptedLedger
) -> None:
    await assign(custodian, consumer)
    partition = held(custodian, consumer)
    await custodian.revoked({CLICKS})
    ran: list[str] = []

    async def letters() -> None:
        ran.append("letters")

    await custodian.submit(partition, chunk(0, 5), letters())
    await settle()
    assert (ran, (await ledger.position()).next) == ([], 0)
