"""Lists of the API: page by page, and made once a tick."""

from __future__ import annotations

import httpx
import pytest

from schemas.report import Transition
from streams.web.alerts import AUDIT_MAX
from streams.web.api import create_api
from tests.unit.test_web import TRANSITION, FakeReadings, ask, problem


@pytest.fixture
def readings() -> FakeReadings:
    return FakeReadings()


def next_of(link: str | None) -> str | None:
    """The address of the next page."""
    return None if link is None else link.removeprefix("<").removesuffix('>; rel="next"')


def test_funnels_come_page_by_page_in_the_order_of_the_config(readings: FakeReadings) -> None:
    first = ask(readings, "/api/v1/funnels?limit=1")
    assert [f["name"] for f in first.json()["funnels"]] == ["purchase"]
    second = ask(readings, next_of(first.headers["link"]) or "")
    assert [f["name"] for f in second.json()["funnels"]] == ["bare: größer"]
    assert "link" not in second.headers
    assert "there is no funnel 'none'" in problem(ask(readings, "/api/v1/funnels?after=none"), 404)


async def transitions(limit: int) -> list[Transition]:
    return [TRANSITION.model_copy(update={"rule": f"R{number}"}) for number in range(7)][:limit]


def test_transitions_come_page_by_page_newest_first(readings: FakeReadings) -> None:
    readings.transitions = transitions  # type: ignore[method-assign]
    path: str | None = "/api/v1/alerts?limit=3"
    pages = []
    while path is not None:
        answer = ask(readings, path)
        pages.append([t["rule"] for t in answer.json()["transitions"]])
        path = next_of(answer.headers.get("link"))
    assert pages == [["R0", "R1", "R2"], ["R3", "R4", "R5"], ["R6"]]


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/api/v1/alerts", 1000),
        ("/api/v1/alerts/dead-letters", 1000),
        ("/api/v1/audit", AUDIT_MAX),
        ("/api/v1/silences", 1000),
        ("/api/v1/funnels", 500),
    ],
)
def test_a_page_has_its_limits(readings: FakeReadings, path: str, most: int) -> None:
    assert ask(readings, f"{path}?limit={most}").status_code == 200
    assert f"less than or equal to {most}" in problem(ask(readings, f"{path}?limit={most + 1}"), 400)
    assert "greater than or equal to 1" in problem(ask(readings, f"{path}?limit=0"), 400)


async def test_the_list_is_made_once_a_tick_whoever_asks(readings: FakeReadings) -> None:
    made = []
    listed = readings.summaries
    readings.summaries = lambda: made.append(1) or listed()  # type: ignore[method-assign,func-returns-value]

    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_api(readings, "1")), base_url="http://funnelwatch") as client:
        for _ in range(3):
            assert (await client.get("/api/v1/funnels")).status_code == 200
        assert len(made) == 1
        await readings.hub.publish()
        await client.get("/api/v1/funnels")
    assert len(made) == 2


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("PUT", "/api/v1/silences", "GET, POST"), ("OPTIONS", "/api/v1/alerts/dead-letters", "GET, POST"), ("POST", "/api/v1/audit", "GET")],
)
def test_a_wrong_method_is_told_all_right_ones(readings: FakeReadings, method: str, path: str, allowed: str) -> None:
    answer = ask(readings, path, method)
    problem(answer, 405)
    assert answer.headers["allow"] == allowed


def test_who_ends_a_silence_may_not_have_control_characters_in_the_name(readings: FakeReadings) -> None:
    assert "has control characters" in problem(ask(readings, "/api/v1/silences/x?author=a%07", "DELETE"), 400)
