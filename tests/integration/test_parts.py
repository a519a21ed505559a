"""The real parts start, do their work, come back after a crash, and leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import httpx
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import TopicAlreadyExistsError
from redis.backoff import NoBackoff
from redis.retry import Retry

from streams.embedded import KafkaProcess, RedisProcess, Tansu, Valkey
from streams.process import Process, ProcessFailed, free_port
from tests.parts.alertmanager import Alertmanager
from tests.parts.kafka import Kafka, create_topic
from tests.parts.prometheus import Prometheus
from tests.parts.redis import RedisServer

HEADERS = (("source", b"\x00\xff"), ("offset", b"7"))
SCRAPES_ITSELF = """
global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}
scrape_configs: [{{job_name: itself, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
rule_files: [rules.yml]
"""
ALWAYS_FIRES = "groups: [{name: g, rules: [{alert: Always, expr: 'vector(1)'}]}]"
TELLS = """
route: {{receiver: test, group_wait: 100ms}}
receivers: [{{name: test, webhook_configs: [{{url: "{url}"}}]}}]
"""
NOBODY = "route: {receiver: nobody}\nreceivers: [{name: nobody}]"


async def produce(address: str, topic: str, *values: bytes, **options: Any) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address, **options) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, key=b"key", headers=list(HEADERS), partition=0)


async def consume(address: str, topic: str, count: int, **options: Any) -> list[Any]:
    options = {"auto_offset_reset": "earliest", **options}
    async with AIOKafkaConsumer(topic, bootstrap_servers=address, **options) as consumer:
        return [await asyncio.wait_for(consumer.getone(), 30) for _ in range(count)]


def client(server: RedisProcess) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True, retry=Retry(NoBackoff(), 0))


def failure_of(part: Process) -> ProcessFailed:
    """The error with which the part does not start."""
    with pytest.raises(ProcessFailed) as caught, part:
        pass
    return caught.value


def eventually(probe: Callable[[], Any]) -> Any:
    """The probe's first truthy answer."""
    deadline = time.monotonic() + 20
    while not (answer := probe()):
        assert time.monotonic() < deadline, "waited in vain for 20 s"
        time.sleep(0.05)
    return answer


async def test_a_record_comes_back_with_key_and_headers(any_kafka: KafkaProcess, unique_name: str) -> None:
    await create_topic(any_kafka.address, unique_name, 3)
    await produce(any_kafka.address, unique_name, b"value")
    (record,) = await consume(any_kafka.address, unique_name, 1)
    assert (record.key, record.value, record.headers) == (b"key", b"value", HEADERS)
    assert (record.partition, record.offset) == (0, 0)


async def test_a_topic_has_the_partitions_it_was_created_with(any_kafka: KafkaProcess, unique_name: str) -> None:
    await create_topic(any_kafka.address, unique_name, 5)
    async with AIOKafkaConsumer(unique_name, bootstrap_servers=any_kafka.address) as consumer:
        assert consumer.partitions_for_topic(unique_name) == set(range(5))


async def test_creating_a_topic_twice_is_an_error(any_kafka: KafkaProcess, unique_name: str) -> None:
    await create_topic(any_kafka.address, unique_name)
    with pytest.raises(TopicAlreadyExistsError, match=unique_name):
        await create_topic(any_kafka.address, unique_name)


async def test_a_group_goes_on_where_it_committed(any_kafka: KafkaProcess, unique_name: str) -> None:
    await create_topic(any_kafka.address, unique_name)
    await produce(any_kafka.address, unique_name, b"first", b"second")
    group = {"group_id": unique_name, "session_timeout_ms": 2000, "heartbeat_interval_ms": 300}
    for expected in (b"first", b"second"):
        (record,) = await consume(any_kafka.address, unique_name, 1, **group)
        assert record.value == expected


async def test_kafka_takes_idempotent_producers(kafka: Kafka, unique_name: str) -> None:
    await create_topic(kafka.address, unique_name)
    await produce(kafka.address, unique_name, b"a", b"b", enable_idempotence=True)
    records = await consume(kafka.address, unique_name, 2)
    assert [record.value for record in records] == [b"a", b"b"]


async def test_kafka_takes_transactions(kafka: Kafka, unique_name: str) -> None:
    await create_topic(kafka.address, unique_name)
    async with AIOKafkaProducer(bootstrap_servers=kafka.address, transactional_id=unique_name) as producer:
        for value in (b"a", b"b"):
            async with producer.transaction():
                await producer.send_and_wait(unique_name, value)
    records = await consume(kafka.address, unique_name, 2, isolation_level="read_committed")
    # Between the two lies the first transaction's marker, which no consumer is shown.
    assert [(record.value, record.offset) for record in records] == [(b"a", 0), (b"b", 2)]


async def test_kafka_takes_records_of_many_megabytes(kafka: Kafka, unique_name: str) -> None:
    await create_topic(kafka.address, unique_name)
    size = 10 * 1024 * 1024
    await produce(kafka.address, unique_name, b"x" * size, max_request_size=size + 1000)
    (record,) = await consume(kafka.address, unique_name, 1)
    assert len(record.value) == size


async def test_kafka_keeps_records_through_a_crash(kafka_jars: Path, unique_name: str) -> None:
    with Kafka(kafka_jars) as kafka:
        await create_topic(kafka.address, unique_name)
        await produce(kafka.address, unique_name, b"before")
        kafka.kill()
        kafka.start()
        await produce(kafka.address, unique_name, b"after")
        records = await consume(kafka.address, unique_name, 2)
    assert [record.value for record in records] == [b"before", b"after"]


def test_a_redis_executes_commands_and_scripts(any_redis: RedisProcess, unique_name: str) -> None:
    with client(any_redis) as connection:
        assert connection.incrby(unique_name, 2) == 2
        assert connection.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, unique_name, "3") == 5


def test_a_redis_never_evicts(any_redis: RedisProcess) -> None:
    with client(any_redis) as connection:
        assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_redis_server_keeps_its_keys_through_a_crash(redis_server_binary: Path) -> None:
    with RedisServer(redis_server_binary) as server:
        with client(server) as connection:
            connection.config_set("appendfsync", "always")
            connection.set("kept", "yes")
        server.kill()
        server.start()
        with client(server) as connection:
            assert connection.get("kept") == "yes"


def test_redis_server_refuses_a_torn_log(redis_server_binary: Path) -> None:
    with RedisServer(redis_server_binary) as server:
        with client(server) as connection:
            connection.set("key", "value")
        server.stop()
        (log,) = server.folder.glob("appendonlydir/*.incr.aof")
        os.truncate(log, log.stat().st_size - 3)
        assert "Unexpected end of file reading the append only file" in failure_of(server).log


def test_valkey_forgets_everything_when_it_stops() -> None:
    with Valkey() as server:
        with client(server) as connection:
            connection.set("key", "value")
        server.restart()
        with client(server) as connection:
            assert connection.dbsize() == 0


def test_prometheus_scrapes_and_evaluates_rules(prometheus_binary: Path) -> None:
    port = free_port()
    config = SCRAPES_ITSELF.format(port=port)
    with Prometheus(prometheus_binary, config, {"rules.yml": ALWAYS_FIRES}, port=port) as server:
        (up,) = eventually(lambda: server.query("up == 1"))
        assert up["metric"] == {"__name__": "up", "instance": server.address, "job": "itself"}
        (alert,) = eventually(lambda: server.query("ALERTS"))
        assert alert["metric"]["alertname"] == "Always"


@contextmanager
def webhook() -> Iterator[tuple[str, Queue[dict[str, Any]]]]:
    """A URL, and the JSON bodies that are posted to it."""
    bodies: Queue[dict[str, Any]] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", bodies
        finally:
            server.shutdown()


def test_alertmanager_holds_alerts_and_notifies(alertmanager_binary: Path) -> None:
    with webhook() as (url, bodies), Alertmanager(alertmanager_binary, TELLS.format(url=url)) as server:
        alert = {"labels": {"alertname": "Leak", "stage": "pay"}}
        httpx.post(f"{server.url}/api/v2/alerts", json=[alert]).raise_for_status()
        (held,) = eventually(server.alerts)
        assert held["labels"] == alert["labels"]
        assert bodies.get(timeout=20)["alerts"][0]["labels"] == alert["labels"]


def test_a_config_that_is_refused_is_shown_in_the_error(alertmanager_binary: Path) -> None:
    part = Alertmanager(alertmanager_binary, "route: {receiver: absent}\nreceivers: []")
    assert "undefined receiver" in failure_of(part).log


def test_a_kafka_setting_that_is_refused_is_shown_in_the_error(kafka_jars: Path) -> None:
    failure = failure_of(Kafka(kafka_jars, {"node.id": "first"}))
    assert "Invalid value first" in failure.log


@pytest.mark.parametrize("make", [Tansu, Valkey], ids=lambda make: make.name)
def test_an_embedded_part_leaves_nothing_behind(make: type[Tansu | Valkey]) -> None:
    assert_leaves_nothing_behind(make())


def test_redis_server_leaves_nothing_behind(redis_server_binary: Path) -> None:
    assert_leaves_nothing_behind(RedisServer(redis_server_binary))


def test_kafka_leaves_nothing_behind(kafka_jars: Path) -> None:
    assert_leaves_nothing_behind(Kafka(kafka_jars))


def test_prometheus_leaves_nothing_behind(prometheus_binary: Path) -> None:
    assert_leaves_nothing_behind(Prometheus(prometheus_binary, ""))


def test_alertmanager_leaves_nothing_behind(alertmanager_binary: Path) -> None:
    assert_leaves_nothing_behind(Alertmanager(alertmanager_binary, NOBODY))


def assert_leaves_nothing_behind(part: Process) -> None:
    with part:
        folder = str(part.folder)
        assert processes_in(folder) == [part.pid]
    assert processes_in(folder) == []
    assert not part.folder.exists()


def processes_in(folder: str) -> list[int]:
    """Pids of all processes that run in the folder, ours or not; a part and all it forks do."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = str((process / "cwd").readlink())
        except OSError:
            continue
        if where.removesuffix(" (deleted)") == folder:
            found.append(int(process.name))
    return found
