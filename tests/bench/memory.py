"""`--memory`: what an entity costs in Redis and in the worker, before and after its state is brought to rest.

PEOPLE take part in the bench's traffic, as often as in the bench; a real redis-server holds what the
real ledger writes. In the worker an entity is a name and a state in a dict: tracemalloc says how
much. Then everybody is away for REST_HOURS, and every state is replaced by its resting form.
"""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from pydantic import SecretStr
from redis.asyncio import Redis

from schemas.config import Config
from schemas.duration import MICROS
from schemas.errors import FunnelwatchError
from schemas.settings import RedisSettings
from streams.counting import ShardCount
from streams.ledger.contract import Claim, Ok, Write
from streams.ledger.redis import RedisLedger
from streams.plan import Plan
from streams.redis_client import connect
from streams.resting import rested
from streams.tally import Deltas
from tests.bench.contenders import config
from tests.bench.markdown import table
from tests.bench.own_work import CHUNK_RECORDS, admit_all
from tests.bench.workload import BEGIN_MS, CHANNELS, STAGES, Click, clicks

PEOPLE = 10_000
BENCH_PEOPLE = 50_000  # among as many, the bench's events come every 2 ms
VISITS_EVENTS = 8  # a person, as in the bench
STEP_MS = 10_000  # of a single walk
REST_HOURS = 3
SHARD = "web:0"
TIMEOUT_SECONDS = 30.0
PROPERTIES = {  # besides the channel
    "device": ("ios", "android", "web"),
    "country": ("DE", "FR", "GB", "US"),
    "plan": ("free", "pro", "team"),
    "variant": ("control", "treatment"),
}
HEADER = ("", "state", "Redis", "worker", "state at rest", "Redis", "worker", "Redis in all, MB", "at rest")


@dataclass(frozen=True)
class Case:
    """What is held of whom."""

    name: str
    dimensions: int = 1
    funnels: int = 1
    walk: int = 0  # stages of everybody's single walk; 0: the bench's mix
    people: int = PEOPLE  # other numbers for walks only


CASES = (
    *(Case(f"one funnel, {n} dimension{'' if n == 1 else 's'}", dimensions=n) for n in (0, 1, 2, 5)),
    *(Case(f"{n} funnels, 1 dimension, all matching", funnels=n) for n in (5, 20)),
    *(Case(f"one funnel, 1 dimension, once as far as {stage}", walk=n) for n, stage in enumerate(STAGES, start=1)),
    *(Case(f"the same as far as {STAGES[1]}, of {n:,}", walk=2, people=n) for n in (100_000, 1_000_000)),
)


class Held(NamedTuple):
    """Bytes an entity, but for the last."""

    state: float
    redis: float
    worker: float
    all_of_redis: int  # bytes


def memory(url: str) -> Iterator[str]:
    """The table; `url` is that of a redis-server that may be flushed."""
    yield f"Bytes an entity, of {PEOPLE:,} in one shard where no other number is said: its packed state, the Redis hash of the states, the worker's dict of them"
    yield f"(names of {len(_name(0))} characters, event ids of 14). All of Redis holds the counts and the journal too.\n"
    yield from table(HEADER, [_row(case.name, *asyncio.run(_held(url, case))) for case in CASES])


def _row(name: str, *found: Held) -> tuple[str, ...]:
    each = [f"{number:.0f}" for held in found for number in held[:3]]
    return name, *each, *(f"{held.all_of_redis / 1e6:.1f}" for held in found)


async def _held(url: str, case: Case) -> tuple[Held, Held]:
    """Before and after everybody came to rest."""
    client = connect(RedisSettings(url=SecretStr(url), timeout_seconds=TIMEOUT_SECONDS))
    try:
        await client.flushall()
        empty = await used_bytes(client)
        shard = _shard(case)
        ledger = RedisLedger(client)
        claim = await ledger.claim(SHARD, 1, 0)
        end = await _count(ledger, claim, shard, _traffic(case))
        before = await _measured(client, shard, empty)
        resting = _resting(shard)
        for part in _parts(list(resting.items())):
            await applied(ledger, claim, Write(end, end, Deltas(watermark_us=shard.watermark_us), dict(part)))
        shard.states = resting
        return before, await _measured(client, shard, empty)
    finally:
        await client.aclose()


