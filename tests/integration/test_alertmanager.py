"""One alert end to end: counts, a lease and the store in Valkey, a real Alertmanager, and who it notifies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from alerting.channels import build
from alerting.delivery import Delivery
from alerting.evaluator import Evaluator
from alerting.leadership import Leadership
from alerting.pipeline import Intake
from alerting.store import RedisAlertStore
from schemas.config import Config
from schemas.duration import MICROS
from streams.embedded import Valkey
from streams.lease import Lease
from tests.parts.alertmanager import Alertmanager
from tests.parts.alerts import NIGHT_US, Counts, config, until
from tests.parts.receiver import Receiver

ROUTES = """
route: {{receiver: phone, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: phone, webhook_configs: [{{url: '{url}', send_resolved: true}}]}}]
"""

GROUPED = """
route: {{receiver: phone, group_by: [funnel], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: phone, webhook_configs: [{{url: '{url}', send_resolved: true}}]}}]
"""


class Clock:
    """The real one, and what it is set wrong by."""

    offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


@pytest.fixture
async def phone() -> AsyncIterator[Receiver]:
    """Whoever the Alertmanager notifies."""
    async with Receiver().running() as receiver:
        yield receiver


@pytest.fixture
def alertmanager(alertmanager_binary: Path, phone: Receiver) -> Iterator[Alertmanager]:
    with Alertmanager(alertmanager_binary, ROUTES.format(url=phone.url)) as started:
        yield started


class Worker:
    """What a worker does about alerts, on one set of counts."""

    def __init__(self, client: Redis, prefix: str, setup: Config, counts: Counts, clock: Callable[[], float] = time.time) -> None:
        self.store = RedisAlertStore(client, prefix)
        self.outcomes: list[tuple[str, str]] = []
        self._leadership = Leadership(Lease(client, prefix, 60, "worker"), 60, self.store)
        self._evaluator = Evaluator(setup, self.store, "https://funnels.example")
        senders = {name: build(name, channel, clock) for name, channel in setup.channels.items()}
        self._delivery = Delivery(setup, self.store, senders, lambda *outcome: self.outcomes.append(outcome), clock=clock)
        self._counts = counts

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        task = asyncio.create_task(self._delivery.run(self._leadership.leads, every_seconds=0.02))
        try:
            yield self
        finally:
            await self._delivery.close()
            await task

    async def tick(self, seconds: int) -> list[str]:
        fence = await self._leadership.hold()
        assert fence is not None
        at_us = NIGHT_US + seconds * MICROS
        told = await self._evaluator.tick(
            fence, {"purchase": self._counts}, {}, {"web": Intake(at_us, settled=True, records=seconds)}, at_us
        )
        return [t.state if t.value is None else f"{t.state} {t.value}" for t in told]


def alerts_of(phone: Receiver, status: str) -> list[Any]:
    return [alert for request in phone.requests for alert in request.body["alerts"] if alert["status"] == status]


async def test_an_alertmanager_hears_of_an_incident_and_of_its_end_across_a_restart_of_ours(
    alertmanager: Alertmanager, phone: Receiver, valkey: Valkey, unique_name: str
) -> None:
    setup = config({}, channels={"oncall": {"type": "alertmanager", "url": alertmanager.url, "resend": "1s"}})
    counts = Counts().add(NIGHT_US - MICROS, 812, 100)
    async with Redis.from_url(valkey.url) as client:
        async with Worker(client, unique_name, setup, counts).running() as worker:
            assert [await worker.tick(s) for s in (0, 10, 20)] == [["pending"], [], ["firing"]]
            await until(lambda: len(alerts_of(phone, "firing")) == 1)
            (held,) = alertmanager.alerts()
            assert held["labels"]["alertname"] == "CheckoutToPayLow"
            assert held["annotations"]["summary"] == "Browse to order: checkout → pay at 12.3%, under 40%"
            assert held["generatorURL"] == "https://funnels.example/#window.purchase=5m"
            assert held["startsAt"].startswith("2026-01-02T03:04:30")
        async with Worker(client, unique_name, setup, counts).running() as worker:
            assert await worker.tick(25) == []
            # Resent before its end, the alert outlives what its first post said.
            await until(lambda: [a["endsAt"] > held["endsAt"] for a in alertmanager.alerts()] == [True])
            counts.add(NIGHT_US + 26 * MICROS, 800, 790)
            assert await worker.tick(30) == ["resolved"]
            await until(lambda: len(alerts_of(phone, "resolved")) == 1)
            await until(lambda: alertmanager.alerts() == [])
            assert await worker.store.outbox() == []
    assert len(alerts_of(phone, "firing")) == 1
    (resolved,) = alerts_of(phone, "resolved")
    assert resolved["annotations"]["summary"] == "Browse to order: checkout → pay back at 55.2% (resolved)"


async def test_an_alert_of_a_monitor_that_is_gone_for_good_ends_by_itself(
    alertmanager: Alertmanager, phone: Receiver, valkey: Valkey, unique_name: str
) -> None:
    setup = config({"for": "0s"}, channels={"oncall": {"type": "alertmanager", "url": alertmanager.url, "resend": "1s"}})
    async with Redis.from_url(valkey.url) as client:
        async with Worker(client, unique_name, setup, Counts().add(NIGHT_US - MICROS, 812, 100)).running() as worker:
            assert await worker.tick(0) == ["firing"]
            await until(lambda: len(alerts_of(phone, "firing")) == 1)
        await until(lambda: len(alerts_of(phone, "resolved")) == 1)


async def test_a_notification_waits_for_an_alertmanager_that_is_down(
    alertmanager: Alertmanager, phone: Receiver, valkey: Valkey, unique_name: str
) -> None:
    setup = config({"for": "0s"}, channels={"oncall": {"type": "alertmanager", "url": alertmanager.url}})
    alertmanager.stop()
    counts = Counts().add(NIGHT_US - MICROS, 812, 100)
    async with Redis.from_url(valkey.url) as client, Worker(client, unique_name, setup, counts).running() as worker:
        assert await worker.tick(0) == ["firing"]
        await until(lambda: ("oncall", "retried") in worker.outcomes)
        alertmanager.start()
        await until(lambda: len(alerts_of(phone, "firing")) == 1)
        await until(lambda: ("oncall", "delivered") in worker.outcomes)


BY_DEVICE = {"by": ["device"], "for": "0s"}


async def test_an_alertmanager_groups_what_fires_together_and_hears_of_one_cause_once(
    alertmanager_binary: Path, phone: Receiver, valkey: Valkey, unique_name: str
) -> None:
    """Two rules on the total and three devices break: two alerts arrive, and the phone rings once."""
    with Alertmanager(alertmanager_binary, GROUPED.format(url=phone.url)) as started:
        setup = config(BY_DEVICE, BY_DEVICE | {"name": "Second"}, channels={"oncall": {"type": "alertmanager", "url": started.url}})
        counts = Counts().add(NIGHT_US - MICROS, 812, 100)
        for value in ("ios", "android", "web"):
            counts.add(NIGHT_US - MICROS, 270, 33, "device", value)
        async with Redis.from_url(valkey.url) as client, Worker(client, unique_name, setup, counts).running() as worker:
            assert len(await worker.tick(0)) == 8
            await until(lambda: len(alerts_of(phone, "firing")) == 2)
            counts.add(NIGHT_US + MICROS, 8000, 8000)
            for value in ("ios", "android", "web"):
                counts.add(NIGHT_US + MICROS, 2700, 2700, "device", value)
            assert len(await worker.tick(10)) == 8
            await until(lambda: len(alerts_of(phone, "resolved")) == 2)
    firing, resolved = phone.requests
    assert [a["labels"]["alertname"] for a in firing.body["alerts"]] == ["CheckoutToPayLow", "Second"]
    assert all("android" in a["annotations"]["description"] for a in firing.body["alerts"])
    assert resolved.body["status"] == "resolved"


@pytest.mark.parametrize("jump", [600, -600])
async def test_a_clock_that_is_set_loses_no_alert_and_makes_none(
    alertmanager: Alertmanager, phone: Receiver, valkey: Valkey, unique_name: str, jump: int
) -> None:
    """The worker's clock jumps by ten minutes while an alert fires and the first try to tell it has failed."""
    setup = config({"for": "0s"}, channels={"oncall": {"type": "alertmanager", "url": alertmanager.url, "resend": "1s"}})
    counts = Counts().add(NIGHT_US - MICROS, 812, 100)
    clock = Clock()
    alertmanager.stop()
    async with Redis.from_url(valkey.url) as client, Worker(client, unique_name, setup, counts, clock).running() as worker:
        assert await worker.tick(0) == ["firing"]
        await until(lambda: ("oncall", "retried") in worker.outcomes)
        clock.offset = jump
        alertmanager.start()
        await until(lambda: len(alerts_of(phone, "firing")) == 1)
        clock.offset = 0
        told = worker.outcomes.count(("oncall", "delivered"))
        await until(lambda: worker.outcomes.count(("oncall", "delivered")) >= told + 2)
        assert await worker.tick(5) == []
        assert len(alertmanager.alerts()) == 1
        counts.add(NIGHT_US + 6 * MICROS, 800, 790)
        assert await worker.tick(10) == ["resolved"]
        await until(lambda: len(alerts_of(phone, "resolved")) == 1)
    assert len(alerts_of(phone, "firing")) == 1
