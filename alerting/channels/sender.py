"""What a channel must do, whatever it leads to."""

from __future__ import annotations

from typing import Literal, Protocol

from alerting.message import Notification
from schemas.duration import Duration

# What of all that waits may go out at once: one notification; one of each alert; everything, in words.
Gathers = Literal["nothing", "alerts", "words"]


class Sender(Protocol):
    """One channel.

    `resend_seconds` says how often a firing alert has to be said again (None: only once),
    `heartbeat_seconds` how often that we are alive (None: never).
    """

    resend_seconds: int | None
    heartbeat_seconds: int | None
    gathers: Gathers

    async def send(self, *notifications: Notification) -> None:
        """Tell them. Raises DeliveryError if it has to be tried again, DeliveryRefused if that is of no use."""

    async def close(self) -> None:
        """Let go of connections."""


def seconds_of(duration: Duration | None) -> int | None:
    return None if duration is None else int(duration)
