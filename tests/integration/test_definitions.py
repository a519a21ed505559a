"""A definition that changes begins at zero beside the old one, and is counted from the topic's beginning when that is asked for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.books import Books, assert_counts_exact, becomes, counted, expected_of, read_books
from tests.oracle import Cell, Recount
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker, together
from tests.traffic import Click, Load, clicks, make_topic, produce, write_config

FUNNEL = "purchase"


@pytest.fixture
def deployment(kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path) -> Deployment:
    """A topic of four partitions, keyed by the entity."""
    make_topic(kafka.address, unique_name, 4)
    return Deployment(kafka.address, redis_server.url, unique_name, write_config(tmp_path, unique_name))


@pytest.fixture
def changed(deployment: Deployment) -> Deployment:
    """The same ledger and topic, another conversion window."""
    text = deployment.config.read_text()
    assert text.count("conversion_window: 5m") == 1
    config = deployment.config.with_name("changed.yaml")
    config.write_text(text.replace("conversion_window: 5m", "conversion_window: 10m"))
    return replace(deployment, config=config)


def backfill(deployment: Deployment, *options: str) -> list[str]:
    """The lines that `funnelwatch backfill` prints; it must end well."""
    environment = [f"FUNNELWATCH_REDIS__{name}={value}" for name, value in (("URL", deployment.redis), ("PREFIX", deployment.prefix))]
    command = [sys.executable, "-m", "streams.cli", "backfill", FUNNEL, "--config", str(deployment.config), *options]
    done = subprocess.run(["env", *environment, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def before_and_after(stream: tuple[Click, ...], place: int) -> tuple[tuple[Click, ...], tuple[Click, ...]]:
    """The stream cut in two near a place, where nothing that happened to one person in one moment comes apart."""
    place = next(n for n in range(place, len(stream)) if stream[n].key != stream[n - 1].key)
    return stream[:place], stream[place:]


def report(worker: Worker, window: str = "1h") -> dict[str, Any]:
    found: dict[str, Any] = worker.get(f"/api/v1/funnels/{FUNNEL}", window=window).raise_for_status().json()
    return found


def told(worker: Worker, funnel: str = FUNNEL) -> tuple[bool, bool]:
    """Whether the report is incomplete, and whether it says since when it counts."""
    found = worker.get(f"/api/v1/funnels/{funnel}", window="24h").raise_for_status().json()
    return found["incomplete"], found["since"] is not None


def cells_of(books: Books | Recount, funnel: str = FUNNEL) -> Counter[Cell]:
    return Counter({cell: count for cell, count in books.cells.items() if cell.funnel == funnel and count})


def test_a_changed_definition_begins_at_zero_and_is_whole_once_it_was_asked_for(
    deployment: Deployment, changed: Deployment, unique_name: str
) -> None:
    """While clicks come in all the time; the old counts stay as they were, and those of other funnels go on."""
    before, after = before_and_after(clicks(40_000), 8_000)
    with deployment.worker() as worker:
        ends = produce(deployment.kafka, unique_name, before)
        counted(deployment, ends)
        becomes(lambda: told(worker), (False, False))
        worker.stop()
        assert worker.exit_code == 0
    old = read_books(deployment)
    assert_counts_exact(expected_of(deployment), old)
    with changed.worker() as worker:
        becomes(lambda: told(worker), (True, True))
        assert told(worker, "again") == (False, False)
        assert [stage["users"] for stage in report(worker)["stages"]] == [0, 0, 0, 0]
        assert not cells_of(read_books(changed))
        with Load(changed.kafka, unique_name, after, rate=1_500) as load:
            becomes(lambda: bool(cells_of(read_books(changed))), wanted=True)
            lines = backfill(changed, "--wait", "--timeout", "60s")
            assert load.share < 1, "it was done while clicks came in"
            time.sleep(0.5)  # and some more of them
            more = load.cut()
        assert lines[0].startswith("asked 4 shards of source web to count purchase")
        assert lines[1].startswith("4 shards counted purchase anew in ")
        counted(changed, {partition: end + more[partition] for partition, end in ends.items()})
        expected = expected_of(changed)
        assert_counts_exact(expected, read_books(changed))
        becomes(lambda: told(worker), (False, False))
        wanted = [expected.window(FUNNEL, "users", stage, "24h") for stage in range(4)]
        becomes(lambda: [stage["users"] for stage in report(worker, "24h")["stages"]], wanted)
        assert cells_of(read_books(deployment)) == cells_of(old)


def test_two_configs_at_once_do_not_mix_and_one_is_whole_when_it_has_all(
    deployment: Deployment, changed: Deployment, unique_name: str
) -> None:
    """Each worker counts its partitions by its own definition; what both have in common is exact."""
    old, new = deployment.worker(), changed.worker()
    stream, rest = before_and_after(clicks(8_000), 5_000)
    with together(old, new):
        ends = produce(deployment.kafka, unique_name, stream)
        counted(deployment, ends)
        for each in (deployment, changed):
            assert_at_most(expected_of(each), read_books(each))
        assert cells_of(read_books(changed), "again") == cells_of(expected_of(changed), "again")
        for worker in (old, new):
            becomes(partial(told, worker), (True, False))
            assert told(worker, "again") == (False, False)
        backfill(changed)
        becomes(lambda: shards(changed), {"whole", "left"})  # one worker does it, the other leaves it
        old.stop()
        becomes(lambda: shards(changed), {"whole"})
        more = produce(deployment.kafka, unique_name, rest)
        counted(changed, {partition: end + more[partition] for partition, end in ends.items()})
        assert_counts_exact(expected_of(changed), read_books(changed))
        becomes(lambda: told(new), (False, False))


def assert_at_most(expected: Recount, books: Books) -> None:
    """Some of it is counted, and nothing that a recount does not have."""
    wanted, found = cells_of(expected), cells_of(books)
    assert 0 < found.total() < wanted.total()
    for cell, count in found.items():
        # Who is counted in which bucket, and where an entry opens, depends on what comes before and after.
        if cell.family in ("events", "value") or (cell.family in ("users", "entries") and not cell.width and not cell.dimension):
            assert count <= wanted[cell], cell


def shards(deployment: Deployment) -> set[str]:
    """What `--list` says of the definition's shards: "whole", "left" to a worker that has it, or "asked"."""
    rows = [line for line in backfill(deployment, "--list")[1:] if line.split()[1] == FUNNEL]
    assert len(rows) == 4
    asked = ["left" if "not counted" in row else "asked" for row in rows if row.endswith("asked for")]
    return {*asked, *("whole" for row in rows if row.endswith("its beginning"))}
