"""The records of one source as the decoder wants them: what they need of a schema registry is fetched first.

For plain JSON neither happens, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.config import Source
from schemas.settings import RegistrySettings
from streams.records import Readers, Value, schema_ids, to_json_of
from streams.registry import SchemaRegistry

NO_READERS: Readers = {}


class Reading:
    """How one source's records are read."""

    def __init__(self, source: Source, registry: SchemaRegistry | None = None) -> None:
        self._to_json = to_json_of(source)
        self._registry = registry

    def must_ask(self, records: Sequence[Any]) -> bool:
        """Whether the registry has to be asked for what the records name."""
        return self._registry is not None and self._registry.missing(schema_ids(records))

    async def readers(self, records: Sequence[Any]) -> Readers:
        """What reads the records' payloads. Raises RegistryUnavailable."""
        return NO_READERS if self._registry is None else await self._registry.readers(schema_ids(records))

    def values(self, records: Sequence[Any], readers: Readers) -> list[Value]:
        """The records as JSON, in their order; `Unreadable` where one cannot be."""
        return [record.value for record in records] if self._to_json is None else self._to_json(records, readers)

    async def all(self, records: Sequence[Any]) -> list[Value]:
        """Both at once. Raises RegistryUnavailable."""
        return self.values(records, await self.readers(records))

    async def close(self) -> None:
        if self._registry is not None:
            await self._registry.close()


def reading_of(source: Source, settings: RegistrySettings) -> Reading:
    """How the source's records are read. Raises UsageError: no registry is named, or packages are missing."""
    return Reading(source, None if source.format == "json" else SchemaRegistry(settings, source.format))
