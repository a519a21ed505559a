"""The doctor and `topics`, on a real broker and a real Redis, by the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.config import load
from schemas.settings import RedisSettings
from streams.cli import run
from streams.doctor.redis import redis_facts
from streams.permissions import DOCTOR_COMMANDS, REDIS_COMMANDS, redis_user
from streams.process import free_port
from tests.parts.certificates import Authority
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.secure_redis import SecureRedis, cluster
from tests.traffic import clicks, make_topic, produce, write_config

Command = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def command(
    kafka: Kafka, redis_server: RedisServer, unique_name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command with --json against the real parts; its exit code and what it printed."""
    for name, value in {
        "KAFKA__BROKERS": kafka.address,
        "KAFKA__GROUP": unique_name,
        "REDIS__URL": redis_server.url,
        "REDIS__PREFIX": unique_name,
    }.items():
        monkeypatch.setenv(f"FUNNELWATCH_{name}", value)

    def go(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = run([*arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return go


def of(report: dict[str, Any], state: str) -> set[tuple[str, str]]:
    return {(finding["area"], finding["subject"]) for finding in report["findings"] if finding["state"] == state}


def test_topics_says_what_is_missing_and_creates_it_when_asked(command: Command, unique_name: str, tmp_path: Path) -> None:
    config = str(write_config(tmp_path, unique_name, entity_key=False))
    code, report = command("topics", "--config", config, "--partitions", "3")
    wanted = [(unique_name, 3), (f"{unique_name}.by-entity", 3), (f"{unique_name}.dead-letter", 1)]
    assert (code, report["applied"]) == (1, False)
    assert [(t["topic"], t["partitions"]) for t in report["topics"] if t["action"] == "create"] == wanted
    assert command("topics", "--config", config)[0] == 1, "nothing was created"
    assert command("topics", "--config", config, "--partitions", "3", "--apply")[0] == 0
    code, report = command("topics", "--config", config, "--partitions", "8")
    assert code == 0
    assert [(t["topic"], t["partitions"], t["action"]) for t in report["topics"]] == [(*each, "exists") for each in wanted]
    assert "has 3 partitions, not 8: a partition count is never changed" in report["topics"][0]["note"]


def test_a_re_keyed_topic_of_another_size_is_found_and_left_alone(command: Command, kafka: Kafka, unique_name: str, tmp_path: Path) -> None:
    make_topic(kafka.address, unique_name, 4)
    make_topic(kafka.address, f"{unique_name}.by-entity", 2)
    config = str(write_config(tmp_path, unique_name, entity_key=False))
    code, report = command("topics", "--config", config, "--apply")
    (differing,) = (t for t in report["topics"] if t["action"] == "differs")
    assert (code, differing["topic"], differing["partitions"]) == (1, f"{unique_name}.by-entity", 2)
    code, report = command("doctor", "--config", config)
    assert code == 2
    assert ("topics", f"{unique_name}.by-entity") in of(report, "fail")


def test_the_doctor_finds_a_deployment_well_and_then_what_is_wrong_with_it(
    command: Command, kafka: Kafka, unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path, unique_name)
    config.write_text(config.read_text() + "channels:\n  am: {type: alertmanager, url: 'http://127.0.0.1:9093'}\n  log: {type: log}\n")
    make_topic(kafka.address, unique_name, 2, retention_ms="-1")
    make_topic(kafka.address, f"{unique_name}.dead-letter", 1)
    produce(kafka.address, unique_name, clicks(100))
    code, report = command("doctor", "--config", str(config))
    assert of(report, "fail") == set()
    # The machine that tests run on may be short of memory; and these channels are no rule's.
    assert {area for area, _ in of(report, "warn")} <= {"redis", "config"}
    assert {area for area, _ in of(report, "ok")} >= {"kafka", "topics", "redis", "clocks", "permissions", "channels", "web"}

    monkeypatch.setenv("FUNNELWATCH_REDIS__URL", f"redis://127.0.0.1:{free_port()}/0")
    config.write_text(config.read_text().replace("http://127.0.0.1:9093", "http://169.254.169.254"))
    code, report = command("doctor", "--config", str(config))
    assert code == 2
    assert {area for area, _ in of(report, "fail")} == {"redis", "channels"}
    assert all(finding["remedy"] for finding in report["findings"] if finding["state"] != "ok")


def test_without_brokers_the_doctor_says_so_and_looks_at_the_rest(
    command: Command, unique_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUNNELWATCH_KAFKA__BROKERS", f"127.0.0.1:{free_port()}")
    code, report = command("doctor", "--config", str(write_config(tmp_path, unique_name)))
    assert code == 2
    assert {area for area, _ in of(report, "fail")} == {"kafka"}
    assert "redis" in {area for area, _ in of(report, "ok")}


@pytest.mark.parametrize("may_ask", [True, False])
def test_what_a_user_may_not_in_redis_is_found(redis_server_binary: Path, may_ask: bool, tmp_path: Path, unique_name: str) -> None:
    """By ACL DRYRUN, and where that may not be asked by trying; nothing is left behind."""
    config = load(write_config(tmp_path, unique_name))
    whole = redis_user("whole", "fw", doctor=may_ask)
    lacking = redis_user("lacking", "fw", doctor=may_ask).replace(" +hset ", " ").replace(" ~fw:*", "")
    users = [f"{line} >hush" for line in (whole, lacking)]
    with SecureRedis(redis_server_binary, Authority(tmp_path), *users) as redis:

        def missing(user: str) -> tuple[str, ...]:
            facts = asyncio.run(redis_facts(config, RedisSettings(url=SecretStr(f"redis://{user}:hush@{redis.address}/0"))))
            (node,) = facts.nodes
            assert (node.info is not None, node.settings is not None) == (may_ask, may_ask)
            assert node.ahead_seconds is not None
            return node.missing

        assert missing("whole") == ()
        assert missing("lacking") == ("hset", "keys fw:*")
        with redis.client() as client:
            assert client.dbsize() == 0


def test_every_master_of_a_cluster_is_looked_at(redis_server_binary: Path, tmp_path: Path, unique_name: str) -> None:
    config = load(write_config(tmp_path, unique_name))
    user = f"{redis_user('fw', 'fw', cluster=True, doctor=True)} >hush"
    with cluster(redis_server_binary, Authority(tmp_path), user) as nodes:
        settings = RedisSettings(url=SecretStr(f"redis+cluster://fw:hush@{nodes[0].address}"))
        facts = asyncio.run(redis_facts(config, settings))
    assert len(facts.nodes) == 3
    assert all(node.missing == () and node.info and node.settings and node.ahead_seconds is not None for node in facts.nodes)


def test_the_doctor_asks_for_no_more_than_the_page_says() -> None:
    assert not {*DOCTOR_COMMANDS} & {*REDIS_COMMANDS}
