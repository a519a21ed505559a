"""A real week of a shop: the live service, two replays and the oracle come to the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streams.files import EventFile
from tests.books import assert_counts_exact, becomes, counted, expected_of, read_books
from tests.oracle import TOTAL, Recount
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker
from tests.traffic import make_topic

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FUNNELWATCH_DATA", ROOT.parent / "shared" / "data"))
FILE = DATA / "taobao_userbehavior_815users.csv.gz"
CONFIG = ROOT / "tests" / "data" / "taobao.yaml"
FUNNEL = "purchase"
STAGES = {"view": ("pv",), "interest": ("cart", "fav"), "buy": ("buy",)}
WINDOWS = ("1h", "1d", "7d", "30d")
COMMAND_SECONDS = 60

needs_file = pytest.mark.skipif(
    not FILE.is_file(), reason=f"not ours to ship: {FILE.name} is not in {DATA}; name its folder with FUNNELWATCH_DATA"
)


@pytest.fixture
def config(unique_name: str, tmp_path: Path) -> Path:
    """The config, on a topic of the test's own."""
    path = tmp_path / "taobao.yaml"
    path.write_text(CONFIG.read_text().replace("topic: taobao", f"topic: {unique_name}"))
    return path


@pytest.fixture
def in_order(tmp_path: Path) -> Path:
    """The same records by time, and those of one second by stage and then by their bytes."""
    path = tmp_path / "in_order.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in sorted(EventFile(FILE).records(), key=total_order)))
    return path


def total_order(line: bytes) -> tuple[int, int, bytes]:
    record = json.loads(line)
    stage = next(place for place, events in enumerate(STAGES.values()) if record["behavior"] in events)
    return int(record["ts"]), stage, line


@needs_file
def test_a_real_week_comes_to_the_same_numbers_live_replayed_and_recounted(
    kafka: Kafka, redis_server: RedisServer, unique_name: str, config: Path, in_order: Path
) -> None:
    make_topic(kafka.address, unique_name, 4)
    deployment = Deployment(kafka.address, redis_server.url, unique_name, config)
    with deployment.worker() as worker:
        funnelwatch("send", in_order, "--topic", unique_name, "--config", config, "--brokers", kafka.address)
        expected = expected_of(deployment)
        counted(deployment, expected.ends)
        assert_counts_exact(expected, read_books(deployment))
        for window in WINDOWS:
            becomes(lambda: shown_by_api(worker, window), {split: users(expected, window, split) for split in splits(expected)})  # noqa: B023
    for file in (FILE, in_order):
        assert json.loads(funnelwatch("replay", file, "--config", config, "--json")) == replayed(expected)


def funnelwatch(*arguments: Any) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "streams.cli", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=COMMAND_SECONDS).stdout


Split = tuple[str, str]


def splits(expected: Recount) -> list[Split]:
    return [TOTAL, *sorted(("category", value) for value in expected.values(FUNNEL, "category"))]


def users(expected: Recount, window: str, split: Split) -> list[int]:
    return [expected.window(FUNNEL, "users", place, window, split) for place in range(len(STAGES))]


def shown_by_api(worker: Worker, window: str) -> dict[Split, list[int]]:
    """Users of every stage, in total and by category."""
    report = worker.get(f"/api/v1/funnels/{FUNNEL}", window=window, by="category").raise_for_status().json()
    parts = {TOTAL: report["stages"], **{("category", split["value"]): split["stages"] for split in report["values"]}}
    return {split: [stage["users"] for stage in stages] for split, stages in parts.items()}


def replayed(expected: Recount) -> dict[str, Any]:
    """What `funnelwatch replay --json` must print, made of the oracle's counts."""
    stages = {split: replayed_stages(expected, split) for split in splits(expected)}
    return {
        "consumed": expected.records,
        "applied": expected.fates["applied"],
        "filtered": expected.fates["filtered"],
        "late": 0,
        "rejected": {},
        "duplicate": expected.fates["duplicate"],
        "watermark": "2017-12-03T15:59:23Z",
        "funnels": {
            FUNNEL: {
                "stages": stages.pop(TOTAL),
                "dimensions": {"category": {value: {"stages": found} for (_, value), found in stages.items()}},
            }
        },
    }


def replayed_stages(expected: Recount, split: Split) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "reached": expected.total(FUNNEL, "users", place, split),
            "windows": {window: replayed_window(expected, place, window, split) for window in WINDOWS},
            "entries": expected.total(FUNNEL, "entries", place, split),
            "conversions": expected.total(FUNNEL, "conversions", place, split) if place < len(STAGES) - 1 else None,
            "events": expected.total(FUNNEL, "events", place, split),
            "value": 0.0,
        }
        for place, name in enumerate(STAGES)
    ]


def replayed_window(expected: Recount, place: int, window: str, split: Split) -> dict[str, Any]:
    found = users(expected, window, split)
    before = found[place - 1] if place else None
    return {"users": found[place], "of": before, "rate": found[place] / before if before else None}
