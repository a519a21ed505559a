"""A JSON document posted to an address, once a transition.

    {"version": 1, "key": …, "status": "firing"|"resolved", "transition": {…}, "severity": …,
     "title": …, "text": …, "link": …}

The header `Idempotency-Key` repeats `key`: it is the same at every try, so a receiver that has
seen it can drop the request.
"""

from __future__ import annotations

import json

from alerting.channels.http import JsonPost
from alerting.message import Notification
from schemas.rule import WebhookChannel

VERSION = 1


class WebhookSender:
    """Posts each notification once; whether it must be tried again is the outbox's business."""

    def __init__(self, name: str, channel: WebhookChannel) -> None:
        self.resend_seconds: int | None = None
        self._post = JsonPost(name, str(channel.url), channel.headers)

    async def send(self, notification: Notification) -> None:
        told = notification.model_dump(mode="json", exclude={"began", "runbook"})
        await self._post.send(json.dumps({"version": VERSION, **told}).encode(), {"Idempotency-Key": notification.key})

    async def close(self) -> None:
        await self._post.close()
