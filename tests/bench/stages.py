"""`--stages`: what each stage of the worker's own work costs, without Kafka, Redis and Faust.

CPU time of one thread over chunks as the worker gets them, so it says something on a busy machine
too. Its shards take turns, as partitions do.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator

from aiokafka.partitioner import murmur2

from schemas.config import Config
from streams.counting import ShardCount, encode_state
from streams.journeys import fold
from streams.ledger import redis as ledger
from streams.plan import Plan
from streams.tally import tally
from tests.bench.contenders import config
from tests.bench.topic import PARTITIONS
from tests.bench.workload import Click

RECORD_BYTES = 85  # of a batch in the log, beside the value
CHUNK_BYTES = 1_048_576

Shard = list[tuple[list[bytes | None], list[bytes | None]]]  # chunks of values and keys


def stages(found: list[Click]) -> Iterator[str]:
    """Microseconds of CPU an event, by stage."""
    plan = Plan(setup := Config.model_validate(config("clicks")), setup.sources[0])
    work = [ShardCount(plan) for _ in range(PARTITIONS)]
    spent: Counter[str] = Counter()
    gc.set_threshold(100_000, 20, 50)  # as the worker sets it
    for turn in zip(*_chunks(found)):
        for shard, (values, keys) in zip(work, turn):
            _one(plan, shard, values, keys, spent)
    events = spent.pop("events")
    yield f"{'stage':12} µs an event"
    for stage, nanoseconds in spent.items():
        yield f"{stage:12} {nanoseconds / events / 1000:11.3f}"
    yield f"{'all':12} {sum(spent.values()) / events / 1000:11.3f}"


def _one(plan: Plan, shard: ShardCount, values: list[bytes | None], keys: list[bytes | None], spent: Counter[str]) -> None:
    """What the agent, the shard's count and the ledger do with one chunk."""
    began = time.thread_time_ns()

    def done(stage: str) -> None:
        nonlocal began
        now = time.thread_time_ns()
        spent[stage] += now - began
        began = now

    now_us = time.time_ns() // 1000
    batch = plan.decoder.decode(values, keys, now_us, plan.source.max_skew.micros)
    done("decode")
    pending = shard.decode(0, len(values), values, keys, now_us)
    done("again")  # decoding once more, and what the fold needs: the difference is the latter
    if pending.unknown:
        shard.learn(pending, {registry: dict.fromkeys(texts, True) for registry, texts in pending.unknown.items()})
    began = time.thread_time_ns()
    result = fold(plan, batch, pending.prepared, shard.states)
    done("fold")
    deltas = tally(plan, result, shard.watermark_us, {})
    shard.watermark_us = deltas.watermark_us
    done("tally")
    states = [(entity, encode_state(state)) for entity, state in result.touched.items()]
    done("encode")
    packed = ledger._pack([item for pair in states for item in pair])
    ledger._pack(ledger._counts(deltas.buckets, deltas.totals))
    done("pack")
    spent["again"] -= 0
    spent["events"] += len(values)
    del packed


def _chunks(found: list[Click]) -> list[Shard]:
    """The records of each partition in chunks of what one fetch brings."""
    shards: list[Shard] = [[([], [])] for _ in range(PARTITIONS)]
    for click in found:
        key = click.key()
        shard = shards[(murmur2(key) & 0x7FFFFFFF) % PARTITIONS]
        if len(shard[-1][0]) >= CHUNK_BYTES // (RECORD_BYTES + RECORD_BYTES):
            shard.append(([], []))
        shard[-1][0].append(click.value())
        shard[-1][1].append(key)
    return shards
