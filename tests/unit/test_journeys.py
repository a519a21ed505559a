"""Who reaches which stage, and what one event does to the counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.config import Config
from schemas.duration import Duration
from streams.counting import ShardCount
from streams.plan import Plan, Registry
from streams.replay import replay
from streams.windows import EVENTS, USERS, VALUE, FunnelCounts

AT = 1_690_000_000  # seconds; 2023-07-22T04:26:40Z
MINUTES_5 = Duration("5m")


def funnel(name: str = "f", events: str = "abc", **changes: Any) -> dict[str, Any]:
    """A funnel with one stage a letter, reached by the event of that letter."""
    stages = [{"name": f"{place}{event}", "event": event} for place, event in enumerate(events, 1)]
    return {"name": name, "source": "web", "conversion_window": "60s", "windows": ["5m"], "stages": stages} | changes


def config(*funnels: dict[str, Any], **source: Any) -> Config:
    web = {"name": "web", "topic": "clicks", "trust_key": True} | source
    return Config.model_validate({"sources": [web], "funnels": list(funnels or [funnel()])})


def event(name: str, second: float, entity: str = "u", event_id: str = "", **properties: Any) -> bytes:
    record = {"event": name, "timestamp": AT + second, "user_id": entity, "properties": properties, "event_id": event_id}
    return json.dumps(record).encode()


def events(text: str) -> list[bytes]:
    """`a@0 b@10`: the events of one entity."""
    return [event(name, float(second)) for name, _, second in (word.partition("@") for word in text.split())]


def reaches(records: Sequence[bytes], names: str = "abc", setup: Config | None = None) -> str:
    """What one entity reached in the first funnel, in the words of the table: `a@0 b@10`."""
    line = next(replay(setup or config(funnel(events=names)), records, per_entity=True).per_entity())
    return " ".join(f"{names[stage - 1]}@{_second(at)}" for stage, at in line["reached"])


def _second(at: str) -> str:
    passed = datetime.fromisoformat(at.replace("Z", "+00:00")) - datetime.fromisoformat("2023-07-22T04:26:40+00:00")
    return f"{passed / timedelta(seconds=1):g}"


class Shard:
    """One shard, chunk by chunk, and the counts its deltas add up to."""

    def __init__(self, setup: Config) -> None:
        self.stored: dict[str, bytes] = {}
        self.admitted: dict[Registry, set[str]] = {}
        self.sums: dict[int, FunnelCounts] = {}
        self.restart(setup)

    def restart(self, setup: Config) -> None:
        """Forget what is in memory and count on from the stored states, with today's funnels."""
        self.plan = Plan(setup, setup.sources[0])
        self.count = ShardCount(self.plan, getattr(self, "watermark_us", -1))
        for plan in self.plan.funnels:
            held = self.sums.setdefault(plan.definition, FunnelCounts(plan))
            self.sums[plan.definition] = FunnelCounts(plan, held.buckets, held.totals)

    def feed(self, *records: bytes | None) -> dict[str, int]:
        """Fold one chunk; its fates."""
        pending = self.count.decode(0, len(records), records, [None] * len(records), 10**18)
        if pending.unknown:
            self.count.learn(pending, {registry: self._admit(registry, texts) for registry, texts in pending.unknown.items()})
        self.count.hold(pending.missing, [self.stored.get(entity) for entity in pending.missing])
        write = self.count.fold(pending).write
        self.stored.update(write.states)
        self.watermark_us = write.deltas.watermark_us
        for (definition, width, bucket), cells in write.deltas.buckets.items():
            self.sums[definition].add(width, bucket, cells)
        for definition, cells in write.deltas.totals.items():
            self.sums[definition].add_totals(cells)
        for definition, width, bucket in write.deltas.expired:
            self.sums[definition].buckets.get(width, {}).pop(bucket, None)
        return write.deltas.fates

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

    def totals(self, family: str, name: str = "f") -> list[int]:
        counts = self.counts(name)
        return [counts.total(family, stage) for stage in range(len(counts.plan.funnel.stages))]

    def by_value(self, dimension: str, name: str = "f") -> dict[str, list[int]]:
        return {value: self.users(name, "5m", dimension, value) for value in self.counts(name).values(dimension)}


