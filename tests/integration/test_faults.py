"""Whatever dies, hangs, comes back or is counted by two at once: every count stays exact.

The last two tests show that the others can see: with the ledger's fences off the same experiments
give wrong counts.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from streams.process import ProcessFailed
from tests.books import assert_counts_exact, becomes, counted, expected_of, positions, read_books, wrong_cells
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker
from tests.traffic import Load, clicks, make_topic, write_config

# Chunks of a few hundred records: at any moment some are on their way.
SMALL_CHUNKS = {"KAFKA__FETCH_BYTES_MAX": "65536"}
FENCES_OFF = {"WORKER__FENCES": "false"}
EXPERIMENTS_MAX = 4
KAFKA_BACK_SECONDS = 60.0


@pytest.fixture
def deploy(unique_name: str, tmp_path: Path) -> Callable[[Kafka, RedisServer], Deployment]:
    """Make the test's topic of four partitions on a broker, to be counted into a store."""

    def made(kafka: Kafka, store: RedisServer, suffix: str = "") -> Deployment:
        name = f"{unique_name}{suffix}"
        make_topic(kafka.address, name, 4)
        return Deployment(kafka.address, store.url, name, write_config(tmp_path, name), SMALL_CHUNKS)

    return made


@pytest.fixture
def deployment(kafka: Kafka, redis_server: RedisServer, deploy: Callable[[Kafka, RedisServer], Deployment]) -> Deployment:
    return deploy(kafka, redis_server)


def load_of(deployment: Deployment, count: int, rate: float | None = None) -> Load:
    return Load(deployment.kafka, deployment.prefix, clicks(count), rate)


def await_progress(deployment: Deployment, load: Load, records: int) -> None:
    """Return once the ledger holds that many records more, in the middle of the load."""
    goal = sum(positions(deployment).values()) + records
    becomes(lambda: sum(positions(deployment).values()) >= goal, wanted=True)
    assert load.share < 1, "the load is over: nothing happened under load"


def assert_ends_exact(deployment: Deployment, load: Load, *, seconds: float = 40.0) -> None:
    """Everything the load produced is counted in the end, and exactly."""
    counted(deployment, load.finish(), seconds=seconds)
    assert_counts_exact(expected_of(deployment), read_books(deployment))


def conflicts(worker: Worker, kind: str) -> float:
    return worker.metric("funnel_ledger_conflicts_total", kind=kind)


def is_counting(worker: Worker, partitions: int) -> None:
    """Return once the worker holds that many partitions."""
    becomes(lambda: worker.get("/readyz").json()["detail"], f"counting {partitions} partitions")


def test_counts_are_exact_after_kills(deployment: Deployment) -> None:
    """SIGKILL in the middle of load, three times."""
    with deployment.worker() as worker, load_of(deployment, 100_000, rate=4_000) as load:
        for _ in range(3):
            await_progress(deployment, load, 5_000)
            worker.kill()
            worker.start()
        assert_ends_exact(deployment, load)


def test_counts_are_exact_while_workers_join_and_leave(deployment: Deployment) -> None:
    with deployment.worker() as first, deployment.worker() as second, load_of(deployment, 100_000, rate=4_500) as load:
        for leaving in (first, second):
            await_progress(deployment, load, 3_000)
            leaving.stop()
            await_progress(deployment, load, 3_000)
            leaving.start()
        is_counting(first, 2)
        is_counting(second, 2)
        assert_ends_exact(deployment, load)


def test_a_worker_that_sleeps_through_its_session_is_fenced_when_it_wakes(deployment: Deployment) -> None:
    with deployment.worker() as sleeper, deployment.worker() as other:
        with load_of(deployment, 100_000) as load:
            sleep_through(deployment, sleeper, other, load)
        is_counting(other, 2)
        is_counting(sleeper, 2)
        assert conflicts(sleeper, "fenced") + conflicts(sleeper, "mismatch") >= 0
        assert_ends_exact(deployment, load)


def sleep_through(deployment: Deployment, sleeper: Worker, other: Worker, load: Load) -> None:
    """The sleeper is stopped with chunks in its hands, and wakes when the other one has counted everything."""
    becomes(lambda: sum(positions(deployment).values()) > 20_000, wanted=True)
    sleeper.pause()
    is_counting(other, 4)
    counted(deployment, load.finish())
    sleeper.resume()


