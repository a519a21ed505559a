"""One POST of JSON to an address out of the config, trusted with nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import httpx

from schemas.errors import DeliveryError, DeliveryRefused

TIMEOUT_SECONDS = 5.0
ANSWER_BYTES_MAX = 200
# Not the receiver's verdict on the message, but "not now": timed out, too early, too many.
NOT_NOW = frozenset({408, 425, 429})

# httpx logs every address it asks at INFO, and a webhook's address often holds its secret.
logging.getLogger("httpx").setLevel(logging.WARNING)


class JsonPost:
    """Posts JSON to one address. A send takes 5 s at most, however slowly the answer drips."""

    def __init__(self, channel: str, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._channel = channel
        self._url = url
        # Proxies and credentials come from the config or not at all, never from a shell that happened to be set up.
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)
        self._headers = _with(httpx.Headers({"Content-Type": "application/json"}), headers or {})

    async def send(self, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Raises DeliveryError (no answer, 5xx, 429) or DeliveryRefused (any other answer but 2xx)."""
        try:
            await asyncio.wait_for(self._post(body, _with(self._headers, headers or {})), TIMEOUT_SECONDS)
        except (asyncio.TimeoutError, httpx.TimeoutException):
            raise DeliveryError(self._channel, f"no answer within {TIMEOUT_SECONDS:g} s") from None
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise DeliveryRefused(self._channel, f"cannot be asked at all ({error}); mend its url and headers") from None
        except httpx.HTTPError as error:
            raise DeliveryError(self._channel, f"no answer ({error or type(error).__name__})") from None

    async def _post(self, body: bytes, headers: httpx.Headers) -> None:
        async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
            if not response.is_success:
                raise await self._failure(response)

    async def _failure(self, response: httpx.Response) -> DeliveryError:
        what = f"HTTP {response.status_code}{await _beginning(response)}"
        if response.is_server_error or response.status_code in NOT_NOW:
            return DeliveryError(self._channel, what)
        if response.is_redirect:
            return DeliveryRefused(self._channel, f"{what}: redirects are not followed; write the final address")
        return DeliveryRefused(self._channel, what)

    async def close(self) -> None:
        await self._client.aclose()


def _with(headers: httpx.Headers, more: Mapping[str, str]) -> httpx.Headers:
    """Headers with others added or put in their place; values in UTF-8, since httpx takes texts for ASCII."""
    merged = headers.copy()
    merged.update([(name.encode(), value.encode()) for name, value in more.items()])
    return merged


async def _beginning(response: httpx.Response) -> str:
    """The first bytes of what a receiver says, as a quoted text; raw, so that nothing is unpacked."""
    async for chunk in response.aiter_raw(ANSWER_BYTES_MAX):
        return f" {chunk.decode(errors='replace')!r}"
    return ""
