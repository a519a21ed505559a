"""A definition counted from the topic's beginning is what it had been if it had been counted all along, and others stay as they are."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from faust.types import TP

from schemas.config import Config
from schemas.duration import Duration
from schemas.errors import StoreUnavailable
from schemas.settings import Settings
from streams import backfill as backfilling
from streams.backfill import Records, Recount, backfill
from streams.counting import Pending, ShardCount
from streams.custody import BackfillAsked, Partition
from streams.ledger.contract import Claim, Ok, Outcome, Position, Write
from streams.ledger.memory import MemoryLedger
from streams.plan import Plan
from streams.reader import Reader
from streams.resting import REST_SECONDS, awake, is_at_rest
from streams.service import Service
from streams.tail import TAIL_MAX, unpack_blocks
from streams.tally import Deltas
from streams.values import Registry
from streams.windows import EVENTS, RETRACTED, RETRACTED_AGES, USERS
from tests.property.brute import Funnel
from tests.property.scenario import Scenario, config_of, random_funnel, scenario
from tests.unit.test_counting import AT, FOREVER_US, config, event, events, funnel

SHARD = "web:0"
Books = dict[tuple[int, int, int, str], int]  # definition, width (0: since ever), bucket, name of the count -> how much


class Worker:
    """Counts one partition of a log by a config, from where the ledger stands; what is asked for it counts when it claims."""

    def __init__(self, ledger: MemoryLedger, setup: Config, log: Sequence[bytes], *, first: int = 0, seed: int = 0) -> None:
        self.ledger, self.setup, self.log, self.first = ledger, setup, log, first
        self.plan = Plan(setup, setup.sources[0])
        self.chance = random.Random(seed)
        self.asked: list[tuple[int, int]] = []  # what was read back

    async def claim(self) -> Worker:
        self.held = await self.ledger.claim(SHARD, 1, self.first, [f.definition for f in self.plan.funnels])
        await backfill(self.ledger, self.held, self.plan, self.first, self.read_back)
        self.count = ShardCount(Plan(self.setup, self.setup.sources[0]), self.held.watermark_us)
        self.next = self.held.next
        return self

    async def read_back(self, first: int, end: int) -> AsyncIterator[Records]:
        self.asked.append((first, end))
        while first < end:
            records = self.log[first : min(end, first + self.chance.randint(1, 40))]
            yield records, [None] * len(records)
            first += len(records)

    async def until(self, end: int | None = None) -> Worker:
        """Count up to an offset, in chunks of any size."""
        end = len(self.log) if end is None else end
        while self.next < end:
            values = self.log[self.next : min(end, self.next + self.chance.choice((1, 2, 5, 30)))]
            pending = self.count.decode(self.next, self.next + len(values), values, [None] * len(values), FOREVER_US)
            while pending.unknown:
                admitted = {r: await self.ledger.admit("web", r, sorted(texts)) for r, texts in pending.unknown.items()}
                self.count.learn(pending, admitted)
            self.count.hold(pending.missing, await self.ledger.states(SHARD, pending.missing))
            await self.hold_former(pending)
            await self.write(self.count.fold(pending).write)
            self.next += len(values)
        return self

    async def hold_former(self, pending: Pending) -> None:
        """Without pseudonyms nobody has a former name."""

    async def rest(self) -> Worker:
        """Look through all states for those that may rest or go."""
        _, found = await self.ledger.scan(SHARD, 0, 10**9)
        states, forgotten = self.count.rest(found)
        await self.write(Write(self.next, self.next, Deltas(watermark_us=self.count.watermark_us), states, forgotten=forgotten))
        return self

    async def write(self, write: Write) -> None:
        assert await self.ledger.apply(self.held, write) == Ok()

    async def ask(self, *names: str) -> Worker:
        """Ask for a backfill of these funnels (all, where none is named), and claim anew."""
        for plan in self.plan.funnels:
            if plan.funnel.name in names or not names:
                assert await self.ledger.ask_backfill(SHARD, plan.definition)
        return await self.claim()

    def definition(self, name: str = "f") -> int:
        return next(plan.definition for plan in self.plan.funnels if plan.funnel.name == name)

    async def books(self, *names: str) -> Books:
        """Every count of these funnels that is not 0, but what was ever taken back: that depends on the order of arrival."""
        kept = [(f.definition, k.seconds, k.count) for f in self.plan.funnels if f.funnel.name in names or not names for k in f.kept]
        found = await self.ledger.snapshot(SHARD, kept)
        assert found is not None
        books = {(*key, name): count for key, cells in found.buckets.items() for name, count in cells.items() if count}
        for definition, cells in found.totals.items():
            books |= {(definition, 0, 0, n): count for n, count in cells.items() if count and n[0] not in RETRACTED + RETRACTED_AGES}
        return books

    async def position(self) -> Position:
        found = await self.ledger.changes(SHARD, "", 0)
        assert found is not None
        return found.position

    async def cells(self, entity: str = "u") -> dict[int, list[Any]]:
        (packed,) = await self.ledger.states(SHARD, [entity])
        assert packed is not None
        found: dict[int, list[Any]] = unpack_blocks(awake(packed)[1])
        return found


async def counted(setup: Config, log: Sequence[bytes]) -> Worker:
    """All of a log counted by one config from the beginning."""
    return await (await Worker(MemoryLedger(), setup, log, seed=5).claim()).until()


async def changed(before: Config, after: Config, log: Sequence[bytes], changed_at: int, asked_at: int, *names: str) -> Worker:
    """A log counted by one config up to an offset and by another from there; asked at a later one for a backfill of funnels."""
    ledger = MemoryLedger()
    await (await Worker(ledger, before, log, seed=1).claim()).until(changed_at)
    worker = await (await Worker(ledger, after, log, seed=2).claim()).until(asked_at)
    return await worker.ask(*names) if names else worker


def but_people(books: Books) -> Books:
    """The counts without the people since ever: who comes back after all has been forgotten is new there."""
    return {key: count for key, count in books.items() if key[1] or not key[3].startswith(USERS)}


BEFORE = config(funnel(conversion_window="60s"), funnel("other", "xy"))
AFTER = config(funnel(conversion_window="100s", dimensions={"channel": "properties.channel"}), funnel("other", "xy"))


# Whatever was sent


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("dense", [False, True], ids=["few", "dense"])
async def test_to_count_again_what_is_whole_changes_nothing_then_or_later(block: int, dense: bool) -> None:
    """At any moment of any stream: late events and duplicates after it find what they would have found."""
    for seed in range(8 * block, 8 * block + 8):
        chance = random.Random(seed)
        sent = scenario(chance, events=120, entities=3, late=seed % 3 == 0, dense=dense)
        log = [raw for chunk in sent.partitions[0] for raw, _ in chunk]
        plain = await counted(sent.config, log)
        worker = await Worker(MemoryLedger(), sent.config, log, seed=seed).claim()
        for _ in range(3):
            await worker.until(chance.randint(worker.next, len(log)))
            await worker.ask(*chance.sample([f.name for f in sent.funnels], chance.randint(1, len(sent.funnels))))
        await worker.until()
        assert but_people(await worker.books()) == but_people(await plain.books()), f"seed {seed}\n{sent}"
        assert (await worker.position()).fates == (await plain.position()).fates, f"seed {seed}\n{sent}"


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("ordered", [False, True], ids=["any order", "in order"])
async def test_definitions_that_changed_are_counted_as_if_they_had_been_there_all_along(block: int, ordered: bool) -> None:
    """In any order of arrival up to the backfill, and after it where events come in order; the others are as without it."""
    for seed in range(8 * block, 8 * block + 8):
        chance = random.Random(seed)
        sent = scenario(chance, events=120, entities=3, late=not ordered and seed % 3 == 0, lateness=chance.choice((1, 60, 600)))
        log, places = _log(sent, ordered=ordered)
        before = config_of([*map(partial(_former, chance), sent.funnels), random_funnel(chance, 9)], sent.lateness)
        stands = {plan.definition for plan in Plan(before, before.sources[0]).funnels}
        new = [plan.funnel.name for plan in Plan(sent.config, sent.config.sources[0]).funnels if plan.definition not in stands]
        others = [funnel.name for funnel in sent.funnels if funnel.name not in new]
        story = (before, sent.config, log, *sorted((chance.choice(places), chance.choice(places))))
        worker, plain = await changed(*story, *new), await changed(*story)
        fresh = await counted(sent.config, log[: worker.next])
        if new:
            assert but_people(await worker.books(*new)) == but_people(await fresh.books(*new)), f"seed {seed}\n{sent}"
        if others:
            assert await worker.books(*others) == await plain.books(*others), f"seed {seed}\n{sent}"
        if ordered:
            fresh = await counted(sent.config, log)
            await worker.until()
            assert not new or but_people(await worker.books(*new)) == but_people(await fresh.books(*new)), f"seed {seed}\n{sent}"
            assert not others or await worker.books(*others) == await (await plain.until()).books(*others), f"seed {seed}\n{sent}"
        former = [await Worker(each.ledger, before, log).books("f9") for each in (worker, plain)]
        assert former[0] == former[1]


def _log(sent: Scenario, *, ordered: bool) -> tuple[list[bytes], Sequence[int]]:
    """The records of a partition, and the offsets where something may happen: in order, those that no instant lies across."""
    records = [record for chunk in sent.partitions[0] for record in chunk]
    if not ordered:
        return [raw for raw, _ in records], range(len(records) + 1)
    records = sorted((record for record in records if record[1]), key=lambda record: record[1].time_us if record[1] else 0)
    times = [event.time_us for _, event in records if event]
    return [raw for raw, _ in records], [n for n in range(len(times) + 1) if times[n - 1 : n] != times[n : n + 1]]


def _former(chance: random.Random, funnel: Funnel) -> Funnel:
    """A funnel as it may have been before: the same, or with another conversion window."""
    return replace(funnel, conversion_us=funnel.conversion_us * chance.choice((1, 2, 2)))


# The seam


async def test_a_chain_goes_on_across_the_seam() -> None:
    log = events("a@0 b@30 c@90")
    worker = await changed(BEFORE, AFTER, log, 1, 2, "f")
    assert await (await worker.until()).books("f") == await (await counted(AFTER, log)).books("f")
    assert (worker.definition(), 0, 0, "n2") in await worker.books("f")


@pytest.mark.parametrize("order", ["a@0 c@20 | b@10", "a@0 b@10 | a@0 b@10", "a@5 b@10 | a@2 c@11", "a@0 b@10 c@20 | c@20"])
async def test_an_event_that_is_late_for_the_seam_finds_its_place(order: str) -> None:
    """As long as the person's last events were counted with these definitions."""
    counted_before, after = (events(part) for part in order.split(" | "))
    log = [*events("x@-200"), *counted_before, *after]
    worker = await changed(BEFORE, AFTER, log, 1, len(log) - len(after), "f")
    await worker.until()
    fresh = await counted(AFTER, log)
    assert await worker.books() == await fresh.books()
    assert (await worker.position()).fates == (await fresh.position()).fates


