"""The HTTP side over a fake worker: every endpoint, its errors, its headers, and the page's files."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from alerting.contract import Commit
from alerting.desk import Desk
from alerting.lifecycle import AlertKey, RuleState
from alerting.memory_store import MemoryAlertStore
from alerting.outbox import OutboxEntry
from schemas.config import Config, parse
from schemas.dictionary import Dictionary
from schemas.duration import Duration
from schemas.errors import StoreUnavailable
from schemas.explanation import EntityExplanation
from schemas.history import ComparisonReport, HistoryReport
from schemas.report import Alerts, AlertState, FunnelReport, FunnelSummary, Rate, StageReport, Transition
from streams.archive import HistoryAsked
from streams.periods import CompareAsked
from streams.web.alerts import Audit, DeadLetters, Silences
from streams.web.api import PAGE, FunnelList, Health, Problem, Shield, create_api
from streams.web.readings import Readings
from streams.web.renderings import Renderings
from streams.web.session import Session
from streams.web.stream import Hub
from tests.parts.alerts import notification

CONFIG = parse("""
sources: [{name: web, topic: clicks}]
funnels:
  - name: purchase
    title: Browse to order
    source: web
    conversion_window: 30m
    windows: [1m, 1h]
    dimensions: {channel: properties.channel, device: properties.device}
    stages: [{name: view, event: view}, {name: pay, event: purchase, target: 0.5}]
  - name: "bare: größer"
    source: web
    conversion_window: 5m
    windows: [1m]
    stages: [{name: a, event: a}, {name: b, event: b}]
alerts:
  - {name: PayLow, funnel: purchase, stage: pay, window: 5m, below: 0.4}
