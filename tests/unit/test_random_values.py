"""Values nobody foresaw, by the hundred thousand, grow neither the ledger nor the metrics nor a worker's memory."""

from __future__ import annotations

import asyncio
import json
import random

from schemas.config import Config
from streams.counting import ShardCount
from streams.ledger.memory import MemoryLedger
from streams.plan import Plan
from streams.reader import Reader
from streams.values import REMEMBERED_MAX
from tests.parts.ledger_text import ledger_text

CHUNKS, CHUNK = 10, 10_000
BEGIN_MS = 1_700_000_000_000
MAX_VALUES = 20


def config() -> Config:
    dimensions = {
        "campaign": {"field": "properties.campaign", "max_values": MAX_VALUES},
        "device": "properties.device",
        "both": {"combine": ["campaign", "device"], "max_values": MAX_VALUES},
    }
    stages = [{"name": "view", "event": "view"}, {"name": "pay", "event": "pay"}]
    funnel = {"name": "f", "source": "web", "conversion_window": "1h", "windows": ["5m"], "stages": stages, "dimensions": dimensions}
    return Config.model_validate({"sources": [{"name": "web", "topic": "t", "trust_key": True}], "funnels": [funnel]})


def chunk(chance: random.Random, number: int) -> list[bytes]:
    records = []
    for place in range(CHUNK):
        properties = {"campaign": f"c{chance.getrandbits(64):x}", "device": chance.choice(("ios", "web"))}
        event = {"event": chance.choice(("view", "pay")), "timestamp": BEGIN_MS + number * CHUNK + place, "user_id": f"u{place % 500}"}
        records.append(json.dumps(event | {"properties": properties}).encode())
    return records


async def counted(setup: Config) -> tuple[ShardCount, Reader]:
    ledger, count = MemoryLedger(), ShardCount(Plan(setup, setup.sources[0]))
    claim = await ledger.claim("web:0", 1, 0)
    chance = random.Random(1)
    for number in range(CHUNKS):
        start = number * CHUNK
        pending = count.decode(start, start + CHUNK, [*chunk(chance, number)], [None] * CHUNK, 10**18)
        while pending.unknown:
            count.learn(pending, {r: await ledger.admit("web", r, sorted(texts)) for r, texts in pending.unknown.items()})
        await ledger.apply(claim, count.fold(pending).write)
    reader = Reader(setup, ledger, lambda: 10**18)
    await reader.tick()
    return count, reader


def test_random_values_are_counted_as_other_and_nothing_grows() -> None:
    setup = config()
    count, reader = asyncio.run(counted(setup))
    counts = reader.counts()["f"]
    for dimension in ("campaign", "both"):
        values = counts.values(dimension)
        assert "__other__" in values
        assert len(values) <= MAX_VALUES + 1
        assert sum(counts.total("n", 0, dimension, value) for value in values) == counts.total("n", 0)
    assert max(len(cells) for of_width in counts.buckets.values() for cells in of_width.values()) < 1_000
    assert max(len(values.known) for values in count.plan.funnels[0].values) <= REMEMBERED_MAX + CHUNK + MAX_VALUES + 2
    assert ledger_text(reader.readings()).count(b"\n") < 2_000
