"""What a store of alerts must do, whatever it keeps them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from alerting.lifecycle import AlertKey, RuleState
from alerting.outbox import OutboxEntry
from schemas.report import Transition

TRANSITIONS_MAX = 1000


@dataclass(frozen=True)
class Commit:
    """All that one evaluation changes; it is written as a whole or not at all."""

    states: Mapping[AlertKey, RuleState] = field(default_factory=dict)
    removed: tuple[AlertKey, ...] = ()
    entries: tuple[OutboxEntry, ...] = ()
    transitions: tuple[Transition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.states or self.removed or self.entries or self.transitions)


class AlertStore(Protocol):
    """States, outbox and history of all alerts. Every method may raise StoreError."""

    async def states(self) -> dict[AlertKey, RuleState]:
        """The state of every alert that was ever evaluated and is still configured."""

    async def transitions(self, limit: int = TRANSITIONS_MAX) -> list[Transition]:
        """The last changes of state, newest first; 1,000 are kept."""

    async def outbox(self) -> list[OutboxEntry]:
        """Everything that waits to be sent, in no order."""

    async def commit(self, fence: int, commit: Commit) -> bool:
        """Write everything, if `fence` is the newest token; False, and nothing written, if not.

        An outbox that is full takes no more entries; that is logged, and the rest is written.
        """

    async def postpone(self, entry: OutboxEntry) -> None:
        """Keep an entry with its new count of tries; nothing if it is no longer there."""

    async def remove(self, entry: OutboxEntry) -> None:
        """Forget an entry that was sent or refused."""
