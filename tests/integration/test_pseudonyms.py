"""A stream counted under pseudonyms on Apache Kafka and Redis: begun without a key, then with one, then with another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from tests.books import assert_counts_exact, becomes, counted, expected_of, read_books
from tests.parts.kafka import Kafka
from tests.parts.redis import RedisServer
from tests.parts.worker import Deployment, Worker
from tests.traffic import clicks, make_topic, produce, write_config

FIRST, SECOND = "first-" + "k" * 32, "second-" + "k" * 32
SOMEBODY = re.compile(rb"(user|anon)-\d+")
PERSON = re.compile(rb'"user_id": "(user-\d+)"')


@pytest.fixture
def deployment(kafka: Kafka, redis_server: RedisServer, unique_name: str, tmp_path: Path) -> Deployment:
    topic = f"topic-{unique_name[-8:]}"  # of no word that people are called by
    make_topic(kafka.address, topic, 4)
    return Deployment(kafka.address, redis_server.url, topic, write_config(tmp_path, topic))


def everything(deployment: Deployment) -> Iterator[bytes]:
    """Every key and every value that Redis holds of a deployment, with whatever is packed in it."""
    with Redis.from_url(deployment.redis) as redis:
        for key in redis.scan_iter(match=f"*{deployment.prefix}*", count=1000):
            yield key
            kind = redis.type(key)
            if kind == b"hash":
                yield from (part for pair in redis.hscan_iter(key) for part in pair)
            elif kind == b"set":
                yield from redis.sscan_iter(key)
            elif kind == b"zset":
                yield from (member for member, _ in redis.zscan_iter(key))
            elif kind == b"list":
                yield from redis.lrange(key, 0, -1)
            elif kind == b"stream":
                yield repr(redis.xrange(key)).encode()
            else:
                yield redis.get(key) or b""


def named(deployment: Deployment) -> int:
    """How many people are named somewhere in Redis."""
    return len({found.group() for part in everything(deployment) for found in SOMEBODY.finditer(part)})


def test_nobody_is_named_in_redis_and_everybody_is_counted_once_whatever_the_key(deployment: Deployment) -> None:
    stream, topic = clicks(15_000), deployment.prefix
    third = len(stream) // 3
    keys = ({}, {"PRIVACY__KEY": FIRST, "PRIVACY__PREVIOUS_KEY": "none"}, {"PRIVACY__KEY": SECOND, "PRIVACY__PREVIOUS_KEY": FIRST})
    ends: dict[int, int] = {}
    for turn, settings in enumerate(keys):
        with deployment.worker(**settings, WORKER__AUDIT_SHARE="0.5") as worker:
            more = produce(deployment.kafka, topic, stream[turn * third : (turn + 1) * third])
            ends = {partition: ends.get(partition, 0) + count for partition, count in more.items()}
            counted(deployment, ends)
            if turn == 0:
                assert named(deployment) > 100
            else:
                becomes(lambda: named(deployment), 0)
                assert_explains(worker)
            assert worker.metric("funnel_audit_difference_total") == 0
            worker.stop()
    assert_counts_exact(expected_of(deployment), read_books(deployment))
    assert_refused(deployment)


def assert_explains(worker: Worker) -> None:
    """By the real id, which is all that the answer has."""
    person = next(match.group(1).decode() for click in clicks(15_000) if (match := PERSON.search(click.value)))
    answer = worker.get(f"/api/v1/entities/{person}")
    assert answer.json()["entity"] == person
    assert "~" not in answer.text


def assert_refused(deployment: Deployment) -> None:
    """A worker with another key counts nothing, and says why."""
    worker = deployment.worker(PRIVACY__KEY=FIRST)
    worker.answers = lambda: serves(worker)  # type: ignore[method-assign]  # ready it will never be
    with worker:
        becomes(lambda: "everybody would be counted once more" in worker.get("/readyz").json()["detail"], True)


def serves(worker: Worker) -> bool:
    try:
        return worker.get("/livez").is_success
    except httpx.TransportError:
        return False
