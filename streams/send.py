"""`funnelwatch send`: an event file into a topic, keyed by entity, as fast as it goes or paced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.config import Config, Fields, Source
from schemas.errors import UsageError
from schemas.event import Reject, micros_of
from streams.brokers import Where
from streams.files import EventFile
from streams.producing import KeyedProducer

DEFAULT_ID_PATHS = ("user_id", "properties.user_id", "anonymous_id", "properties.anonymous_id")
NAP_SECONDS = 0.005  # shorter waits are made up by the next one


@dataclass(frozen=True)
class Pace:
    """How fast: `rate` records a second, or `speed` times as fast as it was; neither: at once."""

    rate: float | None = None
    speed: float | None = None

    def due_seconds(self, place: int, since_first_us: int) -> float:
        """When a record is due, counted from the first."""
        if self.rate is not None:
            return place / self.rate
        return since_first_us / 1_000_000 / self.speed if self.speed is not None else 0.0


@dataclass(frozen=True)
class Outgoing:
    """A record ready to go; `at_us` is its event time, that of the one before it where it has none."""

    key: bytes | None
    value: bytes
    at_us: int


@dataclass
class Sent:
    """What went out."""

    records: int = 0
    unkeyed: int = 0
    partitions: int = 0
    seconds: float = 0.0


class Reader:
    """Turns a file's records into outgoing ones: finds entity and event time where the source keeps them."""

    def __init__(self, source: Source | None, *, keep_bad: bool = False, timed: bool = False) -> None:
        fields = source.fields if source else Fields()
        self._ids = (fields.user_id, fields.anonymous_id) if source else DEFAULT_ID_PATHS
        self._timestamp = fields.timestamp
        self._keep_bad, self._timed = keep_bad, timed
        self._at_us = 0

    def read(self, file: EventFile) -> Iterator[Outgoing]:
        """Raises UsageError, with file and line, at a record that is no JSON object, or when `timed` has no time.

        With `keep_bad` such records go all the same.
        """
        for value in file.records():
            try:
                record = orjson.loads(value)
            except orjson.JSONDecodeError:
                record = None
            if isinstance(record, dict):
                self._at_us = self._time(record, file)
                yield Outgoing(self.key(record), value, self._at_us)
            elif self._keep_bad:
                yield Outgoing(None, value, self._at_us)
            else:
                raise UsageError(f"{file.place()}: is no JSON object; mend the line, or send it all the same with --keep-bad")

    def key(self, record: dict[str, Any]) -> bytes | None:
        """The entity as the record's key: the first id that is present; None where there is none."""
        for path in self._ids:
            found = _dig(record, path)
            if isinstance(found, str) and found:
                return found.encode("utf-8", "surrogatepass")
            if isinstance(found, int) and not isinstance(found, bool):
                return str(found).encode()
        return None

    def _time(self, record: dict[str, Any], file: EventFile) -> int:
        try:
            return micros_of(_dig(record, self._timestamp))
        except (Reject, TypeError):
            if self._timed and not self._keep_bad:
                raise UsageError(f"{file.place()}: has no time in {self._timestamp!r}; say with --config where it is") from None
            return self._at_us


def source_of(config: Config, topic: str) -> Source:
    """The source that reads the topic. Raises UsageError."""
    for source in config.sources:
        if source.topic == topic:
            return source
    raise UsageError(f"no source of the config reads topic {topic!r}; there are: {', '.join(s.topic for s in config.sources)}")


def send(records: Iterable[Outgoing], brokers: Where, topic: str, pace: Pace, progress: Callable[[], None]) -> Sent:
    """Produce the records in their order. Raises UsageError, KafkaUnavailable."""
    return asyncio.run(_send(records, brokers, topic, pace, progress))


async def _send(records: Iterable[Outgoing], brokers: Where, topic: str, pace: Pace, progress: Callable[[], None]) -> Sent:
    sent = Sent()
    first_us: int | None = None
    async with KeyedProducer(brokers, topic) as producer:
        start = time.monotonic()
        for record in records:
            first_us = record.at_us if first_us is None else first_us
            wait = pace.due_seconds(sent.records, record.at_us - first_us) - (time.monotonic() - start)
            if wait > NAP_SECONDS:
                await producer.flush()
                await asyncio.sleep(wait)
            await producer.send(record.key, record.value)
            sent.records += 1
            sent.unkeyed += record.key is None
            progress()
        sent.partitions = producer.partitions
    sent.seconds = time.monotonic() - start
    return sent


def _dig(found: Any, path: str) -> Any:
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found
