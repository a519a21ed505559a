"""From a record in Kafka to the pager and to Prometheus: every part real, the worker as a user runs it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.parts.alertmanager import Alertmanager
from tests.parts.kafka import Kafka, create_topic
from tests.parts.prometheus import Prometheus
from tests.parts.receiver import Receiver
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker

QUIET = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
SCRAPE = """
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: funnelwatch, static_configs: [{{targets: ['{address}']}}]}}]
"""
BUCKET_SECONDS = 10
VIEWERS = 60


@pytest.fixture
def alertmanager(alertmanager_binary: Path) -> Iterator[Alertmanager]:
    with Alertmanager(alertmanager_binary, QUIET) as started:
        yield started


def config_of(topic: str, alertmanager: str, hook: str) -> str:
    return json.dumps({
        "sources": [{"name": "web", "topic": topic}],
        "funnels": [{
            "name": "purchase", "title": "Browse to order", "source": "web", "conversion_window": "10s", "windows": ["10s", "5m"],
            "stages": [{"name": "view", "event": "product_view"}, {"name": "pay", "event": "purchase"}],
        }],
        "alerts": [{
            "name": "PayLow", "funnel": "purchase", "stage": "pay", "basis": "users", "window": "10s", "below": 0.4, "for": "10s",
            "recover_above": 0.45, "min_entrants": 30, "severity": "page", "notify": ["oncall", "hook"],
        }],
        "channels": {"oncall": {"type": "alertmanager", "url": alertmanager, "resend": "5s"}, "hook": {"type": "webhook", "url": hook}},
    })  # fmt: skip


class Shop:
    """Produces whole buckets of event time, each with a wanted rate of payers."""

    def __init__(self, brokers: str, topic: str) -> None:
        self._brokers, self._topic = brokers, topic
        self.bucket = int(time.time()) // BUCKET_SECONDS - 30
        self.views = self.payments = 0

    async def sells(self, payers: int) -> int:
        """One bucket of VIEWERS of whom so many pay, and an event that opens the next one; its end in seconds."""
        start = self.bucket * BUCKET_SECONDS
        self.bucket += 1
        people = [f"{start}-{n}" for n in range(VIEWERS)]
        events = [(who, "product_view", start + 1) for who in people] + [(who, "purchase", start + 5) for who in people[:payers]]
        async with AIOKafkaProducer(bootstrap_servers=self._brokers) as producer:
            for who, event, at in [*events, ("clock", "tick", start + BUCKET_SECONDS)]:
                record = {"event": event, "timestamp": at, "user_id": who}
                await producer.send_and_wait(self._topic, json.dumps(record).encode(), who.encode())
        self.views += VIEWERS
        self.payments += payers
        return start + BUCKET_SECONDS


async def until(holds: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait for something to be true; it is asked in a thread of its own."""
    deadline = time.monotonic() + seconds
    while not (found := await asyncio.to_thread(holds)):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.1)
    return found


def judged(worker: Worker, boundary: int) -> str | None:
    """The state of the rule, once it was judged at this boundary."""
    state = worker.get("/api/v1/alerts").json()["states"][0]
    at = state["at"] or ""
    return state["state"] if at == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(boundary)) else None


async def test_a_leak_reaches_the_pager_and_its_mending_too(
    kafka: Kafka, redis_server: RedisServer, alertmanager: Alertmanager, prometheus_binary: Path, unique_name: str, tmp_path: Path
) -> None:
    await create_topic(kafka.address, unique_name, 2)
    async with Receiver().running() as hook:
        config = tmp_path / "funnel.yaml"
        config.write_text(config_of(unique_name, alertmanager.url, hook.url))
        shop = Shop(kafka.address, unique_name)
        worker = Deployment(kafka.address, redis_server.url, unique_name, config).worker()
        with worker:
            await asyncio.to_thread(worker.start)
            for payers, state in ((50, "inactive"), (5, "pending"), (5, "firing")):
                boundary = await shop.sells(payers)
                assert await until(lambda boundary=boundary: judged(worker, boundary)) == state
            (held,) = await until(alertmanager.alerts)
            assert held["labels"] | {"alertname": "PayLow", "funnel": "purchase", "stage": "pay", "severity": "page"} == held["labels"]
            assert "view → pay at 8.3%, under 40%" in held["annotations"]["summary"]
            await until(lambda: [r.body["status"] for r in hook.requests] == ["firing"])
            await prometheus_agrees(prometheus_binary, worker, shop)

            boundary = await shop.sells(50)
            assert await until(lambda: judged(worker, boundary)) == "inactive"
            await until(lambda: alertmanager.alerts() == [])
            await until(lambda: [r.body["status"] for r in hook.requests] == ["firing", "resolved"])
            assert worker.metric("funnel_notifications_total", channel="hook", outcome="delivered") == 2


async def prometheus_agrees(binary: Path, worker: Worker, shop: Shop) -> None:
    """A real Prometheus that scrapes the worker answers with the numbers that were produced."""
    with Prometheus(binary, SCRAPE.format(address=worker.address)) as prometheus:

        def value(query: str) -> float | None:
            found = prometheus.query(query)
            return float(found[0]["value"][1]) if found else None

        users = 'sum(funnel_stage_users{{funnel="purchase",stage="{}",window="5m",dimension=""}})'
        await until(lambda: value(users.format("view")) == shop.views)
        assert value(users.format("pay")) == shop.payments
        assert value('funnel_conversion_ratio{stage="pay",window="5m"}') == pytest.approx(shop.payments / shop.views)
        assert value("max(funnel_alert_state)") == 2
        assert value('sum(funnel_records_total{fate="applied"})') == shop.views + shop.payments
        assert value("sum(funnelwatch_lease_held)") == 1
