"""What a worker does beside counting, tick by tick."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import cast

import pytest
from aiokafka import TopicPartition
from pydantic import SecretStr

from schemas.duration import Duration
from schemas.report import AlertState
from schemas.settings import RedisSettings, Settings, WorkerSettings
from streams import service as module
from streams.custody import Custodian
from streams.embedded import Valkey
from streams.service import Service
from streams.web.stream import select
from tests.parts.alerts import until
from tests.unit.test_reader import CONFIG, Writer, event


async def test_what_is_counted_between_two_ticks_is_seen_before_the_next(
    valkey: Valkey, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    redis = RedisSettings(url=SecretStr(valkey.url), prefix=unique_name)
    service = Service(CONFIG, Settings(redis=redis, worker=WorkerSettings(tick_seconds=600)), "test")
    running = asyncio.create_task(service.run())

    def seen() -> int:
        return int(json.loads(service.hub.renderings.of(("f", Duration("1m"), None, "users")).body)["stages"][0]["users"])

    try:
        await until(lambda: service.reader.read_at is not None)
        writer = Writer(service.ledger)  # type: ignore[arg-type]  # a ledger is all that it needs
        for people in (1, 2):
            await writer.write(event("a", people, f"p{people}"))
            await until(lambda: seen() == people)  # noqa: B023
        assert service.hub.tick == 1
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await service.close()


class Told:
    """In the place of the collector's."""

    def __init__(self, now: float) -> None:
        self.behind: list[bool] = []

    def tick(self, now: float, *, behind: bool) -> None:
        self.behind.append(behind)


async def test_the_collector_is_told_whether_records_wait(valkey: Valkey, unique_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Collecting", Told)
    service = Service(CONFIG, Settings(redis=RedisSettings(url=SecretStr(valkey.url), prefix=unique_name)), "test")
    first, second = (TopicPartition("clicks", number) for number in (0, 1))
    ends = {first: 0, second: module.BEHIND_RECORDS}
    partitions = [SimpleNamespace(tp=tp, shard=f"web:{tp.partition}", stored=stored) for tp, stored in ((first, 500), (second, 10))]
    service.custodian = cast("Custodian", SimpleNamespace(partitions=lambda: partitions, consumer=SimpleNamespace(highwater=ends.get)))
    try:
        await service._read()
        ends[first] = 600
        await service._read()
        assert cast("Told", service._collecting).behind == [False, True]
    finally:
        await service.close()


def asks(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that its ledger is asked for, from now on."""
    found: list[str] = []
    shards = service.ledger.shards

    async def noted(source: str) -> list[str]:
        found.append(source)
        return await shards(source)

    monkeypatch.setattr(service.ledger, "shards", noted)
    return found


async def test_pages_have_what_was_read_however_long_rules_take_to_be_judged(
    valkey: Valkey, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question to Redis waits behind what is being counted, and judging is several of them: the next is asked meanwhile."""
    judged = asyncio.Event()
    judging: list[int] = []

    async def evaluate(*_: object) -> None:
        judging.append(users())
        await judged.wait()
        judging.append(users())

    def users() -> int:
        return service.reader.report("f", Duration("1m")).stages[0].users

    monkeypatch.setattr(Service, "_evaluate", evaluate)
    service = Service(CONFIG, Settings(redis=RedisSettings(url=SecretStr(valkey.url), prefix=unique_name)), "test")
    writer = Writer(service.ledger)  # type: ignore[arg-type]  # a ledger is all that it needs
    service.hub.join(select(CONFIG, (), None, "users", None))
    asked = asks(service, monkeypatch)
    running = asyncio.create_task(service.run())
    try:
        await until(lambda: judging == [0] and service.hub.tick == 1)
        await writer.write(event("a", 1))
        asked.clear()
        await until(lambda: bool(asked))
        assert (users(), service.hub.tick) == (0, 1), "counts stay as they are while rules are judged by them"
        judged.set()
        await until(lambda: users() == 1)
        assert judging[:2] == [0, 0]
    finally:
        judged.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await service.close()


async def test_while_rules_are_judged_nobody_looks_between_ticks_for_whom_the_next_would_wait(
    valkey: Valkey, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    service = Service(CONFIG, Settings(redis=RedisSettings(url=SecretStr(valkey.url), prefix=unique_name)), "test")
    asked = asks(service, monkeypatch)
    judged = asyncio.Event()

    async def judge() -> bool:
        return await judged.wait()

    async def looks(took: float = 0.0) -> int:
        asked.clear()
        service._reading_took = took
        await service._look_until(asyncio.get_running_loop().time() + 0.3)
        return len(asked)

    try:
        service._leading = asyncio.create_task(judge())
        assert await looks() == 0
        judged.set()
        await service._led()
        assert await looks() > 0
        assert await looks(took=1.0) == 0, "the last reading took longer than there is until the tick"
    finally:
        await service.close()


async def test_alerts_that_were_asked_for_earlier_and_came_later_are_not_shown(
    valkey: Valkey, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(CONFIG, Settings(redis=RedisSettings(url=SecretStr(valkey.url), prefix=unique_name)), "test")
    answers: list[asyncio.Future[list[AlertState]]] = []

    async def answered(_: Service) -> list[AlertState]:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    monkeypatch.setattr(Service, "alert_states", answered)
    try:
        first, second = (asyncio.create_task(service._states_now()) for _ in range(2))
        await until(lambda: len(answers) == 2)
        old, new = cast("list[AlertState]", ["old"]), cast("list[AlertState]", ["new"])
        answers[1].set_result(new)
        await second
        answers[0].set_result(old)
        assert await first == old
        assert service._states == new
    finally:
        await service.close()


async def test_a_tick_asks_for_the_alerts_once_for_metrics_and_pages(
    valkey: Valkey, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    alert_states = Service.alert_states

    async def counted(self: Service) -> list[AlertState]:
        asked.append(self.hub.tick)
        return await alert_states(self)

    monkeypatch.setattr(Service, "alert_states", counted)
    service = Service(CONFIG, Settings(redis=RedisSettings(url=SecretStr(valkey.url), prefix=unique_name)), "test")
    try:
        await service._tick()  # nobody led when it began, and nobody listens yet
        await service._led()
        assert asked == [1], "who has come to lead needs them for the metrics"
        page = service.hub.join(select(CONFIG, (), None, "users", None))
        await service._tick()
        await service._tick()
        await service._led()
        assert asked == [1, 1, 2]
        service.hub.leave(page)
    finally:
        await service.close()
