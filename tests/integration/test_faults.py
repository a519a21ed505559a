"""The quick third of the faults, a seed each: whatever dies, hangs, comes back or is counted by two at once, every count stays exact.

`make faults` plays all of them, at ten seeds. `fences-off` shows that they can see: with the ledger's
fences off the same experiments give wrong counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.books import assert_rekeyed_exact
from tests.faults.catalogue import experiments
from tests.faults.play import play, told
from tests.faults.scene import SMALL_CHUNKS, Parts
from tests.faults.workers import FaultyWorker
from tests.oracle import read_topic
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment
from tests.traffic import clicks, make_topic, produce, write_config

QUICK = {name: found for name, found in experiments().items() if found.quick}
SEED = 1
RECORDS = 30_000
NTH = 5
DEATH_SECONDS = 60.0
TRIES_SECONDS = 240  # whether a sleeper has a chunk in its hands is chance, so it sleeps again until it has


@pytest.mark.timeout(TRIES_SECONDS)
@pytest.mark.parametrize("name", QUICK)
def test_counts_are_exact_after(name: str, kafka: Kafka, kafka_jars: Path, redis_server_binary: Path) -> None:
    run = play(QUICK[name], SEED, Parts(kafka, kafka_jars, redis_server_binary))
    assert not run.complaint, told(QUICK[name], run)


def test_a_rekeyed_source_is_exact_after_kills(kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path) -> None:
    """Killed after a chunk was copied and before that was noted, it copies the chunk again; it counts once."""
    make_topic(kafka.address, unique_name, 4)
    config = write_config(tmp_path, unique_name, entity_key=False)
    deployment = Deployment(kafka.address, redis_server.url, unique_name, config, SMALL_CHUNKS)
    faults = {"signalled": {"name": "KILL", "when": "before", "nth": NTH, "of": "web/intake:"}}
    with FaultyWorker.of(deployment, faults) as worker:
        produce(kafka.address, unique_name, clicks(RECORDS), keyed=False)
        worker.ended(DEATH_SECONDS)
        worker.faults = {}
        worker.kill()
        worker.start()
        assert_rekeyed_exact(deployment)
    assert copied_twice(deployment) > 0


def copied_twice(deployment: Deployment) -> int:
    """How many records came into the re-keyed topic more than once."""
    copies = asyncio.run(read_topic(deployment.kafka, f"{deployment.prefix}.by-entity"))
    origins = Counter((headers["fw-source-partition"], headers["fw-source-offset"]) for headers in (dict(r.headers) for r in copies))
    return sum(times > 1 for times in origins.values())
