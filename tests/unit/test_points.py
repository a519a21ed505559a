"""Points of the record: when they are due, what they hold, and that their bytes say the same again."""

from __future__ import annotations

import random

import pytest

from schemas.duration import MICROS
from streams.points import FRAME, HOUR, MINUTE, TOTAL, Names, Point, Shape, due, frame, in_time, pack, taking, unpack
from streams.rates import stage_reports
from streams.turns import at_once
from tests.parts.record import BEGIN, Shop

take = at_once(taking)

SHAPE = Shape(2, (60, 300), (TOTAL, 1, 4), worth_by_value=False)


def everything(shape: Shape) -> range:
    return range(len(shape.windows) * (1 + 2 + 2 + 2 * (len(shape.splits) - 1)))


def drawn(chance: random.Random, shape: Shape = SHAPE) -> Point:
    return Point(shape, [chance.choice((0, 1, 200, 10**6, 2**40)) for _ in everything(shape)])


def read(entries: list[tuple[int, bytes]]) -> dict[int, Point]:
    return {at: Point(shape, numbers) for at, shape, numbers in unpack(entries, everything)}


def test_the_newest_boundary_is_due_once_and_those_missed_never() -> None:
    at_us = (BEGIN + 3 * MINUTE + 1) * MICROS
    newest = (BEGIN + 3 * MINUTE) * MICROS
    assert due(at_us, MINUTE, -1) == newest
    assert due(at_us, MINUTE, newest) is None
    assert due(at_us, HOUR, -1) == BEGIN * MICROS


@pytest.mark.parametrize(
    ("window", "seconds", "held"), [(10, 2, True), (10, 3, False), (60, 5, True), (60, 6, False), (86_400, 7200, True)]
)
def test_a_window_is_recorded_while_t_is_past_it_by_a_twelfth_at_most(window: int, seconds: int, held: bool) -> None:
    assert in_time(window, BEGIN * MICROS, (BEGIN + seconds) * MICROS) is held


def test_what_was_packed_is_read_again_whole_and_by_differences() -> None:
    chance = random.Random(1)
    points = [drawn(chance) for _ in range(40)]
    entries = [(0, pack(points[0]))] + [(n, pack(points[n], points[n - 1])) for n in range(1, 40)]
    assert read(entries) == dict(enumerate(points))


def test_a_point_of_another_shape_is_packed_whole() -> None:
    chance = random.Random(2)
    other = Shape(2, (60,), (TOTAL, 1, 4), worth_by_value=False)
    first, second, third = drawn(chance), drawn(chance, other), drawn(chance, other)
    packed = [(0, pack(first)), (1, pack(second, first)), (2, pack(third, second))]
    assert read(packed) == {0: first, 1: second, 2: third}
    assert read(packed[1:]) == {1: second, 2: third}


def test_reading_begins_at_a_whole_point_and_goes_on_after_what_it_cannot_read() -> None:
    chance = random.Random(3)
    points = [drawn(chance) for _ in range(4)]
    packed = [(0, pack(points[0])), (1, pack(points[1], points[0])), (2, pack(points[2])), (3, pack(points[3], points[2]))]
    assert read(packed[1:]) == {2: points[2], 3: points[3]}
    assert read([packed[0], (1, b"torn"), *packed[2:]]) == {0: points[0], 2: points[2], 3: points[3]}
    assert read([(0, b"torn"), packed[1]]) == {}


def test_only_what_is_asked_for_is_read() -> None:
    chance = random.Random(4)
    first, second = drawn(chance), drawn(chance)
    place = SHAPE.place(4, 300)
    assert place is not None
    entries = [(0, pack(first)), (1, pack(second, first))]
    found = [numbers for _, _, numbers in unpack(entries, lambda _: range(place, place + 2))]
    assert found == [list(p.numbers[place : place + 2]) for p in (first, second)]