@pytest.fixture
def shard() -> Shard:
    return Shard(config())


# Reaching a stage


@pytest.mark.parametrize(
    ("given", "reached"),
    [
        ("a@0 b@10 c@60", "a@0 b@10 c@60"),
        ("a@0 b@10 c@61", "a@0 b@10"),
        ("a@0 b@10 c@60.001", "a@0 b@10"),
        ("a@0 a@30 b@40 c@80", "a@0 a@30 b@40 c@80"),
        ("b@0 a@10 c@20", "a@10"),
        ("b@5 a@5", "a@5 b@5"),
        ("a@0 b@10 b@20", "a@0 b@10 b@20"),
        ("a@0 c@10 b@20", "a@0 b@20"),
        ("a@0 x@5 b@10", "a@0 b@10"),
        ("a@0 b@10 a@20 c@60", "a@0 b@10 a@20 c@60"),
        ("a@0 b@10 a@20 c@61", "a@0 b@10 a@20"),
        ("a@0 b@10 a@20 b@30 c@80", "a@0 b@10 a@20 b@30 c@80"),
        ("c@0", ""),
    ],
)
def test_a_stage_is_reached_as_the_table_says(given: str, reached: str) -> None:
    assert reaches(events(given)) == reached


def test_an_event_never_chains_onto_itself() -> None:
    """First order, second order: two events are needed, and the deeper stage is reached first."""
    records = events("p@0 p@5 p@100")
    found = next(replay(config(funnel(events="pp")), records, per_entity=True).per_entity())["reached"]
    assert [(stage, _second(at)) for stage, at in found] == [(1, "0"), (2, "5"), (1, "5"), (1, "100")]


def test_one_event_may_complete_a_chain_and_open_the_next() -> None:
    setup = config(funnel(stages=[{"name": "1", "event": ["a", "x"]}, {"name": "2", "event": ["b", "x"]}]))
    found = next(replay(setup, events("a@0 x@10 b@65"), per_entity=True).per_entity())
    assert [(stage, _second(at)) for stage, at in found["reached"]] == [(1, "0"), (2, "10"), (1, "10"), (2, "65")]


def test_a_stage_is_reached_by_any_of_its_events() -> None:
    setup = config(funnel(stages=[{"name": "1", "event": ["a", "z"]}, {"name": "2", "event": "b"}]))
    assert reaches(events("z@0 b@1"), setup=setup) == "a@0 b@1"


def test_the_deepest_stage_of_every_entity_is_told_by_entity() -> None:
    records = [event("a", 0, "v"), event("b", 1, "v"), event("c", 2, "u"), event("x", 3, "t")]
    found = replay(config(), records, per_entity=True).per_entity()
    assert [(line["entity"], line["funnel"], line["stage"]) for line in found] == [("t", "f", 0), ("u", "f", 0), ("v", "f", 2)]


# The total order


@pytest.mark.parametrize("given", ["a@0 b@10 c@60", "a@0 a@30 b@40 c@80", "a@5 b@5 c@5", "a@0 b@5 a@5 c@10"])
def test_events_of_one_chunk_may_come_in_any_order(given: str) -> None:
    assert reaches(events(given)[::-1]) == reaches(events(given))


def test_at_one_moment_the_lower_stage_comes_first() -> None:
    assert reaches([event("c", 5, event_id="1"), event("b", 5, event_id="2"), event("a", 5, event_id="3")]) == "a@5 b@5 c@5"


def test_at_one_moment_and_stage_the_lower_event_id_comes_first() -> None:
    setup = config(funnel(dimensions={"d": "properties.d"}))
    for records in _both_ways(event("a", 5, event_id="1", d="z"), event("a", 5, event_id="2", d="a")):
        shard = Shard(setup)
        shard.feed(*records)
        assert shard.by_value("d") == {"a": [1, 0, 0], "z": [0, 0, 0]}


def test_without_event_ids_the_lower_bytes_come_first() -> None:
    setup = config(funnel(dimensions={"d": "properties.d"}))
    for records in _both_ways(event("a", 5, d="1"), event("a", 5, d="2")):
        shard = Shard(setup)
        shard.feed(*records)
        assert shard.by_value("d") == {"1": [0, 0, 0], "2": [1, 0, 0]}


