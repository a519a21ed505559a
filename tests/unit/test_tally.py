"""What one chunk changes: only what differs, in every width of bucket, in total and by value."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from schemas.config import Config
from streams.ages import age_bin
from streams.counting import ShardCount
from streams.plan import Plan
from streams.retention import AGES, CONVERSIONS, CONVERTED, ENTRIES, EVENTS, USERS, VALUE
from streams.tally import BucketKey, Deltas
from streams.values import SEPARATOR
from streams.windows import RETRACTED, RETRACTED_AGES, Cells, age_cell, cell

HOUR = 3600
AT = 469_444 * HOUR  # a boundary of every width of bucket; 2023-07-22T04:00:00Z


def shard(*windows: str, watermark: int = -1, lateness: str = "60s", **changes: Any) -> ShardCount:
    """A shard of one funnel: a, then b, which has a value."""
    stages = [{"name": "1", "event": "a"}, {"name": "2", "event": "b", "value": "properties.paid"}]
    funnel = {"name": "f", "source": "web", "conversion_window": "60s", "windows": windows or ("5m",), "stages": stages} | changes
    web = {"name": "web", "topic": "clicks", "trust_key": True, "max_skew": "0s", "allowed_lateness": lateness}
    config = Config.model_validate({"sources": [web], "funnels": [funnel]})
    return ShardCount(Plan(config, config.sources[0]), watermark if watermark < 0 else watermark * 1_000_000)


def event(name: str, second: float, entity: str = "u", event_id: str = "", **properties: Any) -> bytes:
    record = {"event": name, "timestamp": AT + second, "user_id": entity, "event_id": event_id, "properties": properties}
    return json.dumps(record).encode()


def deltas(count: ShardCount, *records: bytes) -> Deltas:
    return count.fold(count.decode(0, len(records), records, [None] * len(records), 10**18)).write.deltas


def by_second(found: Deltas, width: int = 10) -> dict[int, Cells]:
    """The deltas of one width, by the second their bucket begins at."""
    return {bucket * width - AT: cells for (_, w, bucket), cells in found.buckets.items() if w == width and cells}


def totals(found: Deltas) -> Cells:
    """The deltas of the one funnel's totals."""
    (cells,) = found.totals.values() or [{}]
    return cells


def age(stage: int, seconds: float) -> str:
    """The cell of a conversion into a stage at an age."""
    return age_cell(stage, age_bin(round(seconds * 1_000_000)))


U0, N0, V0, E0, C0, X0 = (cell(family, 0) for family in (USERS, EVENTS, VALUE, ENTRIES, CONVERSIONS, CONVERTED))
U1, N1, V1, E1, C1, X1 = (cell(family, 1) for family in (USERS, EVENTS, VALUE, ENTRIES, CONVERSIONS, CONVERTED))


# Reaches


def test_who_reaches_a_stage_is_one_user_one_event_and_one_entry_of_its_bucket() -> None:
    found = deltas(shard(), event("a", 9), event("a", 10, "v"))
    assert by_second(found) == {0: {U0: 1, N0: 1, E0: 1}, 10: {U0: 1, N0: 1, E0: 1}}
    assert totals(found) == {U0: 2, N0: 2, E0: 2}


def test_who_reaches_it_again_moves_to_the_new_bucket() -> None:
    count = shard()
    deltas(count, event("a", 0))
    found = deltas(count, event("a", 10))
    assert by_second(found) == {0: {U0: -1}, 10: {U0: 1, N0: 1}}
    assert totals(found) == {N0: 1}


def test_who_moves_within_a_bucket_changes_its_events_only() -> None:
    count = shard()
    deltas(count, event("a", 0))
    assert by_second(deltas(count, event("a", 9.999))) == {0: {N0: 1}}


def test_what_moves_within_one_chunk_leaves_no_trace_between() -> None:
    found = deltas(shard(), event("a", 0), event("a", 10), event("a", 20))
    assert by_second(found) == {0: {N0: 1, E0: 1}, 10: {N0: 1}, 20: {U0: 1, N0: 1}}


def test_values_that_cancel_out_are_no_change() -> None:
    found = deltas(shard(), event("a", 0), event("b", 1, paid=2.5), event("b", 2, paid=-2.5))
    cells = {U0: 1, N0: 1, E0: 1, C0: 1, U1: 1, N1: 2, E1: 1, X1: 1, age(1, 1): 1}
    assert (by_second(found), totals(found)) == ({0: cells}, cells)


def test_what_reaches_nothing_changes_nothing() -> None:
    found = deltas(shard(), event("b", 0))
    assert (by_second(found), [cells for cells in found.totals.values() if cells]) == ({}, [])
    assert found.fates == {"applied": 1}


