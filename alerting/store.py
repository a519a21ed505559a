"""Alerts kept in Redis: states, the outbox of notifications, the last transitions, and what people did.

Beside the lease's two, on one slot of a cluster:

    {PREFIX:leader}:alerts          hash   [rule, dimension, value] -> state
    {PREFIX:leader}:outbox          hash   channel/key -> a notification that waits to be sent
    {PREFIX:leader}:transitions     list   the last 1,000 changes of state, newest first
    {PREFIX:leader}:dead            hash   channel/key -> a notification that was given up
    {PREFIX:leader}:dead-order      zset   ... by the time it was
    {PREFIX:leader}:acks            hash   [rule, dimension, value] -> who has seen which incident
    {PREFIX:leader}:silences        hash   id -> silence
    {PREFIX:leader}:audit           list   the last 10,000 things that people did, newest first
    {PREFIX:leader}:accesses        list   the last 10,000 looks at entities, newest first

`commit.lua` writes the first five in one step, and only for the holder of the newest fencing token:
a notification is in the outbox exactly when the change it tells of is in the states. `settle.lua`
takes what was sent or given up out again, for that holder too. The last four are written by
whoever is asked to, each time with a line of the audit log; no evaluation writes them, so that
neither side can undo what the other did.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis

from alerting.contract import AUDIT_MAX, DEAD_LETTERS_MAX, OUTBOX_FULL, TRANSITIONS_MAX, Acknowledgement, Commit, DeadLetter, newest_of
from alerting.lifecycle import AlertKey, RuleState
from alerting.outbox import ENTRIES_MAX, OutboxEntry
from schemas.errors import StoreError
from schemas.report import AuditEntry, Transition
from schemas.silence import Silence
from streams.lease import leader_key, store_errors

COMMIT = Path(__file__).with_name("commit.lua").read_text("utf-8")
SETTLE = Path(__file__).with_name("settle.lua").read_text("utf-8")

# One field of a hash, and the line of the audit log that belongs to it.
NOTE = """
redis.call('LPUSH', KEYS[2], ARGV[3])
redis.call('LTRIM', KEYS[2], 0, ARGV[4] - 1)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for place = 5, #ARGV do redis.call('HDEL', KEYS[1], ARGV[place]) end
"""

RESEND = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[5]) then return -1 end
redis.call('LPUSH', KEYS[4], ARGV[3])
redis.call('LTRIM', KEYS[4], 0, ARGV[4] - 1)
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""

ACCESS = """
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
"""

# States are read and written as a whole at every boundary, and there may be ten thousand of them.
STATE, ALERT, ACK = msgspec.json.Decoder(RuleState), msgspec.json.Decoder(AlertKey), msgspec.json.Decoder(Acknowledgement)
ENCODE = msgspec.json.Encoder().encode

log = structlog.get_logger()
T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class RedisAlertStore:
    """The contract of `AlertStore` in Redis 7.0 or later, standalone or Cluster."""

    def __init__(self, client: Redis, prefix: str, entries_max: int = ENTRIES_MAX) -> None:
        self._client = client
        self._entries_max = entries_max
        self._token: int | None = None
        names = ("alerts", "outbox", "transitions", "fence", "dead", "dead-order", "acks", "silences", "audit")
        self._accesses = leader_key(prefix, "accesses")
        self._alerts, self._outbox, self._transitions, self._fence, self._dead, self._order, self._acks, self._silences, self._audit = (
            leader_key(prefix, name) for name in names
        )

    async def states(self) -> dict[AlertKey, RuleState]:
        with store_errors():
            stored, acks = await asyncio.gather(self._client.hgetall(self._alerts), self._client.hgetall(self._acks))
        states = _pairs(STATE.decode, stored)
        acknowledged = _pairs(ACK.decode, acks)
        return {alert: _acknowledged(state, acknowledged.get(alert)) for alert, state in states.items()}

    async def transitions(self, limit: int = TRANSITIONS_MAX) -> list[Transition]:
        return _read_models(Transition, await self._newest(self._transitions, limit))

    async def outbox(self) -> list[OutboxEntry]:
        with store_errors():
            stored = await self._client.hgetall(self._outbox)
        return _read_models(OutboxEntry, stored.values())

    async def commit(self, fence: int, commit: Commit) -> bool:
        keys = (self._alerts, self._outbox, self._transitions, self._fence, self._dead, self._order, self._acks)
        limits = (self._entries_max, TRANSITIONS_MAX, DEAD_LETTERS_MAX)
        with store_errors():
            lost = int(await self._client.eval(COMMIT, len(keys), *keys, fence, _packed(commit), *limits, OUTBOX_FULL))
        if lost > 0:
            log.error("outbox full, notifications put with the dead letters", lost=lost)
        return lost >= 0

    def carry(self, fence: int | None) -> None:
        self._token = fence

    async def postpone(self, entry: OutboxEntry) -> bool:
        return await self._settle("later", entry)

    async def remove(self, entry: OutboxEntry) -> bool:
        return await self._settle("sent", entry)

    async def dead_letter(self, entry: OutboxEntry, error: str) -> bool:
        return await self._settle("dead", entry, error)

    async def _settle(self, verb: str, entry: OutboxEntry, error: str = "") -> bool:
        if self._token is None:
            return False
        keys = (self._outbox, self._fence, self._dead, self._order)
        kept = (verb, entry.id, entry.model_dump_json(), error, DEAD_LETTERS_MAX)
        with store_errors():
            return int(await self._client.eval(SETTLE, len(keys), *keys, self._token, *kept)) > 0

    async def dead_letters(self) -> list[DeadLetter]:
        with store_errors():
            stored = await self._client.hgetall(self._dead)
        found = [letter for raw in stored.values() if (letter := _read(_letter, raw)) is not None]
        return sorted(found, key=lambda letter: letter.at, reverse=True)

    async def resend(self, name: str, audit: AuditEntry) -> bool:
        letter = next((letter for letter in await self.dead_letters() if letter.id == name), None)
        if letter is None:
            return False
        again = letter.entry.model_copy(update={"attempts": 0, "due": 0.0}).model_dump_json()
        keys = (self._dead, self._order, self._outbox, self._audit)
        with store_errors():
            done = await self._client.eval(RESEND, len(keys), *keys, name, again, audit.model_dump_json(), AUDIT_MAX, self._entries_max)
        if int(done) < 0:
            raise StoreError("the outbox is full: wait until some of it is sent, then resend")
        return int(done) > 0

    async def silences(self) -> list[Silence]:
        with store_errors():
            stored = await self._client.hgetall(self._silences)
        return sorted(_read_models(Silence, stored.values()), key=lambda silence: (silence.starts, silence.id))

    async def keep_silence(self, silence: Silence, audit: AuditEntry, forget: tuple[str, ...] = ()) -> None:
        await self._note(self._silences, silence.id, silence.model_dump_json(), audit, forget)

    async def acknowledge(self, alert: AlertKey, acknowledgement: Acknowledgement, audit: AuditEntry) -> None:
        await self._note(self._acks, _text(alert), _text(acknowledgement), audit)

    async def _note(self, key: str, field: str, value: str, audit: AuditEntry, forget: tuple[str, ...] = ()) -> None:
        with store_errors():
            await self._client.eval(NOTE, 2, key, self._audit, field, value, audit.model_dump_json(), AUDIT_MAX, *forget)

    async def note_access(self, audit: AuditEntry) -> None:
        with store_errors():
            await self._client.eval(ACCESS, 1, self._accesses, audit.model_dump_json(), AUDIT_MAX)

    async def audit(self, limit: int = AUDIT_MAX) -> list[AuditEntry]:
        done, seen = [_read_models(AuditEntry, await self._newest(key, limit)) for key in (self._audit, self._accesses)]
        return newest_of(done, seen, limit)

    async def _newest(self, key: str, limit: int) -> list[bytes | str]:
        with store_errors():
            return await self._client.lrange(key, 0, limit - 1) if limit > 0 else []


def _acknowledged(state: RuleState, ack: Acknowledgement | None) -> RuleState:
    if ack is None or not state.fires or ack.incident_us != state.incident_us:
        return state
    return replace(state, acknowledged_by=ack.by, acknowledged_us=ack.at_us)


def _packed(commit: Commit) -> str:
    return json.dumps(
        {
            "states": [[_text(alert), _text(state)] for alert, state in commit.states.items()],
            "removed": [_text(alert) for alert in commit.removed],
            "entries": [[entry.id, entry.model_dump_json()] for entry in commit.entries],
            "transitions": [transition.model_dump_json() for transition in commit.transitions],
        }
    )


def _text(what: AlertKey | RuleState | Acknowledgement) -> str:
    return ENCODE(what).decode()


def _letter(raw: bytes | str) -> DeadLetter:
    kept: dict[str, Any] = msgspec.json.decode(raw)
    return DeadLetter(entry=OutboxEntry.model_validate_json(kept["entry"]), error=kept["error"], at=kept["at"])


def _pairs(decode: Callable[[bytes | str], T], stored: Mapping[bytes | str, bytes | str]) -> dict[AlertKey, T]:
    pairs = ((_read(ALERT.decode, alert), _read(decode, value)) for alert, value in stored.items())
    return {alert: value for alert, value in pairs if alert is not None and value is not None}


def _read_models(model: type[M], stored: Iterable[bytes | str]) -> list[M]:
    return [read for raw in stored if (read := _read(model.model_validate_json, raw)) is not None]


def _read(decode: Callable[[bytes | str], T], raw: bytes | str) -> T | None:
    """What was stored, or None when another version wrote it in a shape this one does not know.

    Forgetting one state makes its alert start anew; raising here would silence all of them.
    """
    try:
        return decode(raw)
    except (ValidationError, msgspec.DecodeError, KeyError, TypeError) as error:
        log.warning("unreadable in the store of alerts, ignored", stored=str(raw[:200]), error=str(error))
        return None