def _both_ways(one: bytes, other: bytes) -> list[list[bytes]]:
    return [[one, other], [other, one]]


def test_the_reaches_of_a_funnel_do_not_depend_on_the_funnels_beside_it() -> None:
    records = events("a@0 c@5 b@5")
    beside = config(funnel(), funnel("g", "cq"))
    assert reaches(records, setup=beside) == reaches(records) == "a@0 b@5 c@5"


def test_each_funnel_orders_simultaneous_events_by_its_own_stages() -> None:
    """What is lowest in one may be deepest in the other; neither is held up by what only the other looks at."""
    setup = config(funnel("f", "abc"), funnel("g", "cba"))
    found = replay(setup, events("c@5 b@5 a@5 x@5"), per_entity=True).per_entity()
    assert [[stage for stage, _ in line["reached"]] for line in found] == [[1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("others", [(), (funnel("g", "cba"),)], ids=["one funnel", "two"])
def test_simultaneous_events_each_have_their_fate(others: tuple[dict[str, Any], ...]) -> None:
    shard = Shard(config(funnel(), *others))
    assert shard.feed(*events("x@5 y@5"), event("x", 5, "v")) == {"filtered": 3}
    assert shard.feed(*events("x@5 a@5 b@5 b@5")) == {"filtered": 1, "applied": 2, "duplicate": 1}
    shard.feed(event("a", 50))
    assert shard.feed(*events("c@10 b@10 x@10")) == {"filtered": 1, "late": 2}
    assert shard.feed(*events("c@50 b@50"), event("b", 50, "v"), event("a", 50, "v")) == {"applied": 4}
    assert shard.users() == [2, 2, 1]


# Fates


def test_an_event_older_than_the_newest_of_its_entity_is_late_and_changes_nothing(shard: Shard) -> None:
    shard.feed(event("a", 10), event("b", 20))
    assert shard.feed(event("a", 19.999), event("a", 15, "v"), event("c", 30)) == {"applied": 2, "late": 1}
    assert shard.totals(EVENTS) == [2, 1, 1]


def test_an_event_as_old_as_the_newest_of_its_entity_is_not_late(shard: Shard) -> None:
    shard.feed(event("a", 10))
    assert shard.feed(event("b", 10)) == {"applied": 1}
    assert shard.users() == [1, 1, 0]


def test_an_event_that_no_funnel_looks_at_is_filtered_and_moves_the_watermark(shard: Shard) -> None:
    shard.feed(event("a", 0))
    assert shard.feed(event("x", 400)) == {"filtered": 1}
    assert shard.users() == [0, 0, 0]
    assert shard.feed(event("b", 30)) == {"applied": 1}, "what is filtered is not the entity's newest event"


def test_the_same_event_sent_twice_counts_once(shard: Shard) -> None:
    once = event("a", 0)
    assert shard.feed(once, once) == {"applied": 1, "duplicate": 1}
    assert shard.feed(once) == {"duplicate": 1}
    assert (shard.users(), shard.totals(EVENTS)) == ([1, 0, 0], [1, 0, 0])


def test_two_events_of_one_moment_are_no_duplicates(shard: Shard) -> None:
    assert shard.feed(event("a", 0, d=1), event("a", 0, d=2)) == {"applied": 2}


def test_an_event_id_is_the_identity_whatever_else_differs(shard: Shard) -> None:
    assert shard.feed(event("a", 0, event_id="1"), event("b", 5, event_id="1"), event("b", 6, event_id="2")) == {
        "applied": 2,
        "duplicate": 1,
    }
    assert shard.feed(event("c", 60, event_id="2")) == {"duplicate": 1}


def test_an_event_id_that_spells_another_record_is_not_that_record(shard: Shard) -> None:
    without_id = event("a", 0)
    assert shard.feed(without_id, event("b", 5, event_id=without_id.decode())) == {"applied": 2}


def test_an_identity_is_one_of_its_entity(shard: Shard) -> None:
    assert shard.feed(event("a", 0, "u", "1"), event("a", 0, "v", "1")) == {"applied": 2}


def test_an_identity_is_remembered_for_the_allowed_lateness_inclusive() -> None:
    shard = Shard(config(allowed_lateness="30s"))
    assert shard.feed(event("a", 0, event_id="1"), event("a", 30, event_id="1")) == {"applied": 1, "duplicate": 1}
    assert shard.feed(event("a", 30.001, event_id="1")) == {"applied": 1}


def test_an_identity_is_remembered_past_other_events(shard: Shard) -> None:
    shard.feed(*(event("a", second, event_id=f"{second}") for second in range(60)))
    assert shard.feed(event("a", 60, event_id="0")) == {"duplicate": 1}


def test_an_identity_is_forgotten_after_the_allowed_lateness_even_if_events_came_between(shard: Shard) -> None:
    shard.feed(event("a", 0, event_id="1"), event("a", 50, event_id="2"))
    assert shard.feed(event("a", 100, event_id="1")) == {"applied": 1}


def test_every_record_of_a_chunk_has_one_fate() -> None:
    setup = config(funnel(stages=[{"name": "1", "event": "a"}, {"name": "2", "event": "b", "value": "properties.paid"}]))
    shard = Shard(setup)
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


# Users


def test_a_user_moves_with_the_latest_reach_and_is_one_user(shard: Shard) -> None:
    shard.feed(event("a", 0), event("a", 0, "v"))
    shard.feed(event("a", 250))
    assert shard.users() == [2, 0, 0]
    shard.feed(event("a", 320))
    assert shard.users() == [1, 0, 0]
    assert shard.totals(USERS) == [2, 0, 0]
    assert shard.totals(EVENTS) == [4, 0, 0]


def test_one_entity_is_counted_in_every_funnel_by_itself() -> None:
    shard = Shard(config(funnel("f", "abc"), funnel("g", "ba")))
    shard.feed(*events("a@0 b@1 a@2"))
    assert (shard.users("f"), shard.users("g")) == ([1, 1, 0], [1, 1])


# Dimensions


DIMENSIONS = {"d": "properties.d", "e": {"field": "properties.e", "allow": ["ios", "web"]}}


def test_a_chain_counts_under_the_values_of_its_newest_start() -> None:
    shard = Shard(config(funnel(dimensions=DIMENSIONS)))
    shard.feed(event("a", 0, d="ads", e="ios"), event("b", 1, d="mail", e="web"), event("a", 2, d="mail", e="web"), event("c", 3, d="ads"))
    assert shard.by_value("d") == {"ads": [0, 1, 1], "mail": [1, 0, 0]}
    assert shard.by_value("e") == {"ios": [0, 1, 1], "web": [1, 0, 0]}
    shard.feed(event("b", 4), event("c", 5))
    assert shard.by_value("d") == {"ads": [0, 0, 0], "mail": [1, 1, 1]}


def test_the_values_of_a_dimension_add_up_to_the_total() -> None:
    setup = config(
        funnel(dimensions=DIMENSIONS, stages=[{"name": "1", "event": "a"}, {"name": "2", "event": "b", "value": "properties.paid"}])
    )
    shard = Shard(setup)
    for place in range(40):
        values = {"d": f"d{place % 7}", "e": ["ios", "web", "tv", None][place % 4], "paid": place / 10}
        shard.feed(event("a", place, f"u{place % 5}", **values), event("b", place + 0.5, f"u{place % 3}", **values))
    counts = shard.counts()
    for family in (USERS, EVENTS, VALUE):
        for dimension in DIMENSIONS:
            values = counts.values(dimension)
            assert len(values) > 2
            assert [sum(counts.total(family, stage, dimension, v) for v in values) for stage in (0, 1)] == shard.totals(family)
            assert all(counts.total(family, 0, dimension, v) >= 0 for v in values)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ({}, "__none__"),
        ({"d": None}, "__none__"),
        ({"d": ""}, "__none__"),
        ({"d": "ads"}, "ads"),
        ({"d": "größer 東京 & <b>"}, "größer 東京 & <b>"),
        ({"d": 7}, "7"),
        ({"d": 7.0}, "7"),
        ({"d": 1.5}, "1.5"),
        ({"d": True}, "true"),
        ({"d": False}, "false"),
        ({"d": "x" * 64}, "x" * 64),
        ({"d": "x" * 65}, "__other__"),
        ({"d": "line\nbreak"}, "__other__"),
        ({"d": "\x1f"}, "__other__"),
        ({"d": "nul\x00"}, "__other__"),
        ({"d": ["ads"]}, "__other__"),
        ({"d": {"name": "ads"}}, "__other__"),
    ],
    ids=repr,
)
def test_a_value_is_bounded_text(raw: dict[str, Any], shown: str) -> None:
    shard = Shard(config(funnel(dimensions=DIMENSIONS)))
    shard.feed(event("a", 0, **raw), event("b", 1))
    assert shard.by_value("d") == {shown: [1, 1, 0]}


