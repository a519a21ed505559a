"""Two that count the same partitions: one that slept through its session, and a second consumer group."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from tests.books import read_books, wrong_cells
from tests.faults.catalogue import experiment
from tests.faults.scene import PARTITIONS, Scene
from tests.faults.workers import FaultyWorker
from tests.traffic import clicks

TRIES_MAX = 10
BACKLOG = 30_000
FENCES_OFF = {"WORKER__FENCES": "false"}


@experiment(quick=True)
def zombie(scene: Scene) -> None:
    """SIGSTOP past the session timeout, with a chunk in hand; the other counts on; then SIGCONT: the zombie is fenced"""
    workers = scene.workers()
    for number in range(TRIES_MAX):  # whether it slept with a chunk in its hands is chance
        sleep_through(scene, *workers, number)
        if scene.conflicted(workers[:1], "fenced"):
            scene.exact((number + 1) * BACKLOG)
            return
    raise AssertionError(f"in {TRIES_MAX} tries the sleeper was never fenced")


def sleep_through(scene: Scene, sleeper: FaultyWorker, other: FaultyWorker, number: int) -> None:
    """Stop the sleeper in the middle of a backlog, wake it when the other has counted all, wait until both count."""
    stream = clicks(TRIES_MAX * BACKLOG, scene.seed)
    scene.backlog(stream[number * BACKLOG : (number + 1) * BACKLOG], sleeper, other)
    scene.progress(scene.dice.randrange(BACKLOG // 12, BACKLOG // 4))
    sleeper.pause()
    scene.over()
    scene.holds(other, PARTITIONS)
    scene.catches_up()
    sleeper.resume()
    scene.over()
    scene.holds(other, PARTITIONS // 2)
    scene.holds(sleeper, PARTITIONS // 2)


def sees_wrong_cells(scene: Scene) -> bool:
    return bool(wrong_cells(scene.recount(scene.ends()), read_books(scene.deployment)))


@experiment(quick=True)
def two_groups(scene: Scene) -> None:
    """Two consumer groups at once on one ledger: whoever claimed last counts, the other waits and claims again"""
    one, two = scene.workers(scene.worker(), scene.worker(KAFKA__GROUP=f"{scene.deployment.prefix}-too"))
    with scene.load() as load:
        scene.until(lambda: scene.conflicted([one], "fenced") >= 2 and scene.conflicted([two], "fenced") >= 2)
        scene.over()
        scene.ends_exact(load)


@experiment(quick=True)
def fences_off(scene: Scene) -> None:
    """Zombie and two groups with the ledger's fences off: each must give wrong cells, or the harness could not see one. Fails if it finds none"""
    assert _two_groups_go_wrong(scene), "two groups: no cell was wrong, so the harness cannot see what the fences prevent"
    scene.anew()
    workers = scene.workers(**FENCES_OFF)
    for number in range(TRIES_MAX):
        sleep_through(scene, *workers, number)
        if sees_wrong_cells(scene):
            return
    raise AssertionError(f"a zombie: in {TRIES_MAX} tries no cell was wrong, so the harness cannot see what the fences prevent")


def _two_groups_go_wrong(scene: Scene) -> bool:
    scene.workers(scene.worker(**FENCES_OFF), scene.worker(**FENCES_OFF, KAFKA__GROUP=f"{scene.deployment.prefix}-too"))
    with scene.load() as load:
        scene.progress(10_000)
        load.cut()
        scene.until(lambda: scene.stored() >= sum(scene.ends().values()))
        return sees_wrong_cells(scene)


@experiment()
def group_reset(scene: Scene) -> None:
    """The Kafka group's committed offsets are set back to 0 while no worker runs"""
    workers = scene.workers()
    with scene.load() as load:
        scene.progress(10_000)
        for worker in workers:
            worker.stop()
        asyncio.run(_commit(scene.kafka.address, scene.deployment.prefix))
        scene.over()
        scene.workers(*workers)
        scene.progress()
        scene.ends_exact(load)


async def _commit(brokers: str, group: str) -> None:
    """Topic and group go by one name. The group must have no members."""
    async with AIOKafkaConsumer(bootstrap_servers=brokers, group_id=group, enable_auto_commit=False) as consumer:
        partitions = [TopicPartition(group, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.commit({tp: OffsetAndMetadata(0, "") for tp in partitions})
        assert {await consumer.committed(tp) for tp in partitions} == {0}
