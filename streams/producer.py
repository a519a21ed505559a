"""The worker's own Kafka producer: dead letters and re-keyed records, in order and acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownError

from schemas.errors import StoreUnavailable
from streams.brokers import Where, options_of

Headers = Sequence[tuple[str, bytes]]
Outgoing = tuple[str, bytes | None, bytes | None, Headers]  # topic, key, value, headers


class AckedProducer:
    """Sends records and waits until all are acknowledged.

    Idempotent: the broker keeps the order and drops what a retry brings twice, so that a record
    re-keyed late can never stand behind one re-keyed after it.
    """

    def __init__(self, brokers: Where, *, request_bytes_max: int = 16_000_000) -> None:
        self._brokers = brokers
        self._bytes_max = request_bytes_max
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """Send in order; return when every record is acknowledged. Raises StoreUnavailable."""
        if not records:
            return
        try:
            producer = await self._ready()
            futures = [await producer.send(t, value=v, key=k, headers=list(h)) for t, k, v, h in records]
            await asyncio.gather(*futures)
        except (KafkaError, OSError) as error:
            await self.close()  # a producer that failed a batch cannot keep the order any more
            raise StoreUnavailable(f"Kafka did not take {len(records)} records ({error!r})") from error

    async def _ready(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                self._producer = await started_producer(
                    self._brokers, linger_ms=2, max_request_size=self._bytes_max, max_batch_size=262_144, request_timeout_ms=10_000
                )
        return self._producer

    async def close(self) -> None:
        """Flush and let go; the next send starts a new producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await producer.stop()
            except (KafkaError, OSError):
                return  # it was broken already; that is why it goes


async def started_producer(brokers: Where, **options: Any) -> AIOKafkaProducer:
    """A producer that waits for every replica, and is idempotent if the broker can.

    The embedded broker cannot: order then rests on there being one request in flight a partition,
    which aiokafka keeps to. Raises KafkaError and OSError.
    """
    try:
        return await _start(brokers, enable_idempotence=True, **options)
    except UnknownError:  # what Tansu answers to a request for a producer id
        return await _start(brokers, enable_idempotence=False, **options)


async def _start(brokers: Where, **options: Any) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(acks="all", **options_of(brokers), **options)
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer
