"""deploy/compose.yaml is what docker compose takes, and gives no service more than it needs."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas.config import load
from streams.doctor.judge_redis import SMALL_HASH_WANTED
from streams.permissions import redis_user
from tests.parts.compose import COMPOSE, DEPLOY, services

ROOT = DEPLOY.parent
SERVICES = services()
ONCE_OR_SILENT = {"topics", "traffic"}


@pytest.fixture(scope="module")
def read(deploy_tools: Path) -> dict[str, Any]:
    """The file as docker compose itself reads it."""
    done = subprocess.run(
        [deploy_tools / "docker-compose", "-f", COMPOSE, "config", "--format", "json"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_docker_compose_takes_the_file(read: dict[str, Any]) -> None:
    assert read["services"].keys() == SERVICES.keys()
    assert read["services"]["worker"]["build"] == {"context": str(ROOT), "dockerfile": "deploy/Dockerfile"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_cannot_write_nor_gain_privileges_nor_take_the_machine(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_whether_it_is_well_and_nobody_waits_for_one_that_cannot(name: str, read: dict[str, Any]) -> None:
    service = SERVICES[name]
    if name in ONCE_OR_SILENT:
        assert service["healthcheck"] == {"disable": True}
    elif name != "worker":  # whose check is the image's
        assert service["healthcheck"]["test"][0] == "CMD"
    for awaited, how in service.get("depends_on", {}).items():
        assert how["condition"] == ("service_completed_successfully" if awaited == "topics" else "service_healthy")
        assert awaited == "topics" or "test" in SERVICES[awaited]["healthcheck"]


def test_only_page_prometheus_and_grafana_are_published_and_only_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"worker", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_kafka_and_redis_are_on_a_network_that_ends_there(read: dict[str, Any]) -> None:
    assert read["networks"]["data"]["internal"]
    assert all(SERVICES[name]["networks"] == ["data"] for name in ("kafka", "redis", "topics", "traffic"))


def test_images_are_named_to_the_patch_and_kafka_is_the_one_that_the_tests_run_on() -> None:
    for service in SERVICES.values():
        assert re.fullmatch(r"[\w/.-]+:v?\d+\.\d+\.\d+", service["image"])
    (version,) = re.findall(r"<kafka.version>(.*)</kafka.version>", (DEPLOY / "kafka" / "pom.xml").read_text())
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"


def test_every_file_that_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            if volume.startswith("./"):
                source, _, mode = volume.split(":")
                assert (DEPLOY / source).exists(), source
                assert mode == "ro"


def test_no_more_workers_than_partitions_and_a_port_for_each() -> None:
    worker, topics = SERVICES["worker"], SERVICES["topics"]["command"]
    first, last = re.match(r"127\.0\.0\.1:(\d+)-(\d+):6066$", worker["ports"][0]).groups()  # type: ignore[union-attr]
    replicas = worker["deploy"]["replicas"]
    assert 2 <= replicas <= int(last) - int(first) + 1 <= int(topics[topics.index("--partitions") + 1])


def test_redis_is_set_up_as_a_ledger_must_be() -> None:
    text = (DEPLOY / "redis" / "redis.conf").read_text()
    settings = dict(line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#"))
    wanted = {"appendonly": "yes", "maxmemory-policy": "noeviction", "aof-load-truncated": "no", "aclfile": "/etc/redis/users.acl"}
    assert wanted.items() <= settings.items()
    assert int(settings["hash-max-listpack-entries"]) == SMALL_HASH_WANTED
    assert settings["maxmemory"] == "640mb"
    assert SERVICES["redis"]["deploy"]["resources"]["limits"]["memory"] == "1g"  # the rest is for writing the log anew


def test_redis_lets_nobody_in_but_the_worker_by_its_password_and_the_health_check_for_a_ping() -> None:
    users = {line.split()[1]: line.split()[2:] for line in (DEPLOY / "redis" / "users.acl").read_text().splitlines()}
    password = (DEPLOY / "compose" / "redis-password").read_text().strip()
    assert users.keys() == {"default", "funnelwatch", "health"}
    assert users["default"] == ["off"]
    least = redis_user("funnelwatch", "fw", doctor=True).split()[2:]
    assert users["funnelwatch"] == [least[0], f"#{hashlib.sha256(password.encode()).hexdigest()}", *least[1:]], "write it anew"
    assert users["health"] == ["on", "nopass", "resetkeys", "resetchannels", "-@all", "+ping"]
    assert password not in COMPOSE.read_text()


def test_the_traffic_is_that_of_the_topic_that_the_funnel_reads() -> None:
    config = load(DEPLOY / "compose" / "funnel.yaml")
    command = SERVICES["traffic"]["command"]
    assert command[command.index("--topic") + 1] == config.sources[0].topic


def test_grafana_opens_with_the_overview_and_notifications_lead_to_the_funnel() -> None:
    dashboards = {path.name: json.loads(path.read_text())["uid"] for path in (DEPLOY / "compose" / "dashboards").glob("*.json")}
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == "/etc/grafana/dashboards/overview.json"
    assert "./compose/dashboards:/etc/grafana/dashboards:ro" in SERVICES["grafana"]["volumes"]
    assert f"/d/{dashboards['funnel.json']}?var-funnel={{funnel}}" in SERVICES["worker"]["environment"]["FUNNELWATCH_WEB__DASHBOARD_URL"]
    (port,) = SERVICES["grafana"]["ports"]
    assert f"http://{port.rpartition(':')[0]}/d/" in SERVICES["worker"]["environment"]["FUNNELWATCH_WEB__DASHBOARD_URL"]
