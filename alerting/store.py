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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog
from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis

from alerting.contract import TRANSITIONS_MAX, Commit
from alerting.lifecycle import AlertKey, RuleState
from alerting.outbox import ENTRIES_MAX, OutboxEntry
from schemas.report import Transition
from streams.lease import leader_key, store_errors

COMMIT = Path(__file__).with_name("commit.lua").read_text("utf-8")

# An entry that another leader has sent meanwhile must not come back.
POSTPONE = "if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end"

# States are read and written as a whole at every boundary, and there may be ten thousand of them.
STATE, ALERT = msgspec.json.Decoder(RuleState), msgspec.json.Decoder(AlertKey)
ENCODE = msgspec.json.Encoder().encode

log = structlog.get_logger()
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


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
        pairs = ((_read(ALERT.decode, alert), _read(STATE.decode, state)) for alert, state in stored.items())
        return {alert: state for alert, state in pairs if alert is not None and state is not None}

    async def transitions(self, limit: int = TRANSITIONS_MAX) -> list[Transition]:
        with store_errors():
            stored = await self._client.lrange(self._transitions, 0, limit - 1) if limit > 0 else []
        return _read_models(Transition, stored)

    async def outbox(self) -> list[OutboxEntry]:
        with store_errors():
            stored = await self._client.hgetall(self._outbox)
        return _read_models(OutboxEntry, stored.values())

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
            "states": [[_text(alert), _text(state)] for alert, state in commit.states.items()],
            "removed": [_text(alert) for alert in commit.removed],
            "entries": [[entry.id, entry.model_dump_json()] for entry in commit.entries],
            "transitions": [transition.model_dump_json() for transition in commit.transitions],
        }
    )


def _text(what: AlertKey | RuleState) -> str:
    return ENCODE(what).decode()


def _read_models(model: type[M], stored: Iterable[bytes | str]) -> list[M]:
    return [read for raw in stored if (read := _read(model.model_validate_json, raw)) is not None]


def _read(decode: Callable[[bytes | str], T], raw: bytes | str) -> T | None:
    """What was stored, or None when another version wrote it in a shape this one does not know.

    Forgetting one state makes its alert start anew; raising here would silence all of them.
    """
    try:
        return decode(raw)
    except (ValidationError, msgspec.DecodeError) as error:
        log.warning("unreadable in the store of alerts, ignored", stored=str(raw[:200]), error=str(error))
        return None
