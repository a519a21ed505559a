"""What a pause in long work gives to others on the loop."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator

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
def test_what_is_new_and_of_no_use_goes_within_a_second_and_what_grew_old_within_an_hour() -> None:
    collecting = pauses.Collecting(100.0)
    new, old = Ring(), Ring()
    gone = [weakref.ref(new), weakref.ref(old)]
    del new
    collecting.tick(100.5)
    assert [ref() is None for ref in gone] == [False, False]
    collecting.tick(101.0)
    assert [ref() is None for ref in gone] == [True, False]
    del old  # which has been looked at before
    collecting.tick(102.0)
    assert gone[1]() is not None
    collecting.tick(100.0 + pauses.ALL_SECONDS)
    assert gone[1]() is None


@pytest.mark.usefixtures("nothing_by_itself")
def test_looking_at_what_is_new_takes_no_more_than_its_share_of_the_time() -> None:
    clock = iter([7.0, 7.1, 50.0, 50.001, 60.0, 60.001])  # a tenth of a second, then a millisecond
    collecting = pauses.Collecting(100.0, lambda: next(clock))
    collecting.tick(101.0)
    ring = Ring()
    gone = weakref.ref(ring)
    del ring
    collecting.tick(101.0 + 0.1 / pauses.COLLECTING_SHARE - 0.5)
    assert gone() is not None
    collecting.tick(101.0 + 0.1 / pauses.COLLECTING_SHARE)
    assert gone() is None
    soon = weakref.ref(Ring())
    collecting.tick(102.5 + 0.1 / pauses.COLLECTING_SHARE)
    assert soon() is None
