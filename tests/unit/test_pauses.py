"""What a pause in long work gives to others on the loop."""

from __future__ import annotations

import asyncio
import time

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