async def test_an_event_older_than_one_that_other_definitions_matched_is_late() -> None:
    """As after every change of definitions: what was matched by others cannot be folded again."""
    log = events("a@0 c@20 b@10 b@21 c@22")
    worker = await (await changed(BEFORE, AFTER, log, 2, 2, "f")).until()
    fates = (await worker.position()).fates
    assert fates == {"applied": 4, "late:tail_full": 1}
    assert await worker.books("f") == await (await counted(AFTER, [*log[:2], *log[3:]])).books("f")


async def test_an_event_sent_again_across_the_seam_is_a_duplicate_or_late_and_never_counted() -> None:
    log = events("a#1@0 b#2@10 b#2@12 a#1@13 c#3@20")
    worker = await (await changed(BEFORE, AFTER, log, 2, 2, "f")).until()
    assert await worker.books("f") == await (await counted(AFTER, log)).books("f")


async def test_who_was_looked_at_for_the_first_time_goes_on_where_the_recount_ends() -> None:
    """A funnel of events that nobody asked for before: there are no states yet."""
    after = config(funnel("new", "pq"), funnel("other", "xy"))
    log = [event("p", 0, "v"), event("q", 1, "v"), event("p", 5, "w"), *events("x@6"), event("q", 10, "w"), event("q", 11, "v")]
    worker = await (await changed(BEFORE, after, log, 4, 4, "new")).until()
    assert await worker.books("new") == await (await counted(after, log)).books("new")


