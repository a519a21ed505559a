"""Filling a topic: keyed like any producer does it, in batches, as fast as one process can."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from tests.bench.workload import Click
from tests.parts.kafka import create_topic

PARTITIONS = 4
IN_FLIGHT_MAX = 200


async def fill(address: str, topic: str, found: Iterable[Click]) -> int:
    """Create the topic and write the clicks; how many bytes their values have."""
    await create_topic(address, topic, PARTITIONS, retention_ms="-1")  # their event times are long past
    return await add(address, topic, found)


async def add(address: str, topic: str, found: Iterable[Click]) -> int:
    """Write more clicks to a topic; how many bytes their values have."""
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        return await _send(producer, topic, found)
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, topic: str, found: Iterable[Click]) -> int:
    batches = [producer.create_batch() for _ in range(PARTITIONS)]
    sent: list[Future[Any]] = []
    size = 0
    for click in found:
        key, value = click.key(), click.value()
        size += len(value)
        partition = (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
        if batches[partition].append(key=key, value=value, timestamp=click.at_ms) is None:
            sent.append(await producer.send_batch(batches[partition], topic, partition=partition))
            batches[partition] = producer.create_batch()
            batches[partition].append(key=key, value=value, timestamp=click.at_ms)
            if len(sent) >= IN_FLIGHT_MAX:
                await sent.pop(0)
    for partition, batch in enumerate(batches):
        if batch.record_count():
            sent.append(await producer.send_batch(batch, topic, partition=partition))
    for future in sent:
        await future
    return size
