"""Whatever dies, hangs, comes back or is counted by two at once: every count stays exact.

The last two tests show that the others can see: with the ledger's fences off the same experiments
give wrong counts.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import redis

from streams.process import ProcessFailed
from tests.books import assert_counts_exact, assert_rekeyed_exact, becomes, counted, expected_of, positions, read_books, wrong_cells
from tests.oracle import read_topic
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker, together
from tests.traffic import Click, Load, clicks, make_topic, produce, write_config

# Chunks of a hundred records: in a backlog, some are on their way at nearly any moment.
SMALL_CHUNKS = {"KAFKA__FETCH_BYTES_MAX": "16384"}
FENCES_OFF = {"WORKER__FENCES": "false"}
TRIES_MAX = 6
RATE = 3_000.0
BACKLOG = 60_000
STREAM = 150_000  # more than any of these tests lasts: each ends its load when it has seen enough
KAFKA_BACK_SECONDS = 60.0


@pytest.fixture
def deploy(unique_name: str, tmp_path: Path) -> Callable[..., Deployment]:
    """Make the test's topic of four partitions on a broker, to be counted into a store."""

    def made(kafka: Kafka, store: RedisServer, number: int = 0, **source: bool) -> Deployment:
        name = f"{number}{unique_name[1:]}"
        make_topic(kafka.address, name, 4)
        return Deployment(kafka.address, store.url, name, write_config(tmp_path, name, **source), SMALL_CHUNKS)

    return made


@pytest.fixture
def deployment(kafka: Kafka, redis_server: RedisServer, deploy: Callable[..., Deployment]) -> Deployment:
    return deploy(kafka, redis_server)


def load_of(deployment: Deployment) -> Load:
    """A steady load that goes on for as long as the test does."""
    return Load(deployment.kafka, deployment.prefix, clicks(STREAM), RATE)


def await_progress(deployment: Deployment, records: int = 2_000) -> None:
    """Return once the ledger holds that many records more."""
    goal = sum(positions(deployment).values()) + records
    becomes(lambda: sum(positions(deployment).values()) >= goal, wanted=True)


def assert_ends_exact(deployment: Deployment, load: Load, *, seconds: float = 40.0) -> None:
    """Everything the load has produced is counted in the end, and exactly."""
    assert load.share < 1, "the load was over before: not all of it happened under load"
    counted(deployment, load.cut(), seconds=seconds)
    assert_counts_exact(expected_of(deployment), read_books(deployment))


def conflicts(worker: Worker, kind: str) -> float:
    return worker.metric("funnel_ledger_conflicts_total", kind=kind)


def is_counting(worker: Worker, partitions: int) -> None:
    """Return once the worker holds that many partitions."""
    becomes(lambda: worker.get("/readyz").json()["detail"], f"counting {partitions} partitions")


def test_counts_are_exact_after_kills(deployment: Deployment) -> None:
    """SIGKILL in the middle of load, three times."""
    with deployment.worker() as worker, load_of(deployment) as load:
        for _ in range(3):
            await_progress(deployment)
            worker.kill()
            worker.start()
        assert_ends_exact(deployment, load)


def test_a_rekeyed_source_is_exact_after_kills(kafka: Kafka, redis_server: RedisServer, deploy: Callable[..., Deployment]) -> None:
    """Killed after a chunk was copied and before that was noted, it copies the chunk again; it counts once."""
    deployment = deploy(kafka, redis_server, entity_key=False)
    with deployment.worker() as worker:
        for number in range(TRIES_MAX):
            fill_backlog(deployment, clicks(STREAM)[number * 15_000 : (number + 1) * 15_000], worker, keyed=False)
            await_progress(deployment)
            worker.kill()
            worker.start()
            if copied_twice(deployment):
                break
        else:
            pytest.fail(f"in {TRIES_MAX} tries nothing was copied twice")
        assert_rekeyed_exact(deployment)


def copied_twice(deployment: Deployment) -> int:
    """How many records came into the re-keyed topic more than once."""
    copies = asyncio.run(read_topic(deployment.kafka, f"{deployment.prefix}.by-entity"))
    origins = Counter((headers["fw-source-partition"], headers["fw-source-offset"]) for headers in (dict(r.headers) for r in copies))
    return sum(times > 1 for times in origins.values())


def fill_backlog(deployment: Deployment, records: Sequence[Click], *workers: Worker, keyed: bool = True) -> dict[int, int]:
    """Produce at once while the workers are stopped: for a while after, there is no moment they have nothing to do."""
    for worker in workers:
        worker.pause()
    ends = produce(deployment.kafka, deployment.prefix, records, keyed=keyed)
    for worker in workers:
        worker.resume()
    return ends


def test_counts_are_exact_while_workers_join_and_leave(deployment: Deployment) -> None:
    first, second = deployment.worker(), deployment.worker()
    with together(first, second), load_of(deployment) as load:
        for leaving in (first, second):
            await_progress(deployment)
            leaving.stop()
            assert leaving.exit_code == 0
            await_progress(deployment)
            leaving.start()
        is_counting(first, 2)
        is_counting(second, 2)
        assert_ends_exact(deployment, load)


