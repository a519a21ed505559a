"""Entities under pseudonyms: nothing stored names them, nothing counted changes, also when the key does."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from base64 import urlsafe_b64encode
from collections.abc import Sequence

import pytest
from pydantic import SecretStr

from schemas.config import Config
from schemas.errors import SettingsError
from schemas.settings import PrivacySettings
from streams.agents import CountingAgent
from streams.counting import Counted, ShardCount
from streams.ledger.memory import MemoryLedger
from streams.privacy import pseudonyms_of
from streams.pseudonym import Key, Pseudonyms, Unkeyed
from streams.reader import Reader
from streams.web.entities import explained
from tests.unit.test_counting import Shard, config, decoded, event, funnel

OLD, NEW = "o" * 32, "n" * 40
ROTATION = Pseudonyms(Key(NEW), Key(OLD))
SETUP = config(
    funnel(dimensions={"channel": "properties.channel"}, windows=["5m", "24h"]), funnel("g", "aab", order="any"), allowed_lateness="60s"
)
PEOPLE = 40


class Keyed(Shard):
    """A shard counted under pseudonyms."""

    def __init__(self, setup: Config, names: Pseudonyms | None) -> None:
        super().__init__(setup)
        self.rotate(names)

    def rotate(self, names: Pseudonyms | None) -> None:
        """The worker restarts with other keys."""
        self.restart(SETUP)
        self.count.names = names

    def counted(self, *records: bytes | None) -> Counted:
        pending = decoded(self.count, *records)
        while pending.unknown:
            answers = {registry: self._admit(registry, texts) for registry, texts in pending.unknown.items()}
            self.count.learn(pending, answers)
        self.count.hold(pending.missing, [self.stored.get(entity) for entity in pending.missing])
        former = {new: (old, self.stored[old]) for new, old in pending.former.items() if new not in self.stored and old in self.stored}
        self.count.hold_former(former)
        counted = self.count.fold(pending)
        for entity in counted.write.forgotten:
            del self.stored[entity]
        return counted

    def sweep(self) -> None:
        resting, forgotten = self.count.rest([*self.stored.items()])
        self.stored.update(resting)
        for entity in forgotten:
            del self.stored[entity]


def stream(seed: int) -> list[list[bytes]]:
    """Chunks of what people do, out of order, some of it sent twice, much of it without an event_id; no two at one time."""
    dice, arrivals = random.Random(seed), list[tuple[float, bytes]]()
    for number in range(2000):
        at = number * 0.3
        own = f"person-{number % PEOPLE}/{number}" if dice.random() < 0.5 else ""
        made = event(dice.choice("abcx"), at, f"person-{dice.randrange(PEOPLE)}", own, channel=dice.choice(["ads", "mail"]))
        arrivals += [(at + dice.uniform(0, 50), made) for _ in range(2 if dice.random() < 0.2 else 1)]
    ordered = [record for _, record in sorted(arrivals)]
    return [ordered[i : i + 100] for i in range(0, len(ordered), 100)]


def everything(shard: Shard) -> str:
    return " ".join([*shard.stored, *(packed.decode("latin-1") for packed in shard.stored.values())])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "keys",
    [
        [Pseudonyms(Key(NEW))],
        [Pseudonyms(Key(OLD)), ROTATION],
        [None, Pseudonyms(Key(NEW), Unkeyed())],
        [None, Pseudonyms(Key(OLD), Unkeyed()), ROTATION, Pseudonyms(Key(NEW))],
    ],
    ids=["one key", "another key", "from none", "all of it"],
)
def test_counts_are_those_without_a_key_also_when_it_changes_midway(seed: int, keys: list[Pseudonyms | None]) -> None:
    """Nobody is counted twice who is in the middle of a funnel, and nothing that is sent again before and after."""
    chunks = stream(seed)
    plain, keyed = Shard(SETUP), Keyed(SETUP, keys[0])
    turns = {len(chunks) * turn // len(keys): names for turn, names in enumerate(keys)}
    for number, chunk in enumerate(chunks):
        if number in turns:
            keyed.rotate(turns[number])
        assert keyed.feed(*chunk) == plain.feed(*chunk)
    assert keyed.books() == plain.books()
    assert len(keyed.stored) == len(plain.stored) == PEOPLE
    assert "person-" in everything(plain)
    keyed.sweep()
    assert "person-" not in everything(keyed)
    assert keyed.books() == plain.books()


def test_a_pseudonym_is_an_hmac_of_the_id_by_the_key() -> None:
    of_entities = hmac.new(OLD.encode(), b"funnelwatch entity", hashlib.sha256).digest()
    expected = "~" + urlsafe_b64encode(hmac.new(of_entities, "größe 東京".encode(), hashlib.sha256).digest()[:16]).decode().rstrip("=")
    assert Key(OLD).entity("größe 東京") == expected
    assert len(expected) == 23
    assert ROTATION.stored("u") == (Key(NEW).entity("u"), Key(OLD).entity("u"))
    assert len({*ROTATION.fingerprints}) == 2
    assert OLD[:8] not in Key(OLD).fingerprint


def test_who_is_only_stored_by_name_is_renamed_by_the_sweep() -> None:
    keyed = Keyed(SETUP, None)
    keyed.feed(event("a", 0, "person-1"), event("a", 1, "person-2"))
    keyed.rotate(Pseudonyms(Key(NEW), Unkeyed()))
    keyed.feed(event("b", 5, "person-1"))
    keyed.sweep()
    assert {*keyed.stored} == {Key(NEW).entity("person-1"), Key(NEW).entity("person-2")}
    keyed.feed(event("b", 6, "person-2"))
    assert keyed.users()[:2] == [2, 2]


def test_a_person_whose_events_are_all_rejected_moves_with_the_first_good_one() -> None:
    setup = config(funnel(stages=[{"name": "a", "event": "a", "value": "properties.amount"}, {"name": "b", "event": "b"}]))
    keyed = Keyed(setup, None)
    keyed.restart(setup)
    keyed.feed(event("a", 0, "person-1", amount=1))
    keyed.count = ShardCount(keyed.plan, keyed.watermark_us, names=Pseudonyms(Key(NEW), Unkeyed()))
    keyed.feed(event("a", 1, "person-1", amount="much"))
    assert [*keyed.stored] == ["person-1"]
    keyed.feed(event("b", 2, "person-1"))
    assert [*keyed.stored] == [Key(NEW).entity("person-1")]
    assert keyed.users() == [1, 1]


async def test_explain_takes_the_real_id_under_either_key_and_does_not_tell_the_pseudonym() -> None:
    ledger = MemoryLedger()
    keyed = Keyed(SETUP, Pseudonyms(Key(OLD)))
    claim = await ledger.claim("web:0", 1, 0, keys=Pseudonyms(Key(OLD)).fingerprints)
    await ledger.apply(claim, keyed.counted(event("a", 0, "person-1")).write)
    reader = Reader(SETUP, ledger)
    await reader.tick()
    for names in (Pseudonyms(Key(OLD)), ROTATION):
        found = await explained(ledger, reader.views, "person-1", names.stored("person-1"))
        assert found is not None
        assert found.entity == "person-1"
        assert "~" not in found.model_dump_json()
    assert await explained(ledger, reader.views, "person-1", Pseudonyms(Key(NEW)).stored("person-1")) is None


class Asked(MemoryLedger):
    """Keeps what it was asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []

    async def states(self, shard: str, entities: Sequence[str]) -> list[bytes | None]:
        self.asked.append([*entities])
        return [b"old" if entity == Key(OLD).entity("person-1") else None for entity in entities]


