"""What is produced is what is counted: a real broker, a real Redis, the worker as a user runs it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from streams.embedded import Tansu, Valkey
from tests.books import assert_counts_exact, assert_rekeyed_exact, becomes, counted, expected_of, read_books
from tests.oracle import TOTAL, Record, Recount, read_topic
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker
from tests.traffic import FIRST_MS, Click, Load, clicks, make_topic, produce, write_config

FUNNELS = {
    "purchase": (("view", "cart", "checkout", "pay"), ("1m", "5m", "1h", "24h", "7d"), ("channel", "device")),
    "again": (("first", "second"), ("10m", "24h"), ()),
}
LARGE = 5 * 1024 * 1024
TOPIC_BYTES_MAX = 10 * 1024 * 1024
LETTER_BYTES_MAX = 900_000
YEAR_MS = 365 * 86_400_000
# Tansu tells the ends of its logs too low, and takes half the session for a join.
ON_TANSU = {"KAFKA__END_OFFSET_SLACK": "1000000", "KAFKA__SESSION_TIMEOUT_SECONDS": "6"}


@pytest.fixture
def deployment(kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path) -> Deployment:
    """A topic of four partitions, keyed by the entity."""
    make_topic(kafka.address, unique_name, 4)
    return Deployment(kafka.address, redis_server.url, unique_name, write_config(tmp_path, unique_name))


def test_every_count_of_a_stream_is_exact(deployment: Deployment, unique_name: str) -> None:
    """The ledger, the API and the metrics all say what the oracle says, while it comes in and after."""
    with deployment.worker() as worker:
        with Load(deployment.kafka, unique_name, clicks(100_000), rate=25_000) as load:
            ends = load.finish()
        counted(deployment, ends)
        expected = expected_of(deployment)
        assert_counts_exact(expected, read_books(deployment))
        assert all(expected.fates[fate] > 100 for fate in ("applied", "filtered", "duplicate", "rejected"))
        assert_api_exact(worker, expected)
        assert_fates_in_metrics(worker, expected)


def test_a_stream_is_counted_exactly_on_the_embedded_parts(tansu: Tansu, valkey: Valkey, unique_name: str, tmp_path: Path) -> None:
    make_topic(tansu.address, unique_name, 4)
    deployment = Deployment(tansu.address, valkey.url, unique_name, write_config(tmp_path, unique_name), ON_TANSU)
    with deployment.worker() as worker:
        ends = produce(tansu.address, unique_name, clicks(20_000), enable_idempotence=False)
        counted(deployment, ends)
        expected = expected_of(deployment, ends)
        assert_counts_exact(expected, read_books(deployment))
        assert_api_exact(worker, expected)


def test_what_was_there_before_the_worker_is_counted_once_however_often_it_restarts(deployment: Deployment, unique_name: str) -> None:
    ends = produce(deployment.kafka, unique_name, clicks(30_000))
    with deployment.worker() as worker:
        counted(deployment, ends)
        worker.restart()
        assert_counts_exact(expected_of(deployment), read_books(deployment))


def test_a_log_that_begins_in_the_middle_of_a_compressed_batch_is_counted_from_there(deployment: Deployment, unique_name: str) -> None:
    """A broker hands out batches whole, also what retention has put before the beginning."""
    produce(deployment.kafka, unique_name, clicks(20_000), compression_type="gzip")
    asyncio.run(forget(deployment.kafka, {TopicPartition(unique_name, 0): 1_234, TopicPartition(unique_name, 2): 1_001}))
    with deployment.worker():
        expected = expected_of(deployment)
        assert expected.records == 20_000 - 1_234 - 1_001
        counted(deployment, expected.ends)
        assert_counts_exact(expected, read_books(deployment))


def test_what_retention_takes_while_a_worker_sleeps_is_counted_as_gone(deployment: Deployment, unique_name: str) -> None:
    """Every record has a fate or is known to be gone; the report says that it is incomplete."""
    stream = clicks(30_000)
    with deployment.worker() as worker:
        before = produce(deployment.kafka, unique_name, stream[:5_000])
        counted(deployment, before)
        worker.pause()
        ends = {p: before[p] + more for p, more in produce(deployment.kafka, unique_name, stream[5_000:]).items()}
        asyncio.run(forget(deployment.kafka, {TopicPartition(unique_name, p): end - 100 for p, end in ends.items()}))
        worker.resume()
        counted(deployment, ends)
        becomes(lambda: worker.metric("funnel_records_gone_total") + worker.metric("funnel_records_total"), 30_000)
        # What the sleeper had fetched already is not gone.
        assert 0 < worker.metric("funnel_records_gone_total") <= 25_000 - 4 * 100
        assert worker.get("/api/v1/funnels/purchase").json()["incomplete"]


async def forget(brokers: str, firsts: dict[TopicPartition, int]) -> None:
    """Delete what lies before these offsets."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=first) for tp, first in firsts.items()})
    finally:
        await admin.close()


