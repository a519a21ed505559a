"""The quick third of the faults, a seed each: whatever dies, hangs, comes back or is counted by two at once, every count stays exact.

`make faults` plays all of them, at ten seeds. `fences-off` shows that they can see: with the ledger's
fences off the same experiments give wrong counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.books import assert_rekeyed_exact, becomes, positions
from tests.faults.catalogue import experiments
from tests.faults.play import play, told
from tests.faults.scene import SMALL_CHUNKS, Parts
from tests.oracle import read_topic
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker
from tests.traffic import Click, clicks, make_topic, produce, write_config

QUICK = {name: found for name, found in experiments().items() if found.quick}
SEED = 1
TRIES_MAX = 6
CHUNK = 15_000


@pytest.mark.parametrize("name", QUICK)
def test_counts_are_exact_after(name: str, kafka: Kafka, kafka_jars: Path, redis_server_binary: Path) -> None:
    run = play(QUICK[name], Parts(kafka, kafka_jars, redis_server_binary), SEED)
    assert not run.complaint, told(QUICK[name], run)


def test_a_rekeyed_source_is_exact_after_kills(kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path) -> None:
    """Killed after a chunk was copied and before that was noted, it copies the chunk again; it counts once."""
    make_topic(kafka.address, unique_name, 4)
    config = write_config(tmp_path, unique_name, entity_key=False)
    deployment = Deployment(kafka.address, redis_server.url, unique_name, config, SMALL_CHUNKS)
    with deployment.worker() as worker:
        for number in range(TRIES_MAX):
            fill_backlog(deployment, clicks(TRIES_MAX * CHUNK)[number * CHUNK : (number + 1) * CHUNK], worker)
            await_progress(deployment)
            worker.kill()
            worker.start()
            if copied_twice(deployment):
                break
        else:
            pytest.fail(f"in {TRIES_MAX} tries nothing was copied twice")
        assert_rekeyed_exact(deployment)


def await_progress(deployment: Deployment, records: int = 2_000) -> None:
    """Return once the ledger holds that many records more."""
    goal = sum(positions(deployment).values()) + records
    becomes(lambda: sum(positions(deployment).values()) >= goal, wanted=True)


def copied_twice(deployment: Deployment) -> int:
    """How many records came into the re-keyed topic more than once."""
    copies = asyncio.run(read_topic(deployment.kafka, f"{deployment.prefix}.by-entity"))
    origins = Counter((headers["fw-source-partition"], headers["fw-source-offset"]) for headers in (dict(r.headers) for r in copies))
    return sum(times > 1 for times in origins.values())


def fill_backlog(deployment: Deployment, records: Sequence[Click], worker: Worker) -> None:
    """Produce at once while the worker is stopped: for a while after, there is no moment it has nothing to do."""
    worker.pause()
    produce(deployment.kafka, deployment.prefix, records, keyed=False)
    worker.resume()
