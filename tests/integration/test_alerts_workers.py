"""Alerts on two real workers: one leads, the other takes over; people silence, acknowledge and resend by the command line."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams.cli import run
from tests.parts.kafka import Kafka, create_topic
from tests.parts.receiver import Receiver
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker, together

TAKEOVER_SECONDS_MAX = 10.0
VIEWERS = 60
BUCKET = 10


def config_of(topic: str, good: str, refusing: str) -> str:
    return json.dumps({
        "sources": [{"name": "web", "topic": topic}],
        "funnels": [{
            "name": "purchase", "source": "web", "conversion_window": "10s", "windows": ["10s"],
            "stages": [{"name": "view", "event": "product_view"}, {"name": "pay", "event": "purchase"}],
        }],
        "alerts": [{
            "name": "PayLow", "funnel": "purchase", "stage": "pay", "basis": "users", "window": "10s", "below": 0.4,
            "recover_above": 0.45, "notify": ["good", "refusing"],
        }],
        "channels": {"good": {"type": "webhook", "url": good}, "refusing": {"type": "webhook", "url": refusing}},
    })  # fmt: skip


async def sell(brokers: str, topic: str, bucket: int, payers: int) -> None:
    """A bucket of event time with VIEWERS of whom so many pay, and an event that opens the next."""
    start = bucket * BUCKET
    people = [f"{bucket}-{n}" for n in range(VIEWERS)]
    events = [(who, "product_view", start + 1) for who in people] + [(who, "purchase", start + 5) for who in people[:payers]]
    async with AIOKafkaProducer(bootstrap_servers=brokers) as producer:
        for who, event, at in [*events, ("clock", "tick", start + BUCKET)]:
            await producer.send_and_wait(topic, json.dumps({"event": event, "timestamp": at, "user_id": who}).encode(), who.encode())


async def until(holds: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait for something to be true; it is asked in a thread of its own."""
    deadline = time.monotonic() + seconds
    while not (found := await asyncio.to_thread(holds)):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.05)
    return found


def state_of(worker: Worker) -> dict[str, Any]:
    found: dict[str, Any] = worker.get("/api/v1/alerts").json()["states"][0]
    return found


def leads(worker: Worker) -> bool:
    return worker.metric("funnelwatch_lease_held") == 1


def told(hook: Receiver) -> list[str]:
    return list(dict.fromkeys(request.body["key"].rpartition("/")[2] for request in hook.requests))


async def command(worker: Worker, *arguments: str) -> None:
    assert await asyncio.to_thread(run, [*arguments, "--author", "kim", "--url", f"http://{worker.address}"]) == 0


@pytest.mark.alone
async def test_what_people_say_of_an_alert_holds_on_every_worker_and_after_a_takeover(
    kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await create_topic(kafka.address, unique_name, 2)
    bucket = int(time.time()) // BUCKET - 30
    async with Receiver().running() as good, Receiver(403).running() as refusing:
        config = tmp_path / "funnel.yaml"
        config.write_text(config_of(unique_name, good.url, refusing.url))
        deployment = Deployment(kafka.address, redis_server.url, unique_name, config)
        workers = deployment.worker(), deployment.worker()
        with together(*workers):
            await sell(kafka.address, unique_name, bucket, 5)
            await until(lambda: state_of(workers[0])["state"] == "firing")
            await until(lambda: told(good) == ["firing"])
            old, other = sorted(workers, key=leads, reverse=True)
            assert (leads(old), leads(other)) == (True, False)

            await command(other, "alerts", "ack", "PayLow", "--reason", "looking")
            await command(other, "silence", "add", "--rule", "Pay*", "--for", "1h", "--reason", "moving")
            await until(lambda: other.get("/api/v1/alerts/dead-letters").json()["dead_letters"])
            await command(other, "alerts", "resend", "--all", "--reason", "mended")
            await until(lambda: len(refusing.requests) == 2)
            capsys.readouterr()

            killed = time.monotonic()
            await asyncio.to_thread(old.kill)
            await until(lambda: leads(other))
            await until(lambda: other.metric("funnel_alert_state", rule="PayLow") == 2)
            assert time.monotonic() - killed < TAKEOVER_SECONDS_MAX
            after = state_of(other)
            assert (after["state"], after["acknowledged_by"], len(after["silenced_by"]), after["flaps"]) == ("firing", "kim", 1, 1)

            await sell(kafka.address, unique_name, bucket + 1, 50)
            await until(lambda: state_of(other)["state"] == "inactive")
            await until(lambda: told(good) == ["firing", "resolved"])
            await sell(kafka.address, unique_name, bucket + 2, 5)
            await until(lambda: state_of(other)["state"] == "firing")
            await asyncio.sleep(2.0)
            assert len(good.requests) == 2, "it is silent, and told nevertheless"
            (silence,) = other.get("/api/v1/silences").json()["silences"]
            await command(other, "silence", "expire", silence["id"])
            await until(lambda: len(good.requests) == 3)
            actions = [entry["action"] for entry in other.get("/api/v1/audit").json()["entries"]]
            assert actions == ["silence_expired", "resent", "silence_added", "acknowledged"]
