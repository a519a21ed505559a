"""The engine's every count equals a recount by brute force, whatever is sent and however it is cut."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.config import Config
from schemas.event import iso
from streams.counting import ShardCount
from streams.ledger.contract import Claim
from streams.ledger.memory import MemoryLedger
from streams.plan import Plan
from streams.reader import Reader
from streams.replay import replay
from streams.windows import EVENTS, USERS, VALUE, FunnelCounts
from tests.property.brute import SECOND, Event, Funnel, Stage, Truth, rows, truth_of, value_of, window_begin

BEGIN_MS = 1_690_000_000_000
NAMES = "abcde"
UNKNOWN = "x"  # an event that no funnel looks at
CONVERSIONS = ("1s", "10s", "60s", "10m", "2h")
WINDOWS = ("10s", "1m", "5m", "1h", "2h", "24h", "3d")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
TIED_MS = (0, 0, 0, 1000)
DENSE_MS = (0, 0, 1, 500, 999, 1000, 5000, 9999, 10_000)
SPARSE_MS = (*DENSE_MS, 59_000, 60_000, 61_000, 590_000, 3_600_000, 7_200_000)
GAPS_MS = (TIED_MS, DENSE_MS, SPARSE_MS, (*SPARSE_MS, 90_000_000))
ALLOWED = frozenset({"ios", "web"})
CHANNELS = ("ads", "mail", "größer 東京", "", None, 7, "c" * 64, "c" * 65, "bad\nvalue", "\x1f")
DEVICES = ("ios", "web", "tv", None)
BAD = (b"{", b"[]", b'{"event": "a"}', b'{"event": "a", "timestamp": 1690000000, "user_id": "u0"}{}')
PARTITIONS = 2


@dataclass
class Scenario:
    """Funnels and what was sent, partition by partition, in chunks."""

    funnels: list[Funnel]
    config: Config
    partitions: list[list[list[Record]]]
    journal_length: int

    def chunks(self) -> list[list[Event | None]]:
        return [[event for _, event in chunk] for chunks in self.partitions for chunk in chunks]

    def records(self) -> list[bytes]:
        return [raw for chunks in self.partitions for chunk in chunks for raw, _ in chunk]


Record = tuple[bytes, "Event | None"]


def seconds(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]


# What is sent


class Sender:
    """Events in the order of each entity's time, but for those it holds back on purpose."""

    def __init__(self, chance: random.Random, entities: int, late: bool) -> None:
        self.chance = chance
        self.entities = [f"u{place}" for place in range(entities)]
        self.late = late
        self.gaps_ms = chance.choice(GAPS_MS)
        self.now_ms = BEGIN_MS
        self.sent: dict[str, list[Event]] = defaultdict(list)

    def send(self) -> Record:
        kind = self.chance.random()
        if kind < 0.04:
            return self.chance.choice(BAD), None
        self.now_ms += self.chance.choice(self.gaps_ms)
        entity = self.chance.choice(self.entities)
        before = self.sent[entity]
        if before and kind < 0.12:
            again = before[-1]  # the same record once more
            return again.raw, again
        time_ms = self.now_ms - self.chance.choice((1, 30_000, 100_000)) if self.late and kind < 0.25 else self.now_ms
        event = self._event(entity, time_ms, self._event_id(before, kind))
        before.append(event)
        return event.raw, event

    def _event_id(self, before: Sequence[Event], kind: float) -> str:
        if before and kind < 0.35:
            return self.chance.choice(before[-5:]).event_id
        return f"e{self.chance.randint(0, 10**9)}" if kind < 0.7 else ""

    def _event(self, entity: str, time_ms: int, event_id: str) -> Event:
        name = self.chance.choice(f"{NAMES}{NAMES}{UNKNOWN}")
        properties = self._properties()
        stamp = time_ms // 1000 if time_ms % 1000 == 0 and self.chance.random() < 0.5 else time_ms
        record: dict[str, Any] = {"event": name, "timestamp": stamp, "user_id": entity, "properties": properties}
        if event_id:
            record["event_id"] = event_id
        raw = json.dumps(record).encode()
        return Event(raw, entity, name, time_ms * 1000, event_id, properties)

    def _properties(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.chance.random() < 0.9:
            found["channel"] = self.chance.choice(CHANNELS)
        if self.chance.random() < 0.9:
            found["device"] = self.chance.choice(DEVICES)
        if self.chance.random() < 0.7:
            found["amount"] = self.chance.choice((0.1, 0.1, 19.99, -3, 0, 250_000.000_001, "much"))
        return found


def random_funnel(chance: random.Random, number: int) -> Funnel:
    stages = tuple(_random_stage(chance) for _ in range(chance.randint(2, 5)))
    windows = tuple(sorted({seconds(text) for text in chance.sample(WINDOWS, chance.randint(1, 3))}))
    dimensions: dict[str, frozenset[str] | None] = {"channel": None, "device": ALLOWED}
    used = {name: dimensions[name] for name in chance.sample(list(dimensions), chance.randint(0, 2))}
    return Funnel(f"f{number}", stages, seconds(chance.choice(CONVERSIONS)) * SECOND, windows, used)


def _random_stage(chance: random.Random) -> Stage:
    return Stage(frozenset(chance.sample(NAMES, chance.randint(1, 2))), chance.random() < 0.3)


def config_of(funnels: Sequence[Funnel]) -> Config:
    web = {"name": "web", "topic": "clicks", "trust_key": True}
    return Config.model_validate({"sources": [web], "funnels": [_written(funnel) for funnel in funnels]})


def _written(funnel: Funnel) -> dict[str, Any]:
    stages = [
        {"name": f"s{place}", "event": sorted(stage.names), "value": "properties.amount" if stage.valued else None}
        for place, stage in enumerate(funnel.stages)
    ]
    dimensions = {
        name: {"field": f"properties.{name}", "allow": sorted(allowed) if allowed else None} for name, allowed in funnel.dimensions.items()
    }
    return {
        "name": funnel.name,
        "source": "web",
        "conversion_window": f"{funnel.conversion_us // SECOND}s",
        "windows": [f"{window}s" for window in funnel.windows],
        "dimensions": dimensions,
        "stages": stages,
    }


def scenario(chance: random.Random, *, events: int, entities: int, late: bool) -> Scenario:
    funnels = [random_funnel(chance, number) for number in range(chance.randint(1, 3))]
    sender = Sender(chance, entities, late)
    partitions: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    for _ in range(events):
        raw, event = sender.send()
        place = chance.randrange(PARTITIONS) if event is None else int(event.entity[1:]) % PARTITIONS
        partitions[place].append((raw, event))
    share = chance.choice((0.02, 0.1, 0.5, 1.0))
    return Scenario(funnels, config_of(funnels), [list(_cut(chance, p, share)) for p in partitions], chance.choice((0, 2, 256)))


def _cut(chance: random.Random, records: list[Record], share: float) -> Iterator[list[Record]]:
    """Chunks; a boundary never parts events of one entity and one moment."""
    begin = 0
    last = {(event.entity, event.time_us): place for place, (_, event) in enumerate(records) if event is not None}
    open_until = 0
    for place, (_, event) in enumerate(records):
        if place > begin and place > open_until and chance.random() < share:
            yield records[begin:place]
            begin = place
        if event is not None:
            open_until = max(open_until, last[event.entity, event.time_us])
    yield records[begin:]


# How it is counted


class Live:
    """Shards over a ledger, as workers count them: forgotten and begun anew now and then."""

    def __init__(self, given: Scenario, chance: random.Random) -> None:
        self.given = given
        self.chance = chance
        self.ledger = MemoryLedger(journal_length=given.journal_length)
        self.reader = Reader(given.config, self.ledger, lambda: 10**18)

    async def run(self) -> Reader:
        waiting = [(partition, chunk) for partition, chunks in enumerate(self.given.partitions) for chunk in chunks]
        shards = [await self._begin(partition) for partition in range(PARTITIONS)]
        for partition, chunk in waiting:
            if self.chance.random() < 0.2:
                shards[partition] = await self._begin(partition)
            shards[partition] = await self._count(*shards[partition], [raw for raw, _ in chunk])
            if self.chance.random() < 0.3:
                await self.reader.tick()
        await self.reader.tick()
        return self.reader

    async def _begin(self, partition: int) -> tuple[Claim, ShardCount, int]:
        claim = await self.ledger.claim(f"web:{partition}", PARTITIONS, 0)
        return claim, ShardCount(Plan(self.given.config, self.given.config.sources[0]), claim.watermark_us), claim.next

    async def _count(self, claim: Claim, count: ShardCount, start: int, values: list[bytes]) -> tuple[Claim, ShardCount, int]:
        pending = count.decode(start, start + len(values), values, [None] * len(values), 10**18)
        if pending.unknown:
            count.learn(pending, {r: await self.ledger.admit("web", r, sorted(texts)) for r, texts in pending.unknown.items()})
        count.hold(pending.missing, await self.ledger.states(claim.shard, pending.missing))
        await self.ledger.apply(claim, count.fold(pending).write)
        return claim, count, start + len(values)


Counted = dict[str, Any]


def as_counted(counts: dict[str, FunnelCounts], funnels: Sequence[Funnel], fates: dict[str, int], at_us: int | None) -> Counted:
    """Every count the engine has, without zeros."""
    found: Counted = {"at": at_us, "fates": _without_reasons(fates)}
    for funnel in funnels:
        mine = counts[funnel.name]
        for dimension in (None, *funnel.dimensions):
            values = mine.values(dimension) if dimension else ("",)
            for stage in range(len(funnel.stages)):
                for value in values:
                    key = (funnel.name, dimension, stage, value)
                    found |= _row(key, "ever", tuple(mine.total(family, stage, dimension, value) for family in (USERS, EVENTS, VALUE)))
                    for window in funnel.windows if at_us is not None else ():
                        at = (stage, window, at_us or 0, dimension, value)
                        found |= _row(key, window, (mine.users(*at), mine.events(*at), round(mine.value(*at) * 1_000_000)))
    return found


def _row(key: tuple[Any, ...], window: Any, counted: tuple[int, ...]) -> Counted:
    return {(*key, window): counted} if any(counted) else {}


def _without_reasons(fates: dict[str, int]) -> dict[str, int]:
    sums: dict[str, int] = defaultdict(int)
    for fate, count in fates.items():
        sums[fate.partition(":")[0]] += count
    return dict(sums)


def as_defined(truth: Truth) -> Counted:
    """The same from the recount."""
    at_us = truth.time_us if truth.time_us >= 0 else None
    found: Counted = {"at": at_us, "fates": {fate: count for fate, count in truth.fates.items() if count}}
    for funnel in truth.funnels:
        reaches = truth.reaches(funnel)
        for dimension in (None, *funnel.dimensions):
            spans = {"ever": 0} | {window: window_begin(window, truth.time_us) for window in funnel.windows if at_us is not None}
            for window, since_us in spans.items():
                for (stage, value), counted in rows(funnel, reaches, since_us, dimension).items():
                    found |= _row((funnel.name, dimension, stage, value), window, counted)
    return found


def by_entity(truth: Truth) -> dict[tuple[str, str], list[list[Any]]]:
    """What each entity reached in each funnel, as `replay --per-entity` tells it."""
    found: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
    for funnel in truth.funnels:
        for reach in truth.reaches(funnel):
            found[reach.entity, funnel.name].append([reach.stage + 1, iso(reach.event.time_us)])
    return dict(found)


def live_counts(given: Scenario, chance: random.Random) -> Counted:
    reader = asyncio.run(Live(given, chance).run())
    view = reader.views["web"]
    return as_counted(view.counts, given.funnels, view.fates, view.at_us)


LATENESS_US = 60 * SECOND
# A failure is made smaller before it is shown, which takes minutes.
pytestmark = pytest.mark.timeout(600)
BOUNDED = settings(
    report_multiple_bugs=False,
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
randoms = st.randoms(use_true_random=False)


@BOUNDED
@given(chance=randoms, events=st.integers(0, 25))
def test_a_file_is_counted_as_defined(chance: random.Random, events: int) -> None:
    given_ = scenario(chance, events=events, entities=3, late=False)
    truth = truth_of(given_.funnels, [[e for chunk in given_.chunks() for e in chunk]], LATENESS_US)
    found = replay(given_.config, given_.records(), per_entity=True)
    at_us = found.time_us if found.time_us >= 0 else None
    assert as_counted(found.counts, given_.funnels, found.fates, at_us) == as_defined(truth)
    assert {(line["entity"], line["funnel"]): line["reached"] for line in found.per_entity() if line["reached"]} == by_entity(truth)


@BOUNDED
@given(chance=randoms, events=st.integers(0, 25))
def test_a_stream_is_counted_as_defined_however_it_is_cut(chance: random.Random, events: int) -> None:
    """Partitions, chunks, restarts from stored states, and a reader that follows: all as one sorted file."""
    given_ = scenario(chance, events=events, entities=4, late=False)
    truth = truth_of(given_.funnels, [[e for chunk in given_.chunks() for e in chunk]], LATENESS_US)
    assert live_counts(given_, chance) == as_defined(truth)


@BOUNDED
@given(chance=randoms, events=st.integers(0, 25))
def test_a_stream_with_late_events_is_counted_as_defined(chance: random.Random, events: int) -> None:
    given_ = scenario(chance, events=events, entities=3, late=True)
    assert live_counts(given_, chance) == as_defined(truth_of(given_.funnels, given_.chunks(), LATENESS_US))


@pytest.mark.parametrize("block", range(4))
def test_short_streams_of_few_people_are_counted_as_defined(block: int) -> None:
    """Breadth: two people, so that most of what one event can do to another happens."""
    for seed in range(50 * block, 50 * (block + 1)):
        chance = random.Random(seed)
        given_ = scenario(chance, events=30, entities=2, late=seed % 4 == 0)
        assert live_counts(given_, chance) == as_defined(truth_of(given_.funnels, given_.chunks(), LATENESS_US)), f"seed {seed}"


@pytest.mark.parametrize("seed", range(6))
def test_a_long_stream_is_counted_as_defined(seed: int) -> None:
    chance = random.Random(seed)
    given_ = scenario(chance, events=1500, entities=25, late=seed % 2 == 1)
    truth = truth_of(given_.funnels, given_.chunks(), LATENESS_US)
    found = live_counts(given_, chance)
    assert found == as_defined(truth)
    assert min(truth.fates[fate] for fate in ("applied", "duplicate", "filtered", "rejected")) > 30


@pytest.mark.parametrize("seed", range(3))
def test_the_values_of_a_dimension_add_up_to_the_total(seed: int) -> None:
    """Of the recount: what it is compared with must not lose anybody either."""
    given_ = scenario(random.Random(seed), events=300, entities=6, late=False)
    truth = truth_of(given_.funnels, given_.chunks(), LATENESS_US)
    for funnel in given_.funnels:
        reaches = truth.reaches(funnel)
        total = rows(funnel, reaches, 0)
        for dimension in funnel.dimensions:
            split = rows(funnel, reaches, 0, dimension)
            for (stage, _), counted in total.items():
                assert tuple(map(sum, zip(*(c for (s, _), c in split.items() if s == stage)))) == counted
        assert {value_of(funnel, d, r.origin) for d in funnel.dimensions for r in reaches} <= {"__none__", "__other__", *_texts()}


def _texts() -> set[str]:
    return {str(value) for value in (*CHANNELS, *DEVICES) if value}
