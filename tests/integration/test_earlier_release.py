"""What the release before has stored is read: its counts go on, its alerts are known, its history is shown.

When this fails after a change on purpose, the change needs a note in deploy/upgrading.md, and the file a
successor, written by `python -m tests.parts.earlier` in a checkout of the release before.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from redis.asyncio import Redis
from structlog.testing import capture_logs

from alerting.store import RedisAlertStore
from schemas.settings import RedisSettings
from streams.embedded import RedisProcess
from streams.ledger.redis import RedisLedger
from streams.plan import LAYOUT
from streams.redis_client import connect
from tests.books import Books, assert_counts_exact, books_of
from tests.oracle import Recount, recount
from tests.oracle_events import Record
from tests.parts import earlier
from tests.parts.earlier import FIRING, PREFIX, record_of, restored
from tests.traffic import CONFIG

ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests" / "data" / "stored-0.1.0.json"
kept: dict[str, Any] = json.loads(STORED.read_text("utf-8"))
RECORDS = [record_of(line) for line in kept["records"]]


@pytest.fixture(params=["valkey", "redis_server"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """A Redis that holds what the release before has stored, under its own prefix."""
    process: RedisProcess = request.getfixturevalue(request.param)
    async with connect(RedisSettings(url=SecretStr(process.url))) as client:
        await _clear(client)
        await restored(client, kept["keys"])
        yield client
        await _clear(client)


async def _clear(client: Redis) -> None:
    for pattern in (f"{PREFIX}:*", f"{{{PREFIX}:*"):
        async for key in client.scan_iter(match=pattern, count=1000):
            await client.unlink(key)


def expected(records: list[Record]) -> Recount:
    return recount(yaml.safe_load(CONFIG.format(topic=earlier.TOPIC, source="allowed_lateness: 60s")), records)


async def books(client: Redis) -> Books:
    return await books_of(earlier.the_config(), RedisLedger(client, PREFIX))


async def test_the_counts_are_read_as_they_were_and_go_on(redis: Redis) -> None:
    """The same definitions, so no funnel begins anew; the states are what the next events are folded into."""
    counted = kept["counted"]
    assert_counts_exact(expected(RECORDS[:counted]), await books(redis))
    await earlier.count(redis, RECORDS[counted:])
    assert_counts_exact(expected(RECORDS), await books(redis))


async def test_alerts_silences_and_what_waits_to_be_told_are_read(redis: Redis) -> None:
    store = RedisAlertStore(redis, PREFIX)
    with capture_logs() as logs:
        states = await store.states()
        assert (states[FIRING].state, states[FIRING].acknowledged_by, len(states)) == ("firing", "kim", 2)
        assert [entry.notification.alert.value for entry in await store.outbox()] == ["ios"]
        assert [letter.error for letter in await store.dead_letters()] == ["refused"]
        assert [silence.id for silence in await store.silences()] == ["5f3c"]
        assert [transition.rule for transition in await store.transitions()] == [FIRING.rule]
        assert len(await store.audit()) == 2
    assert logs == [], "something was unreadable, and ignored"


async def test_the_history_that_was_recorded_is_shown(redis: Redis) -> None:
    reader = earlier.reader_of(redis)
    await reader.tick()
    shown = await earlier.history(redis, reader)
    assert sum(point["stages"][0]["users"] or 0 for point in kept["history"]) > 0
    for before, now in zip(kept["history"], shown, strict=True):
        assert _same(before, now), (before, now)


def _same(before: Any, now: Any) -> bool:
    """Whether all that was there is there; there may be more."""
    if isinstance(before, dict):
        return all(name in now and _same(value, now[name]) for name, value in before.items())
    if isinstance(before, list):
        return len(before) == len(now) and all(_same(*pair) for pair in zip(before, now, strict=True))
    return bool(before == now)


def test_another_layout_comes_with_a_note() -> None:
    notes = (ROOT / "deploy" / "upgrading.md").read_text("utf-8")
    assert f"layout {LAYOUT}" in notes
    assert kept["layout"] == LAYOUT or f"layout {kept['layout']} to layout {LAYOUT}" in notes
