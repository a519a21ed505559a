"""The model of many machines: cases worked by hand, limits by their names, and nothing that gets better with less."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.bench.drain import Drain
from tests.bench.following import Follow
from tests.bench.scale import costs_of, foretold, measured
from tests.bench.scale_model import (
    MACHINE,
    PARTITIONS,
    REDIS_CORE,
    REDIS_NETWORK,
    WORKER_NETWORK,
    WORKERS,
    Costs,
    Site,
    estimate,
    fullest_share,
    nodes_needed,
    slot_of,
)

# One worker does 100,000 a second, one Redis core 500,000; nobody follows anybody.
COSTS = Costs(
    worker_us=10.0,
    redis_us=2.0,
    kafka_us=3.0,
    kafka_bytes=200.0,
    redis_bytes=100.0,
    follow_worker_us=0.0,
    follow_redis_us=0.0,
    worker_cores=1.0,
)
FOLLOWED = replace(COSTS, follow_worker_us=1000.0, follow_redis_us=100.0)


def drain(seconds: float = 1.0, *, workers: int = 1, worker_cpu: float = 1.0, others_cpu: float = 0.0) -> Drain:
    """Of 100,000 records."""
    return Drain(workers, 8, 100_000, seconds, worker_cpu, 0.2, 0.3, others_cpu, redis_bytes=100.0, kafka_bytes=200.0)


@pytest.mark.parametrize(
    ("site", "limit", "rate"),
    [
        (Site(workers=3, partitions=6), WORKERS, 300_000),
        (Site(workers=4, partitions=6), PARTITIONS, 300_000),  # two workers have two partitions, so the others wait
        (Site(workers=4, partitions=2), PARTITIONS, 200_000),
        (Site(workers=10, partitions=10), REDIS_CORE, 500_000),
        (Site(workers=4, partitions=4, machines=2, network_bytes=30e6), WORKER_NETWORK, 200_000),
        (Site(workers=4, partitions=4, machines=8, network_bytes=30e6), REDIS_NETWORK, 300_000),
        (Site(workers=2, partitions=2, shared_cores=1.5), MACHINE, 100_000),
    ],
)
def test_cases_worked_by_hand(site: Site, limit: str, rate: float) -> None:
    found = estimate(COSTS, site)
    assert (found.limit, found.events_per_second) == (limit, pytest.approx(rate))
    assert found.busy_cores == pytest.approx(rate * 15e-6)
    assert found.cores_per_cost == pytest.approx(1.5)


def test_who_follows_all_shards_has_less_left_for_counting() -> None:
    """Of a worker 100 shards take a tenth of its second; of Redis 100 shards × 4 workers take four hundredths."""
    found = estimate(FOLLOWED, Site(workers=4, partitions=100))
    assert found.bounds[WORKERS] == pytest.approx(4 * 90_000)
    assert found.bounds[REDIS_CORE] == pytest.approx(500_000 * 0.96)
    assert found.busy_cores == pytest.approx(360_000 * 15e-6 + 400 * 1100e-6)
    assert found.read_seconds == 1


def test_who_cannot_follow_each_second_follows_less_often_and_counts_with_the_other_half() -> None:
    """A worker reads 500 of 2,000 shards a second in half of it; ten do 5,000 reads, which take half of the Redis core."""
    found = estimate(FOLLOWED, Site(workers=10, partitions=2000))
    assert found.read_seconds == pytest.approx(4)
    assert found.bounds[WORKERS] == pytest.approx(10 * 50_000)
    assert found.bounds[REDIS_CORE] == pytest.approx(500_000 * 0.5)


def test_where_following_would_take_all_of_redis_it_takes_half() -> None:
    """A hundred workers would read 20,000 shards a second, of which Redis has time for 5,000 beside what is counted."""
    found = estimate(FOLLOWED, Site(workers=100, partitions=200))
    assert found.read_seconds == pytest.approx(4)
    assert (found.limit, found.events_per_second) == (REDIS_CORE, pytest.approx(250_000))


def test_nothing_gets_worse_with_more_of_it_where_nobody_follows() -> None:
    site = Site(workers=64, partitions=256, machines=8, redis_nodes=1, network_bytes=1e9)
    for name, amounts in (
        ("workers", (1, 2, 4, 8, 16, 64)),
        ("partitions", (64, 128, 256)),
        ("machines", (1, 2, 8)),
        ("redis_nodes", (1, 2, 4, 8)),
        ("network_bytes", (1e6, 1e8, 1e10)),
    ):
        rates = [estimate(COSTS, replace(site, **{name: amount})).events_per_second for amount in amounts]
        assert all(more >= less for less, more in pairwise(rates)), name


def test_dearer_events_are_fewer() -> None:
    site = Site(workers=8, partitions=64, redis_nodes=4, network_bytes=1e9, shared_cores=4)
    for name in ("worker_us", "redis_us", "kafka_us", "kafka_bytes", "redis_bytes", "follow_worker_us", "follow_redis_us"):
        dearer = replace(FOLLOWED, **{name: 2 * getattr(FOLLOWED, name)})
        assert estimate(dearer, site).events_per_second <= estimate(FOLLOWED, site).events_per_second, name


def test_a_slot_is_the_one_that_redis_says() -> None:
    """`CLUSTER KEYSLOT 123456789` answers 12739, which is in Redis's own specification."""
    assert slot_of("123456789") == 12_739


