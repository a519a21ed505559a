"""`--scale`: 1, 2 and 4 workers on this machine, a model fed with the first of them, and what the model says of many machines.

The workers drain a backlog of one topic; they take turns, and the median of the rounds is told. The model (`tests.bench.scale_model`)
gets its costs from one worker alone and from `tests.bench.following`, and foretells two and four. Here they, Kafka and Redis share
the cores of one machine, so that is the bound that holds; on many machines it is another.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

from tests.bench.drain import Drain, Drains
from tests.bench.following import CHUNKS, Follow, following
from tests.bench.markdown import table
from tests.bench.measure import noise
from tests.bench.scale_model import Costs, Estimate, Site, estimate, nodes_needed
from tests.bench.workload import clicks
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer

EVENTS, PEOPLE = 400_000, 50_000
WORKERS, PARTITIONS = (1, 2, 4), 8
SPLIT = (1, 4, 16, 64)  # partitions that one worker drains
ROUNDS = 3
MACHINES = (1, 2, 4, 8, 16, 32, 64)
CORES = 8  # of a machine, each with one worker
NODES = (1, 2, 4, 8, 16, 32, 64, 128)
PARTITIONS_A_WORKER = 2
NETWORK_BYTES = 1.25e9  # 10 Gbit/s
MEASURED = ("workers", "events/s", "workers, µs an event", "Redis", "Kafka", "model says", "model ÷ measured", "others")
SPLIT_HEADER = ("partitions", "events/s", "worker, µs an event", "Redis", "Kafka", "others")
NODES_SHOWN = (1, 4, 16)
FORETOLD = (
    "machines",
    "workers",
    "partitions",
    *(f"{n} Redis" for n in NODES_SHOWN),
    "nodes needed",
    "events/s",
    "limit",
    "cores per 100,000/s",
    "ledger read every, s",
)


def scale(kafka: Kafka, redis: RedisServer, events: int = EVENTS, rounds: int = ROUNDS) -> Iterator[str]:
    """The tables."""
    follow = following(redis.url)
    drains = Drains(kafka, redis, list(clicks(events, PEOPLE)))
    found: dict[int, list[Drain]] = {workers: [] for workers in WORKERS}
    for number in range(rounds):
        for workers in WORKERS[number % len(WORKERS) :] + WORKERS[: number % len(WORKERS)]:
            found[workers].append(drains.drain(workers, PARTITIONS))
    costs = costs_of(found[WORKERS[0]], follow)
    yield f"{events:,} events in {PARTITIONS} partitions, drained by workers that share {os.cpu_count()} cores with Kafka and Redis; medians of"
    yield f"{rounds} round{'' if rounds == 1 else 's'}. CPU in µs an event.\n"
    yield from measured(found, costs, os.cpu_count() or 1)
    yield "\nOne worker, the same events in more partitions: chunks are smaller.\n"
    yield from _split({partitions: drains.drain(1, partitions) for partitions in SPLIT})
    yield ""
    yield from foretold(costs)


def costs_of(alone: Sequence[Drain], follow: Follow) -> Costs:
    """What the model is fed with: medians over the runs of one worker."""
    worker_us, redis_us, kafka_us = (median(spent) for spent in zip(*(drain.micros for drain in alone)))
    return Costs(
        worker_us=worker_us,
        redis_us=redis_us,
        kafka_us=kafka_us,
        kafka_bytes=alone[0].kafka_bytes,
        redis_bytes=median(drain.redis_bytes for drain in alone),
        follow_worker_us=follow.worker_us,
        follow_redis_us=follow.redis_us,
        worker_cores=median(drain.worker_cpu / drain.seconds for drain in alone),
    )


def measured(found: Mapping[int, Sequence[Drain]], costs: Costs, cores: int) -> Iterator[str]:
    """What was measured here, beside what the model says."""
    rows = []
    for workers, drains in found.items():
        said = estimate(costs, Site(workers, PARTITIONS, shared_cores=cores)).events_per_second
        rate, spent = median(drain.rate for drain in drains), [median(cpu) for cpu in zip(*(drain.micros for drain in drains))]
        others = median(drain.others for drain in drains)
        rows.append((str(workers), f"{rate:,.0f}", *(f"{us:.2f}" for us in spent), f"{said:,.0f}", f"{said / rate:.2f}", f"{others:.0%}"))
    yield from table(MEASURED, rows)
    yield f"\nThe row of one worker sets the model: it used {costs.worker_cores:.2f} cores. The others are foretold."
    yield from noise(max(drain.others for drains in found.values() for drain in drains))


def _split(found: Mapping[int, Drain]) -> Iterator[str]:
    rows = []
    for partitions, drain in found.items():
        rows.append((str(partitions), f"{drain.rate:,.0f}", *(f"{us:.2f}" for us in drain.micros), f"{drain.others:.0%}"))
    yield from table(SPLIT_HEADER, rows)
    yield from noise(max(drain.others for drain in found.values()))


def foretold(costs: Costs) -> Iterator[str]:
    """What the model says of 1 to 64 machines, and what it takes for granted."""
    yield f"What the model says of machines with {CORES} cores, a worker on each core, {PARTITIONS_A_WORKER} partitions a worker, a"
    yield "Redis Cluster and Kafka on machines of their own, 10 Gbit/s to each machine. Events/s by number of Redis nodes, with what limits"
    yield "them; then the fewest nodes (of powers of two) with which Redis does not limit; with those, what 100,000 events/s cost in cores"
    yield "that work, of workers, Redis and Kafka, and how often each worker has read what all have counted.\n"
    yield from table(FORETOLD, [_foretold(costs, machines) for machines in MACHINES])
    yield f"\nFed with: a worker {costs.worker_us:.2f} µs, Redis {costs.redis_us:.2f} µs, Kafka {costs.kafka_us:.2f} µs of CPU an event;"
    yield f"{costs.kafka_bytes:.0f} bytes from Kafka and {costs.redis_bytes:.0f} to and from Redis an event; to follow one shard for one"
    yield f"second {costs.follow_worker_us:.0f} µs of each worker and {costs.follow_redis_us:.0f} µs of Redis; a worker uses {costs.worker_cores:.2f} cores."
    yield f"Every worker follows all shards, of which each is counted in {CHUNKS} chunks a second; that is what does not scale."
    yield "Taken for granted: cores as fast as those here, every core to itself, brokers enough, keys spread evenly over partitions,"
    yield "partitions evenly over workers, and one Redis Cluster of masters with equal ranges of slots. Left out: replicas of Redis and"
    yield "Kafka, TLS, and the worker that writes the metrics and judges the rules for all, which has work that grows with partitions."


def _foretold(costs: Costs, machines: int) -> tuple[str, ...]:
    workers = machines * CORES
    site = Site(workers, workers * PARTITIONS_A_WORKER, machines, network_bytes=NETWORK_BYTES)
    shown = [estimate(costs, replace(site, redis_nodes=nodes)) for nodes in NODES_SHOWN]
    nodes = nodes_needed(costs, site, NODES)
    best = estimate(costs, replace(site, redis_nodes=nodes))
    each = [f"{one.events_per_second:,.0f} ({one.limit})" for one in shown]
    return (
        str(machines),
        str(workers),
        str(site.partitions),
        *each,
        str(nodes),
        f"{best.events_per_second:,.0f}",
        best.limit,
        _cost(best),
        f"{best.read_seconds:.1f}",
    )


def _cost(found: Estimate) -> str:
    return f"{found.cores_per_cost:.2f}"
