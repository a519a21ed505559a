"""What every record does: in memory, in Valkey, in Redis 7."""

from __future__ import annotations

import random

import pytest
from redis.asyncio import Redis

from schemas.duration import MICROS
from streams.lease import leader_key
from streams.points import HOUR, KEPT_SECONDS, MINUTE, Point, Shape, frame, pack
from streams.rates import Split
from streams.recorder import Entry, Record, RedisRecord
from tests.parts.record import BEGIN, MemoryRecord

FENCE = 1_767_323_050_000_001
DEFINITION = 12
NAMES: dict[int, Split] = {1: ("device", 'i"os'), 2: ("channel", "東京 😀")}


@pytest.fixture
async def record(redis: Redis | None, unique_name: str) -> Record:
    """A new record in which FENCE is the newest token."""
    if redis is None:
        return MemoryRecord(FENCE)
    await redis.set(leader_key(unique_name, "fence"), FENCE)
    return RedisRecord(redis, unique_name)


def entry(minute: int, packed: bytes = b"\x00\xff", fresh: dict[int, Split] | None = None, step: int = MINUTE) -> Entry:
    return Entry(DEFINITION, step, (BEGIN + minute * step) * MICROS, packed, fresh or {})


async def written(record: Record, begin: int = 0, end: int = 10_000, step: int = MINUTE) -> dict[int, bytes]:
    found = await record.points(DEFINITION, step, (BEGIN + begin * step) * MICROS, (BEGIN + end * step) * MICROS)
    return {(at // MICROS - BEGIN) // step: packed for at, packed in found}


async def test_points_are_read_as_they_were_written_by_range_and_step(record: Record) -> None:
    assert await record.write(FENCE, [entry(1, b"a"), entry(1, b"h", step=HOUR)]) == [True, True]
    assert await record.write(FENCE, [entry(2, b"b"), entry(3)]) == [True, True]
    assert await written(record) == {1: b"a", 2: b"b", 3: b"\x00\xff"}
    assert await written(record, 2, 2) == {2: b"b"}
    assert await written(record, step=HOUR) == {1: b"h"}


async def test_a_boundary_is_recorded_once_and_never_before_one_that_is_there(record: Record) -> None:
    await record.write(FENCE, [entry(2, b"first")])
    assert await record.write(FENCE, [entry(2, b"again"), entry(1, b"earlier"), entry(3, b"next")]) == [False, False, True]
    assert await written(record) == {2: b"first", 3: b"next"}


async def test_who_does_not_lead_writes_nothing(record: Record) -> None:
    assert await record.write(FENCE - 1, [entry(1, fresh=NAMES)]) is None
    assert await written(record) == {}
    assert await record.names(DEFINITION) == [{}]


async def test_names_are_there_with_the_first_point_that_needs_them(record: Record) -> None:
    await record.write(FENCE, [entry(1, fresh={1: NAMES[1]}), entry(2, fresh={2: NAMES[2]})])
    assert await record.names(DEFINITION) == [NAMES]
    assert await record.names(DEFINITION + 1, DEFINITION) == [{}, NAMES]


@pytest.mark.parametrize("kind", ["valkey", "redis_server"])
async def test_old_points_go_by_event_time_and_all_of_them_a_week_after_the_last_write(
    redis: Redis, record: Record, unique_name: str
) -> None:
    """Redis drops old entries by whole nodes of a hundred, so some stay a little longer."""
    for minute in range(0, 2 * 2880, 7):
        await record.write(FENCE, [entry(minute, fresh=NAMES)])
    oldest = min(await written(record))
    assert 2 * 2880 - 2880 - 1500 < oldest <= 2 * 2880 - 2880
    for part, seconds in ((MINUTE, KEPT_SECONDS[MINUTE]), ("names", KEPT_SECONDS[HOUR])):
        left = await redis.ttl(leader_key(unique_name, f"history:{DEFINITION}:{part}"))
        assert seconds + 6 * 86_400 < left <= seconds + 7 * 86_400


@pytest.mark.parametrize("kind", ["redis_server"])
async def test_a_number_takes_less_than_two_bytes(redis: Redis, record: Record, unique_name: str) -> None:
    """All that Redis needs for two days of four stages, four windows and twenty values, counts of tens to tens of thousands."""
    chance = random.Random(6)
    shape = Shape(4, (60, 300, 3600, 86_400), tuple(range(21)), worth_by_value=False)
    numbers = [size * chance.randint(1, 9) for _ in shape.splits for size in (10, 50, 600, 9000) for _ in range(4)]
    before: tuple[int, Point] | None = None
    for minute in range(2880):
        numbers = [max(0, n + round(chance.gauss(0, (n + 1) ** 0.5 / 3))) for n in numbers]
        point, at_us = Point(shape, with_worth(numbers)), (BEGIN + minute * 60) * MICROS
        same = before is not None and frame(before[0], MINUTE) == frame(at_us, MINUTE)
        await record.write(FENCE, [entry(minute, pack(point, before[1] if before is not None and same else None))])
        before = at_us, point
    used = await redis.memory_usage(leader_key(unique_name, f"history:{DEFINITION}:60"), samples=0)
    assert used is not None
    assert used < 2 * 2880 * len(with_worth(numbers))


def with_worth(users: list[int]) -> list[int]:
    """The numbers of a point: of the total also whether it is incomplete, and the parts of the adjusted rates."""
    numbers: list[int] = []
    for place in range(0, len(users), 4):
        own = users[place : place + 4]
        total = place < 16
        numbers += ([0, *own, *(n for here in own[1:] for n in (here, 1234 * here))]) if total else own
    return numbers
