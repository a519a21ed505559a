"""What every ledger does: in memory, in Valkey, in Redis 7."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from schemas.errors import PartitionsChanged, StoreError, StoreUnavailable
from streams.ledger.contract import Changes, Claim, Corrupt, Fenced, Ledger, Mismatch, NoState, Ok, Position, Snapshot, Write
from streams.ledger.redis import JOURNAL_LENGTH, RedisLedger
from streams.plan import Registry
from streams.tally import BucketKey, Deltas
from streams.windows import Cells

SHARD, NEIGHBOUR = "web:1", "web:10"
DEFINITION, OTHER_DEFINITION = 2**31 - 1, 7
BUCKET = 169_000_000
WATERMARK = BUCKET * 10_000_000 + 5
KEPT = [(DEFINITION, 10, 30), (DEFINITION, 60, 30), (OTHER_DEFINITION, 10, 30)]
# A name as the tally makes it, and what a value of a dimension may be.
ODD = "u0\x1fchannel\x1fgrößer 東京 {x}:*[0]"


def key(prefix: str, part: str, shard: str = SHARD) -> str:
    """A key of a shard, as the page on Redis says it is named."""
    return f"{{{prefix}:{shard}}}:{part}"


def counted(bucket: int = BUCKET, definition: int = DEFINITION, **cells: int) -> dict[BucketKey, Cells]:
    return {(definition, 10, bucket): cells or {"u0": 1}}


def chunk(start: int, following: int, buckets: dict[BucketKey, Cells] | None = None, **changes: Any) -> Write:
    """A write of a bucket, its totals and its fates."""
    found = counted() if buckets is None else buckets
    totals: dict[int, Cells] = {}
    for (definition, _, _), cells in found.items():
        _add(totals.setdefault(definition, {}), cells)
    deltas = Deltas(found, totals, {"applied": following - start}, [], WATERMARK)
    return replace(Write(start, following, deltas), **changes)


def _add(into: Cells, cells: Cells) -> None:
    for name, count in cells.items():
        into[name] = into.get(name, 0) + count


async def snapshot(ledger: Ledger, shard: str = SHARD) -> Snapshot:
    found = await ledger.snapshot(shard, KEPT)
    assert found is not None
    return found


async def changes(ledger: Ledger, since: Position) -> Changes:
    """What was written since: the same for who wrote it as for who reads it back."""
    found = await ledger.changes(SHARD, since.generation, since.sequence)
    assert found is not None
    if isinstance(ledger, RedisLedger):
        assert await RedisLedger(ledger._client, ledger._prefix).changes(SHARD, since.generation, since.sequence) == found
    return found


async def everything(ledger: Ledger) -> tuple[Snapshot, list[bytes | None]]:
    return await snapshot(ledger), await ledger.states(SHARD, ["u", "v"])


# Claims and positions


async def test_a_new_shard_begins_where_it_is_told(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 17)
    assert (claim.shard, claim.next, claim.watermark_us, claim.upstream, claim.corrupt) == (SHARD, 17, -1, {}, False)
    assert await snapshot(ledger) == Snapshot(
        replace((await snapshot(ledger)).position, next=17, watermark_us=-1, fates={}, sequence=0), {}, {}
    )


async def test_a_later_claim_finds_what_was_written_and_has_a_higher_epoch(ledger: Ledger) -> None:
    first = await ledger.claim(SHARD, 4, 0)
    assert await ledger.apply(first, chunk(0, 5, upstream={0: 40, 3: 7})) == Ok()
    assert await ledger.apply(first, chunk(5, 9, upstream={3: 8})) == Ok()
    second = await ledger.claim(SHARD, 4, 1000)
    assert (second.next, second.watermark_us, second.upstream) == (9, WATERMARK, {0: 40, 3: 8})
    assert second.epoch > first.epoch
    assert second.token != first.token


async def test_shards_do_not_know_each_other(ledger: Ledger) -> None:
    claim, neighbour = await ledger.claim(SHARD, 11, 0), await ledger.claim(NEIGHBOUR, 11, 0)
    await ledger.apply(claim, chunk(0, 5, states={"u": b"1"}))
    assert await ledger.apply(neighbour, chunk(0, 1, counted(u0=9), states={"u": b"10"})) == Ok()
    assert (await snapshot(ledger)).totals == {DEFINITION: {"u0": 1}}
    assert (await snapshot(ledger, NEIGHBOUR)).totals == {DEFINITION: {"u0": 9}}
    assert await ledger.states(SHARD, ["u"]) == [b"1"]


async def test_another_partition_count_is_refused_and_takes_no_claim(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    with pytest.raises(PartitionsChanged) as refused:
        await ledger.claim(SHARD, 5, 0)
    assert (refused.value.topic, refused.value.stored, refused.value.found) == ("web", 4, 5)
    assert await ledger.apply(claim, chunk(0, 5)) == Ok()


async def test_the_new_partition_of_a_topic_that_grew_is_refused_too(ledger: Ledger) -> None:
    """Entities that moved there would be counted twice."""
    await ledger.claim("web:0", 4, 0)
    with pytest.raises(PartitionsChanged):
        await ledger.claim("web:4", 5, 0)


async def test_the_shards_of_a_source_are_those_that_were_claimed(ledger: Ledger) -> None:
    for shard in (NEIGHBOUR, "web:2", "web/intake:0", "webshop:0"):
        await ledger.claim(shard, 20, 0)
    assert await ledger.shards("web") == ["web:10", "web:2"]
    assert await ledger.shards("web/intake") == ["web/intake:0"]
    assert await ledger.shards("nothing") == []


# Answers that write nothing


async def test_a_newer_claim_fences_the_older_one_off(ledger: Ledger) -> None:
    older = await ledger.claim(SHARD, 4, 0)
    newer = await ledger.claim(SHARD, 4, 0)
    before = await everything(ledger)
    assert await ledger.apply(older, chunk(0, 5, states={"u": b"old"})) == Fenced(newer.epoch)
    assert await everything(ledger) == before
    assert await ledger.apply(newer, chunk(0, 5)) == Ok()
    assert await ledger.apply(older, chunk(5, 9)) == Fenced(newer.epoch)


async def test_claims_are_compared_by_their_token_too(ledger: Ledger) -> None:
    """A Redis rolled back to an older state gives an epoch out twice."""
    claim = await ledger.claim(SHARD, 4, 0)
    assert await ledger.apply(replace(claim, token="another"), chunk(0, 5)) == Fenced(claim.epoch)


async def test_of_claims_at_once_one_can_write(ledger: Ledger) -> None:
    claims = await asyncio.gather(*[ledger.claim(SHARD, 4, 0) for _ in range(20)])
    outcomes = await asyncio.gather(*[ledger.apply(claim, chunk(0, 5)) for claim in claims])
    newest = max(claims, key=lambda c: c.epoch)
    assert {claim.epoch: outcome for claim, outcome in zip(claims, outcomes)} == {
        claim.epoch: Ok() if claim is newest else Fenced(newest.epoch) for claim in claims
    }
    assert (await snapshot(ledger)).totals == {DEFINITION: {"u0": 1}}


@pytest.mark.parametrize("start", [4, 6, 0])
async def test_a_chunk_that_does_not_begin_where_the_ledger_stands_changes_nothing(ledger: Ledger, start: int) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5, states={"u": b"1"}))
    before = await everything(ledger)
    write = chunk(start, 9, counted(BUCKET + 1), states={"u": b"2", "v": b"3"}, upstream={0: 1}, gone=3)
    assert await ledger.apply(claim, write) == Mismatch(5)
    assert await everything(ledger) == before
    assert (await ledger.claim(SHARD, 4, 0)).upstream == {}


async def test_the_same_chunk_twice_is_counted_once(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    assert await ledger.apply(claim, chunk(0, 5)) == Ok()
    assert await ledger.apply(claim, chunk(0, 5)) == Mismatch(5)
    assert (await snapshot(ledger)).position.fates == {"applied": 5}


async def test_a_shard_that_is_not_there_is_told_and_not_made(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.reset(SHARD)
    assert await ledger.apply(claim, chunk(0, 5, states={"u": b"1"})) == NoState()
    assert await ledger.snapshot(SHARD, KEPT) is None
    assert await ledger.changes(SHARD, "", 0) is None
    assert await ledger.states(SHARD, ["u"]) == [None]


async def test_a_claim_from_before_a_flush_has_the_higher_epoch(ledger: Ledger) -> None:
    for _ in range(3):
        old = await ledger.claim(SHARD, 4, 0)
    await ledger.reset(SHARD)
    new = await ledger.claim(SHARD, 4, 0)
    assert new.epoch < old.epoch
    assert await ledger.apply(old, chunk(0, 5)) == Fenced(new.epoch)


# What is kept


async def test_states_come_back_in_the_order_they_are_asked_for(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    binary = bytes(range(256))
    await ledger.apply(claim, chunk(0, 5, states={"u": b"1", "東京 {x}": binary, "empty": b""}))
    await ledger.apply(claim, chunk(5, 6, states={"u": b"2"}))
    assert await ledger.states(SHARD, ["nobody", "東京 {x}", "u", "empty"]) == [None, binary, b"2", b""]
    assert await ledger.states(SHARD, []) == []


async def test_a_chunk_may_have_ten_thousand_states_and_as_many_counts(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    names = [f"u{place}" for place in range(10_000)]
    write = chunk(0, 10_000, counted(**dict.fromkeys(names, 1)), states={name: name.encode() for name in names})
    assert await ledger.apply(claim, write) == Ok()
    assert await ledger.states(SHARD, names) == [name.encode() for name in names]
    assert sum((await snapshot(ledger)).totals[DEFINITION].values()) == 10_000


async def test_counts_add_up_in_their_buckets_and_totals(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5, {(DEFINITION, 10, BUCKET): {"u0": 2, ODD: 1}, (DEFINITION, 60, BUCKET // 6): {"u0": 2}}))
    await ledger.apply(claim, chunk(5, 9, {(DEFINITION, 10, BUCKET): {"u0": -1, "n0": 4}, (OTHER_DEFINITION, 10, BUCKET - 3): {"v1": -7}}))
    found = await snapshot(ledger)
    assert found.buckets == {
        (DEFINITION, 10, BUCKET): {"u0": 1, ODD: 1, "n0": 4},
        (DEFINITION, 60, BUCKET // 6): {"u0": 2},
        (OTHER_DEFINITION, 10, BUCKET - 3): {"v1": -7},
    }
    assert found.totals == {DEFINITION: {"u0": 3, ODD: 1, "n0": 4}, OTHER_DEFINITION: {"v1": -7}}


async def test_a_snapshot_has_only_what_is_asked_for(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5, {(d, w, BUCKET * 10 // w): {"u0": 1} for d in (DEFINITION, OTHER_DEFINITION) for w in (10, 60)}))
    found = await ledger.snapshot(SHARD, [(DEFINITION, 60, 30)])
    assert found is not None
    assert (set(found.buckets), set(found.totals)) == ({(DEFINITION, 60, BUCKET // 6)}, {DEFINITION})
    nothing = await ledger.snapshot(SHARD, [])
    assert nothing is not None
    assert (nothing.buckets, nothing.totals) == ({}, {})


async def test_the_name_of_a_count_is_held_once_for_all_buckets_that_were_read(ledger: Ledger) -> None:
    """A hundred funnels have a million counts and five hundred names."""
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5, {(DEFINITION, 10, BUCKET): {ODD: 1}, (DEFINITION, 60, BUCKET // 6): {ODD: 2}}))
    found = await snapshot(ledger)
    first, second = (name for cells in found.buckets.values() for name in cells)
    assert first is second


async def test_fates_gone_and_position_are_kept_together(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, Write(0, 5, Deltas(fates={"applied": 4, "rejected:bad_json": 1}, watermark_us=10)))
    await ledger.apply(claim, Write(5, 9, Deltas(fates={"applied": 3, "late": 1}, watermark_us=20)))
    await ledger.apply(claim, Write(9, 100, Deltas(watermark_us=20), gone=91))
    await ledger.apply(claim, Write(100, 102, Deltas(watermark_us=20), gone=2))
    position = (await snapshot(ledger)).position
    assert (position.next, position.watermark_us, position.gone, position.sequence) == (102, 20, 93, 4)
    assert position.fates == {"applied": 7, "rejected:bad_json": 1, "late": 1}


async def whole(ledger: Ledger) -> tuple[int, bool]:
    position = (await snapshot(ledger)).position
    return position.whole_us, position.gap


async def test_a_shard_that_begins_with_its_topic_is_whole(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5, began_us=7))
    assert await whole(ledger) == (-1, False)


async def test_a_shard_that_begins_later_is_whole_from_its_first_event_on(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 3)
    await ledger.apply(claim, chunk(3, 5, began_us=-1))
    assert await whole(ledger) == (-1, True)
    await ledger.apply(claim, chunk(5, 6, began_us=7))
    await ledger.apply(claim, chunk(6, 7, began_us=9))
    assert await whole(ledger) == (7, False)
    await ledger.claim(SHARD, 4, 6)
    assert await whole(ledger) == (7, False)


async def test_where_records_are_gone_it_is_whole_from_the_next_event_on(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5, began_us=7))
    await ledger.apply(claim, Write(5, 9, Deltas(watermark_us=WATERMARK), gone=4))
    assert await whole(ledger) == (-1, True)
    await ledger.apply(claim, chunk(9, 10, began_us=2**51))
    assert await whole(ledger) == (2**51, False)


@pytest.mark.parametrize("began", [1.5, "now"])
async def test_a_malformed_time_of_the_first_event_is_an_error(redis_ledger: RedisLedger, began: Any) -> None:
    claim = await redis_ledger.claim(SHARD, 4, 0)
    with pytest.raises(StoreError, match="the time of the first event is malformed"):
        await redis_ledger.apply(claim, chunk(0, 5, began_us=began))
    assert (await snapshot(redis_ledger)).position.next == 0


@pytest.mark.parametrize("big", [2**53 - 1, 2**53, 2**53 + 1, 2**62 + 1, -(2**53) - 1, -(2**62) - 1])
async def test_numbers_past_what_a_double_holds_are_exact(ledger: Ledger, big: int) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    start = (await snapshot(ledger)).position
    await ledger.apply(claim, chunk(0, 5, counted(v0=big, n0=1)))
    await ledger.apply(claim, chunk(5, 6, counted(v0=1)))
    found = await snapshot(ledger)
    assert found.buckets == {(DEFINITION, 10, BUCKET): {"v0": big + 1, "n0": 1}}
    assert found.totals == {DEFINITION: {"v0": big + 1, "n0": 1}}
    deltas = (await changes(ledger, start)).deltas
    assert deltas is not None
    assert [totals for _, totals in deltas] == [{DEFINITION: {"v0": big, "n0": 1}}, {DEFINITION: {"v0": 1}}]


async def test_offsets_and_times_are_exact_too(ledger: Ledger) -> None:
    offset, micros = 2**53 + 1, 2**53 + 3
    claim = await ledger.claim(SHARD, 4, offset)
    await ledger.apply(claim, Write(offset, offset + 2, Deltas(watermark_us=micros), upstream={1: offset}))
    again = await ledger.claim(SHARD, 4, 0)
    assert (again.next, again.watermark_us, again.upstream) == (offset + 2, micros, {1: offset})


async def test_expired_buckets_are_gone_and_totals_stay(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5, counted(BUCKET - 2) | counted(BUCKET - 1)))
    write = chunk(5, 6, counted(BUCKET))
    write.deltas.expired += [(DEFINITION, 10, BUCKET - 2), (DEFINITION, 10, BUCKET - 3)]
    await ledger.apply(claim, write)
    found = await snapshot(ledger)
    assert {bucket for _, _, bucket in found.buckets} == {BUCKET - 1, BUCKET}
    assert found.totals == {DEFINITION: {"u0": 3}}


async def test_reset_forgets_a_shard_and_no_other(ledger: Ledger) -> None:
    claim, neighbour = await ledger.claim(SHARD, 11, 0), await ledger.claim(NEIGHBOUR, 11, 0)
    for held in (claim, neighbour):
        await ledger.apply(held, chunk(0, 5, states={"u": b"1"}))
    generation = (await snapshot(ledger)).position.generation
    kept = await snapshot(ledger, NEIGHBOUR)
    await ledger.reset(SHARD)
    anew = await ledger.claim(SHARD, 11, 3)
    assert (anew.next, anew.watermark_us) == (3, -1)
    assert await ledger.states(SHARD, ["u"]) == [None]
    found = await snapshot(ledger)
    assert (found.buckets, found.totals, found.position.fates, found.position.sequence) == ({}, {}, {}, 0)
    assert found.position.generation != generation
    assert await snapshot(ledger, NEIGHBOUR) == kept


# Following along


async def test_changes_are_what_was_written_since_in_order(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    start = (await snapshot(ledger)).position
    assert (await changes(ledger, start)).deltas == []
    written = [chunk(place, place + 1, counted(BUCKET + place, u0=place + 1)) for place in range(40)]
    for write in written:
        await ledger.apply(claim, write)
    found = await changes(ledger, start)
    assert found.position == (await snapshot(ledger)).position
    assert found.deltas is not None
    assert [(dict(b), dict(t)) for b, t in found.deltas] == [(w.deltas.buckets, w.deltas.totals) for w in written]
    after = await changes(ledger, replace(start, sequence=37))
    assert after.deltas is not None
    assert [dict(b) for b, _ in after.deltas] == [w.deltas.buckets for w in written[37:]]
    assert (await changes(ledger, found.position)).deltas == []


async def test_what_another_wrote_meanwhile_is_among_the_changes_for_who_wrote_before_and_after(redis_ledger: RedisLedger) -> None:
    other = RedisLedger(redis_ledger._client, redis_ledger._prefix)
    claim = await redis_ledger.claim(SHARD, 4, 0)
    start = (await snapshot(redis_ledger)).position
    await redis_ledger.apply(claim, chunk(0, 1, counted(u0=1)))
    await other.apply(await other.claim(SHARD, 4, 0), chunk(1, 2, counted(u0=2)))
    assert [totals[DEFINITION]["u0"] for _, totals in (await changes(redis_ledger, start)).deltas or ()] == [1, 2]
    await redis_ledger.apply(await redis_ledger.claim(SHARD, 4, 0), chunk(2, 3, counted(u0=3)))
    assert [totals[DEFINITION]["u0"] for _, totals in (await changes(redis_ledger, start)).deltas or ()] == [1, 2, 3]
    assert [totals[DEFINITION]["u0"] for _, totals in (await changes(other, start)).deltas or ()] == [1, 2, 3]


async def test_a_chunk_without_counts_is_a_change_too(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    start = (await snapshot(ledger)).position
    await ledger.apply(claim, Write(0, 3, Deltas(fates={"filtered": 3}, watermark_us=8)))
    found = await changes(ledger, start)
    assert (found.position.next, found.position.fates) == (3, {"filtered": 3})
    assert found.deltas is not None
    assert [(dict(b), dict(t)) for b, t in found.deltas] == [({}, {})]


async def test_changes_are_kept_for_so_long_and_no_longer(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    start = (await snapshot(ledger)).position
    for place in range(JOURNAL_LENGTH + 1):
        await ledger.apply(claim, chunk(place, place + 1))
    too_far = await changes(ledger, start)
    assert (too_far.deltas, too_far.position.sequence) == (None, JOURNAL_LENGTH + 1)
    just_there = await changes(ledger, replace(start, sequence=1))
    assert just_there.deltas is not None
    assert len(just_there.deltas) == JOURNAL_LENGTH


async def test_another_generation_or_a_sequence_to_come_cannot_be_followed(ledger: Ledger) -> None:
    claim = await ledger.claim(SHARD, 4, 0)
    await ledger.apply(claim, chunk(0, 5))
    here = (await snapshot(ledger)).position
    assert (await changes(ledger, replace(here, generation="other"))).deltas is None
    assert (await changes(ledger, replace(here, sequence=here.sequence + 1))).deltas is None


@pytest.mark.parametrize("seed", range(3))
async def test_a_snapshot_and_the_changes_after_it_add_up_to_the_truth(ledger: Ledger, seed: int) -> None:
    """Readers begin and go on at any moment between writes."""
    chance = random.Random(seed)
    claim, truth = await ledger.claim(SHARD, 4, 0), _Sums()
    readers: list[_Sums] = []
    for place in range(120):
        write = _random_chunk(chance, place)
        await ledger.apply(claim, write)
        truth.take(write.deltas.buckets, write.deltas.totals)
        if chance.random() < 0.1:
            readers.append(_Sums.of(await snapshot(ledger)))
        for reader in chance.sample(readers, len(readers) // 2):
            await reader.follow(ledger)
    for reader in readers:
        await reader.follow(ledger)
    assert len(readers) > 3
    assert [(reader.buckets, reader.totals) for reader in readers] == [(truth.buckets, truth.totals)] * len(readers)


def _random_chunk(chance: random.Random, place: int) -> Write:
    keys = [(chance.choice([DEFINITION, OTHER_DEFINITION]), 10, BUCKET - chance.randint(0, 5)) for _ in range(chance.randint(0, 4))]
    return chunk(place, place + 1, {key: {f"u{chance.randint(0, 3)}": chance.choice([-2, 1, 5, 2**60 // 100])} for key in keys})


class _Sums:
    """Counts without zeros, and how far they were followed."""

    def __init__(self, position: Position | None = None) -> None:
        self.position = position
        self.buckets: dict[BucketKey, Cells] = {}
        self.totals: dict[int, Cells] = {}

    @classmethod
    def of(cls, found: Snapshot) -> _Sums:
        sums = cls(found.position)
        sums.take(dict(found.buckets), dict(found.totals))
        return sums

    def take(self, buckets: dict[BucketKey, Cells], totals: dict[int, Cells]) -> None:
        for key, cells in buckets.items():
            self._add(self.buckets.setdefault(key, {}), cells)
        for definition, cells in totals.items():
            self._add(self.totals.setdefault(definition, {}), cells)

    def _add(self, into: Cells, cells: Cells) -> None:
        _add(into, cells)
        for name in [name for name, count in into.items() if not count]:
            del into[name]

    async def follow(self, ledger: Ledger) -> None:
        assert self.position is not None
        found = await changes(ledger, self.position)
        assert found.deltas is not None
        for buckets, totals in found.deltas:
            self.take(dict(buckets), dict(totals))
        self.position = found.position


# Values, ends


async def test_the_first_values_are_admitted_and_stay(ledger: Ledger) -> None:
    registry = Registry("properties.channel", 3)
    assert await ledger.admit("web", registry, ["b", "größer 東京"]) == {"b": True, "größer 東京": True}
    assert await ledger.admit("web", registry, ["x", "b", "y", "größer 東京"]) == {"x": True, "b": True, "y": False, "größer 東京": True}
    assert await ledger.admit("web", registry, ["y", "z", "x"]) == {"y": False, "z": False, "x": True}


async def test_every_source_and_property_has_a_registry_of_its_own(ledger: Ledger) -> None:
    registry = Registry("properties.channel", 1)
    assert await ledger.admit("web", registry, ["a"]) == {"a": True}
    assert await ledger.admit("app", registry, ["b"]) == {"b": True}
    assert await ledger.admit("web", Registry("properties.device", 1), ["c"]) == {"c": True}
    assert await ledger.admit("web", registry, ["b", "c"]) == {"b": False, "c": False}


async def test_workers_that_ask_at_once_are_told_the_same(ledger: Ledger) -> None:
    registry = Registry("properties.channel", 5)
    texts = [f"v{place}" for place in range(20)]
    answers = await asyncio.gather(*[ledger.admit("web", registry, texts[place:] + texts[:place]) for place in range(20)])
    admitted = {text for answer in answers for text, ok in answer.items() if ok}
    assert len(admitted) == 5
    assert await ledger.admit("web", registry, texts) == {text: text in admitted for text in texts}


async def test_the_newest_end_of_each_partition_is_known(ledger: Ledger) -> None:
    assert await ledger.ends("web") == {}
    await ledger.publish_ends("web", {0: 10, 1: 20})
    await ledger.publish_ends("web", {1: 25, 12: 2**53 + 1})
    await ledger.publish_ends("web", {})
    await ledger.publish_ends("web/intake", {0: 99})
    assert await ledger.ends("web") == {0: 10, 1: 25, 12: 2**53 + 1}


async def test_a_store_that_is_there_answers(ledger: Ledger) -> None:
    await ledger.ping()


# What only a Redis can do wrong


async def _fill(ledger: RedisLedger) -> Claim:
    claim = await ledger.claim(SHARD, 4, 0)
    assert await ledger.apply(claim, chunk(0, 5, states={"u": b"1"})) == Ok()
    return claim


@pytest.mark.parametrize("part", [f"c:{DEFINITION}:10:{BUCKET + 1}", f"t:{OTHER_DEFINITION}", "states", "journal"])
async def test_a_key_of_another_type_is_an_error_before_anything_is_written(
    client: Redis, redis_ledger: RedisLedger, unique_name: str, part: str
) -> None:
    claim = await _fill(redis_ledger)
    await client.delete(key(unique_name, part))
    await client.set(key(unique_name, part), "somebody else's")
    before = await _dump(client, unique_name)
    write = chunk(5, 9, counted(BUCKET) | counted(BUCKET + 1) | counted(BUCKET, OTHER_DEFINITION), states={"u": b"2", "v": b"3"})
    with pytest.raises(StoreError, match="another type; is another program writing its keys"):
        await redis_ledger.apply(claim, write)
    assert await _dump(client, unique_name) == before


@pytest.mark.parametrize(
    "deltas",
    [
        Deltas({(DEFINITION, 10, BUCKET): {"u0": 1.5}}),  # type: ignore[dict-item]  # as a broken caller would
        Deltas({(DEFINITION, 10, BUCKET): {"u0": "many"}}),  # type: ignore[dict-item]
        Deltas(fates={"applied": "all"}),  # type: ignore[dict-item]
        Deltas(watermark_us=1.5),  # type: ignore[arg-type]
    ],
    ids=["fraction", "word", "fate", "watermark"],
)
async def test_a_chunk_that_is_malformed_is_an_error_before_anything_is_written(
    client: Redis, redis_ledger: RedisLedger, unique_name: str, deltas: Deltas
) -> None:
    claim = await _fill(redis_ledger)
    before = await _dump(client, unique_name)
    with pytest.raises((StoreError, TypeError)):
        await redis_ledger.apply(claim, Write(5, 9, deltas, {"u": b"2"}))
    assert await _dump(client, unique_name) == before


@pytest.mark.parametrize("gone", [1.5, "many"])
async def test_a_malformed_number_of_records_gone_is_an_error_too(
    client: Redis, redis_ledger: RedisLedger, unique_name: str, gone: Any
) -> None:
    claim = await _fill(redis_ledger)
    before = await _dump(client, unique_name)
    with pytest.raises(StoreError):
        await redis_ledger.apply(claim, Write(5, 9, Deltas(watermark_us=WATERMARK), gone=gone))
    assert await _dump(client, unique_name) == before


async def _dump(client: Redis, prefix: str) -> dict[bytes, object]:
    """Every key of the shard with its contents."""
    found: dict[bytes, object] = {}
    async for name in client.scan_iter(match=f"{{{prefix}:{SHARD}}}:*", count=1000):
        found[name] = await client.dump(name)
    return found


async def test_a_sum_past_64_bits_stays_and_the_rest_is_written(redis_ledger: RedisLedger) -> None:
    claim = await redis_ledger.claim(SHARD, 4, 0)
    await redis_ledger.apply(claim, chunk(0, 5, counted(v0=2**63 - 1, n0=1)))
    assert await redis_ledger.apply(claim, chunk(5, 6, counted(v0=1, n0=1), states={"u": b"2"})) == Ok()
    found = await snapshot(redis_ledger)
    assert (found.buckets[DEFINITION, 10, BUCKET], found.position.next) == ({"v0": 2**63 - 1, "n0": 2}, 6)


@pytest.mark.parametrize("field", ["seq", "done"])
async def test_a_torn_write_is_corrupt_until_the_shard_is_begun_anew(
    client: Redis, redis_ledger: RedisLedger, unique_name: str, field: str
) -> None:
    """Half a script, as an append-only file cut short may leave it: the first write is there, the last is not."""
    claim = await _fill(redis_ledger)
    await client.hincrby(key(unique_name, "meta"), field, 1)
    assert await redis_ledger.apply(claim, chunk(5, 9)) == Corrupt()
    assert (await redis_ledger.claim(SHARD, 4, 0)).corrupt
    await redis_ledger.reset(SHARD)
    anew = await redis_ledger.claim(SHARD, 4, 0)
    assert (anew.corrupt, anew.next) == (False, 0)
    assert await redis_ledger.apply(anew, chunk(0, 5)) == Ok()
    assert (await snapshot(redis_ledger)).totals == {DEFINITION: {"u0": 1}}


@pytest.mark.parametrize("deleted", range(1, 5))
async def test_a_reset_that_is_cut_short_leaves_no_old_counts_to_a_new_beginning(
    client: Redis, redis_ledger: RedisLedger, unique_name: str, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    await _fill(redis_ledger)
    await client.hincrby(key(unique_name, "meta"), "seq", 1)
    _cut_off_after(monkeypatch, client, deleted)
    with suppress(StoreUnavailable, RedisError):
        await redis_ledger.reset(SHARD)
    monkeypatch.undo()
    claim = await redis_ledger.claim(SHARD, 4, 0)
    found = await snapshot(redis_ledger)
    assert claim.corrupt or (found.buckets, found.totals, await redis_ledger.states(SHARD, ["u"])) == ({}, {}, [None])


def _cut_off_after(monkeypatch: pytest.MonkeyPatch, client: Redis, deleted: int) -> None:
    """A connection that finds the shard's own record first, and breaks after some deletions."""
    unlink, scan_iter, done = client.unlink, client.scan_iter, []

    async def breaking(*names: bytes) -> int:
        if len(done) + len(names) > deleted:
            raise RedisConnectionError("cut off")
        done.extend(names)
        return int(await unlink(*names))

    async def meta_first(**options: Any) -> AsyncIterator[bytes]:
        for name in sorted([name async for name in scan_iter(**options)], key=lambda n: (not n.endswith(b"meta"), n)):
            yield name

    monkeypatch.setattr(client, "unlink", breaking)
    monkeypatch.setattr(client, "scan_iter", meta_first)


