"""A record is keyed by its entity, wherever the source keeps it, and goes out when it is due."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.partitioner import DefaultPartitioner

from schemas.config import parse
from schemas.errors import UsageError
from streams.demo_parts import create_topic
from streams.embedded import KafkaProcess
from streams.files import EventFile
from streams.producing import KafkaUnavailable, KeyedProducer
from streams.send import Outgoing, Pace, Reader, source_of

CONFIG = parse("""
sources: [{name: web, topic: clicks, fields: {user_id: who.id, timestamp: at}}]
funnels:
  - {name: f, source: web, conversion_window: 1m, windows: [1m], stages: [{name: a, event: a}, {name: b, event: b}]}
""")


def key(record: dict[str, Any], *, configured: bool = False) -> bytes | None:
    return Reader(source_of(CONFIG, "clicks") if configured else None).key(record)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"user_id": "u", "anonymous_id": "a"}, b"u"),
        ({"user_id": "", "anonymous_id": "a"}, b"a"),
        ({"user_id": None, "properties": {"user_id": "p"}, "anonymous_id": "a"}, b"p"),
        ({"properties": {"anonymous_id": "a"}}, b"a"),
        ({"user_id": 17}, b"17"),
        ({"user_id": "Zoë"}, "Zoë".encode()),
        ({"user_id": True}, None),
        ({"user_id": 1.5}, None),
        ({}, None),
    ],
)
def test_without_a_config_the_first_id_present_is_the_key(record: dict[str, Any], expected: bytes | None) -> None:
    assert key(record) == expected


def test_with_a_config_the_ids_are_where_its_source_says() -> None:
    assert key({"who": {"id": 5}, "user_id": "other", "anonymous_id": "a"}, configured=True) == b"5"
    assert key({"user_id": "other", "anonymous_id": "a"}, configured=True) == b"a"


def test_a_topic_that_no_source_reads_is_refused() -> None:
    with pytest.raises(UsageError, match="'clocks'; there are: clicks"):
        source_of(CONFIG, "clocks")


def read(folder: Path, text: str, *, keep_bad: bool = False) -> list[Outgoing]:
    path = folder / "events.jsonl"
    path.write_text(text)
    return list(Reader(source_of(CONFIG, "clicks"), keep_bad=keep_bad).read(EventFile(path)))


def test_a_line_that_is_no_json_object_is_refused_with_its_place(tmp_path: Path) -> None:
    for bad in ("oops", "[1]", "7"):
        with pytest.raises(UsageError, match=r"events\.jsonl:2: is no JSON object"):
            read(tmp_path, f'{{"at": 1}}\n{bad}\n')


def test_bad_lines_can_be_kept_and_have_no_key(tmp_path: Path) -> None:
    _, kept = read(tmp_path, '{"at": 1}\noops\n', keep_bad=True)
    assert (kept.key, kept.value) == (None, b"oops")


def test_a_record_without_a_time_has_the_time_of_the_one_before(tmp_path: Path) -> None:
    assert [r.at_us for r in read(tmp_path, '{"at": 10}\n{"at": "soon"}\n{"at": 12}\n')] == [10_000_000, 10_000_000, 12_000_000]


def test_where_times_matter_a_record_without_one_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"at": 10}\n{"at": "soon"}\n')
    reader = Reader(source_of(CONFIG, "clicks"), timed=True)
    with pytest.raises(UsageError, match=r"events\.jsonl:2: has no time in 'at'"):
        list(reader.read(EventFile(tmp_path / "events.jsonl")))


def test_the_pace_is_a_rate_or_the_records_own_times() -> None:
    assert Pace().due_seconds(100, 5_000_000) == 0
    assert Pace(rate=50).due_seconds(100, 5_000_000) == 2
    assert Pace(speed=10).due_seconds(100, 5_000_000) == 0.5


def test_the_partition_of_a_key_is_the_one_every_kafka_client_computes() -> None:
    producer = KeyedProducer("127.0.0.1:9092", "clicks")
    producer.partitions = 7
    partitioner = DefaultPartitioner()
    keys = [f"user-{n}".encode() for n in range(200)]
    assert [producer.partition(k) for k in keys] == [partitioner(k, list(range(7)), list(range(7))) for k in keys]
    assert {producer.partition(None) for _ in range(7)} == set(range(7))


async def test_the_producer_is_idempotent_where_the_broker_can_be(any_kafka: KafkaProcess, unique_name: str) -> None:
    await asyncio.to_thread(create_topic, any_kafka.address, unique_name, 2)
    async with KeyedProducer(any_kafka.address, unique_name) as producer:
        assert producer.partitions == 2
        assert (producer._producer._txn_manager is not None) is (any_kafka.name == "kafka")


async def test_a_record_that_the_broker_does_not_take_is_an_error(kafka: KafkaProcess, unique_name: str) -> None:
    await asyncio.to_thread(create_topic, kafka.address, unique_name, 1)
    with pytest.raises(KafkaUnavailable, match="MessageSizeTooLarge"):
        async with KeyedProducer(kafka.address, unique_name) as producer:
            await producer.send(b"k", b"x" * 40_000_000)


def test_a_file_value_is_sent_byte_for_byte(tmp_path: Path) -> None:
    line = '{"who":{"id":"x"},  "at": 1}'
    (sent,) = read(tmp_path, line + "\n")
    assert sent.value == line.encode()
    assert orjson.loads(sent.value)["who"] == {"id": "x"}
