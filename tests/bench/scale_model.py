"""[pure] How many events a second machines do together, what limits them, and what an event costs, from what was measured on one.

Each of some bounds is what the whole could do if nothing else were short; the least of them is the answer, and names the limit.

    worker cores        every worker uses at most so much of a core
    partitions          a partition has one worker, and the worker with the most of them is done last
    a Redis core        a shard's keys are on one node, which runs scripts on one core; the node with most shards is done last
    worker network      what comes from Kafka and goes to Redis through the card of a worker's machine
    Redis network       the same at the fullest Redis node
    the machine         where workers, Kafka and Redis share the cores of one machine, all that they need together

Every worker follows the ledger of all: each second it reads what every shard has counted, whoever counted it. So with W workers and
P partitions there are W × P such reads a second, which only more Redis nodes share out. Reading and counting take turns, in a worker
and in Redis: where reading would need more than half of either, it is done less often than each second, and what is shown is older.
All that is in the bounds, as are the shards' places: a Redis Cluster puts one where the hash of its name says.

Not in it: the brokers, of which there are enough (their CPU is in the cost), the one worker that writes the metrics of all and
judges the rules, and keys so common that one partition gets more than its share.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections import Counter
from dataclasses import dataclass, replace

SLOTS = 16_384  # of a Redis Cluster
MICRO = 1e-6
COST_OF = 100_000  # events a second
FOLLOWING_MOST = 0.5  # of a worker's time, and of a Redis core's; counting takes turns with it
WORKERS, PARTITIONS, REDIS_CORE = "worker cores", "partitions", "a Redis core"
WORKER_NETWORK, REDIS_NETWORK, MACHINE = "worker network", "Redis network", "the machine"


@dataclass(frozen=True)
class Costs:
    """What was measured: CPU in µs and bytes, an event where nothing else is said."""

    worker_us: float
    redis_us: float
    kafka_us: float
    kafka_bytes: float  # from Kafka to a worker
    redis_bytes: float  # between a worker and Redis, both ways
    follow_worker_us: float  # a shard and second, of every worker
    follow_redis_us: float
    worker_cores: float  # the most that one worker uses


@dataclass(frozen=True)
class Site:
    """What there is."""

    workers: int
    partitions: int
    machines: int = 1  # that the workers share
    redis_nodes: int = 1
    network_bytes: float = float("inf")  # a second, of each machine's card
    shared_cores: float | None = None  # of the one machine where all is: workers, Kafka and Redis
    tag: str = "fw:web"  # of the shards' keys, before the partition


@dataclass(frozen=True)
class Estimate:
    """Events a second, by bound."""

    bounds: dict[str, float]
    busy_cores: float  # of workers, Redis and Kafka together
    read_seconds: float  # between two readings of the whole ledger by one worker

    @property
    def limit(self) -> str:
        return min(self.bounds, key=self.bounds.__getitem__)

    @property
    def events_per_second(self) -> float:
        return self.bounds[self.limit]

    @property
    def cores_per_cost(self) -> float:
        """Cores kept busy by 100,000 events a second; infinite where nothing is done."""
        rate = self.events_per_second
        return self.busy_cores / rate * COST_OF if rate else float("inf")


def estimate(costs: Costs, site: Site) -> Estimate:
    """What a site can do."""
    bounds = _bounds(costs, site)
    rate = min(bounds.values())
    each = (costs.worker_us + costs.redis_us + costs.kafka_us) * MICRO
    return Estimate(bounds, rate * each + _following_cores(costs, site), site.partitions / _followed(costs, site))


def _bounds(costs: Costs, site: Site) -> dict[str, float]:
    followed = _followed(costs, site)
    worker = (costs.worker_cores - followed * costs.follow_worker_us * MICRO) / (costs.worker_us * MICRO)
    fullest = fullest_share(site.tag, site.partitions, site.redis_nodes)
    reading = site.workers * followed * fullest * costs.follow_redis_us * MICRO  # cores of that node
    through = costs.kafka_bytes + costs.redis_bytes
    bounds = {
        WORKERS: worker * site.workers,
        PARTITIONS: worker * site.partitions / -(-site.partitions // site.workers),
        REDIS_CORE: (1 - reading) / (costs.redis_us * MICRO * fullest),
        WORKER_NETWORK: site.network_bytes * site.machines / through,
        REDIS_NETWORK: site.network_bytes / (costs.redis_bytes * fullest),
    }
    if site.shared_cores is not None:
        each = (costs.worker_us + costs.redis_us + costs.kafka_us) * MICRO
        bounds[MACHINE] = (site.shared_cores - _following_cores(costs, site)) / each
    return {name: max(0.0, bound) for name, bound in bounds.items()}


def _followed(costs: Costs, site: Site) -> float:
    """Shards that one worker reads a second."""
    fullest = fullest_share(site.tag, site.partitions, site.redis_nodes)
    of_worker = site.partitions * costs.follow_worker_us * MICRO / costs.worker_cores
    of_redis = site.workers * site.partitions * fullest * costs.follow_redis_us * MICRO
    return site.partitions * min([1.0, *(FOLLOWING_MOST / needed for needed in (of_worker, of_redis) if needed)])


def _following_cores(costs: Costs, site: Site) -> float:
    """Of all workers and all of Redis, for reading what was counted."""
    return site.workers * _followed(costs, site) * (costs.follow_worker_us + costs.follow_redis_us) * MICRO


def fullest_share(tag: str, partitions: int, nodes: int) -> float:
    """The share of all shards that is on the Redis node with the most of them."""
    found = Counter(slot_of(f"{tag}:{partition}") * nodes // SLOTS for partition in range(partitions))
    return max(found.values()) / partitions


def slot_of(tag: str) -> int:
    """The slot of a Redis Cluster for a hash tag: its CRC16 (XMODEM) modulo the number of slots."""
    return crc_hqx(tag.encode(), 0) % SLOTS


def nodes_needed(costs: Costs, site: Site, choices: tuple[int, ...]) -> int:
    """The fewest Redis nodes with which Redis is not what limits; the most there are to choose from, if it always is."""
    for nodes in choices:
        if estimate(costs, replace(site, redis_nodes=nodes)).limit not in {REDIS_CORE, REDIS_NETWORK}:
            return nodes
    return choices[-1]
