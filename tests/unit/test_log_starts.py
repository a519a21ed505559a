"""Where logs begin: asked for now and then, never waited for, and kept when no answer comes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from faust.types import TP

from streams.log_starts import EVERY_SECONDS, LogStarts

ZERO, ONE = TP("clicks", 0), TP("clicks", 1)


class Broker:
    """Answers, once it is let to."""

    def __init__(self) -> None:
        self.asked = 0
        self.may = asyncio.Event()
        self.fails = False
        self.starts = {ZERO: 5, ONE: 0}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[Any, int]:
        self.asked += 1
        await self.may.wait()
        if self.fails:
            raise ConnectionError("no broker")
        return {tp: self.starts[tp] for tp in partitions}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_answer_is_asked_for_once_in_a_while_and_not_while_one_is_awaited() -> None:
    broker, clock = Broker(), Clock()
    starts = LogStarts(clock)
    starts.look(broker, [])
    starts.look(broker, [ZERO, ONE])
    await settle()
    clock.now += EVERY_SECONDS
    starts.look(broker, [ZERO, ONE])
    await settle()
    assert (broker.asked, starts.known) == (1, {})
    broker.may.set()
    await settle()
    assert starts.known == {ZERO: 5, ONE: 0}
    starts.look(broker, [ZERO])
    await settle()
    assert (broker.asked, starts.known) == (2, {ZERO: 5}), "of a partition that went nothing is known any more"
    starts.look(broker, [ZERO])
    await settle()
    assert broker.asked == 2
    await starts.close()


async def test_what_was_known_stays_when_the_broker_does_not_answer_which_is_said_once() -> None:
    broker, clock = Broker(), Clock()
    broker.may.set()
    starts = LogStarts(clock)
    starts.look(broker, [ZERO])
    await settle()
    broker.fails = True
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            clock.now += EVERY_SECONDS
            starts.look(broker, [ZERO])
            await settle()
    assert starts.known == {ZERO: 5}
    assert [line["event"] for line in logs] == ["where the logs begin cannot be read, trying again"]
    await starts.close()


async def test_closing_awaits_no_answer() -> None:
    broker = Broker()
    starts = LogStarts(Clock())
    starts.look(broker, [ZERO])
    await settle()
    await asyncio.wait_for(starts.close(), 1)
    await LogStarts().close()