def test_what_is_not_on_the_allow_list_is_other() -> None:
    shard = Shard(config(funnel(dimensions=DIMENSIONS)))
    shard.feed(event("a", 0, "u", e="ios"), event("a", 0, "v", e="tv"), event("a", 0, "w"))
    assert shard.by_value("e") == {"__none__": [1, 0, 0], "__other__": [1, 0, 0], "ios": [1, 0, 0]}
    assert shard.admitted == {}, "a list needs no registry"


def test_an_allow_list_holds_whatever_another_funnel_admits() -> None:
    shard = Shard(config(funnel("f", dimensions={"e": DIMENSIONS["e"]}), funnel("g", dimensions={"e": "properties.e"})))
    shard.feed(event("a", 0, e="tv"))
    assert shard.by_value("e", "g") == {"tv": [1, 0, 0]}
    assert shard.by_value("e", "f") == {"__other__": [1, 0, 0]}


def test_the_registry_admits_the_first_values_and_counts_the_rest_as_other() -> None:
    shard = Shard(config(funnel(dimensions={"d": {"field": "properties.d", "max_values": 2}})))
    shard.feed(event("a", 0, "u", d="one"))
    shard.feed(event("a", 1, "v", d="three"), event("a", 1, "w", d="four"))
    shard.feed(event("a", 2, "x", d="one"), event("a", 2, "y", d="five"), event("a", 2, "z"))
    assert shard.by_value("d") == {"__none__": [1, 0, 0], "__other__": [2, 0, 0], "four": [1, 0, 0], "one": [2, 0, 0]}


