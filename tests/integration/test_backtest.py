"""A backtest over a real week of a shop, and over a topic between two times as over the file it was sent from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.config import load
from streams.embedded import KafkaProcess
from tests.parts.backtest import MIDNIGHT_US, config, shop
from tests.traffic import make_topic

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FUNNELWATCH_DATA", ROOT.parent / "shared" / "data"))
FILE = DATA / "taobao_userbehavior_815users.csv.gz"
CONFIG = ROOT / "deploy" / "backtest" / "taobao.yaml"
HOUR = 3600
COMMAND_SECONDS = 110

needs_file = pytest.mark.skipif(
    not FILE.is_file(), reason=f"not ours to ship: {FILE.name} is not in {DATA}; name its folder with FUNNELWATCH_DATA"
)


def lines(*arguments: Any, **environment: str) -> list[dict[str, Any]]:
    """The transitions that a command prints."""
    command = [sys.executable, "-m", "streams.cli", "backtest", *map(str, arguments), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=COMMAND_SECONDS, env=os.environ | environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


@needs_file
def test_a_real_week_gives_a_sensible_list() -> None:
    """Data begin with a handful of stray events, then at midnight of the shop; the nine days after it are healthy."""
    found = lines(FILE, "--config", CONFIG)
    names = {rule.name for rule in load(CONFIG).alerts}
    assert {line["rule"] for line in found} <= names
    assert [line["at"] for line in found] == sorted(line["at"] for line in found)
    fired = [line for line in found if line["state"] == "firing"]
    assert 1 <= len(fired) <= 5
    for line in fired:
        assert line["rate"] == line["numerator"] / line["denominator"] < line["threshold"]
    assert len([line for line in found if line["state"] == "resolved"]) == len(fired)


@pytest.fixture
def topic(any_kafka: KafkaProcess, unique_name: str) -> str:
    make_topic(any_kafka.address, unique_name, 3)
    return unique_name


def test_a_topic_between_two_times_gives_what_its_file_does(any_kafka: KafkaProcess, topic: str, tmp_path: Path) -> None:
    made = json.loads(config({"by": ["device"]}).model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True))
    made["sources"][0]["topic"] = topic
    setup, file = tmp_path / "config.yaml", tmp_path / "events.jsonl"
    setup.write_text(yaml.safe_dump(made))
    file.write_bytes(b"\n".join(shop(3 * HOUR, 20, (1.5 * HOUR, 2.5 * HOUR))))
    sent = [sys.executable, "-m", "streams.cli", "send", str(file), "--topic", topic, "--brokers", any_kafka.address]
    subprocess.run(sent, check=True, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS)
    start, end = MIDNIGHT_US // 1_000_000, MIDNIGHT_US // 1_000_000 + 2 * HOUR
    named = ("--topic", topic, "--config", setup)
    found = lines(*named, "--from", start, "--to", end, FUNNELWATCH_KAFKA__BROKERS=any_kafka.address)
    assert found == lines(file, "--config", setup, "--at", f"{end - 0.001:.3f}") != []
    later = lines(*named, "--from", end, "--to", end + HOUR, "--brokers", any_kafka.address)
    assert all(line["at"] > found[-1]["at"] for line in later)


def test_a_topic_that_is_not_there_is_said_in_one_line(any_kafka: KafkaProcess, tmp_path: Path) -> None:
    setup = tmp_path / "config.yaml"
    setup.write_text(yaml.safe_dump(json.loads(config({}).model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True))))
    command = [sys.executable, "-m", "streams.cli", "backtest", "--topic", "nowhere", "--config", str(setup)]
    done = subprocess.run(
        [*command, "--from", "1", "--to", "2", "--brokers", any_kafka.address],
        check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "has no topic 'nowhere'" in done.stderr
