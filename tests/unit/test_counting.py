"""One shard, chunk by chunk: every record has one fate, and what is stored is all that counting on needs.

`Shard` counts as a worker does, over a store that is a dict. The tests of what happens to one entity
(journeys, chains, tail) speak through it too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.config import Config
from schemas.duration import Duration
from streams.counting import Counted, Pending, ShardCount, Sweep
from streams.plan import Plan
from streams.values import Registry
from streams.windows import EVENTS, RETRACTED, RETRACTED_AGES, FunnelCounts

AT = 1_690_000_000  # seconds; 2023-07-22T04:26:40Z
FOREVER_US = 10**18
Books = dict[Any, Any]


def funnel(name: str = "f", events: str = "abc", **changes: Any) -> dict[str, Any]:
    """A funnel with one stage a letter, reached by the event of that letter; stages are named `1a`, `2b`, …"""
    stages = [{"name": f"{place}{event}", "event": event} for place, event in enumerate(events, 1)]
    return {"name": name, "source": "web", "conversion_window": "60s", "windows": ["5m"], "stages": stages} | changes


def config(*funnels: dict[str, Any], **source: Any) -> Config:
    web = {"name": "web", "topic": "clicks", "trust_key": True} | source
    return Config.model_validate({"sources": [web], "funnels": list(funnels or [funnel()])})


def plan_of(*funnels: dict[str, Any], **source: Any) -> Plan:
    setup = config(*funnels, **source)
    return Plan(setup, setup.sources[0])


def event(name: str, second: float, entity: str = "u", event_id: str = "", **properties: Any) -> bytes:
    record = {"event": name, "timestamp": AT + second, "user_id": entity, "properties": properties, "event_id": event_id}
    return json.dumps(record).encode()


def events(text: str) -> list[bytes]:
    """`a@0 b@10 b#7@12`: the events of one entity; b#7 has the event_id 7."""
    found = []
    for word in text.split():
        what, _, second = word.partition("@")
        name, _, event_id = what.partition("#")
        found.append(event(name, float(second), event_id=event_id))
    return found


class Shard:
    """One shard, chunk by chunk, and the counts its deltas add up to."""

    def __init__(self, setup: Config) -> None:
        self.stored: dict[str, bytes] = {}
        self.admitted: dict[Registry, set[str]] = {}
        self.sums: dict[int, FunnelCounts] = {}
        self.watermark_us = -1
        self.restart(setup)

    def restart(self, setup: Config) -> None:
        """Forget what is in memory and count on from the stored states, with today's funnels."""
        self.plan = Plan(setup, setup.sources[0])
        self.count = ShardCount(self.plan, self.watermark_us)
        for plan in self.plan.funnels:
            held = self.sums.setdefault(plan.definition, FunnelCounts(plan))
            self.sums[plan.definition] = FunnelCounts(plan, held.buckets, held.totals)

    def feed(self, *records: bytes | None) -> dict[str, int]:
        """Count one chunk; its fates."""
        write = self.counted(*records).write
        self.stored.update(write.states)
        self.watermark_us = write.deltas.watermark_us
        for (definition, width, bucket), cells in write.deltas.buckets.items():
            self.sums[definition].add(width, bucket, cells)
        for definition, cells in write.deltas.totals.items():
            self.sums[definition].add_totals(cells)
        for definition, width, bucket in write.deltas.expired:
            self.sums[definition].buckets.get(width, {}).pop(bucket, None)
        return write.deltas.fates

    def counted(self, *records: bytes | None) -> Counted:
        pending = decoded(self.count, *records)
        while pending.unknown:  # a combination is asked about once its parts are known
            answers = {registry: self._admit(registry, texts) for registry, texts in pending.unknown.items()}
            self.count.learn(pending, answers)
        self.count.hold(pending.missing, [self.stored.get(entity) for entity in pending.missing])
        return self.count.fold(pending)

    def _admit(self, registry: Registry, texts: set[str]) -> dict[str, bool]:
        known = self.admitted.setdefault(registry, set())
        known.update(sorted(texts - known)[: registry.max_values - len(known)])
        return {text: text in known for text in texts}

    def counts(self, name: str = "f") -> FunnelCounts:
        return next(self.sums[plan.definition] for plan in self.plan.funnels if plan.funnel.name == name)

    def users(self, name: str = "f", window: str = "5m", dimension: str | None = None, value: str | None = None) -> list[int]:
        """Users of each stage within the window at the watermark."""
        counts = self.counts(name)
        stages = range(len(counts.plan.funnel.stages))
        return [counts.users(stage, Duration(window), self.watermark_us, dimension, value) for stage in stages]

    def totals(self, family: str, name: str = "f", dimension: str | None = None, value: str | None = None) -> list[int]:
        """A count of each stage, since ever."""
        counts = self.counts(name)
        return [counts.total(family, stage, dimension, value) for stage in range(len(counts.plan.funnel.stages))]

    def by_value(self, dimension: str, name: str = "f") -> dict[str, list[int]]:
        return {value: self.users(name, "5m", dimension, value) for value in self.counts(name).values(dimension)}

    def books(self) -> Books:
        """Every count that is not 0, but what was ever taken back: that depends on the order of arrival."""
        found: Books = {}
        for plan in self.plan.funnels:
            counts, name = self.sums[plan.definition], plan.funnel.name
            found |= {(name, cell): n for cell, n in counts.totals.items() if n and cell[0] not in RETRACTED + RETRACTED_AGES}
            for width, buckets in counts.buckets.items():
                found |= {(name, width, bucket, cell): n for bucket, cells in buckets.items() for cell, n in cells.items() if n}
        return found


