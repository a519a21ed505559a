"""What every store of alerts does: in memory, in Valkey, in Redis 7."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from alerting.conditions import Verdict
from alerting.contract import TRANSITIONS_MAX, AlertStore, Commit
from alerting.lifecycle import AlertKey, RuleState
from alerting.memory_store import MemoryAlertStore
from alerting.outbox import OutboxEntry
from alerting.store import RedisAlertStore
from schemas.errors import StoreError
from schemas.report import Transition
from streams.embedded import RedisProcess
from streams.lease import leader_key
from tests.parts.alerts import NIGHT_US, notification

FENCE = 1_767_323_050_000_001
ENTRIES_MAX = 3
TOTAL, IOS = AlertKey("Low"), AlertKey("Low", "device", 'i"os\n東京 😀')
PENDING = RuleState("pending", NIGHT_US, NIGHT_US + 1, Verdict("breach", 1, 30, 1 / 30, 0.1), NIGHT_US)
FIRING = replace(PENDING, state="firing", incident_us=NIGHT_US + 1)
ENTRY = OutboxEntry(channel="oncall", notification=notification(value="東京"))
TRANSITION = ENTRY.notification.transition
FULL = Commit({TOTAL: PENDING, IOS: FIRING}, (), (ENTRY,), (TRANSITION,))


@pytest.fixture(params=["memory", "valkey", "redis_server"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def redis(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Redis | None]:
    """The Redis of the store under test; memory has none."""
    if kind == "memory":
        yield None
        return
    process: RedisProcess = request.getfixturevalue(kind)
    async with Redis.from_url(process.url) as client:
        yield client


@pytest.fixture
async def store(redis: Redis | None, unique_name: str) -> AlertStore:
    """A new store in which FENCE is the newest token."""
    if redis is None:
        return MemoryAlertStore(FENCE, ENTRIES_MAX)
    await redis.set(leader_key(unique_name, "fence"), FENCE)
    return RedisAlertStore(redis, unique_name, ENTRIES_MAX)


async def everything(store: AlertStore) -> tuple[dict[AlertKey, RuleState], list[OutboxEntry], list[Transition]]:
    return await store.states(), await store.outbox(), await store.transitions()


async def test_a_new_store_is_empty(store: AlertStore) -> None:
    assert await everything(store) == ({}, [], [])


async def test_what_was_committed_is_read_back_as_it_was(store: AlertStore) -> None:
    assert await store.commit(FENCE, FULL)
    assert await everything(store) == ({TOTAL: PENDING, IOS: FIRING}, [ENTRY], [TRANSITION])


@pytest.mark.parametrize("token", [FENCE + 1, FENCE - 1])
async def test_without_the_newest_token_nothing_is_written(store: AlertStore, token: int) -> None:
    assert not await store.commit(token, FULL)
    assert await everything(store) == ({}, [], [])


async def test_a_state_is_replaced_and_the_others_stay(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    assert await store.commit(FENCE, Commit({TOTAL: FIRING}))
    assert await store.states() == {TOTAL: FIRING, IOS: FIRING}


async def test_a_removed_state_is_gone(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    assert await store.commit(FENCE, Commit(removed=(IOS, AlertKey("never", "was", "there"))))
    assert await store.states() == {TOTAL: PENDING}


async def test_an_entry_committed_twice_waits_once(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    await store.commit(FENCE, FULL)
    assert await store.outbox() == [ENTRY]


async def test_a_postponed_entry_remembers_its_tries(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    later = ENTRY.postponed(1000.0, 0.5)
    await store.postpone(later)
    assert await store.outbox() == [later]
    assert (later.attempts, later.due) == (1, 1000.75)


async def test_a_removed_entry_is_gone_and_postponing_does_not_bring_it_back(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    await store.remove(ENTRY)
    await store.remove(ENTRY)
    await store.postpone(ENTRY.postponed(1000.0, 0.5))
    assert await store.outbox() == []


async def test_a_full_outbox_loses_what_is_too_much_and_nothing_else(store: AlertStore) -> None:
    entries = tuple(OutboxEntry(channel="oncall", notification=notification(value=str(n))) for n in range(ENTRIES_MAX + 2))
    assert await store.commit(FENCE, Commit({TOTAL: FIRING}, entries=entries, transitions=(TRANSITION,)))
    waiting = await store.outbox()
    assert sorted(e.id for e in waiting) == sorted(e.id for e in entries[:ENTRIES_MAX])
    assert (await store.states(), await store.transitions()) == ({TOTAL: FIRING}, [TRANSITION])


async def test_transitions_are_read_newest_first_and_the_last_thousand_are_kept(store: AlertStore) -> None:
    told = [TRANSITION.model_copy(update={"numerator": n}) for n in range(TRANSITIONS_MAX + 5)]
    await store.commit(FENCE, Commit(transitions=tuple(told[:3])))
    await store.commit(FENCE, Commit(transitions=tuple(told[3:])))
    assert [t.numerator for t in await store.transitions(2)] == [TRANSITIONS_MAX + 4, TRANSITIONS_MAX + 3]
    assert [t.numerator for t in await store.transitions()] == list(range(TRANSITIONS_MAX + 4, 4, -1))
    assert await store.transitions(0) == []


in_redis = pytest.mark.parametrize("kind", ["valkey", "redis_server"], indirect=True)


@in_redis
async def test_a_redis_that_lost_its_token_takes_nothing(store: AlertStore, redis: Redis, unique_name: str) -> None:
    await redis.delete(leader_key(unique_name, "fence"))
    assert not await store.commit(FENCE, FULL)
    assert await everything(store) == ({}, [], [])


@in_redis
@pytest.mark.parametrize("name", ["alerts", "outbox", "transitions"])
async def test_a_key_of_the_wrong_kind_is_found_before_anything_is_written(
    store: AlertStore, redis: Redis, unique_name: str, name: str
) -> None:
    await redis.set(leader_key(unique_name, name), "a string")
    with pytest.raises(StoreError, match=name):
        await store.commit(FENCE, FULL)
    others = {"alerts", "outbox", "transitions"} - {name}
    assert await redis.exists(*(leader_key(unique_name, other) for other in others)) == 0


@in_redis
async def test_what_another_version_wrote_in_another_shape_is_passed_over(store: AlertStore, redis: Redis, unique_name: str) -> None:
    await store.commit(FENCE, FULL)
    await redis.hset(leader_key(unique_name, "alerts"), '["Other", null, null]', '{"state": "perplexed"}')
    await redis.hset(leader_key(unique_name, "outbox"), "x", "{}")
    await redis.lpush(leader_key(unique_name, "transitions"), "not JSON")
    assert await everything(store) == ({TOTAL: PENDING, IOS: FIRING}, [ENTRY], [TRANSITION])
