"""`funnelwatch init --from-topic` looks at a real topic, leaves nothing behind there, and what it proposes counts that topic."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from schemas.config import load
from streams.cli import run
from tests.parts.kafka import Kafka
from tests.parts.registry import Registry, avro, framed
from tests.traffic import make_topic
from tests.unit.test_proposing import CHAIN, PEOPLE, as_cloud_event, clicks

CLICK = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "b", "type": "string"},
        {"name": "c", "type": "long"},
        {"name": "d", "type": "string"},
        {"name": "side", "type": "string"},
    ],
}


async def send(brokers: str, topic: str, records: list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=brokers, linger_ms=20) as producer:
        for key, value, headers in records:
            await producer.send(topic, value, key=key, headers=headers)
        await producer.flush()


async def groups(brokers: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        return {str(name) for name, _ in await admin.list_consumer_groups()}
    finally:
        await admin.close()


def initialised(kafka: Kafka, topic: str, folder: Path, *more: str) -> int:
    return run(["init", "--from-topic", topic, "--brokers", kafka.address, "--out", str(folder / "funnel.yaml"), *more])


def test_a_topic_is_looked_at_without_a_group_and_its_proposal_is_valid(
    kafka: Kafka, unique_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_topic(kafka.address, unique_name, 3)
    asyncio.run(send(kafka.address, unique_name, [(click["d"].encode(), json.dumps(click).encode(), []) for click in clicks()]))
    before = asyncio.run(groups(kafka.address))
    assert initialised(kafka, unique_name, tmp_path) == 0
    said = capsys.readouterr().out
    assert asyncio.run(groups(kafka.address)) == before
    proposed = load(tmp_path / "funnel.yaml")
    source, funnel = proposed.sources[0], proposed.funnels[0]
    assert (source.topic, source.entity_key, source.fields.user_id, source.fields.event) == (unique_name, True, "d", "b")
    assert [stage.event for stage in funnel.stages] == [(name,) for name in CHAIN]
    assert [line.split()[1] for line in said.splitlines() if line.startswith("  ")] == ["check", "dictionary", "worker"]
    assert initialised(kafka, unique_name, tmp_path, "--records", "300", "--force") == 0
    assert "the newest 30" in (tmp_path / "funnel.yaml").read_text()


def test_binary_cloud_events_under_any_key_are_told_by_their_headers(kafka: Kafka, unique_name: str, tmp_path: Path) -> None:
    make_topic(kafka.address, unique_name, 1)
    events = [as_cloud_event(click) for click in clicks()]
    headers = [[(f"ce_{name}", str(said).encode()) for name, said in event.items() if name != "data"] for event in events]
    asyncio.run(send(kafka.address, unique_name, [(b"k", json.dumps(e["data"]).encode(), h) for e, h in zip(events, headers)]))
    assert initialised(kafka, unique_name, tmp_path) == 0
    source = load(tmp_path / "funnel.yaml").sources[0]
    assert (source.preset, source.entity_key) == ("cloudevents", False)


def test_an_avro_topic_is_read_through_its_registry_or_says_that_it_needs_one(
    kafka: Kafka, unique_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_topic(kafka.address, unique_name, 1)
    flat: list[dict[str, Any]] = [{"b": click["b"], "c": click["c"], "d": click["d"], "side": click["e"]["f1"]} for click in clicks()]
    asyncio.run(send(kafka.address, unique_name, [(record["d"].encode(), framed(5, avro(CLICK, record)), []) for record in flat]))
    assert initialised(kafka, unique_name, tmp_path) == 2
    assert "wire format of a schema registry (schemas 5); name it with FUNNELWATCH_REGISTRY__URL" in capsys.readouterr().err
    with Registry().running() as stub:
        stub.add(5, CLICK)
        monkeypatch.setenv("FUNNELWATCH_REGISTRY__URL", stub.url)
        assert initialised(kafka, unique_name, tmp_path) == 0
    proposed = load(tmp_path / "funnel.yaml")
    assert (proposed.sources[0].format, proposed.sources[0].fields.properties) == ("avro", ".")
    assert [stage.event for stage in proposed.funnels[0].stages] == [(name,) for name in CHAIN]
    assert {dimension.field for dimension in proposed.funnels[0].dimensions.values()} == {"properties.side"}
    assert f"of {PEOPLE} people" in (tmp_path / "funnel.yaml").read_text()


def test_an_empty_topic_and_one_that_is_not_there_say_so(
    kafka: Kafka, unique_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_topic(kafka.address, unique_name, 2)
    assert initialised(kafka, unique_name, tmp_path) == 2
    assert "there are none; send some events first" in capsys.readouterr().err
    assert initialised(kafka, f"{unique_name}-not", tmp_path) == 2
    assert "has no topic" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