def test_an_event_that_comes_too_late_is_counted_as_late(deployment: Deployment, unique_name: str) -> None:
    """Older than the entity's newest by more than the allowed lateness, and brought when that one is counted."""
    stream = clicks(20_000)
    with deployment.worker():
        counted(deployment, produce(deployment.kafka, unique_name, stream[10_000:]))
        produce(deployment.kafka, unique_name, stream[:5_000])
        expected = expected_of(deployment)
        counted(deployment, expected.ends)
        assert expected.fates["late"] > 1000
        assert_counts_exact(expected, read_books(deployment))


def test_a_source_that_is_keyed_by_something_else_or_nothing_is_counted_exactly(
    kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path
) -> None:
    """Its records pass through an internal topic, where each lies in the partition of its entity."""
    make_topic(kafka.address, unique_name, 3)
    deployment = Deployment(kafka.address, redis_server.url, unique_name, write_config(tmp_path, unique_name, entity_key=False))
    with deployment.worker() as worker:
        produce(kafka.address, unique_name, clicks(30_000), keyed=False)
        expected = assert_rekeyed_exact(deployment)
        assert_fates_in_metrics(worker, expected)


def assert_api_exact(worker: Worker, expected: Recount) -> None:
    """Every stage of every funnel, in every window and by every dimension."""
    for funnel, (stages, windows, dimensions) in FUNNELS.items():
        for window in windows:
            wanted = [stage_numbers(expected, funnel, place, window) for place in range(len(stages))]
            becomes(partial(stages_shown, worker, funnel, window), wanted)
            for dimension in dimensions:
                report = worker.get(f"/api/v1/funnels/{funnel}", window=window, by=dimension).raise_for_status().json()
                assert {split["value"]: [numbers(stage) for stage in split["stages"]] for split in report["values"]} == {
                    value: [stage_numbers(expected, funnel, place, window, (dimension, value)) for place in range(len(stages))]
                    for value in expected.values(funnel, dimension)
                }


def stages_shown(worker: Worker, funnel: str, window: str) -> list[tuple[int, int, float]]:
    report = worker.get(f"/api/v1/funnels/{funnel}", window=window).raise_for_status().json()
    return [numbers(stage) for stage in report["stages"]]


def numbers(stage: dict[str, Any]) -> tuple[int, int, float]:
    return stage["users"], stage["events"], stage["value"]


def stage_numbers(expected: Recount, funnel: str, place: int, window: str, split: tuple[str, str] = TOTAL) -> tuple[int, int, float]:
    """(users, events, value) as the oracle has them."""
    users, events, value = (expected.window(funnel, family, place, window, split) for family in ("users", "events", "value"))
    return users, events, value / 1_000_000


def assert_fates_in_metrics(worker: Worker, expected: Recount) -> None:
    """`funnel_records_total` adds up to what was produced, also fate by fate."""

    def fates() -> dict[str, int]:
        return {fate: int(worker.metric("funnel_records_total", source="web", fate=fate)) for fate in expected.fates}

    becomes(fates, dict(expected.fates))
    assert worker.metric("funnel_records_total") == expected.records


def good(**changes: Any) -> bytes:
    """A click that would be counted, with changes that may make it bad."""
    record = {"event": "product_view", "timestamp": FIRST_MS, "user_id": "poisoner", "properties": {}}
    return json.dumps(record | changes).encode()