def _shard(case: Case) -> ShardCount:
    found = config("clicks")
    names = ["channel", *PROPERTIES][: case.dimensions]
    funnel = found["funnels"][0] | {"dimensions": {name: f"properties.{name}" for name in names}}
    # Of different conversion windows: equal ones would be one definition.
    found["funnels"] = [funnel | {"name": f"purchase_{n}", "conversion_window": f"{600 + n}s"} for n in range(case.funnels)]
    setup = Config.model_validate(found)
    return ShardCount(Plan(setup, setup.sources[0]))


def _traffic(case: Case) -> Iterator[Click]:
    if not case.walk:
        for click in clicks(VISITS_EVENTS * PEOPLE, PEOPLE):
            yield click._replace(at_ms=BEGIN_MS + (click.at_ms - BEGIN_MS) * BENCH_PEOPLE // PEOPLE)
    for n in range(case.people if case.walk else 0):
        for stage in range(case.walk):
            cents = 1999 if stage == len(STAGES) - 1 else 0
            yield Click(n * case.walk + stage, BEGIN_MS + n * 10 + stage * STEP_MS, _name(n), stage, CHANNELS[n % len(CHANNELS)], cents)


def _name(number: int) -> str:
    return f"user-{number:06}"


def _value(click: Click) -> bytes:
    """The bench's record, with more properties in it."""
    more = "".join(f',"{name}":"{values[click.number % len(values)]}"' for name, values in PROPERTIES.items())
    return click.value().removesuffix(b"}}") + more.encode() + b"}}"


async def _count(ledger: RedisLedger, claim: Claim, shard: ShardCount, traffic: Iterator[Click]) -> int:
    """Count as the worker does; where the next chunk would begin."""
    start = 0
    while found := list(islice(traffic, CHUNK_RECORDS)):
        values, keys = [_value(click) for click in found], [click.key() for click in found]
        pending = shard.decode(start, start + len(found), values, keys, time.time_ns() // 1000)
        admit_all(shard, pending)
        await applied(ledger, claim, shard.fold(pending).write)
        start += len(found)
    return start


async def applied(ledger: RedisLedger, claim: Claim, write: Write) -> Ok:
    """What the ledger says of a write that it took. Raises FunnelwatchError where it did not."""
    outcome = await ledger.apply(claim, write)
    if not isinstance(outcome, Ok):
        raise FunnelwatchError(f"Redis answered {outcome} where nobody else writes; is the server used by others?")
    return outcome


def _resting(shard: ShardCount) -> dict[str, bytes]:
    later_us = shard.watermark_us + REST_HOURS * 3600 * MICROS
    found = {name: rested(shard.plan, packed, later_us) for name, packed in shard.states.items()}
    return {name: packed for name, packed in found.items() if packed is not None}


def _parts(items: Sequence[tuple[str, bytes]]) -> Iterator[Sequence[tuple[str, bytes]]]:
    for at in range(0, len(items), CHUNK_RECORDS):
        yield items[at : at + CHUNK_RECORDS]


async def _measured(client: Redis, shard: ShardCount, empty: int) -> Held:
    people = len(shard.states)
    in_redis: Any = await client.memory_usage(f"{{fw:{SHARD}}}:states", samples=0)
    packed = sum(map(len, shard.states.values()))
    return Held(packed / people, in_redis / people, _traced(shard.states) / people, await used_bytes(client) - empty)


async def used_bytes(client: Redis) -> int:
    """Bytes of data: without what clients and the log wait with."""
    found: Any = await client.info("memory")
    return int(found["used_memory"] - found["mem_clients_normal"] - found["mem_aof_buffer"])


def _traced(states: dict[str, bytes]) -> int:
    """Bytes of a dict that is filled with copies of these names and states, one after the other."""
    held: dict[str, bytes] = {}
    tracemalloc.start()
    try:
        for name, packed in states.items():
            held[name.encode().decode()] = bytes(memoryview(packed))
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
