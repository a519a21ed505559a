"""Every query of every dashboard, and the generated alerts, on a real Prometheus that scrapes a real worker."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from alerting.prometheus_files import files
from alerting.prometheus_health import ALERTS
from schemas.config import Config, parse
from tests.parts.dashboards import Asked, Json, annotations, filled, queries, variables
from tests.parts.kafka import Kafka, create_topic
from tests.parts.prometheus import Prometheus
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker

NEEDS = "grafana-foundation-sdk needs Python 3.11"
WAIT_SECONDS = 45.0
HOURS, EVERY_SECONDS = 3, 30
CHOSEN = {
    "job": "funnelwatch", "instance": ".+", "source": ".+", "funnel": "purchase", "window": "24h", "basis": "users", "stage": "pay",
    "dimension": "device", "value": ".+", "__rate_interval": "30s",
}  # fmt: skip
AUDIT = "nothing is audited unless FUNNELWATCH_WORKER__AUDIT_SHARE asks for it"
EMPTY = {
    "Deploys": "no version appeared: the worker runs since before Prometheus does",
    "Audit difference": AUDIT,
    "Audited records": AUDIT,
}
CONFIG = """
sources: [{name: web, topic: TOPIC}]
funnels:
  - name: purchase
    source: web
    conversion_window: 1m
    windows: [24h]
    dimensions: {device: properties.device}
    baseline: {min_entries: 20}
    stages:
      - {name: view, event: v}
      - {name: cart, event: c, target: 0.5}
      - {name: pay, event: p, target: 0.6, benchmark: 0.4, value: properties.amount}
