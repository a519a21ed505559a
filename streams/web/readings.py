"""What the HTTP side reads from a worker; the seam between the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.config import Config
from schemas.duration import Duration
from schemas.explanation import EntityExplanation
from schemas.report import FunnelReport, FunnelSummary
from streams.web.alerts import Alerting
from streams.web.compare import Compares
from streams.web.history import Remembers
from streams.web.stream import Streams


class Readings(Alerting, Remembers, Compares, Streams, Protocol):
    """Everything the API shows. Called on the worker's own loop, so each answer must be cheap.

    Raises StoreError where Redis has to be asked and does not answer; the API makes a 503 of it.
    """

    @property
    def config(self) -> Config: ...

    def summaries(self) -> list[FunnelSummary]:
        """Every funnel of the config, in its order."""
        ...

    def report(self, funnel: str, window: Duration, by: str | None, basis: str) -> FunnelReport:
        """A funnel as of the latest tick. The API asks only for what the config has."""
        ...

    async def explanation(self, entity: str) -> EntityExplanation | None:
        """Where an entity stands in every source that knows it; None: none does. Raises StoreError."""
        ...

    async def entity_read(self, entity: str, author: str, sources: Sequence[str]) -> None:
        """Note in the audit log who looked at an entity, and where it is known. Raises StoreError."""
        ...

    def alive(self) -> tuple[bool, str]:
        """Whether the consume loop turns, and a sentence about it."""
        ...

    async def ready(self) -> tuple[bool, str]:
        """Whether partitions are assigned and Redis answers, and a sentence about it."""
        ...

    def metrics(self) -> Sequence[bytes]:
        """All metrics in the Prometheus text format, version 0.0.4, in pieces."""
        ...
