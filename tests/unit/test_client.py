"""The typed client against the real API of a shop in memory, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

import httpx
import pytest

from schemas.errors import FunnelwatchError, ServiceBusy, ServiceUnreachable, UsageError
from schemas.live import Reports, Tick
from schemas.report import Alerts
from streams.client import Funnelwatch
from streams.process import free_port
from tests.browser.serving import Service
from tests.browser.shop import Shop


@pytest.fixture(scope="module")
def shop() -> Iterator[Service]:
    with Service(Shop()) as service:
        yield service


@pytest.fixture
def service(shop: Service) -> Iterator[Funnelwatch]:
    with Funnelwatch(shop.url, token="") as made:
        yield made


def answering(monkeypatch: pytest.MonkeyPatch, status: int, body: str = "{}") -> list[httpx.Request]:
    """Every request is answered so; what was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, text=body)

    real = httpx.Client

    def mocked(**options: object) -> httpx.Client:
        return real(transport=httpx.MockTransport(answer), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx, "Client", mocked)
    return asked


def test_reports_come_as_the_models_of_the_api(service: Funnelwatch) -> None:
    first, second = service.funnels()
    assert (first.name, second.name, first.dimensions) == ("purchase", "signup", ("device", "channel"))
    report = service.funnel("purchase", "5m", basis="entries", by="device")
    assert (report.window, report.basis, [value.value for value in report.values]) == ("5m", "entries", ["ios", "android", "web"])
    assert report.stages[1].step is not None
    assert report.stages[1].step.low is not None
    found = service.compare_values("purchase", "device", window="1h")
    assert [comparison.a.value for comparison in found.comparisons] == ["ios", "android", "web"]
    assert service.dictionary().funnels[0].name == "purchase"
    assert service.dictionary("zh").language == "zh"
    assert service.alerts() == Alerts(states=[], transitions=[])
    assert service.ready()


def test_history_is_read_page_by_page(service: Funnelwatch) -> None:
    to = service.funnels()[0].at
    assert to is not None
    page = service.history("purchase", to - timedelta(hours=3), to, step="1m", limit=100)
    assert (len(page.points), page.step) == (100, "1m")
    following = service.following(page)
    assert following is not None
    assert following.points[0].at == page.points[-1].at + timedelta(minutes=1)
    last = service.following(following)
    assert last is None or service.following(last) is None


def test_the_stream_gives_a_whole_state_and_then_a_tick_at_a_time(service: Funnelwatch) -> None:
    heard = list(islice(service.stream(["purchase"], "1m", by="device"), 6))
    kinds = [type(one) for one in heard]
    assert {Reports, Alerts, Tick} == set(kinds)
    reports = next(one for one in heard if isinstance(one, Reports))
    assert [(one.name, one.window, one.by) for one in reports.funnels] == [("purchase", "1m", "device")]


def test_a_stream_goes_on_when_the_service_comes_back() -> None:
    """What is heard then is a whole state again; without `reconnect` it ends, or says that nobody answers."""
    shop = Service(Shop())
    with Funnelwatch(shop.url, token="") as service:
        with pytest.raises(ServiceUnreachable):
            next(service.stream())
        shop.start()
        heard = service.stream(window="1m")
        once = service.stream(reconnect=False)
        assert isinstance(next(heard), Alerts | Reports)  # the first to join before the first tick hears no alerts
        assert next(once)
        shop.stop()
        shop.start()
        again = list(islice((one for one in heard if isinstance(one, Reports)), 2))
        assert len(again) == 2
        assert len(list(once)) < 100
        heard.close()  # type: ignore[attr-defined]  # a generator
        shop.stop()


def test_what_there_is_not_is_bad_usage_with_what_there_is(service: Funnelwatch) -> None:
    with pytest.raises(UsageError, match=r"no dimension 'phone'; there are: device, channel \(HTTP 400\)"):
        service.funnel("purchase", by="phone")
    with pytest.raises(UsageError, match="there is no funnel 'b c'"):
        service.funnel("b c")
    with pytest.raises(UsageError, match="no window '7m'"):
        next(service.stream(["purchase"], "7m"))


def test_a_token_is_sent_as_bearer_and_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, 401, '{"detail": "no token"}')
    monkeypatch.setenv("FUNNELWATCH_WEB__TOKEN", "from-the-environment")
    monkeypatch.setenv("FUNNELWATCH_WEB__PORT", "7001")
    for made in (Funnelwatch(), Funnelwatch(token="given"), Funnelwatch("http://there:1", token="")):
        with made, pytest.raises(UsageError, match=r"no token \(HTTP 401\); the token goes into FUNNELWATCH_WEB__TOKEN"):
            made.funnels()
    assert [request.headers.get("Authorization") for request in asked] == ["Bearer from-the-environment", "Bearer given", None]
    assert [str(request.url) for request in asked][1:] == ["http://127.0.0.1:7001/api/v1/funnels", "http://there:1/api/v1/funnels"]
    with pytest.raises(UsageError, match="printable ASCII"):
        Funnelwatch("http://there:1", token="tökén")


@pytest.mark.parametrize(("status", "error"), [(429, ServiceBusy), (503, ServiceBusy), (500, FunnelwatchError), (403, UsageError)])
def test_an_answer_that_may_be_another_one_later_is_retriable(
    monkeypatch: pytest.MonkeyPatch, status: int, error: type[FunnelwatchError]
) -> None:
    answering(monkeypatch, status, '{"detail": "why"}')
    with Funnelwatch("http://there", token="") as service, pytest.raises(error, match=f"why \\(HTTP {status}\\)") as raised:
        service.alerts()
    assert raised.value.retriable == (status in {429, 503})


def test_an_answer_of_another_version_or_of_another_server_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 200, '{"name": "purchase"}')
    with Funnelwatch("http://there", token="") as service:
        for ask in (lambda: service.funnel("purchase"), service.funnels):
            with pytest.raises(FunnelwatchError, match="answers in another form than this version reads"):
                ask()


def test_nobody_there_and_no_address_are_told_apart() -> None:
    with Funnelwatch(f"http://127.0.0.1:{free_port()}", token="") as service:
        assert not service.ready()
        with pytest.raises(ServiceUnreachable, match="funnelwatch worker --config"):
            service.funnels()
    with Funnelwatch("there", token="") as service, pytest.raises(UsageError, match="is no address"):
        service.funnels()