""")
AT = datetime(2026, 3, 2, 14, 32, 5, tzinfo=timezone.utc)
NOTHING = Rate(numerator=0, denominator=0, rate=None)
TRANSITION = Transition(
    at=AT, rule="PayLow", funnel="purchase", stage="pay", dimension=None, value=None,
    state="firing", numerator=3, denominator=10, rate=0.3, threshold=0.4,
)  # fmt: skip
STATE = AlertState(**TRANSITION.model_dump(exclude={"at"}), at=AT, since=AT, severity="page", window="5m")
MODELS: dict[str, type[BaseModel]] = {
    "/api/v1/funnels": FunnelList,
    "/api/v1/funnels/{name}": FunnelReport,
    "/api/v1/funnels/{name}/history": HistoryReport,
    "/api/v1/funnels/{name}/compare": ComparisonReport,
    "/api/v1/alerts": Alerts,
    "/api/v1/alerts/dead-letters": DeadLetters,
    "/api/v1/silences": Silences,
    "/api/v1/audit": Audit,
    "/api/v1/dictionary": Dictionary,
    "/api/v1/entities/{id}": EntityExplanation,
    "/session": Session,
    "/livez": Health,
    "/readyz": Health,
}
OTHER_ENDPOINTS = ("/api/v1/alerts/ack", "/api/v1/silences/{id}", "/api/v1/stream", "/metrics")


class FakeReadings:
    """A worker that remembers what it was asked for, and raises what it is told to."""

    def __init__(self) -> None:
        self.config: Config = CONFIG
        self.asked: list[tuple[str, str, str | None]] = []
        self.health = (True, "all is well")
        self.error: Exception | None = None
        self.store = MemoryAlertStore()
        self.desk = Desk(CONFIG, self.store)
        self.hub = Hub(Renderings(self.report), self.no_alerts)

    def summaries(self) -> list[FunnelSummary]:
        return [
            FunnelSummary(
                name=f.name,
                title=f.title,
                description=f.description,
                owner=f.owner,
                source=f.source,
                conversion_window=str(f.conversion_window),
                windows=tuple(str(w) for w in self.config.windows_of(f)),
                dimensions=tuple(f.dimensions),
                stages=tuple(s.name for s in f.stages),
                overall=None,
                at=None,
            )
            for f in self.config.funnels
        ]

    def report(self, funnel: str, window: Duration, by: str | None, basis: str) -> FunnelReport:
        if self.error is not None:
            raise self.error
        self.asked.append((funnel, str(window), by))
        return FunnelReport(
            name=funnel,
            title="",
            source="web",
            window=str(window),
            basis=basis,
            conversion_window="30m",
            at=AT,
            stale=False,
            incomplete=False,
            lag=None,
            stages=(
                StageReport(name="view", users=0, step=None, lost=0, events=0, value=0),
                StageReport(name="pay", users=0, step=NOTHING, lost=0, events=0, value=0, target=0.5),
            ),
            overall=NOTHING,
            by=by,
        )

    async def no_alerts(self) -> bytes:
        return b"{}"

    async def history(self, asked: HistoryAsked) -> tuple[HistoryReport, int | None]:
        raise NotImplementedError

    async def compare(self, asked: CompareAsked) -> ComparisonReport:
        raise NotImplementedError

    async def explanation(self, entity: str) -> EntityExplanation | None:
        return None

    async def alert_states(self) -> list[AlertState]:
        if self.error is not None:
            raise self.error
        return [STATE, *await self.desk.alert_states()]

    async def transitions(self, limit: int) -> list[Transition]:
        return [TRANSITION] * min(limit, 60)

    def __getattr__(self, name: str) -> Any:
        """Silences, acknowledgements, dead letters: those of a desk over a store in memory."""
        return getattr(self.desk, name)

    def alive(self) -> tuple[bool, str]:
        return self.health

    async def ready(self) -> tuple[bool, str]:
        return self.health

    def metrics(self) -> list[bytes]:
        return [b'funnel_stage_users{funnel="purchase"} 3\n']


@pytest.fixture
def readings() -> FakeReadings:
    return FakeReadings()


def ask(readings: Readings, path: str, method: str = "GET", **what: Any) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(create_api(readings, "1.2.3"))
        async with httpx.AsyncClient(transport=transport, base_url="http://funnelwatch") as client:
            return await client.request(method, path, **what)

    return asyncio.run(go())


def problem(answer: httpx.Response, status: int) -> str:
    """The detail of an answer, once it is shown to be an RFC 9457 problem of that status."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = Problem.model_validate(answer.json())
    assert (body.type, body.status) == ("about:blank", status)
    return body.detail


def test_every_funnel_of_the_config_is_listed(readings: FakeReadings) -> None:
    """The list has the config's order, and what may be asked of each funnel."""
    funnels = FunnelList.model_validate(ask(readings, "/api/v1/funnels").json()).funnels
    assert [f.name for f in funnels] == ["purchase", "bare: größer"]
    assert funnels[0].windows == ("1m", "1h", "5m")


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", ("purchase", "1m", None)),
        ("?window=1h&basis=users&by=device", ("purchase", "1h", "device")),
        ("?window=5m", ("purchase", "5m", None)),
        ("?window=60s", ("purchase", "1m", None)),
    ],
)
def test_a_funnel_is_reported_for_the_window_asked(readings: FakeReadings, query: str, asked: tuple[str, str, str | None]) -> None:
    """Defaults are the first window and no dimension; a rule's window is kept too, however it is written."""
    answer = ask(readings, f"/api/v1/funnels/purchase{query}")
    assert answer.status_code == 200
    assert readings.asked == [asked]


def test_a_rate_without_a_denominator_is_null(readings: FakeReadings) -> None:
    """No denominator, no rate: null and not 0."""
    stages = ask(readings, "/api/v1/funnels/purchase").json()["stages"]
    assert stages[1]["step"] == {"numerator": 0, "denominator": 0, "rate": None, "low": None, "high": None}