# Entries and conversions


def test_a_conversion_is_counted_where_its_entry_opened_and_where_it_came() -> None:
    count = shard()
    assert by_second(deltas(count, event("a", 5))) == {0: {U0: 1, N0: 1, E0: 1}}
    found = deltas(count, event("b", 45.5, paid=2))
    assert by_second(found) == {0: {C0: 1, age(1, 40.5): 1}, 40: {U1: 1, N1: 1, V1: 2_000_000, E1: 1, X1: 1}}
    assert totals(found) == {C0: 1, age(1, 40.5): 1, U1: 1, N1: 1, V1: 2_000_000, E1: 1, X1: 1}


def test_conversions_of_one_chunk_stand_in_one_bin_or_in_several() -> None:
    found = deltas(
        shard(),
        *(event(name, second, who) for who, second in (("u", 10), ("v", 10), ("w", 30)) for name, second in (("a", 0), ("b", second))),
    )
    assert {name: count for name, count in by_second(found)[0].items() if name[0] in "ch"} == {C0: 3, age(1, 10): 2, age(1, 30): 1}


def test_the_last_stage_has_no_conversions_and_nothing_converts_into_the_first() -> None:
    found = deltas(shard(), event("a", 0), event("b", 1), event("a", 100), event("b", 101))
    assert not {C1, X0} & {name for cells in (*found.buckets.values(), *found.totals.values()) for name in cells}
    assert totals(found)[C0] == totals(found)[X1] == 2


# Widths


def test_every_width_is_counted_and_a_wider_one_sees_no_move_within_it() -> None:
    count = shard("5m", "24h", "7d")
    deltas(count, event("a", 0))
    found = deltas(count, event("a", 50), event("a", 70))
    assert by_second(found, 10) == {0: {U0: -1}, 50: {N0: 1}, 70: {U0: 1, N0: 1, E0: 1}}
    assert by_second(found, 60) == {0: {U0: -1, N0: 1}, 60: {U0: 1, N0: 1, E0: 1}}
    assert by_second(found, HOUR) == {0: {N0: 2, E0: 1}}


def test_entries_are_always_counted_by_the_hour_users_only_where_a_window_asks() -> None:
    found = deltas(shard("24h"), event("a", 50), event("b", 70, paid=1))
    assert {width for _, width, _ in found.buckets} == {60, HOUR}
    assert by_second(found, 60) == {0: {U0: 1, N0: 1, E0: 1, C0: 1, age(1, 20): 1}, 60: {U1: 1, N1: 1, V1: 1_000_000, E1: 1, X1: 1}}
    assert by_second(found, HOUR) == {0: {E0: 1, C0: 1, age(1, 20): 1, E1: 1, X1: 1}}


def test_who_moves_on_changes_no_hour() -> None:
    count = shard("5m")
    deltas(count, event("a", 0))
    assert by_second(deltas(count, event("a", 10)), HOUR) == {}


# Dimensions

BY_D_AND_E = {"d": {"field": "properties.d", "allow": ["ads", "mail"]}, "e": {"field": "properties.e", "allow": ["ios"]}}


def test_a_dimension_is_counted_beside_the_total_each_by_itself() -> None:
    count = shard(dimensions=BY_D_AND_E)
    deltas(count, event("a", 0, d="ads", e="ios"))
    found = deltas(count, event("a", 5, d="mail", e="ios"), event("b", 6, paid=1.5))
    latest = ((), ("d", "mail"), ("e", "ios"))  # u, n and v are those of the latest chain
    opening = ((), ("d", "ads"), ("e", "ios"))  # what became of the entry is its opening's
    cells = {
        cell(USERS, 0, "d", "ads"): -1,
        cell(USERS, 0, "d", "mail"): 1,
        **{cell(EVENTS, 0, *split): 1 for split in ((), ("d", "mail"), ("e", "ios"))},
        **{cell(family, 1, *split): 1 for family in (USERS, EVENTS, ENTRIES) for split in latest},
        **{cell(VALUE, 1, *split): 1_500_000 for split in latest},
        **{cell(CONVERSIONS, 0, *split): 1 for split in opening},
        **{cell(CONVERTED, 1, *split): 1 for split in opening},
        age(1, 6): 1,
    }
    assert (by_second(found), totals(found)) == ({0: cells}, cells)


