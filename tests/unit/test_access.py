"""Who may ask what of a service with tokens: scopes, funnels, limits; and what the audit log says of it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from schemas.access import hash_of
from streams.web.access import Doorkeeper
from streams.web.problem import Problem
from streams.web.stream import LINE
from tests.parts.guarded import ACCESS, TOKENS, Guarded
from tests.parts.lines import Kept, lined

SILENCE = {"matchers": {"rule": "*"}, "ends": "2100-01-01T00:00:00Z", "author": "kim", "reason": "moving"}
READ = (
    "/api/v1/funnels",
    "/api/v1/funnels/purchase",
    "/api/v1/alerts",
    "/api/v1/silences",
    "/api/v1/dictionary",
    "/openapi.json",
    "/api/v1/no",
)


@pytest.fixture(scope="module")
def shared() -> Guarded:
    """For what leaves nothing behind."""
    return Guarded()


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    return Guarded()


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    return Problem.model_validate(answer.json()).detail


# Scopes


@pytest.mark.parametrize("path", ["/", "/docs", "/page/page.js", "/livez", "/readyz", "/favicon.ico", "/session"])
def test_page_and_probes_are_open(shared: Guarded, path: str) -> None:
    assert shared.ask(path).is_success


@pytest.mark.parametrize("path", [*READ, "/metrics", "/api/v1/audit", "/api/v1/entities/u-1", "/anything"])
def test_all_else_needs_a_token_and_says_how(shared: Guarded, path: str) -> None:
    answer = shared.ask(path)
    assert "Authorization: Bearer TOKEN" in problem(answer, 401)
    assert answer.headers["www-authenticate"] == 'Bearer realm="funnelwatch"'


@pytest.mark.parametrize(
    ("token", "path", "method", "missing"),
    [
        ("reader", "/api/v1/entities/u-1", "GET", "entities"),
        ("reader", "/metrics", "GET", "metrics"),
        ("reader", "/api/v1/audit", "GET", "admin"),
        ("reader", "/api/v1/silences", "POST", "admin"),
        ("reader", "/api/v1/silences/x", "DELETE", "admin"),
        ("reader", "/api/v1/alerts/ack", "POST", "admin"),
        ("reader", "/api/v1/alerts/dead-letters", "POST", "admin"),
        ("entities", "/api/v1/funnels", "GET", "read"),
        ("scraper", "/api/v1/stream", "GET", "read"),
        ("ops", "/api/v1/entities/u-1", "GET", "entities"),
        ("ops", "/metrics", "GET", "metrics"),
    ],
)
def test_a_token_without_the_scope_is_refused_by_its_name(shared: Guarded, token: str, path: str, method: str, missing: str) -> None:
    answer = shared.ask(path, token, method)
    assert f"{token!r} has not the scope {missing!r}" in problem(answer, 403)
    assert f'scope="{missing}"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("token", "path"),
    [*(("reader", path) for path in READ[:-1]), ("ops", "/api/v1/funnels"), ("ops", "/api/v1/audit"), ("scraper", "/metrics")],
)
def test_a_token_with_the_scope_is_let_in(shared: Guarded, token: str, path: str) -> None:
    """What an admin may do includes reading."""
    assert shared.ask(path, token).status_code == 200


def test_metrics_are_open_unless_the_config_says_otherwise() -> None:
    assert Guarded({"tokens": ACCESS["tokens"]}).ask("/metrics").status_code == 200


def test_without_tokens_everything_is_open() -> None:
    open_ = Guarded({})
    for path in ("/api/v1/funnels", "/metrics", "/api/v1/entities/u-1", "/api/v1/audit"):
        assert open_.ask(path).status_code == 200
    assert open_.ask("/api/v1/silences", method="POST", json=SILENCE).status_code == 201


def test_the_document_says_which_scope_an_endpoint_needs(shared: Guarded) -> None:
    document = shared.ask("/openapi.json", "reader").json()
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    asked = {(path, method): operation["security"] for path, one in document["paths"].items() for method, operation in one.items()}
    assert asked["/api/v1/silences", "get"] == [{"token": ["read"]}]
    assert asked["/api/v1/silences", "post"] == [{"token": ["admin"]}]
    assert asked["/api/v1/entities/{id}", "get"] == [{"token": ["entities"]}]
    assert asked["/livez", "get"] == asked["/session", "post"] == []


# Tokens


@pytest.mark.parametrize(
    "line", ["Bearer fw_wrong", "bearer ", f"Bearer {'x' * 5000}", f"Bearer {TOKENS['reader']} x", "Bearer ü", f"Bearer {TOKENS['old']}"]
)
def test_a_wrong_or_expired_token_is_refused(shared: Guarded, line: str) -> None:
    answer = shared.ask("/api/v1/funnels", headers={b"Authorization": line.encode()}, client="10.1.1.1")
    assert "not known here, or has expired" in problem(answer, 401)
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("query", ["token", "access_token", "api_key"])
def test_a_token_in_the_address_is_not_looked_at(shared: Guarded, query: str) -> None:
    problem(shared.ask(f"/api/v1/funnels?{query}={TOKENS['reader']}"), 401)


def test_credentials_of_another_scheme_are_those_of_somebody_else(shared: Guarded) -> None:
    """A proxy's own Basic authentication, for one, beside a session's cookie."""
    headers = {"Authorization": "Basic a2ltOng=", "Cookie": f"funnelwatch={TOKENS['reader']}"}
    assert shared.ask("/api/v1/funnels", headers=headers).status_code == 200
    problem(shared.ask("/api/v1/funnels", headers={"Authorization": "Basic a2ltOng="}), 401)


def test_wrong_tokens_are_limited_by_address_and_right_ones_let_in(guarded: Guarded) -> None:
    with capture_logs() as logs:
        answers = [guarded.ask("/api/v1/funnels", f"fw_guess{n}") for n in range(14)]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 4
        assert answers[-1].headers["retry-after"] == "6"
        assert guarded.ask("/api/v1/funnels", "reader").status_code == 200
        assert guarded.ask("/api/v1/funnels", "fw_guess", client="10.0.0.8").status_code == 401
    assert len(logs) == 10  # of 15, and no token in any
    assert {line["address"] for line in logs} == {"10.0.0.7"}
    assert "fw_" not in str(logs)


def test_one_customer_of_ipv6_is_one_address_however_many_he_has(guarded: Guarded) -> None:
    answers = [guarded.ask("/api/v1/funnels", "fw_guess", client=f"2001:db8:1:2::{n:x}") for n in range(12)]
    assert [answer.status_code for answer in answers[9:]] == [401, 429, 429]
    problem(guarded.ask("/api/v1/funnels", "fw_guess", client="2001:db8:1:3::1"), 401)


# Funnels


def test_a_token_of_some_funnels_sees_no_others_anywhere(shared: Guarded) -> None:
    """Not in a list, a dictionary, a suggestion, an error, the document, or what was told of them."""
    for path in (
        "/api/v1/funnels", "/api/v1/alerts", "/api/v1/dictionary", "/openapi.json", "/api/v1/silences", "/api/v1/alerts/dead-letters",
        "/api/v1/funnels/purchase", "/api/v1/funnels/purchase?by=city", "/api/v1/entities/u-1", "/api/v1/entities/nobody",
    ):  # fmt: skip
        for_some, for_all = shared.ask(path, "shop"), shared.ask(path, "entities" if "entities" in path else "reader")
        assert for_some.status_code == for_all.status_code
        assert not any(name in for_some.text for name in ("signup", "app-clicks", '"app"')), path
    assert "signup" in shared.ask("/api/v1/funnels", "reader").text


@pytest.mark.parametrize("path", ["", "/history", "/compare", "?window=9m"])
def test_a_funnel_that_a_token_may_not_see_is_not_there(shared: Guarded, path: str) -> None:
    """In the very words of one that does not exist."""
    hidden, none = (problem(shared.ask(f"/api/v1/funnels/{name}{path}", "shop"), 404) for name in ("signup", "nosuch"))
    assert hidden == none.replace("nosuch", "signup")
    problem(shared.ask("/api/v1/stream?funnel=signup", "shop"), 404)


async def test_a_stream_tells_a_token_of_its_own_funnels(guarded: Guarded) -> None:
    first = await first_events(guarded, "shop")
    assert "purchase" in first
    assert "purchase-low" in first
    assert "signup" not in first
    assert "signup-low" in await first_events(guarded, "reader")


async def test_an_open_stream_ends_with_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    today = datetime.now(timezone.utc).date()
    midnight = datetime(today.year, today.month, today.day, tzinfo=timezone.utc).timestamp() + 86_400
    clock = SimpleNamespace(time=lambda: midnight - 0.2, monotonic=time.monotonic)
    monkeypatch.setattr("streams.web.access.time", clock)
    guarded = Guarded({"tokens": [{"name": "reader", "hash": hash_of(TOKENS["reader"]), "expires": str(today)}]})
    headers = {"Authorization": f"Bearer {TOKENS['reader']}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(lined(guarded.app)), base_url="http://x", headers=headers) as client:
        answer = await asyncio.wait_for(client.get("/api/v1/stream"), 5)
    assert "event: tick" in answer.text
    assert guarded.readings.hub.clients == 0


async def first_events(guarded: Guarded, token: str) -> str:
    """What a stream sends before anything happens, and at the first tick."""
    line = Kept()
    enough = asyncio.Event()
    headers = [(b"authorization", f"Bearer {TOKENS[token]}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/api/v1/stream", "raw_path": b"", "query_string": b"", "headers": headers,
             "scheme": "http", "client": ("10.0.0.7", 1), "server": ("funnelwatch", 80), "root_path": "", "http_version": "1.1", LINE: line}  # fmt: skip

    async def send(message: Any) -> None:
        assert message["type"] != "http.response.start" or message["status"] == 200

    async def receive() -> Any:
        await enough.wait()
        return {"type": "http.disconnect"}

    listening = asyncio.create_task(guarded.app(scope, receive, send))
    while b"".join(line.chunks).count(b"event: tick") < 2:
        await asyncio.sleep(0.01)
        await guarded.readings.hub.publish()
    enough.set()
    await asyncio.wait_for(listening, 5)
    return line.taken().decode()


# Limits


def test_a_token_asks_so_often_and_is_told_when_it_may_again(guarded: Guarded) -> None:
    statuses = [guarded.ask("/api/v1/funnels", "slow").status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = guarded.ask("/api/v1/funnels", "slow")
    assert "3 times in 30s" in problem(refused, 429)
    assert refused.headers["retry-after"] == "10"
    assert guarded.ask("/api/v1/funnels", "reader").status_code == 200


async def test_a_token_has_so_many_requests_at_once_streams_among_them(guarded: Guarded) -> None:
    began, ends = asyncio.Event(), asyncio.Event()

    async def slow() -> list[Any]:
        began.set()
        await ends.wait()
        return []

    guarded.readings.__dict__["alert_states"] = slow
    transport = httpx.ASGITransport(guarded.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers={"Authorization": f"Bearer {TOKENS['slow']}"}) as client:
        first = asyncio.create_task(client.get("/api/v1/alerts"))
        await began.wait()
        refused = await client.get("/api/v1/funnels")
        assert "1 requests with this token are under way" in problem(refused, 429)
        assert refused.headers["retry-after"] == "2"
        ends.set()
        assert (await first).status_code == 200
        assert (await client.get("/api/v1/funnels")).status_code == 200


# The audit log


def test_who_changes_something_is_recorded_with_the_token(guarded: Guarded) -> None:
    """What he calls himself may be anything; which token it was is known."""
    for author in ("kim", "lee (token reader)"):
        guarded.ask("/api/v1/silences", "ops", "POST", json=SILENCE | {"author": author})
    authors = [entry["author"] for entry in guarded.ask("/api/v1/audit", "ops").json()["entries"]]
    assert authors == ["lee (reader) (token ops)", "kim (token ops)"]


def test_every_look_at_an_entity_is_recorded_by_its_digest(guarded: Guarded) -> None:
    """Found or not; the log is no list of ids, but one who has an id can see who looked."""
    guarded.ask("/api/v1/entities/u-1", "shop")
    guarded.ask("/api/v1/entities/u-2", "entities")
    entries = guarded.ask("/api/v1/audit", "ops").json()["entries"]
    assert [(e["action"], e["author"], e["detail"]) for e in entries] == [
        ("entity_read", "token entities", "not known"),
        ("entity_read", "token shop", "known in web"),
    ]
    assert [e["subject"] for e in entries] == [f"sha256:{hashlib.sha256(one).hexdigest()[:24]}" for one in (b"u-2", b"u-1")]


def test_without_tokens_a_look_is_recorded_by_the_address() -> None:
    open_ = Guarded({})
    open_.ask("/api/v1/entities/u-1")
    assert open_.ask("/api/v1/audit").json()["entries"][0]["author"] == "no token, from 10.0.0.7"


def test_a_look_that_cannot_be_recorded_is_not_granted(guarded: Guarded) -> None:
    async def away(*_: Any) -> None:
        from schemas.errors import StoreUnavailable

        raise StoreUnavailable("gone")

    guarded.readings.__dict__["entity_read"] = away
    problem(guarded.ask("/api/v1/entities/u-1", "shop"), 503)


def test_many_looks_push_nothing_out_that_somebody_did(guarded: Guarded) -> None:
    guarded.ask("/api/v1/silences", "ops", "POST", json=SILENCE)
    for n in range(30):
        asyncio.run(guarded.readings.desk.entity_read(f"u-{n}", "token shop", []))
    shown = guarded.ask("/api/v1/audit?limit=5", "ops").json()["entries"]
    assert [entry["action"] for entry in shown] == ["entity_read"] * 5
    assert guarded.ask("/api/v1/audit?limit=100", "ops").json()["entries"][-1]["action"] == "silence_added"


def test_what_is_known_of_wrong_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.web.keyring.ADDRESSES_MAX", 50)
    doorkeeper = Doorkeeper(Guarded().readings.config.access)
    for n in range(500):
        doorkeeper._strikes.strike(f"10.0.{n // 250}.{n % 250}", 0.0)
    assert doorkeeper._strikes.addresses == 50
