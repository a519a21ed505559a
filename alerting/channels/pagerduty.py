"""PagerDuty by its Events API v2: an incident there for each incident here.

All that is said of one incident carries one `dedup_key`, so a repeated trigger opens nothing new and
the resolve ends what the trigger began.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from alerting.channels.http import JsonPost
from alerting.channels.sender import Gathers, seconds_of
from alerting.message import Notification
from schemas.channel import PagerdutyChannel
from schemas.secret import reveal

DEDUP_KEY_MAX = 255
SUMMARY_MAX = 1024
SOURCE = "funnelwatch"
# PagerDuty knows four. A severity that is none of these is an error: rather woken once too often than not at all.
SEVERITIES = {
    "critical": ("critical", "page", "crit", "fatal", "emergency", "alert", "p1", "sev1"),
    "error": ("error", "err", "high", "major", "p2", "sev2"),
    "warning": ("warning", "warn", "ticket", "minor", "medium", "p3", "sev3"),
    "info": ("info", "information", "notice", "low", "debug", "none", "p4", "p5", "sev4", "sev5"),
}
_SEVERITY = {ours: theirs for theirs, all_ours in SEVERITIES.items() for ours in all_ours}


class PagerdutySender:
    """Sends one event a transition."""

    def __init__(self, name: str, channel: PagerdutyChannel) -> None:
        self.resend_seconds: int | None = None
        self.heartbeat_seconds = seconds_of(channel.heartbeat)
        self.gathers: Gathers = "nothing"
        self._key = reveal(channel.routing_key, f"channel {name!r}: routing_key")
        self._post = JsonPost(name, str(channel.url), allow=channel.allow, secrets=[self._key])

    async def send(self, *notifications: Notification) -> None:
        for notification in notifications:
            await self._post.send(json.dumps({"routing_key": self._key, **event(notification)}).encode())

    async def close(self) -> None:
        await self._post.close()


def event(notification: Notification) -> dict[str, Any]:
    """What is sent of a notification, but for the key of the receiver."""
    dedup_key = _dedup_key(notification)
    if notification.status == "resolved":
        return {"event_action": "resolve", "dedup_key": dedup_key}
    told = notification.transition
    links = (("Page", notification.link), ("Dashboard", notification.dashboard), ("Runbook", notification.runbook))
    found: dict[str, Any] = {
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "client": SOURCE,
        "payload": {
            "summary": _cut(notification.title, SUMMARY_MAX),
            "source": SOURCE,
            "severity": _SEVERITY.get(notification.severity.lower(), "error"),
            "timestamp": notification.began.isoformat(),
            "component": told.funnel,
            "group": told.stage,
            "class": told.rule,
            "custom_details": _details(notification),
        },
        "links": [{"href": address, "text": text} for text, address in links if address],
    }
    return found | ({"client_url": notification.link} if notification.link else {})


def _details(notification: Notification) -> dict[str, Any]:
    shown = notification.model_dump(
        mode="json",
        include={
            "text", "window", "basis", "rate", "low", "high", "threshold", "baseline", "numerator", "denominator", "since",
            "lost_users_per_hour", "lost_value_per_hour", "value_of", "where", "others",
        },
    )  # fmt: skip
    return {name: value for name, value in shown.items() if value not in (None, "", [])}


def _dedup_key(notification: Notification) -> str:
    key = notification.incident or notification.key.rpartition("/")[0]
    return key if len(key) <= DEDUP_KEY_MAX else hashlib.sha256(key.encode()).hexdigest()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
