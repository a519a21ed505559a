"""The error tree. Every error says what happened, where, and what to do about it.

FunnelwatchError
├── UsageError              bad command line, missing file                exit 2
│   ├── ConfigError         the config file is wrong: all problems, each with its line
│   └── SettingsError       an environment variable is wrong
├── StoreError              Redis does not do what it should
│   ├── StoreUnavailable    no answer, or not in time                     retriable
│   ├── PartitionsChanged   the topic has another partition count than its counts
│   └── OtherPseudonyms     the entities of a shard are stored under another key
├── PositionBeyondEnd       the ledger is ahead of the log: another topic or cluster
├── EverythingRejected      nearly every record of a source is bad
├── RegistryUnavailable     the schema registry does not answer           retriable
├── ServiceUnreachable      a running funnelwatch does not answer         retriable
├── ServiceBusy             it answers that it cannot now                 retriable
└── DeliveryError           a channel did not take a notification         retriable
    ├── DeliveryPaused      ... and says for how long it will take nothing
    └── DeliveryRefused     ... and will not take it next time either
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class FunnelwatchError(Exception):
    """Base of all our errors; `retriable` says whether the same call may succeed later."""

    retriable: ClassVar[bool] = False


class UsageError(FunnelwatchError):
    """The caller asked for something that cannot be done as asked."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a config file: where, what, and what would be right."""

    line: int
    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        tail = f"; {self.remedy}" if self.remedy else ""
        at = f"{self.where}: " if self.where else ""
        return f"{at}{self.what}{tail}"


class ConfigError(UsageError):
    """A config file that cannot be used. `str()` has one line a problem: FILE:LINE: ..."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        super().__init__("\n".join(f"{path}:{p.line}: {p}" for p in problems))


class SettingsError(UsageError):
    """An environment variable that cannot be used."""


class StoreError(FunnelwatchError):
    """Redis does not do what it should."""


class StoreUnavailable(StoreError):
    """Redis did not answer, or not in time."""

    retriable = True


class PartitionsChanged(StoreError):
    """The topic has another number of partitions than when its counts were begun."""

    def __init__(self, topic: str, stored: int, found: int) -> None:
        self.topic, self.stored, self.found = topic, stored, found
        super().__init__(
            f"topic {topic!r} has {found} partitions, its counts were begun with {stored}: entities "
            "would be counted on two partitions. Give the source a new name to count anew from the "
            "topic, or restore the partition count"
        )


class OtherPseudonyms(StoreError):
    """A shard's entities are stored under a pseudonym key that this worker does not have."""

    def __init__(self, shard: str, stored: str, known: Sequence[str]) -> None:
        self.shard, self.stored, self.known = shard, stored, tuple(known)
        ours = " and ".join(repr(key) for key in known if key)
        if not stored:
            what = f"the entities of {shard} are stored by their own ids, and this worker has a key ({ours})"
            remedy = "To give them pseudonyms set FUNNELWATCH_PRIVACY__PREVIOUS_KEY=none beside the key"
        elif not ours:
            what = f"the entities of {shard} are stored under pseudonyms of the key with the fingerprint {stored!r}, and this worker has no key"
            remedy = "Set FUNNELWATCH_PRIVACY__KEY to that key"
        else:
            what = f"the entities of {shard} are stored under the key with the fingerprint {stored!r}, this worker has {ours}"
            remedy = "Set FUNNELWATCH_PRIVACY__KEY to that key, or FUNNELWATCH_PRIVACY__PREVIOUS_KEY to it to change to another"
        super().__init__(f"{what}: everybody would be counted once more. {remedy}")


class PositionBeyondEnd(FunnelwatchError):
    """The stored position is past the end of the log: not the log that was counted."""

    def __init__(self, topic: str, partition: int, stored: int, end: int) -> None:
        self.topic, self.partition, self.stored, self.end = topic, partition, stored, end
        super().__init__(
            f"{topic}[{partition}]: the ledger stands at offset {stored}, the log ends at {end}: this is "
            "not the log that was counted. Point the worker at the right cluster, or give the source a "
            "new name to count anew"
        )


class EverythingRejected(FunnelwatchError):
    """Nearly every record of a source was rejected: a misconfiguration, not bad luck."""

    def __init__(self, source: str, rejected: int, seen: int, reason: str, detail: str) -> None:
        self.source, self.rejected, self.seen, self.reason = source, rejected, seen, reason
        super().__init__(
            f"source {source!r}: {rejected} of the last {seen} records were rejected, lately with "
            f"{reason!r} ({detail}). Consumption has stopped. Check `fields` and `entity_key` of the "
            "source against a record of the topic, then restart"
        )


class RegistryUnavailable(FunnelwatchError):
    """The schema registry does not answer, or not with a schema: records that need one wait."""

    retriable = True

    def __init__(self, url: str, what: str) -> None:
        self.url = url
        super().__init__(f"the schema registry at {url} {what}; records that need a schema wait")


class ServiceUnreachable(FunnelwatchError):
    """No funnelwatch service answers at the address."""

    retriable = True


class ServiceBusy(FunnelwatchError):
    """A running funnelwatch cannot answer now: its limits are reached, or Redis is away."""

    retriable = True


class DeliveryError(FunnelwatchError):
    """A channel did not take a notification this time."""

    retriable = True

    def __init__(self, channel: str, what: str) -> None:
        self.channel = channel
        super().__init__(f"channel {channel!r}: {what}")


class DeliveryPaused(DeliveryError):
    """A channel takes nothing for a while, and says for how long."""

    def __init__(self, channel: str, what: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(channel, what)


class DeliveryRefused(DeliveryError):
    """A channel will not take this notification, however often it is sent."""

    retriable = False
