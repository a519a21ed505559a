"""The live page over a worker as a user runs it, with Apache Kafka and Redis behind it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker
from tests.traffic import clicks, make_topic, produce, write_config

T = TypeVar("T")
RESTART_MS = 60_000


def apart(work: Callable[..., T], *given: Any) -> T:
    """Done in another thread: Playwright's loop runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *given).result()


@pytest.fixture
def deployment(kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path) -> Deployment:
    apart(make_topic, kafka.address, unique_name, 4)
    return Deployment(kafka.address, redis_server.url, unique_name, write_config(tmp_path, unique_name))


def first_stage(worker: Worker) -> str:
    """How many users the API says that the first stage has, as the page writes it."""
    return f"{worker.get('/api/v1/funnels/purchase', window='7d').json()['stages'][0]['users']:,}"


def test_what_flows_into_kafka_is_on_the_page_also_after_a_restart(
    deployment: Deployment, unique_name: str, visit: Open, complaints: list[str]
) -> None:
    """Numbers as the API has them, live, without a reload."""
    stream = clicks(20_000)
    with deployment.worker() as worker:
        page = visit(f"http://{worker.address}/#window.purchase=7d")
        expect(page.locator("#mode")).to_have_class("mode live")
        users = page.locator(".funnel", has_text="purchase, from").first.locator(".users b").first
        apart(produce, deployment.kafka, unique_name, stream[:10_000])
        expect(users).not_to_have_text("0")
        page.evaluate("window.mine = true")
        worker.restart()
        apart(produce, deployment.kafka, unique_name, stream[10_000:])
        expect(page.locator("#mode")).to_have_class("mode live", timeout=RESTART_MS)
        page.wait_for_timeout(3000)
        expect(users).to_have_text(first_stage(worker), timeout=RESTART_MS)
        assert page.evaluate("window.mine")
        page.close()
    complaints[:] = [complaint for complaint in complaints if "ERR_" not in complaint and "503" not in complaint]