def test_only_events_that_open_a_chain_ask_for_a_place_in_the_registry() -> None:
    shard = Shard(config(funnel(dimensions={"d": {"field": "properties.d", "max_values": 1}})))
    shard.feed(event("b", 0, d="not a start"), event("a", 1, d="start"))
    assert shard.by_value("d") == {"start": [1, 0, 0]}


# Values


def paying(**stage: Any) -> Config:
    return config(funnel(stages=[{"name": "1", "event": "a"}, {"name": "2", "event": "b", "value": "properties.paid"} | stage]))


def test_values_add_up_exactly_in_any_order() -> None:
    shard = Shard(paying())
    shard.feed(event("a", 0))
    for second in range(1, 11):
        shard.feed(event("b", second, paid=0.1))
    assert shard.counts().value(1, MINUTES_5, shard.watermark_us) == 1.0
    assert sum([0.1] * 10) != 1.0


@pytest.mark.parametrize(
    ("paid", "value"),
    [(3, 3), ("4.25", 4.25), (-2.5, -2.5), (0, 0), (None, 0), ("", 0), (1e12, 1e12), (0.000_001, 0.000_001), (2.01, 2.01)],
    ids=repr,
)
def test_a_value_is_a_number_or_absent(paid: Any, value: float) -> None:
    shard = Shard(paying())
    assert shard.feed(event("a", 0), event("b", 1, paid=paid)) == {"applied": 2}
    assert shard.counts().value(1, MINUTES_5, shard.watermark_us) == value


@pytest.mark.parametrize("paid", ["much", "nan", "1e999", True, [1], {"eur": 1}, 1e13, -1e13], ids=repr)
def test_a_value_that_is_no_number_up_to_a_trillion_rejects_its_record(paid: Any) -> None:
    shard = Shard(paying())
    assert shard.feed(event("a", 0), event("b", 1, paid=paid), event("b", 2)) == {"applied": 2, "rejected:bad_value": 1}
    assert shard.totals(EVENTS) == [1, 1]


def test_a_rejected_value_does_not_move_the_watermark() -> None:
    shard = Shard(paying())
    shard.feed(event("a", 0), event("b", 100, paid="much"))
    assert shard.watermark_us == AT * 1_000_000


