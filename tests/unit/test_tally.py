"""What one chunk changes: only what differs, in every width of bucket, in total and by value."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from schemas.config import Config
from streams.counting import ShardCount
from streams.plan import SEPARATOR, Plan
from streams.tally import BucketKey, Deltas
from streams.windows import EVENTS, USERS, VALUE, Cells, cell

HOUR = 3600
AT = 469_444 * HOUR  # a boundary of every width of bucket; 2023-07-22T04:00:00Z


def shard(*windows: str, watermark: int = -1, **changes: Any) -> ShardCount:
    """A shard of one funnel: a, then b, which has a value."""
    stages = [{"name": "1", "event": "a"}, {"name": "2", "event": "b", "value": "properties.paid"}]
    funnel = {"name": "f", "source": "web", "conversion_window": "60s", "windows": windows or ("5m",), "stages": stages} | changes
    web = {"name": "web", "topic": "clicks", "trust_key": True, "max_skew": "0s"}
    config = Config.model_validate({"sources": [web], "funnels": [funnel]})
    return ShardCount(Plan(config, config.sources[0]), watermark if watermark < 0 else watermark * 1_000_000)


def event(name: str, second: float, entity: str = "u", **properties: Any) -> bytes:
    return json.dumps({"event": name, "timestamp": AT + second, "user_id": entity, "properties": properties}).encode()


def deltas(count: ShardCount, *records: bytes) -> Deltas:
    return count.fold(count.decode(0, len(records), records, [None] * len(records), 10**18)).write.deltas


def by_second(found: Deltas, width: int = 10) -> dict[int, Cells]:
    """The deltas of one width, by the second their bucket begins at."""
    return {bucket * width - AT: cells for (_, w, bucket), cells in found.buckets.items() if w == width and cells}


def test_who_reaches_a_stage_is_one_user_and_one_event_of_its_bucket() -> None:
    found = deltas(shard(), event("a", 9), event("a", 10, "v"))
    assert by_second(found) == {0: {cell(USERS, 0): 1, cell(EVENTS, 0): 1}, 10: {cell(USERS, 0): 1, cell(EVENTS, 0): 1}}
    assert list(found.totals.values()) == [{cell(USERS, 0): 2, cell(EVENTS, 0): 2}]


def test_who_reaches_it_again_moves_to_the_new_bucket() -> None:
    count = shard()
    deltas(count, event("a", 0))
    found = deltas(count, event("a", 10))
    assert by_second(found) == {0: {cell(USERS, 0): -1}, 10: {cell(USERS, 0): 1, cell(EVENTS, 0): 1}}
    assert list(found.totals.values()) == [{cell(EVENTS, 0): 1}]


def test_who_moves_within_a_bucket_changes_its_events_only() -> None:
    count = shard()
    deltas(count, event("a", 0))
    assert by_second(deltas(count, event("a", 9.999))) == {0: {cell(EVENTS, 0): 1}}


def test_what_moves_within_one_chunk_leaves_no_trace_between() -> None:
    found = deltas(shard(), event("a", 0), event("a", 10), event("a", 20))
    assert by_second(found) == {0: {cell(EVENTS, 0): 1}, 10: {cell(EVENTS, 0): 1}, 20: {cell(USERS, 0): 1, cell(EVENTS, 0): 1}}


def test_every_width_is_counted_and_a_wider_one_sees_no_move_within_it() -> None:
    count = shard("5m", "24h", "7d")
    deltas(count, event("a", 0))
    found = deltas(count, event("a", 50), event("a", 70))
    assert by_second(found, 10) == {0: {cell(USERS, 0): -1}, 50: {cell(EVENTS, 0): 1}, 70: {cell(USERS, 0): 1, cell(EVENTS, 0): 1}}
    assert by_second(found, 60) == {0: {cell(USERS, 0): -1, cell(EVENTS, 0): 1}, 60: {cell(USERS, 0): 1, cell(EVENTS, 0): 1}}
    assert by_second(found, HOUR) == {0: {cell(EVENTS, 0): 2}}


def test_only_the_widths_of_its_windows_are_counted() -> None:
    assert {width for _, width, _ in deltas(shard("24h"), event("a", 0)).buckets} == {60}


def test_a_dimension_is_counted_beside_the_total_each_by_itself() -> None:
    count = shard(dimensions={"d": {"field": "properties.d", "allow": ["ads", "mail"]}, "e": {"field": "properties.e", "allow": ["ios"]}})
    deltas(count, event("a", 0, d="ads", e="ios"))
    found = deltas(count, event("a", 5, d="mail", e="ios"), event("b", 6, paid=1.5))
    cells = {
        cell(EVENTS, 0): 1,
        cell(EVENTS, 0, "d", "mail"): 1,
        cell(EVENTS, 0, "e", "ios"): 1,
        cell(USERS, 0, "d", "ads"): -1,
        cell(USERS, 0, "d", "mail"): 1,
        **{cell(f, 1): 1 for f in (USERS, EVENTS)},
        **{cell(f, 1, d, v): 1 for f in (USERS, EVENTS) for d, v in (("d", "mail"), ("e", "ios"))},
        **{cell(VALUE, 1, *split): 1_500_000 for split in ((), ("d", "mail"), ("e", "ios"))},
    }
    assert (by_second(found), list(found.totals.values())) == ({0: cells}, [cells])


def test_values_that_cancel_out_are_no_change() -> None:
    found = deltas(shard(), event("a", 0), event("b", 1, paid=2.5), event("b", 2, paid=-2.5))
    cells = {cell(USERS, 0): 1, cell(EVENTS, 0): 1, cell(USERS, 1): 1, cell(EVENTS, 1): 2}
    assert (by_second(found), list(found.totals.values())) == ({0: cells}, [cells])


def test_who_changes_the_value_of_a_dimension_and_back_within_a_chunk_is_no_change_of_users() -> None:
    count = shard(dimensions={"d": {"field": "properties.d", "allow": ["ads", "mail"]}})
    deltas(count, event("a", 0, d="ads"))
    found = deltas(count, event("a", 1, d="mail"), event("a", 2, d="ads"))
    cells = {cell(EVENTS, 0): 2, cell(EVENTS, 0, "d", "mail"): 1, cell(EVENTS, 0, "d", "ads"): 1}
    assert (by_second(found), list(found.totals.values())) == ({0: cells}, [cells])


def test_what_reaches_nothing_changes_nothing() -> None:
    found = deltas(shard(), event("b", 0))
    assert (by_second(found), [cells for cells in found.totals.values() if cells]) == ({}, [])
    assert found.fates == {"applied": 1}


def test_only_fates_that_happened_are_told() -> None:
    found = deltas(shard(), event("x", 0), b"{", b"{", b"[]")
    assert found.fates == {"filtered": 1, "rejected:bad_json": 2, "rejected:bad_type": 1}


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
    assert by_second(found) == {-KEPT * 10: {cell(USERS, 0): 1, cell(EVENTS, 0): 1}}
    assert list(found.totals.values()) == [{cell(USERS, 0): 2, cell(EVENTS, 0): 2}], "the totals have no reach"


def test_who_comes_back_after_the_bucket_expired_is_not_taken_from_it() -> None:
    count = shard("1m")
    deltas(count, event("a", 0))
    assert by_second(deltas(count, event("a", 4000))) == {4000: {cell(USERS, 0): 1, cell(EVENTS, 0): 1}}


def test_a_leap_of_years_names_no_more_buckets_than_were_kept() -> None:
    count = shard("1m")
    deltas(count, event("a", 0))
    found = deltas(count, event("x", 10 * 365 * 24 * HOUR))
    assert len(found.expired) == KEPT + 1
    assert AT // 10 in {bucket for _, _, bucket in found.expired}


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


def test_a_count_is_named_so_that_no_dimension_can_be_taken_for_another() -> None:
    assert cell(USERS, 0) == "u0"
    assert cell(USERS, 12, "d", "ads") == f"u12{SEPARATOR}d{SEPARATOR}ads"
    assert len({cell(USERS, 1, "d", "e"), cell(USERS, 1, "de", ""), cell(USERS, 1, "", "de"), cell(USERS, 1)}) == 4
