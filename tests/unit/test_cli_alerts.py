"""`funnelwatch silence` and `funnelwatch alerts`, against a service of the real API over a store in memory."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import uvicorn

from alerting.contract import Commit
from alerting.desk import Desk
from alerting.lifecycle import AlertKey, RuleState
from alerting.memory_store import MemoryAlertStore
from alerting.outbox import OutboxEntry
from schemas.config import Config
from schemas.report import Transition
from streams.cli import run
from streams.process import free_port
from streams.web.api import create_api
from tests.parts.alerts import NIGHT_US, config, notification

ENTRY = OutboxEntry(channel="oncall", notification=notification(), attempts=3)
HOUR = timedelta(hours=1)


class Readings:
    """What the API needs for alerts; the rest of a worker is not asked."""

    def __init__(self) -> None:
        self.config: Config = config({"by": ["device"]})
        self.store = MemoryAlertStore()
        self.desk = Desk(self.config, self.store)

    async def transitions(self, limit: int) -> list[Transition]:
        return await self.store.transitions(limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.desk, name)


@pytest.fixture
def readings() -> Readings:
    """One incident for everybody, one for ios, and a notification that was given up."""
    made = Readings()
    firing = RuleState("firing", NIGHT_US, NIGHT_US, None, NIGHT_US, NIGHT_US)

    async def put() -> None:
        states = {AlertKey("CheckoutToPayLow"): firing, AlertKey("CheckoutToPayLow", "device", "ios"): firing}
        await made.store.commit(0, Commit(states, entries=(ENTRY,)))
        await made.store.dead_letter(ENTRY, "HTTP 403")

    asyncio.run(put())
    return made


@pytest.fixture
def url(readings: Readings) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_api(readings, "1"), host="127.0.0.1", port=free_port(), log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.config.port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str], url: str) -> Any:
    """Run a command against the service: what it prints, once its exit code is as wanted."""

    def command(*arguments: str, code: int = 0) -> str:
        assert run([*arguments, "--url", url]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return command


def listed(says: Any, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(says("silence", "list", "--json", *options))
    return found


def test_a_silence_is_added_listed_and_expired(says: Any) -> None:
    added = says("silence", "add", "--rule", "Check*", "--value", "ios", "--for", "2h", "--reason", "moving", "--author", "kim")
    (silence,) = listed(says)
    assert added.startswith(f"{silence['id']}: rule=Check*, value=ios is silent from ")
    assert (silence["author"], silence["reason"], silence["state"]) == ("kim", "moving", "active")
    left = datetime.fromisoformat(silence["ends"].replace("Z", "+00:00")) - datetime.now(timezone.utc)
    assert timedelta(minutes=119) < left <= 2 * HOUR
    assert f"{silence['id']}: rule=Check*, value=ios is over since" in says("silence", "expire", silence["id"], "--author", "kim")
    assert listed(says) == []
    assert [s["state"] for s in listed(says, "--all")] == ["expired"]
    assert says("silence", "list") == "none\n"


def test_a_maintenance_window_is_a_silence_that_begins_later(says: Any) -> None:
    says("silence", "add", "--funnel", "purchase", "--from", "2100-01-01T00:00:00Z", "--for", "1h", "--reason", "x")
    (silence,) = listed(says)
    assert (silence["state"], silence["starts"], silence["ends"]) == ("future", "2100-01-01T00:00:00Z", "2100-01-01T01:00:00Z")
    assert silence["author"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add", "--for", "1h", "--reason", "x"], "say what to silence: --rule"),
        (["add", "--rule", "*", "--reason", "x"], "say how long"),
        (["add", "--rule", "*", "--for", "1h", "--until", "2100-01-01T00:00:00Z", "--reason", "x"], "say how long"),
        (["add", "--rule", "*", "--for", "soon", "--reason", "x"], "--for: 'soon' is no duration"),
        (["add", "--rule", "*", "--until", "soon", "--reason", "x"], "--until 'soon' is no time"),
        (["add", "--rule", "*", "--until", "2020-01-01T00:00:00Z", "--reason", "x"], "not in the past"),
        (["expire", "none"], "no silence of that id"),
    ],
)
def test_a_silence_that_makes_no_sense_is_bad_usage(says: Any, arguments: list[str], complaint: str) -> None:
    told = says("silence", *arguments, code=2)
    assert complaint in told
    assert told.count("\n") == 1


def test_alerts_are_listed_with_who_has_seen_them_and_what_holds_them(says: Any) -> None:
    says("alerts", "ack", "CheckoutToPayLow", "device=ios", "--author", "kim", "--reason", "looking")
    says("silence", "add", "--dimension", "device", "--for", "1h", "--reason", "x")
    total, ios = json.loads(says("alerts", "list", "--json"))
    assert (total["acknowledged_by"], total["silenced_by"]) == (None, [])
    assert (ios["acknowledged_by"], len(ios["silenced_by"])) == ("kim", 1)
    table = says("alerts", "list")
    assert "device=ios" in table
    assert "kim" in table


def test_what_cannot_be_acknowledged_is_bad_usage(says: Any) -> None:
    assert "no such alert" in says("alerts", "ack", "Other", code=2)
    assert "write DIMENSION=VALUE" in says("alerts", "ack", "CheckoutToPayLow", "ios", code=2)


def test_dead_letters_are_listed_and_sent_again(says: Any, readings: Readings) -> None:
    assert "HTTP 403" in says("alerts", "dead-letters")
    assert "name the dead letters" in says("alerts", "resend", code=2)
    assert "no dead letter of that id" in says("alerts", "resend", "none", code=2)
    assert says("alerts", "resend", "--all", "--author", "kim") == "1 dead letter put among what waits to be sent\n"
    assert [entry.id for entry in asyncio.run(readings.store.outbox())] == [ENTRY.id]
    assert says("alerts", "dead-letters") == "none\n"


def test_what_people_did_is_told_newest_first(says: Any) -> None:
    says("alerts", "ack", "CheckoutToPayLow", "--author", "kim")
    says("alerts", "resend", ENTRY.id, "--author", "lee", "--reason", "mended")
    entries = json.loads(says("alerts", "audit", "--json"))
    assert [(e["author"], e["action"]) for e in entries] == [("lee", "resent"), ("kim", "acknowledged")]
    assert "mended" in says("alerts", "audit", "--limit", "1")


def test_alerts_without_a_command_lists_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FUNNELWATCH_WEB__PORT", url.rpartition(":")[2])
    assert run(["alerts"]) == 0
    assert "CheckoutToPayLow" in capsys.readouterr().out
