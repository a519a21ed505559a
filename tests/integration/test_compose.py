"""What deploy/compose.yaml starts works together: its services as processes, with the files that the containers get."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from schemas.config import load
from tests.parts.alertmanager import Alertmanager
from tests.parts.compose import DEPLOY, ComposeKafka, ComposeRedis, ComposeTraffic, ComposeWorker, command_of, mounted, moved, services
from tests.parts.prometheus import Prometheus


class Stack:
    """Everything of the file, started in its order."""

    def __init__(self, stack: ExitStack, kafka: ComposeKafka, store: ComposeRedis, alertmanager: Alertmanager, folder: Path) -> None:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(stack.enter_context, (kafka, store, alertmanager)))
        self.store, self.alertmanager = store, alertmanager
        places = {
            "kafka:9092": kafka.address,
            "redis:6379": store.address,
            "alertmanager:9093": alertmanager.address,
            "/run/secrets/redis-password": str(DEPLOY / "compose" / "redis-password"),
        }
        config = mounted("worker", "/etc/funnelwatch/funnel.yaml", folder)
        there = moved(config.read_text(), places).replace("{type: alertmanager,", "{type: alertmanager, allow: [127.0.0.0/8],")
        config.write_text(there)
        subprocess.run(command_of("topics", places | {"/etc/funnelwatch/funnel.yaml": str(config)}), check=True)
        self.config, self.places = config, places
        self.traffic = stack.enter_context(ComposeTraffic(places))
        self.workers = [ComposeWorker(config, places) for _ in range(services()["worker"]["deploy"]["replicas"])]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(stack.enter_context, self.workers))


@pytest.fixture(scope="module")
def stack(
    kafka_jars: Path, redis_server_binary: Path, alertmanager_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("compose")
    routes = (mounted("alertmanager", "/etc/alertmanager", folder) / "alertmanager.yaml").read_text()
    parts = ComposeKafka(kafka_jars), ComposeRedis(redis_server_binary), Alertmanager(alertmanager_binary, routes)
    with ExitStack() as everything:
        yield Stack(everything, *parts, folder)


def until(holds: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


def users(worker: ComposeWorker) -> list[int]:
    report = worker.get("/api/v1/funnels/purchase", window="1m").json()
    return [stage["users"] for stage in report["stages"]]


def test_the_sample_traffic_is_counted_and_every_worker_shows_it(stack: Stack) -> None:
    for worker in stack.workers:
        assert "<html" in worker.get("/").raise_for_status().text
        until(lambda worker=worker: all(users(worker)))
    assert sum(worker.metric("funnelwatch_lease_held") for worker in stack.workers) == 1
    assert stack.traffic.running, stack.traffic.log()


def test_the_worker_asks_redis_for_nothing_that_its_user_may_not(stack: Stack) -> None:
    for worker in stack.workers:
        until(lambda worker=worker: worker.get("/readyz").is_success)
        assert "permission" not in worker.log(10_000)


def test_the_doctor_finds_nothing_that_must_be_mended(stack: Stack) -> None:
    *environment, _, _, _ = command_of("worker", stack.places)
    done = subprocess.run([*environment, "doctor", "--config", stack.config, "--json"], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["findings"]
    assert [finding for finding in found if finding["state"] == "fail"] == []


def test_the_readme_leads_from_a_topic_to_a_funnel_its_rules_and_its_dashboards(stack: Stack, tmp_path: Path) -> None:
    """The commands of deploy/README.md as they are written there, but for those that other tests run."""
    *environment, _, _, _ = command_of("worker", stack.places)
    text = (DEPLOY / "README.md").read_text().partition("## With Docker Compose")[0]
    until(lambda: all(users(stack.workers[0])))
    for line in re.findall(r"^funnelwatch (.*)$", text, re.MULTILINE):
        if line.split()[0] not in {"worker", "doctor"}:
            done = subprocess.run([*environment, *line.split()], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    (funnel,) = load(tmp_path / "funnel.yaml").funnels
    assert "begin_checkout" in str([stage.event for stage in funnel.stages])
    assert yaml.safe_load((tmp_path / "rules" / "pipeline.yaml").read_text())["groups"]
    assert funnel.title in (tmp_path / "dashboards" / "overview.json").read_text()


def test_the_worker_tells_alertmanager_that_it_lives(stack: Stack) -> None:
    def names() -> set[str]:
        return {alert["labels"]["alertname"] for alert in stack.alertmanager.alerts()}

    until(lambda: "FunnelwatchDeadMan" in names())
    # The sample traffic has an incident at every quarter of an hour: what else may fire are the funnel's own rules.
    assert names() - {"FunnelwatchDeadMan"} <= {rule.name for rule in load(DEPLOY / "compose" / "funnel.yaml").alerts}


def test_prometheus_scrapes_every_worker_and_has_the_rules_about_the_pipeline(
    stack: Stack, prometheus_binary: Path, tmp_path: Path
) -> None:
    config = mounted("prometheus", "/etc/prometheus/prometheus.yaml", tmp_path)
    rules = mounted("prometheus", "/etc/prometheus/pipeline.yaml", tmp_path)
    with Prometheus(prometheus_binary, scraping(config.read_text(), stack), {rules.name: rules.read_text()}) as prometheus:
        until(lambda: [s["value"][1] for s in prometheus.query('up{job="funnelwatch"}')] == ["1"] * len(stack.workers))
        until(lambda: prometheus.query('funnel_stage_users{stage="pay",window="5m",dimension=""} > 0'))
        groups = httpx.get(f"{prometheus.url}/api/v1/rules").json()["data"]["groups"]
        assert {g["name"] for g in groups} == {g["name"] for g in yaml.safe_load(rules.read_text())["groups"]}
        found = until(lambda: httpx.get(f"{prometheus.url}/api/v1/alertmanagers").json()["data"]["activeAlertmanagers"])
        assert [one["url"] for one in found] == [f"{stack.alertmanager.url}/api/v2/alerts"]


def scraping(config: str, stack: Stack) -> str:
    """The config with the workers by address: nobody resolves `worker` here."""
    read = yaml.safe_load(moved(config, {"alertmanager:9093": stack.alertmanager.address}))
    (job,) = (job for job in read["scrape_configs"] if job["job_name"] == "funnelwatch")
    assert [found["names"] for found in job.pop("dns_sd_configs")] == [["worker"]]
    job["static_configs"] = [{"targets": [worker.address for worker in stack.workers]}]
    return yaml.safe_dump(read)
