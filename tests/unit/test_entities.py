"""An entity over HTTP: found in whatever source and partition knows it, and a clear word where none does."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from structlog.testing import capture_logs

from schemas.config import Config, parse
from schemas.errors import StoreUnavailable
from schemas.explanation import EntityExplanation
from streams.counting import ShardCount
from streams.ledger.memory import MemoryLedger
from streams.plan import Plan
from streams.reader import Reader
from streams.web.api import Problem, create_api
from streams.web.entities import EXAMPLE, explained

CONFIG = parse("""
sources: [{name: web, topic: clicks}, {name: app, topic: taps}]
funnels:
  - {name: f, source: web, conversion_window: 1m, windows: [1m], stages: [{name: a, event: a}, {name: b, event: b}]}
  - {name: g, source: app, conversion_window: 1m, windows: [1m], stages: [{name: a, event: a}, {name: b, event: b}]}
""")
AT = 1_690_000_000  # seconds; 2023-07-22T04:26:40Z
WAITING = 'Reached "a" at 2023-07-22T04:26:40Z. Waiting for "b" until 2023-07-22T04:27:40Z (1m after "a" at 2023-07-22T04:26:40Z).'


class FakeReadings:
    """A worker that knows some entities, and raises what it is told to."""

    def __init__(self, *known: str) -> None:
        self.config: Config = CONFIG
        self.known = known
        self.error: Exception | None = None
        self.noted: list[tuple[str, str, list[str]]] = []

    async def entity_read(self, entity: str, author: str, sources: list[str]) -> None:
        self.noted.append((entity, author, sources))

    async def explanation(self, entity: str) -> EntityExplanation | None:
        if self.error is not None:
            raise self.error
        return EXAMPLE.model_copy(update={"entity": entity}) if entity in self.known else None


def ask(readings: Any, path: str) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(create_api(readings, "1.2.3"))
        async with httpx.AsyncClient(transport=transport, base_url="http://funnelwatch") as client:
            return await client.get(path)

    return asyncio.run(go())


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    return Problem.model_validate(answer.json()).detail


@pytest.mark.parametrize("entity", ["u-1834", "a/b", "größer 東京", "what?", "50%", "a/../b", "x" * 512])
def test_an_entity_may_have_any_character(entity: str) -> None:
    """Slashes too: it is the rest of the path, quoted."""
    answer = ask(FakeReadings(entity), f"/api/v1/entities/{quote(entity, safe='')}")
    assert answer.status_code == 200
    assert EntityExplanation.model_validate(answer.json()) == EXAMPLE.model_copy(update={"entity": entity})


def test_an_unknown_entity_is_a_404_that_says_where_it_was_looked_for_and_how_to_write_it() -> None:
    said = problem(ask(FakeReadings("ann"), "/api/v1/entities/Ann"), 404)
    assert said.startswith("no event of entity 'Ann' is on record in source web or app: write the whole user_id")


@pytest.mark.parametrize(("entity", "said"), [("", "at least 1 character"), ("x" * 513, "at most 512 characters")])
def test_what_no_entity_can_be_is_a_bad_request(entity: str, said: str) -> None:
    assert said in problem(ask(FakeReadings(), f"/api/v1/entities/{entity}"), 400)


def test_a_store_that_is_away_is_a_503() -> None:
    readings = FakeReadings()
    readings.error = StoreUnavailable("redis://user:secret@store")
    with capture_logs():
        assert "Redis" in problem(ask(readings, "/api/v1/entities/ann"), 503)


def test_the_openapi_document_has_a_valid_example_and_every_error() -> None:
    operation = ask(FakeReadings(), "/openapi.json").json()["paths"]["/api/v1/entities/{id}"]["get"]
    responses = operation["responses"]
    assert EntityExplanation.model_validate(responses["200"]["content"]["application/json"]["example"]) == EXAMPLE
    assert set(responses) == {"200", "404", "503", "default"}
    assert operation["description"]


async def count(ledger: MemoryLedger, source: str, partition: int, *events: tuple[str, float, str]) -> None:
    """Count events (name, second, entity) in a partition of a source."""
    records = [json.dumps({"event": name, "timestamp": AT + second, "user_id": entity}).encode() for name, second, entity in events]
    work = ShardCount(Plan(CONFIG, CONFIG.source(source)))
    pending = work.decode(0, len(records), records, [entity.encode() for _, _, entity in events], 10**18)
    await ledger.apply(await ledger.claim(f"{source}:{partition}", 2, 0), work.fold(pending).write)


async def test_every_source_that_knows_the_entity_answers_as_of_its_own_time() -> None:
    """T of a source is that of all its partitions; the wait is over where it has passed."""
    ledger = MemoryLedger()
    await count(ledger, "web", 0, ("a", 0, "ann"))
    await count(ledger, "web", 1, ("a", 30, "bob"))
    await count(ledger, "app", 1, ("a", 0, "ann"), ("a", 300, "zoe"))
    reader = Reader(CONFIG, ledger)
    await reader.tick()
    found = await explained(ledger, reader.views, "ann")
    assert found is not None
    assert found.entity == "ann"
    web, app = found.sources
    assert [(s.source, s.partition, s.at and s.at.timestamp() - AT) for s in (web, app)] == [("web", 0, 30), ("app", 1, 300)]
    assert web.funnels[0].why == WAITING
    assert app.funnels[0].state == "passed"


async def test_an_entity_that_no_source_knows_is_none() -> None:
    ledger = MemoryLedger()
    assert await explained(ledger, Reader(CONFIG, ledger).views, "ann") is None
    await count(ledger, "web", 0, ("a", 0, "ann"), ("x", 1, "tom"))
    assert await explained(ledger, Reader(CONFIG, ledger).views, "tom") is None
