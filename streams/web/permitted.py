"""What a worker shows to a token of some funnels: as if there were no others.

The API is made a second time over these readings, so that whatever is asked, listed, suggested or
streamed there knows only the config's part that the token may see.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from schemas.config import Config
from schemas.duration import Duration
from schemas.explanation import EntityExplanation
from schemas.history import ComparisonReport, HistoryReport
from schemas.pipeline import PIPELINE
from schemas.report import Alerts, AlertState, AuditEntry, DeadLetterReport, FunnelReport, FunnelSummary, SilenceReport, Transition
from schemas.silence import NewAcknowledgement, NewSilence, Resend, Signed
from streams.archive import HistoryAsked
from streams.periods import CompareAsked

if TYPE_CHECKING:
    from streams.web.readings import Readings
    from streams.web.stream import Hub


class Audience(NamedTuple):
    """Who may see some funnels, and hear of their sources."""

    funnels: frozenset[str]
    sources: frozenset[str]

    def hears(self, alert: AlertState | Transition) -> bool:
        """Whether an alert is of its funnels; the pipeline's own is of a source."""
        if alert.rule == PIPELINE and not alert.funnel:
            return alert.value in self.sources
        return alert.funnel in self.funnels

    def narrowed(self, body: bytes) -> bytes:
        """The alerts of a tick, in JSON, without those of others."""
        alerts = Alerts.model_validate_json(body)
        kept = Alerts(
            states=[one for one in alerts.states if self.hears(one)], transitions=[t for t in alerts.transitions if self.hears(t)]
        )
        return kept.model_dump_json().encode()


def audience_of(config: Config, funnels: Sequence[str]) -> Audience:
    """Those who may see the funnels of these names."""
    return Audience(frozenset(funnels), frozenset(config.funnel(name).source for name in funnels))


def permitted_config(config: Config, audience: Audience) -> Config:
    """The part of a config that an audience may see."""
    return config.model_copy(
        update={
            "sources": tuple(source for source in config.sources if source.name in audience.sources),
            "funnels": tuple(funnel for funnel in config.funnels if funnel.name in audience.funnels),
            "alerts": tuple(rule for rule in config.alerts if rule.funnel in audience.funnels),
        }
    )


class Permitted:
    """`web.readings.Readings` for an audience."""

    def __init__(self, readings: Readings, audience: Audience) -> None:
        self._readings = readings
        self.audience = audience
        self.config = permitted_config(readings.config, audience)

    @property
    def hub(self) -> Hub:
        return self._readings.hub

    def summaries(self) -> list[FunnelSummary]:
        return [one for one in self._readings.summaries() if one.name in self.audience.funnels]

    def report(self, funnel: str, window: Duration, by: str | None, basis: str) -> FunnelReport:
        return self._readings.report(funnel, window, by, basis)

    async def history(self, asked: HistoryAsked) -> tuple[HistoryReport, int | None]:
        return await self._readings.history(asked)

    async def compare(self, asked: CompareAsked) -> ComparisonReport:
        return await self._readings.compare(asked)

    async def explanation(self, entity: str) -> EntityExplanation | None:
        found = await self._readings.explanation(entity)
        if found is None:
            return None
        parts = [(one, tuple(f for f in one.funnels if f.funnel in self.audience.funnels)) for one in found.sources]
        sources = tuple(one.model_copy(update={"funnels": kept, "former": ()}) for one, kept in parts if kept)
        return found.model_copy(update={"sources": sources}) if sources else None

    async def alert_states(self) -> list[AlertState]:
        return [one for one in await self._readings.alert_states() if self.audience.hears(one)]

    async def transitions(self, limit: int) -> list[Transition]:
        from streams.web.alerts import TRANSITIONS_MAX

        return [one for one in await self._readings.transitions(TRANSITIONS_MAX) if self.audience.hears(one)][:limit]

    async def silences(self) -> list[SilenceReport]:
        return [one for one in await self._readings.silences() if self._concerns(one)]

    def _concerns(self, silence: SilenceReport) -> bool:
        """Whether it may hold an alert of these funnels, or of their sources."""
        wanted = {part: silence.matchers.get(part, "*") for part in ("rule", "funnel", "stage")}
        subjects = [(PIPELINE, "", ""), *((rule.name, rule.funnel, rule.stage) for rule in self.config.alerts)]
        return any(all(fnmatchcase(name, pattern) for name, pattern in zip(subject, wanted.values())) for subject in subjects)

    async def dead_letters(self) -> list[DeadLetterReport]:
        return [one for one in await self._readings.dead_letters() if self.audience.hears(one.transition)]

    # What changes something needs a token of all funnels: see `schemas.access.check_access`.

    async def add_silence(self, asked: NewSilence) -> SilenceReport:
        return await self._readings.add_silence(asked)

    async def expire_silence(self, name: str, by: Signed) -> SilenceReport | None:
        return await self._readings.expire_silence(name, by)

    async def acknowledge(self, asked: NewAcknowledgement) -> AlertState | None:
        return await self._readings.acknowledge(asked)

    async def resend(self, asked: Resend) -> bool:
        return await self._readings.resend(asked)

    async def audit(self, limit: int) -> list[AuditEntry]:
        return await self._readings.audit(limit)

    async def entity_read(self, entity: str, author: str, sources: Sequence[str]) -> None:
        await self._readings.entity_read(entity, author, sources)

    def alive(self) -> tuple[bool, str]:
        return self._readings.alive()

    async def ready(self) -> tuple[bool, str]:
        return await self._readings.ready()

    def metrics(self) -> Sequence[bytes]:
        return self._readings.metrics()
