"""The stream: what a client is sent and when, once computed for all; who does not keep up is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import httpx
import pytest
from fastapi import HTTPException

from schemas.config import parse
from schemas.errors import StoreUnavailable
from streams.web import stream
from streams.web.stream import OFFERED_AT_ONCE, TICKS_BUFFERED_MAX, Full, select
from streams.web.views import asked_of
from tests.parts.alerts import until
from tests.parts.answering import ShopReadings
from tests.parts.lines import Page

Listen = Callable[..., Page]

CONFIG = parse("""
sources: [{name: web, topic: clicks}]
funnels:
  - {name: a, source: web, conversion_window: 5m, windows: [1m, 1h], dimensions: {device: properties.device},
     stages: [{name: x, event: x}, {name: y, event: y}]}
  - {name: b, source: web, conversion_window: 5m, windows: [5m, 1h], stages: [{name: x, event: x}, {name: y, event: y}]}
""")


@pytest.fixture
async def readings() -> ShopReadings:
    readings = ShopReadings()
    await readings.shop.run(120)
    await readings.hub.publish()
    return readings


def selected(readings: ShopReadings, window: str = "5m") -> stream.Selection:
    return select(readings.config, ["f"], window, "users", None)


@pytest.fixture
async def listen(readings: ShopReadings) -> AsyncIterator[Listen]:
    """Have a page listen to a selection; whoever still does at the end is let go."""
    pages: list[Page] = []

    def joined(selection: stream.Selection | None = None, last_id: str = "") -> Page:
        pages.append(Page(readings.hub.join(selection or selected(readings), last_id)))
        return pages[-1]

    yield joined
    for page in pages:
        page.client.end()
    await asyncio.gather(*(page.listening for page in pages))


async def test_who_comes_gets_the_whole_state_at_once(readings: ShopReadings, listen: Listen) -> None:
    first = listen()
    await readings.hub.publish()  # reads the alerts, now that somebody listens
    assert await first.names() == ["hello", "funnels", "tick", "alerts", "tick"]
    events = await listen().events()
    assert [name for name, _, _ in events] == ["hello", "alerts", "funnels", "tick"]
    assert events[2][2]["funnels"][0]["stages"][0]["users"] == 120
    assert events[1][2] == {"states": [], "transitions": []}


async def test_only_what_changed_is_sent_again_and_the_tick_always(readings: ShopReadings, listen: Listen) -> None:
    page = listen()
    await readings.hub.publish()
    await page.events()
    await readings.hub.publish()
    assert await page.names() == ["tick"]
    await readings.shop.run(10)
    await readings.hub.publish()
    events = await page.events()
    assert [name for name, _, _ in events] == ["funnels", "tick"]
    assert events[0][2]["funnels"][0]["stages"][0]["users"] == 130
    readings.alerts = b'{"states":[],"transitions":[1]}'
    await readings.hub.publish()
    assert await page.names() == ["alerts", "tick"]


async def test_who_comes_back_with_the_newest_state_is_not_sent_it_again(readings: ShopReadings, listen: Listen) -> None:
    events = await listen().events()
    tag = next(tag for name, tag, _ in events if name == "funnels")
    assert "funnels" not in await listen(last_id=tag).names()
    assert "funnels" in await listen(last_id='"older"').names()


async def test_a_report_is_computed_once_a_tick_for_all_who_listen(readings: ShopReadings, listen: Listen) -> None:
    pages = [listen() for _ in range(50)] + [listen(selected(readings, "1h")) for _ in range(50)]
    assert readings.reported == 2
    for tick in range(1, 4):
        await readings.shop.run(10)
        await readings.hub.publish()
        assert readings.reported == 2 + 2 * tick
    heard = [(await page.names()).count("funnels") for page in pages]
    assert heard == [4] * 100
    assert readings.hub.clients == 100


async def test_while_nobody_listens_nothing_is_computed(readings: ShopReadings, listen: Listen) -> None:
    readings.hub.leave(listen().client)
    reported = readings.reported
    for _ in range(3):
        await readings.hub.publish()
    assert (readings.reported, readings.hub.clients) == (reported, 0)


async def test_who_does_not_keep_up_is_dropped_and_nobody_waits(readings: ShopReadings, listen: Listen) -> None:
    slow, quick = listen(), listen()
    slow.line.taking = False
    await asyncio.gather(slow.names(), quick.names())
    for _ in range(TICKS_BUFFERED_MAX):
        await readings.hub.publish()
    assert (readings.hub.clients, readings.hub.dropped, slow.client.gone) == (2, 0, False)
    await readings.hub.publish()
    assert (readings.hub.clients, readings.hub.dropped, slow.client.gone) == (1, 1, True)
    assert slow.line.aborted.is_set()
    await asyncio.wait_for(slow.listening, 5)
    assert (await quick.names()).count("tick") == TICKS_BUFFERED_MAX + 1
    slow.line.taken()
    await readings.hub.publish()
    assert await slow.names() == []
    assert await quick.names() == ["tick"]


async def test_who_is_behind_and_catches_up_goes_on(readings: ShopReadings, listen: Listen) -> None:
    page = listen()
    for _ in range(4):
        page.line.taking = False
        for _ in range(TICKS_BUFFERED_MAX):
            await readings.hub.publish()
        page.line.catch_up()
    assert (await page.names()).count("tick") == 1 + 4 * TICKS_BUFFERED_MAX
    assert readings.hub.dropped == 0


async def test_who_has_yet_to_be_answered_misses_nothing_and_is_not_waited_for_for_ever(readings: ShopReadings) -> None:
    """The answer begins a little after the client is known."""
    client = readings.hub.join(selected(readings))
    for _ in range(2):
        await readings.hub.publish()
    page = Page(client)
    assert await page.names() == ["hello", "funnels", "tick", "alerts", "tick", "tick"]
    client.end()
    await asyncio.wait_for(page.listening, 5)
    never = readings.hub.join(selected(readings))
    for _ in range(TICKS_BUFFERED_MAX):
        await readings.hub.publish()
    assert (readings.hub.dropped, never.gone) == (1, True)
    late = Page(never)
    assert await late.names() == []
    await asyncio.wait_for(late.listening, 5)


async def test_without_ticks_there_is_a_sign_of_life(readings: ShopReadings, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would cut the connection."""
    monkeypatch.setattr(stream, "PING_SECONDS", 0.01)
    page = listen()
    await page.names()
    page.line.taken()
    await until(lambda: len(page.line.chunks) > 1)
    assert {*page.line.chunks} == {stream.PING}


