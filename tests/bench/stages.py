"""`--stages`: what each stage of the worker's own work costs, without Kafka, Redis and Faust.

CPU time of one thread over chunks as the worker gets them: the median of the second half, when most
entities are known. The shards take turns, as partitions do. So it says something on a busy machine
too, though what others do to the caches still shows.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from statistics import median
from typing import Any, TypeVar

from aiokafka.partitioner import murmur2

from schemas.config import Config
from streams import counting
from streams.pauses import COLLECT_AFTER
from streams.plan import Plan
from streams.pseudonym import Pseudonyms
from streams.turns import at_once
from tests.bench.contenders import config
from tests.bench.own_work import CHUNK_RECORDS, Chunk, OwnWork
from tests.bench.topic import PARTITIONS
from tests.bench.workload import Click

T = TypeVar("T")


class Clock:
    """CPU time by stage; what a stage calls that is a stage itself does not count for it."""

    def __init__(self) -> None:
        self.laps: list[dict[str, float]] = []  # nanoseconds an event, by chunk and stage
        self.spent: Counter[str] = Counter()  # in this lap
        self._inner = 0
        self._collecting = 0

    def timed(self, stage: str, work: Callable[..., T]) -> Callable[..., T]:
        def run(*args: Any, **kwargs: Any) -> T:
            outer, self._inner = self._inner, 0
            began = time.thread_time_ns()
            try:
                return work(*args, **kwargs)
            finally:
                took = time.thread_time_ns() - began
                self.spent[stage] += took - self._inner
                self._inner = outer + took

        return run

    def lap(self, records: int) -> None:
        """A chunk of so many records is done."""
        self.laps.append({stage: spent / records for stage, spent in self.spent.items()})
        self.spent.clear()

    def collected(self, phase: str, info: dict[str, int]) -> None:
        """The garbage collector's callback."""
        if phase == "start":
            self._collecting = time.thread_time_ns()
        else:
            took = time.thread_time_ns() - self._collecting
            self.spent["the garbage collector"] += took
            self._inner += took


def stages(found: list[Click], names: Pseudonyms | None = None) -> Iterator[str]:
    """Microseconds of CPU an event, by stage."""
    clock, shards = Clock(), _shards(found)
    gc.set_threshold(*COLLECT_AFTER)
    gc.collect()
    gc.freeze()  # a worker does not have all records in memory
    gc.callbacks.append(clock.collected)
    _count(clock, shards, names)
    gc.callbacks.remove(clock.collected)
    late = clock.laps[len(clock.laps) // 2 :]
    typical = {stage: median(lap.get(stage, 0.0) for lap in late) for stage in {stage for lap in late for stage in lap}}
    typical["all"] = median(sum(lap.values()) for lap in late)
    for stage, nanoseconds in sorted(typical.items(), key=lambda item: -item[1]):
        yield f"{nanoseconds / 1000:7.3f} µs an event  {stage}"


def _count(clock: Clock, shards: list[list[Chunk]], names: Pseudonyms | None) -> None:
    """Count all chunks as the worker does."""
    if names is not None:
        names.conceal = clock.timed("pseudonyms", names.conceal)  # type: ignore[method-assign]  # to time it
    plan = Plan(setup := Config.model_validate(config("clicks")), setup.sources[0])
    plan.decoder.decode = clock.timed("decode", plan.decoder.decode)  # type: ignore[method-assign]  # to time it
    plan.prepare = clock.timed("prepare: dimension values and amounts", plan.prepare)  # type: ignore[method-assign]  # to time it
    count = clock.timed("the rest of the shard's count: missing states, encoding states", OwnWork.count)
    pack = clock.timed("pack for Redis", OwnWork.pack)
    work = [OwnWork(plan, names) for _ in shards]
    with _timed_parts(clock):
        for turn in zip_longest(*shards):
            for shard, chunk in zip(work, turn):
                if chunk is not None:
                    pack(shard, count(shard, *chunk))
                    clock.lap(len(chunk[0]))


@contextmanager
def _timed_parts(clock: Clock) -> Iterator[None]:
    parts = [(counting, "tally", "tally"), (counting.Gathering, "some", "gather"), (counting.Folding, "some", "fold")]
    kept = [(whose, name, getattr(whose, name)) for whose, name, _ in parts]
    for whose, name, stage in parts:
        part = getattr(whose, name)
        setattr(whose, name, _in_one_step(clock.timed(stage, at_once(part))) if name == "tally" else clock.timed(stage, part))
    try:
        yield
    finally:
        for whose, name, part in kept:
            setattr(whose, name, part)


def _in_one_step(work: Callable[..., Any]) -> Callable[..., Any]:
    """Work as a generator that never pauses."""

    def steps(*given: Any) -> Generator[None, None, Any]:
        yield from ()
        return work(*given)

    return steps


def _shards(found: list[Click]) -> list[list[Chunk]]:
    """The records of each partition, in chunks as a fetch brings them."""
    shards: list[list[Chunk]] = [[([], [])] for _ in range(PARTITIONS)]
    for click in found:
        key = click.key()
        chunks = shards[(murmur2(key) & 0x7FFFFFFF) % PARTITIONS]
        if len(chunks[-1][0]) == CHUNK_RECORDS:
            chunks.append(([], []))
        chunks[-1][0].append(click.value())
        chunks[-1][1].append(key)
    return shards