async def test_a_flushed_redis_has_no_state(client: Redis, redis_ledger: RedisLedger, unique_name: str) -> None:
    claim = await _fill(redis_ledger)
    await client.delete(*[name async for name in client.scan_iter(match=f"*{unique_name}*")])
    assert await redis_ledger.apply(claim, chunk(5, 9)) == NoState()
    assert [name async for name in client.scan_iter(match=f"*{unique_name}*")] == []


async def test_with_the_fences_off_everybody_writes(client: Redis, redis_ledger: RedisLedger, unique_name: str) -> None:
    """It shows what the fences prevent: an old claim writes, at any position, and counts go wrong."""
    unfenced = RedisLedger(client, unique_name, fences=False)
    older = await unfenced.claim(SHARD, 4, 0)
    newer = await redis_ledger.claim(SHARD, 4, 0)
    assert await redis_ledger.apply(newer, chunk(0, 5)) == Ok()
    assert await redis_ledger.apply(older, chunk(0, 5)) == Fenced(newer.epoch)
    assert await unfenced.apply(older, chunk(0, 5, states={"u": b"old"})) == Ok()
    assert (await snapshot(unfenced)).totals == {DEFINITION: {"u0": 2}}
    assert await unfenced.states(SHARD, ["u"]) == [b"old"]


