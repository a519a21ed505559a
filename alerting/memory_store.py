"""Alerts kept in this process: for replays, backtests and tests."""

from __future__ import annotations

import structlog

from alerting.contract import TRANSITIONS_MAX, Commit
from alerting.lifecycle import AlertKey, RuleState
from alerting.outbox import ENTRIES_MAX, OutboxEntry
from schemas.report import Transition

log = structlog.get_logger()


class MemoryAlertStore:
    """The contract of `AlertStore` without Redis. `fence` is the newest token; commits must carry it."""

    def __init__(self, fence: int = 0, entries_max: int = ENTRIES_MAX) -> None:
        self.fence = fence
        self._entries_max = entries_max
        self._states: dict[AlertKey, RuleState] = {}
        self._transitions: list[Transition] = []
        self._outbox: dict[str, OutboxEntry] = {}

    async def states(self) -> dict[AlertKey, RuleState]:
        return dict(self._states)

    async def transitions(self, limit: int = TRANSITIONS_MAX) -> list[Transition]:
        return self._transitions[:limit]

    async def outbox(self) -> list[OutboxEntry]:
        return list(self._outbox.values())

    async def commit(self, fence: int, commit: Commit) -> bool:
        if fence != self.fence:
            return False
        room = max(0, self._entries_max - len(self._outbox))
        self._outbox |= {entry.id: entry for entry in commit.entries[:room]}
        if len(commit.entries) > room:
            log.error("outbox full, notifications lost", lost=len(commit.entries) - room)
        self._transitions = [*reversed(commit.transitions), *self._transitions][:TRANSITIONS_MAX]
        self._states = {alert: state for alert, state in self._states.items() if alert not in commit.removed}
        self._states |= commit.states
        return True

    async def postpone(self, entry: OutboxEntry) -> None:
        if entry.id in self._outbox:
            self._outbox[entry.id] = entry

    async def remove(self, entry: OutboxEntry) -> None:
        self._outbox.pop(entry.id, None)
