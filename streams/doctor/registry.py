"""Gathers whether the schema registry answers, for the sources whose records need one."""

from __future__ import annotations

from schemas.config import Config
from schemas.errors import FunnelwatchError
from schemas.settings import RegistrySettings
from streams.doctor.facts import ChannelFacts
from streams.registry import SchemaRegistry

ANY_SCHEMA = 1  # whether it knows this one is all the same


async def registry_facts(config: Config, settings: RegistrySettings) -> list[ChannelFacts]:
    """One asking for each format that a source has."""
    return [await _facts(f"registry ({format_})", format_, settings) for format_ in ("avro", "json_schema") if _is_used(config, format_)]


def _is_used(config: Config, format_: str) -> bool:
    return any(source.format == format_ for source in config.sources)


async def _facts(name: str, format_: str, settings: RegistrySettings) -> ChannelFacts:
    try:
        registry = SchemaRegistry(settings, "avro" if format_ == "avro" else "json_schema")
        try:
            await registry.readers([ANY_SCHEMA])
        finally:
            await registry.close()
    except FunnelwatchError as error:
        what, _, remedy = str(error).partition("; ")
        return ChannelFacts(name, "", what, remedy or "see the settings FUNNELWATCH_REGISTRY__")
    return ChannelFacts(name, "answers")
