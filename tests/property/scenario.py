"""Random funnels and random streams for them, and how the engine counts a stream.

A stream is made in the order of event time. Every record then arrives some delay after its time: by
delays of at most the allowed lateness no event can be late, and every order of arrival without late
events can come about.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from schemas.config import Config
from streams.counting import ShardCount
from streams.ledger.contract import Claim
from streams.ledger.memory import MemoryLedger
from streams.plan import Plan
from streams.reader import Reader
from streams.replay import replay
from streams.windows import RETRACTED, RETRACTED_AGES, FunnelCounts, cell
from tests.property.brute import SECOND, Cell, Dimension, Event, Exclusion, Funnel, Match, Stage, Truth, buckets, totals, truth_of, window

BEGIN_US = 1_690_000_000 * SECOND
NAMES = "abcde"
FOREIGN = "x"  # an event that no stage matches
CONVERSIONS = (1, 10, 60, 600, 7200)
WINDOWS = (10, 60, 300, 3600, 7200, 86_400, 3 * 86_400)
LATENESS = (0, 1, 60, 600)
TIED_US = (0, 0, 0, SECOND)
DENSE_US = (0, 0, 1, 1000, 500_000, 999_000, SECOND, 5 * SECOND, 10 * SECOND, 10 * SECOND + 1)
SPARSE_US = (*DENSE_US, 59 * SECOND, 60 * SECOND, 61 * SECOND, 590 * SECOND, 3600 * SECOND, 7200 * SECOND)
GAPS_US = (TIED_US, DENSE_US, DENSE_US, SPARSE_US, (*SPARSE_US, 90_000 * SECOND))
CHANNELS = ("ads", "mail", "größer 東京", "", None, 7, 7.0, True, "c" * 64, "c" * 65, "bad\nvalue", "\x1f", ["ads"])
DEVICES = ("ios", "web", "tv", None)
ALLOWED_DEVICES = frozenset({"ios", "web"})
ALLOWED_BOTH = frozenset({"ads / ios", "ios / ads", "mail / __none__", "web / __other__", "__none__ / web"})
PLANS = ("pro", "plus", "1", 1, 1.0, True, "", None)
AMOUNTS = (0.1, 0.1, 19.99, -3, 0, "7.5", 250_000.000_001, None, "")
CONDITIONS: tuple[dict[str, Any], ...] = (
    {"plan": "pro"},
    {"plan": ["pro", 1]},
    {"plan": {"exists": False}},
    {"plan": {"exists": True}},
    {"plan": {"matches": "^p"}},
    {"plan": True},
    {"amount": {">": 0.1}},
    {"amount": {">=": 0.1, "<": 100}},
    {"amount": {"<=": 0}, "device": ["ios", "tv"]},
)
BAD = (b"{", b"[]", b'{"event": "a"}', b'{"event": "a", "timestamp": 1690000000, "user_id": "u0"}{}')
PARTITIONS = 2
LONGEST_SECONDS = {10: 3600, 60: 86_400, 3600: 30 * 86_400}  # the longest window that buckets of a width serve
FOREVER_US = 10**18

Record = tuple[bytes, "Event | None"]  # None: it is no event


@dataclass
class Scenario:
    """Funnels and what was sent, partition by partition, in chunks."""

    funnels: list[Funnel]
    lateness: int  # seconds
    partitions: list[list[list[Record]]]
    journal_length: int

    @property
    def config(self) -> Config:
        return config_of(self.funnels, self.lateness)

    def records(self) -> list[Record]:
        return [record for chunks in self.partitions for chunk in chunks for record in chunk]

    def truth(self) -> Truth:
        return truth_of(self.funnels, [event for _, event in self.records()], self.lateness * SECOND)

    def __str__(self) -> str:
        lines = [str(funnel) for funnel in self.funnels] + [f"allowed lateness {self.lateness} s"]
        for number, chunks in enumerate(self.partitions):
            lines += [f"partition {number}", *(line for chunk in chunks for line in ("  chunk", *map(_told, chunk)))]
        return "\n".join(lines[:150])


def _told(record: Record) -> str:
    raw, event = record
    if event is None:
        return f"    bad {raw!r}"
    at = (event.time_us - BEGIN_US) / SECOND
    return f"    {event.entity} {event.name}@{at:.6f} {event.event_id or 'no id'} {dict(event.properties)}"


# Funnels


def random_funnel(chance: random.Random, number: int) -> Funnel:
    order = chance.choices(("ordered", "any", "strict"), (5, 3, 2))[0]
    stages: list[Stage] = []
    for _ in range(chance.randint(2, 5)):
        again = stages and chance.random() < 0.15
        names = stages[-1].names if again else frozenset(chance.sample(NAMES, chance.choice((1, 1, 2))))
        stages.append(Stage(names, _random_where(chance, 0.2), chance.random() < 0.3))
    exclude = [] if order == "any" else [_random_exclusion(chance, len(stages)) for _ in range(chance.choice((0, 0, 1, 2)))]
    windows = tuple(sorted(chance.sample(WINDOWS, chance.randint(1, 3))))
    conversion_us = chance.choice(CONVERSIONS) * SECOND
    return Funnel(f"f{number}", tuple(stages), conversion_us, windows, _random_dimensions(chance), order, tuple(exclude))


def _random_where(chance: random.Random, share: float) -> dict[str, Any]:
    return chance.choice(CONDITIONS) if chance.random() < share else {}


def _random_exclusion(chance: random.Random, stages: int) -> Exclusion:
    begin, end = sorted(chance.sample(range(stages), 2))
    names = frozenset(chance.sample(NAMES + FOREIGN, chance.choice((1, 1, 2))))
    return Exclusion(names, _random_where(chance, 0.3), begin, end)


def _random_dimensions(chance: random.Random) -> dict[str, Dimension]:
    known = {"channel": Dimension(), "device": Dimension(allow=ALLOWED_DEVICES)}
    found = {name: known[name] for name in chance.sample(list(known), chance.randint(0, 2))}
    if len(found) == 2 and chance.random() < 0.6:
        parts = ("channel", "device") if chance.random() < 0.5 else ("device", "channel")
        found["both"] = Dimension(parts, chance.choice((None, ALLOWED_BOTH)))
    return dict(chance.sample(list(found.items()), len(found)))


def config_of(funnels: Sequence[Funnel], lateness: int, max_values: int = 100) -> Config:
    """The same funnels as a config."""
    web = {"name": "web", "topic": "clicks", "trust_key": True, "allowed_lateness": f"{lateness}s"}
    return Config.model_validate({"sources": [web], "funnels": [_written(funnel, max_values) for funnel in funnels]})


def _written(funnel: Funnel, max_values: int) -> dict[str, Any]:
    stages = enumerate(funnel.stages)
    return {
        "name": funnel.name,
        "source": "web",
        "order": funnel.order,
        "conversion_window": f"{funnel.conversion_us // SECOND}s",
        "windows": [f"{window}s" for window in funnel.windows],
        "dimensions": {name: _written_dimension(name, spec, max_values) for name, spec in funnel.dimensions.items()},
        "stages": [{"name": f"s{n}", **_written_match(s), "value": "properties.amount" if s.valued else None} for n, s in stages],
        "exclude": [{**_written_match(x), "from": f"s{x.start}", "to": f"s{x.end}"} for x in funnel.exclude],
    }


def _written_match(match: Match) -> dict[str, Any]:
    return {"event": sorted(match.names), "where": {f"properties.{name}": condition for name, condition in match.where.items()}}


def _written_dimension(name: str, dimension: Dimension, max_values: int) -> dict[str, Any]:
    of = {"combine": list(dimension.combine)} if dimension.combine else {"field": f"properties.{name}"}
    return {**of, "allow": sorted(dimension.allow) if dimension.allow else None, "max_values": max_values}


# What is sent


class Sender:
    """Records in the order of event time: mostly new events, some sent again, some bad."""

    def __init__(self, chance: random.Random, funnels: Sequence[Funnel], entities: int, lateness: int, *, dense: bool = False) -> None:
        self.chance = chance
        self.remembered = 60 if dense else 5  # events back of which one may be sent again
        self.way = [min(stage.names) for stage in chance.choice(funnels).stages]
        self.eager = chance.choice((0, 0.5, 0.8))  # how often people go the way of a funnel
        self.entities = [f"u{place}" for place in range(entities)]
        near_us = lateness * SECOND
        near = (0, 0, 1, near_us // 10, near_us // 3, near_us, near_us + 1)  # where it is the lateness that decides
        self.gaps_us = (0, 1, near_us // 50, near_us // 20, near_us // 10) if dense else chance.choice((*GAPS_US, near, near, near))
        self.now_us = BEGIN_US
        self.sent: dict[str, list[Event]] = defaultdict(list)
        self.odd_values = chance.random() < 0.5

    def send(self) -> tuple[int, Record]:
        """(its time, or that of a bad record; the record)."""
        kind = self.chance.random()
        if kind < 0.04:
            return self.now_us, (self.chance.choice(BAD), None)
        self.now_us += self.chance.choice(self.gaps_us)
        entity = self.chance.choice(self.entities)
        before = self.sent[entity]
        if before and kind < 0.12:
            again = self.chance.choice(before[-self.remembered :])  # the same record once more
            return again.time_us, (again.raw, again)
        event = self._event(entity, self._event_id(before, kind))
        before.append(event)
        return event.time_us, (event.raw, event)

    def _event_id(self, before: Sequence[Event], kind: float) -> str:
        if before and kind < 0.35:
            found = self.chance.choice(before[-self.remembered :]).event_id
        else:
            found = f"e{self.chance.randint(0, 10**9)}" if kind < 0.7 else ""
        # Of records with one id and one time, but other content, which one counts is another question: see test_permutations.
        return "" if any(e.event_id == found and e.time_us == self.now_us for e in before) else found

    def _event(self, entity: str, event_id: str) -> Event:
        name = self._following(entity) if self.chance.random() < self.eager else self.chance.choice(f"{NAMES}{NAMES}{FOREIGN}")
        return event_of(entity, name, self.now_us, event_id, self._properties(), whole=self.chance.random() < 0.5)

    def _following(self, entity: str) -> str:
        before = self.sent[entity]
        place = self.way.index(before[-1].name) + 1 if before and before[-1].name in self.way else 0
        return self.way[place % len(self.way)]

    def _properties(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, values in (("channel", CHANNELS), ("device", DEVICES), ("plan", PLANS), ("amount", AMOUNTS)):
            if self.chance.random() < 0.8:
                found[name] = self.chance.choice(values)
        if self.odd_values and self.chance.random() < 0.05:
            found["amount"] = self.chance.choice(("much", True, [1]))
        return found


def event_of(
    entity: str, name: str, time_us: int, event_id: str = "", properties: Mapping[str, Any] | None = None, *, whole: bool = False
) -> Event:
    """An event and its record; the time is in seconds (`whole`) or milliseconds where it is such a number, else ISO 8601."""
    stamp: int | str = time_us // SECOND if whole and time_us % SECOND == 0 else time_us // 1000
    if time_us % 1000:
        stamp = (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=time_us)).isoformat()
    record = {"event": name, "timestamp": stamp, "user_id": entity, "properties": properties or {}}
    raw = json.dumps(record | {"event_id": event_id} if event_id else record).encode()
    return Event(raw, entity, name, time_us, event_id, properties or {})


def scenario(
    chance: random.Random, *, events: int, entities: int, late: bool, lateness: int | None = None, dense: bool = False
) -> Scenario:
    """Random funnels and a random stream; without `late`, no event comes later than is allowed. `dense`: many within that time."""
    funnels = [random_funnel(chance, number) for number in range(chance.randint(1, 3))]
    lateness = chance.choice(LATENESS) if lateness is None else lateness
    sender = Sender(chance, funnels, entities, lateness, dense=dense)
    partitions: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    for raw, event in arrivals(chance, [sender.send() for _ in range(events)], _delay_max_us(chance, lateness, late)):
        place = chance.randrange(PARTITIONS) if event is None else int(event.entity[1:]) % PARTITIONS
        partitions[place].append((raw, event))
    share = chance.choice((0.02, 0.1, 0.5, 1.0))
    return Scenario(funnels, lateness, [list(cut(chance, p, share)) for p in partitions], chance.choice((0, 2, 256)))


def _delay_max_us(chance: random.Random, lateness: int, late: bool) -> int:
    within_us = lateness * SECOND
    return chance.choice((within_us + 1, 2 * within_us + SECOND, 9 * within_us + 30 * SECOND)) if late else chance.choice((0, within_us))


def arrivals(chance: random.Random, timed: Iterable[tuple[int, Record]], delay_max_us: int) -> list[Record]:
    """The records in a random order of arrival, each at most so much later than its time."""
    delayed = [(time_us + chance.choice((0, delay_max_us, chance.randint(0, delay_max_us))), record) for time_us, record in timed]
    chance.shuffle(delayed)  # those that arrive at once come in any order
    return [record for _, record in sorted(delayed, key=lambda one: one[0])]


def cut(chance: random.Random, records: list[Record], share: float) -> Iterator[list[Record]]:
    """Chunks, with boundaries anywhere."""
    begin = 0
    for place in range(1, len(records)):
        if chance.random() < share:
            yield records[begin:place]
            begin = place
    yield records[begin:]


# How it is counted

Counted = dict[tuple[str, str], Any]  # (where, what) -> how much


class Live:
    """Shards over a ledger, as workers count them: forgotten and begun anew now and then."""

    def __init__(self, given: Scenario, chance: random.Random) -> None:
        self.given = given
        self.config = given.config
        self.chance = chance
        self.ledger = MemoryLedger(journal_length=given.journal_length)
        self.reader = Reader(self.config, self.ledger, lambda: FOREVER_US)

    async def run(self) -> Counted:
        waiting = {partition: list(chunks) for partition, chunks in enumerate(self.given.partitions)}
        shards = [await self._begin(partition) for partition in range(PARTITIONS)]
        while any(waiting.values()):
            partition = self.chance.choice([partition for partition, chunks in waiting.items() if chunks])
            if self.chance.random() < 0.2:
                shards[partition] = await self._begin(partition)
            shards[partition] = await self._count(*shards[partition], [raw for raw, _ in waiting[partition].pop(0)])
            if self.chance.random() < 0.3:
                await self.reader.tick()
        await self.reader.tick()
        view = self.reader.views["web"]
        return counted(view.counts, self.given.funnels, view.fates, view.at_us)

    async def _begin(self, partition: int) -> tuple[Claim, ShardCount, int]:
        claim = await self.ledger.claim(f"web:{partition}", PARTITIONS, 0)
        return claim, ShardCount(Plan(self.config, self.config.sources[0]), claim.watermark_us), claim.next

    async def _count(self, claim: Claim, count: ShardCount, start: int, values: list[bytes]) -> tuple[Claim, ShardCount, int]:
        pending = count.decode(start, start + len(values), values, [None] * len(values), FOREVER_US)
        while pending.unknown:  # a combination can be asked about when its parts are known
            count.learn(pending, {r: await self.ledger.admit("web", r, sorted(texts)) for r, texts in pending.unknown.items()})
        count.hold(pending.missing, await self.ledger.states(claim.shard, pending.missing))
        await self.ledger.apply(claim, count.fold(pending).write)
        return claim, count, start + len(values)


def replayed(config: Config, records: Iterable[bytes], funnels: Sequence[Funnel]) -> Counted:
    """What the engine counts of a file, and who got where in which order."""
    found = replay(config, records, per_entity=True)
    out = counted(found.counts, funnels, found.fates, found.time_us if found.time_us >= 0 else None)
    for line in found.per_entity():
        if line["reached"]:
            out[f"{line['entity']} in {line['funnel']}", "reaches"] = [(stage, at) for stage, at in line["reached"]]
    return out


def counted(counts: Mapping[str, FunnelCounts], funnels: Sequence[Funnel], fates: Mapping[str, int], at_us: int | None) -> Counted:
    """Every count the engine has, without zeros; but what was ever taken back depends on the order of arrival."""
    out: Counted = {("", "T"): at_us}
    for fate, count in fates.items():
        _add(out, "fate", {fate.partition(":")[0]: count})
    for funnel in funnels:
        mine = counts[funnel.name]
        _add(out, f"{funnel.name} ever", {name: n for name, n in mine.totals.items() if name[0] not in RETRACTED + RETRACTED_AGES})
        for span in funnel.windows if at_us is not None else ():
            _add(out, f"{funnel.name} window {span}s", mine.window(span, at_us or 0))
        for width, by_bucket in mine.buckets.items():
            for bucket, cells in by_bucket.items():
                if bucket >= _oldest(width, at_us or 0):
                    _add(out, f"{funnel.name} bucket {bucket} of {width}s", cells)
    return out


def defined(truth: Truth, funnels: Sequence[Funnel], *, per_entity: bool = False) -> Counted:
    """The same from the recount."""
    at_us = truth.time_us if truth.time_us >= 0 else None
    out: Counted = {("", "T"): at_us}
    _add(out, "fate", truth.fates)
    for funnel in funnels:
        facts = truth.facts(funnel)
        _add(out, f"{funnel.name} ever", _named(totals(facts)))
        for span in funnel.windows if at_us is not None else ():
            _add(out, f"{funnel.name} window {span}s", _named(window(facts, span, at_us or 0)))
        for width, families in funnel.families_by_width().items():
            for bucket, cells in buckets(facts, width, families).items():
                if bucket >= _oldest(width, at_us or 0):
                    _add(out, f"{funnel.name} bucket {bucket} of {width}s", _named(cells))
        for reach in truth.reaches(funnel) if per_entity else ():
            reached = out.setdefault((f"{reach.event.entity} in {funnel.name}", "reaches"), [])
            reached.append((reach.stage + 1, iso(reach.event.time_us)))
    return out


def _oldest(width: int, at_us: int) -> int:
    """The first bucket of the longest window that this width serves; what is older may be gone."""
    return at_us // (width * SECOND) - LONGEST_SECONDS[width] // width + 1


def _add(out: Counted, where: str, cells: Mapping[str, int]) -> None:
    for name, count in cells.items():
        if count:
            out[where, name] = out.get((where, name), 0) + count


def _named(cells: Mapping[Cell, int]) -> dict[str, int]:
    return {f"h{c.stage}:{c.value}" if c.family == "h" else cell(*c): count for c, count in cells.items()}


def iso(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=time_us)
    return moment.isoformat().replace("+00:00", "Z")


def differences(found: Counted, expected: Counted) -> list[str]:
    """Each count that is not as expected, in words."""
    keys = sorted(key for key in found.keys() | expected.keys() if found.get(key, 0) != expected.get(key, 0))
    return [f"{where}, {what!r}: expected {expected.get((where, what), 0)}, found {found.get((where, what), 0)}" for where, what in keys]


def agree(found: Counted, expected: Counted, of: object) -> None:
    """Fails with the counts that differ and the story behind them."""
    wrong = differences(found, expected)
    more = [f"... and {len(wrong) - 25} more"] if len(wrong) > 25 else []
    assert not wrong, "\n".join(["", *wrong[:25], *more, "", str(of)])