def test_a_name_is_taken_from_the_address_unquoted(readings: FakeReadings) -> None:
    """A funnel's name may have spaces and signs in it."""
    assert ask(readings, "/api/v1/funnels/bare:%20gr%C3%B6%C3%9Fer").json()["name"] == "bare: größer"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/v1/funnels/none", 404, "there is no funnel 'none'; /api/v1/funnels lists"),
        ("/api/v1/funnels/purchase?window=7m", 400, "no window '7m'; there are: 1m, 1h, 5m"),
        ("/api/v1/funnels/purchase?window=soon", 400, "no window 'soon'; there are: 1m, 1h, 5m"),
        ("/api/v1/funnels/purchase?basis=people", 400, "no basis 'people'; there are: users"),
        ("/api/v1/funnels/purchase?by=city", 400, "no dimension 'city'; there are: channel, device"),
        ("/api/v1/funnels/bare: größer?by=city", 400, "no dimension 'city'; there are none"),
        ("/api/v1/alerts?limit=0", 400, "query limit: Input should be greater than or equal to 1 (given: '0')"),
        ("/api/v1/nothing", 404, "GET '/api/v1/nothing' is not served here; /docs lists what is"),
        ("/page/../api.py", 404, "is not served here"),
        ("/page/%2e%2e/api.py", 404, "is not served here"),
    ],
)
def test_a_wrong_request_is_told_what_there_is(readings: FakeReadings, path: str, status: int, said: str) -> None:
    """Every refusal is a problem document that names the right choices."""
    assert said in problem(ask(readings, path), status)


def test_a_wrong_method_is_a_problem_that_names_the_right_one(readings: FakeReadings) -> None:
    """405 keeps its Allow header."""
    answer = ask(readings, "/api/v1/funnels", "POST")
    problem(answer, 405)
    assert answer.headers["allow"] == "GET"


def test_what_a_caller_sent_comes_back_cut(readings: FakeReadings) -> None:
    """An error's length does not follow the request's."""
    assert len(problem(ask(readings, f"/api/v1/funnels/{'x' * 5000}"), 404)) < 200


def test_an_unexpected_exception_is_logged_and_not_shown(readings: FakeReadings) -> None:
    """The caller learns that it was not the request; the traceback goes to the log alone."""
    readings.error = RuntimeError("secret")
    with capture_logs() as logs:
        answer = ask(readings, "/api/v1/funnels/purchase")
    problem(answer, 500)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert [(e["event"], e["path"], e["exc_info"]) for e in logs] == [("request_failed", "/api/v1/funnels/purchase", True)]


def test_an_answer_that_breaks_off_is_not_ended_as_if_it_were_whole() -> None:
    """Once the status is out, an exception goes on to the server, which cuts the connection."""

    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("midway")

    async def go() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(Shield(breaks)), base_url="http://funnelwatch") as client:
            await client.get("/")

    with capture_logs(), pytest.raises(RuntimeError, match="midway"):
        asyncio.run(go())


def test_a_store_that_is_away_is_a_503(readings: FakeReadings) -> None:
    """Alerts need Redis; without it they are unavailable, not broken, and its address stays here."""
    readings.error = StoreUnavailable("redis://user:secret@store")
    with capture_logs() as logs:
        answer = ask(readings, "/api/v1/alerts")
    assert "Redis" in problem(answer, 503)
    assert "secret" not in answer.text
    assert [e["event"] for e in logs] == ["request_needs_store"]


def test_alerts_are_states_and_the_last_transitions(readings: FakeReadings) -> None:
    """50 transitions unless another number is asked for."""
    alerts = Alerts.model_validate(ask(readings, "/api/v1/alerts").json())
    assert (alerts.states[0], len(alerts.transitions)) == (STATE, 50)
    assert len(ask(readings, "/api/v1/alerts?limit=2").json()["transitions"]) == 2


SILENCE = {"matchers": {"rule": "Pay*"}, "ends": "2100-01-01T00:00:00Z", "author": "kim", "reason": "moving"}


