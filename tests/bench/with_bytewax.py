"""The `bytewax` contender: a Bytewax dataflow, one worker in one process.

Bytewax's own Kafka source (confluent-kafka) with a larger batch than its default; a whole batch decoded
at a time by msgspec; a person's journey in a stateful step keyed by the person, as Bytewax keeps state
and spreads it over workers; a second stateful step that sums everybody's changes until they are many
or old; a sink that sends each sum in one pipeline (redis-py with hiredis). Recovery is off, as it is by
default: a dataflow that dies has lost its journeys and its place, and reads from the beginning.
"""

from __future__ import annotations

import copy
import gc
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from redis import Redis

from tests.bench.journey import COLLECT_AFTER, Event, Journey, Reach, Sums, decode, journey, step
from tests.bench.progress import Progress

FETCH_EVENTS = 10_000
SEND_EVENTS = 10_000
SEND_AFTER = timedelta(milliseconds=100)


class Batch(NamedTuple):
    """The changes of so many events."""

    sums: Sums
    events: int


class Walk(op.StatefulBatchLogic[Event, "Reach | None", Journey]):
    """The journey of one person."""

    def __init__(self, resumed: Journey | None) -> None:
        self._mine = journey() if resumed is None else resumed

    def on_batch(self, values: list[Event]) -> tuple[list[Reach | None], bool]:
        return [step(self._mine, event) for event in values], self.RETAIN

    def snapshot(self) -> Journey:
        return list(self._mine)


class Summing(op.StatefulBatchLogic["Reach | None", Batch, Batch]):
    """The changes that Redis does not have yet; begins anew with every batch that it emits."""

    def __init__(self, resumed: Batch | None) -> None:
        self._sums, self._events = resumed or Batch(Sums(), 0)
        self._due = datetime.now(timezone.utc) + SEND_AFTER

    def on_batch(self, values: list[Reach | None]) -> tuple[list[Batch], bool]:
        add = self._sums.add
        for reach in values:
            if reach is not None:
                add(reach)
        self._events += len(values)
        return self.on_notify() if self._events >= SEND_EVENTS else ([], self.RETAIN)

    def on_notify(self) -> tuple[list[Batch], bool]:
        return [Batch(self._sums, self._events)], self.DISCARD

    def notify_at(self) -> datetime:
        return self._due

    def snapshot(self) -> Batch:
        return Batch(copy.deepcopy(self._sums), self._events)


class Sender(StatelessSinkPartition[Batch]):
    """A pipeline for each batch."""

    def __init__(self, redis: Redis, group: str, progress: Progress) -> None:
        self._redis, self._group, self._progress = redis, group, progress
        self._done = 0

    def write_batch(self, items: list[Batch]) -> None:
        for batch in items:
            with self._redis.pipeline(transaction=False) as pipe:
                for key, field, by in batch.sums.take(self._group):
                    pipe.hincrby(key, field, by)
                pipe.execute()
            self._done += batch.events
            self._progress.set(self._done)


class RedisSink(DynamicSink[Batch]):
    """Built by each worker, of which there is one."""

    def __init__(self, redis_url: str, group: str, progress: Path) -> None:
        self._redis_url, self._group, self._progress = redis_url, group, progress

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Sender:
        return Sender(Redis.from_url(self._redis_url), self._group, Progress(self._progress))


def keyed(messages: list[KafkaSourceMessage[bytes, bytes]]) -> list[tuple[str, Event]]:
    events = [decode(message.value) for message in messages]
    return [(event.user_id, event) for event in events]


def dataflow(address: str, topic: str, sink: RedisSink) -> Dataflow:
    flow = Dataflow("funnel")
    messages = op.input("clicks", flow, KafkaSource([address], [topic], batch_size=FETCH_EVENTS))
    events = op.flat_map_batch("decode", messages, keyed)
    reaches = op.stateful_batch("journeys", events, Walk)
    everybody = op.map("everybody", reaches, lambda found: ("everybody", found[1]))
    batches = op.stateful_batch("sums", everybody, Summing)
    op.output("counts", op.key_rm("unkeyed", batches), sink)
    return flow


def main(address: str, topic: str, group: str, progress: str, redis_url: str) -> None:
    cli_main(dataflow(address, topic, RedisSink(redis_url, group, Path(progress))))


if __name__ == "__main__":
    gc.set_threshold(*COLLECT_AFTER)
    main(*sys.argv[1:])
