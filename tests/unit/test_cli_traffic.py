"""`funnelwatch traffic`: a shop's clicks, until it is told to stop, with incidents when asked for."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time

import orjson
import pytest
from aiokafka import AIOKafkaConsumer

from schemas.errors import UsageError
from streams.cli import run
from streams.cli_traffic import _incidents
from streams.embedded import Tansu


def test_it_sends_keyed_clicks_until_sigterm_and_says_how_many(tansu: Tansu, unique_name: str) -> None:
    command = [sys.executable, "-m", "streams.cli", "traffic", "--topic", unique_name, "--rate", "300"]
    environment = {**os.environ, "FUNNELWATCH_KAFKA__BROKERS": tansu.address}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as traffic:
        key, event = asyncio.run(first_record(tansu.address, unique_name))
        traffic.send_signal(signal.SIGTERM)
        said, _ = traffic.communicate(timeout=20)
    assert traffic.returncode == 0
    assert re.fullmatch(rf"sent [\d,]+ records to {unique_name} in \d+ s\n", said)
    assert key.decode() in (event.get("user_id"), event.get("anonymous_id"))


async def first_record(brokers: str, topic: str) -> tuple[bytes, dict[str, str]]:
    async with AIOKafkaConsumer(topic, bootstrap_servers=brokers, auto_offset_reset="earliest") as consumer:
        record = await asyncio.wait_for(consumer.getone(), 30)
    return record.key, orjson.loads(record.value)


def test_paying_fails_again_and_again_for_as_long_as_was_asked() -> None:
    fails = _incidents(1_000.0, "15m", "2m")
    assert not fails(1_000.0)
    assert [fails(1_000.0 + 120 + n * 900 + into) for n in (0, 7) for into in (0, 119, 120, 899)] == [True, True, False, False] * 2


def test_without_incidents_paying_never_fails() -> None:
    assert not any(_incidents(0.0, None, "2m")(float(at)) for at in range(0, 100_000, 60))


def test_an_incident_that_never_ends_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["traffic", "--topic", "t", "--incident-every", "2m", "--incident-length", "2m"]) == 2
    assert "--incident-length 2m is not shorter than --incident-every 2m" in capsys.readouterr().err


def test_a_wrong_duration_is_named() -> None:
    with pytest.raises(UsageError, match="--incident-every: 'soon' is no duration"):
        _incidents(0.0, "soon", "2m")


def test_without_a_broker_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert run(["traffic", "--topic", "t", "--brokers", "127.0.0.1:1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: Kafka at 127.0.0.1:1 does not take records")
    assert error.count("\n") == 1
    assert time.monotonic() - began < 30
