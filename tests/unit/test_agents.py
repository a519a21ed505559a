"""Chunks that come in are counted once each, in order, whatever happens to the store or the partition on the way.

`Desk` is a worker's desk without Kafka: a log of records is handed to an agent from wherever the
custody says, over the ledger in memory. The tests of the sweep use it too.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio
from faust.types import TP

from schemas.config import Config
from schemas.errors import StoreUnavailable
from streams import custody
from streams.agents import LANE_CHUNKS, CountingAgent, RekeyingAgent, not_seen
from streams.counting import SLICE_RECORDS, ShardCount
from streams.custody import BackfillAsked, Custodian, Partition, Watched
from streams.ledger.contract import Claim, Outcome, Position, Snapshot, Write
from streams.ledger.memory import MemoryLedger
from streams.metrics import WorkerMetrics
from streams.plan import Plan
from streams.producer import Outgoing
from streams.transport import Chunk
from streams.values import Registry
from streams.windows import RETRACTED, RETRACTED_AGES, Cells
from tests.parts.alerts import until
from tests.unit.test_counting import FOREVER_US, config, event, events, funnel

CLICKS = TP("clicks", 0)
SHARD = "web:0"
PATIENCE_SECONDS = 10.0


@dataclass
class Record:
    """As the transport hands it over."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Log:
    """A partition's log, and where it was to be read: the consumer that custody asks."""

    records: list[Record]
    first: int = 0
    sought: int | None = None
    serials: Counter[TP] = field(default_factory=Counter)

    async def log_range(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        return {tp: (self.first, len(self.records)) for tp in tps}

    def partition_count(self, topic: str) -> int:
        return 1

    def serial(self, tp: TP) -> int:
        return self.serials[tp]

    def seek_to(self, tp: TP, offset: int) -> None:
        self.void(tp)
        self.sought = offset

    def void(self, tp: TP) -> None:
        self.serials[tp] += 1
        self.sought = None


class Store(MemoryLedger):
    """Notes what it was asked, and in which order; fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.failures: dict[str, list[Exception]] = {}
        self.scanned: list[int] = []  # cursors

    async def _note(self, call: str) -> None:
        self.calls.append(call)
        await asyncio.sleep(0)  # as far away as a store is
        if self.failures.get(call):
            raise self.failures[call].pop(0)

    async def apply(self, claim: Claim, write: Write) -> Outcome:
        await self._note("apply" if write.next > write.start else "tidy")
        return await super().apply(claim, write)

    async def states(self, shard: str, entities: Sequence[str]) -> list[bytes | None]:
        await self._note("states")
        return await super().states(shard, entities)

    async def scan(self, shard: str, cursor: int, count: int) -> tuple[int, list[tuple[str, bytes]]]:
        self.scanned.append(cursor)
        await self._note("scan")
        return await super().scan(shard, cursor, count)

    async def admit(self, source: str, registry: Registry, texts: Sequence[str]) -> dict[str, bool]:
        await self._note("admit")
        return await super().admit(source, registry, texts)

    async def position(self) -> Position:
        found = await self.changes(SHARD, "", 0)
        assert found is not None
        return found.position


class Letters:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.failures: list[Exception] = []

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        self.sent += records


class Desk:
    """A worker that counts one partition of a log."""

    def __init__(self, setup: Config, log: Sequence[bytes | Record | None], store: Store | None = None, *, states_max: int = 10**6) -> None:
        self.source = setup.sources[0]
        self.plan = Plan(setup, self.source)
        self.store = store or Store()
        self.log = Log([r if isinstance(r, Record) else Record(n, r) for n, r in enumerate(log)])
        self.letters, self.metrics = Letters(), WorkerMetrics("test")
        self.chance = random.Random(1)
        definitions = tuple(plan.definition for plan in self.plan.funnels)
        self.watched = {"clicks": Watched(self.source, "web", lambda claim: ShardCount(self.plan, claim.watermark_us), definitions)}
        self.custodian = Custodian(self.store, self.watched, self.metrics, session_seconds=0.0)
        shared: Any = (self.custodian, self.letters, self.metrics, self.source, lambda: FOREVER_US)
        self.agent = CountingAgent(self.store, self.plan, *shared, states_max=states_max)

    async def begin(self) -> Desk:
        await self.custodian.assigned(self.log, {CLICKS})  # type: ignore[arg-type]  # what custody asks of a consumer
        return self

    async def count(self, until: int | None = None, size: int = 0) -> Desk:
        """Hand the log over in chunks (of any size, where none is given), and return once the ledger has it all."""
        end = len(self.log.records) if until is None else until
        await asyncio.wait_for(self._count(end, size), PATIENCE_SECONDS)
        return self

    async def _count(self, end: int, size: int) -> None:
        at, serial = -1, -1
        while not (self.partitions and self.partitions[0].stored >= end):
            if self.log.sought is not None and self.log.serial(CLICKS) != serial:
                at, serial = (self.partitions[0].next if serial < 0 else self.log.sought), self.log.serial(CLICKS)
            if self.log.sought is None or at >= end:
                await asyncio.sleep(0.001)
                continue
            following = min(end, at + (size or self.chance.choice((1, 2, 5, 30))))
            await self.agent.process(Chunk(CLICKS, at, following, serial, self.log.records[at:following]))
            at = following
        await self.settled()

    async def settled(self) -> None:
        """Until the lane has nothing more to do."""
        for _ in range(200):
            await asyncio.sleep(0)
        for partition in self.partitions:
            await self.custodian.written(partition)

    async def end(self) -> None:
        await self.custodian.revoked({CLICKS})
        await self.settled()

    @property
    def partitions(self) -> list[Partition]:
        return self.custodian.partitions()

    async def books(self) -> tuple[dict[Any, Cells], Cells]:
        """Every count that is not 0, and the fates."""
        found = await self.store.snapshot(SHARD, [(f.definition, k.seconds, k.count) for f in self.plan.funnels for k in f.kept])
        assert isinstance(found, Snapshot)
        named = {**found.buckets, **found.totals}
        books = {key: {n: c for n, c in cells.items() if c and n[0] not in RETRACTED + RETRACTED_AGES} for key, cells in named.items()}
        return {key: cells for key, cells in books.items() if cells}, dict(found.position.fates)

    def conflicts(self) -> dict[str, float]:
        samples = [s for m in self.metrics.registry.collect() if m.name == "funnel_ledger_conflicts" for s in m.samples]
        return {s.labels["kind"]: s.value for s in samples if s.name.endswith("_total") and s.value}


MakeDesk = Callable[..., Awaitable[Desk]]


@pytest_asyncio.fixture
async def make_desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeDesk]:
    """A desk whose partition is claimed; it is given back at the end."""
    monkeypatch.setattr(custody, "RETRY_SECONDS", (0.0, 0.0, 0.0, 0.0))
    made: list[Desk] = []

    async def make(*given: Any, **more: Any) -> Desk:
        made.append(await Desk(*given, **more).begin())
        return made[-1]

    yield make
    for desk in made:
        await desk.end()


SETUP = config(funnel(dimensions={"channel": "properties.channel"}), funnel("other", "xy"))
PEOPLE = [event(name, 7 * n + at, f"u{n % 40}", channel=f"c{n % 3}") for n in range(120) for at, name in enumerate("axbyc")]


async def expected(make_desk: MakeDesk, log: Sequence[Any] = PEOPLE, setup: Config = SETUP) -> tuple[dict[Any, Cells], Cells]:
    """What is counted when nothing happens."""
    return await (await (await make_desk(setup, log)).count(size=len(log))).books()


async def test_every_chunk_is_counted_whatever_its_size(make_desk: MakeDesk) -> None:
    desk = await (await make_desk(SETUP, PEOPLE)).count()
    assert await desk.books() == await expected(make_desk)
    assert (await desk.books())[1] == {"applied": len(PEOPLE)}
    assert (desk.partitions[0].stored, desk.conflicts()) == (len(PEOPLE), {})


async def test_a_worker_goes_on_from_the_states_that_another_stored(make_desk: MakeDesk) -> None:
    first = await (await make_desk(SETUP, PEOPLE)).count(until=300)
    await first.end()
    second = await make_desk(SETUP, PEOPLE, first.store)
    assert second.partitions[0].next == 300
    await second.count()
    assert await second.books() == await expected(make_desk)


async def test_a_hole_before_a_chunk_is_seen_and_the_partition_read_again(make_desk: MakeDesk) -> None:
    desk = await make_desk(SETUP, PEOPLE)
    lost = Chunk(CLICKS, 5, 9, desk.log.serial(CLICKS), desk.log.records[5:9])
    await desk.agent.process(lost)
    await desk.count()
    assert await desk.books() == await expected(make_desk)
    assert desk.conflicts() == {"failed": 1}


async def test_a_chunk_of_an_earlier_seek_is_void(make_desk: MakeDesk) -> None:
    desk = await make_desk(SETUP, PEOPLE)
    stale = Chunk(CLICKS, 0, 9, desk.log.serial(CLICKS) - 1, desk.log.records[:9])
    await desk.agent.process(stale)
    await desk.settled()
    assert ((await desk.store.position()).next, desk.store.calls) == (0, [])


@pytest.mark.parametrize("call", ["states", "admit", "apply"])
async def test_what_the_store_did_not_answer_is_asked_again_and_counted_once(
    make_desk: MakeDesk, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The chunk that was looked ahead at is dropped quietly, whether the store answered for it or not."""
    desk = await make_desk(SETUP, PEOPLE)
    await desk.count(until=100)
    desk.store.failures[call] = [StoreUnavailable("down"), StoreUnavailable("down")]
    desk.log.records[150] = Record(150, event("a", 999, "new", channel="new"))
    await desk.count()
    assert not desk.store.failures[call]
    assert await desk.books() == await expected(make_desk, [record.value for record in desk.log.records])
    assert set(desk.conflicts()) == {"unavailable"}
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_lane_looks_one_chunk_ahead(make_desk: MakeDesk) -> None:
    """What the next chunk needs is asked for before the one at hand is written."""
    desk = await make_desk(SETUP, [event("a", n, f"u{n}") for n in range(10)])
    await desk.count(size=5)
    assert desk.store.calls.index("states", desk.store.calls.index("states") + 1) < desk.store.calls.index("apply")


async def test_a_large_chunk_holds_nobody_up(make_desk: MakeDesk) -> None:
    """Whoever else waits on the loop has a turn every few hundred records, while they are decoded and while they are folded."""
    desk = await make_desk(SETUP, [event("a", n, f"u{n}") for n in range(SLICE_RECORDS * 20)])
    counting = asyncio.create_task(desk.count(size=len(desk.log.records)))
    turns: Counter[tuple[str, ...]] = Counter()  # by what the store was asked until then
    while "apply" not in desk.store.calls:
        await asyncio.sleep(0)
        turns[tuple(desk.store.calls)] += 1
    await counting
    assert turns[()] >= 20
    assert turns["states",] >= 20
    assert (await desk.books())[1] == {"applied": SLICE_RECORDS * 20}


async def test_what_a_counted_chunk_held_is_let_go_of(make_desk: MakeDesk) -> None:
    desk = await make_desk(SETUP, PEOPLE)
    chunk = Chunk(CLICKS, 0, len(PEOPLE), desk.log.serial(CLICKS), list(desk.log.records))
    await desk.agent.process(chunk)
    await until(lambda: desk.partitions[0].stored == len(PEOPLE) and not chunk.records)
    assert await desk.books() == await expected(make_desk)


async def test_a_full_lane_makes_the_consumer_wait(make_desk: MakeDesk) -> None:
    desk = await make_desk(SETUP, PEOPLE)
    serial, waiting = desk.log.serial(CLICKS), 0
    handing = [asyncio.create_task(desk.agent.process(Chunk(CLICKS, n, n + 1, serial, desk.log.records[n : n + 1]))) for n in range(8)]
    await asyncio.sleep(0)
    waiting = sum(not task.done() for task in handing)
    assert waiting >= 8 - LANE_CHUNKS - 2
    await asyncio.gather(*handing)
    await desk.settled()
    assert (await desk.store.position()).next == 8


async def test_more_people_than_fit_in_memory_are_dropped_from_it_and_read_back(make_desk: MakeDesk) -> None:
    desk = await make_desk(SETUP, PEOPLE, states_max=10)
    await desk.count(size=6)
    assert await desk.books() == await expected(make_desk)
    assert len(desk.partitions[0].work.states) <= 16
    assert desk.store.calls.count("states") > 20


async def test_bad_records_are_out_before_the_position_moves_past_them(make_desk: MakeDesk) -> None:
    log = [*PEOPLE[:20], b"{", *PEOPLE[20:]]
    desk = await make_desk(SETUP, log)
    desk.letters.failures = [StoreUnavailable("Kafka did not take it")]
    await desk.count()
    (letter,) = desk.letters.sent
    assert (letter[0], letter[2], dict(letter[3])["fw-reason"], dict(letter[3])["fw-offset"]) == (
        "clicks.dead-letter",
        b"{",
        b"bad_json",
        b"20",
    )
    assert (await desk.books())[1] == {"applied": len(PEOPLE), "rejected:bad_json": 1}
    assert desk.conflicts() == {"unavailable": 1}


async def test_consumption_stops_when_everything_is_bad(make_desk: MakeDesk) -> None:
    setup = config(funnel(), rejects_in_a_row_max=10)
    desk = await make_desk(setup, [b"{"] * 20)
    await desk.agent.process(Chunk(CLICKS, 0, 20, desk.log.serial(CLICKS), desk.log.records))
    await desk.settled()
    assert "Consumption has stopped" in desk.custodian.halted[CLICKS]
    assert ((await desk.store.position()).next, desk.partitions) == (0, [])


# Backfills


class Backfills:
    """What custody asks for; fails as often as it is told to."""

    def __init__(self, store: Store, failures: int = 0) -> None:
        self.store, self.failures = store, failures
        self.asked: list[tuple[tuple[int, ...], int, int]] = []  # definitions, from which offset, to which

    async def __call__(self, claim: Claim, tp: TP, first: int) -> None:
        self.asked.append((claim.backfills, first, claim.next))
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("cut short")
        for definition in claim.backfills:
            await self.store.backfilled(claim, definition, -1)


async def test_a_backfill_is_done_while_a_partition_is_claimed_and_before_it_is_read_on(make_desk: MakeDesk) -> None:
    desk = await (await make_desk(SETUP, PEOPLE)).count(until=300)
    work = Backfills(desk.store, failures=2)
    desk.watched["clicks"] = replace(desk.watched["clicks"], backfill=work)
    desk.log.first = 20
    await desk.count(until=310)
    assert work.asked == []
    for definition in (9, 7):
        await desk.store.ask_backfill(SHARD, definition)
    before = desk.partitions[0]
    desk.custodian.resync(before, BackfillAsked())
    await desk.count()
    assert work.asked == [((7, 9), 20, 310)] * 3, "until it is done"
    assert desk.partitions[0].claim.backfills == (7, 9)
    assert desk.partitions[0].claimed_at > before.claimed_at
    assert await desk.books() == await expected(make_desk)
    assert desk.conflicts() == {"backfill": 1}


# Re-keyed records


def origin(offset: int, partition: int = 0) -> list[tuple[str, bytes]]:
    return [("fw-source-topic", b"raw"), ("fw-source-partition", str(partition).encode()), ("fw-source-offset", str(offset).encode())]


def test_of_rekeyed_records_those_that_came_before_are_left_out() -> None:
    records = [
        Record(n, b"", headers=origin(offset, partition)) for n, (partition, offset) in enumerate([(0, 5), (1, 2), (0, 5), (0, 6), (1, 1)])
    ]
    found, highest = not_seen(records, {1: 1})
    assert ([record.offset for record in found], highest) == ([0, 1, 3], {0: 6, 1: 2})
    assert not_seen(records, highest | {0: 6, 1: 2}) == ([], {})


async def test_what_is_rekeyed_twice_is_counted_once_across_chunks_and_workers(make_desk: MakeDesk) -> None:
    setup = config(funnel(), entity_key=False)
    story = events("a@0 b@10 c@20")
    log = [Record(n, story[offset], b"u", headers=origin(offset)) for n, offset in enumerate([0, 1, 0, 1, 1, 2, 0, 2])]
    first = await (await make_desk(setup, log)).count(until=4, size=1)
    await first.end()
    second = await (await make_desk(setup, log, first.store)).count(size=3)
    counts, fates = await second.books()
    assert fates == {"applied": 3}
    assert counts[second.plan.funnels[0].definition]["n2"] == 1


async def test_records_are_rekeyed_with_where_they_came_from() -> None:
    desk = Desk(config(funnel(), entity_key=False), [event("a", 0, "größer"), b"{", event("b", 1, "v")])
    shared: Any = (desk.custodian, desk.letters, desk.metrics, desk.source, lambda: FOREVER_US)
    desk.agent = RekeyingAgent(*shared)  # type: ignore[assignment]  # hands over chunks the same way
    await desk.begin()
    await desk.count(size=3)
    bad, *good = desk.letters.sent
    assert (bad[0], dict(bad[3])["fw-reason"]) == (desk.source.dead_letter_topic, b"bad_json")
    assert [(topic, key, dict(headers)["fw-source-offset"]) for topic, key, _, headers in good] == [
        (desk.source.keyed_topic, "größer".encode(), b"0"),
        (desk.source.keyed_topic, b"v", b"2"),
    ]
    assert (await desk.store.position()).fates == {"rejected:bad_json": 1}
    await desk.end()
