"""History and comparisons over HTTP, and answers that need not be sent again."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest

from schemas.history import ComparisonReport, HistoryReport
from streams.web.history import _plain, prefers_csv
from tests.parts.answering import ShopReadings
from tests.parts.record import BEGIN, Shop

HISTORY, COMPARE = "/api/v1/funnels/f/history", "/api/v1/funnels/f/compare"


@pytest.fixture(scope="module")
def readings() -> ShopReadings:
    async def open_for_hours() -> Shop:
        shop = Shop()
        await shop.run(3 * 3600, every=30)
        return shop

    return ShopReadings(asyncio.run(open_for_hours()))


def ask(readings: ShopReadings, path: str, headers: dict[str, str] | None = None, **query: Any) -> httpx.Response:
    async def go() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(readings.app()), base_url="http://funnelwatch") as client:
            return await client.get(path, params=query or None, headers=headers)

    return asyncio.run(go())


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(BEGIN + seconds, timezone.utc).isoformat()


def test_history_is_that_of_the_last_hour_by_default(readings: ShopReadings) -> None:
    answer = ask(readings, HISTORY)
    found = HistoryReport.model_validate(answer.json())
    assert (found.step, found.window, found.basis, found.by) == ("1m", "1m", "users", None)
    assert len(found.points) + found.gaps == 61
    assert answer.json()["from"] == moment(2 * 3600).replace("+00:00", "Z")
    assert found.next is None


def test_pages_are_followed_by_their_addresses(readings: ShopReadings) -> None:
    """Each names the next in its body and its Link header, to the same end; together they are the whole."""
    whole = ask(readings, HISTORY, window="5m", step="5m", **{"from": moment(0)}).json()
    assert len(whole["points"]) == 36
    found: list[Any] = []
    answer = ask(readings, HISTORY, window="5m", step="5m", limit=10, **{"from": moment(0)})
    pages = 1
    while True:
        page = answer.json()
        found += page["points"]
        if page["next"] is None:
            break
        assert answer.headers["link"] == f'<{page["next"]}>; rel="next"'
        answer = ask(readings, page["next"])
        pages += 1
    assert found == whole["points"]
    assert pages == 4
    assert "link" not in answer.headers


def test_a_table_has_a_line_for_each_point_value_and_stage(readings: ShopReadings) -> None:
    asked = {"window": "5m", "by": "device", "basis": "entries"}
    answer = ask(readings, HISTORY, format="csv", **asked)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="f-entries-5m-device-history.csv"'
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    points = HistoryReport.model_validate(ask(readings, HISTORY, **asked).json()).points
    assert len(lines) == 2 * sum(1 + len(point.values) for point in points)
    pay = points[0].stages[1]
    assert pay.step is not None
    assert lines[1]["stage"] == "pay"
    assert (lines[1]["value"], lines[1]["numerator"], lines[1]["rate"]) == ("", str(pay.step.numerator), str(pay.step.rate))
    assert {line["value"] for line in lines} == {"", "ios", "web"}


@pytest.mark.parametrize(
    ("accept", "preferred"),
    [
        ("text/csv", True),
        ("text/csv, application/json;q=0.9", True),
        ("application/json, text/csv;q=0.5", False),
        ("*/*", False),
        ("", False),
        ("text/csv;q=0, */*", False),
        ("text/csv;q=nonsense", False),
        (",;=,q", False),
    ],
)
def test_a_caller_that_would_rather_have_a_table_gets_one(readings: ShopReadings, accept: str, preferred: bool) -> None:
    assert prefers_csv(accept) is preferred
    answer = ask(readings, HISTORY, {"Accept": accept})
    assert answer.headers["content-type"].startswith("text/csv" if preferred else "application/json")
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_no_value_becomes_a_formula_in_a_spreadsheet(text: str) -> None:
    assert _plain(text) == f"'{text}"
    assert _plain("ios") == "ios"


@pytest.mark.parametrize(
    ("path", "query", "status", "said"),
    [
        ("/api/v1/funnels/none/history", {}, 404, "there is no funnel 'none'"),
        (HISTORY, {"window": "7m"}, 400, "no window '7m'; there are: 1m, 5m, 1h, 2h"),
        (HISTORY, {"basis": "people"}, 400, "no basis 'people'"),
        (HISTORY, {"by": "city"}, 400, "no dimension 'city'; there are: device"),
        (HISTORY, {"step": "7m"}, 400, "there is no step '7m'"),
        (HISTORY, {"from": "2020-01-01T00:00:00Z", "step": "1m"}, 400, "kept for 48 h"),
        (HISTORY, {"from": "9999-12-31T23:59:59Z"}, 400, "is later than `to`"),
        (HISTORY, {"from": "0001-01-01T00:00:00Z", "to": "0001-01-02T00:00:00Z", "step": "1h"}, 400, "kept for 2160 h"),
        (HISTORY, {"from": "2020-01-01T00:00:00"}, 400, "timezone"),
        (HISTORY, {"from": "soon"}, 400, "query from"),
        (HISTORY, {"limit": "1001"}, 400, "less than or equal to 1000"),
        (HISTORY, {"format": "xml"}, 400, "query format"),
        (COMPARE, {"basis": "people"}, 400, "no basis 'people'"),
        (COMPARE, {"by": "city"}, 400, "no dimension 'city'"),
        (COMPARE, {"value": "ios"}, 400, "say which, with `by`"),
        (COMPARE, {"by": "device", "against_value": "ios"}, 400, "needs a `value`"),
        (COMPARE, {"by": "device", "value": "tv"}, 400, "no device 'tv' was counted; there are: ios, web"),
        (COMPARE, {"against": "tomorrow"}, 400, "no period 'tomorrow'; there are: previous, yesterday, last_week"),
        (COMPARE, {"from": "2020-01-01T00:00:00Z"}, 400, "`from` and `to` go together"),
        (COMPARE, {"from": "2020-01-02T00:00:00Z", "to": "2020-01-01T00:00:00Z"}, 400, "the earlier one first"),
        (COMPARE, {"from": "9998-01-01T00:00:00Z", "to": "9999-01-01T00:00:00Z"}, 400, "is no period before the newest counts"),
        (COMPARE, {"basis": "users", "window": "5m", "against": "last_week"}, 400, "nothing was recorded"),
    ],
)
def test_what_cannot_be_had_is_a_problem_that_says_what_can(
    readings: ShopReadings, path: str, query: dict[str, str], status: int, said: str
) -> None:
    answer = ask(readings, path, **query)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.json()["detail"]


def test_a_comparison_says_how_many_were_compared(readings: ShopReadings) -> None:
    found = ComparisonReport.model_validate(ask(readings, COMPARE, by="device", window="1h").json())
    assert (found.compared, found.tests, found.basis) == (2, 2, "entries")
    assert [pair.steps[0].significant for pair in found.comparisons] == [True, True]


@pytest.mark.parametrize(
    "path",
    ["/api/v1/funnels", "/api/v1/funnels/f?by=device", HISTORY, f"{HISTORY}?format=csv", COMPARE, "/api/v1/funnels/f?basis=adjusted"],
)
def test_what_a_caller_has_is_not_sent_again(readings: ShopReadings, path: str) -> None:
    """304 for its tag, alone, weak or among others; the whole for any other."""
    first = ask(readings, path)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = ask(readings, path, {"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert ask(readings, path, {"If-None-Match": '"x"'}).content == first.content


def test_a_late_event_is_in_the_history_of_the_next_tick() -> None:
    """A point that was answered is answered anew: what its window holds may still change."""

    async def go() -> None:
        readings = ShopReadings()
        await readings.shop.run(600)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(readings.app()), base_url="http://funnelwatch") as client:

            async def opened() -> list[int]:
                answer = await client.get(HISTORY, params={"window": "5m", "basis": "entries"})
                return [point["stages"][0]["entries"] for point in answer.json()["points"]]

            await readings.hub.publish()
            before = await opened()
            assert await opened() == before
            late_us = readings.shop.at_us - 300 * 1_000_000
            counts = readings.shop.reader.views["web"].counts["f"]
            for kept in counts.plan.kept:
                counts.add(kept.seconds, late_us // (kept.seconds * 1_000_000), {"e0": 1})
            await readings.hub.publish()
            gained = [now - then for then, now in zip(before, await opened())]
            assert gained == [0] * (len(gained) - 5) + [1] * 5

    asyncio.run(go())


def test_json_and_table_of_one_page_do_not_take_each_others_place(readings: ShopReadings) -> None:
    asked = {"window": "5m", "by": "device", "basis": "entries"}
    for _ in range(2):
        assert ask(readings, HISTORY, **asked).json()["points"]
        assert ask(readings, HISTORY, format="csv", **asked).text.startswith("at,value,stage")


def test_history_is_written_as_its_schema_writes_it(readings: ShopReadings) -> None:
    for basis in ("users", "entries", "adjusted"):
        text = ask(readings, HISTORY, window="1h", by="device", basis=basis).text
        assert HistoryReport.model_validate_json(text).model_dump_json() == text


def test_a_report_is_made_once_a_tick_whoever_asks() -> None:
    async def go() -> None:
        readings = ShopReadings()
        await readings.shop.run(120)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(readings.app()), base_url="http://funnelwatch") as client:
            for ticks in (1, 2):
                await readings.shop.run(10)
                await readings.hub.publish()
                answers = [await client.get("/api/v1/funnels/f", params={"window": "5m"}) for _ in range(5)]
                assert len({answer.headers["etag"] for answer in answers}) == 1
                assert readings.reported == ticks
                assert answers[0].json()["stages"][0]["users"] == 120 + 10 * ticks

    asyncio.run(go())