def test_who_changes_the_value_of_a_dimension_and_back_within_a_chunk_is_no_change_of_users() -> None:
    count = shard(dimensions={"d": BY_D_AND_E["d"]})
    deltas(count, event("a", 0, d="ads"))
    found = deltas(count, event("a", 1, d="mail"), event("a", 2, d="ads"))
    cells = {N0: 2, cell(EVENTS, 0, "d", "mail"): 1, cell(EVENTS, 0, "d", "ads"): 1}
    assert (by_second(found), totals(found)) == ({0: cells}, cells)


def test_a_count_is_named_so_that_no_dimension_can_be_taken_for_another() -> None:
    assert cell(USERS, 0) == "u0"
    assert cell(USERS, 12, "d", "ads") == f"u12{SEPARATOR}d{SEPARATOR}ads"
    assert age_cell(2, 37) == "h2:37"
    assert len({cell(USERS, 1, "d", "e"), cell(USERS, 1, "de", ""), cell(USERS, 1, "", "de"), cell(USERS, 1)}) == 4


# Corrections by late events


def test_what_a_late_event_takes_back_is_counted_since_ever() -> None:
    """So that a counter of reaches never falls: what was taken back is added to what there is."""
    count = shard(order="strict")
    deltas(count, event("a", 0), event("b", 10, paid=3))
    found = deltas(count, event("x", 5))
    assert by_second(found) == {0: {C0: -1, age(1, 10): -1}, 10: {U1: -1, N1: -1, V1: -3_000_000, E1: -1, X1: -1}}
    h, q = age(1, 10), RETRACTED_AGES + age(1, 10)[1:]
    assert totals(found) == {C0: -1, h: -1, q: 1, U1: -1, N1: -1, V1: -3_000_000, E1: -1, X1: -1, cell(RETRACTED, 1): 1}


def test_what_is_taken_back_is_counted_by_value_too() -> None:
    count = shard(dimensions={"d": BY_D_AND_E["d"]})
    deltas(count, event("a", 0, d="ads"), event("b", 10))
    found = totals(deltas(count, event("a", 5, d="mail")))
    assert {name: n for name, n in found.items() if name[0] in EVENTS + RETRACTED} == {
        N0: 1,
        cell(EVENTS, 0, "d", "mail"): 1,
        cell(EVENTS, 1, "d", "mail"): 1,
        cell(EVENTS, 1, "d", "ads"): -1,
        cell(RETRACTED, 1, "d", "ads"): 1,
    }


def test_an_age_that_a_late_event_corrects_moves_to_its_bin() -> None:
    count = shard()
    deltas(count, event("a", 0), event("b", 30))
    found = deltas(count, event("b", 10))
    assert totals(found) == {N1: 1, age(1, 30): -1, RETRACTED_AGES + age(1, 30)[1:]: 1, age(1, 10): 1}
    assert by_second(found) == {0: {age(1, 30): -1, age(1, 10): 1}, 10: {N1: 1, E1: 1, X1: 1}, 30: {E1: -1, X1: -1}}
    assert by_second(found, HOUR) == {0: {age(1, 30): -1, age(1, 10): 1}}


def test_buckets_know_of_no_corrections() -> None:
    count = shard("5m", "24h", "7d", order="strict")
    deltas(count, event("a", 0), event("b", 10))
    found = deltas(count, event("x", 5))
    assert {name[0] for cells in found.buckets.values() for name in cells} == set("unecxh")


@pytest.mark.parametrize("order", ["ordered", "any", "strict"])
@pytest.mark.parametrize("seed", range(3))
def test_what_there_is_and_what_was_taken_back_never_fall_together(order: str, seed: int) -> None:
    chance = random.Random(seed)
    count = shard(order=order, lateness="10m", dimensions={"d": BY_D_AND_E["d"]})
    corrections = 0
    for _ in range(60):
        length = chance.randint(1, 4)
        records = [
            event(chance.choice("aabbx"), chance.randrange(300), chance.choice("uv"), d=chance.choice(("ads", "mail")))
            for _ in range(length)
        ]
        found = totals(deltas(count, *records))
        for name, change in found.items():
            if change < 0 and name[0] in EVENTS + AGES:
                assert found[(RETRACTED if name[0] == EVENTS else RETRACTED_AGES) + name[1:]] == -change
                corrections += 1
        assert all(change > 0 for name, change in found.items() if name[0] in RETRACTED + RETRACTED_AGES)
    assert corrections


# Fates and the watermark


def test_only_fates_that_happened_are_told() -> None:
    found = deltas(shard(), event("x", 0), b"{", b"{", b"[]")
    assert found.fates == {"filtered": 1, "rejected:bad_json": 2, "rejected:bad_type": 1}


def test_a_tail_that_was_full_is_a_reason_to_be_late() -> None:
    count = shard()
    for second in range(3):
        deltas(count, *(event("a", second + n / 100) for n in range(100)))
    assert deltas(count, event("a", 0.005), event("a", -100), event("a", 2.995)).fates == {"late:tail_full": 1, "late": 1, "applied": 1}


