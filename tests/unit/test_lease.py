"""Who leads, and how everybody can tell."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.errors import StoreError, StoreUnavailable
from streams.embedded import RedisProcess
from streams.lease import Lease, leader_key
from streams.process import free_port
from tests.parts.alerts import until

LONG, SHORT = 60.0, 0.05


@pytest.fixture
async def client(any_redis: RedisProcess) -> AsyncIterator[Redis]:
    async with Redis.from_url(any_redis.url) as client:
        yield client


async def test_one_holds_the_lease_and_renews_it_under_the_same_token(client: Redis, unique_name: str) -> None:
    lease = Lease(client, unique_name, LONG, "a")
    token = await lease.hold()
    assert token is not None
    assert await lease.hold() == token


async def test_another_gets_nothing_while_it_is_held(client: Redis, unique_name: str) -> None:
    assert await Lease(client, unique_name, LONG, "a").hold() is not None
    assert await Lease(client, unique_name, LONG, "b").hold() is None


async def test_after_its_end_another_gets_it_with_a_greater_token(client: Redis, unique_name: str) -> None:
    a, b = Lease(client, unique_name, SHORT, "a"), Lease(client, unique_name, LONG, "b")
    first = await a.hold()
    assert first is not None
    tokens: list[int] = []

    async def b_holds() -> bool:
        tokens.extend(filter(None, [await b.hold()]))
        return bool(tokens)

    await until(b_holds)
    assert tokens[0] > first
    assert await a.hold() is None


async def test_renewing_puts_the_end_off(client: Redis, unique_name: str) -> None:
    await Lease(client, unique_name, 1.0, "a").hold()
    await Lease(client, unique_name, LONG, "a").hold()
    assert await client.pttl(leader_key(unique_name, "lease")) > 1000


async def test_who_lost_the_lease_and_gets_it_again_has_a_greater_token(client: Redis, unique_name: str) -> None:
    lease = Lease(client, unique_name, LONG, "a")
    first = await lease.hold()
    await client.delete(leader_key(unique_name, "lease"))
    again = await lease.hold()
    assert first is not None
    assert again is not None
    assert again > first


async def test_a_released_lease_is_free_at_once(client: Redis, unique_name: str) -> None:
    a = Lease(client, unique_name, LONG, "a")
    first = await a.hold()
    await a.release()
    second = await Lease(client, unique_name, LONG, "b").hold()
    assert first is not None
    assert second is not None
    assert second > first


async def test_nobody_releases_the_lease_of_another(client: Redis, unique_name: str) -> None:
    a = Lease(client, unique_name, LONG, "a")
    token = await a.hold()
    await Lease(client, unique_name, LONG, "b").release()
    assert await a.hold() == token


async def test_a_redis_that_lost_everything_never_gives_out_an_old_token(client: Redis, unique_name: str) -> None:
    lease = Lease(client, unique_name, LONG, "a")
    before = await lease.hold()
    await client.delete(leader_key(unique_name, "lease"), leader_key(unique_name, "fence"))
    after = await lease.hold()
    assert before is not None
    assert after is not None
    assert after > before


async def test_a_token_grows_even_if_redis_has_its_clock_set_back(client: Redis, unique_name: str) -> None:
    await client.set(leader_key(unique_name, "fence"), 9_000_000_000_000_000)
    assert await Lease(client, unique_name, LONG, "a").hold() == 9_000_000_000_000_001
    assert await client.get(leader_key(unique_name, "fence")) == b"9000000000000001"


async def test_the_token_outlives_the_lease(client: Redis, unique_name: str) -> None:
    await Lease(client, unique_name, LONG, "a").hold()
    assert await client.pttl(leader_key(unique_name, "fence")) == -1


async def test_without_redis_it_is_an_error_that_may_pass() -> None:
    async with Redis(port=free_port(), retry=Retry(NoBackoff(), 0)) as client:
        with pytest.raises(StoreUnavailable):
            await Lease(client, "fw", LONG, "a").hold()


async def test_a_key_of_another_kind_is_an_error_that_says_so(client: Redis, unique_name: str) -> None:
    await client.lpush(leader_key(unique_name, "lease"), "not a lease")
    with pytest.raises(StoreError, match="something else"):
        await Lease(client, unique_name, LONG, "a").hold()
