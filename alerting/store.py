"""Alerts kept in Redis: states, the outbox of notifications, and the last transitions.

Three keys, beside the lease's two, on one slot of a cluster:

    {PREFIX:leader}:alerts        hash   [rule, dimension, value] -> state
    {PREFIX:leader}:outbox        hash   channel/key -> a notification that waits to be sent
    {PREFIX:leader}:transitions   list   the last 1,000 changes of state, newest first

`commit.lua` writes all three in one step, and only for the holder of the newest fencing token: a
notification is in the outbox exactly when the change it tells of is in the states.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import TypeAdapter, ValidationError
from redis.asyncio import Redis

from alerting.contract import TRANSITIONS_MAX, Commit
from alerting.lifecycle import AlertKey, RuleState
from alerting.outbox import ENTRIES_MAX, OutboxEntry
from schemas.report import Transition
from streams.lease import leader_key, store_errors

COMMIT = Path(__file__).with_name("commit.lua").read_text("utf-8")

# An entry that another leader has sent meanwhile must not come back.
POSTPONE = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end"

ALERT = TypeAdapter(AlertKey)
STATE = TypeAdapter(RuleState)
ENTRY = TypeAdapter(OutboxEntry)
TRANSITION = TypeAdapter(Transition)

log = structlog.get_logger()
T = TypeVar("T")


class RedisAlertStore:
    """The contract of `AlertStore` in Redis 7.0 or later, standalone or Cluster."""

    def __init__(self, client: Redis, prefix: str, entries_max: int = ENTRIES_MAX) -> None:
        self._client = client
        self._entries_max = entries_max
        self._alerts, self._outbox, self._transitions, self._fence = (
            leader_key(prefix, name) for name in ("alerts", "outbox", "transitions", "fence")
        )

    async def states(self) -> dict[AlertKey, RuleState]:
        with store_errors():
            stored = await self._client.hgetall(self._alerts)
        pairs = ((_read(ALERT, alert), _read(STATE, state)) for alert, state in stored.items())
        return {alert: state for alert, state in pairs if alert is not None and state is not None}

    async def transitions(self, limit: int = TRANSITIONS_MAX) -> list[Transition]:
        with store_errors():
            stored = await self._client.lrange(self._transitions, 0, limit - 1) if limit > 0 else []
        return _read_all(TRANSITION, stored)

    async def outbox(self) -> list[OutboxEntry]:
        with store_errors():
            stored = await self._client.hgetall(self._outbox)
        return _read_all(ENTRY, stored.values())

    async def commit(self, fence: int, commit: Commit) -> bool:
        keys = (self._alerts, self._outbox, self._transitions, self._fence)
        with store_errors():
            lost = int(await self._client.eval(COMMIT, 4, *keys, fence, _packed(commit), self._entries_max, TRANSITIONS_MAX))
        if lost > 0:
            log.error("outbox full, notifications lost", lost=lost)
        return lost >= 0

    async def postpone(self, entry: OutboxEntry) -> None:
        with store_errors():
            await self._client.eval(POSTPONE, 1, self._outbox, entry.id, entry.model_dump_json())

    async def remove(self, entry: OutboxEntry) -> None:
        with store_errors():
            await self._client.hdel(self._outbox, entry.id)


def _packed(commit: Commit) -> str:
    return json.dumps(
        {
            "states": [[_field(alert), STATE.dump_json(state).decode()] for alert, state in commit.states.items()],
            "removed": [_field(alert) for alert in commit.removed],
            "entries": [[entry.id, entry.model_dump_json()] for entry in commit.entries],
            "transitions": [transition.model_dump_json() for transition in commit.transitions],
        }
    )


def _field(alert: AlertKey) -> str:
    return json.dumps(alert, ensure_ascii=False)


def _read_all(shape: TypeAdapter[T], stored: Iterable[bytes | str]) -> list[T]:
    return [read for raw in stored if (read := _read(shape, raw)) is not None]


def _read(shape: TypeAdapter[T], raw: bytes | str) -> T | None:
    """What was stored, or None when another version wrote it in a shape this one does not know.

    Forgetting one state makes its alert start anew; raising here would silence all of them.
    """
    try:
        return shape.validate_json(raw)
    except ValidationError as error:
        log.warning("unreadable in the store of alerts, ignored", stored=str(raw[:200]), error=str(error.errors()[0]["msg"]))
        return None
