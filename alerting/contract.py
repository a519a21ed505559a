"""What a store of alerts must do, whatever it keeps them in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from alerting.lifecycle import AlertKey, RuleState
from alerting.outbox import OutboxEntry
from schemas.report import AuditEntry, Transition
from schemas.silence import Silence

TRANSITIONS_MAX = 1000
AUDIT_MAX = 10_000
DEAD_LETTERS_MAX = 1000
OUTBOX_FULL = "the outbox was full"


@dataclass(frozen=True)
class Commit:
    """All that one evaluation changes; it is written as a whole or not at all."""

    states: Mapping[AlertKey, RuleState] = field(default_factory=dict)
    removed: tuple[AlertKey, ...] = ()
    entries: tuple[OutboxEntry, ...] = ()
    transitions: tuple[Transition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.states or self.removed or self.entries or self.transitions)


@dataclass(frozen=True)
class Acknowledgement:
    """Somebody has seen an incident; it ends with it. `at_us` is the wall clock's."""

    incident_us: int
    by: str
    at_us: int


class DeadLetter(BaseModel):
    """A notification that was given up, why, and when."""

    model_config = ConfigDict(frozen=True)

    entry: OutboxEntry
    error: str
    at: datetime

    @property
    def id(self) -> str:
        return self.entry.id


def newest_of(done: list[AuditEntry], seen: list[AuditEntry], limit: int) -> list[AuditEntry]:
    """Two lists that are newest first as one."""
    return list(islice(merge(done, seen, key=lambda entry: entry.at, reverse=True), max(0, limit)))


class AlertStore(Protocol):
    """States, outbox and history of all alerts. Every method may raise StoreError.

    What only the leader may write carries a fencing token, and is not written when that is not the
    newest; what people write (silences, acknowledgements, a resend) carries an entry of the audit log.
    """

    async def states(self) -> dict[AlertKey, RuleState]:
        """The state of every alert that was ever evaluated and is still configured, with its acknowledgement."""

    async def transitions(self, limit: int = TRANSITIONS_MAX) -> list[Transition]:
        """The last changes of state, newest first; 1,000 are kept."""

    async def outbox(self) -> list[OutboxEntry]:
        """Everything that waits to be sent, in no order."""

    async def commit(self, fence: int, commit: Commit) -> bool:
        """Write everything, if `fence` is the newest token; False, and nothing written, if not.

        What an outbox that is full does not take goes to the dead letters; that is logged.
        """

    # The leader's delivery

    def carry(self, fence: int | None) -> None:
        """The token that the next three carry from now on; with None they write nothing."""

    async def postpone(self, entry: OutboxEntry) -> bool:
        """Keep an entry with its new count of tries, if it is still there; False: not the leader any more."""

    async def remove(self, entry: OutboxEntry) -> bool:
        """Forget an entry that was sent; False: not the leader any more."""

    async def dead_letter(self, entry: OutboxEntry, error: str) -> bool:
        """Take an entry that is given up from the outbox to the dead letters; False: not the leader any more.

        The newest 1,000 are kept.
        """

    # What people do

    async def dead_letters(self) -> list[DeadLetter]:
        """What was given up, newest first."""

    async def resend(self, name: str, audit: AuditEntry) -> bool:
        """Put a dead letter back into the outbox as if it was never tried; False if there is none of that id."""

    async def silences(self) -> list[Silence]:
        """Every silence that is kept: active, to come, and over."""

    async def keep_silence(self, silence: Silence, audit: AuditEntry, forget: tuple[str, ...] = ()) -> None:
        """Add or replace a silence, and forget others."""

    async def acknowledge(self, alert: AlertKey, acknowledgement: Acknowledgement, audit: AuditEntry) -> None:
        """Note who has seen an incident."""

    async def note_access(self, audit: AuditEntry) -> None:
        """Note who looked at what; 10,000 are kept, apart from what people did, which many looks must not push out."""

    async def audit(self, limit: int = AUDIT_MAX) -> list[AuditEntry]:
        """What people did and looked at, newest first; 10,000 of each are kept."""
