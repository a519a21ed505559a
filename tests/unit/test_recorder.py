"""The leader's record: a point a minute and an hour, none twice, none invented, none by another."""

from __future__ import annotations

from schemas.duration import MICROS
from schemas.errors import StoreUnavailable
from streams.points import HOUR, MINUTE
from streams.rates import Split
from streams.recorder import Recorder
from tests.parts.record import BEGIN, FENCE, MemoryRecord, Shop


def minutes(shop: Shop, step: int = MINUTE) -> list[int]:
    """The boundaries recorded, in steps since the beginning."""
    kept = [points for (_, of_step), points in shop.record.kept.items() if of_step == step]
    return [(at // MICROS - BEGIN) // step for points in kept for at in points]


async def test_every_minute_and_every_hour_has_a_point() -> None:
    shop = Shop()
    await shop.run(7200)
    assert minutes(shop) == list(range(1, 121))
    assert minutes(shop, HOUR) == [1, 2]


async def test_a_tick_with_nothing_new_writes_nothing() -> None:
    shop = Shop()
    await shop.run(60)
    kept = dict(next(iter(shop.record.kept.values())))
    await shop.tick()
    assert next(iter(shop.record.kept.values())) == kept


async def test_boundaries_that_were_missed_are_gaps() -> None:
    """Ten minutes in one reading: only the newest is known."""
    shop = Shop()
    await shop.run(60)
    await shop.run(600, every=600)
    await shop.run(60)
    assert minutes(shop) == [1, 11, 12]


async def test_while_the_source_is_stale_nothing_is_recorded() -> None:
    shop = Shop()
    await shop.run(60)
    claim = await shop.ledger.claim("web:1", 1, 0)
    await shop.ledger.publish_ends("web", {0: 10**6, 1: 10})
    assert claim.next == 0
    await shop.run(600)
    assert shop.reader.views["web"].stale
    assert minutes(shop) == [1]


async def test_another_leader_goes_on_where_the_last_one_stopped() -> None:
    """With whole points and known names at first, and no minute twice."""
    shop = Shop()
    await shop.run(300)
    shop.fence = shop.record.fence = FENCE + 1
    shop.recorder = Recorder(shop.config, shop.record)
    await shop.run(180)
    assert minutes(shop) == [*range(1, 9)]
    names = next(iter(shop.record.known.values()))
    assert sorted(names.values()) == [("device", "ios"), ("device", "web")]


async def test_who_leads_no_more_writes_nothing_and_begins_anew_when_it_leads_again() -> None:
    shop = Shop()
    await shop.run(120)
    shop.record.fence = FENCE + 1
    await shop.run(120)
    assert minutes(shop) == [1, 2]
    shop.record.fence = FENCE
    await shop.run(120)
    assert minutes(shop) == [1, 2, 4, 5, 6]  # the fourth ten seconds late, for the longer windows


async def test_a_store_that_was_away_costs_no_more_than_the_minutes_it_was_away() -> None:
    class Away(MemoryRecord):
        away = False

        async def write(self, fence, entries):
            found = await super().write(fence, entries)
            if self.away:
                raise StoreUnavailable("written, or not")
            return found

    record = Away()
    shop = Shop(record)
    await shop.run(60)
    record.away = True
    try:
        await shop.run(60)
    except StoreUnavailable:
        record.away = False
    await shop.tick()
    await shop.run(120)
    assert minutes(shop) == [1, 2, 3, 4]


async def test_the_names_of_all_funnels_are_asked_for_at_once() -> None:
    """A question for each would wait a hundred times behind what is being counted."""

    class Counting(MemoryRecord):
        asked = 0

        async def names(self, *definitions: int) -> list[dict[int, Split]]:
            self.asked += 1
            return await super().names(*definitions)

    record = Counting()
    shop = Shop(record, funnels=3)
    await shop.run(180)
    assert record.asked == 1
    assert minutes(shop) == 3 * [1, 2, 3]
