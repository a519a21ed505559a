"""What every store of alerts does: in memory, in Valkey, in Redis 7."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from redis.asyncio import Redis

from alerting.conditions import Verdict
from alerting.contract import AUDIT_MAX, DEAD_LETTERS_MAX, OUTBOX_FULL, TRANSITIONS_MAX, Acknowledgement, AlertStore, Commit, DeadLetter
from alerting.lifecycle import AlertKey, RuleState
from alerting.memory_store import MemoryAlertStore
from alerting.outbox import OutboxEntry
from alerting.store import RedisAlertStore
from schemas.errors import StoreError
from schemas.report import AuditEntry, Transition
from schemas.silence import Matchers, Silence
from streams.lease import leader_key
from tests.parts.alerts import NIGHT_US, notification

FENCE = 1_767_323_050_000_001
ENTRIES_MAX = 3
TOTAL, IOS = AlertKey("Low"), AlertKey("Low", "device", 'i"os\n東京 😀')
PENDING = RuleState("pending", NIGHT_US, NIGHT_US + 1, Verdict("breach", 1, 30.5, 1 / 30, 0.01, 0.1, 0.4, 0.5, "adjusted", 300), NIGHT_US)
FIRING = replace(PENDING, state="firing", incident_us=NIGHT_US + 1, incidents_us=(NIGHT_US + 1,), told=True, cause=AlertKey("Low"))
ENTRY = OutboxEntry(channel="oncall", notification=notification(value="東京"))
TRANSITION = ENTRY.notification.transition
FULL = Commit({TOTAL: PENDING, IOS: FIRING}, (), (ENTRY,), (TRANSITION,))
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
SILENCE = Silence(id="5f3c", matchers=Matchers(rule="L*"), starts=NOON, ends=NOON + timedelta(hours=1), author="kim", reason="東京")


@pytest.fixture
async def store(redis: Redis | None, unique_name: str) -> AlertStore:
    """A new store in which FENCE is the newest token."""
    if redis is None:
        return MemoryAlertStore(FENCE, ENTRIES_MAX)
    await redis.set(leader_key(unique_name, "fence"), FENCE)
    store = RedisAlertStore(redis, unique_name, ENTRIES_MAX)
    store.carry(FENCE)
    return store


def line(detail: str = "") -> AuditEntry:
    return AuditEntry(at=NOON, author="kim", action="acknowledged", subject="Low", detail=detail, reason="東京")


async def everything(store: AlertStore) -> tuple[dict[AlertKey, RuleState], list[OutboxEntry], list[Transition]]:
    return await store.states(), await store.outbox(), await store.transitions()


async def test_a_new_store_is_empty(store: AlertStore) -> None:
    assert await everything(store) == ({}, [], [])


async def test_what_was_committed_is_read_back_as_it_was(store: AlertStore) -> None:
    assert await store.commit(FENCE, FULL)
    assert await everything(store) == ({TOTAL: PENDING, IOS: FIRING}, [ENTRY], [TRANSITION])


@pytest.mark.parametrize("token", [FENCE + 1, FENCE - 1])
async def test_without_the_newest_token_nothing_is_written(store: AlertStore, token: int) -> None:
    assert not await store.commit(token, FULL)
    assert await everything(store) == ({}, [], [])


async def test_a_state_is_replaced_and_the_others_stay(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    assert await store.commit(FENCE, Commit({TOTAL: FIRING}))
    assert await store.states() == {TOTAL: FIRING, IOS: FIRING}


async def test_a_removed_state_is_gone(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    assert await store.commit(FENCE, Commit(removed=(IOS, AlertKey("never", "was", "there"))))
    assert await store.states() == {TOTAL: PENDING}


async def test_an_entry_committed_twice_waits_once(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    await store.commit(FENCE, FULL)
    assert await store.outbox() == [ENTRY]


async def test_a_postponed_entry_remembers_its_tries(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    later = ENTRY.postponed(1000.0, 0.5)
    await store.postpone(later)
    assert await store.outbox() == [later]
    assert (later.attempts, later.due) == (1, 1000.75)


async def test_a_removed_entry_is_gone_and_postponing_does_not_bring_it_back(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    await store.remove(ENTRY)
    await store.remove(ENTRY)
    await store.postpone(ENTRY.postponed(1000.0, 0.5))
    assert await store.outbox() == []


def many(count: int) -> tuple[OutboxEntry, ...]:
    return tuple(OutboxEntry(channel="oncall", notification=notification(value=str(n))) for n in range(count))


async def test_what_a_full_outbox_does_not_take_is_a_dead_letter_and_the_rest_is_written(store: AlertStore) -> None:
    entries = many(ENTRIES_MAX + 2)
    assert await store.commit(FENCE, Commit({TOTAL: FIRING}, entries=entries, transitions=(TRANSITION,)))
    assert sorted(e.id for e in await store.outbox()) == sorted(e.id for e in entries[:ENTRIES_MAX])
    assert {(letter.id, letter.error) for letter in await store.dead_letters()} == {(e.id, OUTBOX_FULL) for e in entries[ENTRIES_MAX:]}
    assert (await store.states(), await store.transitions()) == ({TOTAL: FIRING}, [TRANSITION])


@pytest.mark.parametrize("token", [FENCE + 1, FENCE - 1, None])
async def test_without_the_newest_token_nothing_leaves_the_outbox_or_changes_in_it(store: AlertStore, token: int | None) -> None:
    await store.commit(FENCE, FULL)
    store.carry(token)
    assert not await store.remove(ENTRY)
    assert not await store.postpone(ENTRY.postponed(1000.0, 0.5))
    assert not await store.dead_letter(ENTRY, "HTTP 403")
    assert (await store.outbox(), await store.dead_letters()) == ([ENTRY], [])


async def test_what_was_given_up_leaves_the_outbox_and_is_kept_with_its_reason(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    tried = ENTRY.postponed(1000.0, 0.5)
    assert await store.dead_letter(tried, "HTTP 403")
    assert await store.outbox() == []
    (letter,) = await store.dead_letters()
    assert letter == DeadLetter(entry=tried, error="HTTP 403", at=letter.at)
    assert abs(letter.at - datetime.now(timezone.utc)) < timedelta(minutes=1)


async def test_what_is_no_longer_in_the_outbox_cannot_be_given_up(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    await store.remove(ENTRY)
    assert await store.dead_letter(ENTRY, "HTTP 403")
    assert await store.dead_letters() == []


async def test_a_dead_letter_is_sent_again_as_if_it_was_never_tried(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    await store.dead_letter(ENTRY.postponed(1000.0, 0.5), "HTTP 403")
    store.carry(None)  # whoever serves the API need not lead
    assert await store.resend(ENTRY.id, line())
    assert (await store.outbox(), await store.dead_letters(), await store.audit()) == ([ENTRY], [], [line()])
    assert not await store.resend(ENTRY.id, line())
    assert len(await store.audit()) == 1


async def test_dead_letters_are_read_newest_first_and_the_last_thousand_are_kept(store: AlertStore) -> None:
    entries = many(DEAD_LETTERS_MAX + ENTRIES_MAX + 2)
    await store.commit(FENCE, Commit(entries=entries[: ENTRIES_MAX + 1]))
    await store.commit(FENCE, Commit(entries=entries[ENTRIES_MAX + 1 :]))
    letters = await store.dead_letters()
    assert len(letters) == DEAD_LETTERS_MAX
    assert [letter.at for letter in letters] == sorted((letter.at for letter in letters), reverse=True)
    assert entries[ENTRIES_MAX].id not in {letter.id for letter in letters}


async def test_an_acknowledgement_shows_in_the_state_of_the_incident_it_is_about(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    assert FIRING.incident_us is not None
    await store.acknowledge(IOS, Acknowledgement(FIRING.incident_us, "kim", 5), line())
    assert (await store.states())[IOS] == replace(FIRING, acknowledged_by="kim", acknowledged_us=5)
    assert await store.audit() == [line()]


async def test_an_evaluation_that_read_before_does_not_undo_an_acknowledgement(store: AlertStore) -> None:
    await store.commit(FENCE, FULL)
    read = await store.states()
    await store.acknowledge(IOS, Acknowledgement(NIGHT_US + 1, "kim", 5), line())
    await store.commit(FENCE, Commit({IOS: replace(read[IOS], at_us=NIGHT_US + 2)}))
    assert (await store.states())[IOS].acknowledged_by == "kim"


@pytest.mark.parametrize("other", [replace(FIRING, incident_us=NIGHT_US + 9), replace(FIRING, state="inactive")])
async def test_an_acknowledgement_is_over_with_its_incident(store: AlertStore, other: RuleState) -> None:
    await store.commit(FENCE, FULL)
    await store.acknowledge(IOS, Acknowledgement(NIGHT_US + 1, "kim", 5), line())
    await store.commit(FENCE, Commit({IOS: other}))
    assert (await store.states())[IOS].acknowledged_by == ""


async def test_silences_are_kept_replaced_and_forgotten(store: AlertStore) -> None:
    later = SILENCE.model_copy(update={"id": "later", "starts": NOON + timedelta(minutes=5)})
    await store.keep_silence(later, line("a"))
    await store.keep_silence(SILENCE, line("b"))
    assert await store.silences() == [SILENCE, later]
    over = SILENCE.model_copy(update={"ends": NOON})
    await store.keep_silence(over, line("c"), ("later", "never there"))
    assert await store.silences() == [over]
    assert [entry.detail for entry in await store.audit()] == ["c", "b", "a"]
    assert [entry.detail for entry in await store.audit(1)] == ["c"]


async def test_what_people_looked_at_stands_with_what_they_did_and_pushes_none_of_it_out(
    store: AlertStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("alerting.store", "alerting.memory_store"):
        monkeypatch.setattr(f"{module}.AUDIT_MAX", 3)
    at = line().at
    await store.keep_silence(SILENCE, line().model_copy(update={"detail": "did"}))
    for second in range(1, 6):
        await store.note_access(line().model_copy(update={"at": at + timedelta(seconds=second), "detail": f"saw {second}"}))
    assert [entry.detail for entry in await store.audit()] == ["saw 5", "saw 4", "saw 3", "did"]
    assert [entry.detail for entry in await store.audit(2)] == ["saw 5", "saw 4"]
    assert await store.audit(0) == []


async def test_the_audit_log_keeps_the_newest_ten_thousand(store: AlertStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert AUDIT_MAX == 10_000
    for module in ("alerting.store", "alerting.memory_store"):
        monkeypatch.setattr(f"{module}.AUDIT_MAX", 5)
    for number in range(8):
        await store.keep_silence(SILENCE, line(str(number)))
    assert [entry.detail for entry in await store.audit()] == ["7", "6", "5", "4", "3"]


async def test_transitions_are_read_newest_first_and_the_last_thousand_are_kept(store: AlertStore) -> None:
    told = [TRANSITION.model_copy(update={"numerator": n}) for n in range(TRANSITIONS_MAX + 5)]
    await store.commit(FENCE, Commit(transitions=tuple(told[:3])))
    await store.commit(FENCE, Commit(transitions=tuple(told[3:])))
    assert [t.numerator for t in await store.transitions(2)] == [TRANSITIONS_MAX + 4, TRANSITIONS_MAX + 3]
    assert [t.numerator for t in await store.transitions()] == list(range(TRANSITIONS_MAX + 4, 4, -1))
    assert await store.transitions(0) == []


in_redis = pytest.mark.parametrize("kind", ["valkey", "redis_server"], indirect=True)


@in_redis
async def test_a_redis_that_lost_its_token_takes_nothing(store: AlertStore, redis: Redis, unique_name: str) -> None:
    await redis.delete(leader_key(unique_name, "fence"))
    assert not await store.commit(FENCE, FULL)
    assert await everything(store) == ({}, [], [])


@in_redis
@pytest.mark.parametrize("name", ["alerts", "outbox", "transitions", "dead", "dead-order", "acks"])
async def test_a_key_of_the_wrong_kind_is_found_before_anything_is_written(
    store: AlertStore, redis: Redis, unique_name: str, name: str
) -> None:
    await redis.set(leader_key(unique_name, name), "a string")
    with pytest.raises(StoreError, match=name):
        await store.commit(FENCE, FULL)
    others = {"alerts", "outbox", "transitions", "dead", "dead-order"} - {name}
    assert await redis.exists(*(leader_key(unique_name, other) for other in others)) == 0


@in_redis
async def test_what_another_version_wrote_in_another_shape_is_passed_over(store: AlertStore, redis: Redis, unique_name: str) -> None:
    await store.commit(FENCE, FULL)
    await redis.hset(leader_key(unique_name, "alerts"), '["Other", null, null]', '{"state": "perplexed"}')
    await redis.hset(leader_key(unique_name, "outbox"), "x", "{}")
    await redis.lpush(leader_key(unique_name, "transitions"), "not JSON")
    await redis.hset(leader_key(unique_name, "acks"), '["Low", null, null]', "7")
    await redis.hset(leader_key(unique_name, "dead"), "x", '{"entry": "{}"}')
    await redis.hset(leader_key(unique_name, "silences"), "x", "{}")
    assert (await store.dead_letters(), await store.silences()) == ([], [])
    assert await everything(store) == ({TOTAL: PENDING, IOS: FIRING}, [ENTRY], [TRANSITION])


@in_redis
async def test_a_resend_into_a_full_outbox_is_refused_and_nothing_is_lost(store: AlertStore) -> None:
    entries = many(ENTRIES_MAX + 1)
    await store.commit(FENCE, Commit(entries=entries))
    with pytest.raises(StoreError, match="full"):
        await store.resend(entries[-1].id, line())
    assert [letter.id for letter in await store.dead_letters()] == [entries[-1].id]


@in_redis
async def test_states_of_the_first_version_are_read(store: AlertStore, redis: Redis, unique_name: str) -> None:
    """Without what came later, and with a verdict of the old shape."""
    old = (
        '{"state":"firing","since_us":5,"at_us":9,"verdict":{"outcome":"breach","numerator":1,"denominator":30,"rate":0.03,"upper":0.1},'
        '"breach_us":1,"incident_us":5}'
    )
    await redis.hset(leader_key(unique_name, "alerts"), '["Low",null,null]', old)
    state = (await store.states())[TOTAL]
    assert (state.state, state.incident_us, state.fires, state.flaps) == ("firing", 5, True, 0)
