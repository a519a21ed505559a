"""A running funnelwatch, asked over HTTP: what `rates`, `explain`, `alerts` and `silence` print and what the demo checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
from prometheus_client.parser import text_string_to_metric_families

from schemas.errors import FunnelwatchError, ServiceUnreachable, UsageError
from schemas.settings import WebSettings

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

TIMEOUT_SECONDS = 10.0
EVERY_INTERFACE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # compared with, not listened on


class Client:
    """Asks the service at `url`. Raises ServiceUnreachable, and UsageError for what it does not have."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            # Straight there: a proxy of the environment does not lead to this machine.
            self._http = httpx.Client(base_url=self.url, timeout=TIMEOUT_SECONDS, trust_env=False)
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageError(f"{url!r} is no address ({error}); write it as http://127.0.0.1:6066") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()

    def funnel(self, name: str, window: str | None = None, by: str | None = None, basis: str | None = None) -> dict[str, Any]:
        """A FunnelReport (schemas.report) as JSON."""
        params = {key: value for key, value in (("window", window), ("by", by), ("basis", basis)) if value is not None}
        found: dict[str, Any] = self._get(f"/api/v1/funnels/{quote(name, safe='')}", params).json()
        return found

    def entity(self, name: str) -> dict[str, Any]:
        """An EntityExplanation (schemas.explanation) as JSON."""
        found: dict[str, Any] = self._get(f"/api/v1/entities/{quote(name, safe='')}").json()
        return found

    def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What there is at a path, as JSON."""
        found: dict[str, Any] = self._get(path, params).json()
        return found

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the service makes of a JSON body."""
        made: dict[str, Any] = self._ask("POST", path, json=body).json()
        return made

    def delete(self, path: str, params: Mapping[str, str]) -> dict[str, Any]:
        """What there was at a path."""
        gone: dict[str, Any] = self._ask("DELETE", path, params=params).json()
        return gone

    def alerts(self) -> dict[str, list[dict[str, Any]]]:
        """`states` and `transitions`."""
        found: dict[str, list[dict[str, Any]]] = self._get("/api/v1/alerts").json()
        return found

    def metrics(self) -> list[tuple[str, Mapping[str, str], float]]:
        """(name, labels, value) of every sample of /metrics."""
        families = text_string_to_metric_families(self._get("/metrics").text)
        return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]

    def ready(self) -> bool:
        """Whether partitions are assigned and Redis answers."""
        try:
            return self._http.get("/readyz").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _get(self, path: str, params: Mapping[str, str] | None = None) -> httpx.Response:
        return self._ask("GET", path, params=params)

    def _ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **sent)
        except httpx.UnsupportedProtocol:
            raise UsageError(f"{self.url!r} is no address; write it as http://127.0.0.1:6066") from None
        except httpx.HTTPError as error:
            what = f"no funnelwatch answers at {self.url} ({type(error).__name__})"
            raise ServiceUnreachable(f"{what}: start one with `funnelwatch worker --config FILE`, or say where it is with --url") from None
        if answer.is_success:
            return answer
        raise (UsageError if answer.is_client_error else FunnelwatchError)(f"{self.url}{path}: {_detail(answer)}")


def address(web: WebSettings) -> str:
    """Where a service with these settings is reached from its own machine."""
    host = "127.0.0.1" if web.host in EVERY_INTERFACE else web.host
    return f"http://[{host}]:{web.port}" if ":" in host else f"http://{host}:{web.port}"


def _detail(answer: httpx.Response) -> str:
    """What the service says is wrong, on one line."""
    try:
        found = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        found = answer.reason_phrase
    return " ".join(str(found).split()) + f" (HTTP {answer.status_code})"