async def test_late_is_judged_by_the_events_of_all_funnels() -> None:
    """A person's newest event may be one that the funnel itself does not ask for."""
    log = events("a@0 x@200 b@50 b@150 c@199")
    worker = await changed(BEFORE, AFTER, log, 5, 5, "f")
    fresh = await counted(AFTER, log)
    assert (await fresh.position()).fates["late"] == 1
    assert await worker.books("f") == await fresh.books("f")


async def test_a_duplicate_is_one_whatever_funnel_matched_what_it_repeats() -> None:
    log = events("x#7@0 a#7@1 b@2")
    worker = await changed(BEFORE, AFTER, log, 3, 3, "f")
    assert await worker.books("f") == await (await counted(AFTER, log)).books("f") == {}


# What is stored besides


async def test_those_whom_only_other_definitions_know_are_left_alone() -> None:
    log = [*events("a@0 b@5"), event("x", 6, "v")]
    worker = await changed(BEFORE, AFTER, log, 3, 3)
    before = await worker.ledger.states(SHARD, ["v"])
    await worker.ask("f")
    assert await worker.ledger.states(SHARD, ["v"]) == before
    assert set(await worker.cells("v")) == {worker.definition("other")}


async def test_cells_of_other_and_former_definitions_stay() -> None:
    log = events("a@0 x@1 b@5")
    worker = await changed(BEFORE, AFTER, log, 3, 3)
    before = await worker.cells()
    await worker.ask("f")
    after = await worker.cells()
    assert set(after) == {*before, worker.definition()}
    assert {definition: after[definition] for definition in before} == before


