"""All stored states are looked through now and then: who is away rests, who can be forgotten goes, and the counting goes on."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from schemas.duration import MICROS
from schemas.errors import StoreUnavailable
from streams import agents
from streams.counting import ShardCount, Sweep
from streams.plan import Plan
from streams.resting import REST_SECONDS, awake, is_at_rest, rested
from streams.tail import unpack_blocks
from streams.windows import USERS
from tests.unit.test_agents import SHARD, Desk, MakeDesk, make_desk
from tests.unit.test_counting import AT, FOREVER_US, config, event, events, funnel

__all__ = ["make_desk"]
HOUR, DAY = 3600, 86_400
SETUP = config(funnel(dimensions={"channel": "properties.channel"}), funnel("other", "xy", conversion_window="2h"))
EVERY_SECONDS = HOUR  # of event time between two sweeps under SETUP


def crowd(people: int, second: float = 0.0) -> list[bytes]:
    """Somebody new with every event."""
    return [event("a", second + n / 1000, f"{second:.0f}-{n}") for n in range(people)]


async def states(desk: Desk) -> dict[str, bytes]:
    cursor, found = await desk.store.scan(SHARD, 0, 10**9)
    assert cursor == 0
    desk.store.scanned.pop()
    return dict(found)


# When


def test_a_sweep_is_due_at_once_and_then_after_a_quarter_of_how_long_states_are_kept() -> None:
    sweep = Sweep(40 * HOUR)
    assert not sweep.is_due(-1)
    assert sweep.is_due(0)
    sweep.went_on(0, 5 * MICROS)
    assert not sweep.is_due((5 + 10 * HOUR) * MICROS - 1)
    assert sweep.is_due((5 + 10 * HOUR) * MICROS)


@pytest.mark.parametrize(("kept_seconds", "every_seconds"), [(60, HOUR), (40 * HOUR, 10 * HOUR), (90 * DAY, DAY)])
def test_sweeps_are_an_hour_apart_at_least_and_a_day_at_most(kept_seconds: int, every_seconds: int) -> None:
    sweep = Sweep(kept_seconds)
    sweep.went_on(0, 0)
    assert (sweep.is_due(every_seconds * MICROS - 1), sweep.is_due(every_seconds * MICROS)) == (False, True)


def test_a_sweep_that_was_begun_goes_on_until_all_was_seen() -> None:
    """And the next one is due a while after it began, not after it ended."""
    sweep = Sweep(4 * HOUR)
    sweep.went_on(17, 0)
    assert (sweep.is_due(1), sweep.cursor) == (True, 17)
    sweep.went_on(0, 50 * 60 * MICROS)
    assert (sweep.is_due(50 * 60 * MICROS), sweep.cursor) == (False, 0)
    assert sweep.is_due(HOUR * MICROS)


# What it does, by way of a lane


async def test_who_is_away_rests_who_can_be_forgotten_goes_and_who_is_there_stays_awake(make_desk: MakeDesk) -> None:
    """A window still shows `marked`, a chain of two hours may go on for `waiting`, nothing depends on `gone`."""
    log = [event("x", 0, "waiting"), event("a", 1, "waiting"), event("a", 2, "gone"), event("a", 4000, "marked"), event("a", 9000, "there")]
    desk = await (await make_desk(SETUP, log)).count(size=1)
    found = await states(desk)
    assert {entity: is_at_rest(packed) for entity, packed in found.items()} == {"waiting": True, "marked": True, "there": False}
    assert set(unpack_blocks(awake(found["waiting"])[1])) == {desk.plan.funnels[1].definition}
    work = desk.partitions[0].work
    assert {entity: packed for entity, packed in found.items() if entity in work.states} == work.states, "memory and ledger say the same"


async def test_a_sweep_counts_nothing_and_moves_nothing(make_desk: MakeDesk) -> None:
    desk = await (await make_desk(SETUP, [*crowd(100), event("a", 9000, "there")])).count(size=1)
    before = await desk.books(), (await desk.store.position()).next
    assert desk.store.calls.count("tidy") > 0
    assert len(await states(desk)) == 1
    assert (before[0][1], before[1]) == ({"applied": 101}, 101)
    assert desk.conflicts() == {}


async def test_a_sweep_does_not_start_before_it_is_due(make_desk: MakeDesk) -> None:
    desk = await make_desk(SETUP, [event("a", second, f"u{second}") for second in range(0, 3 * EVERY_SECONDS, 100)])
    await desk.count(until=1)
    await desk.count(until=36, size=1)
    assert desk.store.scanned == [0], "once when the partition was claimed"
    await desk.count(until=37, size=1)
    assert desk.store.scanned == [0, 0]
    await desk.count(size=1)
    assert desk.store.scanned == [0, 0, 0]


async def test_an_idle_worker_ends_a_sweep_and_does_not_spin(make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes page by page without another chunk; then it waits for one."""
    monkeypatch.setattr(agents, "SWEEP_STATES", 10)
    desk = await make_desk(SETUP, [*crowd(1000), event("a", 9000, "there")])
    await desk.count(until=1000, size=1000)
    await becomes(lambda: (desk.store.scanned.count(0), desk.partitions[0].work.sweep.cursor), (1, 0))
    first = len(desk.store.scanned)
    await desk.count()
    await becomes(lambda: desk.store.scanned.count(0), 2)
    await becomes(lambda: desk.partitions[0].work.sweep.cursor, 0)
    await desk.settled()
    scans = len(desk.store.scanned)
    assert len(await states(desk)) == 1
    assert 100 <= scans - first <= 105
    turns: list[float] = []
    due = desk.partitions[0].work.sweep.is_due
    monkeypatch.setattr(desk.partitions[0].work.sweep, "is_due", lambda watermark_us: turns.append(watermark_us) or due(watermark_us))
    await asyncio.sleep(0.1)
    assert (len(desk.store.scanned), turns) == (scans, [])


