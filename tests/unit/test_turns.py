"""Whoever waits on the worker's loop comes in between: while counts are read, and between two lanes' chunks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar, cast

from redis.asyncio import Redis

from schemas.config import Config
from streams.counting import ShardCount
from streams.custody import Custodian
from streams.ledger.contract import Changes, Claim, Ok, Write
from streams.ledger.memory import MemoryLedger
from streams.ledger.redis import COUNTS_AT_ONCE, RedisLedger, _packed_counts
from streams.metrics import WorkerMetrics
from streams.plan import Plan
from streams.reader import Reader
from streams.tally import Deltas
from streams.turns import Steps
from tests.parts.loop import turns_while

T = TypeVar("T")
BUCKETS = 20_000


async def test_a_tick_that_reads_many_buckets_lets_others_in() -> None:
    stages = [{"name": "view", "event": "v"}, {"name": "pay", "event": "p"}]
    funnel = {"name": "f", "source": "web", "conversion_window": "60s", "windows": ["1h"], "stages": stages}
    config = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": [funnel]})
    ledger = MemoryLedger()
    reader = Reader(config, ledger, lambda: 10**18)
    claim = await ledger.claim("web:0", 1, 0)
    await reader.tick()
    definition = reader.counts()["f"].plan.definition
    buckets = {(definition, 60, number): {"u0": 1} for number in range(BUCKETS)}
    await ledger.apply(claim, Write(0, 1, Deltas(buckets, watermark_us=BUCKETS * 60_000_000)))
    assert await turns_while(reader.tick) >= 5, "they take some ten milliseconds"


async def test_a_chunk_of_many_funnels_is_tallied_and_packed_in_many_steps() -> None:
    count = 40
    stages = [{"name": "view", "event": "v"}, {"name": "pay", "event": "p"}]
    common = {"source": "web", "conversion_window": "60s", "windows": ["1h"], "stages": stages}
    funnels = [{"name": f"f{number}", **common} for number in range(count)]
    config = Config.model_validate({"sources": [{"name": "web", "topic": "clicks", "trust_key": True}], "funnels": funnels})
    shard = ShardCount(Plan(config, config.sources[0]))
    values = [f'{{"event": "v", "timestamp": {n * 10_000 + 10_000}, "user_id": "u{n}"}}'.encode() for n in range(300)]
    pending = shard.decode(0, len(values), values, [None] * len(values), 10**18)
    pauses, counted = at_the_end(shard.folding(pending))
    assert pauses >= count, "the records are few: these are the tally's"
    write = counted.write
    ledger = RedisLedger(cast("Redis", Willing()))
    assert sum(map(len, write.deltas.buckets.values())) >= 10 * COUNTS_AT_ONCE
    assert await turns_while(lambda: ledger.apply(Claim("web:0", 1, "token", 0, -1, {}), write)) >= 10


async def test_what_another_worker_counted_is_read_in_many_steps() -> None:
    buckets = {(1, 60, number): {"u0": number, "e0": 1} for number in range(100_000)}
    packed = b"".join(await _packed_counts(buckets, {1: {"u0": 7}}))
    ledger = RedisLedger(cast("Redis", Told(packed)))
    found: list[Changes | None] = []

    async def read() -> None:
        found.append(await ledger.changes("web:0", "generation", 0))

    assert await turns_while(read) >= 20, "it takes some hundred milliseconds"
    assert found[0] is not None
    assert found[0].deltas == [(buckets, {1: {"u0": 7}})]


def at_the_end(steps: Steps[T]) -> tuple[int, T]:
    """How often a work paused, and what it came to."""
    pauses = 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return pauses, cast("T", done.value)
        pauses += 1


class Willing:
    """A Redis that agrees to every script."""

    def register_script(self, text: str) -> Callable[..., Coroutine[Any, Any, list[Any]]]:
        async def agree(keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
            return [b"ok", 1, b"generation"]

        return agree


class Slow:
    """A Redis that is at a script for a while; the most that it was ever sent at once."""

    def __init__(self) -> None:
        self.sent = self.most = 0

    def register_script(self, text: str) -> Callable[..., Coroutine[Any, Any, list[Any]]]:
        async def run(keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
            self.sent += 1
            self.most = max(self.most, self.sent)
            await asyncio.sleep(0.01)
            self.sent -= 1
            return [b"ok", 1, b"generation"]

        return run


async def test_a_server_is_sent_one_chunk_at_a_time_so_that_a_reader_waits_for_one_at_most() -> None:
    server = Slow()
    ledger = RedisLedger(cast("Redis", server))
    writes = [ledger.apply(Claim(f"web:{number}", 1, "token", 0, -1, {}), Write(0, 1, Deltas())) for number in range(4)]
    outcomes = await asyncio.gather(*writes)
    assert server.most == 1
    assert all(isinstance(outcome, Ok) and outcome.seconds > 0 for outcome in outcomes)


class Told:
    """A Redis that has one entry in the journal of a shard."""

    META: ClassVar = {b"next": b"9", b"watermark": b"9", b"generation": b"generation", b"seq": b"1"}

    def __init__(self, entry: bytes) -> None:
        self._entry = entry

    def register_script(self, text: str) -> Callable[..., Coroutine[Any, Any, list[Any]]]:
        async def newest(keys: Sequence[str], args: Sequence[Any]) -> list[Any]:
            return [[part for pair in self.META.items() for part in pair], [self._entry]]

        return newest

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        return self.META


async def test_of_the_lanes_one_at_a_time_holds_up_the_loop_and_others_come_in_between() -> None:
    custodian = Custodian(MemoryLedger(), {}, WorkerMetrics("1"), session_seconds=1.0)
    chunks = 0

    async def lane() -> None:
        nonlocal chunks
        for _ in range(5):
            async with custodian.turn():
                chunks += 1

    async def lanes() -> None:
        await asyncio.gather(*[lane() for _ in range(4)])

    assert await turns_while(lanes) >= chunks == 20