def decoded(count: ShardCount, *records: bytes | None, **how: Any) -> Pending:
    return count.decode(0, len(records), records, [None] * len(records), FOREVER_US, **how)


def books(setup: Config, *chunks: list[bytes]) -> Books:
    """What is counted of these chunks."""
    shard = Shard(setup)
    for chunk in chunks:
        shard.feed(*chunk)
    return shard.books()


PAYING = [{"name": "1", "event": "a"}, {"name": "2", "event": "b", "value": "properties.paid"}]


@pytest.fixture
def shard() -> Shard:
    return Shard(config())


# Fates


def test_every_record_of_a_chunk_has_one_fate() -> None:
    shard = Shard(config(funnel(stages=PAYING), allowed_lateness="5s"))
    shard.feed(event("a", 10))
    chunk = [event("a", 11), event("a", 11), event("a", 5), event("x", 12), b"{", None, event("b", 12, paid="much"), event("b", 13, paid=1)]
    assert shard.feed(*chunk) == {
        "applied": 2,
        "duplicate": 1,
        "late": 1,
        "filtered": 1,
        "rejected:bad_json": 1,
        "rejected:null_value": 1,
        "rejected:bad_value": 1,
    }


def test_the_rejected_are_named_by_their_place_among_all_records() -> None:
    count = ShardCount(plan_of(funnel(stages=PAYING)))
    records = [b"{", event("a", 0), event("b", 1, paid="much"), None, event("b", 2, paid=[])]
    counted = count.fold(decoded(count, *records))
    assert sorted((r.index, r.reason) for r in counted.rejected) == [(0, "bad_json"), (2, "bad_value"), (3, "null_value"), (4, "bad_value")]
    assert counted.records == 5


def test_a_rejected_record_does_not_move_the_watermark_a_filtered_one_does() -> None:
    shard = Shard(config(funnel(stages=PAYING)))
    shard.feed(event("a", 0), event("b", 100, paid="much"))
    assert shard.watermark_us == AT * 1_000_000
    shard.feed(event("x", 90))
    assert shard.watermark_us == (AT + 90) * 1_000_000


def test_what_is_filtered_is_not_the_entitys_newest_event(shard: Shard) -> None:
    shard.feed(event("a", 0))
    assert shard.feed(event("x", 400)) == {"filtered": 1}
    assert shard.users() == [0, 0, 0]
    assert shard.feed(event("b", 30)) == {"applied": 1}
    assert shard.totals(EVENTS) == [1, 1, 0]


# A chunk in slices

