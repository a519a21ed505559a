"""The `quix` contender: a Quix Streams application, one process.

A StreamingDataFrame with a deserializer of ours (msgspec) and a person's journey in Quix's own state:
RocksDB, values as JSON, with the changelog topic that a user has by default. A sink sums the changes
and sends them in one pipeline (redis-py with hiredis) when Quix makes a checkpoint, before it commits
the offsets. A checkpoint comes every 50,000 events, which is cheaper than smaller ones, or every 5 s,
which is Quix's default; records that do not fill the last one wait so long, so the bench reads a
multiple of 50,000. The rest is as Quix has it, at least once among it: what a checkpoint sent and did
not commit is counted twice.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

from quixstreams import Application, State
from quixstreams.models import Deserializer
from quixstreams.sinks import BaseSink
from redis import Redis

from tests.bench.journey import COLLECT_AFTER, Event, Reach, Sums, decode, journey, step
from tests.bench.progress import Progress

CHECKPOINT_EVENTS = 50_000


class Events(Deserializer):
    """Values as typed structs."""

    def __call__(self, value: bytes, ctx: Any) -> Event:
        return decode(value)


class RedisSink(BaseSink):
    """The changes since the last checkpoint, of all partitions."""

    def __init__(self, redis: Redis, group: str, progress: Progress) -> None:
        super().__init__()
        self._redis, self._group, self._progress = redis, group, progress
        self._sums = Sums()
        self._done = 0

    def add(self, value: Reach | None, *_: Any, **__: Any) -> None:
        if value is not None:
            self._sums.add(value)
        self._done += 1

    def flush(self) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            for key, field, by in self._sums.take(self._group):
                pipe.hincrby(key, field, by)
            pipe.execute()
        self._progress.set(self._done)


def walk(event: Event, state: State) -> Reach | None:
    mine = state.get("journey") or journey()
    reach = step(mine, event)
    state.set("journey", mine)
    return reach


def application(address: str, topic: str, group: str, sink: RedisSink) -> Application:
    app = Application(
        address,
        consumer_group=group,
        auto_offset_reset="earliest",
        commit_every=CHECKPOINT_EVENTS,
        state_dir=Path.cwd() / "state",
        loglevel="WARNING",
    )
    app.dataframe(app.topic(topic, value_deserializer=Events())).apply(walk, stateful=True).sink(sink)
    return app


def main(address: str, topic: str, group: str, progress: str, redis_url: str) -> None:
    sink = RedisSink(Redis.from_url(redis_url), group, Progress(Path(progress)))
    application(address, topic, group, sink).run()


if __name__ == "__main__":
    gc.set_threshold(*COLLECT_AFTER)
    main(*sys.argv[1:])
