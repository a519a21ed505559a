"""What a pause in long work gives to others on the loop."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator
from itertools import pairwise

import pytest

from streams import pauses


class Busy:
    """Somebody who is at work for a while in each of some rounds of the loop."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds

    async def work(self) -> None:
        while self.left:
            until = time.perf_counter() + 4 * pauses.QUIET_SECONDS
            while time.perf_counter() < until:
                pass
            self.left -= 1
            await asyncio.sleep(0)


async def test_others_have_the_loop_for_as_many_rounds_as_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "GIVEN_SECONDS_MAX", 60.0)
    other = Busy(rounds=20)
    working = asyncio.create_task(other.work())
    await pauses.give_way()
    assert other.left == 0
    await working


async def test_who_never_rests_does_not_keep_the_work_from_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "GIVEN_SECONDS_MAX", 0.002)
    other = Busy(rounds=2_000)
    working = asyncio.create_task(other.work())
    await pauses.give_way()
    assert 0 < other.left < 2_000
    other.left = 0
    await working


class Ring:
    """Holds itself, so that only the collector can let it go."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def nothing_by_itself() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("nothing_by_itself")
def test_what_is_new_and_of_no_use_goes_at_once_and_what_grew_old_within_an_hour() -> None:
    collecting = pauses.Collecting(100.0)
    new, old = Ring(), Ring()
    gone = [weakref.ref(new), weakref.ref(old)]
    del new
    collecting.tick(100.1, behind=False)
    assert [ref() is None for ref in gone] == [False, False]
    collecting.tick(100.25, behind=False)
    assert [ref() is None for ref in gone] == [True, False]
    del old  # which has been looked at before
    collecting.tick(102.0, behind=False)
    assert gone[1]() is not None
    collecting.tick(100.0 + pauses.ALL_SECONDS, behind=False)
    assert gone[1]() is None


@pytest.mark.parametrize(("took", "seconds"), [(0.001, 0.25), (0.03, 0.6), (0.2, 1)])
@pytest.mark.usefixtures("nothing_by_itself")
def test_looking_at_what_is_new_takes_its_share_of_the_time(took: float, seconds: float) -> None:
    clock = iter([7.0, 7.0 + took, 50.0, 50.0])
    collecting = pauses.Collecting(100.0, lambda: next(clock))
    collecting.tick(101.0, behind=False)
    ring = Ring()
    gone = weakref.ref(ring)
    del ring
    collecting.tick(101.0 + seconds - 0.01, behind=False)
    assert gone() is not None
    collecting.tick(101.0 + seconds + 0.01, behind=False)
    assert gone() is None


@pytest.mark.usefixtures("nothing_by_itself")
def test_where_records_wait_what_is_new_is_put_aside_until_everything_is_looked_at() -> None:
    collecting = pauses.Collecting(100.0)
    ring, frozen = Ring(), gc.get_freeze_count()
    gone = weakref.ref(ring)
    collecting.tick(101.0, behind=True)
    assert gc.get_freeze_count() > frozen
    del ring
    collecting.tick(150.0, behind=False)
    assert gone() is not None
    collecting.tick(100.0 + pauses.ALL_SECONDS, behind=True)
    assert gone() is None
    assert gc.get_freeze_count() == 0


async def test_columns_are_let_go_of_some_rows_at_a_time() -> None:
    columns: list[list[int]] = [list(range(40)), [1], []]
    sizes = [len(columns[0])]
    letting = asyncio.create_task(pauses.let_go(columns, 10))
    while not letting.done():
        await asyncio.sleep(0)
        sizes.append(len(columns[0]))
    assert columns == [[], [], []]
    assert max(before - after for before, after in pairwise(sizes)) == 10


async def test_work_gives_way_each_time_that_it_went_on_for_a_millisecond() -> None:
    now = 0.0
    given: list[float] = []

    async def others() -> None:
        while True:
            given.append(now)
            await asyncio.sleep(0)

    stretches = pauses.Stretches(lambda: now)
    waiting = asyncio.create_task(others())
    for part in (0.0004, 0.0004, 0.0004, 0.0001, 0.003, 0.0002):
        now += part
        await stretches.pause()
    waiting.cancel()
    assert sorted({round(at * 1e4) for at in given}) == [12, 43]