async def test_a_state_at_rest_gets_its_cells_and_keeps_the_others() -> None:
    setup = config(*(funnel(name, letters, conversion_window="2d") for name, letters in (("f", "abc"), ("other", "xy"))))
    log = [*events("a@0 x@1 b@5"), event("x", REST_SECONDS + 100, "v")]
    worker = await (await changed(setup, setup, log, 4, 4)).rest()
    before = await worker.cells()
    await worker.ask("f")
    (packed,) = await worker.ledger.states(SHARD, ["u"])
    assert packed is not None
    assert is_at_rest(packed)
    assert await worker.cells() == before


async def test_who_may_go_by_now_is_not_brought_back() -> None:
    week = 7 * 86_400
    log = [*events("a@0 b@5"), event("x", week, "v"), event("x", week + REST_SECONDS, "v")]
    worker = await (await changed(AFTER, AFTER, log, 4, 4)).rest()
    assert await worker.ledger.states(SHARD, ["u"]) == [None]
    await worker.ask("f")
    assert await worker.ledger.states(SHARD, ["u"]) == [None]
    assert (worker.definition(), 0, 0, "e0") in await worker.books("f")


async def test_a_recount_holds_no_more_people_in_memory_than_the_ledger_would(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    class Watched(ShardCount):
        def fold(self, *given: Any) -> Any:
            held.append(len(self.states))
            return super().fold(*given)

    monkeypatch.setattr(backfilling, "ShardCount", Watched)
    log = [event("a", 600 * n, f"u{n}") for n in range(1000)]
    await changed(BEFORE, AFTER, log, 1000, 1000, "f")
    assert max(held) < 200


async def test_people_whose_events_have_left_the_topic_leave_the_counts_and_no_mark_behind() -> None:
    """Else they would be taken out of a bucket that never counted them."""
    log = [event("a", 0, "gone"), event("x", 1, "gone"), event("a", 2), event("b", 3), event("a", 40, "gone"), event("b", 41, "gone")]
    worker = await changed(AFTER, AFTER, log, 4, 4)
    worker.first = 2
    await (await worker.ask("f")).until()
    found = await worker.books("f")
    assert found == await (await counted(AFTER, log[2:])).books("f")
    assert min(found.values()) > 0
    assert await worker.books("other") == await (await counted(AFTER, log)).books("other")


@pytest.mark.parametrize("asked_at", [2, 3])
async def test_what_left_the_topic_is_taken_for_granted_by_those_who_counted_it(asked_at: int) -> None:
    """The log begins between two simultaneous events: what comes after finds both, and nothing goes before them any more."""
    setup = config(funnel("f", "abd"), funnel("other", "bac"))
    log = events("a#1@10 b#2@10 d@30 c@20 a@5")
    plain = await changed(setup, setup, log, 2, asked_at)
    worker = await changed(setup, setup, log, 2, asked_at)
    worker.first = 1
    await (await worker.ask("f")).until(4)
    assert await worker.books("other") == await (await plain.until(4)).books("other")
    await worker.until()
    assert (await worker.position()).fates == {"applied": 4, "late:tail_full": 1}


async def test_what_had_to_leave_a_full_tail_is_taken_for_granted_as_before() -> None:
    log = [*(event("abc"[n % 3], n / 10) for n in range(2 * TAIL_MAX)), event("b", 1.05), event("b", 2 * TAIL_MAX / 10 - 0.95)]
    worker = await (await changed(AFTER, AFTER, log, 9, 2 * TAIL_MAX, "f")).until()
    plain = await counted(AFTER, log)
    assert (await plain.position()).fates == {"applied": 2 * TAIL_MAX + 1, "late:tail_full": 1}
    assert await worker.books() == await plain.books()
    assert (await worker.position()).fates == (await plain.position()).fates


def test_a_recount_keeps_no_bucket_that_has_expired() -> None:
    found = Recount(ShardCount(Plan(AFTER, AFTER.sources[0])))
    found.add(Deltas({(7, 10, 1): {"u0": 1}, (7, 10, 2): {"u0": 1}, (8, 10, 1): {"u0": 1}}), {7})
    found.add(Deltas(expired=[(7, 10, 1), (8, 10, 1)]), {7})
    assert found.buckets == {(7, 10, 2): {"u0": 1}}


async def test_buckets_that_no_window_reaches_any_more_are_not_written() -> None:
    hours = 60 * 3600
    log = [*events("a@0"), event("a", hours, "v")]
    worker = await changed(BEFORE, AFTER, log, 2, 2)
    narrow = replace(worker.held, watermark_us=worker.held.watermark_us + 60 * 86_400 * 1_000_000)
    await worker.ledger.ask_backfill(SHARD, worker.definition())
    asked = replace(await worker.ledger.claim(SHARD, 1, 0, [worker.definition()]), watermark_us=narrow.watermark_us)
    await backfill(worker.ledger, asked, worker.plan, 0, worker.read_back)
    assert {width for _, width, _, _ in await worker.books("f")} == {0}


async def test_values_that_the_registry_has_admitted_are_admitted_and_no_others() -> None:
    after = config(funnel(dimensions={"channel": {"field": "properties.channel", "max_values": 2}}))
    log = [event("a", n, f"u{n}", channel=channel) for n, channel in enumerate(("ads", "mail", "tv", "ads", "radio"))]
    worker = await changed(BEFORE, after, log, 3, 5, "f")
    shown = {
        name.rpartition("\x1f")[2]: count
        for (_, width, _, name), count in (await worker.books()).items()
        if not width and name.startswith("n0\x1f")
    }
    assert shown == {"ads": 2, "radio": 1, "__other__": 2}
    (registry,) = worker.plan.funnels[0].values
    assert await worker.ledger.admit("web", registry.registry, ["mail", "tv"]) == {"mail": False, "tv": False}


async def test_a_combination_of_values_is_asked_about_when_its_parts_are_known() -> None:
    parts = {"channel": "properties.channel", "device": "properties.device", "both": {"combine": ["channel", "device"]}}
    after = config(funnel(dimensions=parts))
    log = [event("a", n, f"u{n}", channel=f"c{n % 3}", device=f"d{n % 2}") for n in range(12)]
    worker = await changed(BEFORE, after, log, 12, 12, "f")
    assert await worker.books() == await (await counted(after, log)).books()


# Asking


async def test_all_that_is_asked_for_is_counted_in_one_reading() -> None:
    after = config(funnel(conversion_window="100s"), funnel("other", "xyz"))
    log = events("a@0 x@1 b@30 y@40 c@90 z@95")
    worker = await changed(BEFORE, after, log, 3, 5, "f", "other")
    assert worker.asked == [(0, 5)]
    assert await (await worker.until()).books() == await (await counted(after, log)).books()


async def test_what_is_asked_for_of_another_config_is_left_to_its_worker() -> None:
    worker = await changed(BEFORE, AFTER, events("a@0 b@5"), 2, 2)
    await worker.ledger.ask_backfill(SHARD, 12345)
    before = await worker.books()
    await worker.claim()
    assert (worker.asked, (await worker.position()).backfills, await worker.books()) == ([], (12345,), before)


async def test_an_empty_log_is_soon_counted() -> None:
    worker = await changed(BEFORE, AFTER, [], 0, 0, "f")
    assert (await worker.position()).backfills == ()
    assert await worker.books() == {}


async def test_a_worker_claims_anew_what_it_was_asked_for_since_it_claimed_and_nothing_else() -> None:
    """Not for another config's definition, and not on what was read before the claim that has done it."""
    worker = await changed(AFTER, AFTER, events("a@0"), 1, 1)
    service = Service(AFTER, Settings(), "test")
    service.reader = Reader(AFTER, worker.ledger, lambda: FOREVER_US)
    partition = Partition(TP("clicks", 0), SHARD, AFTER.sources[0], worker.held, 1, 1, 1)
    custodian = Custody([partition])
    service.custodian = custodian  # type: ignore[assignment]  # all that is asked of one here

    async def look(read_at: float) -> int:
        service._reading_at = read_at
        await service.reader.tick()
        service._begin_backfills()
        return len(custodian.resynced)

    await worker.ledger.ask_backfill(SHARD, 12345)
    assert await look(partition.claimed_at + 1) == 0
    await worker.ledger.ask_backfill(SHARD, worker.definition())
    assert await look(partition.claimed_at - 1) == 0
    assert await look(partition.claimed_at + 2) == 1
    partition.claimed_at += 5
    assert await look(partition.claimed_at - 1) == 1
    await service.close()


class Custody:
    """Notes which partitions are to be claimed anew."""

    def __init__(self, held: list[Partition]) -> None:
        self.held = held
        self.resynced: list[Partition] = []

    def partitions(self) -> list[Partition]:
        return self.held

    def resync(self, partition: Partition, why: Any) -> None:
        assert isinstance(why, BackfillAsked)
        self.resynced.append(partition)


# Since when


async def test_a_whole_log_is_counted_from_its_beginning_and_one_cut_off_since_its_first_event() -> None:
    log = events("a@0 b@5 a@10 b@20 c@30")
    worker = await changed(BEFORE, AFTER, log, 2, 4, "f")
    assert (await worker.position()).since == {worker.definition(): -1, worker.definition("other"): -1}
    worker.first = 2
    await worker.ask("f")
    assert (await worker.position()).since[worker.definition()] == (AT + 10) * 1_000_000


async def test_a_report_says_since_when_and_whether_that_is_enough_for_its_window() -> None:
    """What is missing: the events before, and the chains that began with them."""
    far = [event("x", second, "v") for second in range(0, 2000, 100)]
    log = [*events("a@0 b@5"), *far]
    worker = await changed(BEFORE, AFTER, log, 3, 3)
    reader = Reader(AFTER, worker.ledger, lambda: FOREVER_US)

    async def told() -> tuple[int | None, bool]:
        await reader.tick()
        report = reader.report("f", Duration("5m"))
        return None if report.since is None else round(report.since.timestamp()) - AT, report.incomplete

    assert await told() == (5, True)
    await worker.until(3 + 3)
    assert await told() == (5, True)  # the window begins after 5 s, but the chains of 100 s did not
    await worker.until(3 + 4)
    assert await told() == (5, False)
    assert await (await worker.ask("f")).position() == await worker.position()
    assert await told() == (None, False)
    await worker.until()
    assert await told() == (None, False)


async def test_a_report_is_incomplete_while_a_shard_is_counted_by_another_config() -> None:
    worker = await changed(AFTER, AFTER, events("a@0 b@5"), 2, 2)
    reader = Reader(AFTER, worker.ledger, lambda: FOREVER_US)
    await reader.tick()
    assert not reader.report("f", Duration("5m")).incomplete
    await Worker(worker.ledger, BEFORE, worker.log).claim()
    await reader.tick()
    assert reader.report("f", Duration("5m")).incomplete
    assert not reader.report("other", Duration("5m")).incomplete


async def test_those_who_follow_read_the_new_counts_and_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    log = events("a@0 b@5 a@10 b@20 c@30")
    worker = await changed(BEFORE, AFTER, log, 2, 4)
    reader = Reader(AFTER, worker.ledger, lambda: FOREVER_US)
    await reader.tick()
    await worker.ask("f")
    await reader.tick()
    await worker.until()
    await reader.tick()
    counts = reader.counts()["f"]
    assert [counts.total(EVENTS, stage) for stage in range(3)] == [2, 2, 1]


# Cut short


class Brittle(MemoryLedger):
    """Does not answer once, at the n-th call since it was told so; before it does what it is asked, or after."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.done_first = False

    async def _called(self, call: Any) -> Any:
        if self.left is None:
            return await call
        self.left -= 1
        if self.left >= 0:
            return await call
        self.left = None
        if self.done_first:
            await call
        call.close()
        raise StoreUnavailable("cut short")

    async def apply(self, claim: Claim, write: Write) -> Outcome:
        return await self._called(super().apply(claim, write))

    async def drop(self, claim: Claim, definition: int) -> Outcome:
        return await self._called(super().drop(claim, definition))

    async def backfilled(self, claim: Claim, definition: int, since_us: int) -> Outcome:
        return await self._called(super().backfilled(claim, definition, since_us))

    async def states(self, shard: str, entities: Sequence[str]) -> list[bytes | None]:
        return await self._called(super().states(shard, entities))

    async def scan(self, shard: str, cursor: int, count: int) -> tuple[int, list[tuple[str, bytes]]]:
        return await self._called(super().scan(shard, cursor, count))

    async def admit(self, source: str, registry: Registry, texts: Sequence[str]) -> dict[str, bool]:
        return await self._called(super().admit(source, registry, texts))


PEOPLE = [event(name, 3 * n + at, f"u{n}", channel=f"c{n % 3}") for n in range(20) for at, name in enumerate("abcxy")]


async def cut_short(monkeypatch: pytest.MonkeyPatch, call: int, *, done_first: bool) -> tuple[Brittle, bool]:
    """A ledger whose backfill was cut short at a call; False: that call never came."""
    monkeypatch.setattr(backfilling, "STATES_AT_ONCE", 7)
    monkeypatch.setattr(backfilling, "BUCKETS_AT_ONCE", 4)
    ledger = Brittle()
    await (await Worker(ledger, BEFORE, PEOPLE).claim()).until(60)
    worker = await (await Worker(ledger, AFTER, PEOPLE).claim()).until(80)
    ledger.left, ledger.done_first = call, done_first
    try:
        await worker.ask("f")
    except StoreUnavailable:
        return ledger, True
    return ledger, False


@pytest.mark.parametrize("done_first", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("between", ["nobody", "other"])
async def test_a_backfill_that_was_cut_short_anywhere_is_done_again(
    monkeypatch: pytest.MonkeyPatch, done_first: bool, between: str
) -> None:
    """Also when a worker with another config has counted in between."""
    expected = await counted(AFTER, PEOPLE)
    calls = 0
    while True:
        ledger, cut = await cut_short(monkeypatch, calls, done_first=done_first)
        if not cut:
            break
        calls += 1
        position = await Worker(ledger, AFTER, PEOPLE).position()
        assert position.backfills == () or position.since[expected.definition()] >= 0, "not taken for whole"
        if between == "other":
            await (await Worker(ledger, BEFORE, PEOPLE).claim()).until(90)
        worker = await Worker(ledger, AFTER, PEOPLE).claim()
        if not position.backfills and between == "other":
            await worker.ask("f")  # it was done, and has ended since
        assert (await worker.position()).backfills == ()
        assert await (await worker.until()).books() == await expected.books(), f"cut at call {calls}"
        assert (await worker.position()).fates == (await expected.position()).fates
    assert calls >= 15


async def test_who_lost_the_shard_during_a_backfill_writes_nothing_more() -> None:
    worker = await changed(BEFORE, AFTER, events("a@0 b@5 c@7"), 3, 3)
    await worker.ledger.ask_backfill(SHARD, worker.definition())
    stale = await worker.ledger.claim(SHARD, 1, 0, [worker.definition(), worker.definition("other")])
    await worker.claim()
    before = await worker.books(), await worker.cells(), await worker.position()
    with pytest.raises(StoreUnavailable, match="changed hands during a backfill"):
        await backfill(worker.ledger, stale, worker.plan, 0, worker.read_back)
    assert (await worker.books(), await worker.cells(), await worker.position()) == before
