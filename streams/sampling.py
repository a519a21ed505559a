"""What `funnelwatch init` looks at: the newest records of a topic, without a consumer group, or a file's first ones."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from schemas.config import Source
from schemas.errors import FunnelwatchError, UsageError
from schemas.event import Unreadable
from schemas.presets import Format
from schemas.settings import RegistrySettings
from streams.brokers import Where as Address
from streams.brokers import options_of
from streams.files import EventFile
from streams.proposing import Proposal, Where, found_in
from streams.proposing_text import proposal
from streams.reading import reading_of
from streams.records import schema_ids
from streams.registry import WHOSE
from streams.topics import connected

FETCH_MS = 1_000
PATIENCE_SECONDS = 5.0  # for a broker that does not answer
SILENCE_SECONDS_MAX = 15.0
FRAMED_SHARE = 0.8  # of records that look like the wire format: then it is
BYTES_MAX = 200_000_000  # of all that is looked at
FORMATS: tuple[Format, ...] = ("avro", "json_schema")


def sample_of_file(file: Path, form: str | None, most: int) -> Proposal:
    """Look at a file's first records. Raises UsageError."""
    values = list(islice(EventFile(file, form).records(), most))
    name = file.name.partition(".")[0] or "events"
    topic = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)[:200]
    return proposal(
        found_in(values, [None] * len(values), Where(topic, f"the first {len(values):,} records of {file.name}", keyed=False), _now_us())
    )


def sample_of_topic(brokers: Address, topic: str, most: int, registry: RegistrySettings) -> Proposal:
    """Look at a topic's newest records; nothing is committed. Raises UsageError, FunnelwatchError."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it logs we say in one line ourselves
    return asyncio.run(_sample_of_topic(brokers, topic, most, registry))


async def _sample_of_topic(brokers: Address, topic: str, most: int, registry: RegistrySettings) -> Proposal:
    records = await _newest(brokers, topic, most)
    said = f"the newest {len(records):,} records of topic {topic}"
    form, values = await _json(records, said, registry)
    return proposal(found_in(values, [r.key for r in records], Where(topic, said, keyed=True, format=form), _now_us()))


async def _json(records: Sequence[Any], said: str, registry: RegistrySettings) -> tuple[Format, list[bytes | None]]:
    """The records as JSON, and the format that they are in."""
    held = [record for record in records if record.value]
    framed = [record for record in held if record.value[0] == 0 and len(record.value) > 5]
    in_headers = sum(any(name == "ce_type" for name, _ in record.headers) for record in records)
    preset = "cloudevents" if in_headers >= FRAMED_SHARE * max(1, len(records)) else None
    if len(framed) < FRAMED_SHARE * max(1, len(held)):
        return "json", await _read("json", preset, records, registry)
    if not registry.url:
        raise UsageError(
            f"{said}: they are in the wire format of a schema registry (schemas {_shown(framed)}); name it with {WHOSE}__URL, then look again"
        )
    read = {form: await _read(form, preset, records, registry) for form in FORMATS}
    best = max(FORMATS, key=lambda form: sum(not isinstance(value, Unreadable) for value in read[form]))
    return best, read[best]


def _shown(framed: Sequence[Any]) -> str:
    ids = sorted(schema_ids(framed))
    return ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")


async def _read(form: Format, preset: str | None, records: Sequence[Any], registry: RegistrySettings) -> list[bytes | None]:
    source = Source.model_validate({"name": "web", "topic": "t", "format": form, "preset": preset, "record_bytes_max": 100_000_000})
    reading = reading_of(source, registry)
    try:
        return await reading.all(records)
    finally:
        await reading.close()


async def _newest(brokers: Address, topic: str, most: int) -> list[Any]:
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.errors import KafkaError

    options: dict[str, Any] = {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
    try:
        tps = [TopicPartition(topic, partition) for partition in await _partitions(brokers, topic)]
        async with AIOKafkaConsumer(**options_of(brokers), **options) as consumer:
            consumer.assign(tps)
            ends, firsts = await consumer.end_offsets(tps), await consumer.beginning_offsets(tps)
            for tp, begin in _begins(firsts, ends, most).items():
                consumer.seek(tp, begin)
            return await _up_to(consumer, {tp: end for tp, end in ends.items() if end > firsts[tp]}, most)
    except (KafkaError, OSError, TimeoutError, asyncio.TimeoutError) as error:
        raise FunnelwatchError(
            f"Kafka at {brokers} does not give the records of {topic} ({error!r}); start it, or name it with --brokers"
        ) from None


async def _partitions(brokers: Address, topic: str) -> list[int]:
    """By the admin client: to ask a consumer for a topic that is not there may create it."""
    async with connected(brokers, PATIENCE_SECONDS) as admin:
        if topic not in await admin.list_topics():
            raise UsageError(f"Kafka at {brokers} has no topic {topic!r}, or we may not see it; name one that is there")
        (described,) = await admin.describe_topics([topic])
        return sorted(partition["partition"] for partition in described["partitions"])


def _begins(firsts: dict[Any, int], ends: dict[Any, int], most: int) -> dict[Any, int]:
    """Where to read from, so that the partitions give about `most` records, in the measure of what they have."""
    total = sum(ends[tp] - firsts[tp] for tp in ends)
    return {tp: max(firsts[tp], ends[tp] - -(-(ends[tp] - firsts[tp]) * most // max(1, total))) for tp in ends}


async def _up_to(consumer: Any, ends: dict[Any, int], most: int) -> list[Any]:
    """What lies before the ends; as much as was read, where a broker gives no more for long."""
    found: dict[Any, list[Any]] = {tp: [] for tp in ends}
    left, heard, size = set(ends), time.monotonic(), 0
    while left and size < BYTES_MAX and time.monotonic() - heard < SILENCE_SECONDS_MAX:
        batch = await consumer.getmany(*left, timeout_ms=FETCH_MS)
        for tp, records in batch.items():
            heard = time.monotonic()
            found[tp] += [record for record in records if record.offset < ends[tp]]
            size += sum(len(record.value or b"") for record in records)
        for tp in list(left):
            if await consumer.position(tp) >= ends[tp]:
                left.discard(tp)
    return [record for tp in sorted(found) for record in found[tp]][: most + len(ends)]


def _now_us() -> int:
    return time.time_ns() // 1000