KEY = b"poisoner"
# Reason, key, value.
POISON: tuple[tuple[str, bytes | None, bytes | None], ...] = (
    ("bad_json", KEY, b'{"event": "product_view", '),
    ("bad_json", KEY, good().replace(str(FIRST_MS).encode(), b"NaN")),
    ("bad_json", KEY, b""),
    ("null_value", KEY, None),
    ("bad_type", KEY, good(event=5)),
    ("bad_type", KEY, good(timestamp={"at": FIRST_MS})),
    ("bad_type", KEY, good(user_id=["poisoner"])),
    ("too_large", KEY, good(blob="x" * LARGE)),
    ("too_deep", KEY, b'{"blob": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("no_event", KEY, good(event="")),
    ("no_entity", KEY, good(user_id=None)),
    ("no_timestamp", KEY, good(timestamp=None)),
    ("bad_timestamp", KEY, good(timestamp="yesterday")),
    ("bad_timestamp", KEY, good(timestamp=-5)),
    ("bad_encoding", KEY, good(event="café").decode("unicode-escape").encode("latin-1")),
    ("bad_encoding", KEY, good().decode().encode("utf-16")),
    ("future", KEY, good(timestamp=int(time.time() * 1000) + YEAR_MS)),
    ("no_key", None, good()),
    ("misrouted", b"somebody else", good()),
    ("bad_value", KEY, good(event="purchase", properties={"amount": "a lot"})),
    ("bad_value", KEY, good(event="purchase", properties={"amount": [5]})),
)


def test_every_kind_of_poison_is_set_aside_with_its_reason_and_the_rest_is_counted(
    kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path
) -> None:
    make_topic(kafka.address, unique_name, 4, max_message_bytes=str(TOPIC_BYTES_MAX))
    deployment = Deployment(kafka.address, redis_server.url, unique_name, write_config(tmp_path, unique_name))
    with deployment.worker() as worker, Load(kafka.address, unique_name, clicks(20_000), rate=8_000) as load:
        poisoned = asyncio.run(send_poison(kafka.address, unique_name))
        load.finish()
        expected = expected_of(deployment)
        counted(deployment, expected.ends)
        assert_counts_exact(expected, read_books(deployment))
        letters = {where(letter): letter for letter in asyncio.run(read_topic(kafka.address, f"{unique_name}.dead-letter"))}
        assert len(letters) == expected.fates["rejected"]
        for (reason, key, value), place in zip(POISON, poisoned, strict=True):
            assert_letter(letters[place], reason, key, value)
        for reason in {reason for reason, _, _ in POISON}:
            assert worker.metric("funnel_dead_letters_total", reason=reason) >= 1


async def send_poison(brokers: str, topic: str) -> list[tuple[str, int, int]]:
    """Where each piece of poison lies: (topic, partition, offset)."""
    dice = random.Random(7)
    async with AIOKafkaProducer(bootstrap_servers=brokers, max_request_size=2 * LARGE) as producer:
        sent = [await producer.send_and_wait(topic, value, key=key, partition=dice.randrange(4)) for _, key, value in POISON]
    return [(record.topic, record.partition, record.offset) for record in sent]


def where(letter: Record) -> tuple[str, int, int]:
    """Where a dead letter says that its record lies."""
    headers = dict(letter.headers)
    return headers["fw-topic"].decode(), int(headers["fw-partition"]), int(headers["fw-offset"])


def assert_letter(letter: Record, reason: str, key: bytes | None, value: bytes | None) -> None:
    headers = dict(letter.headers)
    assert headers["fw-reason"].decode() == reason, f"{reason}: {headers}"
    assert headers["fw-detail"]
    assert letter.key == key
    if value is None or len(value) <= LETTER_BYTES_MAX:
        assert letter.value == value
        assert "fw-cut-from-bytes" not in headers
    else:
        assert letter.value == value[:LETTER_BYTES_MAX]
        assert int(headers["fw-cut-from-bytes"]) == len(value)


def test_consumption_stops_loudly_when_everything_is_bad(kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path) -> None:
    """It says so where an operator looks, and does not eat the topic meanwhile."""
    make_topic(kafka.address, unique_name, 1)
    config = write_config(tmp_path, unique_name, rejects_in_a_row_max=500)
    deployment = Deployment(kafka.address, redis_server.url, unique_name, config)
    with deployment.worker() as worker:
        produce(kafka.address, unique_name, clicks(2_000))
        becomes(lambda: read_books(deployment).fates.get("applied", 0) > 1000, True)  # else good and bad might come in one chunk
        produce(kafka.address, unique_name, [Click(b"nobody", value) for _, value in clicks(2_000)])
        becomes(lambda: worker.get("/readyz").status_code, 503)
        detail = worker.get("/readyz").json()["detail"]
        assert "Consumption has stopped" in detail
        assert "misrouted" in detail
        assert worker.metric("funnel_ledger_conflicts_total", kind="halted") == 1
        books = read_books(deployment)
        assert books.fates["applied"] > 1000
        assert books.fates["rejected"] < 1000
        assert books.next["web:0"] < 4_000
