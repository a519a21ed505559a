"""A language model's questions over MCP, answered from a worker that has counted a shop's morning.

Until two hours ago 70% of the checkouts were paid on every device; since then 15% on android.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from schemas.answers import FunnelList, FunnelPast, Meanings, WhatChanged
from streams.embedded import Tansu, Valkey
from tests.parts.worker import Deployment, Worker
from tests.traffic import Click, make_topic, produce

HOURS_BEFORE, HOURS_SINCE = 2, 2
PEOPLE = 3000
CONFIG = """
sources: [{{name: web, topic: {topic}, entity_key: true}}]
funnels:
  - name: purchase
    title: Browse to order
    source: web
    conversion_window: 10m
    windows: [5m, 1h, 24h]
    dimensions: {{device: properties.device, channel: properties.channel}}
    stages: [{{name: view, event: view}}, {{name: checkout, event: checkout}}, {{name: pay, event: pay, target: 0.65}}]
  - name: signup
    source: web
    conversion_window: 10m
    windows: [5m, 24h]
    stages: [{{name: visit, event: view}}, {{name: join, event: join}}]
"""


def morning(noon: float) -> list[Click]:
    """Four hours of people, in order of time; android fails to pay from noon on."""
    dice = random.Random(7)
    made: list[tuple[float, str, str, dict[str, str]]] = []
    for number in range(PEOPLE):
        at = noon + (number / PEOPLE * (HOURS_BEFORE + HOURS_SINCE) - HOURS_BEFORE) * 3600 - 60
        device, channel = dice.choice(["ios", "android", "web"]), dice.choice(["ads", "mail"])
        pays = 0.15 if device == "android" and at > noon else 0.7
        stages = [("view", 1.0, 0), ("join", 0.4, 10), ("checkout", 0.6, 15), ("pay", pays, 30)]
        for event, chance, after in stages:
            if dice.random() < chance:
                made.append((at + after, f"u{number}", event, {"device": device, "channel": channel}))
            elif event == "checkout":
                break
    made.sort(key=lambda one: one[0])
    return [
        Click(user.encode(), json.dumps({"event": event, "timestamp": at, "user_id": user, "properties": properties}).encode())
        for at, user, event, properties in made
    ]


@pytest.fixture
def noon() -> float:
    return float(int(time.time()) // 60 * 60 - HOURS_SINCE * 3600)


@pytest.fixture
def worker(tansu: Tansu, valkey: Valkey, unique_name: str, tmp_path: Path, noon: float) -> Iterator[Worker]:
    """It has counted everything."""
    make_topic(tansu.address, unique_name, 2)
    config = tmp_path / "shop.yaml"
    config.write_text(CONFIG.format(topic=unique_name))
    settings = {"KAFKA__SESSION_TIMEOUT_SECONDS": "6", "KAFKA__END_OFFSET_SLACK": "1000000"}  # Tansu's ways, as in the demo
    clicks = morning(noon)
    produce(tansu.address, unique_name, clicks, enable_idempotence=False)
    with Deployment(tansu.address, valkey.url, unique_name, config, settings).worker() as started:
        deadline = time.monotonic() + 60
        while started.metric("funnel_records_total", fate="applied") < len(clicks):
            assert time.monotonic() < deadline, f"waited in vain: {started.log()}"
            time.sleep(0.2)
        yield started


def session(worker: Worker) -> Client:
    """A real client's with `funnelwatch mcp`, as an assistant starts it."""
    command = StdioServerParameters(command=sys.executable, args=["-m", "streams.cli", "mcp", "--url", f"http://{worker.address}"])
    return Client(command, read_timeout_seconds=30)


def read(result: CallToolResult) -> str:
    """The structured part, as JSON; the text says the same."""
    assert not result.is_error, result.content
    assert result.structured_content is not None
    assert json.loads(result.content[0].text) == result.structured_content  # type: ignore[union-attr]
    return json.dumps(result.structured_content)


async def test_which_step_got_worse_since_noon_and_on_which_device(worker: Worker, noon: float) -> None:
    """Two calls; the others of the tools give bounded answers too, and a wrong name gets the right ones."""
    async with session(worker) as asked:
        await answers_all(asked, noon)


async def answers_all(asked: Client, noon: float) -> None:
    tools = (await asked.list_tools()).tools
    assert {tool.name for tool in tools} == {"list_funnels", "what_changed", "funnel_report", "history", "alerts", "explain_number"}
    assert all(tool.annotations and tool.annotations.read_only_hint and tool.description for tool in tools)

    funnels = FunnelList.model_validate_json(read(await asked.call_tool("list_funnels", {})))
    assert [funnel.name for funnel in funnels.funnels] == ["purchase", "signup"]
    since = datetime.fromtimestamp(noon, timezone.utc).isoformat()
    changed = WhatChanged.model_validate_json(read(await asked.call_tool("what_changed", {"since": since})))
    (worst,) = changed.worse
    assert (worst.funnel, worst.from_stage, worst.stage, worst.significant) == ("purchase", "checkout", "pay", True)
    assert worst.place is not None
    assert (worst.place.dimension, worst.place.value) == ("device", "android")
    assert worst.place.now.rate == pytest.approx(0.15, abs=0.07)
    assert worst.place.before.rate == pytest.approx(0.7, abs=0.1)
    assert worst.place.share > 0.7
    assert "purchase: checkout → pay got worse" in changed.summary
    assert "device android explains" in changed.summary
    assert changed.better == ()
    assert abs(changed.since - datetime.fromtimestamp(noon, timezone.utc)) <= timedelta(minutes=1)

    only = WhatChanged.model_validate_json(read(await asked.call_tool("what_changed", {"since": "90m", "funnel": "signup"})))
    assert (only.worse, only.better, only.compared) == ((), (), 1)
    assert only.summary.startswith("Nothing got worse by more than chance")
    past = FunnelPast.model_validate_json(
        read(
            await asked.call_tool("history", {"funnel": "purchase", "since": "3h", "basis": "entries", "by": "device", "value": "android"})
        )
    )
    assert 10 <= len(past.points) <= 60
    assert past.points[-1].rates[1] is None or past.points[-1].rates[1] < 0.5
    report = await asked.call_tool("funnel_report", {"funnel": "purchase", "window": "24h", "by": "device"})
    assert "pay at 60.1% is under its target of 65.0%" in json.loads(read(report))["summary"]
    told = Meanings.model_validate_json(read(await asked.call_tool("explain_number", {"word": "pay"})))
    assert told.found[0].funnel == "purchase"
    assert json.loads(read(await asked.call_tool("alerts", {})))["summary"] == "0 of 1 alerts fire."
    refused = await asked.call_tool("funnel_report", {"funnel": "purchase", "by": "phone"})
    assert refused.is_error
    assert "there are: device, channel" in refused.content[0].text  # type: ignore[union-attr]
