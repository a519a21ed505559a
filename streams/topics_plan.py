"""[pure] Which topics a config needs, what is there of them, and what is to be done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.channel import KafkaChannel
from schemas.config import Config

PARTITIONS = 6  # of a source that nobody has created yet, unless told otherwise
WHY_NEVER = (
    "a partition count is never changed: the records that a person has and those to come would lie in two partitions and be counted apart; "
    "create a topic of another name with the wanted count, and give the source a new name"
)
Role = Literal["source", "re-keyed", "dead-letter", "alerts"]
Action = Literal["exists", "create", "differs"]


@dataclass(frozen=True)
class Need:
    """A topic that the config names; `like` is the topic whose partition count it must have."""

    topic: str
    role: Role
    like: str = ""


@dataclass(frozen=True)
class Step:
    """What is to be done about a topic, and why nothing is done where something differs."""

    topic: str
    role: Role
    action: Action
    partitions: int
    note: str = ""


def needs_of(config: Config) -> list[Need]:
    """Every topic that a config needs on the service's own brokers, each once, the sources' first."""
    found: dict[str, Need] = {source.topic: Need(source.topic, "source") for source in config.sources}
    for source in config.sources:
        if not source.entity_key:
            found.setdefault(source.keyed_topic, Need(source.keyed_topic, "re-keyed", like=source.topic))
        found.setdefault(source.dead_letter_topic, Need(source.dead_letter_topic, "dead-letter"))
    for channel in config.channels.values():
        if isinstance(channel, KafkaChannel) and not channel.brokers:
            found.setdefault(channel.topic, Need(channel.topic, "alerts"))
    return list(found.values())


def steps(needs: list[Need], there: Mapping[str, int], partitions: int | None = None) -> Iterator[Step]:
    """What is to be done, given the partition counts of the topics that exist and the wish for new sources."""
    for need in needs:
        wanted = _wanted(need, there, partitions)
        found = there.get(need.topic)
        if found is None:
            note = "this count stays for ever: a person's events must keep to one partition" if need.role == "source" else ""
            yield Step(need.topic, need.role, "create", wanted, note)
        elif need.like and found != wanted:
            yield Step(need.topic, need.role, "differs", found, f"must have {wanted} partitions, as {need.like} has; {WHY_NEVER}")
        elif need.role == "source" and partitions is not None and found != partitions:
            yield Step(need.topic, need.role, "exists", found, f"has {found} partitions, not {partitions}: {WHY_NEVER}")
        else:
            yield Step(need.topic, need.role, "exists", found)


def _wanted(need: Need, there: Mapping[str, int], partitions: int | None) -> int:
    if need.role == "source":
        return partitions or PARTITIONS
    return there.get(need.like, partitions or PARTITIONS) if need.like else 1