async def becomes(probe: Any, wanted: Any) -> None:
    for _ in range(5000):
        if probe() == wanted:
            return
        await asyncio.sleep(0)
    assert probe() == wanted


async def test_chunks_go_on_while_a_sweep_does(make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One page between two chunks, as long as there are chunks."""
    monkeypatch.setattr(agents, "SWEEP_STATES", 10)
    desk = await make_desk(SETUP, [*crowd(1000), *crowd(100, 9000)])
    await desk.count(until=1000, size=1000)
    await becomes(lambda: desk.partitions[0].work.sweep.cursor, 0)
    begun = len(desk.store.calls)
    await desk.count(size=2)
    calls = desk.store.calls[begun:]
    last = len(calls) - calls[::-1].index("apply")
    pages, chunks = calls[:last].count("scan"), calls[:last].count("apply")
    assert chunks == 50
    assert pages <= 2 * chunks + 5
    assert pages > 20


@pytest.mark.parametrize("page", [3, 1000])
async def test_with_sweeps_the_same_is_counted_as_without(make_desk: MakeDesk, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    """People who come back after minutes, hours and days; those whom all windows have forgotten are new in the total of people."""
    chance, second, log = random.Random(page), 0.0, []
    for _ in range(1500):
        second += chance.choice((0, 1, 30, 100, 1000, 8000))
        name = chance.choice("aabbcxy")
        log.append(event(name, second - chance.choice((0, 0, 20)), f"u{chance.randint(0, 30)}", channel=f"c{chance.randint(0, 2)}"))
    monkeypatch.setattr(agents, "SWEEP_STATES", page)
    swept = await (await make_desk(SETUP, log)).count()
    await becomes(lambda: swept.partitions[0].work.sweep.cursor, 0)
    monkeypatch.setattr(Sweep, "is_due", lambda self, watermark_us: False)
    plain = await (await make_desk(SETUP, log)).count()
    found, expected = [_but_people(*await desk.books()) for desk in (swept, plain)]
    assert found == expected
    assert plain.store.scanned == []
    assert len(swept.store.scanned) > 50
    assert len(await states(swept)) < len(await states(plain))


def _but_people(books: dict[Any, Any], fates: dict[str, int]) -> tuple[dict[Any, Any], dict[str, int]]:
    totals = {
        key: {name: n for name, n in cells.items() if not name.startswith(USERS)} for key, cells in books.items() if isinstance(key, int)
    }
    return books | totals, fates


async def test_a_sweep_that_fails_is_begun_again_and_nothing_is_lost(make_desk: MakeDesk) -> None:
    desk = await make_desk(SETUP, [*crowd(50), *crowd(50, 9000)])
    desk.store.failures = {"scan": [StoreUnavailable("down")], "tidy": [StoreUnavailable("down")]}
    await desk.count(size=10)
    await becomes(lambda: desk.partitions[0].work.sweep.cursor, 0)
    assert desk.conflicts() == {"unavailable": 2}
    assert (await desk.books())[1] == {"applied": 100}
    assert len(await states(desk)) == 50


async def test_a_sweep_does_not_fill_the_memory_with_those_it_looks_at(make_desk: MakeDesk) -> None:
    desk = await make_desk(SETUP, [*crowd(500), *crowd(5, 4000)], states_max=20)
    await desk.count(size=10)
    assert len(desk.partitions[0].work.states) <= 30
    assert sum(map(is_at_rest, (await states(desk)).values())) == 500


# Coming back


def test_who_comes_back_counts_on_in_any_order_of_events() -> None:
    """A state that rested is folded again as it was: a late event after the first new one takes nothing back that stands."""
    setup = config(funnel(conversion_window="2d"))
    counts = [ShardCount(Plan(setup, setup.sources[0]), -1) for _ in range(2)]
    for count in counts:
        fold(count, events("a@0 b@10"))
    packed = rested(counts[0].plan, counts[0].states["u"], (AT + 10 + REST_SECONDS + 1) * MICROS)
    assert packed is not None
    assert is_at_rest(packed)
    counts[0].states["u"] = packed
    more = events("b@40 c@50 b@30 c@35 a@20")
    assert [fold(counts[0], [one]) for one in more] == [fold(counts[1], [one]) for one in more]


def fold(count: ShardCount, records: list[bytes]) -> Any:
    return count.fold(count.decode(0, len(records), records, [None] * len(records), FOREVER_US)).write.deltas


def test_nobody_rests_while_an_event_within_the_lateness_may_have_to_go_before_theirs() -> None:
    setup = config(funnel(), allowed_lateness="3h")
    count = ShardCount(Plan(setup, setup.sources[0]))
    fold(count, events("a@0 c@50"))
    packed = count.states["u"]
    assert rested(count.plan, packed, (AT + 50 + 6 * HOUR) * MICROS) is packed
    found = rested(count.plan, packed, (AT + 51 + 6 * HOUR) * MICROS)
    assert found is not packed