def test_the_rejected_are_named_by_their_place_among_all_records() -> None:
    setup = paying()
    count = ShardCount(Plan(setup, setup.sources[0]))
    records = [b"{", event("a", 0), event("b", 1, paid="much"), None, event("b", 2, paid=[])]
    counted = count.fold(count.decode(0, 5, records, [None] * 5, 10**18))
    assert sorted((r.index, r.reason) for r in counted.rejected) == [(0, "bad_json"), (2, "bad_value"), (3, "null_value"), (4, "bad_value")]


def test_an_event_that_does_not_reach_its_stage_brings_no_value() -> None:
    shard = Shard(paying())
    shard.feed(event("b", 0, paid=5), event("a", 1), event("b", 61.5, paid=7))
    assert shard.totals(VALUE) == [0, 0]


# What is stored

STORY = [
    event("a", 0, "u", "1", d="ads"),
    event("b", 10, "u", "2"),
    event("a", 20, "u", "3", d="mail"),
    event("a", 20, "v", "1", d="ads"),
    event("c", 30, "u", "4"),
    event("c", 30, "u", "4"),
    event("b", 29, "u", "5"),
    event("b", 61, "u", "6"),
    event("c", 80, "u", "7"),
    event("b", 80, "v", "2"),
]


def test_a_worker_that_begins_from_stored_states_counts_as_the_one_before_it() -> None:
    setup = config(funnel(dimensions={"d": "properties.d"}), funnel("g", "ba"))
    steady, restarted = Shard(setup), Shard(setup)
    for record in STORY:
        restarted.restart(setup)
        assert steady.feed(record) == restarted.feed(record)
    assert steady.stored == restarted.stored
    assert (steady.counts("f").buckets, steady.counts("g").buckets) == (restarted.counts("f").buckets, restarted.counts("g").buckets)
    assert (steady.counts("f").totals, steady.counts("g").totals) == (restarted.counts("f").totals, restarted.counts("g").totals)


def test_a_state_in_memory_is_newer_than_the_stored_one(shard: Shard) -> None:
    shard.feed(event("a", 0))
    old = dict(shard.stored)
    shard.feed(event("a", 200))
    shard.count.hold(["u"], [old["u"]])
    assert shard.feed(event("b", 220)) == {"applied": 1}
    assert shard.users() == [1, 1, 0]


@pytest.mark.parametrize("then", [("e", "f"), ("f", "e"), ("f",), ("e", "f", "g"), ("g", "f")])
def test_a_funnel_keeps_its_state_when_others_come_and_go(then: tuple[str, ...]) -> None:
    """Chain, duplicates and lateness of `f` go on as if nothing had been changed beside it."""
    beside = {"e": funnel("e", "ac"), "f": funnel("f", dimensions={"d": "properties.d"}), "g": funnel("g", "cba")}
    shard = Shard(config(beside["e"], beside["f"]))
    shard.feed(event("a", 0, d="ads", event_id="1"), event("b", 10, event_id="2"))
    shard.restart(config(*(beside[name] for name in then)))
    assert shard.feed(event("c", 5, event_id="3"), event("b", 10, event_id="2"), event("c", 60)) == {
        "late": 1,
        "duplicate": 1,
        "applied": 1,
    }
    assert shard.users("f") == [1, 1, 1]
    assert shard.by_value("d") == {"ads": [1, 1, 1]}


def test_a_changed_funnel_begins_anew_beside_its_old_self() -> None:
    shard = Shard(config(funnel()))
    shard.feed(*events("a@0 b@10"))
    shard.restart(config(funnel(conversion_window="61s")))
    shard.feed(*events("b@20 c@30 a@40"))
    assert shard.users() == [1, 0, 0]


def test_the_order_in_which_dimensions_are_written_changes_no_count() -> None:
    names = {"d": "properties.d", "e": "properties.e"}
    shard = Shard(config(funnel(dimensions=names)))
    shard.feed(event("a", 0, d="ads", e="ios"))
    shard.restart(config(funnel(dimensions=dict(reversed(names.items())))))
    shard.feed(event("a", 20, d="ads", e="ios"))
    assert (shard.by_value("d"), shard.by_value("e")) == ({"ads": [1, 0, 0]}, {"ios": [1, 0, 0]})


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
