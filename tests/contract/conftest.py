"""The ledgers that the tests of the contract run over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.settings import RedisSettings
from streams.embedded import RedisProcess
from streams.ledger.contract import Ledger
from streams.ledger.memory import MemoryLedger
from streams.ledger.redis import JOURNAL_LENGTH, RedisLedger
from streams.process import free_port
from streams.redis_client import connect
from tests.parts.certificates import Authority
from tests.parts.secure_redis import cluster


@pytest.fixture(params=["memory", "valkey", "redis_server", "redis_cluster"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def redis_cluster(redis_server_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of three nodes that share the slots."""
    with cluster(redis_server_binary, Authority(tmp_path_factory.mktemp("cluster"))) as nodes:
        yield f"redis+cluster://{nodes[0].address}"


@pytest.fixture
def settings(kind: str, request: pytest.FixtureRequest) -> RedisSettings | None:
    """Where the Redis is; memory has none."""
    if kind == "memory":
        return None
    found = request.getfixturevalue(kind)
    return RedisSettings(url=SecretStr(found if isinstance(found, str) else found.url), timeout_seconds=10.0)


@pytest_asyncio.fixture
async def redis(settings: RedisSettings | None) -> AsyncIterator[Redis | None]:
    """The Redis under what is tested; memory has none."""
    if settings is None:
        yield None
        return
    async with connect(settings) as client:
        yield client


@pytest_asyncio.fixture
async def ledger(settings: RedisSettings | None, unique_name: str) -> AsyncIterator[Ledger]:
    if settings is None:
        yield MemoryLedger(journal_length=JOURNAL_LENGTH)
        return
    store = RedisLedger(connect(settings), unique_name)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def client(any_redis: RedisProcess) -> AsyncIterator[Redis]:
    """What only a Redis has: keys that others may touch."""
    async with connect(RedisSettings(url=SecretStr(any_redis.url))) as client:
        yield client


@pytest.fixture
def redis_ledger(client: Redis, unique_name: str) -> RedisLedger:
    return RedisLedger(client, unique_name)


@pytest_asyncio.fixture
async def unreachable(unique_name: str) -> AsyncIterator[RedisLedger]:
    """A ledger whose Redis is not there."""
    async with Redis(port=free_port(), retry=Retry(NoBackoff(), 0)) as nowhere:
        yield RedisLedger(nowhere, unique_name)