async def test_with_ticks_there_is_none(readings: ShopReadings, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.2)
    page = listen()
    until_at = asyncio.get_running_loop().time() + 0.5
    while asyncio.get_running_loop().time() < until_at:
        await readings.hub.publish()
        await asyncio.sleep(0.01)
    assert stream.PING not in page.line.taken()


async def test_there_is_a_limit_on_clients_and_on_different_reports(readings: ShopReadings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CLIENTS_MAX", 2)
    clients = [readings.hub.join(selected(readings)) for _ in range(2)]
    with pytest.raises(Full):
        readings.hub.join(selected(readings))
    readings.hub.leave(clients[0])
    monkeypatch.setattr(stream, "REPORTS_MAX", 1)
    with pytest.raises(Full):
        readings.hub.join(selected(readings, "1h"))
    readings.hub.join(selected(readings))


async def test_a_client_too_many_is_told_to_come_later(readings: ShopReadings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CLIENTS_MAX", 0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(readings.app()), base_url="http://funnelwatch") as client:
        answer = await client.get("/api/v1/stream")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.headers["retry-after"] == "30"
    assert "try again later" in answer.json()["detail"]


async def test_without_redis_the_alerts_stay_as_they_were(readings: ShopReadings, listen: Listen) -> None:
    page = listen()
    await readings.hub.publish()
    await page.events()

    async def away() -> bytes:
        raise StoreUnavailable("away")

    readings.hub._alerts = away
    await readings.hub.publish()
    assert await page.names() == ["tick"]
    assert "alerts" in await listen().names()


async def test_at_the_end_everybody_gets_what_waits_and_is_let_go(readings: ShopReadings, listen: Listen) -> None:
    page = listen()
    readings.hub.close()
    assert await page.names() == ["hello", "funnels", "tick"]
    await asyncio.wait_for(page.listening, 5)
    with pytest.raises(Full):
        readings.hub.join(selected(readings))


def test_all_funnels_are_selected_each_with_what_it_has() -> None:
    chosen = select(CONFIG, [], "1m", "users", "device").reports
    assert [(r.funnel, str(r.window), r.by) for r in chosen] == [("a", "1m", "device"), ("b", "5m", None)]
    assert [r.funnel for r in select(CONFIG, ["b", "b"], None, "entries", None).reports] == ["b"]


@pytest.mark.parametrize(
    ("funnels", "window", "basis", "by", "said"),
    [
        (["none"], None, "users", None, "no funnel 'none'"),
        (["a", "b"], "1m", "users", None, "no window '1m'; there are: 5m, 1h"),
        (["b"], None, "users", "device", "no dimension 'device'"),
        ([], None, "people", None, "no basis 'people'"),
        ([], None, "users", "city", "no dimension 'city'"),
        ([], "7m", "users", None, "funnel 'a' has no window '7m'; there are: 1m, 1h"),
    ],
)
def test_what_cannot_be_listened_to_is_said(funnels: list[str], window: str | None, basis: str, by: str | None, said: str) -> None:
    with pytest.raises(HTTPException) as refused:
        select(CONFIG, funnels, window, basis, by)
    assert said in refused.value.detail


def test_views_are_selected_each_with_its_own_ways() -> None:
    views = ["a;window=1h;basis=entries;by=device", "a", "b;basis=users", "a"]
    assert [(r.funnel, str(r.window), r.by, r.basis) for r in asked_of(CONFIG, views)] == [
        ("a", "1h", "device", "entries"),
        ("a", "1m", None, "users"),
        ("b", "5m", None, "users"),
    ]


def test_signs_in_the_names_of_views_are_percent_encoded() -> None:
    odd = CONFIG.model_copy(update={"funnels": (CONFIG.funnels[0].model_copy(update={"name": "a;b=größer"}),)})
    assert asked_of(odd, ["a%3Bb%3Dgr%C3%B6%C3%9Fer;window=60s"])[0].funnel == "a;b=größer"


@pytest.mark.parametrize(
    ("view", "status", "said"),
    [
        ("none", 404, "there is no funnel 'none'"),
        ("a;window=5m", 400, "no window '5m'; there are: 1m, 1h"),
        ("b;by=device", 400, "no dimension 'device'; there are none"),
        ("a;basis=people", 400, "no basis 'people'"),
        ("a;wnidow=1m", 400, "view 'a;wnidow=1m': 'wnidow=1m' is none of window=…, basis=…, by=…"),
        ("a;window=1m;window=1h", 400, "each at most once"),
        ("a;by", 400, "write one like purchase;window=5m;basis=adjusted;by=channel"),
    ],
)
def test_a_view_that_cannot_be_had_is_told_what_there_is(view: str, status: int, said: str) -> None:
    with pytest.raises(HTTPException) as refused:
        asked_of(CONFIG, [view])
    assert refused.value.status_code == status
    assert said in refused.value.detail


async def test_one_client_hears_of_one_funnel_in_several_ways(readings: ShopReadings, listen: Listen) -> None:
    page = listen(stream.Selection(asked_of(readings.config, ["f;window=5m", "f;window=1h;by=device"])))
    (_, _, sent), *_ = [event for event in await page.events() if event[0] == "funnels"]
    assert [(report["window"], report["by"]) for report in sent["funnels"]] == [("5m", None), ("1h", "device")]


async def test_a_view_beside_the_other_parameters_is_refused(readings: ShopReadings) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(readings.app()), base_url="http://funnelwatch") as web:
        answer = await web.get("/api/v1/stream?view=f&window=5m")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert "`view` goes instead of" in answer.json()["detail"]


async def test_many_clients_are_handed_their_events_some_at_a_time(readings: ShopReadings, listen: Listen) -> None:
    """So that whoever else is on the loop has a turn in between."""
    pages = [listen() for _ in range(4 * OFFERED_AT_ONCE)]
    for page in pages:
        await page.events()
    before, seen = readings.reported, []

    async def look() -> None:
        while len(seen) < 100:
            seen.append(sum(bool(page.line.chunks) for page in pages))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await readings.shop.run(10)
    await readings.hub.publish()
    await looking
    assert readings.reported == before + 1
    steps = sorted({*seen})
    assert max(after - before for before, after in pairwise(steps)) <= OFFERED_AT_ONCE
    assert steps[-1] == len(pages)