async def test_both_names_are_asked_for_at_once_so_that_no_state_slips_through_while_it_moves() -> None:
    keyed, ledger = Keyed(SETUP, ROTATION), Asked()
    agent = CountingAgent.__new__(CountingAgent)
    agent._ledger = ledger
    found = await agent._look_up("web:0", decoded(keyed.count, event("a", 0, "person-1"), event("a", 1, "person-2")))
    (asked,) = ledger.asked
    assert {*asked} == {name for person in ("person-1", "person-2") for name in ROTATION.stored(person)}
    assert found.former == {Key(NEW).entity("person-1"): (Key(OLD).entity("person-1"), b"old")}
    assert found.states == [None, None]


def test_the_cache_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.pseudonym.CACHED_MAX", 10)
    key = Key(OLD)
    names = [f"u{number}" for number in range(25)]
    assert key.entities(names) == [Key(OLD).entity(name) for name in names]
    assert len(key._known) <= 10


def read(key: str = "", previous: str = "") -> Pseudonyms | None:
    return pseudonyms_of(PrivacySettings(key=SecretStr(key), previous_key=SecretStr(previous)))


WRONG: Sequence[tuple[str, str, str]] = (
    ("short", "", "FUNNELWATCH_PRIVACY__KEY has 5 characters; a key has at least 32"),
    (NEW, "short", "FUNNELWATCH_PRIVACY__PREVIOUS_KEY has 5 characters"),
    ("", OLD, "PREVIOUS_KEY is set and FUNNELWATCH_PRIVACY__KEY is not"),
    (OLD, OLD, "is the same as"),
    ("none", "", "cannot be 'none'"),
    ("file:/nowhere", "", "/nowhere cannot be read"),
)


@pytest.mark.parametrize(("key", "previous", "complaint"), WRONG)
def test_what_cannot_be_a_key_is_refused(key: str, previous: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        read(key, previous)


def test_keys_come_from_the_settings_or_from_where_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDONYMS", NEW)
    assert read() is None
    found = read("env:PSEUDONYMS", "none")
    assert found is not None
    assert found.fingerprints == (Key(NEW).fingerprint, "")
    assert NEW not in json.dumps(repr(PrivacySettings(key=SecretStr(NEW))))
