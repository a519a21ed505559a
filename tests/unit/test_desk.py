"""What people do to the alerts, and the trace it leaves."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from alerting.contract import Commit
from alerting.desk import Desk
from alerting.lifecycle import AlertKey, RuleState
from alerting.memory_store import MemoryAlertStore
from alerting.outbox import OutboxEntry
from alerting.silences import SILENCES_MAX
from schemas.errors import UsageError
from schemas.report import AuditEntry
from schemas.silence import Matchers, NewAcknowledgement, NewSilence, Resend, Signed, Silence
from tests.parts.alerts import NIGHT_US, config, notification

NOW = datetime(2026, 1, 2, 3, 4, 10, tzinfo=timezone.utc)
KIM = Signed(author="kim", reason="moving")
TOTAL = AlertKey("CheckoutToPayLow")


class Office:
    def __init__(self) -> None:
        self.store = MemoryAlertStore()
        self.now = NOW
        self.desk = Desk(config({"by": ["device"]}), self.store, self._seconds)

    def _seconds(self) -> float:
        return self.now.timestamp()

    async def trace(self) -> list[str]:
        return [f"{e.author} {e.action} {e.subject}: {e.detail} ({e.reason})" for e in await self.desk.audit()]

    async def add(self, hours: int = 1, **patterns: str) -> str:
        asked = NewSilence(matchers=Matchers(**patterns or {"rule": "*"}), ends=self.now + timedelta(hours=hours), author="kim", reason="x")
        return (await self.desk.add_silence(asked)).id


async def test_a_silence_is_added_listed_and_ended_and_each_is_in_the_audit_log() -> None:
    office = Office()
    name = await office.add(rule="Check*", value="ios")
    (listed,) = await office.desk.silences()
    assert (listed.id, listed.state, listed.matchers) == (name, "active", {"rule": "Check*", "value": "ios"})
    office.now += timedelta(minutes=5)
    over = await office.desk.expire_silence(name, KIM)
    assert over is not None
    assert (over.state, over.ends) == ("expired", office.now)
    assert await office.trace() == [
        f"kim silence_expired {name}: was to end 2026-01-02T04:04:10Z (moving)",
        f"kim silence_added {name}: rule=Check*, value=ios from 2026-01-02T03:04:10Z to 2026-01-02T04:04:10Z (x)",
    ]


async def test_a_silence_that_is_over_is_not_ended_again() -> None:
    office = Office()
    name = await office.add()
    await office.desk.expire_silence(name, KIM)
    await office.desk.expire_silence(name, KIM)
    assert len(await office.trace()) == 2
    assert await office.desk.expire_silence("none", KIM) is None


async def test_a_silence_that_ends_in_the_past_is_refused_and_leaves_no_trace() -> None:
    office = Office()
    with pytest.raises(UsageError, match="ends after it starts"):
        await office.add(hours=-1)
    assert (await office.desk.silences(), await office.trace()) == ([], [])


async def test_there_is_a_limit_to_silences_and_those_that_are_over_make_room() -> None:
    office = Office()
    for number in range(SILENCES_MAX):
        ends = NOW + timedelta(hours=1 if number else 2)
        silence = Silence(id=str(number), matchers=Matchers(rule="*"), starts=NOW, ends=ends, author="a", reason="b")
        await office.store.keep_silence(silence, _line())
    with pytest.raises(UsageError, match="1000 silences already"):
        await office.add()
    office.now += timedelta(minutes=61)
    await office.add()
    kept = {silence.id for silence in await office.desk.silences()}
    assert len(kept) == SILENCES_MAX
    assert "0" in kept


def _line() -> AuditEntry:
    return AuditEntry(at=NOW, author="a", action="silence_added", subject="", detail="", reason="")


async def fire(office: Office, alert: AlertKey = TOTAL) -> None:
    await office.store.commit(0, Commit({alert: RuleState("firing", NIGHT_US, NIGHT_US, None, NIGHT_US, NIGHT_US)}))


async def test_an_incident_is_acknowledged_and_who_did_it_shows() -> None:
    office = Office()
    ios = AlertKey("CheckoutToPayLow", "device", "ios")
    await fire(office, ios)
    asked = NewAcknowledgement(rule="CheckoutToPayLow", dimension="device", value="ios", author="kim", reason="looking")
    seen = await office.desk.acknowledge(asked)
    assert seen is not None
    assert (seen.value, seen.acknowledged_by, seen.acknowledged_at) == ("ios", "kim", NOW)
    assert await office.trace() == ["kim acknowledged CheckoutToPayLow/device/ios: the incident of 2026-01-02T03:04:10Z (looking)"]


async def test_what_does_not_fire_or_is_not_there_cannot_be_acknowledged() -> None:
    office = Office()
    await office.store.commit(0, Commit({TOTAL: RuleState("pending", NIGHT_US, NIGHT_US)}))
    with pytest.raises(UsageError, match="does not fire"):
        await office.desk.acknowledge(NewAcknowledgement(rule="CheckoutToPayLow", author="kim"))
    assert await office.desk.acknowledge(NewAcknowledgement(rule="Nothing", author="kim")) is None
    assert await office.trace() == []


async def test_dead_letters_are_listed_and_sent_again() -> None:
    office = Office()
    entry = OutboxEntry(channel="oncall", notification=notification(), attempts=3)
    await office.store.commit(0, Commit(entries=(entry,)))
    await office.store.dead_letter(entry, "HTTP 403")
    (letter,) = await office.desk.dead_letters()
    assert (letter.id, letter.channel, letter.error, letter.attempts, letter.status) == (entry.id, "oncall", "HTTP 403", 3, "firing")
    assert await office.desk.resend(Resend(id=entry.id, author="kim", reason="mended"))
    assert [e.attempts for e in await office.store.outbox()] == [0]
    assert not await office.desk.resend(Resend(id=entry.id, author="kim"))
    assert await office.trace() == [f"kim resent {entry.id}:  (mended)"]


async def test_an_alert_shows_the_silences_that_hold_it() -> None:
    office = Office()
    await fire(office)
    name = await office.add(rule="Check*")
    await office.add(rule="Other")
    (state,) = await office.desk.alert_states()
    assert (state.state, state.silenced_by) == ("firing", (name,))
