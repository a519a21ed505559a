"""A running funnelwatch, asked over HTTP: the typed client of scripts and notebooks, of the commands and of the demo."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import ServerSentEvent, connect_sse
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, SecretStr, ValidationError

from schemas.dictionary import Dictionary, Language
from schemas.errors import FunnelwatchError, ServiceBusy, ServiceUnreachable, UsageError
from schemas.explanation import EntityExplanation
from schemas.history import ComparisonReport, HistoryReport
from schemas.live import Reports, Tick
from schemas.report import Alerts, AlertState, AuditEntry, DeadLetterReport, FunnelReport, FunnelSummary, SilenceReport
from schemas.settings import WebSettings, load_settings
from schemas.silence import NewAcknowledgement, NewSilence, Resend, Signed

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

Model = TypeVar("Model", bound=BaseModel)
Live = Reports | Alerts | Tick
Period = tuple[datetime, datetime]

TIMEOUT_SECONDS = 10.0
SILENCE_SECONDS_MAX = 30.0  # of a stream, which says something every second
RETRY_SECONDS = 2.0
EVERY_INTERFACE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # compared with, not listened on
EVENTS: dict[str, type[Reports | Alerts | Tick]] = {"funnels": Reports, "alerts": Alerts, "tick": Tick}
BUSY = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})


class Funnelwatch:
    """Asks the service at `url`, by default the one of FUNNELWATCH_WEB__HOST and __PORT, with the token of __TOKEN.

    Every method may raise UsageError (there is no such thing, or it may not be had with this token),
    ServiceUnreachable and ServiceBusy; the last two are `retriable`.

        with Funnelwatch() as service:
            print(service.funnel("purchase", window="5m").overall.rate)
    """

    def __init__(self, url: str | None = None, *, token: str | SecretStr | None = None, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        if url is None or token is None:
            web = load_settings().web
            url, token = (address(web) if url is None else url), (web.token if token is None else token)
        secret = token.get_secret_value() if isinstance(token, SecretStr) else token
        self.url = url.rstrip("/")
        try:
            # Straight there: a proxy of the environment does not lead to this machine.
            self._http = httpx.Client(base_url=self.url, timeout=timeout_seconds, trust_env=False, headers=_bearer(secret))
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageError(f"{url!r} is no address ({error}); write it as http://127.0.0.1:6066") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    # Funnels

    def funnels(self) -> list[FunnelSummary]:
        """Every funnel, and what may be asked of it."""
        return self._list(FunnelSummary, "funnels", "/api/v1/funnels")

    def funnel(self, name: str, window: str | None = None, basis: str = "users", by: str | None = None) -> FunnelReport:
        """A funnel over one trailing window, the first of its own by default; `by` a dimension, to have its values too."""
        return self._one(FunnelReport, _funnel(name), window=window, basis=basis, by=by)

    def history(
        self,
        name: str,
        start: datetime | None = None,
        to: datetime | None = None,
        *,
        step: str | None = None,
        window: str | None = None,
        basis: str = "users",
        by: str | None = None,
        limit: int | None = None,
    ) -> HistoryReport:
        """A page of a funnel's past, by default of the last hour; `following` has the next."""
        asked = {"from": start, "to": to, "step": step, "window": window, "basis": basis, "by": by, "limit": limit}
        return self._one(HistoryReport, f"{_funnel(name)}/history", **asked)

    def following(self, page: HistoryReport) -> HistoryReport | None:
        """The page of history after this one; None at the end."""
        return None if page.next is None else self._one(HistoryReport, page.next)

    def compare_periods(
        self,
        name: str,
        period: Period | None = None,
        against: Period | str = "previous",
        *,
        window: str | None = None,
        basis: str = "entries",
        by: str | None = None,
        value: str | None = None,
    ) -> ComparisonReport:
        """A period with another one, step by step: its own length before, `yesterday`, `last_week`, or one given; `by` value by value."""
        other = {"against": against} if isinstance(against, str) else {"against_from": against[0], "against_to": against[1]}
        return self._compare(name, period, window=window, basis=basis, by=by, value=value, **other)

    def compare_values(
        self,
        name: str,
        by: str,
        value: str | None = None,
        against_value: str | None = None,
        *,
        period: Period | None = None,
        window: str | None = None,
        basis: str = "entries",
    ) -> ComparisonReport:
        """Values of a dimension, each with all others, or one with another."""
        return self._compare(name, period, window=window, basis=basis, by=by, value=value, against_value=against_value)

    def _compare(self, name: str, period: Period | None, **asked: Any) -> ComparisonReport:
        within = {} if period is None else {"from": period[0], "to": period[1]}
        return self._one(ComparisonReport, f"{_funnel(name)}/compare", **within, **asked)

    def explain(self, entity: str) -> EntityExplanation:
        """Where one entity stands in each funnel, and why it is not further."""
        return self._one(EntityExplanation, f"/api/v1/entities/{quote(entity, safe='')}")

    def dictionary(self, language: Language = "en") -> Dictionary:
        """What every number and alert means, in words."""
        return self._one(Dictionary, "/api/v1/dictionary", language=language)

    # Alerts

    def alerts(self, limit: int | None = None) -> Alerts:
        """Where every rule stands, and the last `limit` changes."""
        return self._one(Alerts, "/api/v1/alerts", limit=limit)

    def acknowledge(self, asked: NewAcknowledgement) -> AlertState:
        """Say that somebody has seen an incident."""
        return self._sent(AlertState, "/api/v1/alerts/ack", asked)

    def silences(self) -> list[SilenceReport]:
        """Every silence: active, to come, and over."""
        return self._list(SilenceReport, "silences", "/api/v1/silences")

    def add_silence(self, asked: NewSilence) -> SilenceReport:
        """Tell nobody of the alerts that match, for a while."""
        return self._sent(SilenceReport, "/api/v1/silences", asked)

    def expire_silence(self, name: str, by: Signed) -> SilenceReport:
        """End a silence now."""
        params = _given({"author": by.author, "reason": by.reason})
        return _read(SilenceReport, self._ask("DELETE", f"/api/v1/silences/{quote(name, safe='')}", params=params))

    def dead_letters(self) -> list[DeadLetterReport]:
        """Notifications that were given up, newest first."""
        return self._list(DeadLetterReport, "dead_letters", "/api/v1/alerts/dead-letters")

    def resend(self, asked: Resend) -> None:
        """Put a dead letter back among what waits to be sent."""
        self._sent(Resend, "/api/v1/alerts/dead-letters", asked)

    def audit(self, limit: int | None = None) -> list[AuditEntry]:
        """What people did to the alerts, newest first."""
        return self._list(AuditEntry, "entries", "/api/v1/audit", limit=limit)

    # Live

    def stream(
        self,
        funnels: Iterable[str] = (),
        window: str | None = None,
        basis: str = "users",
        by: str | None = None,
        *,
        reconnect: bool = True,
    ) -> Iterator[Live]:
        """Reports and alerts when they change, and a tick every second, until the caller has enough.

        What breaks after it has begun is taken up again, where it is not for the caller to do; a state is a whole one,
        so nothing is missed that still holds.
        """
        params = _given({"funnel": list(funnels), "window": window, "basis": basis, "by": by})
        last_id, retry_seconds, begun = "", RETRY_SECONDS, False
        while True:
            try:
                for event in self._events(params, last_id):
                    begun, last_id = True, event.id or last_id
                    retry_seconds = retry_seconds if event.retry is None else event.retry / 1000
                    if event.event in EVENTS:
                        yield _parsed(EVENTS[event.event], event.data, self.url)
            except (ServiceUnreachable, ServiceBusy):
                if not (begun and reconnect):
                    raise
            if not reconnect:
                return
            time.sleep(retry_seconds)

    def _events(self, params: Mapping[str, Any], last_id: str) -> Iterator[ServerSentEvent]:
        headers = {"Last-Event-ID": last_id} if last_id else {}
        timeout = httpx.Timeout(self._http.timeout.connect, read=SILENCE_SECONDS_MAX)
        try:
            with connect_sse(self._http, "GET", "/api/v1/stream", params=params, headers=headers, timeout=timeout) as source:
                if not source.response.is_success:
                    source.response.read()
                    raise _refused(self.url, "/api/v1/stream", source.response)
                yield from source.iter_sse()
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    # The service itself

    def metrics(self) -> list[tuple[str, Mapping[str, str], float]]:
        """(name, labels, value) of every sample of /metrics."""
        families = text_string_to_metric_families(self._ask("GET", "/metrics").text)
        return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]

    def ready(self) -> bool:
        """Whether partitions are assigned and Redis answers."""
        try:
            return self._http.get("/readyz").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _one(self, model: type[Model], path: str, **asked: Any) -> Model:
        # None, not {}: that would take the query off an address that has one.
        return _read(model, self._ask("GET", path, params=_given(asked) or None))

    def _list(self, model: type[Model], key: str, path: str, **asked: Any) -> list[Model]:
        answer = self._ask("GET", path, params=_given(asked))
        try:
            return [model.model_validate(one) for one in answer.json()[key]]
        except (ValueError, KeyError, TypeError):  # a ValidationError is a ValueError
            raise _strange(str(answer.url)) from None

    def _sent(self, model: type[Model], path: str, body: BaseModel) -> Model:
        return _read(model, self._ask("POST", path, json=body.model_dump(mode="json", exclude_none=True)))

    def _ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **sent)
        except httpx.UnsupportedProtocol:
            raise UsageError(f"{self.url!r} is no address; write it as http://127.0.0.1:6066") from None
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.is_success:
            return answer
        raise _refused(self.url, path, answer)

    def _unreachable(self, error: httpx.HTTPError) -> ServiceUnreachable:
        what = f"no funnelwatch answers at {self.url} ({type(error).__name__})"
        return ServiceUnreachable(f"{what}: start one with `funnelwatch worker --config FILE`, or say where it is with --url")


