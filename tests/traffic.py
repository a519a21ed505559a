"""Clicks to be counted, and how they get into Kafka. The same seed gives the same clicks.

Every entity's clicks are in order of time. There are people with a user id, with a numeric one and
with none; clicks of which no funnel wants to know; clicks that the producer sends twice, with an
event id and without; clicks of one millisecond; values as numbers, as text and missing; and a few
records that cannot be counted.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from tests.parts.kafka import create_topic

if TYPE_CHECKING:
    from typing_extensions import Self

FIRST_MS = 1_714_557_600_000  # 2024-05-01 10:00 UTC
SPAN_SECONDS = 2400
PEOPLE = 2000
BATCH = 400  # records handed over at once: small, so that there are many chunks for things to happen between
CONFIG = """
sources:
  - name: web
    topic: {topic}
    {source}
funnels:
  - name: purchase
    source: web
    conversion_window: 5m
    windows: [1m, 5m, 1h, 24h, 7d]
    dimensions:
      channel: properties.channel
      device: {{field: properties.device, allow: [ios, android]}}
    stages:
      - {{name: view, event: product_view}}
      - {{name: cart, event: [add_to_cart, quick_add]}}
      - {{name: checkout, event: begin_checkout}}
      - {{name: pay, event: purchase, value: properties.amount}}
  - name: again
    source: web
    conversion_window: 30m
    windows: [10m, 24h]
    stages:
      - {{name: first, event: purchase}}
      - {{name: second, event: purchase, value: properties.amount}}
