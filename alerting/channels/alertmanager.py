"""Prometheus Alertmanager by its API v2: it groups, silences, inhibits and passes on.

Alertmanager takes an alert for over once its `endsAt` has passed, so a firing alert is posted
again every `resend`, each time with an end three resends away: one lost post changes nothing, and
a monitor that is gone for good leaves no alert behind. A resolved one is posted again for 15 minutes,
as Prometheus does it, for an Alertmanager that was not there when it was resolved.

It compares `endsAt` with its own clock, so it is written by that, which its answers tell: were ours ten
minutes behind, what fires would arrive as over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from alerting.channels.http import JsonPost
from alerting.channels.sender import Gathers, seconds_of
from alerting.message import DEAD_MAN, Notification
from alerting.reports import moment
from schemas.channel import AlertmanagerChannel
from schemas.duration import MICROS

RESENDS_KEPT = 3
CLOCK_SECONDS = 1  # to which its answers tell the time
SOURCE = "funnelwatch"


class AlertmanagerSender:
    """Posts alerts, several at once where they wait; what tells alerts apart are their labels."""

    def __init__(
        self, name: str, channel: AlertmanagerChannel, clock: Callable[[], float], steady: Callable[[], float] = time.monotonic
    ) -> None:
        self.resend_seconds: int | None = int(channel.resend)
        self.heartbeat_seconds = seconds_of(channel.heartbeat)
        self.gathers: Gathers = "alerts"
        self._resend_seconds = int(channel.resend)
        self._clock, self._steady = clock, steady
        self._ahead: float | None = None  # how far its clock is ahead of `steady`
        self._post = JsonPost(name, f"{str(channel.url).rstrip('/')}/api/v2/alerts", allow=channel.allow)

    async def send(self, *notifications: Notification) -> None:
        supposed = self._now()
        await self._say(notifications)
        if abs(self._now() - supposed) > self._resend_seconds + CLOCK_SECONDS:
            await self._say(notifications)

    async def _say(self, notifications: Sequence[Notification]) -> None:
        answered = await self._post.send(json.dumps([self.alert(notification) for notification in notifications]).encode())
        if answered is not None:
            self._ahead = answered + CLOCK_SECONDS / 2 - self._steady()

    def _now(self) -> float:
        """Its time; ours until it has told."""
        return self._clock() if self._ahead is None else self._steady() + self._ahead

    def alert(self, notification: Notification) -> dict[str, Any]:
        """The alert as Alertmanager's OpenAPI document wants it."""
        now_us = int(self._now() * MICROS)
        # Event time may run ahead of this clock, and an alert that ends before it starts is refused.
        starts = min(notification.began, moment(now_us))
        if notification.status == "firing":
            ends = moment(now_us + self._kept_us(notification))
        else:
            ends = max(starts, min(notification.ended or moment(now_us), moment(now_us)))
        alert: dict[str, Any] = {
            "labels": _labels(notification),
            "annotations": _annotations(notification),
            "startsAt": _rfc3339(starts),
            "endsAt": _rfc3339(ends),
        }
        return alert | ({"generatorURL": notification.link} if notification.link else {})

    def _kept_us(self, notification: Notification) -> int:
        beat = self.heartbeat_seconds if notification.transition.rule == DEAD_MAN else None
        return RESENDS_KEPT * (beat or self._resend_seconds) * MICROS

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
    # To Alertmanager an empty label is none.
    return {name: value for name, value in labels.items() if value}


def _annotations(notification: Notification) -> dict[str, str]:
    annotations = {
        "summary": notification.title,
        "description": notification.text,
        "runbook_url": notification.runbook,
        "dashboard_url": notification.dashboard,
    }
    return {name: value for name, value in annotations.items() if value}


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
