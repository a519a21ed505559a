"""What people do to the alerts: silence them, acknowledge them, send again what was given up; each with its line in the audit log."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from alerting import silences
from alerting.contract import AUDIT_MAX, Acknowledgement, AlertStore, DeadLetter
from alerting.lifecycle import AlertKey
from alerting.reports import alert_states, moment
from schemas.config import Config
from schemas.duration import MICROS
from schemas.errors import UsageError
from schemas.report import AlertState, AuditEntry, DeadLetterReport, SilenceReport
from schemas.silence import NewAcknowledgement, NewSilence, Resend, Signed, Silence

DIGEST_DIGITS = 24


class Desk:
    """Every method may raise StoreError, and UsageError for what cannot be done as asked."""

    def __init__(self, config: Config, store: AlertStore, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._store = store
        self._clock = clock

    @property
    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), timezone.utc)

    async def alert_states(self) -> list[AlertState]:
        """Where every alert stands."""
        states, kept = await asyncio.gather(self._store.states(), self._store.silences())
        return alert_states(self._config, states, kept, self._now)

    async def silences(self) -> list[SilenceReport]:
        """Every silence: active, to come, and over."""
        return [silences.report(silence, self._now) for silence in await self._store.silences()]

    async def add_silence(self, asked: NewSilence) -> SilenceReport:
        """Hold alerts back from now or from later on."""
        now, kept = self._now, await self._store.silences()
        try:
            silence = silences.begun(asked, secrets.token_hex(4), now)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if sum(silences.state_of(one, now) != "expired" for one in kept) >= silences.SILENCES_MAX:
            raise UsageError(f"there are {silences.SILENCES_MAX} silences already; expire some first")
        what = ", ".join(f"{part}={pattern}" for part, pattern in silence.matchers.patterns.items())
        detail = f"{what} from {silence.starts:%Y-%m-%dT%H:%M:%SZ} to {silence.ends:%Y-%m-%dT%H:%M:%SZ}"
        audit = self._audit("silence_added", silence.id, detail, silence)
        await self._store.keep_silence(silence, audit, silences.superfluous(kept, now))
        return silences.report(silence, now)

    async def expire_silence(self, name: str, by: Signed) -> SilenceReport | None:
        """End a silence now; one that is over already stays as it is. None: there is none of that id."""
        silence = next((one for one in await self._store.silences() if one.id == name), None)
        if silence is None:
            return None
        now = self._now
        over = silences.ended(silence, now)
        if over != silence:
            await self._store.keep_silence(over, self._audit("silence_expired", name, f"was to end {silence.ends:%Y-%m-%dT%H:%M:%SZ}", by))
        return silences.report(over, now)

    async def acknowledge(self, asked: NewAcknowledgement) -> AlertState | None:
        """Note that an incident was seen, until it is over. None: there is no such alert."""
        alert = AlertKey(asked.rule, asked.dimension, asked.value)
        state = (await self._store.states()).get(alert)
        if state is None:
            return None
        if not state.fires or state.incident_us is None:
            raise UsageError(f"{' '.join(part for part in alert if part)} does not fire, so there is nothing to acknowledge")
        ack = Acknowledgement(state.incident_us, asked.author, int(self._clock() * MICROS))
        shown = "/".join(part for part in alert if part)
        detail = f"the incident of {moment(state.incident_us):%Y-%m-%dT%H:%M:%SZ}"
        await self._store.acknowledge(alert, ack, self._audit("acknowledged", shown, detail, asked))
        return next(one for one in await self.alert_states() if (one.rule, one.dimension, one.value) == tuple(alert))

    async def dead_letters(self) -> list[DeadLetterReport]:
        """What was given up, newest first."""
        return [_letter(letter) for letter in await self._store.dead_letters()]

    async def resend(self, asked: Resend) -> bool:
        """Send a dead letter again. False: there is none of that id."""
        return await self._store.resend(asked.id, self._audit("resent", asked.id, "", asked))

    async def entity_read(self, entity: str, author: str, sources: Sequence[str]) -> None:
        """Note that somebody looked at an entity: not its id, which is nobody's business here, but its digest,
        by which one may look for those of an id one has."""
        where = f"known in {', '.join(sources)}" if sources else "not known"
        audit = AuditEntry(at=self._now, author=author, action="entity_read", subject=digest_of(entity), detail=where, reason="")
        await self._store.note_access(audit)

    async def audit(self, limit: int = AUDIT_MAX) -> list[AuditEntry]:
        """What people did, newest first."""
        return await self._store.audit(limit)

    def _audit(self, action: str, subject: str, detail: str, by: Signed | Silence) -> AuditEntry:
        return AuditEntry(at=self._now, author=by.author, action=action, subject=subject, detail=detail, reason=by.reason)


def digest_of(entity: str) -> str:
    """What the audit log calls an entity. An id that can be guessed can be looked for: it is not anonymous, but no list of ids."""
    return f"sha256:{hashlib.sha256(entity.encode('utf-8', 'surrogatepass')).hexdigest()[:DIGEST_DIGITS]}"


def _letter(letter: DeadLetter) -> DeadLetterReport:
    told = letter.entry.notification
    return DeadLetterReport(
        id=letter.id, channel=letter.entry.channel, status=told.status, title=told.title, error=letter.error,
        attempts=letter.entry.attempts, at=letter.at, transition=told.transition,
    )  # fmt: skip
