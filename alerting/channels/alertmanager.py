"""Prometheus Alertmanager by its API v2: it groups, silences, inhibits and passes on.

Alertmanager takes an alert for over once its `endsAt` has passed, so a firing alert is posted
again every `resend`, each time with an end three resends away: one lost post changes nothing, and
a monitor that is gone for good leaves no alert behind.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from alerting.channels.http import JsonPost
from alerting.message import Notification
from alerting.reports import moment
from schemas.duration import MICROS
from schemas.rule import AlertmanagerChannel

RESENDS_KEPT = 3
SOURCE = "funnelwatch"


class AlertmanagerSender:
    """Posts one alert at a time; what tells alerts apart are their labels."""

    def __init__(self, name: str, channel: AlertmanagerChannel, clock: Callable[[], float]) -> None:
        self.resend_seconds: int | None = int(channel.resend)
        self._kept_us = RESENDS_KEPT * channel.resend.micros
        self._clock = clock
        self._post = JsonPost(name, f"{str(channel.url).rstrip('/')}/api/v2/alerts")

    async def send(self, notification: Notification) -> None:
        await self._post.send(json.dumps([self.alert(notification)]).encode())

    def alert(self, notification: Notification) -> dict[str, Any]:
        """The alert as Alertmanager's OpenAPI document wants it."""
        now_us = int(self._clock() * MICROS)
        ends_us = now_us + self._kept_us if notification.status == "firing" else now_us
        alert: dict[str, Any] = {
            "labels": _labels(notification),
            "annotations": _annotations(notification),
            # Event time may run ahead of this clock, and an alert that ends before it starts is refused.
            "startsAt": _rfc3339(min(notification.began, moment(now_us))),
            "endsAt": _rfc3339(moment(ends_us)),
        }
        return alert | ({"generatorURL": notification.link} if notification.link else {})

    async def close(self) -> None:
        await self._post.close()


def _labels(notification: Notification) -> dict[str, str]:
    told = notification.transition
    labels = {
        "alertname": told.rule,
        "funnel": told.funnel,
        "stage": told.stage,
        "severity": notification.severity,
        "source": SOURCE,
    }
    if told.dimension is not None and told.value is not None:
        labels |= {"dimension": told.dimension, "value": told.value}
    return labels


def _annotations(notification: Notification) -> dict[str, str]:
    annotations = {"summary": notification.title, "description": notification.text}
    return annotations | ({"runbook_url": notification.runbook} if notification.runbook else {})


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
