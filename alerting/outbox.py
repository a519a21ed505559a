"""[pure] What waits to be sent: one notification for one channel, its tries, and when the next is due."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from alerting.lifecycle import AlertKey
from alerting.message import Notification

ENTRIES_MAX = 10_000
BACKOFF_SECONDS = 1.0
BACKOFF_SECONDS_MAX = 60.0
# At one try a minute, about a day: later than that nobody wants to be told.
ATTEMPTS_MAX = 1500


class OutboxEntry(BaseModel):
    """A notification on its way to a channel; `due` is wall-clock time in seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    channel: str
    notification: Notification
    attempts: int = 0
    due: float = 0.0

    @property
    def id(self) -> str:
        return f"{self.channel}/{self.notification.key}"

    @property
    def exhausted(self) -> bool:
        return self.attempts >= ATTEMPTS_MAX

    def postponed(self, now: float, luck: float) -> OutboxEntry:
        """The entry after a failed try; `luck` in [0, 1) spreads the next tries of many."""
        return self.model_copy(update={"attempts": self.attempts + 1, "due": now + backoff_seconds(self.attempts, luck)})

    def is_due(self, now: float) -> bool:
        """Whether it may be tried; a time that is further ahead than any pause was written by a clock that has been set back since."""
        return not now < self.due <= now + BACKOFF_SECONDS_MAX


def backoff_seconds(attempts: int, luck: float) -> float:
    """Doubling from 1 s to 60 s, of which half is left to luck.

    M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog (2015): equal jitter.
    """
    # The exponent is capped too: 2.0 ** 1500 overflows.
    ceiling: float = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS * 2.0 ** min(attempts, 10))
    return ceiling * (0.5 + luck / 2)


def threads(entries: Iterable[OutboxEntry], channel: str, now: float) -> list[list[OutboxEntry]]:
    """The entries a channel can be given now, oldest first, those about one alert as one thread.

    A thread is told in order: while its first entry waits for another try, so do those behind it,
    else a receiver might hear of the end of an incident before its beginning.
    """
    found: dict[AlertKey, list[OutboxEntry]] = {}
    for entry in sorted(entries, key=lambda e: e.notification.transition.at):
        if entry.channel == channel:
            found.setdefault(entry.notification.alert, []).append(entry)
    return [thread for thread in found.values() if thread[0].is_due(now)]
