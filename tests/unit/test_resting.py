"""A state at rest is small, says the same, and goes when nothing can depend on it any more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.config import Config
from schemas.duration import MICROS
from streams.chains import absolute
from streams.counting import ShardCount
from streams.plan import Plan
from streams.resting import REST_SECONDS, awake, is_at_rest, rested
from streams.tail import unpack_blocks

BEGIN = 1_700_000_000
NAMES = ("view", "cart", "checkout", "pay")


def config(**changes: Any) -> Config:
    funnel = {
        "name": "f",
        "source": "web",
        "conversion_window": "30m",
        "windows": ["5m", "24h"],
        "dimensions": {"channel": "properties.channel"},
        "stages": [{"name": name, "event": name} for name in NAMES],
    }
    return Config.model_validate({"sources": [{"name": "web", "topic": "t", "trust_key": True}], "funnels": [funnel | changes]})


def record(name: str, seconds: int, channel: str = "ads") -> bytes:
    return json.dumps({"event": name, "timestamp": BEGIN + seconds, "user_id": "u", "properties": {"channel": channel}}).encode()


def folded(count: ShardCount, *records: bytes) -> bytes:
    pending = count.decode(0, len(records), list(records), [None] * len(records), 10**18)
    if pending.unknown:
        count.learn(pending, {registry: dict.fromkeys(texts, True) for registry, texts in pending.unknown.items()})
    count.fold(pending)
    return count.states["u"]


def blocks(packed: bytes) -> dict[int, list[Any]]:
    """What a stored state says of every funnel, by definition."""
    return {definition: absolute(cells) for definition, cells in unpack_blocks(awake(packed)[1]).items()}


def plan_of(setup: Config) -> Plan:
    return Plan(setup, setup.sources[0])


WALK = tuple(record(name, 10 * place) for place, name in enumerate(NAMES))


@pytest.mark.parametrize("order", ["ordered", "any", "strict"])
def test_a_state_at_rest_says_the_same_when_it_wakes(order: str) -> None:
    plan = plan_of(config(order=order, conversion_window="2d"))
    packed = folded(ShardCount(plan), *WALK, record("view", 100, "mail"))
    at_rest = rested(plan, packed, (BEGIN + 100 + REST_SECONDS + 1) * MICROS)
    assert at_rest is not None
    assert is_at_rest(at_rest)
    assert not is_at_rest(packed)
    assert awake(at_rest)[0] == awake(packed)[0] == (BEGIN + 100) * MICROS
    assert blocks(at_rest) == blocks(packed)


def test_what_comes_after_the_rest_is_counted_as_if_there_had_been_none() -> None:
    setup = config(conversion_window="2d")
    plain, resting = ShardCount(plan_of(setup)), ShardCount(plan_of(setup))
    for count in (plain, resting):
        folded(count, *WALK[:2])
    at_rest = rested(resting.plan, resting.states["u"], (BEGIN + 20_000) * MICROS)
    assert at_rest is not None
    resting.states["u"] = at_rest
    more = [record("pay", 30_000), record("checkout", 30_001), record("pay", 30_002, "mail")]
    found = [count.fold(count.decode(0, 3, [*more], [None] * 3, 10**18)).write.deltas for count in (plain, resting)]
    assert found[0].buckets == found[1].buckets
    assert found[0].totals == found[1].totals
    assert found[0].fates == found[1].fates == {"applied": 3}


def test_an_event_that_would_go_before_the_rest_is_late() -> None:
    count = ShardCount(plan_of(config()))
    folded(count, *WALK)
    at_rest = rested(count.plan, count.states["u"], (BEGIN + 30 + REST_SECONDS + 1) * MICROS)
    assert at_rest is not None
    count.states["u"] = at_rest
    late = count.decode(0, 1, [record("view", 25)], [None], 10**18)
    assert count.fold(late).write.deltas.fates == {"late:tail_full": 1}


def test_nobody_rests_before_the_watermark_is_an_hour_ahead() -> None:
    plan = plan_of(config())
    packed = folded(ShardCount(plan), *WALK)
    assert rested(plan, packed, (BEGIN + 30 + REST_SECONDS) * MICROS) is packed


def test_chains_and_entries_past_their_window_are_dropped_and_marks_stay() -> None:
    plan = plan_of(config())
    packed = folded(ShardCount(plan), *WALK)
    at_rest = rested(plan, packed, (BEGIN + 30 + REST_SECONDS + 1801) * MICROS)
    assert at_rest is not None
    (cells,) = blocks(at_rest).values()
    assert cells[0::5][:4] == [None] * 4
    assert cells[3::5] == [None] * 4
    assert cells[2::5] == [(BEGIN + 10 * place) // 10 for place in range(4)]
    assert cells[1::5][:4] == ["ads"] * 4
    assert len(at_rest) < 45


def test_a_state_goes_when_its_marks_have_left_every_window() -> None:
    plan = plan_of(config())
    packed = folded(ShardCount(plan), *WALK)
    last = BEGIN + 30
    day = plan.funnels[0].kept[1]
    kept_seconds = day.seconds * (day.count + 1)
    assert rested(plan, packed, (last + kept_seconds) * MICROS) is not None
    assert rested(plan, packed, (last + kept_seconds + REST_SECONDS + 20) * MICROS) is None


def test_a_chain_of_a_long_conversion_window_keeps_its_state() -> None:
    plan = plan_of(config(conversion_window="90d", windows=["5m"]))
    packed = folded(ShardCount(plan), *WALK[:1])
    assert rested(plan, packed, (BEGIN + 89 * 86_400) * MICROS) is not None
    assert rested(plan, packed, (BEGIN + 91 * 86_400) * MICROS) is None


def test_cells_of_a_funnel_that_is_gone_are_kept_for_a_month() -> None:
    packed = folded(ShardCount(plan_of(config(name="gone", windows=["5m"]))), *WALK)
    plan = plan_of(config())
    assert rested(plan, packed, (BEGIN + 30 * 86_400) * MICROS) is not None
    assert rested(plan, packed, (BEGIN + 33 * 86_400) * MICROS) is None
