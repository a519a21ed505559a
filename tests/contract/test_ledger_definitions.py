"""What every ledger knows of definitions: since when each is counted, whose counts go, what is asked for; and of states that go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from schemas.errors import StoreError, StoreUnavailable
from streams.ledger.contract import Claim, Fenced, Ledger, Mismatch, NoState, Ok, Outcome, Position, Write
from streams.ledger.redis import RedisLedger
from streams.tally import Deltas
from tests.contract.test_ledger import (
    BUCKET,
    DEFINITION,
    KEPT,
    NEIGHBOUR,
    OTHER_DEFINITION,
    SHARD,
    WATERMARK,
    changes,
    chunk,
    counted,
    everything,
    key,
    snapshot,
)

BOTH = counted() | counted(BUCKET, OTHER_DEFINITION, u0=5)
NEVER_ASKED = 99


async def position(ledger: Ledger) -> Position:
    return (await snapshot(ledger)).position


async def at_watermark(ledger: Ledger, watermark_us: int, *definitions: int) -> Claim:
    """A claim of a shard whose watermark has come so far meanwhile."""
    claim = await ledger.claim(SHARD, 4, 0, definitions)
    write = Write(claim.next, claim.next + 1, Deltas(watermark_us=watermark_us))
    assert await ledger.apply(claim, write) == Ok()
    return claim


async def states_by_scan(ledger: Ledger, count: int = 10) -> list[tuple[str, bytes]]:
    """Every state that a scan shows, page by page."""
    cursor, found = await ledger.scan(SHARD, 0, count)
    while cursor:
        cursor, more = await ledger.scan(SHARD, cursor, count)
        found += more
    return found


# Since when


async def test_what_a_new_shard_counts_is_counted_from_its_beginning(ledger: Ledger) -> None:
    await ledger.claim(SHARD, 4, 0, (DEFINITION, OTHER_DEFINITION))
    assert (await position(ledger)).since == {DEFINITION: -1, OTHER_DEFINITION: -1}


async def test_a_definition_that_is_added_begins_at_the_watermark(ledger: Ledger) -> None:
    await at_watermark(ledger, WATERMARK, DEFINITION)
    await ledger.claim(SHARD, 4, 0, (DEFINITION, OTHER_DEFINITION))
    assert (await position(ledger)).since == {DEFINITION: -1, OTHER_DEFINITION: WATERMARK}


async def test_a_new_claim_with_the_same_definitions_changes_nothing(ledger: Ledger) -> None:
    await at_watermark(ledger, 1000, DEFINITION)
    await at_watermark(ledger, 2000, DEFINITION, OTHER_DEFINITION)
    await at_watermark(ledger, 3000, OTHER_DEFINITION, DEFINITION)
    assert (await position(ledger)).since == {DEFINITION: -1, OTHER_DEFINITION: 1000}


async def test_a_definition_that_was_not_counted_in_between_has_ended_and_begins_anew(ledger: Ledger) -> None:
    await at_watermark(ledger, 1000, DEFINITION, OTHER_DEFINITION)
    await at_watermark(ledger, 2000, OTHER_DEFINITION)
    assert (await position(ledger)).since == {OTHER_DEFINITION: -1}
    await at_watermark(ledger, 3000, DEFINITION, OTHER_DEFINITION)
    assert (await position(ledger)).since == {DEFINITION: 2000, OTHER_DEFINITION: -1}


async def test_a_claim_that_counts_nothing_ends_all(ledger: Ledger) -> None:
    await ledger.claim(SHARD, 4, 0, (DEFINITION,))
    await ledger.claim(SHARD, 4, 0)
    assert (await position(ledger)).since == {}


async def test_those_who_follow_are_told_since_when_too(ledger: Ledger) -> None:
    await at_watermark(ledger, WATERMARK, DEFINITION)
    before = await position(ledger)
    await ledger.claim(SHARD, 4, 0, (OTHER_DEFINITION,))
    await ledger.ask_backfill(SHARD, OTHER_DEFINITION)
    found = (await changes(ledger, before)).position
    assert (found.since, found.backfills) == ({OTHER_DEFINITION: WATERMARK}, (OTHER_DEFINITION,))


async def test_a_shard_that_is_begun_anew_has_forgotten_since_when_and_what_was_asked_for(ledger: Ledger) -> None:
    await at_watermark(ledger, WATERMARK, DEFINITION)
    await ledger.ask_backfill(SHARD, DEFINITION)
    await ledger.reset(SHARD)
    anew = await ledger.claim(SHARD, 4, 0, (OTHER_DEFINITION,))
    found = await position(ledger)
    assert (anew.backfills, found.since, found.backfills) == ((), {OTHER_DEFINITION: -1}, ())


# Looking through the states


@pytest.mark.parametrize("count", [7, 1000])
async def test_a_scan_sees_every_state(ledger: Ledger, count: int) -> None:
    claim, neighbour = await ledger.claim(SHARD, 11, 0), await ledger.claim(NEIGHBOUR, 11, 0)
    states = {f"größer 東京 {place}": bytes([place % 256, 255]) * 40 for place in range(1500)}
    await ledger.apply(claim, chunk(0, 5, states=states))
    await ledger.apply(neighbour, chunk(0, 5, states={"of another shard": b"1"}))
    assert dict(await states_by_scan(ledger, count)) == states


async def test_a_scan_comes_in_pages(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5, states={f"u{place}": b"1" * 80 for place in range(1000)}))
    cursor, page = await ledger.scan(SHARD, 0, 50)
    assert cursor
    assert 1 <= len(page) < 300


async def test_a_scan_of_nothing_is_at_its_end(ledger: Ledger) -> None:
    assert await ledger.scan(SHARD, 0, 10) == (0, [])
    await ledger.claim(SHARD, 4, 0)
    assert await ledger.scan(SHARD, 0, 10) == (0, [])


async def test_a_scan_sees_all_that_stay_whatever_comes_and_goes_meanwhile(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 1, states={f"u{place}": b"old" * 30 for place in range(1000)}))
    cursor, seen, place = 0, set(), 1
    while True:
        cursor, page = await ledger.scan(SHARD, cursor, 100)
        seen |= {entity for entity, _ in page}
        gone = [entity for entity, _ in page if int(entity[1:]) % 3 == 0]
        write = chunk(place, place + 1, states={f"u{place + 5000}": b"new", "u1": b"changed"}, forgotten=gone)
        assert await ledger.apply(claim, write) == Ok()
        place += 1
        if not cursor:
            break
    assert {f"u{place}" for place in range(1000)} <= seen
    left = {entity for entity, _ in await states_by_scan(ledger) if int(entity[1:]) < 1000}
    assert left == {f"u{place}" for place in range(1000) if place % 3}


# States that go


async def test_forgotten_states_are_gone_and_others_stay(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5, states={"u": b"1", "größer 東京": b"2", "w": b"3"}))
    assert await ledger.apply(claim, chunk(5, 5, {}, states={"w": b"4"}, forgotten=["u", "größer 東京", "nobody"])) == Ok()
    assert await ledger.states(SHARD, ["u", "größer 東京", "w"]) == [None, None, b"4"]
    assert await ledger.apply(claim, chunk(5, 6, states={"u": b"5"})) == Ok()
    assert await ledger.states(SHARD, ["u"]) == [b"5"]


async def test_ten_thousand_states_may_go_at_once(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    names = [f"u{place}" for place in range(10_000)]
    await ledger.apply(claim, chunk(0, 5, states=dict.fromkeys([*names, "v"], b"1")))
    assert await ledger.apply(claim, chunk(5, 5, {}, forgotten=names)) == Ok()
    assert await states_by_scan(ledger) == [("v", b"1")]


async def test_a_write_that_moves_nothing_but_states_is_a_change_without_counts(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5, states={"u": b"1"}))
    before = await snapshot(ledger)
    write = Write(5, 5, Deltas(watermark_us=WATERMARK), {"v": b"2"}, forgotten=["u"])
    assert await ledger.apply(claim, write) == Ok()
    after = await snapshot(ledger)
    assert after == replace(before, position=replace(before.position, sequence=before.position.sequence + 1))
    deltas = (await changes(ledger, before.position)).deltas
    assert deltas is not None
    assert [(dict(buckets), dict(totals)) for buckets, totals in deltas] == [({}, {})]


async def test_who_is_fenced_or_out_of_place_makes_nobody_go(ledger: Ledger) -> None:
    older = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(older, chunk(0, 5, states={"u": b"1"}))
    newer = await ledger.claim(SHARD, 4, 0)
    before = await everything(ledger)
    assert await ledger.apply(older, chunk(5, 5, {}, forgotten=["u"])) == Fenced(newer.epoch)
    assert await ledger.apply(newer, chunk(4, 4, {}, forgotten=["u"])) == Mismatch(5)
    assert await everything(ledger) == before


@pytest.mark.parametrize("forgotten", [[7], ["u", False], ["u", ["v"]], ["u", 1.5]], ids=["number", "no", "list", "fraction"])
async def test_who_goes_is_looked_at_before_anything_is_written(redis_ledger: RedisLedger, forgotten: list[Any]) -> None:
    claim = await redis_ledger.claim(SHARD, 4, 0)
    await redis_ledger.apply(claim, chunk(0, 5, states={"u": b"1"}))
    before = await everything(redis_ledger)
    with pytest.raises(StoreError, match="a forgotten entity is malformed"):
        await redis_ledger.apply(claim, chunk(5, 9, states={"u": b"2", "v": b"3"}, forgotten=forgotten))
    assert await everything(redis_ledger) == before
    assert not (await redis_ledger.claim(SHARD, 4, 0)).corrupt


# Asking for a backfill


async def test_what_is_asked_for_is_told_with_every_claim_until_it_is_done(ledger: Ledger) -> None:
    await ledger.claim(SHARD, 4, 0, (DEFINITION, OTHER_DEFINITION))
    for _ in range(2):
        assert await ledger.ask_backfill(SHARD, OTHER_DEFINITION)
    assert await ledger.ask_backfill(SHARD, DEFINITION)
    first = await ledger.claim(SHARD, 4, 0, (DEFINITION,))
    second = await ledger.claim(SHARD, 4, 0, (DEFINITION,))
    assert first.backfills == second.backfills == (await position(ledger)).backfills == (OTHER_DEFINITION, DEFINITION)
    assert await ledger.backfilled(second, DEFINITION, -1) == Ok()
    assert (await ledger.claim(SHARD, 4, 0)).backfills == (await position(ledger)).backfills == (OTHER_DEFINITION,)


async def test_nothing_can_be_asked_of_a_shard_that_is_not_there(ledger: Ledger) -> None:
    assert not await ledger.ask_backfill(SHARD, DEFINITION)
    assert await ledger.snapshot(SHARD, KEPT) is None
    await ledger.claim(SHARD, 4, 0)
    await ledger.reset(SHARD)
    assert not await ledger.ask_backfill(SHARD, DEFINITION)
    assert (await ledger.claim(SHARD, 4, 0)).backfills == ()


async def test_whoever_holds_the_shard_goes_on_while_it_is_asked(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0, (DEFINITION,))
    await ledger.ask_backfill(SHARD, DEFINITION)
    assert await ledger.apply(claim, chunk(0, 5)) == Ok()


async def test_a_backfill_that_is_done_says_since_when(ledger: Ledger) -> None:
    claim = await at_watermark(ledger, WATERMARK, DEFINITION)
    claim = await ledger.claim(SHARD, 4, 0, (DEFINITION, OTHER_DEFINITION))
    await ledger.ask_backfill(SHARD, OTHER_DEFINITION)
    assert await ledger.backfilled(claim, OTHER_DEFINITION, 2**53 + 1) == Ok()
    found = await position(ledger)
    assert (found.since, found.backfills) == ({DEFINITION: -1, OTHER_DEFINITION: 2**53 + 1}, ())
    assert await ledger.backfilled(claim, OTHER_DEFINITION, -1) == Ok()
    assert (await position(ledger)).since == {DEFINITION: -1, OTHER_DEFINITION: -1}


# Dropping counts


async def both_counted(ledger: Ledger) -> Claim:
    claim = await ledger.claim(SHARD, 11, 0, (DEFINITION, OTHER_DEFINITION))
    buckets = {(definition, width, bucket): cells for (definition, _, bucket), cells in BOTH.items() for width in (10, 60)}
    assert await ledger.apply(claim, chunk(0, 5, buckets, states={"u": b"1"})) == Ok()
    return claim


async def test_drop_removes_the_counts_of_one_definition_and_nothing_else(ledger: Ledger) -> None:
    claim = await both_counted(ledger)
    neighbour = await ledger.claim(NEIGHBOUR, 11, 0, (DEFINITION,))
    await ledger.apply(neighbour, chunk(0, 5))
    before, untouched = await everything(ledger), await snapshot(ledger, NEIGHBOUR)
    assert await ledger.drop(claim, DEFINITION) == Ok()
    found, states = await everything(ledger)
    kept = {bucket: cells for bucket, cells in before[0].buckets.items() if bucket[0] == OTHER_DEFINITION}
    assert kept
    assert (found.buckets, found.totals, states) == (kept, {OTHER_DEFINITION: before[0].totals[OTHER_DEFINITION]}, before[1])
    assert found.position.fates == before[0].position.fates
    assert await snapshot(ledger, NEIGHBOUR) == untouched
    assert await ledger.apply(claim, chunk(5, 9)) == Ok()
    assert (await snapshot(ledger)).totals[DEFINITION] == {"u0": 1}


@pytest.mark.parametrize(("one", "longer"), [(7, 70), (1, 2**31 - 1)])
async def test_drop_is_not_fooled_by_definitions_that_begin_alike(ledger: Ledger, one: int, longer: int) -> None:
    claim = await ledger.claim(SHARD, 4, 0, (one, longer))
    await ledger.apply(claim, chunk(0, 5, counted(BUCKET, one) | counted(BUCKET, longer)))
    await ledger.drop(claim, one)
    found = await ledger.snapshot(SHARD, [(one, 10, 30), (longer, 10, 30)])
    assert found is not None
    assert (set(found.buckets), set(found.totals)) == ({(longer, 10, BUCKET)}, {longer})


async def test_drop_makes_whoever_follows_read_the_shard_anew(ledger: Ledger) -> None:
    claim = await both_counted(ledger)
    before = await position(ledger)
    await ledger.drop(claim, DEFINITION)
    assert (await changes(ledger, before)).deltas is None
    anew = await snapshot(ledger)
    assert await ledger.apply(claim, chunk(5, 9)) == Ok()
    followed = (await changes(ledger, anew.position)).deltas
    assert followed is not None
    assert [dict(totals) for _, totals in followed] == [{DEFINITION: {"u0": 1}}]


async def test_what_was_dropped_is_counted_since_the_watermark_until_its_backfill_is_done(ledger: Ledger) -> None:
    """So a report does not take the counts for whole while they are written, or when nobody ends it."""
    claim = await both_counted(ledger)
    await ledger.ask_backfill(SHARD, DEFINITION)
    await ledger.drop(claim, DEFINITION)
    found = await position(ledger)
    assert (found.since, found.backfills) == ({DEFINITION: WATERMARK, OTHER_DEFINITION: -1}, (DEFINITION,))
    await ledger.backfilled(claim, DEFINITION, -1)
    assert (await position(ledger)).since == {DEFINITION: -1, OTHER_DEFINITION: -1}


async def test_dropping_what_is_not_counted_does_not_begin_it(ledger: Ledger) -> None:
    claim = await both_counted(ledger)
    assert await ledger.drop(claim, NEVER_ASKED) == Ok()
    found = await snapshot(ledger)
    assert (found.position.since, set(found.totals)) == (
        {DEFINITION: -1, OTHER_DEFINITION: -1},
        {DEFINITION, OTHER_DEFINITION},
    )


async def _drop(ledger: Ledger, claim: Claim) -> Outcome:
    return await ledger.drop(claim, DEFINITION)


async def _done(ledger: Ledger, claim: Claim) -> Outcome:
    return await ledger.backfilled(claim, DEFINITION, 5)


@pytest.mark.parametrize("act", [_drop, _done], ids=["drop", "backfilled"])
async def test_only_the_newest_claim_may_drop_or_end_a_backfill(ledger: Ledger, act: Any) -> None:
    older = await both_counted(ledger)
    await ledger.ask_backfill(SHARD, DEFINITION)
    newer = await ledger.claim(SHARD, 11, 0, (DEFINITION, OTHER_DEFINITION))
    before = await everything(ledger)
    assert await act(ledger, older) == Fenced(newer.epoch)
    assert await act(ledger, replace(newer, token="another")) == Fenced(newer.epoch)
    assert await everything(ledger) == before
    assert await act(ledger, newer) == Ok()
    assert await everything(ledger) != before
    await ledger.reset(SHARD)
    assert await act(ledger, newer) == NoState()
    assert await ledger.snapshot(SHARD, KEPT) is None


async def test_every_key_of_a_dropped_definition_is_deleted(client: Redis, redis_ledger: RedisLedger, unique_name: str) -> None:
    claim = await both_counted(redis_ledger)
    await redis_ledger.drop(claim, DEFINITION)
    names = {name.decode() async for name in client.scan_iter(match=f"{{{unique_name}:{SHARD}}}:*")}
    parts = {"meta", "states", "journal", f"t:{OTHER_DEFINITION}", *(f"c:{OTHER_DEFINITION}:{width}:{BUCKET}" for width in (10, 60))}
    assert names == {key(unique_name, part) for part in parts}


async def test_without_a_store_these_calls_are_errors_that_may_pass_too(unreachable: RedisLedger) -> None:
    claim = Claim(SHARD, 1, "token", 0, -1, {})
    calls = [
        unreachable.scan(SHARD, 0, 10),
        unreachable.ask_backfill(SHARD, DEFINITION),
        unreachable.drop(claim, DEFINITION),
        unreachable.backfilled(claim, DEFINITION, -1),
    ]
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreUnavailable] * len(calls)