MIXED = [
    event("a", 0, "u", d="ads"),
    b"{",
    event("a", 1, "v", d="ads"),
    event("b", 2, "u", paid=1.5),
    event("x", 2, "u"),
    event("b", 3, "v", paid="much"),
    event("b", 3, "w", paid=1),
    event("b", 1, "u", paid=2),
    event("b", 1, "u", paid=2),
    None,
    event("a", 4, "w", d="tv"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_a_chunk_is_counted_alike_in_slices_of_any_size(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.counting.SLICE_RECORDS", size)
    plan = plan_of(funnel(stages=PAYING, dimensions={"d": {"field": "properties.d", "allow": ["ads"]}}))
    sliced, whole = ShardCount(plan), ShardCount(plan)
    pending, kept = decoded(sliced, *MIXED), decoded(whole, *MIXED, whole=True)
    assert (len(pending.batch.records), len(kept.batch.records)) == (0, len(kept.batch)), "what was decoded is gone again"
    found, expected = sliced.fold(pending), whole.fold(kept)
    assert found.write == expected.write
    assert sorted(found.rejected, key=lambda r: r.index) == sorted(expected.rejected, key=lambda r: r.index)
    assert {(r.index, r.reason) for r in found.rejected} == {(1, "bad_json"), (5, "bad_value"), (9, "null_value")}


def test_a_slice_with_a_value_that_nobody_knows_waits_for_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slices before it must not be counted twice, nor those after it be left out."""
    monkeypatch.setattr("streams.counting.SLICE_RECORDS", 2)
    shard = Shard(config(funnel(stages=PAYING, dimensions={"d": "properties.d"})))
    shard.feed(event("a", 0, "z", d="ads"))
    assert shard.feed(*MIXED) == {
        "applied": 6,
        "filtered": 1,
        "duplicate": 1,
        "rejected:bad_json": 1,
        "rejected:null_value": 1,
        "rejected:bad_value": 1,
    }
    assert shard.by_value("d") == {"ads": [3, 1], "tv": [1, 0]}


# States in memory and in the store


def test_only_states_that_the_fold_needs_and_memory_lacks_are_asked_for(shard: Shard) -> None:
    shard.feed(event("a", 0, "u"))
    pending = decoded(shard.count, event("b", 1, "u"), event("a", 1, "v"), event("a", 2, "v"), event("x", 1, "w"), b"{")
    assert pending.missing == ["v"]


def test_a_write_has_the_states_of_its_chunk_and_no_others(shard: Shard) -> None:
    shard.feed(event("a", 0, "u"), event("a", 0, "v"))
    write = shard.counted(event("b", 1, "v"), event("x", 1, "u")).write
    assert set(write.states) == {"v"}


def test_a_write_says_what_its_chunk_was(shard: Shard) -> None:
    pending = shard.count.decode(17, 21, [event("a", 0)], [None], FOREVER_US, {3: 8})
    write = shard.count.fold(pending).write
    assert (write.start, write.next, write.upstream) == (17, 21, {3: 8})


def test_a_state_in_memory_is_newer_than_the_stored_one(shard: Shard) -> None:
    shard.feed(event("a", 0))
    old = dict(shard.stored)
    shard.feed(event("a", 200))
    shard.count.hold(["u"], [old["u"]])
    assert shard.feed(event("b", 220)) == {"applied": 1}
    assert shard.users() == [1, 1, 0]


STORY = [
    event("a", 0, "u", "1", d="ads", p=1),
    event("b", 10, "u", "2", paid=2, p=2),
    event("a", 20, "u", "3", d="mail"),
    event("a", 20, "v", "1", d="ads"),
    event("c", 30, "u", "4", p=2),
    event("c", 30, "u", "4", p=2),
    event("b", 29, "u", "5", p=1),
    event("x", 15, "u", "8"),
    event("a", 5, "u", "9", d="web"),
    event("b", 61, "u", "6", p=2),
    event("a", 20, "u", "3", d="mail"),
    event("c", 80, "u", "7"),
    event("b", 80, "v", "2"),
    event("c", 70, "v", "3"),
    event("b", 85, "u", "10"),
    event("a", 86, "u", "11", paid=3),
]
EVERYTHING = (
    funnel(stages=[*PAYING, {"name": "3", "event": "c"}], dimensions={"d": "properties.d"}),
    funnel("g", "ba", order="strict", dimensions={"e": "properties.d", "p": "properties.p"}),
    funnel("h", "abc", exclude=[{"event": "b", "where": {"properties.p": 2}, "from": "1a", "to": "2b"}]),
    funnel(
        "i",
        order="any",
        stages=[{"name": "1", "event": "c", "where": {"properties.p": 2}}, {"name": "2", "event": "b"}, PAYING[0] | {"name": "3"}],
    ),
)


def test_a_worker_that_begins_from_stored_states_counts_as_the_one_before_it() -> None:
    setup = config(*EVERYTHING)
    steady, restarted = Shard(setup), Shard(setup)
    for record in STORY:
        restarted.restart(setup)
        assert steady.feed(record) == restarted.feed(record)
    assert steady.stored == restarted.stored
    assert steady.books() == restarted.books()
    assert all(steady.totals("u", name)[1] for name in "fghi"), "every funnel has something to tell"


IN_ANOTHER_PROCESS = """
import json, sys
from tests.unit.test_counting import EVERYTHING, STORY, Shard, config
shard = Shard(config(*EVERYTHING))
shard.feed(*STORY[:7])
print(json.dumps([shard.plan.layout, {entity: state.hex() for entity, state in shard.stored.items()}]))
"""


def test_a_state_means_the_same_in_another_process() -> None:
    """What a state is stored under (definitions, layout, the keys of its events) hangs on nothing of one process."""
    root, surroundings = Path(__file__).parents[2], os.environ | {"PYTHONHASHSEED": "1"}
    run = subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS], cwd=root, env=surroundings, stdout=subprocess.PIPE, check=True)
    layout, stored = json.loads(run.stdout)
    here = Shard(config(*EVERYTHING))
    here.feed(*STORY[:7])
    assert (layout, stored) == (here.plan.layout, {entity: state.hex() for entity, state in here.stored.items()})
    expected = [here.feed(record) for record in STORY[7:]]
    there = Shard(config(*EVERYTHING))
    there.stored = {entity: bytes.fromhex(state) for entity, state in stored.items()}
    there.restart(config(*EVERYTHING))
    assert [there.feed(record) for record in STORY[7:]] == expected


# Funnels that come, go and change


def test_a_changed_funnel_begins_anew_beside_its_old_self() -> None:
    shard = Shard(config(funnel()))
    shard.feed(*events("a@0 b@10"))
    shard.restart(config(funnel(conversion_window="61s")))
    shard.feed(*events("b@20 c@30 a@40"))
    assert shard.users() == [1, 0, 0]


@pytest.mark.parametrize("added", ["1h", "24h"])
def test_a_window_that_is_added_never_counts_fewer_than_came_since(added: str) -> None:
    shard = Shard(config(funnel(windows=["1m"])))
    shard.feed(event("a", 0))
    shard.feed(event("a", 3000, "v"))
    shard.restart(config(funnel(windows=["1m", added])))
    shard.feed(event("a", 3010))
    shard.feed(event("a", 3020, "v"))
    assert shard.users(window=added) == [2, 0, 0]


def test_a_funnel_that_comes_back_counts_nobody_twice() -> None:
    shard = Shard(config(funnel("f"), funnel("g")))
    shard.feed(event("a", 0))
    shard.restart(config(funnel("g")))
    shard.feed(event("a", 10))
    shard.restart(config(funnel("f"), funnel("g")))
    shard.feed(event("a", 20))
    assert shard.users("f") == [1, 0, 0]
    assert shard.totals("e") == [1, 0, 0]


# States at rest

DAY = 86_400


def test_states_of_those_who_are_away_come_to_rest_and_go_and_memory_knows_better_than_the_store(shard: Shard) -> None:
    shard.feed(event("a", 0, "u"), event("a", 0, "v"))
    old = dict(shard.stored)
    shard.feed(event("a", 7200, "v"))
    resting, forgotten = shard.count.rest(old.items())
    assert (resting, forgotten) == ({"u": shard.count.states["u"], "v": shard.stored["v"]}, [])
    assert resting["u"] != old["u"]
    shard.feed(event("x", 40 * DAY, "w"))
    assert shard.count.rest(resting.items()) == ({}, ["u", "v"])
    assert shard.count.states == {}


def test_states_are_looked_through_again_and_again_by_the_watermark() -> None:
    sweep, hour_us = Sweep(8 * 3600), 3600 * 1_000_000
    assert (sweep.is_due(-1), sweep.is_due(0)) == (False, True)
    sweep.went_on(7, hour_us)
    assert (sweep.is_due(hour_us), sweep.cursor) == (True, 7), "it is not through yet"
    sweep.went_on(0, 2 * hour_us)
    assert (sweep.is_due(3 * hour_us - 1), sweep.is_due(3 * hour_us)) == (False, True), "a quarter of what a state lasts after it began"


def test_a_chunk_may_be_decoded_before_the_one_ahead_of_it_is_folded() -> None:
    """And also before several: the states that they change are not forgotten."""
    setup = config(funnel())
    chunks = [events("a@0 b@10"), events("c@20 a@30"), events("b@40"), events("c@50")]
    plain, ahead = Shard(setup), Shard(setup)
    expected = [plain.feed(*chunk) for chunk in chunks]
    pending = [ahead.count.decode(0, len(chunk), list(chunk), [None] * len(chunk), FOREVER_US) for chunk in chunks]
    found = [ahead.count.fold(one).write.deltas.fates for one in pending]
    assert found == expected
    assert ahead.count.states == plain.count.states
