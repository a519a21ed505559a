"""Topics as other tools write them, through a real broker: every count is that of the oracle, which reads them by itself."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import yaml
from aiokafka import AIOKafkaProducer

from tests.books import assert_counts_exact, assert_rekeyed_exact, becomes, counted, positions, read_books
from tests.oracle import Record, read_topic, recount
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.registry import Registry, avro, framed
from tests.parts.worker import Deployment, Worker
from tests.traffic import Click, clicks, make_topic, produce, write_config

ID = 41
GOOD_RECORDS = 4_000
CLICK = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "event", "type": ["null", "string"]},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "user_id", "type": ["null", "string"]},
        {"name": "anonymous_id", "type": ["null", "string"]},
        {"name": "event_id", "type": ["null", "string"]},
        {"name": "properties", "type": {"type": "map", "values": ["null", "string", "double"]}},
    ],
}
PARSED = fastavro.parse_schema(CLICK)


def as_avro(click: Click) -> Click | None:
    """The click in the wire format; None for one that no Avro producer could write."""
    said = json.loads(click.value)
    stamp = said["timestamp"]
    if not isinstance(stamp, int | float):
        return None
    at = datetime.fromtimestamp(stamp / 1000 if stamp > 10**11 else stamp, timezone.utc)
    ids = {name: None if said.get(name) in (None, "") else str(said[name]) for name in ("user_id", "anonymous_id", "event_id")}
    properties = {name: float(found) if isinstance(found, int) else found for name, found in said["properties"].items()}
    return Click(click.key, framed(ID, avro(CLICK, {"event": said.get("event"), "timestamp": at, **ids, "properties": properties})))


def oracle_reads(record: Record) -> Record:
    """A record of the topic as JSON; what cannot be read stays what it is."""
    value = record.value or b""
    if len(value) < 5 or value[:5] != framed(ID, b""):
        return record
    try:
        found: Any = fastavro.schemaless_reader(BytesIO(value[5:]), PARSED)
    except (EOFError, IndexError):
        return record
    return record._replace(value=json.dumps({**found, "timestamp": found["timestamp"].isoformat()}).encode())


BAD = (b'{"event": "purchase"}', framed(9_999, b"\x00"), framed(ID, b"\x02"), b"", b"\x00\x00")


def test_avro_through_a_registry_that_is_away_at_first_is_counted_exactly(
    kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path
) -> None:
    """What waits for the registry is not lost, what cannot be read is set aside, and everything else is counted once."""
    make_topic(kafka.address, unique_name, 3)
    config = write_config(tmp_path, unique_name, format="avro")
    stub = Registry()
    stub.add(ID, CLICK)
    with stub.running():
        pass  # so that it has a port, and is away
    deployment = Deployment(kafka.address, redis_server.url, unique_name, config, {"REGISTRY__URL": stub.url})
    good = [found for click in clicks(GOOD_RECORDS + 2_000) if (found := as_avro(click)) is not None][:GOOD_RECORDS]
    bad = [Click(b"user-1", value) for value in BAD]
    with deployment.worker() as worker:
        ends = produce(kafka.address, unique_name, [*good[:2_500], *bad, *good[2_500:]])
        worker_waits(worker)
        assert not any(positions(deployment).values())
        with stub.running():
            counted(deployment, ends)
            records = [oracle_reads(record) for record in asyncio.run(read_topic(kafka.address, unique_name))]
            expected = recount(yaml.safe_load(config.read_text()), records)
            assert expected.fates["rejected"] >= len(BAD)
            assert expected.fates["applied"] > GOOD_RECORDS // 2
            assert_counts_exact(expected, read_books(deployment))
            letters = asyncio.run(read_topic(kafka.address, f"{unique_name}.dead-letter"))
            unread = {letter.value: dict(letter.headers)["fw-reason"] for letter in letters if letter.value in BAD}
            assert unread == dict(zip(BAD, (b"no_schema_id", b"unknown_schema", b"bad_schema", b"no_schema_id", b"no_schema_id")))
        assert stub.asked.count(f"/schemas/ids/{ID}") <= 3  # the partitions may ask together, and never again


def worker_waits(worker: Worker) -> None:
    """Until a partition had to be put off."""
    becomes(lambda: worker.metric("funnel_ledger_conflicts_total", kind="unavailable") > 0, True)


def test_binary_cloud_events_under_any_key_are_counted_exactly(
    kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path
) -> None:
    """Their copies, keyed by the entity, keep the attributes that lie in headers."""
    make_topic(kafka.address, unique_name, 2)
    config = write_config(tmp_path, unique_name, preset="cloudevents", entity_key=False)
    events = [event for click in clicks(3_000) if (event := as_cloud_event(json.loads(click.value))) is not None]
    deployment = Deployment(kafka.address, redis_server.url, unique_name, config)
    with deployment.worker():
        asyncio.run(send(kafka.address, unique_name, events))
        flat = write_config(tmp_path, f"{unique_name}-oracle", entity_key=False)
        records = [structured(record) for record in asyncio.run(read_topic(kafka.address, unique_name))]
        expected = recount(yaml.safe_load(flat.read_text()), records)
        assert expected.fates["applied"] > 1_000
        assert_rekeyed_exact(deployment, expected)


def as_cloud_event(said: dict[str, Any]) -> tuple[list[tuple[str, bytes]], bytes] | None:
    """Headers and payload of a click, or nothing where it could be no CloudEvent."""
    if not said.get("event") or not said.get("event_id"):
        return None
    entity = said.get("user_id") or said.get("anonymous_id") or ""
    attributes = {
        "id": said["event_id"],
        "type": said["event"],
        "time": said["timestamp"],
        "subject": entity,
        "specversion": "1.0",
        "source": "/shop",
    }
    headers = [(f"ce_{name}", str(found).encode()) for name, found in attributes.items()]
    return [*headers, ("content-type", b"application/json")], json.dumps(said["properties"]).encode()


async def send(brokers: str, topic: str, events: list[tuple[list[tuple[str, bytes]], bytes]]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=brokers) as producer:
        for headers, value in events:
            partition = sum(dict(headers)["ce_subject"]) % 2
            await producer.send(topic, value, key=b"shop-7", partition=partition, headers=headers)
        await producer.flush()


def structured(record: Record) -> Record:
    """What the record says, under the names that the oracle knows."""
    said = {name: value.decode() for name, value in record.headers}
    event = {"event": said["ce_type"], "timestamp": said["ce_time"], "user_id": said["ce_subject"], "event_id": said["ce_id"]}
    return record._replace(value=json.dumps({**event, "properties": json.loads(record.value or b"null")}).encode())