def test_a_worker_that_sleeps_through_its_session_is_fenced_when_it_wakes(
    kafka: Kafka, redis_server: RedisServer, deploy: Callable[..., Deployment]
) -> None:
    """Whether it slept with a chunk in its hands is chance, so there are a few tries; each is exact."""
    fenced = 0.0
    for number in range(TRIES_MAX):
        deployment = deploy(kafka, redis_server, number)
        sleeper, other = deployment.worker(), deployment.worker()
        with together(sleeper, other):
            sleep_through(deployment, sleeper, other)
            assert_counts_exact(expected_of(deployment), read_books(deployment))
            fenced = conflicts(sleeper, "fenced")
        if fenced:
            return
    pytest.fail(f"in {TRIES_MAX} tries the sleeper was never fenced")


def sleep_through(deployment: Deployment, sleeper: Worker, other: Worker) -> None:
    """Stop the sleeper in the middle of a backlog, wake it when the other has counted all, wait until both count."""
    ends = fill_backlog(deployment, clicks(STREAM)[:BACKLOG], sleeper, other)
    await_progress(deployment, BACKLOG // 6)
    sleeper.pause()
    is_counting(other, 4)
    counted(deployment, ends)
    sleeper.resume()
    is_counting(other, 2)
    is_counting(sleeper, 2)


def test_two_groups_on_one_ledger_count_nothing_twice(deployment: Deployment) -> None:
    """Whoever claimed last counts; the other waits, and claims again."""
    one, two = deployment.worker(), deployment.worker(KAFKA__GROUP=f"{deployment.prefix}-too")
    with together(one, two), load_of(deployment) as load:
        becomes(lambda: conflicts(one, "fenced") >= 2 and conflicts(two, "fenced") >= 2, wanted=True)
        assert_ends_exact(deployment, load)


def test_counts_are_exact_after_redis_crashes(kafka: Kafka, redis_server_binary: Path, deploy: Callable[..., Deployment]) -> None:
    """It comes back with what its append-only file has: counts and positions of one moment."""
    with RedisServer(redis_server_binary) as store:
        deployment = deploy(kafka, store)
        with deployment.worker() as worker, load_of(deployment) as load:
            for _ in range(2):
                await_progress(deployment, 5_000)
                before = conflicts(worker, "unavailable")
                store.kill()
                becomes(lambda: conflicts(worker, "unavailable") > before, wanted=True)  # noqa: B023
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


def test_counts_are_exact_after_redis_hung(kafka: Kafka, redis_server_binary: Path, deploy: Callable[..., Deployment]) -> None:
    """What was sent to it before is still done when it goes on: nobody knows, and it does no harm."""
    with RedisServer(redis_server_binary) as store:
        deployment = deploy(kafka, store)
        with deployment.worker() as worker, load_of(deployment) as load:
            await_progress(deployment)
            store.pause()
            becomes(lambda: conflicts(worker, "unavailable") > 0, wanted=True)
            store.resume()
            assert_ends_exact(deployment, load)


def test_counts_are_rebuilt_from_kafka_after_redis_lost_everything(
    kafka: Kafka, redis_server_binary: Path, deploy: Callable[..., Deployment]
) -> None:
    with RedisServer(redis_server_binary) as store:
        deployment = deploy(kafka, store)
        with deployment.worker() as worker, load_of(deployment) as load:
            await_progress(deployment, 10_000)
            with redis.Redis.from_url(store.url) as client:
                client.flushall()
            becomes(lambda: conflicts(worker, "nostate"), 4.0)
            assert_ends_exact(deployment, load)


def test_counts_are_exact_after_the_broker_crashed(kafka_jars: Path, redis_server: RedisServer, deploy: Callable[..., Deployment]) -> None:
    with Kafka(kafka_jars) as broker:
        deployment = deploy(broker, redis_server)
        with deployment.worker(), load_of(deployment) as load:
            await_progress(deployment)
            broker.kill()
            broker.start()
            assert_ends_exact(deployment, load, seconds=KAFKA_BACK_SECONDS)


def test_the_harness_sees_what_a_woken_sleeper_does_without_fences(
    kafka: Kafka, redis_server: RedisServer, deploy: Callable[..., Deployment]
) -> None:
    for number in range(TRIES_MAX):
        deployment = deploy(kafka, redis_server, number)
        sleeper, other = deployment.worker(**FENCES_OFF), deployment.worker(**FENCES_OFF)
        with together(sleeper, other):
            sleep_through(deployment, sleeper, other)
            if wrong_cells(expected_of(deployment), read_books(deployment)):
                return
    pytest.fail(f"in {TRIES_MAX} tries no cell was wrong")


def test_the_harness_sees_what_two_groups_do_without_fences(deployment: Deployment) -> None:
    one, two = deployment.worker(**FENCES_OFF), deployment.worker(**FENCES_OFF, KAFKA__GROUP=f"{deployment.prefix}-too")
    with together(one, two), load_of(deployment) as load:
        await_progress(deployment, 10_000)
        counted(deployment, load.cut())
        assert wrong_cells(expected_of(deployment), read_books(deployment))
