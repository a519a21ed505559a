"""One POST of JSON to an address out of the config, trusted with nothing."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote

import httpx

from alerting.channels.guard import AddressRefused, Guard
from schemas.errors import DeliveryError, DeliveryPaused, DeliveryRefused

TIMEOUT_SECONDS = 5.0
ANSWER_BYTES_MAX = 200
SECRET_LENGTH_LEAST = 6  # a shorter word is no secret, and would spoil others
# Not the receiver's verdict on the message, but "not now": timed out, too early, too many.
NOT_NOW = frozenset({408, 425, 429})
PAUSE_SECONDS_MAX = 3600.0

# httpx logs every address it asks at INFO, and a webhook's address often holds its secret.
logging.getLogger("httpx").setLevel(logging.WARNING)


class JsonPost:
    """Posts JSON to one address. A send takes 5 s at most, however slowly the answer drips."""

    def __init__(
        self, channel: str, url: str, headers: Mapping[str, str] | None = None, allow: Iterable[str] = (), secrets: Iterable[str] = ()
    ) -> None:
        self._channel = channel
        self._url = url
        # Some receivers answer with what they were asked, and what they answer is told.
        self._untold = sorted(_untold(httpx.URL(url), headers or {}, secrets), key=len, reverse=True)
        # Proxies and credentials come from the config or not at all, never from a shell that happened to be set up.
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
            transport=GuardedTransport(Guard(allow, [host_of(httpx.URL(url))])),
        )
        self._headers = _with(httpx.Headers({"Content-Type": "application/json"}), headers or {})

    async def send(self, body: bytes, headers: Mapping[str, str] | None = None) -> float | None:
        """The receiver's own time in seconds since the epoch, if it says it.

        Raises DeliveryError (no answer, 5xx, 429) or DeliveryRefused (any other answer but 2xx, an address not to be reached)."""
        try:
            return await asyncio.wait_for(self._post(body, _with(self._headers, headers or {})), TIMEOUT_SECONDS)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            raise DeliveryError(self._channel, f"no answer within {TIMEOUT_SECONDS:g} s") from None
        except AddressRefused as error:
            raise DeliveryRefused(self._channel, str(error)) from None
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise DeliveryRefused(self._channel, f"cannot be asked at all ({error}); mend its url and headers") from None
        except (httpx.HTTPError, OSError) as error:
            raise DeliveryError(self._channel, f"no answer ({error or type(error).__name__})") from None

    async def _post(self, body: bytes, headers: httpx.Headers) -> float | None:
        async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
            if not response.is_success:
                raise await self._failure(response)
            return _time(response.headers.get("date", ""))

    async def _failure(self, response: httpx.Response) -> DeliveryError:
        what = f"HTTP {response.status_code}{await self._beginning(response)}"
        if response.is_server_error or response.status_code in NOT_NOW:
            seconds = pause_seconds(response.headers.get("retry-after", ""), time.time())
            return DeliveryError(self._channel, what) if seconds is None else DeliveryPaused(self._channel, what, seconds)
        if response.is_redirect:
            return DeliveryRefused(self._channel, f"{what}: redirects are not followed; write the final address")
        return DeliveryRefused(self._channel, what)

    async def _beginning(self, response: httpx.Response) -> str:
        """The first bytes of what a receiver says, as a quoted text, without our secrets; raw, so that nothing is unpacked."""
        async for chunk in response.aiter_raw(ANSWER_BYTES_MAX + max(map(len, self._untold), default=0)):
            return f" {without(self._untold, chunk.decode(errors='replace'), ANSWER_BYTES_MAX)!r}"
        return ""

    async def close(self) -> None:
        await self._client.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """Connects to addresses that were looked up and checked here, never to a name; TLS still asks for the name."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._inner = httpx.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = host_of(request.url)
        addresses = await self._guard.addresses(host, request.url.port or (443 if request.url.scheme == "https" else 80))
        failed: httpx.TransportError | None = None
        for address in addresses:
            try:
                return await self._inner.handle_async_request(_at(request, host, address, TIMEOUT_SECONDS / len(addresses)))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
        raise failed or httpx.ConnectError("no address")

    async def aclose(self) -> None:
        await self._inner.aclose()


def host_of(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii")


def _at(request: httpx.Request, host: str, address: str, connect_seconds: float) -> httpx.Request:
    """The request to one address of its host; its `Host` header, made from the name, stays."""
    extensions = dict(request.extensions)
    extensions["timeout"] = {**extensions.get("timeout", {}), "connect": connect_seconds}
    if host != address:
        extensions["sni_hostname"] = host
    url = request.url.copy_with(host=address)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


def pause_seconds(retry_after: str, now: float) -> float | None:
    """What a header `Retry-After` asks for, an hour at most: seconds, or an HTTP date (RFC 9110, 10.2.3)."""
    if retry_after.isascii() and retry_after.strip().isdigit():
        return min(PAUSE_SECONDS_MAX, float(retry_after))
    until = _time(retry_after)
    return None if until is None else min(PAUSE_SECONDS_MAX, max(0.0, until - now))


def _time(date: str) -> float | None:
    """An HTTP date in seconds since the epoch."""
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def _with(headers: httpx.Headers, more: Mapping[str, str]) -> httpx.Headers:
    """Headers with others added or put in their place; values in UTF-8, since httpx takes texts for ASCII."""
    merged = headers.copy()
    merged.update([(name.encode(), value.encode()) for name, value in more.items()])
    return merged


def _untold(url: httpx.URL, headers: Mapping[str, str], secrets: Iterable[str]) -> set[str]:
    """What of an address and its headers may be a secret: as it is sent, and as it may come back decoded."""
    target = url.raw_path.decode("ascii")
    parts = (url.userinfo.decode("ascii"), url.password, target, unquote(target), *url.params.values(), *target.split("="))
    return {part for part in (*parts, *headers.values(), *secrets) if len(part) >= SECRET_LENGTH_LEAST}


def without(secrets: Sequence[str], text: str, length: int) -> str:
    """The first characters of a text, each secret that begins among them as ***; the longest first where several do."""
    found, at = "", 0
    for secret in re.finditer("|".join(map(re.escape, secrets)), text) if secrets else ():
        if secret.start() >= length:
            break
        found += text[at : secret.start()] + "***"
        at = secret.end()
    return found + text[at : max(at, length)]