alerts: [{name: PayLow, funnel: purchase, stage: pay, basis: users, window: 24h, below: 0.9, for: 0s, by: [device], notify: [log]}]
channels: {log: {type: log}}
"""


@dataclass(frozen=True)
class Deployed:
    """A worker that has counted, a Prometheus that scrapes it, and the dashboards of its config."""

    config: Config
    worker: Worker
    prometheus: Prometheus
    kafka: str

    def trickle(self) -> None:
        """Somebody comes, now."""
        topic = self.config.sources[0].topic
        asyncio.run(
            send(self.kafka, topic, [json.dumps({"event": "v", "timestamp": time.time(), "user_id": f"t{time.time_ns()}"}).encode()])
        )

    def dashboards(self) -> dict[str, Json]:
        from streams.dashboards import Addresses, dashboards

        return {name: json.loads(text) for name, text in dashboards(self.config, Addresses()).items()}


def sold() -> Iterator[bytes]:
    """Some hours of people on two kinds of device, every second of whom goes on, and records that cannot be read."""
    start = int(time.time()) - HOURS * 3600
    for number in range(HOURS * 3600 // EVERY_SECONDS):
        for place, event in enumerate(("v", "c", "p")[: 1 + (number % 2) + (number % 4 == 1)]):
            properties = {"device": ("ios", "android")[number % 2 == number % 3], "amount": 12.5}
            record = {
                "event": event,
                "timestamp": start + EVERY_SECONDS * number + place,
                "user_id": f"p{number}",
                "properties": properties,
            }
            yield json.dumps(record).encode()
    yield from [b"{"] * 5


async def send(brokers: str, topic: str, records: Iterable[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=brokers) as producer:
        for record in records:
            who = json.loads(record)["user_id"] if len(record) > 1 else "x"
            await producer.send(topic, record, who.encode())


@pytest.fixture(scope="module")
def deployed(
    kafka: Kafka, redis_server: RedisServer, prometheus_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    pytest.importorskip("grafana_foundation_sdk", reason=NEEDS)
    topic = f"dashboards-{time.time_ns()}"
    config = tmp_path_factory.mktemp("dashboards") / "funnel.yaml"
    config.write_text(CONFIG.replace("TOPIC", topic))
    asyncio.run(create_topic(kafka.address, topic, 2))
    asyncio.run(send(kafka.address, topic, sold()))
    written = files(parse(config.read_text()))
    rules = {name: re.sub(r"interval: \d+s", "interval: 1s", text) for name, text in written.items()}
    with Deployment(kafka.address, redis_server.url, topic, config).worker() as worker:
        worker.start()
        scrape = (
            "global: {scrape_interval: 1s}\nrule_files: [rules.yaml, pipeline.yaml]\n"
            f"scrape_configs: [{{job_name: funnelwatch, static_configs: [{{targets: ['{worker.address}']}}]}}]\n"
        )
        with Prometheus(prometheus_binary, scrape, rules) as prometheus:
            yield Deployed(parse(config.read_text()), worker, prometheus, kafka.address)


def test_every_query_finds_what_a_running_worker_serves(deployed: Deployed) -> None:
    waiting = [one for dashboard in deployed.dashboards().values() for one in (*queries(dashboard), *annotations(dashboard))]
    assert len(waiting) > 50
    deadline = time.monotonic() + WAIT_SECONDS
    while waiting := [one for one in waiting if not found(deployed, one) and one.panel not in EMPTY]:
        assert time.monotonic() < deadline, "waited in vain: " + "\n".join(map(str, waiting))
        deployed.trickle()


def found(deployed: Deployed, asked: Asked) -> list[Any]:
    return deployed.prometheus.query(filled(asked.expr, CHOSEN))


@pytest.mark.parametrize("basis", ["entries", "adjusted"])
def test_rates_are_found_on_every_basis(deployed: Deployed, basis: str) -> None:
    asked = [one for one in queries(deployed.dashboards()["funnel.json"]) if "$basis" in one.expr]
    assert len(asked) > 5
    deadline = time.monotonic() + WAIT_SECONDS
    while asked := [one for one in asked if not deployed.prometheus.query(filled(one.expr, {**CHOSEN, "basis": basis}))]:
        assert time.monotonic() < deadline, "waited in vain: " + "\n".join(map(str, asked))
        deployed.trickle()


def test_variables_offer_what_there_is_and_begin_with_it(deployed: Deployed) -> None:
    for dashboard in deployed.dashboards().values():
        for name, variable in variables(dashboard).items():
            if variable["type"] != "query":
                continue
            selected, _, label = filled(variable["query"], CHOSEN).removeprefix("label_values(").removesuffix(")").rpartition(", ")
            answer = httpx.get(f"{deployed.prometheus.url}/api/v1/label/{label}/values", params={"match[]": selected}).raise_for_status()
            offered = answer.json()["data"]
            assert offered, name
            begins = variable.get("current", {}).get("value")
            assert begins in (None, ["$__all"]) or begins in offered, (name, begins, offered)


def test_on_a_healthy_worker_the_dead_man_and_the_leak_alone_fire(deployed: Deployed) -> None:
    def of_state(state: str) -> set[str]:
        alerts = httpx.get(f"{deployed.prometheus.url}/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == state}

    deadline = time.monotonic() + WAIT_SECONDS
    while of_state("firing") != {"FunnelwatchDeadMan", "PayLow"}:
        assert time.monotonic() < deadline, f"waited in vain: {of_state('firing')}"
        deployed.trickle()
    assert of_state("pending") & {alert.name for alert in ALERTS} == set()
    groups = httpx.get(f"{deployed.prometheus.url}/api/v1/rules").raise_for_status().json()["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}


def test_the_linter_of_promtool_has_nothing_to_say_of_the_metrics(deployed: Deployed, promtool_binary: Path) -> None:
    served = deployed.worker.get("/metrics").raise_for_status().content
    done = subprocess.run([promtool_binary, "check", "metrics"], input=served, capture_output=True, timeout=20)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_a_deploy_is_marked_where_a_version_appears(promtool_binary: Path, tmp_path: Path) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason=NEEDS)
    from streams.dashboards.frame import version_appears

    info = 'funnelwatch_build_info{{job="funnelwatch", version="{}"}}'
    selected = 'job=~"funnelwatch"'
    test = {
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": [
                {"series": info.format("1"), "values": "1+0x20 _x20"},
                {"series": info.format("2"), "values": "_x15 1+0x20"},
            ],
            "promql_expr_test": [
                {"expr": version_appears(selected), "eval_time": f"{minute}m", "exp_samples": samples}
                for minute, samples in ((2, []), (10, []), (17, [{"labels": '{version="2"}', "value": 1}]), (30, []))
            ],
        }],
    }  # fmt: skip
    (tmp_path / "test.yaml").write_text(json.dumps(test))
    done = subprocess.run([promtool_binary, "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
