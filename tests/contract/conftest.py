"""The ledgers that the tests of the contract run over."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streams.embedded import RedisProcess
from streams.ledger.contract import Ledger
from streams.ledger.memory import MemoryLedger
from streams.ledger.redis import JOURNAL_LENGTH, RedisLedger, connect
from streams.process import free_port


@pytest.fixture(params=["memory", "valkey", "redis_server"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def redis(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Redis | None]:
    """The Redis under what is tested; memory has none."""
    if kind == "memory":
        yield None
        return
    process: RedisProcess = request.getfixturevalue(kind)
    async with Redis.from_url(process.url) as client:
        yield client


@pytest_asyncio.fixture
async def ledger(kind: str, request: pytest.FixtureRequest, unique_name: str) -> AsyncIterator[Ledger]:
    if kind == "memory":
        yield MemoryLedger(journal_length=JOURNAL_LENGTH)
        return
    process: RedisProcess = request.getfixturevalue(kind)
    store = RedisLedger(connect(process.url, 10.0), unique_name)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def client(any_redis: RedisProcess) -> AsyncIterator[Redis]:
    """What only a Redis has: keys that others may touch."""
    async with Redis.from_url(any_redis.url) as client:
        yield client


@pytest.fixture
def redis_ledger(client: Redis, unique_name: str) -> RedisLedger:
    return RedisLedger(client, unique_name)


@pytest_asyncio.fixture
async def unreachable(unique_name: str) -> AsyncIterator[RedisLedger]:
    """A ledger whose Redis is not there."""
    async with Redis(port=free_port(), retry=Retry(NoBackoff(), 0)) as nowhere:
        yield RedisLedger(nowhere, unique_name)
