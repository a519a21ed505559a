"""Topics that do as topics do: records come twice, offsets have holes, the beginning goes, partitions are added."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import yaml
from aiokafka import AIOKafkaProducer

from tests.books import SHOWN, assert_counts_exact, read_books, wrong_cells
from tests.faults.admin import add_partitions, delete_before, set_topic
from tests.faults.catalogue import experiment
from tests.faults.scene import PARTITIONS, Scene
from tests.oracle import Record, Recount, read_topic, recount
from tests.parts.worker import Worker
from tests.traffic import Click, partition_of

RESENT_SHARE = 0.2
RESENT_WITHIN = 400  # records, which are a few seconds of event time
TRANSACTION = 200
ABORTED_SHARE = 0.3
COMPACTED = 60_000
BACKLOG = 24_000
SEGMENT = {"segment_bytes": "1048576"}  # the least that Kafka takes


@experiment()
def resent(scene: Scene) -> None:
    """A producer sends one record in five again, up to 400 records later; a worker is killed meanwhile"""
    records = with_repeats(scene.stream, scene.dice)
    workers = scene.workers()
    with scene.load(records) as load:
        scene.progress(8_000)
        workers[0].kill()
        scene.over()
        workers[0].start()
        expected = scene.ends_exact(load)
    assert expected.fates["duplicate"] > RESENT_SHARE / 3 * expected.records, f"hardly anything came twice: {expected.fates}"


def with_repeats(records: Sequence[Click], dice: random.Random) -> list[Click]:
    due: dict[int, list[Click]] = {}
    found: list[Click] = []
    for number, record in enumerate(records):
        found += [*due.pop(number, ()), record]
        if dice.random() < RESENT_SHARE:
            due.setdefault(number + dice.randrange(1, RESENT_WITHIN), []).append(record)
    return found


@experiment(quick=True)
def transactional(scene: Scene) -> None:
    """A transactional producer, a third of its transactions aborted: markers leave holes in the offsets; a worker is killed meanwhile

    Aborted records are counted too, as the README says. A marker at a partition's very end is no record,
    and nobody stands behind it: the last record of each partition is sent without a transaction.
    """
    workers = scene.workers()
    asyncio.run(_transactions(scene, scene.stream[:BACKLOG]))
    workers[0].kill()
    scene.over()
    workers[0].start()
    asyncio.run(_transactions(scene, scene.stream[BACKLOG : BACKLOG + 4_000]))
    with scene.load(scene.stream[BACKLOG + 4_000 :]) as load:
        scene.progress()
        sent = load.cut()
    expected = scene.exact(BACKLOG + 4_000 + sum(sent.values()))
    assert sum(expected.ends.values()) > expected.records, "there is no hole in the offsets"


async def _transactions(scene: Scene, records: Sequence[Click]) -> None:
    name = scene.deployment.prefix
    async with AIOKafkaProducer(bootstrap_servers=scene.kafka.address, transactional_id=name) as producer:
        for first in range(0, len(records), TRANSACTION):
            await producer.begin_transaction()
            for key, value in records[first : first + TRANSACTION]:
                partition = partition_of(key, list(range(PARTITIONS)), list(range(PARTITIONS)))
                await producer.send(name, value, key, partition=partition)
            await producer.flush()
            await (producer.abort_transaction() if scene.dice.random() < ABORTED_SHARE else producer.commit_transaction())


@experiment()
def compacted(scene: Scene) -> None:
    """A topic that was compacted: most offsets are missing; counted under load, with a worker killed"""
    scene.deploy(cleanup_policy="compact", min_cleanable_dirty_ratio="0.01", **SEGMENT)
    scene.backlog(scene.stream[:COMPACTED])
    name = scene.deployment.prefix
    scene.until(lambda: scene.recount().records < COMPACTED * 0.9)
    set_topic(scene.kafka.address, name, cleanup_policy="delete")  # from here on nothing goes while it is being counted
    kept = len(_settled(scene))
    scene.over()
    workers = scene.workers()
    with scene.load(scene.stream[COMPACTED:]) as load:
        scene.progress(4_000)
        workers[0].kill()
        scene.over()
        workers[0].start()
        scene.ends_exact(load, produced=kept + sum(load.cut().values()))


def _settled(scene: Scene) -> list[Record]:
    """What a topic holds once a cleaning that was on its way is done."""
    found: list[Record] = []

    def settled() -> bool:
        before = len(found)
        found[:] = asyncio.run(read_topic(scene.kafka.address, scene.deployment.prefix))
        return len(found) == before

    scene.until(settled)
    return found


@experiment()
def retention_overtakes(scene: Scene) -> None:
    """Retention removes records that nobody has counted yet: their number is told, windows are marked incomplete, the rest is exact"""
    workers = scene.workers()
    scene.backlog(scene.stream[:BACKLOG])
    scene.catches_up()
    for worker in workers:
        worker.stop()
    scene.backlog(scene.stream[BACKLOG : 2 * BACKLOG])
    ends, stored = scene.ends(), scene.positions()
    records = asyncio.run(read_topic(scene.kafka.address, scene.deployment.prefix))
    starts = {partition: scene.dice.randrange(stored[partition] + 100, end) for partition, end in ends.items()}
    delete_before(scene.kafka.address, scene.deployment.prefix, starts)
    scene.over()
    scene.workers(*workers)
    scene.catches_up()
    there = [r for r in records if r.offset < stored[r.partition] or r.offset >= starts[r.partition]]
    assert_exact_without(scene, _recounted(scene, there), gone=len(records) - len(there))
    _tell_of_incomplete_windows(scene, workers)


def _tell_of_incomplete_windows(scene: Scene, workers: Sequence[Worker]) -> None:
    for worker in workers:
        scene.until(lambda: worker.get("/api/v1/funnels/purchase").json()["incomplete"])  # noqa: B023


def _recounted(scene: Scene, records: Sequence[Record]) -> Recount:
    return recount(yaml.safe_load(scene.deployment.config.read_text()), records)


def assert_exact_without(scene: Scene, expected: Recount, gone: int) -> None:
    """The books are exact but for so many records that were gone before anyone could count them, and say so."""
    books = read_books(scene.deployment)
    wrong = wrong_cells(expected, books)
    assert not wrong, f"{len(wrong)} cells are wrong: {wrong[:SHOWN]}"
    assert books.fates == expected.fates, f"fates: must be {expected.fates}, are {books.fates}"
    assert books.gone == gone, f"{gone} records were gone, the books say {books.gone}"


@experiment()
def flushed_past_retention(scene: Scene) -> None:
    """FLUSHALL when Kafka no longer has the beginning: counted again from what is there, and windows are marked incomplete"""
    workers = scene.workers()
    with scene.load() as load:
        scene.progress(10_000)
        starts = {partition: scene.dice.randrange(1, max(2, offset)) for partition, offset in scene.positions().items()}
        delete_before(scene.kafka.address, scene.deployment.prefix, starts)
        scene.client.flushall()
        scene.over()
        scene.until(lambda: scene.conflicted(workers, "nostate") >= 1)
        scene.ends_exact(load, produced=sum(load.cut().values()) - sum(starts.values()))
    _tell_of_incomplete_windows(scene, workers)


@experiment()
def partitions_added(scene: Scene) -> None:
    """Two partitions are added under load: refused, with what to do; what was counted stays exact, and nothing else is"""
    workers = scene.workers()
    with scene.load() as load:
        scene.progress(4_000)
        add_partitions(scene.kafka.address, scene.deployment.prefix, PARTITIONS + 2)
        scene.over()
        for worker in workers:
            scene.until(lambda: "Give the source a new name" in worker.get("/readyz").json()["detail"])  # noqa: B023
        load.cut()
    stored = scene.positions()
    records = asyncio.run(read_topic(scene.kafka.address, scene.deployment.prefix))
    assert len(records) > sum(stored.values()), "all was counted before it could be refused"
    counted = _recounted(scene, [r for r in records if r.offset < stored.get(r.partition, 0)])
    assert_counts_exact(counted, read_books(scene.deployment))
