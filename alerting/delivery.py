"""The outbox emptied: every channel gets what waits for it, at its own pace, at least once.

One task a channel, with a few sends at once, so that a receiver that hangs holds up nobody but
itself. An entry leaves the outbox when it was taken, or, to the dead letters, when it was refused or
tried for a day; until then it is tried again, with its count of tries kept in the store, so that a
restart goes on where this process stopped.

A channel is sent no more than its limit. What is over it waits; a channel that is read by people then
gets all that waits in one message.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import inf

import structlog

from alerting.channels import Sender
from alerting.contract import AlertStore
from alerting.lifecycle import AlertKey, RuleState
from alerting.limits import Bucket
from alerting.message import Notification, dead_man
from alerting.outbox import OutboxEntry, threads
from alerting.resending import Repetition
from schemas.channel import Limit
from schemas.config import Config
from schemas.duration import MICROS
from schemas.errors import DeliveryError, DeliveryPaused, DeliveryRefused, StoreError
from schemas.report import Transition

SENDS_AT_ONCE = 4
TOGETHER_MAX = 64
ROUND_SECONDS = 1.0
GRACE_SECONDS = 6.0
BEAT_AGAIN_SECONDS = 5.0  # after a heartbeat that was not taken; no heartbeat comes more often than every 10 s

Job = Callable[[], Awaitable[object]]
log = structlog.get_logger()


class Delivery:
    """Takes what waits in the store to the channels; for the leader only.

    `clock` is the wall's, in seconds since the epoch, by which entries are due; all else goes by `steady`,
    which nobody can set. `on_outcome(channel, outcome)` is told of every try, delivered, retried or refused, and of every
    time that a channel's limit begins to hold something back: limited.
    """

    def __init__(
        self,
        config: Config,
        store: AlertStore,
        senders: Mapping[str, Sender],
        on_outcome: Callable[[str, str], None],
        *,
        web_url: str = "",
        dashboard_url: str = "",
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._senders = senders
        self._on_outcome = on_outcome
        self._web_url = web_url
        self._clock = clock
        self._steady = steady
        self._repetition = Repetition(config, web_url, dashboard_url)
        limits = {name: channel.limit for name, channel in config.channels.items()}
        self._buckets = {name: Bucket(limits.get(name, Limit()), steady()) for name in senders}
        self._limited: set[str] = set()
        self._paused: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resent: dict[str, float] = {}
        self._beaten: dict[str, float] = {}
        self._leads: Callable[[], bool] = lambda: True
        self._deposed = False
        self._closing = False

    async def run(self, leads: Callable[[], bool], every_seconds: float = ROUND_SECONDS) -> None:
        """A round every second while this process leads, until closed.

        Close before cancelling: on Python 3.10 and 3.11 redis-py can lose a cancellation, since
        `asyncio.wait_for`, with which it writes, drops one that comes as it completes (bpo-37658).
        """
        self._leads = leads
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
        now, self._deposed = self._clock(), False
        # Found idle before the outbox is read: what a busy channel has just sent may still be in it.
        idle = [channel for channel in self._senders if self._is_idle(channel) and not self._is_paused(channel)]
        # Read before the outbox: an alert that ends in between is then seen with its end, and is not resent.
        repeats = [channel for channel in idle if self._is_due(channel, self._resent, self._senders[channel].resend_seconds)]
        states, transitions = await self._known(repeats)
        waiting = await self._store.outbox()
        for channel in idle:
            jobs = self._beats(channel) + self._jobs(channel, threads(waiting, channel, now))
            if channel in repeats:
                news = {entry.notification.alert for entry in waiting if entry.channel == channel}
                jobs += self._repeats(channel, self._repetition.due(channel, states, transitions, news, now))
            if jobs:
                self._tasks[channel] = asyncio.create_task(self._work(channel, jobs))
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

    # What there is to do

    def _jobs(self, channel: str, waiting: list[list[OutboxEntry]]) -> list[Job]:
        """The sends of what waits: each on its own, or together as the channel takes it."""
        if not waiting:
            return []
        gathers, tokens = self._senders[channel].gathers, self._buckets[channel].available(self._steady())
        count = sum(len(thread) for thread in waiting)
        self._note_limit(channel, held=count - tokens if gathers == "nothing" else int(not tokens), tokens=tokens)
        if gathers == "alerts":
            firsts = [thread[0] for thread in waiting]
            return [partial(self._send, firsts[at : at + TOGETHER_MAX]) for at in range(0, len(firsts), TOGETHER_MAX)]
        if gathers == "words" and count > tokens:
            everything = sorted((e for thread in waiting for e in thread), key=lambda e: e.notification.transition.at)
            return [partial(self._send, everything)] if tokens else []
        return [partial(self._send_thread, thread) for thread in waiting]

    def _note_limit(self, channel: str, *, held: int, tokens: int) -> None:
        if held > 0 and channel not in self._limited:
            self._limited.add(channel)
            self._on_outcome(channel, "limited")
            log.warning("a channel's limit is reached, what is over it waits", channel=channel, waiting=held + tokens)
        elif held <= 0:
            self._limited.discard(channel)

    def _repeats(self, channel: str, said: Sequence[Notification]) -> list[Job]:
        return [partial(self._repeat, channel, said[at : at + TOGETHER_MAX]) for at in range(0, len(said), TOGETHER_MAX)]

    def _beats(self, channel: str) -> list[Job]:
        every = self._senders[channel].heartbeat_seconds
        if every is None or not self._is_due(channel, self._beaten, every):
            return []
        self._beaten[channel] = self._steady()
        return [partial(self._beat, channel, every)]

    def _is_due(self, channel: str, done: Mapping[str, float], every: int | None) -> bool:
        return every is not None and self._steady() - done.get(channel, -inf) >= every

    async def _known(self, channels: Sequence[str]) -> tuple[Mapping[AlertKey, RuleState], Iterable[Transition]]:
        """What the alerts are and were, when it is time to say it again."""
        if not channels:
            return {}, ()
        states, transitions = await self._store.states(), await self._store.transitions()
        self._resent |= dict.fromkeys(channels, self._steady())
        return states, transitions

    # Doing it

    async def _work(self, channel: str, jobs: Iterable[Job]) -> None:
        queue = iter(jobs)
        await asyncio.gather(*(self._worker(channel, queue) for _ in range(SENDS_AT_ONCE)))

    async def _worker(self, channel: str, queue: Iterator[Job]) -> None:
        for job in queue:
            if not self._may_send(channel):
                return
            await job()

    def _may_send(self, channel: str) -> bool:
        """Asked between any two sends: whoever leads no more leaves the rest to whoever does."""
        return not self._closing and not self._deposed and self._leads() and not self._is_paused(channel)

    async def _send_thread(self, thread: Sequence[OutboxEntry]) -> None:
        """Send what there is to say of one alert, in order, as far as the channel takes it."""
        for entry in thread:
            if not self._may_send(entry.channel) or not await self._send([entry]):
                return

    async def _send(self, entries: Sequence[OutboxEntry]) -> bool:
        """Send entries in one message, if the limit allows; whether they are done with, one way or the other."""
        channel = entries[0].channel
        if not self._buckets[channel].take(self._steady()):
            return False
        try:
            await self._senders[channel].send(*(entry.notification for entry in entries))
        except DeliveryRefused as error:
            if len(entries) > 1 and self._senders[channel].gathers == "alerts":
                # One of them spoils it for all: each on its own.
                return all([await self._send([entry]) for entry in entries if self._may_send(channel)])
            return all([await self._refuse(entry, error) for entry in entries])
        except DeliveryError as error:
            return await self._postpone(entries, error)
        for _ in entries:
            self._on_outcome(channel, "delivered")
        return all([self._leading(await self._store.remove(entry)) for entry in entries])

    async def _refuse(self, entry: OutboxEntry, error: DeliveryError) -> bool:
        self._count_refused(entry.channel, entry.notification, error)
        return self._leading(await self._store.dead_letter(entry, str(error)))

    def _leading(self, written: bool) -> bool:
        """Note what the store says: it writes nothing for one who leads no more."""
        self._deposed = self._deposed or not written
        return written

    async def _postpone(self, entries: Sequence[OutboxEntry], error: DeliveryError) -> bool:
        """Whether nothing is left to be tried again."""
        self._pause(error)
        done = True
        for entry in entries:
            later = entry.postponed(self._clock(), random.random())
            if later.exhausted:
                done = await self._refuse(entry, error) and done
            else:
                self._count_retried(entry.channel, entry.notification, error)
                self._leading(await self._store.postpone(later))
                done = False
        return done

    async def _beat(self, channel: str, every: int) -> None:
        """Say that somebody watches; who was not reached is told soon, not at the next interval."""
        if not await self._repeat(channel, [dead_man(int(self._clock() * MICROS), every, web_url=self._web_url)]):
            self._beaten[channel] = self._steady() - every + BEAT_AGAIN_SECONDS

    async def _repeat(self, channel: str, said: Sequence[Notification]) -> bool:
        """Say again what nobody keeps: it comes again by itself. It is not held back by the limit. Whether an answer came."""
        try:
            await self._senders[channel].send(*said)
        except DeliveryRefused as error:
            if len(said) > 1:
                return all([await self._repeat(channel, [one]) for one in said])
            self._count_refused(channel, said[0], error)
        except DeliveryError as error:
            self._pause(error)
            self._count_retried(channel, said[0], error)
            return False
        else:
            self._on_outcome(channel, "delivered")
        return True

    def _pause(self, error: DeliveryError) -> None:
        """Leave a channel alone for as long as it asks for."""
        if isinstance(error, DeliveryPaused):
            self._paused[error.channel] = self._steady() + error.seconds

    def _is_paused(self, channel: str) -> bool:
        return self._steady() < self._paused.get(channel, -inf)

    def _count_refused(self, channel: str, notification: Notification, error: DeliveryError) -> None:
        self._on_outcome(channel, "refused")
        log.error("notification given up", channel=channel, status=notification.status, key=notification.key, error=str(error))

    def _count_retried(self, channel: str, notification: Notification, error: DeliveryError) -> None:
        self._on_outcome(channel, "retried")
        log.warning("notification not taken, trying again", channel=channel, key=notification.key, error=str(error))
