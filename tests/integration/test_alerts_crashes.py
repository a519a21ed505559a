"""Whatever dies, sleeps or comes back: every transition is told at least once, under one key, in order, and none is made up."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis

from alerting.outbox import OutboxEntry
from alerting.store import RedisAlertStore
from schemas.report import Transition
from schemas.settings import WorkerSettings
from streams.lease import leader_key
from tests.parts.alert_worker import Nursery, Part
from tests.parts.alerts import until
from tests.parts.receiver import Receiver, Request
from tests.parts.redis import RedisServer

KILLS, WOKEN, TRIES_MAX = 50, 6, 120
TAKEOVER_SECONDS_MAX = 10.0


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    with Nursery(tmp_path / "workers.log") as made:
        yield made


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with Receiver().running() as receiver:
        yield receiver


class Stage:
    """A play, and what can be seen of it from outside: in Redis, and where notifications arrive."""

    def __init__(self, client: Redis, part: Part, hook: Receiver) -> None:
        self.client, self.part, self.hook = client, part, hook
        self.store = RedisAlertStore(client, part.prefix)

    async def newest(self) -> Transition | None:
        return next(iter(await self.store.transitions(1)), None)

    async def moves_on(self) -> Transition:
        """Wait for the next transition."""
        before = await self.newest()

        async def moved() -> bool:
            return await self.newest() != before

        await until(moved)
        after = await self.newest()
        assert after is not None
        return after

    async def leader(self) -> str:
        return (await self.client.get(leader_key(self.part.prefix, "lease")) or b"").decode()

    async def waiting(self) -> list[OutboxEntry]:
        return await self.store.outbox()

    async def empties(self) -> None:
        """Wait until all that is to be told was told; the play must be over."""

        async def empty() -> bool:
            return not await self.waiting()

        await until(empty)

    async def check(self, least: int) -> None:
        """Every transition that was stored arrived, in order, under one key; and the stored ones are sound."""
        stored = [t for t in reversed(await self.store.transitions()) if t.state in ("firing", "resolved")]
        for rule in ("CheckoutToPayLow", "Second"):
            history = [t for t in stored if t.rule == rule]
            assert len(history) >= least
            assert all(before.at < after.at and before.state != after.state for before, after in pairwise(history))
            assert first_seen(self.hook.requests, rule) == keys_of(history)
        assert {r.headers["idempotency-key"] == r.body["key"] for r in self.hook.requests} == {True}


def keys_of(history: Sequence[Transition]) -> list[str]:
    """The keys under which a rule's transitions are told: by the beginning of the incident, and its status."""
    keys, began = [], 0
    for told in history:
        began = round(told.at.timestamp() * 1_000_000) if told.state == "firing" else began
        keys.append(f"{told.rule}/{began}/{told.state}")
    return keys


def first_seen(requests: Sequence[Request], rule: str) -> list[str]:
    """Keys in the order of their first arrival."""
    return list(dict.fromkeys(r.body["key"] for r in requests if r.body["transition"]["rule"] == rule))


async def test_a_kill_between_a_change_of_state_and_its_delivery_costs_nothing(
    redis_server: RedisServer, nursery: Nursery, hook: Receiver, unique_name: str
) -> None:
    """Fifty times SIGKILL, each as soon as a transition is stored and while its notification waits."""
    part = Part(redis_server.url, unique_name, hook.url, begun=time.time())
    hit = 0
    async with Redis.from_url(redis_server.url) as client:
        stage = Stage(client, part, hook)
        for number in range(TRIES_MAX):
            pid = nursery.spawn(replace(part, owner=f"worker {number}"))
            told = await stage.moves_on()
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.01)
            hit += told in [entry.notification.transition for entry in await stage.waiting()]
            if hit == KILLS:
                break
        assert hit == KILLS
        ends = (time.time() - part.begun) * part.speed
        nursery.spawn(replace(part, owner="the last", ends=ends))
        await stage.empties()
        await stage.check(least=KILLS // 2)


async def test_a_leader_that_was_stopped_and_wakes_changes_nothing(
    redis_server: RedisServer, nursery: Nursery, hook: Receiver, unique_name: str
) -> None:
    """Two fight for the lease; whoever has it is stopped in the middle of an evaluation until the other has evaluated."""
    part = Part(redis_server.url, unique_name, hook.url, begun=time.time(), dawdle_seconds=0.05)
    async with Redis.from_url(redis_server.url) as client:
        stage = Stage(client, part, hook)
        pids = {owner: nursery.spawn(replace(part, owner=owner)) for owner in ("a", "b")}
        await stage.moves_on()
        for _ in range(TRIES_MAX):
            await asyncio.sleep(random.random() * 0.1)
            await until(lambda: _is_another(stage, ""))
            old = await stage.leader()
            os.kill(pids[old], signal.SIGSTOP)
            await until(lambda old=old: _is_another(stage, old))
            await stage.moves_on()
            os.kill(pids[old], signal.SIGCONT)
            await stage.moves_on()
            if nursery.refused() >= WOKEN:
                break
        assert nursery.refused() >= WOKEN, "too few were stopped in the middle of an evaluation"
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        nursery.spawn(replace(part, owner="the last", ends=(time.time() - part.begun) * part.speed))
        await stage.empties()
        await stage.check(least=WOKEN)


async def _is_another(stage: Stage, old: str) -> bool:
    return await stage.leader() not in ("", old)


@pytest.mark.alone
async def test_another_takes_over_within_ten_seconds_of_a_kill(
    redis_server: RedisServer, nursery: Nursery, hook: Receiver, unique_name: str
) -> None:
    """With the settings that workers have unless told otherwise."""
    usual = WorkerSettings()
    part = Part(
        redis_server.url, unique_name, hook.url, begun=time.time(), speed=20.0,
        lease_seconds=usual.lease_seconds, tick_seconds=usual.tick_seconds,
    )  # fmt: skip
    async with Redis.from_url(redis_server.url) as client:
        stage = Stage(client, part, hook)
        pids = {owner: nursery.spawn(replace(part, owner=owner)) for owner in ("a", "b")}
        await stage.moves_on()
        old = await stage.leader()
        os.kill(pids[old], signal.SIGKILL)
        began, evaluated = time.monotonic(), max(state.at_us or 0 for state in (await stage.store.states()).values())

        async def evaluates() -> bool:
            return max(state.at_us or 0 for state in (await stage.store.states()).values()) > evaluated

        await until(evaluates)
        assert time.monotonic() - began < TAKEOVER_SECONDS_MAX
        assert await stage.leader() not in ("", old)


async def test_a_redis_that_crashes_in_the_middle_costs_nothing(
    redis_server_binary: Path, nursery: Nursery, hook: Receiver, unique_name: str
) -> None:
    with RedisServer(redis_server_binary) as store:
        part = Part(store.url, unique_name, hook.url, begun=time.time())
        pids = [nursery.spawn(replace(part, owner=owner)) for owner in ("a", "b")]
        for _ in range(3):
            async with Redis.from_url(store.url) as client:
                stage = Stage(client, part, hook)
                for _ in range(4):
                    await stage.moves_on()
            store.kill()
            await asyncio.sleep(0.2)
            store.start()
        async with Redis.from_url(store.url) as client:
            stage = Stage(client, part, hook)
            await stage.moves_on()
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            nursery.spawn(replace(part, owner="the last", ends=(time.time() - part.begun) * part.speed))
            await stage.empties()
            await stage.check(least=6)