def test_the_watermark_is_the_greatest_event_time_and_never_goes_back() -> None:
    count = shard(watermark=AT + 5)
    assert deltas(count, event("a", 3)).watermark_us == (AT + 5) * 1_000_000
    assert deltas(count, event("a", 7), event("x", 9), event("a", 8)).watermark_us == (AT + 9) * 1_000_000
    assert deltas(count, b"{").watermark_us == (AT + 9) * 1_000_000
    assert deltas(shard(), b"{").watermark_us == -1


# A width is kept for the longest window it may serve, so that one can be added, and a minute of slack.
LONGEST_SECONDS = {10: HOUR, 60: 24 * HOUR, HOUR: 30 * 24 * HOUR}
KEPT = (LONGEST_SECONDS[10] + 60) // 10 + 1  # buckets of 10 s behind the one that holds the watermark


def test_a_bucket_that_the_watermark_put_out_of_reach_is_named_once() -> None:
    count = shard("1m")
    deltas(count, event("a", 0))
    before = deltas(count, event("x", KEPT * 10 + 9.999))
    after = deltas(count, event("x", KEPT * 10 + 10))
    assert AT // 10 not in {bucket for _, _, bucket in before.expired}
    assert [(width, bucket * 10 - AT) for _, width, bucket in after.expired] == [(10, 0)]
    assert deltas(count, event("x", KEPT * 10 + 15)).expired == []


def test_a_first_chunk_expires_nothing() -> None:
    assert deltas(shard("1m"), event("a", 0)).expired == []


def test_what_is_out_of_every_windows_reach_is_not_written() -> None:
    found = deltas(shard("1m", watermark=AT), event("a", -KEPT * 10), event("a", -KEPT * 10 - 1, "v"))
    assert by_second(found) == {-KEPT * 10: {U0: 1, N0: 1, E0: 1}}
    assert by_second(found, HOUR) == {-2 * HOUR: {E0: 2}}, "an hour reaches further"
    assert totals(found) == {U0: 2, N0: 2, E0: 2}, "the totals have no reach"


def test_of_a_conversion_only_what_is_within_reach_is_written() -> None:
    """Its entry's bucket may be gone when the bucket in which it came is not."""
    count = shard("1m", watermark=AT)
    deltas(count, event("a", -KEPT * 10 - 1))
    found = deltas(count, event("b", -KEPT * 10 + 5))
    assert by_second(found) == {-KEPT * 10: {U1: 1, N1: 1, E1: 1, X1: 1}}
    assert totals(found)[C0] == totals(found)[age(1, 6)] == 1


def test_who_comes_back_after_the_bucket_expired_is_not_taken_from_it() -> None:
    count = shard("1m")
    deltas(count, event("a", 0))
    assert by_second(deltas(count, event("a", 4000))) == {4000: {U0: 1, N0: 1, E0: 1}}


def test_a_leap_of_years_names_no_more_buckets_than_were_kept() -> None:
    count = shard("1m")
    deltas(count, event("a", 0))
    found = deltas(count, event("x", 10 * 365 * 24 * HOUR))
    by_width = {width: {bucket for _, w, bucket in found.expired if w == width} for width in (10, HOUR)}
    assert len(by_width[10]) == KEPT + 1
    assert len(by_width[HOUR]) == (LONGEST_SECONDS[HOUR] + 60 + 60) // HOUR + 2, "and for the conversion window beyond"
    assert len(found.expired) == len(by_width[10]) + len(by_width[HOUR])
    assert AT // 10 in by_width[10]
    assert AT // HOUR in by_width[HOUR]


@pytest.mark.parametrize("seed", range(10))
def test_no_bucket_is_left_behind_and_none_is_taken_too_early(seed: int) -> None:
    chance = random.Random(seed)
    count = shard("1m", "2h", "25h")
    written: set[BucketKey] = set()
    second = 0.0
    for _ in range(60):
        second += chance.choice([1, 10, 95, 131, 1000, 9000, 200_000, 900_000])
        found = deltas(count, event("a", second - chance.choice([0, 50, 6000]), f"u{chance.random()}"), event("x", second))
        written |= {key for key, cells in found.buckets.items() if cells}
        reached = {width: (AT + second - window) // width + 1 for width, window in LONGEST_SECONDS.items()}
        assert not [key for key in found.expired if key[2] >= reached[key[1]]]
        written -= set(found.expired)
        assert not [key for key in written if key[2] < reached[key[1]] - 60 // key[1] - 2]
