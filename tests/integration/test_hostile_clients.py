"""Ten thousand clients that mean no good do not slow the counting, and honest ones get their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Event, Thread

import httpx
import pytest

from tests.books import assert_counts_exact, counted, expected_of, positions, read_books
from tests.parts.hostile import clients_max, hostile_clients
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker
from tests.traffic import Load, clicks, make_topic, write_config

RATE = 2000  # records a second
SECONDS_MAX = 90
COME_SECONDS_MAX = 60
BEFORE_SECONDS, DURING_SECONDS = 8, 15
SHARE_LEAST = 0.8
PATIENCE_SECONDS = 20.0
ANSWER_SECONDS_MAX = 8.0


class Honest:
    """One who asks twice a second over a connection of his own each time, and notes what comes of it."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._enough = worker, Event()
        self.seconds: list[float] = []
        self.failed: list[str] = []

    def ask(self) -> None:
        while not self._enough.wait(0.5):
            began = time.monotonic()
            try:
                address = f"http://{self._worker.address}/api/v1/funnels/purchase"
                httpx.get(address, timeout=PATIENCE_SECONDS).raise_for_status()
                self.seconds.append(time.monotonic() - began)
            except httpx.HTTPError as error:
                self.failed.append(repr(error))

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = Thread(target=self.ask)
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()


def applied_per_second(deployment: Deployment, seconds: int) -> list[float]:
    """What the ledger's positions went on by, second by second."""
    found: list[float] = []
    at, stood = time.monotonic(), sum(positions(deployment).values())
    for _ in range(seconds):
        time.sleep(1.0)
        now, stands = time.monotonic(), sum(positions(deployment).values())
        found.append((stands - stood) / (now - at))
        at, stood = now, stands
    return found


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_ten_thousand_hostile_clients_do_not_slow_the_counting(
    kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path
) -> None:
    make_topic(kafka.address, unique_name, 4)
    deployment = Deployment(kafka.address, redis_server.url, unique_name, write_config(tmp_path, unique_name))
    with deployment.worker() as worker, Load(kafka.address, unique_name, clicks(RATE * SECONDS_MAX), rate=RATE) as load:
        honest = Honest(worker)
        time.sleep(2)
        before = applied_per_second(deployment, BEFORE_SECONDS)
        with hostile_clients(worker.port, clients_max()) as crowd:
            deadline = time.monotonic() + COME_SECONDS_MAX
            while crowd.seen.get("ever", 0) < clients_max():
                assert time.monotonic() < deadline, f"waited in vain for the crowd: {crowd.seen}"
                time.sleep(0.2)
            with honest.asking():
                during = applied_per_second(deployment, DURING_SECONDS)
            seen = dict(crowd.seen)
        ends = load.cut()
        counted(deployment, ends)
        assert_counts_exact(expected_of(deployment), read_books(deployment))
        assert worker.get("/readyz").is_success
    shown = f"before {median(before):.0f}, during {median(during):.0f} records a second; {seen}; honest: {len(honest.seconds)} in {median(honest.seconds):.2f} s"
    print(shown)
    assert median(during) >= SHARE_LEAST * median(before), shown
    assert honest.failed == [], shown
    assert median(honest.seconds) < ANSWER_SECONDS_MAX, shown
    assert seen["thrown out"] > 0
