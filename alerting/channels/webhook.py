"""The JSON document of an alert (see `document`) posted to an address, once a transition, signed if there is a secret.

`Idempotency-Key` repeats the document's `key`: it is the same at every try, so a receiver that has seen
it can drop the request. With a `secret`:

    X-Funnelwatch-Timestamp: seconds since the epoch at which this try was made
    X-Funnelwatch-Signature: v1=HMAC-SHA256(secret, timestamp + "." + body), in hexadecimal

A receiver compares the signature in constant time and refuses a timestamp that is minutes old, so that
a request overheard cannot be sent again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from alerting.channels.document import document
from alerting.channels.http import JsonPost
from alerting.channels.sender import Gathers, seconds_of
from alerting.message import Notification
from schemas.channel import WebhookChannel
from schemas.secret import reveal

TIMESTAMP, SIGNATURE = "X-Funnelwatch-Timestamp", "X-Funnelwatch-Signature"


class WebhookSender:
    """Posts each notification once; whether it must be tried again is the outbox's business."""

    def __init__(self, name: str, channel: WebhookChannel, clock: Callable[[], float]) -> None:
        self.resend_seconds: int | None = None
        self.heartbeat_seconds = seconds_of(channel.heartbeat)
        self.gathers: Gathers = "nothing"
        self._clock = clock
        secret = None if channel.secret is None else reveal(channel.secret, f"channel {name!r}: secret")
        self._secret = None if secret is None else secret.encode()
        self._post = JsonPost(name, str(channel.url), channel.headers, channel.allow, () if secret is None else (secret,))

    async def send(self, *notifications: Notification) -> None:
        for notification in notifications:
            body = document(notification)
            await self._post.send(body, {"Idempotency-Key": notification.key, **self._signed(body)})

    def _signed(self, body: bytes) -> dict[str, str]:
        if self._secret is None:
            return {}
        timestamp = str(int(self._clock()))
        return {TIMESTAMP: timestamp, SIGNATURE: signature(self._secret, timestamp, body)}

    async def close(self) -> None:
        await self._post.close()


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """What the header of a signed request says."""
    return f"v1={hmac.new(secret, timestamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"
