"""Ways to tell people: one file a channel, one way to build them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from alerting.channels.alertmanager import AlertmanagerSender
from alerting.channels.log import LogSender
from alerting.channels.webhook import WebhookSender
from alerting.message import Notification
from schemas.rule import AlertmanagerChannel, Channel, WebhookChannel

__all__ = ["Sender", "build"]


class Sender(Protocol):
    """One channel. `resend_seconds` says how often a firing alert has to be said again; None, only once."""

    resend_seconds: int | None

    async def send(self, notification: Notification) -> None:
        """Tell it. Raises DeliveryError if it has to be tried again, DeliveryRefused if that is of no use."""

    async def close(self) -> None:
        """Let go of connections."""


def build(name: str, channel: Channel, clock: Callable[[], float] = time.time) -> Sender:
    """The sender for a channel of the config; `clock` gives seconds since the epoch."""
    if isinstance(channel, AlertmanagerChannel):
        return AlertmanagerSender(name, channel, clock)
    if isinstance(channel, WebhookChannel):
        return WebhookSender(name, channel)
    return LogSender(name)
