"""What it costs a worker, and Redis, to follow the ledger: each second every worker reads what each shard has counted.

Some shards in a real redis-server are written by one ledger, as much as a second brings a shard of a busy service, and then a
reader of its own, as another worker has it, does its tick. Its CPU time is a thread's, that of Redis what Redis says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis

from schemas.config import Config
from schemas.errors import FunnelwatchError
from schemas.settings import RedisSettings
from streams.counting import ShardCount
from streams.ledger.contract import Claim, Ok
from streams.ledger.redis import RedisLedger
from streams.plan import Plan
from streams.reader import Reader
from streams.redis_client import connect
from tests.bench.contenders import config
from tests.bench.own_work import admit_all
from tests.bench.workload import clicks

SHARDS = 32
CHUNKS, CHUNK_RECORDS = 2, 1_000  # of a shard and second
PEOPLE = 2_000  # of a shard
SECONDS = 12  # of which the first ones do not count
FIRST = 2
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Follow:
    """CPU in µs, a shard and second."""

    worker_us: float
    redis_us: float


class _Shard:
    """One that is counted."""

    def __init__(self, setup: Config, claim: Claim, seed: int) -> None:
        self._count = ShardCount(Plan(setup, setup.sources[0]))
        self._claim = claim
        self._clicks = clicks((SECONDS + 1) * CHUNKS * CHUNK_RECORDS, PEOPLE, seed)
        self._start = 0

    async def chunk(self, ledger: RedisLedger) -> None:
        found = list(islice(self._clicks, CHUNK_RECORDS))
        values: list[bytes | None] = [click.value() for click in found]
        keys: list[bytes | None] = [click.key() for click in found]
        pending = self._count.decode(self._start, self._start + len(found), values, keys, time.time_ns() // 1000)
        admit_all(self._count, pending)
        outcome = await ledger.apply(self._claim, self._count.fold(pending).write)
        if not isinstance(outcome, Ok):
            raise FunnelwatchError(f"Redis answered {outcome} where nobody else writes; is the server used by others?")
        self._start += len(found)


def following(url: str) -> Follow:
    """`url` is that of a redis-server that may be flushed."""
    return asyncio.run(_following(url))


async def _following(url: str) -> Follow:
    client = connect(RedisSettings(url=SecretStr(url), timeout_seconds=TIMEOUT_SECONDS))
    try:
        await client.flushall()
        setup = Config.model_validate(config("clicks"))
        written, reader = RedisLedger(client), Reader(setup, RedisLedger(client))
        claims = [await written.claim(f"web:{number}", SHARDS, 0) for number in range(SHARDS)]
        shards = [_Shard(setup, claim, seed) for seed, claim in enumerate(claims)]
        found = [await _second(client, written, reader, shards) for _ in range(SECONDS)][FIRST:]
    finally:
        await client.aclose()
    return Follow(*(median(spent) / SHARDS * 1e6 for spent in zip(*found)))


async def _second(client: Redis, ledger: RedisLedger, reader: Reader, shards: Sequence[_Shard]) -> tuple[float, float]:
    """CPU seconds of the reader and of Redis for one tick."""
    for shard in shards:
        for _ in range(CHUNKS):
            await shard.chunk(ledger)
    of_redis, began = await _redis_cpu(client), time.thread_time()
    await reader.tick()
    took = time.thread_time() - began
    return took, await _redis_cpu(client) - of_redis


async def _redis_cpu(client: Redis) -> float:
    found: Any = await client.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])