"""
# What happens in one moment, in the total order, and how often.
MOMENTS = {
    ("product_view",): 40,
    ("add_to_cart",): 18,
    ("quick_add",): 4,
    ("begin_checkout",): 14,
    ("purchase",): 12,
    ("product_view", "add_to_cart"): 2,
    ("scroll",): 10,
}
CHANNELS = ("paid", "organic", "email", "réseau social", None)
DEVICES = ("ios", "android", "web", None)
BATCH_BYTES_MAX = 1_000_000
partition_of = DefaultPartitioner()
TWICE, BAD = 0.02, 0.004


class Click(NamedTuple):
    """One record as it is produced."""

    key: bytes
    value: bytes


def write_config(folder: Path, topic: str, **source: Any) -> Path:
    """A config with the funnels of these clicks; more keys of the source may be given."""
    path = folder / f"{topic}.yaml"
    path.write_text(CONFIG.format(topic=topic, source="\n    ".join(f"{key}: {json.dumps(value)}" for key, value in source.items())))
    return path


@lru_cache(maxsize=4)
def clicks(count: int, seed: int = 1) -> tuple[Click, ...]:
    """That many clicks within 40 minutes of event time."""
    made = _clicks(random.Random(seed), SPAN_SECONDS * 1000 / count)
    return tuple(click for click, _ in zip(made, range(count)))


def _clicks(dice: random.Random, step_ms: float) -> Iterator[Click]:
    at_ms = float(FIRST_MS)
    while True:
        # At least a millisecond on: what is of one moment is so on purpose, and in the total order.
        at_ms += max(1.0, dice.uniform(0, 2 * step_ms))
        person = dice.randrange(PEOPLE)
        for event in dice.choices(list(MOMENTS), list(MOMENTS.values()))[0]:
            click = _click(dice, int(at_ms), person, event)
            yield click
            if dice.random() < TWICE:
                yield click


def _click(dice: random.Random, at_ms: int, person: int, event: str) -> Click:
    properties: dict[str, Any] = {"channel": dice.choice(CHANNELS), "page": f"/p/{dice.randrange(10_000)}"}
    device = dice.choice(DEVICES)
    if device is not None:
        properties["device"] = device
    if event == "purchase":
        properties["amount"] = _amount(dice)
    entity: dict[str, Any] = ({"user_id": f"user-{person}"}, {"user_id": person}, {"anonymous_id": f"anon-{person}"})[person % 3]
    (key,) = (str(found).encode() for found in entity.values())
    record = {"event": event, "timestamp": _stamp(dice, at_ms), **entity, "properties": properties}
    if dice.random() < 0.9:
        record["event_id"] = f"{dice.getrandbits(64):016x}"
    if dice.random() < BAD:
        record |= dice.choice(({"timestamp": "yesterday"}, {"event": None}, {"user_id": None, "anonymous_id": ""}))
    return Click(key, json.dumps(record, ensure_ascii=False).encode())


def _stamp(dice: random.Random, at_ms: int) -> int | str | float:
    kind = dice.random()
    if kind < 0.8:
        return at_ms
    if kind < 0.9:
        return at_ms / 1000
    return datetime.fromtimestamp(at_ms / 1000, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _amount(dice: random.Random) -> float | int | str | None:
    amount = round(dice.uniform(1, 500), 2)
    return dice.choice((amount, amount, int(amount), f"{amount:.2f}", None, "cheap" if dice.random() < 0.05 else amount))


def make_topic(brokers: str, topic: str, partitions: int, **settings: str) -> None:
    asyncio.run(create_topic(brokers, topic, partitions, **settings))


def produce(brokers: str, topic: str, records: Sequence[Click], **options: Any) -> dict[int, int]:
    """Put records into a topic at once; the number that went into each partition."""
    with Load(brokers, topic, records, **options) as load:
        return load.finish()


class Load:
    """Produces records in the background, `rate` a second, from a thread and loop of its own.

    The test goes on meanwhile; leaving the `with` block ends it. With `keyed=False` every entity keeps
    to one partition, for its order, but that is all that keys and partitions have to do with it. More
    options go to the producer.
    """

    def __init__(
        self, brokers: str, topic: str, records: Sequence[Click], rate: float | None = None, *, keyed: bool = True, **producer: Any
    ) -> None:
        self._brokers, self._topic, self._records, self._rate, self._keyed = brokers, topic, records, rate, keyed
        self._options = {"enable_idempotence": True, "max_batch_size": BATCH_BYTES_MAX, **producer}
        self._enough = Event()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name=f"load {topic}")
        self.sent: Counter[int] = Counter()  # by partition

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    @property
    def share(self) -> float:
        """How much of it was produced."""
        return self.sent.total() / len(self._records)

    def finish(self) -> dict[int, int]:
        """Wait until everything is acknowledged; the number that went into each partition."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return dict(self.sent)

    def cut(self) -> dict[int, int]:
        """Produce no more; the number that went into each partition."""
        self._enough.set()
        return self.finish()

    def _run(self) -> None:
        try:
            asyncio.run(self._produce())
        except BaseException as error:  # raised again by `finish`, in the test's own thread
            self._error = error

    async def _produce(self) -> None:
        began = time.monotonic()
        async with AIOKafkaProducer(bootstrap_servers=self._brokers, **self._options) as producer:
            partitions = sorted(await producer.partitions_for(self._topic))
            for first in range(0, len(self._records), BATCH):
                if self._enough.is_set():
                    return
                if self._rate is not None:
                    await asyncio.sleep(began + first / self._rate - time.monotonic())
                self.sent += await self._hand_over(producer, partitions, self._records[first : first + BATCH])

    def _partition(self, entity: bytes, partitions: list[int]) -> int:
        return int(partition_of(entity, partitions, partitions)) if self._keyed else partitions[crc32(entity) % len(partitions)]

    async def _hand_over(self, producer: AIOKafkaProducer, partitions: list[int], records: Sequence[Click]) -> Counter[int]:
        """Send and wait for the acknowledgement; how many records went into each partition."""
        batches = {partition: producer.create_batch() for partition in partitions}
        for number, (entity, value) in enumerate(records):
            key = entity if self._keyed else (b"shop-7", None)[number % 2]
            placed = batches[self._partition(entity, partitions)].append(timestamp=None, key=key, value=value)
            assert placed is not None, "the batch is full"
        full = {partition: batch for partition, batch in batches.items() if batch.record_count()}
        sent = [await producer.send_batch(batch, self._topic, partition=partition) for partition, batch in full.items()]
        await asyncio.gather(*sent)
        return Counter({partition: batch.record_count() for partition, batch in full.items()})