def address(web: WebSettings) -> str:
    """Where a service with these settings is reached from its own machine."""
    host = "127.0.0.1" if web.host in EVERY_INTERFACE else web.host
    return f"http://[{host}]:{web.port}" if ":" in host else f"http://{host}:{web.port}"


def _bearer(token: str) -> dict[str, str]:
    if not (token.isascii() and token.isprintable()):
        raise UsageError("a token is printable ASCII; copy it again into FUNNELWATCH_WEB__TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _funnel(name: str) -> str:
    return f"/api/v1/funnels/{quote(name, safe='')}"


def _given(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, as a query has it."""
    shown = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asked.items()}
    return {key: value for key, value in shown.items() if value is not None}


def _read(model: type[Model], answer: httpx.Response) -> Model:
    return _parsed(model, answer.content, str(answer.url))


def _parsed(model: type[Model], body: str | bytes, where: str) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError:
        raise _strange(where) from None


def _strange(where: str) -> FunnelwatchError:
    return FunnelwatchError(f"{where} answers in another form than this version reads; use the service's version of funnelwatch here")


def _refused(url: str, path: str, answer: httpx.Response) -> FunnelwatchError:
    kind = ServiceBusy if answer.status_code in BUSY else UsageError if answer.is_client_error else FunnelwatchError
    token = "; the token goes into FUNNELWATCH_WEB__TOKEN" if answer.status_code == httpx.codes.UNAUTHORIZED else ""
    return kind(f"{url}{path}: {_detail(answer)}{token}")


def _detail(answer: httpx.Response) -> str:
    """What the service says is wrong, on one line."""
    try:
        found = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        found = answer.reason_phrase
    return " ".join(str(found).split()) + f" (HTTP {answer.status_code})"