def test_two_groups_on_one_ledger_count_nothing_twice(deployment: Deployment) -> None:
    """Whoever claimed last counts; the other waits, and claims again."""
    with deployment.worker() as one, deployment.worker(KAFKA__GROUP=f"{deployment.prefix}-too") as two:
        with load_of(deployment, 60_000, rate=6_000) as load:
            assert_ends_exact(deployment, load)
        assert conflicts(one, "fenced") + conflicts(two, "fenced") >= 4


def test_counts_are_exact_after_redis_crashes(
    kafka: Kafka, redis_server_binary: Path, deploy: Callable[[Kafka, RedisServer], Deployment]
) -> None:
    """It comes back with what its append-only file has: counts and positions of one moment."""
    with RedisServer(redis_server_binary) as store:
        deployment = deploy(kafka, store)
        with deployment.worker() as worker, load_of(deployment, 60_000, rate=5_000) as load:
            for _ in range(2):
                await_progress(deployment, load, 10_000)
                store.kill()
                becomes(lambda: conflicts(worker, "unavailable") > 0, wanted=True)
                revive(store)
            assert_ends_exact(deployment, load)


def revive(store: RedisServer) -> None:
    """Start it again; where the crash cut its last write in two, after the repair that it asks for."""
    try:
        store.start()
    except ProcessFailed as failed:
        if "Unexpected end of file" not in failed.log:
            raise
        for manifest in store.folder.glob("appendonlydir/*.manifest"):
            subprocess.run(["redis-check-aof", "--fix", str(manifest)], input=b"y\n", check=True, capture_output=True)
        store.start()


def test_counts_are_exact_after_redis_hung(
    kafka: Kafka, redis_server_binary: Path, deploy: Callable[[Kafka, RedisServer], Deployment]
) -> None:
    """What was sent to it before is still done when it goes on: nobody knows, and it does no harm."""
    with RedisServer(redis_server_binary) as store:
        deployment = deploy(kafka, store)
        with deployment.worker() as worker, load_of(deployment, 60_000, rate=5_000) as load:
            await_progress(deployment, load, 10_000)
            store.pause()
            becomes(lambda: conflicts(worker, "unavailable") > 0, wanted=True)
            store.resume()
            assert_ends_exact(deployment, load)


def test_counts_are_rebuilt_from_kafka_after_redis_lost_everything(
    kafka: Kafka, redis_server_binary: Path, deploy: Callable[[Kafka, RedisServer], Deployment]
) -> None:
    with RedisServer(redis_server_binary) as store:
        deployment = deploy(kafka, store)
        with deployment.worker() as worker, load_of(deployment, 60_000, rate=8_000) as load:
            await_progress(deployment, load, 20_000)
            with redis.Redis.from_url(store.url) as client:
                client.flushall()
            assert_ends_exact(deployment, load)
            assert conflicts(worker, "nostate") >= 4


def test_counts_are_exact_after_the_broker_crashed(
    kafka_jars: Path, redis_server: RedisServer, deploy: Callable[[Kafka, RedisServer], Deployment]
) -> None:
    with Kafka(kafka_jars) as broker:
        deployment = deploy(broker, redis_server)
        with deployment.worker(), load_of(deployment, 60_000, rate=5_000) as load:
            await_progress(deployment, load, 10_000)
            broker.kill()
            broker.start()
            assert_ends_exact(deployment, load, seconds=KAFKA_BACK_SECONDS)


def test_the_harness_sees_what_a_woken_sleeper_does_without_fences(
    kafka: Kafka, redis_server: RedisServer, deploy: Callable[..., Deployment]
) -> None:
    """Whether it held a chunk when it was stopped is chance, so there are a few tries."""
    for number in range(EXPERIMENTS_MAX):
        deployment = deploy(kafka, redis_server, f"-{number}")
        with deployment.worker(**FENCES_OFF) as sleeper, deployment.worker(**FENCES_OFF) as other:
            with load_of(deployment, 100_000) as load:
                sleep_through(deployment, sleeper, other, load)
            is_counting(other, 2)
            if wrong_cells(expected_of(deployment), read_books(deployment)):
                return
    pytest.fail(f"no cell was wrong in {EXPERIMENTS_MAX} experiments")


def test_the_harness_sees_what_two_groups_do_without_fences(deployment: Deployment) -> None:
    with deployment.worker(**FENCES_OFF), deployment.worker(**FENCES_OFF, KAFKA__GROUP=f"{deployment.prefix}-too"):
        with load_of(deployment, 20_000, rate=10_000) as load:
            counted(deployment, load.finish())
        assert wrong_cells(expected_of(deployment), read_books(deployment))
