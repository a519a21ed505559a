"""What one release stores, kept in a file, so that the next can be asked whether it still reads it.

`python -m tests.parts.earlier FILE` writes it, with the code of the checkout that it runs in: counts of some
clicks in two shards, states of alerts, a notification that waits, a silence, an acknowledgement, a dead
letter, and recorded history. Run it in a checkout of the release before its stored formats change.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis

from alerting.contract import Acknowledgement, Commit
from alerting.lifecycle import AlertKey, RuleState
from alerting.outbox import OutboxEntry
from alerting.store import RedisAlertStore
from schemas.config import Config, parse
from schemas.duration import Duration
from schemas.report import AuditEntry
from schemas.settings import RedisSettings
from schemas.silence import Matchers, Silence
from streams.archive import Archive, HistoryAsked
from streams.counting import ShardCount
from streams.embedded import Valkey
from streams.lease import Lease
from streams.ledger.contract import Claim, Ok
from streams.ledger.redis import RedisLedger
from streams.plan import LAYOUT, Plan
from streams.reader import Reader
from streams.recorder import Recorder, RedisRecord
from streams.redis_client import connect
from streams.web.history import points_json
from tests.oracle_events import Record
from tests.parts.alerts import NIGHT_US, notification
from tests.traffic import CONFIG, FIRST_MS, clicks, partition_of

PREFIX, TOPIC = "earlier", "clicks"
PARTITIONS = 2
COUNTED, MORE = 160, 160  # records in the file that were counted, and that are still to come
CHUNK = 6  # less than a minute of event time, so that history has a point for each
NOW_US = 10**18  # nothing is ahead of its time
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
FIRING = AlertKey("CheckoutToPayLow", "device", "ios")
AUDIT = AuditEntry(at=NOON, author="kim", action="acknowledged", subject=FIRING.rule, detail="", reason="moving")


def the_config() -> Config:
    return parse(CONFIG.format(topic=TOPIC, source="allowed_lateness: 60s"))


def the_records() -> list[Record]:
    """Clicks as they would lie in the topic, in the order in which they came."""
    found, ends = [], defaultdict[int, int](int)
    for click in clicks(COUNTED + MORE):
        partition = int(partition_of(click.key, [0, 1], [0, 1]))
        found.append(Record(partition, ends[partition], click.key, click.value))
        ends[partition] += 1
    return found


async def count(client: Redis, records: Sequence[Record], then: Callable[[], Awaitable[None]] | None = None) -> None:
    """Count records into the ledger as a worker that has just started would, chunk by chunk, its partitions in turn."""
    ledger, config = RedisLedger(client, PREFIX), the_config()
    plans = [Plan(config, config.sources[0]) for _ in range(PARTITIONS)]
    definitions = tuple(funnel.definition for funnel in plans[0].funnels)
    claims = [await ledger.claim(f"{config.sources[0].name}:{p}", PARTITIONS, 0, definitions) for p in range(PARTITIONS)]
    works = [ShardCount(plan, claim.watermark_us) for plan, claim in zip(plans, claims)]
    for first in range(0, len(records), CHUNK):
        for partition in range(PARTITIONS):
            chunk = [record for record in records[first : first + CHUNK] if record.partition == partition]
            if chunk:
                await _count_chunk(ledger, claims[partition], works[partition], chunk)
        if then is not None:
            await then()


async def _count_chunk(ledger: RedisLedger, claim: Claim, work: ShardCount, chunk: Sequence[Record]) -> None:
    pending = work.decode(chunk[0].offset, chunk[-1].offset + 1, [r.value for r in chunk], [r.key for r in chunk], NOW_US)
    work.hold(pending.missing, await ledger.states(claim.shard, pending.missing))
    while pending.unknown:
        source = work.plan.source.name
        work.learn(pending, {r: await ledger.admit(source, r, sorted(texts)) for r, texts in pending.unknown.items()})
    assert await ledger.apply(claim, work.fold(pending).write) == Ok()


async def history(client: Redis, reader: Reader) -> list[dict[str, Any]]:
    """What is recorded of the first funnel, as the API says it."""
    asked = HistoryAsked("purchase", Duration("5m"), "users", None, "1m", FIRST_MS * 1000, None, 500)
    report, _ = await Archive(reader, RedisRecord(client, PREFIX)).history(asked)
    points: list[dict[str, Any]] = json.loads(points_json(report))
    return points


def reader_of(client: Redis) -> Reader:
    return Reader(the_config(), RedisLedger(client, PREFIX), lambda: NOW_US)


async def alerts(client: Redis) -> None:
    """Write all that a store of alerts keeps."""
    fence = await Lease(client, PREFIX, 60.0, "earlier").hold()
    assert fence is not None
    store = RedisAlertStore(client, PREFIX)
    store.carry(fence)
    told, lost = notification(value="ios"), notification(value="android")
    state = RuleState("firing", NIGHT_US, NIGHT_US, None, NIGHT_US, NIGHT_US)
    entries = tuple(OutboxEntry(channel="oncall", notification=each) for each in (told, lost))
    states = {FIRING: state, AlertKey("CheckoutToPayLow"): replace(state, state="pending", incident_us=None)}
    assert await store.commit(fence, Commit(states, (), entries, (told.transition,)))
    assert await store.dead_letter(entries[1], "refused")
    ends = NOON + timedelta(days=3650)
    await store.keep_silence(Silence(id="5f3c", matchers=Matchers(rule="C*"), starts=NOON, ends=ends, author="kim", reason="moving"), AUDIT)
    await store.acknowledge(FIRING, Acknowledgement(NIGHT_US, "kim", NIGHT_US + 1), AUDIT)


async def dumped(client: Redis) -> dict[str, Any]:
    """Every key with its type and value, whatever the bytes."""
    found = {}
    async for key in client.scan_iter(count=1000):
        kind = (await client.type(key)).decode()
        found[_text(key)] = [kind, await READ[kind](client, key)]
    return dict(sorted(found.items()))


async def restored(client: Redis, keys: dict[str, Any]) -> None:
    """Put such keys back; what was to expire does so no more."""
    for key, (kind, value) in keys.items():
        await WRITE[kind](client, _bytes(key), value)


async def _hash(client: Redis, key: bytes) -> Any:
    return [[_text(f), _text(v)] for f, v in sorted((await client.hgetall(key)).items())]


async def _list(client: Redis, key: bytes) -> Any:
    return [_text(item) for item in await client.lrange(key, 0, -1)]


async def _set(client: Redis, key: bytes) -> Any:
    return sorted(_text(item) for item in await client.smembers(key))


async def _string(client: Redis, key: bytes) -> Any:
    return _text(await client.get(key) or b"")


async def _sorted(client: Redis, key: bytes) -> Any:
    return [[_text(item), score] for item, score in await client.zrange(key, 0, -1, withscores=True)]


async def _stream(client: Redis, key: bytes) -> Any:
    return [[_text(name), [[_text(f), _text(v)] for f, v in fields.items()]] for name, fields in await client.xrange(key)]


async def _to_stream(client: Redis, key: bytes, value: Any) -> None:
    for name, fields in value:
        await client.xadd(key, {_bytes(f): _bytes(v) for f, v in fields}, id=_bytes(name))


READ: dict[str, Any] = {"hash": _hash, "list": _list, "set": _set, "string": _string, "zset": _sorted, "stream": _stream}
WRITE: dict[str, Any] = {
    "hash": lambda client, key, value: client.hset(key, mapping={_bytes(f): _bytes(v) for f, v in value}),
    "list": lambda client, key, value: client.rpush(key, *map(_bytes, value)),
    "set": lambda client, key, value: client.sadd(key, *map(_bytes, value)),
    "string": lambda client, key, value: client.set(key, _bytes(value)),
    "zset": lambda client, key, value: client.zadd(key, {_bytes(item): score for item, score in value}),
    "stream": _to_stream,
}


def _text(value: bytes) -> str:
    """Readable where it can be, else base64."""
    text = value.decode("ascii", "replace")
    return f"={text}" if text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text else base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    return text[1:].encode() if text.startswith("=") else base64.b64decode(text)


def record_of(line: Sequence[Any]) -> Record:
    partition, offset, key, value = line
    return Record(partition, offset, key.encode(), value.encode())


async def write(path: Path) -> None:
    records = the_records()
    with Valkey() as valkey:
        async with connect(RedisSettings(url=SecretStr(valkey.url))) as client:
            reader, recorder = reader_of(client), Recorder(the_config(), RedisRecord(client, PREFIX))
            await alerts(client)
            fence = await Lease(client, PREFIX, 60.0, "earlier").hold()
            assert fence is not None

            async def tick() -> None:
                await reader.tick()
                await recorder.tick(fence, reader.views)

            await count(client, records[:COUNTED], tick)
            points = await history(client, reader)
            keys = await dumped(client)
    content = {
        "release": metadata.version("funnelwatch"),
        "layout": LAYOUT,
        "counted": COUNTED,
        "history": points,
        "records": [[r.partition, r.offset, (r.key or b"").decode(), (r.value or b"").decode()] for r in records],
        "keys": keys,
    }
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace('],["', '],\n["').replace('],"', '],\n"') + "\n")


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))
