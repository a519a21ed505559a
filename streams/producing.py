"""Records into one Kafka topic, whole batches at a time, each record in the partition of its key.

The idempotent producer with all acknowledgements (on a broker that gives no producer ids, as Tansu
0.6, without the first); the key's partition is the one every Kafka client computes (murmur2).
Handing over whole batches instead of records is what makes it quick.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from schemas.errors import FunnelwatchError
from streams.brokers import Where
from streams.producer import started_producer

if TYPE_CHECKING:
    from types import TracebackType

    from aiokafka.producer.message_accumulator import BatchBuilder
    from typing_extensions import Self

BATCH_BYTES = 262_144
BATCH_BYTES_MAX = 1_000_000  # what a broker takes by default; a larger record goes alone, for the broker to judge
CACHED_KEYS_MAX = 1_000_000
METADATA_SECONDS = 10.0


class KafkaUnavailable(FunnelwatchError):
    """The broker does not answer, or does not take the records."""

    retriable = True


class KeyedProducer:
    """Use as `async with`; leaving it without an error waits until everything is acknowledged.

    Raises KafkaUnavailable.
    """

    def __init__(self, brokers: Where, topic: str) -> None:
        self.brokers, self.topic = brokers, topic
        self.partitions = 0
        self._open: dict[int, BatchBuilder] = {}
        self._unacknowledged: set[asyncio.Future[object]] = set()
        self._of_key: dict[bytes, int] = {}
        self._unkeyed = count()

    async def __aenter__(self) -> Self:
        try:
            self._producer = await started_producer(self.brokers, max_batch_size=BATCH_BYTES_MAX)
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error
        try:
            self.partitions = len(await self._known_partitions())
        except (KafkaError, OSError) as error:
            await self._producer.stop()
            raise self._unavailable(error) from error
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                await self.flush()
        finally:
            await self._producer.stop()
            await asyncio.gather(*self._unacknowledged, return_exceptions=True)

    def partition(self, key: bytes | None) -> int:
        """The partition of a key; records without one take turns."""
        if key is None:
            return next(self._unkeyed) % self.partitions
        found = self._of_key.get(key)
        if found is None:
            if len(self._of_key) >= CACHED_KEYS_MAX:
                self._of_key.clear()
            found = self._of_key[key] = (murmur2(key) & 0x7FFFFFFF) % self.partitions
        return found

    async def send(self, key: bytes | None, value: bytes) -> int:
        """Put a record into its partition's batch; a full batch goes out. Returns the partition."""
        partition = self.partition(key)
        batch = self._open.get(partition)
        if batch is None:
            batch = self._open[partition] = self._producer.create_batch()
        if batch.append(timestamp=None, key=key, value=value) is None:
            await self._submit(partition)
            batch = self._open[partition] = self._producer.create_batch()
            batch.append(timestamp=None, key=key, value=value)
        if batch.size() >= BATCH_BYTES:
            await self._submit(partition)
        return partition

    async def flush(self) -> None:
        """Send what is open and wait until the broker has all of it."""
        for partition in list(self._open):
            await self._submit(partition)
        try:
            await asyncio.gather(*self._unacknowledged)
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error
        self._unacknowledged.clear()

    async def _submit(self, partition: int) -> None:
        batch = self._open.pop(partition)
        if not batch.record_count():
            return
        try:
            sent = await self._producer.send_batch(batch, self.topic, partition=partition)
            for done in [f for f in self._unacknowledged if f.done()]:
                self._unacknowledged.discard(done)
                done.result()
        except (KafkaError, OSError) as error:
            raise self._unavailable(error) from error
        self._unacknowledged.add(sent)

    async def _known_partitions(self) -> set[int]:
        try:
            found = await asyncio.wait_for(self._producer.partitions_for(self.topic), METADATA_SECONDS)
        except asyncio.TimeoutError:
            found = None
        if not found:
            raise KafkaUnavailable(f"Kafka at {self.brokers} has no topic {self.topic!r}; create it, then send again")
        return set(found)

    def _unavailable(self, error: Exception) -> KafkaUnavailable:
        return KafkaUnavailable(f"Kafka at {self.brokers} does not take records ({error}); start it, or name it with --brokers")
