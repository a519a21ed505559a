"""Alerts kept in this process: for replays, backtests and tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone

import structlog

from alerting.contract import AUDIT_MAX, DEAD_LETTERS_MAX, OUTBOX_FULL, TRANSITIONS_MAX, Acknowledgement, Commit, DeadLetter, newest_of
from alerting.lifecycle import AlertKey, RuleState
from alerting.outbox import ENTRIES_MAX, OutboxEntry
from schemas.report import AuditEntry, Transition
from schemas.silence import Silence

log = structlog.get_logger()


class MemoryAlertStore:
    """The contract of `AlertStore` without Redis. `fence` is the newest token; commits must carry it."""

    def __init__(self, fence: int = 0, entries_max: int = ENTRIES_MAX, clock: Callable[[], float] = time.time) -> None:
        self.fence = fence
        self._token: int | None = fence
        self._entries_max = entries_max
        self._clock = clock
        self._states: dict[AlertKey, RuleState] = {}
        self._transitions: list[Transition] = []
        self._outbox: dict[str, OutboxEntry] = {}
        self._dead: dict[str, DeadLetter] = {}
        self._acks: dict[AlertKey, Acknowledgement] = {}
        self._silences: dict[str, Silence] = {}
        self._audit: list[AuditEntry] = []
        self._accesses: list[AuditEntry] = []

    async def states(self) -> dict[AlertKey, RuleState]:
        return {alert: self._acknowledged(alert, state) for alert, state in self._states.items()}

    def _acknowledged(self, alert: AlertKey, state: RuleState) -> RuleState:
        ack = self._acks.get(alert)
        if ack is None or not state.fires or ack.incident_us != state.incident_us:
            return state
        return replace(state, acknowledged_by=ack.by, acknowledged_us=ack.at_us)

    async def transitions(self, limit: int = TRANSITIONS_MAX) -> list[Transition]:
        return self._transitions[:limit]

    async def outbox(self) -> list[OutboxEntry]:
        return list(self._outbox.values())

    async def commit(self, fence: int, commit: Commit) -> bool:
        if fence != self.fence:
            return False
        room = max(0, self._entries_max - len(self._outbox))
        self._outbox |= {entry.id: entry for entry in commit.entries[:room]}
        for entry in commit.entries[room:]:
            self._bury(entry, OUTBOX_FULL)
        if len(commit.entries) > room:
            log.error("outbox full, notifications put with the dead letters", lost=len(commit.entries) - room)
        self._transitions = [*reversed(commit.transitions), *self._transitions][:TRANSITIONS_MAX]
        self._states = {alert: state for alert, state in self._states.items() if alert not in commit.removed}
        self._acks = {alert: ack for alert, ack in self._acks.items() if alert not in commit.removed}
        self._states |= commit.states
        return True

    def carry(self, fence: int | None) -> None:
        self._token = fence

    async def postpone(self, entry: OutboxEntry) -> bool:
        if self._token != self.fence:
            return False
        if entry.id in self._outbox:
            self._outbox[entry.id] = entry
        return True

    async def remove(self, entry: OutboxEntry) -> bool:
        if self._token != self.fence:
            return False
        self._outbox.pop(entry.id, None)
        return True

    async def dead_letter(self, entry: OutboxEntry, error: str) -> bool:
        if self._token != self.fence:
            return False
        if self._outbox.pop(entry.id, None) is not None:
            self._bury(entry, error)
        return True

    def _bury(self, entry: OutboxEntry, error: str) -> None:
        self._dead.pop(entry.id, None)
        at = datetime.fromtimestamp(self._clock(), timezone.utc)
        self._dead[entry.id] = DeadLetter(entry=entry, error=error, at=at)
        for oldest in list(self._dead)[: max(0, len(self._dead) - DEAD_LETTERS_MAX)]:
            del self._dead[oldest]

    async def dead_letters(self) -> list[DeadLetter]:
        return list(reversed(self._dead.values()))

    async def resend(self, name: str, audit: AuditEntry) -> bool:
        letter = self._dead.pop(name, None)
        if letter is None:
            return False
        self._outbox[name] = letter.entry.model_copy(update={"attempts": 0, "due": 0.0})
        self._note(audit)
        return True

    async def silences(self) -> list[Silence]:
        return sorted(self._silences.values(), key=lambda silence: (silence.starts, silence.id))

    async def keep_silence(self, silence: Silence, audit: AuditEntry, forget: tuple[str, ...] = ()) -> None:
        self._silences[silence.id] = silence
        for name in forget:
            self._silences.pop(name, None)
        self._note(audit)

    async def acknowledge(self, alert: AlertKey, acknowledgement: Acknowledgement, audit: AuditEntry) -> None:
        self._acks[alert] = acknowledgement
        self._note(audit)

    async def note_access(self, audit: AuditEntry) -> None:
        self._accesses = [audit, *self._accesses][:AUDIT_MAX]

    async def audit(self, limit: int = AUDIT_MAX) -> list[AuditEntry]:
        return newest_of(self._audit[:limit], self._accesses[:limit], limit)

    def _note(self, audit: AuditEntry) -> None:
        self._audit = [audit, *self._audit][:AUDIT_MAX]
