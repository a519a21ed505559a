"""The outbox emptied: every channel gets what waits for it, at its own pace, at least once.

One task a channel, with a few sends at once, so that a receiver that hangs holds up nobody but
itself. An entry leaves the outbox when it was taken or refused; until then it is tried again, with
its count of tries kept in the store, so that a restart goes on where this process stopped.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from math import inf

import structlog

from alerting.channels import Sender
from alerting.contract import AlertStore
from alerting.lifecycle import AlertKey, RuleState
from alerting.message import Notification, compose
from alerting.outbox import OutboxEntry, threads
from schemas.config import Config
from schemas.errors import DeliveryError, DeliveryRefused, StoreError

SENDS_AT_ONCE = 4
ROUND_SECONDS = 1.0
GRACE_SECONDS = 6.0

Job = Callable[[], Awaitable[None]]
log = structlog.get_logger()


class Delivery:
    """Takes what waits in the store to the channels; for the leader only.

    `on_outcome(channel, outcome)` is told of every try: delivered, retried or refused.
    """

    def __init__(
        self,
        config: Config,
        store: AlertStore,
        senders: Mapping[str, Sender],
        on_outcome: Callable[[str, str], None],
        *,
        web_url: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._rules = {rule.name: rule for rule in config.alerts}
        self._store = store
        self._senders = senders
        self._on_outcome = on_outcome
        self._web_url = web_url
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resent: dict[str, float] = {}
        self._closing = False

    async def run(self, leads: Callable[[], bool], every_seconds: float = ROUND_SECONDS) -> None:
        """A round every second while this process leads, until closed.

        Close before cancelling: on Python 3.10 and 3.11 redis-py can lose a cancellation, since
        `asyncio.wait_for`, with which it writes, drops one that comes as it completes (bpo-37658).
        """
        while not self._closing:
            if leads():
                try:
                    await self.round()
                except StoreError as error:
                    log.warning("notifications cannot be read, trying again", error=str(error))
                except Exception:
                    # Whatever it is, the next round may do better; without a next round nobody is told anything.
                    log.exception("a round of notifications broke off, trying again")
            await asyncio.sleep(every_seconds)

    async def round(self) -> None:
        """Give every channel that is not busy what it can be given now; does not wait for the sends."""
        # Found idle before the outbox is read: what a busy channel has just sent may still be in it.
        idle = [channel for channel in self._senders if self._is_idle(channel)]
        # Read before the outbox: an alert that ends in between is then seen with its end, and is not resent.
        firing = await self._firing(idle)
        waiting = await self._store.outbox()
        for channel in idle:
            jobs: list[Job] = [partial(self._send_thread, thread) for thread in threads(waiting, channel, self._clock())]
            jobs += [partial(self._resend, channel, n) for n in self._to_resend(channel, firing.get(channel, {}), waiting)]
            if jobs:
                self._tasks[channel] = asyncio.create_task(self._work(jobs))
        for entry in waiting:
            if entry.channel not in self._senders:
                await self._refuse(entry, DeliveryRefused(entry.channel, "is not in the config any more"))

    async def close(self) -> None:
        """Let the sends under way end, for a few seconds, and start no others."""
        self._closing = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.values(), timeout=GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for sender in self._senders.values():
            await sender.close()

    def _is_idle(self, channel: str) -> bool:
        task = self._tasks.get(channel)
        if task is None:
            return True
        if not task.done():
            return False
        del self._tasks[channel]
        if not task.cancelled() and (error := task.exception()):
            log.error("a channel's sends broke off, trying again", channel=channel, exc_info=error)
        return True

    async def _work(self, jobs: Iterable[Job]) -> None:
        queue = iter(jobs)
        await asyncio.gather(*(self._worker(queue) for _ in range(SENDS_AT_ONCE)))

    async def _worker(self, queue: Iterator[Job]) -> None:
        for job in queue:
            if self._closing:
                return
            await job()

    async def _send_thread(self, thread: list[OutboxEntry]) -> None:
        """Send what there is to say of one alert, in order, as far as the channel takes it."""
        for entry in thread:
            if not await self._send(entry):
                return

    async def _send(self, entry: OutboxEntry) -> bool:
        """Whether the entry is done with, one way or the other."""
        try:
            await self._senders[entry.channel].send(entry.notification)
        except DeliveryRefused as error:
            await self._refuse(entry, error)
        except DeliveryError as error:
            return await self._postpone(entry, error)
        else:
            self._on_outcome(entry.channel, "delivered")
            await self._store.remove(entry)
        return True

    async def _refuse(self, entry: OutboxEntry, error: DeliveryError) -> None:
        self._count_refused(entry.channel, entry.notification, error)
        await self._store.remove(entry)

    async def _postpone(self, entry: OutboxEntry, error: DeliveryError) -> bool:
        later = entry.postponed(self._clock(), random.random())
        if later.exhausted:
            await self._refuse(entry, error)
            return True
        self._count_retried(entry.channel, entry.notification, error)
        await self._store.postpone(later)
        return False

    async def _resend(self, channel: str, notification: Notification) -> None:
        try:
            await self._senders[channel].send(notification)
        except DeliveryRefused as error:
            self._count_refused(channel, notification, error)
        except DeliveryError as error:
            self._count_retried(channel, notification, error)
        else:
            self._on_outcome(channel, "delivered")

    def _count_refused(self, channel: str, notification: Notification, error: DeliveryError) -> None:
        self._on_outcome(channel, "refused")
        log.error("notification dropped", channel=channel, status=notification.status, key=notification.key, error=str(error))

    def _count_retried(self, channel: str, notification: Notification, error: DeliveryError) -> None:
        self._on_outcome(channel, "retried")
        log.warning("notification not taken, trying again", channel=channel, key=notification.key, error=str(error))

    async def _firing(self, channels: Iterable[str]) -> dict[str, dict[AlertKey, RuleState]]:
        """What fires now, for every channel to which it is time to say so again."""
        due = [channel for channel in channels if self._resend_due(channel)]
        if not due:
            return {}
        states = await self._store.states()
        self._resent |= dict.fromkeys(due, self._clock())
        firing = {alert: state for alert, state in states.items() if state.state == "firing"}
        return dict.fromkeys(due, firing)

    def _resend_due(self, channel: str) -> bool:
        every = self._senders[channel].resend_seconds
        return every is not None and self._clock() - self._resent.get(channel, -inf) >= every

    def _to_resend(self, channel: str, firing: Mapping[AlertKey, RuleState], waiting: Iterable[OutboxEntry]) -> list[Notification]:
        """What this channel has to hear again, but for alerts of which the outbox has news."""
        in_outbox = {entry.notification.alert for entry in waiting if entry.channel == channel}
        return [
            compose(rule, self._config.funnel(rule.funnel), alert, state, self._web_url)
            for alert, state in firing.items()
            if alert not in in_outbox and (rule := self._rules.get(alert.rule)) is not None and channel in rule.notify
        ]