def test_a_silence_is_added_listed_ended_and_written_down(readings: FakeReadings) -> None:
    added = ask(readings, "/api/v1/silences", "POST", json=SILENCE)
    assert added.status_code == 201
    name = added.json()["id"]
    assert [(s["id"], s["state"]) for s in ask(readings, "/api/v1/silences").json()["silences"]] == [(name, "active")]
    states = ask(readings, "/api/v1/alerts").json()["states"]
    assert [state["silenced_by"] for state in states] == [[], [name]]
    over = ask(readings, f"/api/v1/silences/{name}?author=kim&reason=done", "DELETE")
    assert (over.status_code, over.json()["state"]) == (200, "expired")
    log = ask(readings, "/api/v1/audit").json()["entries"]
    assert [(e["author"], e["action"], e["subject"], e["reason"]) for e in log] == [
        ("kim", "silence_expired", name, "done"),
        ("kim", "silence_added", name, "moving"),
    ]
    assert len(ask(readings, "/api/v1/audit?limit=1").json()["entries"]) == 1


def incident(readings: FakeReadings) -> OutboxEntry:
    """One that fires, and whose notification was given up."""
    entry = OutboxEntry(channel="oncall", notification=notification())

    async def put() -> None:
        state = RuleState("firing", 5, 5, None, 5, 5)
        await readings.store.commit(0, Commit({AlertKey("PayLow"): state}, entries=(entry,)))
        await readings.store.dead_letter(entry, "HTTP 403")

    asyncio.run(put())
    return entry


def test_an_incident_is_acknowledged(readings: FakeReadings) -> None:
    incident(readings)
    seen = ask(readings, "/api/v1/alerts/ack", "POST", json={"rule": "PayLow", "author": "kim", "reason": "looking"})
    assert (seen.status_code, seen.json()["acknowledged_by"]) == (200, "kim")


def test_a_dead_letter_is_listed_and_sent_again(readings: FakeReadings) -> None:
    entry = incident(readings)
    listed = ask(readings, "/api/v1/alerts/dead-letters").json()["dead_letters"]
    assert [(one["id"], one["error"]) for one in listed] == [(entry.id, "HTTP 403")]
    assert ask(readings, "/api/v1/alerts/dead-letters", "POST", json={"id": entry.id, "author": "kim"}).status_code == 200
    assert ask(readings, "/api/v1/alerts/dead-letters").json()["dead_letters"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/api/v1/silences", SILENCE | {"matchers": {}}, 400, "at least one of rule, funnel"),
        ("POST", "/api/v1/silences", SILENCE | {"matchers": {"city": "x"}}, 400, "Extra inputs"),
        ("POST", "/api/v1/silences", SILENCE | {"ends": "2020-01-01T00:00:00Z"}, 400, "not in the past"),
        ("POST", "/api/v1/silences", SILENCE | {"ends": "2100-01-01T00:00:00"}, 400, "timezone"),
        ("POST", "/api/v1/silences", SILENCE | {"reason": ""}, 400, "at least 1 character"),
        ("DELETE", "/api/v1/silences/none?author=kim", None, 404, "no silence of that id"),
        ("DELETE", "/api/v1/silences/none", None, 400, "author"),
        ("POST", "/api/v1/alerts/ack", {"rule": "None", "author": "kim"}, 404, "no such alert"),
        ("POST", "/api/v1/alerts/ack", {"rule": "PayLow"}, 400, "author"),
        ("POST", "/api/v1/alerts/dead-letters", {"id": "none", "author": "kim"}, 404, "no dead letter of that id"),
    ],
)
def test_what_cannot_be_done_is_said(
    readings: FakeReadings, method: str, path: str, body: dict[str, Any] | None, status: int, said: str
) -> None:
    assert said in problem(ask(readings, path, method, json=body), status)
    assert ask(readings, "/api/v1/audit").json()["entries"] == []