@pytest.mark.parametrize("by_value", [False, True])
def test_every_number_has_its_own_place(by_value: bool) -> None:
    shape = Shape(3, (60, 300), (TOTAL, 2, 9), by_value)
    taken: list[int] = []
    for split in shape.splits:
        for window in shape.windows:
            place = shape.place(split, window)
            assert place is not None
            begin = place - (split == TOTAL)
            taken += range(begin, place + 3 + (4 if shape.has_worth(split) else 0))
    assert sorted(taken) == list(range(len(taken)))
    assert (shape.place(3, 60), shape.place(2, 61)) == (None, None)


def test_frames_are_of_fifteen_points() -> None:
    assert frame(BEGIN * MICROS, MINUTE) == frame((BEGIN + (FRAME - 1) * MINUTE) * MICROS, MINUTE)
    assert frame((BEGIN + FRAME * MINUTE) * MICROS, MINUTE) == frame(BEGIN * MICROS, MINUTE) + 1


async def test_a_point_holds_what_the_report_showed_when_its_window_closed() -> None:
    """The report at the last moment before the boundary, while nobody came after it; in total and by value."""
    shop = Shop()
    await shop.run(7200)
    view = shop.reader.views["web"]
    counts = view.counts["f"]
    windows = shop.config.windows_of(counts.plan.funnel)
    names = Names()
    point = take(counts, view.adjusted("f"), [int(w) for w in windows], shop.at_us, shop.at_us, names, lambda _: False, worth_by_value=True)
    assert point is not None
    for window in windows:
        for split, number in [(None, TOTAL), *names.numbers.items()]:
            shown = stage_reports(counts, window, shop.at_us - 1, *(split or ()))
            place = point.shape.place(number, int(window))
            assert place is not None
            assert list(point.numbers[place : place + 2]) == [stage.users for stage in shown]
            assert shown[0].users > 20
    place = point.shape.place(TOTAL, 300)
    assert place is not None
    observed, worth = point.numbers[place + 2], point.numbers[place + 3] / 1000
    assert observed / worth == pytest.approx(0.5, abs=0.1)


async def test_a_point_is_taken_in_as_many_steps_as_there_are_windows_of_values() -> None:
    """Those whose entries are weighed by their age, which is most of the work."""
    shop = Shop()
    await shop.run(600)
    view = shop.reader.views["web"]
    names = Names()
    steps = taking(view.counts["f"], view.adjusted("f"), [60, 300], shop.at_us, shop.at_us, names, lambda _: False, worth_by_value=True)
    assert len(list(steps)) == 2 * (1 + len(names.numbers)) > 2


async def test_who_comes_again_after_the_boundary_is_still_in_the_window_that_ended_there() -> None:
    """The mark moves out of the window's buckets, and the point counts it nevertheless."""
    shop = Shop()
    await shop.run(600)
    view = shop.reader.views["web"]
    counts = view.counts["f"]
    boundary_us = shop.at_us
    before = take(counts, view.adjusted("f"), [300], boundary_us, shop.at_us, Names(), lambda _: False)
    shop.now -= 300  # the same people, five minutes later
    shop._to_come = [(boundary_us // MICROS + 1, "view", "ios", second % 5000) for second in range(shop.now, shop.now + 300, 2)]
    shop.now += 310
    await shop._write()
    await shop.reader.tick()
    counts = shop.reader.views["web"].counts["f"]
    after = take(counts, view.adjusted("f"), [300], boundary_us, shop.at_us, Names(), lambda _: False)
    assert before is not None
    assert after is not None
    assert after.numbers[1] == before.numbers[1] == 300


async def test_a_window_that_t_is_too_far_past_is_left_out() -> None:
    shop = Shop()
    await shop.run(600)
    view = shop.reader.views["web"]
    point = take(view.counts["f"], view.adjusted("f"), [60, 300], shop.at_us - 10 * MICROS, shop.at_us, Names(), lambda _: True)
    assert point is not None
    assert point.shape.windows == (300,)
    assert point.numbers[0] == 1
    assert take(view.counts["f"], view.adjusted("f"), [60], shop.at_us - 10 * MICROS, shop.at_us, Names(), lambda _: False) is None
