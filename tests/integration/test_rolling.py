"""Workers are replaced one after the other under load, as a deploy does it: nothing is lost, and nobody is alerted."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.books import assert_counts_exact, becomes, counted, expected_of, read_books
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker, together
from tests.traffic import Click, Load, make_topic

RATE = 400  # records a second, in event time as on the clock
LASTS_SECONDS = 240  # more than the test takes
PAY, PAY_AFTER_SECONDS = 0.6, 0.2
BUCKET_SECONDS = 10
STOP_SECONDS_MAX = 15.0  # half of what a deployment gives it
ROUNDS = 2
CONFIG = {
    "funnels": [{
        "name": "purchase", "source": "web", "conversion_window": "30s", "windows": ["10s", "1m"],
        "stages": [{"name": "view", "event": "product_view"}, {"name": "pay", "event": "purchase"}],
    }],
    "alerts": [
        {"name": "UsersLow", "funnel": "purchase", "stage": "pay", "basis": "users", "window": "10s", "below": 0.4, "notify": ["log"]},
        {"name": "Sequential", "funnel": "purchase", "stage": "pay", "basis": "users", "window": "10s", "below": 0.4, "detector": "sequential",
         "notify": ["log"]},
    ],
    "pipeline": {"for": "20s"},
    "channels": {"log": {"type": "log"}},
}  # fmt: skip


def healthy(seconds: int) -> tuple[Click, ...]:
    """People who view, and of whom six in ten pay at once, from now on, and from the beginning of a bucket."""
    dice, begin = random.Random(7), time.time() // BUCKET_SECONDS * BUCKET_SECONDS
    events: list[tuple[float, str, str]] = []
    for number in range(int(seconds * RATE / (1 + PAY))):
        at, who = begin + number * (1 + PAY) / RATE, f"user-{number}"
        events.append((at, "product_view", who))
        if dice.random() < PAY:
            events.append((at + PAY_AFTER_SECONDS, "purchase", who))
    return tuple(
        Click(who.encode(), json.dumps({"event": event, "timestamp": at, "user_id": who}).encode()) for at, event, who in sorted(events)
    )


def alerts_of(worker: Worker) -> dict[str, Any]:
    found: dict[str, Any] = worker.get("/api/v1/alerts").raise_for_status().json()
    return found


def errors_of(worker: Worker) -> list[str]:
    """What it said itself; Kafka's client calls a group that has just begun an error."""
    return [line for line in worker.log(1000).splitlines() if "level=error" in line and "logger=aiokafka" not in line]


def judged(worker: Worker) -> bool:
    """Whether the rules see numbers, and not only that there are none."""
    by_rule = {state["rule"]: state for state in alerts_of(worker)["states"]}
    return all((by_rule.get(name) or {}).get("denominator") for name in ("UsersLow", "Sequential"))


@pytest.mark.alone
@pytest.mark.timeout(240)  # four starts of a worker, on a machine that may be busy
def test_two_workers_restarted_in_turn_lose_nothing_and_alert_nobody(
    kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path
) -> None:
    make_topic(kafka.address, unique_name, 4)
    config = tmp_path / "funnel.yaml"
    config.write_text(json.dumps({"sources": [{"name": "web", "topic": unique_name}], **CONFIG}))
    deployment = Deployment(kafka.address, redis_server.url, unique_name, config)
    workers = deployment.worker(), deployment.worker()
    with together(*workers), Load(kafka.address, unique_name, healthy(LASTS_SECONDS), RATE) as load:
        becomes(lambda: judged(workers[0]), True)
        for worker in workers * ROUNDS:
            began = time.monotonic()
            worker.stop()
            assert (worker.exit_code, time.monotonic() - began < STOP_SECONDS_MAX) == (0, True), worker.log()
            worker.start()
        ends = load.cut()
        counted(deployment, ends)
        assert_counts_exact(expected_of(deployment), read_books(deployment))
        told = alerts_of(workers[0])
        assert told["transitions"] == [], told["transitions"]
        assert {state["state"] for state in told["states"]} == {"inactive"}
        assert [line for worker in workers for line in errors_of(worker)] == []
