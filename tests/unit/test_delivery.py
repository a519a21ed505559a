"""How the outbox empties: in order, at each channel's pace, with patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from alerting.channels import Sender, build
from alerting.channels.sender import Gathers
from alerting.conditions import Verdict
from alerting.contract import Commit
from alerting.delivery import Delivery
from alerting.lifecycle import AlertKey, RuleState, State
from alerting.limits import Bucket
from alerting.memory_store import MemoryAlertStore
from alerting.message import DEAD_MAN, Notification
from alerting.outbox import ATTEMPTS_MAX, BACKOFF_SECONDS_MAX, OutboxEntry, backoff_seconds, threads
from alerting.reports import transition
from schemas.channel import Limit
from schemas.duration import MICROS
from schemas.errors import DeliveryError, DeliveryPaused, DeliveryRefused, StoreUnavailable
from schemas.report import AuditEntry
from tests.parts.alerts import NIGHT_US, config, notification, until
from tests.parts.receiver import Receiver

S = MICROS


class Recorder:
    """A channel that notes what it is sent, and fails as it is told: each item of `answers` is raised once, or awaited."""

    def __init__(
        self,
        *answers: DeliveryError | asyncio.Event | None,
        resend_seconds: int | None = None,
        heartbeat_seconds: int | None = None,
        gathers: Gathers = "nothing",
    ) -> None:
        self.resend_seconds = resend_seconds
        self.heartbeat_seconds = heartbeat_seconds
        self.gathers = gathers
        self.messages: list[tuple[Notification, ...]] = []
        self.closed = False
        self._answers = list(answers)

    async def send(self, *notifications: Notification) -> None:
        self.messages.append(notifications)
        answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        elif answer is not None:
            raise answer

    @property
    def sent(self) -> list[Notification]:
        return [notification for message in self.messages for notification in message]

    async def close(self) -> None:
        self.closed = True

    @property
    def keys(self) -> list[str]:
        return [notification.key for notification in self.sent]


class Desk:
    """A delivery over a store in memory, with a clock that is set by hand."""

    def __init__(self, senders: dict[str, Any], limit: dict[str, Any] | None = None) -> None:
        self.store = MemoryAlertStore()
        self.outcomes: list[tuple[str, str]] = []
        self.now = NIGHT_US / MICROS
        self.set_by = 0.0  # how far the wall clock was set
        self._senders: dict[str, Sender] = senders
        self._limit = limit or {"most": 1000}
        self.restart()

    def restart(self) -> None:
        setup = config({"notify": ["oncall"]}, channels={"oncall": {"type": "log", "limit": self._limit}})
        self.delivery = Delivery(
            setup, self.store, self._senders, self._note, clock=lambda: self.now + self.set_by, steady=lambda: self.now
        )

    def _note(self, channel: str, outcome: str) -> None:
        self.outcomes.append((channel, outcome))

    async def put(self, *notifications: Notification, channel: str = "oncall") -> None:
        entries = tuple(OutboxEntry(channel=channel, notification=n) for n in notifications)
        await self.store.commit(0, Commit(entries=entries))

    async def fire(self, state: State = "firing", *, told: bool = True) -> None:
        alert = {AlertKey("CheckoutToPayLow"): RuleState(state, NIGHT_US, NIGHT_US, None, NIGHT_US, NIGHT_US, told=told)}
        await self.store.commit(0, Commit(alert))

    async def resolve(self) -> None:
        """The incident ends, as the evaluator writes it."""
        verdict = Verdict("recovered", 380, 800, 0.475, threshold=0.4, window_seconds=300)
        state = RuleState("inactive", NIGHT_US, NIGHT_US, verdict, NIGHT_US, NIGHT_US)
        over = transition(config({}).alerts[0], AlertKey("CheckoutToPayLow"), state, "resolved")
        await self.store.commit(0, Commit({AlertKey("CheckoutToPayLow"): state}, transitions=(over,)))

    async def rounds(self, *outcomes: tuple[str, str]) -> None:
        """Go on until exactly these outcomes were noted, one more round included."""

        async def noted() -> bool:
            await self.delivery.round()
            return len(self.outcomes) >= len(outcomes)

        await until(noted)
        await self.settle()
        assert self.outcomes == list(outcomes)

    async def settle(self) -> None:
        """Let everything that can be sent now be sent."""
        for _ in range(3):
            await self.delivery.round()
            for _ in range(10):
                await asyncio.sleep(0)

    async def waiting(self) -> int:
        return len(await self.store.outbox())


DELIVERED, RETRIED, REFUSED = (("oncall", outcome) for outcome in ("delivered", "retried", "refused"))


def oops() -> DeliveryError:
    return DeliveryError("oncall", "HTTP 500")


async def test_what_is_delivered_leaves_the_outbox_and_is_not_sent_again() -> None:
    desk = Desk({"oncall": (channel := Recorder())})
    await desk.put(notification())
    await desk.rounds(DELIVERED)
    assert await desk.waiting() == 0
    assert channel.keys == [notification().key]


async def test_what_fails_is_tried_again_under_the_same_key_but_not_before_its_time() -> None:
    desk = Desk({"oncall": (channel := Recorder(oops()))})
    await desk.put(notification())
    await desk.rounds(RETRIED)
    assert len(channel.sent) == 1
    desk.now += 1.0
    await desk.rounds(RETRIED, DELIVERED)
    assert channel.keys == [notification().key] * 2
    assert await desk.waiting() == 0


async def test_tries_outlive_a_restart() -> None:
    desk = Desk({"oncall": Recorder(oops(), oops())})
    await desk.put(notification())
    await desk.rounds(RETRIED)
    desk.restart()
    desk.now += 1.0
    await desk.rounds(RETRIED, RETRIED)
    (entry,) = await desk.store.outbox()
    assert entry.attempts == 2
    assert entry.due >= desk.now + 1.0


async def test_what_is_refused_goes_to_the_dead_letters_with_a_line_that_says_what_where_and_why() -> None:
    desk = Desk({"oncall": Recorder(DeliveryRefused("oncall", "HTTP 400"))})
    await desk.put(notification())
    with capture_logs() as lines:
        await desk.rounds(REFUSED)
    assert await desk.waiting() == 0
    (letter,) = await desk.store.dead_letters()
    assert (letter.entry.notification, letter.error) == (notification(), "channel 'oncall': HTTP 400")
    (line,) = lines
    assert line == {
        "event": "notification given up",
        "log_level": "error",
        "channel": "oncall",
        "status": "firing",
        "key": notification().key,
        "error": "channel 'oncall': HTTP 400",
    }


async def test_after_a_day_of_tries_it_goes_to_the_dead_letters() -> None:
    desk = Desk({"oncall": Recorder(oops())})
    entry = OutboxEntry(channel="oncall", notification=notification(), attempts=ATTEMPTS_MAX - 1)
    await desk.store.commit(0, Commit(entries=(entry,)))
    await desk.rounds(REFUSED)
    assert await desk.waiting() == 0
    assert [letter.id for letter in await desk.store.dead_letters()] == [entry.id]


async def test_the_end_of_an_incident_is_never_told_before_its_beginning() -> None:
    desk = Desk({"oncall": (channel := Recorder(oops()))})
    await desk.put(notification("resolved"), notification())
    await desk.rounds(RETRIED)
    assert channel.keys == [notification().key]
    desk.now += 1.0
    await desk.rounds(RETRIED, DELIVERED, DELIVERED)
    assert channel.keys == [notification().key, notification().key, notification("resolved").key]


async def test_one_alert_that_fails_does_not_hold_up_another() -> None:
    desk = Desk({"oncall": Recorder(oops())})
    await desk.put(notification(value="ios"), notification(value="web"))
    await desk.rounds(RETRIED, DELIVERED)
    (entry,) = await desk.store.outbox()
    assert entry.notification.alert.value == "ios"


async def test_a_channel_that_hangs_holds_up_no_other_and_gets_nothing_twice() -> None:
    release = asyncio.Event()
    slow, quick = Recorder(release), Recorder()
    desk = Desk({"slow": slow, "oncall": quick})
    await desk.put(notification(), channel="slow")
    await desk.put(notification())
    await desk.rounds(DELIVERED)
    await desk.put(notification("resolved"))
    await desk.rounds(DELIVERED, DELIVERED)
    assert len(slow.sent) == 1
    release.set()
    await desk.rounds(DELIVERED, DELIVERED, ("slow", "delivered"))
    assert len(slow.sent) == 1


async def test_a_channel_is_sent_a_few_at_once_and_no_more() -> None:
    release = asyncio.Event()
    channel = Recorder(*[release] * 20)
    desk = Desk({"oncall": channel})
    await desk.put(*(notification(value=str(n)) for n in range(20)))
    await desk.settle()
    assert len(channel.sent) == 4
    release.set()
    await desk.rounds(*[DELIVERED] * 20)


async def test_what_waits_for_a_channel_that_is_gone_from_the_config_goes_to_the_dead_letters() -> None:
    desk = Desk({"oncall": Recorder()})
    await desk.put(notification(), channel="pager")
    await desk.rounds(("pager", "refused"))
    assert await desk.waiting() == 0


async def test_a_firing_alert_is_said_again_every_resend_until_it_is_over() -> None:
    desk = Desk({"oncall": (channel := Recorder(resend_seconds=60))})
    await desk.fire()
    await desk.rounds(DELIVERED)
    desk.now += 59.9
    await desk.rounds(DELIVERED)
    desk.now += 0.1
    await desk.rounds(DELIVERED, DELIVERED)
    assert {n.status for n in channel.sent} == {"firing"}
    await desk.fire("inactive")
    desk.now += 60
    await desk.rounds(DELIVERED, DELIVERED)


async def test_after_a_restart_a_firing_alert_is_said_again_at_once() -> None:
    desk = Desk({"oncall": Recorder(resend_seconds=60)})
    await desk.fire()
    await desk.rounds(DELIVERED)
    desk.restart()
    await desk.rounds(DELIVERED, DELIVERED)


async def test_an_alert_with_news_in_the_outbox_is_not_said_again_beside_it() -> None:
    desk = Desk({"oncall": (channel := Recorder(resend_seconds=60))})
    await desk.fire()
    await desk.put(notification("resolved"))
    await desk.rounds(DELIVERED)
    assert [n.status for n in channel.sent] == ["resolved"]


async def test_a_channel_that_no_rule_notifies_hears_nothing_again() -> None:
    desk = Desk({"oncall": Recorder(resend_seconds=60), "other": (other := Recorder(resend_seconds=60))})
    await desk.fire()
    await desk.rounds(DELIVERED)
    assert other.sent == []


@pytest.mark.parametrize(("error", "outcome"), [(oops(), RETRIED), (DeliveryRefused("oncall", "HTTP 400"), REFUSED)])
async def test_a_resend_that_fails_is_counted_and_comes_again_with_the_next(error: DeliveryError, outcome: tuple[str, str]) -> None:
    desk = Desk({"oncall": Recorder(error, resend_seconds=60)})
    await desk.fire()
    await desk.rounds(outcome)
    desk.now += 60
    await desk.rounds(outcome, DELIVERED)


async def test_a_sender_that_breaks_is_logged_and_its_entry_tried_again() -> None:
    class Broken(Recorder):
        async def send(self, *notifications: Notification) -> None:
            await super().send(*notifications)
            if len(self.sent) == 1:
                raise ZeroDivisionError

    desk = Desk({"oncall": Broken()})
    await desk.put(notification())
    with capture_logs() as lines:
        await desk.rounds(DELIVERED)
    assert [line["event"] for line in lines] == ["a channel's sends broke off, trying again"]


async def test_closing_waits_for_what_is_under_way_and_starts_nothing_else() -> None:
    release = asyncio.Event()
    channel = Recorder(*[release] * 10)
    desk = Desk({"oncall": channel})
    await desk.put(*(notification(value=str(n)) for n in range(10)))
    await desk.settle()
    closing = asyncio.create_task(desk.delivery.close())
    await asyncio.sleep(0)
    release.set()
    await closing
    assert (len(channel.sent), await desk.waiting(), channel.closed) == (4, 6, True)


async def test_closing_gives_up_on_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerting.delivery.GRACE_SECONDS", 0.05)
    desk = Desk({"oncall": Recorder(asyncio.Event())})
    await desk.put(notification())
    await desk.settle()
    await desk.delivery.close()
    assert await desk.waiting() == 1


@asynccontextmanager
async def running(desk: Desk, leads: Callable[[], bool]) -> AsyncIterator[None]:
    task = asyncio.create_task(desk.delivery.run(leads, every_seconds=0.005))
    try:
        yield
    finally:
        await desk.delivery.close()
        await task


@pytest.mark.parametrize("error", [StoreUnavailable("no answer"), ZeroDivisionError()])
async def test_it_runs_while_this_process_leads_survives_a_failure_and_ends_when_closed(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk({"oncall": Recorder()})
    asked: list[int] = []
    real = desk.store.outbox

    async def fail_once() -> list[OutboxEntry]:
        asked.append(1)
        if len(asked) == 1:
            raise error
        return await real()

    monkeypatch.setattr(desk.store, "outbox", fail_once)
    await desk.put(notification())
    answers = iter([False] * 3)

    def leads() -> bool:
        leading = next(answers, True)
        assert leading or asked == []
        return leading

    async with running(desk, leads):
        await until(lambda: desk.outcomes == [DELIVERED])


async def test_over_http_500_then_200_is_one_notification_under_one_key() -> None:
    async with Receiver(500).running() as receiver:
        hook = config(channels={"oncall": {"type": "webhook", "url": receiver.url}}).channels["oncall"]
        desk = Desk({"oncall": build("oncall", hook)})
        await desk.put(notification())
        await desk.rounds(RETRIED)
        desk.now += 1.0
        await desk.rounds(RETRIED, DELIVERED)
        assert {request.headers["idempotency-key"] for request in receiver.requests} == {notification().key}
        await desk.delivery.close()


@pytest.mark.parametrize("luck", [0.0, 0.999])
async def test_tries_come_ever_more_seldom_but_at_least_once_a_minute(luck: float) -> None:
    pauses = [backoff_seconds(attempts, luck) for attempts in (0, 1, 2, 3, 10, ATTEMPTS_MAX)]
    assert pauses == sorted(pauses)
    assert 0.5 <= pauses[0] <= 1.0
    assert BACKOFF_SECONDS_MAX / 2 <= pauses[-1] <= BACKOFF_SECONDS_MAX


async def test_the_oldest_news_go_first_and_only_those_of_the_channel() -> None:
    later = notification(value="web", incident_us=NIGHT_US + 60 * S)
    entries = [OutboxEntry(channel=c, notification=n) for c in ("oncall", "chat") for n in (later, notification(value="ios"))]
    assert [[e.notification.alert.value for e in thread] for thread in threads(entries, "chat", 0.0)] == [["ios"], ["web"]]


# Refusals and leadership


async def test_a_dead_letter_that_is_sent_again_reaches_the_channel_under_its_old_key() -> None:
    desk = Desk({"oncall": (channel := Recorder(DeliveryRefused("oncall", "HTTP 400")))})
    await desk.put(notification())
    await desk.rounds(REFUSED)
    (letter,) = await desk.store.dead_letters()
    audit = AuditEntry(at=letter.at, author="anna", action="resent", subject=letter.id, detail="", reason="")
    assert await desk.store.resend(letter.id, audit)
    await desk.rounds(REFUSED, DELIVERED)
    assert channel.keys == [notification().key] * 2


async def test_one_who_leads_no_more_stops_between_two_sends() -> None:
    leading = True

    class Deposed(Recorder):
        async def send(self, *notifications: Notification) -> None:
            nonlocal leading
            await super().send(*notifications)
            leading = False

    channel = Deposed()
    desk = Desk({"oncall": channel})
    await desk.put(notification(), notification("resolved"))
    async with running(desk, lambda: leading):
        await until(lambda: desk.outcomes == [DELIVERED])
        await asyncio.sleep(0.05)
    assert channel.keys == [notification().key]


async def test_one_whom_the_store_knows_as_leader_no_more_stops_between_two_sends() -> None:
    desk = Desk({"oncall": (channel := Recorder())})
    await desk.put(notification(), notification("resolved"))
    desk.store.carry(None)
    await desk.delivery.round()
    await asyncio.sleep(0.05)
    assert channel.keys == [notification().key]


# Pauses and limits


async def test_a_channel_that_asks_for_a_pause_is_left_alone_for_as_long() -> None:
    desk = Desk({"oncall": (channel := Recorder(DeliveryPaused("oncall", "HTTP 429", 90)))})
    await desk.put(notification(value="ios"))
    await desk.rounds(RETRIED)
    await desk.put(notification(value="web"))
    desk.now += 89
    await desk.settle()
    assert len(channel.sent) == 1
    desk.now += 1
    await desk.rounds(RETRIED, DELIVERED, DELIVERED)


async def test_over_http_what_retry_after_asks_for_is_kept_to() -> None:
    async with Receiver(429, headers="Retry-After: 30\r\n").running() as receiver:
        hook = config(channels={"oncall": {"type": "webhook", "url": receiver.url}}).channels["oncall"]
        desk = Desk({"oncall": build("oncall", hook)})
        await desk.put(notification())
        await desk.rounds(RETRIED)
        desk.now += 29
        await desk.settle()
        assert len(receiver.requests) == 1
        desk.now += 2
        await desk.rounds(RETRIED, DELIVERED)
        await desk.delivery.close()


async def test_what_is_over_the_limit_waits_and_nothing_is_lost() -> None:
    desk = Desk({"oncall": (channel := Recorder())}, {"per": "60s", "most": 6})
    await desk.put(*(notification(value=str(n)) for n in range(10)))
    await desk.settle()
    assert (len(channel.sent), await desk.waiting()) == (6, 4)
    assert desk.outcomes.count(("oncall", "limited")) == 1
    desk.now += 20
    await desk.settle()
    assert (len(channel.sent), await desk.waiting()) == (8, 2)
    desk.now += 60
    await desk.settle()
    assert sorted(channel.keys) == sorted(notification(value=str(n)).key for n in range(10))
    assert await desk.waiting() == 0


async def test_people_are_told_what_is_over_the_limit_in_one_message() -> None:
    desk = Desk({"oncall": (channel := Recorder(gathers="words"))}, {"per": "60s", "most": 3})
    await desk.put(notification(value="ios"), notification(value="web"))
    await desk.settle()
    assert [len(message) for message in channel.messages] == [1, 1]
    await desk.put(*(notification(value=str(n)) for n in range(10)), notification("resolved", value="ios"))
    await desk.settle()
    assert [len(message) for message in channel.messages] == [1, 1, 11]
    assert channel.messages[-1][-1].status == "resolved"
    await desk.put(notification("resolved", value="web"))
    await desk.settle()
    assert await desk.waiting() == 1
    desk.now += 20
    await desk.settle()
    assert await desk.waiting() == 0


async def test_an_alertmanager_gets_many_alerts_in_one_post_but_of_each_alert_one_thing_at_a_time() -> None:
    desk = Desk({"oncall": (channel := Recorder(gathers="alerts"))}, {"per": "60s", "most": 2})
    await desk.put(*(notification(value=str(n)) for n in range(5)), notification("resolved", value="0"))
    await desk.settle()
    assert [[told.status for told in message] for message in channel.messages] == [["firing"] * 5, ["resolved"]]


async def test_one_alert_that_is_refused_does_not_spoil_the_others_of_its_post() -> None:
    bad = DeliveryRefused("oncall", "HTTP 400")
    desk = Desk({"oncall": (channel := Recorder(bad, None, bad, None, gathers="alerts"))})
    await desk.put(*(notification(value=v) for v in "abc"))
    await desk.settle()
    assert [len(message) for message in channel.messages] == [3, 1, 1, 1]
    assert [letter.entry.notification.alert.value for letter in await desk.store.dead_letters()] == ["b"]
    assert await desk.waiting() == 0


# Saying it again


async def test_an_alert_of_which_nobody_was_told_is_not_said_again() -> None:
    desk = Desk({"oncall": (channel := Recorder(resend_seconds=60))})
    await desk.fire(told=False)
    await desk.settle()
    assert channel.sent == []


async def test_an_alert_that_recovers_still_fires_and_is_said_again() -> None:
    desk = Desk({"oncall": (channel := Recorder(resend_seconds=60))})
    await desk.fire("recovering")
    await desk.rounds(DELIVERED)
    assert [told.status for told in channel.sent] == ["firing"]


async def test_the_end_is_said_again_for_fifteen_minutes_also_by_another_process() -> None:
    desk = Desk({"oncall": (channel := Recorder(resend_seconds=60))})
    await desk.resolve()
    await desk.rounds(DELIVERED)
    desk.restart()
    desk.now += 899
    await desk.rounds(DELIVERED, DELIVERED)
    assert {(told.status, told.key) for told in channel.sent} == {("resolved", notification("resolved").key)}
    assert "It fired from 2026-01-02 03:04:10 UTC to 2026-01-02 03:04:10 UTC." in channel.sent[-1].text
    desk.now += 60
    await desk.settle()
    assert len(channel.sent) == 2


async def test_the_end_is_not_said_again_once_it_fires_anew() -> None:
    desk = Desk({"oncall": (channel := Recorder(resend_seconds=60))})
    await desk.resolve()
    await desk.fire()
    await desk.rounds(DELIVERED)
    assert [told.status for told in channel.sent] == ["firing"]


async def test_the_pipelines_own_alert_is_said_again_to_the_channels_of_all_rules() -> None:
    desk = Desk({"oncall": (channel := Recorder(resend_seconds=60)), "other": (other := Recorder(resend_seconds=60))})
    state = RuleState("firing", NIGHT_US, NIGHT_US, None, NIGHT_US, NIGHT_US, data="stale", told=True)
    await desk.store.commit(0, Commit({AlertKey("FunnelwatchPipeline", "source", "web"): state}))
    await desk.rounds(DELIVERED)
    assert [told.alert.value for told in channel.sent] == ["web"]
    assert other.sent == []


async def test_a_dead_mans_alert_is_said_at_its_interval_with_or_without_news() -> None:
    desk = Desk({"oncall": (channel := Recorder(heartbeat_seconds=30))}, {"per": "1d", "most": 1})
    await desk.rounds(DELIVERED)
    desk.now += 29
    await desk.settle()
    assert len(channel.sent) == 1
    desk.now += 1
    await desk.settle()
    assert [(told.transition.rule, told.status, told.incident) for told in channel.sent] == [(DEAD_MAN, "firing", DEAD_MAN)] * 2
    assert channel.keys[0] != channel.keys[1]


async def test_a_dead_mans_alert_that_was_not_taken_is_said_again_after_five_seconds() -> None:
    desk = Desk({"oncall": (channel := Recorder(oops(), heartbeat_seconds=60))})
    await desk.rounds(RETRIED)
    desk.now += 4.9
    await desk.settle()
    assert len(channel.sent) == 1
    desk.now += 0.1
    await desk.rounds(RETRIED, DELIVERED)
    desk.now += 59.9
    await desk.settle()
    assert len(channel.sent) == 2


@pytest.mark.parametrize("set_by", [-600.0, 600.0])
async def test_a_clock_that_is_set_holds_up_neither_repetitions_nor_heartbeats_nor_tries(set_by: float) -> None:
    desk = Desk({"oncall": (channel := Recorder(resend_seconds=60, heartbeat_seconds=60))})
    await desk.fire()
    await desk.rounds(DELIVERED, DELIVERED)
    desk.set_by = set_by
    desk.now += 59
    await desk.settle()
    assert len(channel.sent) == 2
    desk.now += 1
    await desk.rounds(*[DELIVERED] * 4)


async def test_what_is_to_be_tried_again_does_not_wait_for_a_clock_that_was_set_back() -> None:
    desk = Desk({"oncall": Recorder(oops())})
    await desk.put(notification())
    await desk.rounds(RETRIED)
    desk.set_by = -600.0
    await desk.rounds(RETRIED, DELIVERED)


def test_a_bucket_refills_evenly_and_never_holds_more_than_its_most() -> None:
    bucket = Bucket(Limit.model_validate({"per": "60s", "most": 3}), 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(19.9)
    assert bucket.take(20.0)
    assert bucket.available(10_000.0) == 3
    assert bucket.available(0.0) == 3, "a clock set back takes nothing"
