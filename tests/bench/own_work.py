"""The worker's own work on one shard, without Kafka, Redis and Faust: decode, fold, tally, pack."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from redis.asyncio import Redis

from streams.counting import Pending, ShardCount
from streams.ledger.contract import Claim, Write
from streams.ledger.redis import RedisLedger
from streams.plan import Plan
from streams.pseudonym import Pseudonyms

CHUNK_RECORDS = 5_970  # of the bench's records in a fetch of 1 MiB

Chunk = tuple[list[bytes | None], list[bytes | None]]  # values and keys
T = TypeVar("T")


class _NoRedis:
    """Agrees to every script."""

    def register_script(self, text: str) -> Callable[..., Coroutine[Any, Any, list[Any]]]:
        async def agree(keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
            return [b"ok", 1, b"generation"]

        return agree


class OwnWork:
    """A shard whose states are all held, and whose writes go nowhere."""

    def __init__(self, plan: Plan, names: Pseudonyms | None = None) -> None:
        self.shard = ShardCount(plan, names=names)
        self._ledger = RedisLedger(cast("Redis", _NoRedis()))
        self._claim = Claim("web:0", 1, "token", 0, -1, {})

    def count(self, values: list[bytes | None], keys: list[bytes | None]) -> Write:
        """Decode, fold and tally a chunk."""
        pending = self.shard.decode(0, len(values), values, keys, time.time_ns() // 1000)
        admit_all(self.shard, pending)
        return self.shard.fold(pending).write

    def pack(self, write: Write) -> None:
        """All that is done for a write before it leaves for Redis."""
        _to_its_end(self._ledger.apply(self._claim, write))


def admit_all(shard: ShardCount, pending: Pending) -> None:
    """Let every dimension value in that the registries have not been asked for yet."""
    if pending.unknown:
        shard.learn(pending, {registry: dict.fromkeys(texts, True) for registry, texts in pending.unknown.items()})


def _to_its_end(work: Coroutine[Any, Any, T]) -> None:
    """Nothing in it really waits."""
    with suppress(StopIteration):
        while True:
            work.send(None)