def test_shards_lie_where_their_names_say_and_not_evenly() -> None:
    assert fullest_share("fw:web", 64, 1) == 1
    assert 1 / 16 < fullest_share("fw:web", 64, 16) < 1 / 4
    assert fullest_share("fw:web", 1, 16) == 1


def test_as_many_redis_nodes_as_it_takes_for_workers_to_be_the_limit() -> None:
    assert nodes_needed(COSTS, Site(workers=4, partitions=16), (1, 2, 4)) == 1
    needed = nodes_needed(COSTS, Site(workers=8, partitions=64), (1, 2, 4, 8))
    assert needed in {2, 4}
    assert estimate(COSTS, Site(workers=8, partitions=64, redis_nodes=needed)).limit == WORKERS
    assert nodes_needed(COSTS, Site(workers=100, partitions=100), (1, 2)) == 2  # as many as there are


def test_the_model_is_fed_with_what_one_worker_alone_took() -> None:
    costs = costs_of([drain(2.0, worker_cpu=1.8), drain(1.0, worker_cpu=1.0), drain(1.0, worker_cpu=1.2)], Follow(5.0, 6.0))
    assert (costs.worker_us, costs.redis_us, costs.kafka_us) == (pytest.approx(12), pytest.approx(2), pytest.approx(3))
    assert costs.worker_cores == pytest.approx(1.0)
    assert (costs.follow_worker_us, costs.follow_redis_us) == (5.0, 6.0)


def test_what_is_foretold_stands_beside_what_was_measured() -> None:
    costs = costs_of([drain()], Follow(0.0, 0.0))
    text = "\n".join(measured({1: [drain()], 2: [drain(0.8, workers=2)]}, costs, cores=2))
    assert "| 1       |  100,000 |" in text
    (two,) = (line for line in text.splitlines() if line.startswith("| 2 "))
    assert [cell.strip() for cell in two.split("|")[6:8]] == ["133,333", "1.07"]  # two cores ÷ 15 µs, of 125,000


def test_noise_is_said() -> None:
    costs = costs_of([drain()], Follow(0.0, 0.0))
    assert "NOISY" in "\n".join(measured({1: [drain(others_cpu=0.5)]}, costs, cores=2))


def test_every_number_of_machines_has_a_row_with_its_limit() -> None:
    rows = [line for line in foretold(COSTS) if line.startswith("|")][2:]
    assert [int(row.split("|")[1]) for row in rows] == [1, 2, 4, 8, 16, 32, 64]
    assert "(worker cores)" in rows[0]
    assert f"({REDIS_CORE})" in rows[-1]
