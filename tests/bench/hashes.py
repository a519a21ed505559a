"""`--hashes`: how long Redis is at a chunk of many funnels, and in how much memory, by its setting hash-max-listpack-entries.

The funnels and the dense traffic of `--read`, folded once; in turns, each setting is sent the same chunks by the real ledger, into an
empty redis-server. In a hash of so many fields at most, Redis looks for each field from the beginning.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from statistics import median
from typing import Any

from pydantic import SecretStr

from schemas.config import Config
from schemas.settings import RedisSettings
from streams.counting import ShardCount
from streams.doctor.judge_redis import SMALL_HASH_WANTED
from streams.ledger.contract import Snapshot, Write
from streams.ledger.redis import RedisLedger
from streams.plan import Plan
from streams.redis_client import connect
from tests.bench.markdown import table
from tests.bench.memory import applied, used_bytes
from tests.bench.own_work import admit_all
from tests.bench.reading import BEFORE_EVENTS, FUNNELS, VALUES, many, visits

SETTING, BY_DEFAULT = "hash-max-listpack-entries", 512
ENTRIES = (BY_DEFAULT, 256, SMALL_HASH_WANTED, 64)
CHUNKS, CHUNK_RECORDS, ROUNDS = 24, 3_000, 3
TAKEN_LAST = CHUNKS // 2  # before, the hashes are being filled
SHARD = "web:0"
TIMEOUT_SECONDS = 30.0
HEADER = (SETTING, "ms a chunk", "beside", "MB", "beside")
QUICKER_LEAST = 1.3


def hashes(url: str) -> Iterator[str]:
    """The table and whether the claims hold; `url` is that of a redis-server that may be flushed and set."""
    chunks, shard = _chunks()
    took: dict[int, list[float]] = {entries: [] for entries in ENTRIES}
    used: dict[int, float] = {}
    counted: list[Snapshot | None] = []
    for turn in range(ROUNDS):
        for entries in (*ENTRIES[turn % len(ENTRIES) :], *ENTRIES[: turn % len(ENTRIES)]):
            seconds, used[entries], found = asyncio.run(_sent(url, entries, chunks, shard))
            took[entries].append(seconds * 1000)
            counted.append(found)
    ms = {entries: median(times) for entries, times in took.items()}
    yield f"{FUNNELS} funnels by {VALUES} values, {CHUNKS} chunks of {CHUNK_RECORDS:,} records, the last {TAKEN_LAST} taken; medians of {ROUNDS} rounds.\n"
    rows = [
        (str(n), f"{ms[n]:.0f}", f"{ms[n] / ms[BY_DEFAULT]:.2f}", f"{used[n]:.0f}", f"{used[n] / used[BY_DEFAULT]:.2f}") for n in ENTRIES
    ]
    yield from table(HEADER, rows)
    yield ""
    same = all(found == counted[0] for found in counted)
    yield f"- claim: what is counted does not depend on it: {'held' if same else 'NOT HELD'}"
    quicker = ms[BY_DEFAULT] / ms[SMALL_HASH_WANTED]
    held = "held" if quicker >= QUICKER_LEAST else "NOT HELD"
    yield f"- claim: with {SMALL_HASH_WANTED} Redis is at least {QUICKER_LEAST:g} times as quick as with {BY_DEFAULT}: {quicker:.1f}, {held}"


def _chunks() -> tuple[list[Write], ShardCount]:
    setup = Config.model_validate(many("visits"))
    shard, traffic, writes = ShardCount(Plan(setup, setup.sources[0])), islice(visits(), BEFORE_EVENTS, None), list[Write]()
    for number in range(CHUNKS):
        found = list(islice(traffic, CHUNK_RECORDS))
        start = number * CHUNK_RECORDS
        values, keys = [visit.value() for visit in found], [visit.key() for visit in found]
        pending = shard.decode(start, start + len(found), values, keys, time.time_ns() // 1000)
        admit_all(shard, pending)
        writes.append(shard.fold(pending).write)
    return writes, shard


async def _sent(url: str, entries: int, chunks: list[Write], shard: ShardCount) -> tuple[float, float, Snapshot | None]:
    """Seconds of a chunk (the median), MB of memory, and what the ledger holds in the end."""
    client: Any = connect(RedisSettings(url=SecretStr(url), timeout_seconds=TIMEOUT_SECONDS))
    try:
        await client.flushall()
        await client.config_set(SETTING, entries)
        before = await used_bytes(client)
        ledger = RedisLedger(client)
        claim = await ledger.claim(SHARD, 1, 0)
        took = [(await applied(ledger, claim, write)).seconds for write in chunks]
        found = await ledger.snapshot(SHARD, [(f.definition, k.seconds, k.count) for f in shard.plan.funnels for k in f.kept])
        return median(took[-TAKEN_LAST:]), (await used_bytes(client) - before) / 1e6, _comparable(found)
    finally:
        await client.aclose()


def _comparable(found: Snapshot | None) -> Snapshot | None:
    """Without the generation, which is new each time the ledger is begun."""
    return None if found is None else replace(found, position=replace(found.position, generation=""))