async def test_every_key_of_a_shard_is_in_one_slot_and_expired_ones_are_deleted(
    client: Redis, redis_ledger: RedisLedger, unique_name: str
) -> None:
    claim = await _fill(redis_ledger)
    write = chunk(5, 6, counted(BUCKET + 1))
    write.deltas.expired.append((DEFINITION, 10, BUCKET))
    await redis_ledger.apply(claim, write)
    names = {name.decode() async for name in client.scan_iter(match=f"*{unique_name}*")}
    parts = {"meta", "states", "journal", f"t:{DEFINITION}", f"c:{DEFINITION}:10:{BUCKET + 1}"}
    assert names == {key(unique_name, part) for part in parts} | {f"{unique_name}:shards:web", f"{unique_name}:partitions:web"}


async def test_a_bucket_nobody_writes_any_more_goes_away_in_the_end(client: Redis, redis_ledger: RedisLedger, unique_name: str) -> None:
    """Far beyond the longest window: it is the watermark that expires buckets, not the clock."""
    await _fill(redis_ledger)
    assert await client.ttl(key(unique_name, f"c:{DEFINITION}:10:{BUCKET}")) > 37 * 86_400
    assert await client.ttl(key(unique_name, f"t:{DEFINITION}")) == -1
    assert await client.ttl(key(unique_name, "states")) == -1


async def test_prefixes_keep_deployments_apart(client: Redis, redis_ledger: RedisLedger, unique_name: str) -> None:
    await _fill(redis_ledger)
    other = RedisLedger(client, f"{unique_name[:-1]}-")
    assert await other.snapshot(SHARD, KEPT) is None
    assert (await other.claim(SHARD, 7, 0)).epoch == 1


async def test_without_a_store_every_call_is_an_error_that_may_pass(unreachable: RedisLedger) -> None:
    claim = Claim(SHARD, 1, "token", 0, -1, {})
    calls = [
        unreachable.claim(SHARD, 4, 0),
        unreachable.apply(claim, chunk(0, 5)),
        unreachable.states(SHARD, ["u"]),
        unreachable.admit("web", Registry("p", 1), ["a"]),
        unreachable.shards("web"),
        unreachable.snapshot(SHARD, KEPT),
        unreachable.changes(SHARD, "", 0),
        unreachable.publish_ends("web", {0: 1}),
        unreachable.ends("web"),
        unreachable.ping(),
        unreachable.reset(SHARD),
    ]
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreUnavailable] * len(calls)
