"""The client of Redis that a worker has, on real servers."""

from __future__ import annotations

import asyncio

from pydantic import SecretStr

from schemas.settings import RedisSettings
from streams.embedded import RedisProcess
from streams.ledger.redis import RedisLedger
from streams.redis_client import connect

SHARDS = 300


async def test_hundreds_of_partitions_are_claimed_and_read_at_once(any_redis: RedisProcess, unique_name: str) -> None:
    async with connect(RedisSettings(url=SecretStr(any_redis.url))) as client:
        ledger = RedisLedger(client, unique_name)
        shards = [f"web:{partition}" for partition in range(SHARDS)]
        await asyncio.gather(*[ledger.claim(shard, SHARDS, 0) for shard in shards])
        found = await asyncio.gather(*[ledger.changes(shard, "", 0) for shard in shards])
    assert all(change is not None and change.position.next == 0 for change in found)