@pytest.mark.parametrize("path", ["/api/v1/silences", "/api/v1/alerts/ack", "/api/v1/alerts/dead-letters"])
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_of_another_site_changes_nothing(readings: FakeReadings, path: str, kind: str | None) -> None:
    """A browser posts forms and plain text anywhere without asking; JSON it does not, and is not let."""
    headers = {"Content-Type": kind} if kind else {}
    answer = ask(readings, path, "POST", content=json.dumps(SILENCE), headers=headers)
    assert "application/json" in problem(answer, 415)
    assert ask(readings, "/api/v1/silences").json()["silences"] == []


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize(("health", "status"), [((True, "all is well"), 200), ((False, "no partition"), 503)])
def test_a_probe_answers_by_its_status(readings: FakeReadings, path: str, health: tuple[bool, str], status: int) -> None:
    """200 or 503, and the reason in the body."""
    readings.health = health
    answer = ask(readings, path)
    assert answer.status_code == status
    assert Health.model_validate(answer.json()) == Health(ok=health[0], detail=health[1])


def test_metrics_say_which_format_they_are(readings: FakeReadings) -> None:
    """Prometheus goes by the version in the content type."""
    answer = ask(readings, "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert [answer.content] == readings.metrics()


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/page/page.js", "/page/none.js", "/api/v1/funnels", "/api/v1/funnels/none", "/metrics", "/livez"]
)
def test_every_answer_carries_the_security_headers(readings: FakeReadings, path: str) -> None:
    """Page, API and errors alike: nothing inline, nothing framed, nothing sniffed, no other origin let in."""
    headers = ask(readings, path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-cache" if path.startswith("/page/") or path == "/api/v1/funnels" else "no-store")
    assert "access-control-allow-origin" not in headers


def test_the_openapi_document_lists_every_endpoint(readings: FakeReadings) -> None:
    """Each with what it means, and with one example that is valid; no error of FastAPI's own shape."""
    document = ask(readings, "/openapi.json").json()
    assert document["info"]["version"] == "1.2.3"
    assert set(document["paths"]) == {*MODELS, *OTHER_ENDPOINTS}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            assert operation["description"]
            assert "422" not in responses
            if method == "get" and path in MODELS:
                MODELS[path].model_validate(responses["200"]["content"]["application/json"]["example"])
            if path != "/metrics":
                Problem.model_validate(responses["default"]["content"]["application/problem+json"]["example"])


@pytest.mark.parametrize(("path", "file"), [("/", "index.html"), ("/docs", "docs.html")])
def test_a_page_is_served_with_all_that_it_names(readings: FakeReadings, path: str, file: str) -> None:
    """Every script and style of a page is there, from here."""
    answer = ask(readings, path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == (PAGE / file).read_text("utf-8")
    named = re.findall(r'(?:src|href)="(page/[^"]+)"', answer.text)
    assert {n.rsplit(".", 1)[1] for n in named} == {"css", "js"}
    for name in named:
        kind = ask(readings, f"/{name}").headers["content-type"]
        assert kind.startswith("text/css" if name.endswith("css") else ("text/javascript", "application/javascript"))


def test_a_browser_asking_for_an_icon_gets_no_error(readings: FakeReadings) -> None:
    """There is none, which is no fault to report in the console."""
    assert ask(readings, "/favicon.ico").status_code == 204


@pytest.mark.parametrize("file", sorted(PAGE.iterdir()), ids=lambda f: f.name)
def test_the_page_refers_to_no_other_host(file: Path) -> None:
    """No address with a host, nothing inline that the policy would block, no text taken as markup."""
    text = file.read_text("utf-8")
    assert not re.search(r"""https?:|wss?:|["'(]//|@import""", text)
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)


def test_the_dictionary_is_told_in_the_language_asked_for(readings: FakeReadings) -> None:
    english, chinese = (Dictionary.model_validate(ask(readings, f"/api/v1/dictionary?language={code}").json()) for code in ("en", "zh"))
    assert [f.name for f in english.funnels] == [f.name for f in chinese.funnels] == [f.name for f in CONFIG.funnels]
    assert english.terms[0].meaning != chinese.terms[0].meaning
    assert ask(readings, "/api/v1/dictionary?language=xx").status_code == 400
