"""A batch folded: whoever comes in order goes the fast path, and everyone ends up as if all had been sorted."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest

from streams.chains import Fold
from streams.journeys import Folding, Gathering, gather
from streams.plan import Plan
from streams.tail import Reached
from tests.unit.test_counting import AT, FOREVER_US, Books, Shard, books, config, event, events, funnel, plan_of

LONG_AGO = "2000s"  # an allowed lateness within which everything here is in time


def folded(plan: Plan, records: Sequence[bytes], states: dict[str, bytes] | None = None, trace: Reached | None = None) -> Fold:
    batch = plan.decoder.decode(records, [None] * len(records), FOREVER_US, 0)
    return Folding(plan, batch, plan.prepare(batch), states or {}, trace).whole()


def reached(plan: Plan, records: Sequence[bytes], chunk: int = 100) -> list[str]:
    """What one entity reached in every funnel, folded a chunk after the other: `1@0 2@10`."""
    trace: Reached = {}
    states: dict[str, bytes] = {}
    for at in range(0, len(records), chunk):
        states |= folded(plan, records[at : at + chunk], states, trace).touched
    found = trace.get("u", {})
    return [" ".join(f"{(stage & 0xFF) + 1}@{us / 1e6 - AT:g}" for stage, us in found.get(n, [])) for n in range(len(plan.funnels))]


# What a fold says


def test_only_states_of_events_that_a_funnel_looks_at_are_wanted() -> None:
    plan = plan_of(funnel(exclude=[{"event": "y", "from": "1a", "to": "2b"}]))
    batch = plan.decoder.decode([event("a", 0, "u"), event("x", 0, "v"), event("y", 0, "w")], [None] * 3, FOREVER_US, 0)
    assert gather(batch, plan.prepare(batch), {"w": b"state"}).missing == ["u"]


@pytest.mark.parametrize("events", [1, 2, 3, 100])
def test_a_batch_gathered_in_steps_is_the_same_as_at_once(events: int) -> None:
    plan = plan_of()
    records = [event("a", n, "uvw"[n % 3]) for n in range(7)] + [event("x", 8, "u"), event("b", 9, "t")]
    batch = plan.decoder.decode(records, [None] * len(records), FOREVER_US, 0)
    prepared, states = plan.prepare(batch), {"v": b"v's", "t": b"t's"}
    gathering = Gathering(batch, prepared, states)
    while gathering.some(events):
        pass
    assert gathering.whole() == gather(batch, prepared, states)
    assert gathering.whole().places == {"u": [0, 3, 6], "v": [1, 4], "w": [2, 5], "t": [8]}
    assert (gathering.held, gathering.filtered) == ([None, b"v's", None, b"t's"], 1)


def test_a_fold_leaves_the_states_it_is_given_as_they_are() -> None:
    plan = plan_of()
    states = folded(plan, [event("a", 0, "u"), event("a", 0, "v")]).touched
    before = dict(states)
    found = folded(plan, [event("b", 1, "u"), event("x", 1, "v")], states)
    assert states == before
    assert set(found.touched) == {"u"}
    assert found.touched["u"] != before["u"]


def test_a_batch_of_nothing_folds_to_nothing() -> None:
    assert folded(plan_of(), []) == Fold()


@pytest.mark.parametrize("given", ["a@0 x@30", "x@30 a@0", "a@0 b@30 a@10", "a@30 a@30"])
def test_the_greatest_time_of_a_batch_is_its_watermark_whatever_becomes_of_the_event(given: str) -> None:
    assert folded(plan_of(), events(given)).watermark_us == (AT + 30) * 1_000_000


def test_a_late_event_is_no_older_than_the_watermark() -> None:
    plan = plan_of()
    states = folded(plan, events("a@500")).touched
    found = folded(plan, events("a@0"), states)
    assert (found.late, found.watermark_us) == (1, AT * 1_000_000)


def test_entities_do_not_touch_each_other() -> None:
    one, other = [event("a", 0, "v"), event("b", 5, "v"), event("b", 3, "v")], [event("b", 1, "w"), event("a", 2, "w"), event("b", 4, "w")]
    shard, mixed = Shard(config()), Shard(config())
    shard.feed(*one)
    shard.feed(*other)
    mixed.feed(*(record for pair in zip(one, other) for record in pair))
    assert mixed.books() == shard.books()
    assert mixed.stored == shard.stored


# One and the same, whatever the path


@pytest.mark.parametrize("given", ["a@0 b@10 c@60", "a@0 a@30 b@40 c@80", "a@5 b@5 c@5", "a@0 b@5 a@5 c@10", "a@0 b@10 b@20 c@61"])
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_events_may_arrive_in_any_order(given: str, chunk: int) -> None:
    plan = plan_of(allowed_lateness=LONG_AGO)
    expected = reached(plan, events(given))
    assert expected[0]
    for records in permutations(events(given)):
        assert reached(plan, records, chunk) == expected


ORDERS: dict[str, dict[str, Any]] = {
    "ordered": {},
    "strict": {"order": "strict"},
    "any": {"order": "any"},
    "exclude": {"exclude": [{"event": "x", "from": "1a", "to": "3c"}]},
    "where": {"stages": [{"name": "1", "event": "a"}, {"name": "2", "event": "b", "where": {"properties.d": ["ads", "tv"]}}]},
    "dimensions": {"dimensions": {"d": "properties.d"}},
    "values": {"stages": [{"name": "1", "event": "a", "value": "properties.n"}, {"name": "2", "event": "b", "value": "properties.n"}]},
}


def stream(chance: random.Random, length: int) -> list[bytes]:
    """The events of one entity in the order of time, at times that are all different."""
    found, second = [], 0.0
    for place in range(length):
        second += chance.choice((0.001, 1, 7, 10, 61))
        event_id = f"{place}" if chance.random() < 0.5 else ""
        found.append(event(chance.choice("aabbcx"), second, "u", event_id, d=chance.choice(("ads", "mail", "tv")), n=chance.randint(1, 9)))
    return found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", range(4))
def test_the_fast_path_and_the_slow_one_count_alike(order: str, seed: int) -> None:
    """In the order of time every event goes the fast path; a chunk that is out of it goes the slow one."""
    chance = random.Random(seed)
    setup = config(funnel(**ORDERS[order]), funnel("g", "ba"), allowed_lateness=LONG_AGO)
    records = stream(chance, 40)
    expected = books(setup, records)
    assert ("g", "n1") in expected
    assert books(setup, *([record] for record in records)) == expected
    assert books(setup, records[::-1]) == expected
    assert books(setup, *([record] for record in records[::-1])) == expected
    half = records[20:] + records[:20]
    assert books(setup, half[:15], half[15:30], half[30:]) == expected
    shuffled = chance.sample(records, len(records))
    assert books(setup, shuffled[:13], shuffled[13:]) == expected


def test_both_paths_leave_states_from_which_the_rest_counts_alike() -> None:
    chance = random.Random(7)
    setup = config(funnel(dimensions={"d": "properties.d"}), allowed_lateness=LONG_AGO)
    records = stream(chance, 30)
    begun, rest = records[:20], records[20:]
    late = event("a", 8, d="new")
    expected = books(setup, begun, [late], rest)
    assert books(setup, begun[::-1], [late], rest) == expected
    assert books(setup, [*begun, late, *rest]) == expected
    assert books(setup, begun, rest) != expected, "the late one matters"


@pytest.mark.parametrize("leap", [90, 120, 121, 4000])
def test_a_chunk_that_leaps_ahead_still_knows_what_came_before_it(leap: int) -> None:
    """A duplicate is one whatever else arrives with it, though nothing in the tail is as young as the chunk's end."""
    setup = config(allowed_lateness="60s")
    told_apart = Shard(setup)
    for record in (*events("a#1@0"), *events("a#1@30"), event("b", leap)):
        told_apart.feed(record)
    shard = Shard(setup)
    shard.feed(*events("a#1@0"))
    assert shard.feed(*events("a#1@30"), event("b", leap)) == {"applied": 1, "duplicate": 1}
    assert shard.books() == told_apart.books()


def test_chunk_boundaries_do_not_matter_to_chains_that_outlive_the_tail() -> None:
    setup = config(funnel(conversion_window="1h"), allowed_lateness="1s")
    records = events("a@0 b@100 a@200 c@300 b@300.5 c@2000 c@3900")
    expected = books(setup, records)
    assert {name: expected["f", name] for name in ("n0", "n1", "n2", "e2")} == {"n0": 2, "n1": 2, "n2": 2, "e2": 1}
    for size in (1, 2, 3):
        assert books(setup, *(records[at : at + size] for at in range(0, len(records), size))) == expected


# Identities


def test_two_events_of_one_moment_are_no_duplicates() -> None:
    shard = Shard(config())
    assert shard.feed(event("a", 0, d=1), event("a", 0, d=2)) == {"applied": 2}
    assert shard.feed(event("a", 0, d=3), event("a", 0, event_id="1"), event("a", 0, event_id="2")) == {"applied": 3}


def test_an_event_id_is_the_identity_whatever_else_differs() -> None:
    shard = Shard(config())
    assert shard.feed(*events("a#1@0 b#1@5 b#2@6")) == {"applied": 2, "duplicate": 1}
    assert shard.feed(*events("c#2@60")) == {"duplicate": 1}
    assert shard.totals("n") == [1, 1, 0]


def test_an_event_id_that_spells_another_record_is_not_that_record() -> None:
    shard = Shard(config())
    without_id = event("a", 0)
    assert shard.feed(without_id, event("b", 5, event_id=without_id.decode())) == {"applied": 2}
    assert shard.feed(event("b", 6, event_id="5")) == {"applied": 1}, "nor is one that is part of another"


def test_an_identity_is_one_of_its_entity() -> None:
    shard = Shard(config())
    assert shard.feed(event("a", 0, "u", "1"), event("a", 0, "v", "1")) == {"applied": 2}


def long_record(name: str, second: float, ending: str, length: int = 2000) -> bytes:
    """A record without event_id that differs from another of its kind at the very end only."""
    padding = "x" * length
    return json.dumps({"event": name, "timestamp": AT + second, "user_id": "u", "properties": {"p": padding + ending}}).encode()


@pytest.mark.parametrize("length", [500, 900, 1000, 2000, 100_000])
def test_records_without_an_id_are_told_apart_by_their_last_byte(length: int) -> None:
    shard = Shard(config())
    assert shard.feed(long_record("a", 0, "1", length), long_record("a", 0, "2", length)) == {"applied": 2}
    assert shard.feed(long_record("a", 0, "1", length), long_record("a", 0, "3", length)) == {"applied": 1, "duplicate": 1}


def test_a_long_record_is_not_kept_whole() -> None:
    shard = Shard(config())
    shard.feed(*(long_record("a", second, "", 50_000) for second in range(10)))
    assert len(shard.stored["u"]) < 20_000


# The total order


def test_at_one_moment_the_lower_stage_comes_first() -> None:
    plan = plan_of()
    for records in permutations([event("c", 5, event_id="1"), event("b", 5, event_id="2"), event("a", 5, event_id="3")]):
        assert reached(plan, records) == reached(plan, records, 1) == ["1@5 2@5 3@5"]


def by_value_of_both_ways(*records: bytes) -> list[dict[str, list[int]]]:
    """Users by the value of d, for each order of arrival, in one chunk and in many."""
    found = []
    for arriving in permutations(records):
        for chunks in ([arriving], [[record] for record in arriving]):
            shard = Shard(config(funnel(dimensions={"d": "properties.d"})))
            for chunk in chunks:
                shard.feed(*chunk)
            found.append({value: users for value, users in shard.by_value("d").items() if any(users)})
    return found


def test_at_one_moment_and_stage_the_lower_event_id_comes_first() -> None:
    found = by_value_of_both_ways(event("a", 5, event_id="1", d="z"), event("a", 5, event_id="2", d="a"))
    assert found == [{"a": [1, 0, 0]}] * 4


def test_an_event_without_an_id_comes_before_one_that_has_one() -> None:
    found = by_value_of_both_ways(event("a", 5, event_id="!", d="a"), event("a", 5, d="z"))
    assert found == [{"a": [1, 0, 0]}] * 4


def test_of_one_id_and_one_moment_one_event_counts_whichever_came_first() -> None:
    found = by_value_of_both_ways(event("a", 5, event_id="1", d="z"), event("a", 5, event_id="1", d="a"))
    assert found == [{"a": [1, 0, 0]}] * 4


def test_without_event_ids_the_lower_bytes_come_first() -> None:
    found = by_value_of_both_ways(event("a", 5, d="1"), event("a", 5, d="2"))
    assert found == [{"2": [1, 0, 0]}] * 4


def test_the_reaches_of_a_funnel_do_not_depend_on_the_funnels_beside_it() -> None:
    records = events("a@0 c@5 b@5")
    assert reached(plan_of(funnel(), funnel("g", "cq")), records)[0] == reached(plan_of(funnel()), records)[0] == "1@0 2@5 3@5"


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_each_funnel_orders_simultaneous_events_by_its_own_stages(chunk: int) -> None:
    """What is lowest in one may be deepest in the other; neither is held up by what only the other looks at."""
    plan = plan_of(funnel("f", "abc"), funnel("g", "cba"))
    assert reached(plan, events("c@5 b@5 a@5 x@5"), chunk) == ["1@5 2@5 3@5", "1@5 2@5 3@5"]


@pytest.mark.parametrize("others", [(), (funnel("g", "cba"),)], ids=["one funnel", "two"])
def test_simultaneous_events_each_have_their_fate(others: tuple[dict[str, Any], ...]) -> None:
    shard = Shard(config(funnel(), *others))
    assert shard.feed(*events("x@5 y@5"), event("x", 5, "v")) == {"filtered": 3}
    assert shard.feed(*events("x@5 a@5 b@5 b@5")) == {"filtered": 1, "applied": 2, "duplicate": 1}
    shard.feed(event("a", 70))
    assert shard.feed(*events("c@9 b@9 x@9")) == {"filtered": 1, "late": 2}
    assert shard.feed(*events("c@70 b@70"), event("b", 70, "v"), event("a", 70, "v")) == {"applied": 4}
    assert shard.users() == [2, 2, 1]


# Several funnels


def test_one_entity_is_counted_in_every_funnel_by_itself() -> None:
    shard = Shard(config(funnel("f", "abc"), funnel("g", "ba")))
    shard.feed(*events("a@0 b@1 a@2"))
    assert (shard.users("f"), shard.users("g")) == ([1, 1, 0], [1, 1])


BESIDE = {
    "ordered": funnel("e", "ac"),
    "with dimensions": funnel("e", "ba", dimensions={"d": "properties.d", "n": "properties.n"}),
    "strict": funnel("e", "ab", order="strict", dimensions={"n": "properties.n"}),
    "any": funnel("e", "cba", order="any", dimensions={"d": "properties.d"}),
    "with conditions": funnel("e", stages=[{"name": "1", "event": "a", "where": {"properties.d": "ads"}}, {"name": "2", "event": "b"}]),
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("mine", [{}, {"dimensions": {"d": "properties.d"}}], ids=["plain", "by dimension"])
def test_what_a_funnel_counts_does_not_depend_on_the_funnels_beside_it(beside: str, mine: dict[str, Any]) -> None:
    chance = random.Random(3)
    records = stream(chance, 40)
    arriving = chance.sample(records, len(records))
    alone = config(funnel(**mine), allowed_lateness=LONG_AGO)
    before = config(BESIDE[beside], funnel(**mine), allowed_lateness=LONG_AGO)
    after = config(funnel(**mine), BESIDE[beside], allowed_lateness=LONG_AGO)
    expected = books(alone, records)
    for setup in (before, after):
        for chunks in ([records], [arriving], [[record] for record in arriving]):
            assert own(books(setup, *chunks)) == expected


def own(found: Books) -> Books:
    """What is counted in the funnel f."""
    return {key: count for key, count in found.items() if key[0] == "f"}


def test_an_event_that_opens_several_funnels_brings_each_its_own_values() -> None:
    shard = Shard(
        config(
            funnel("f", "ab", dimensions={"d": "properties.d", "e": "properties.e"}),
            funnel("g", "ab"),
            funnel("h", "ba", dimensions={"d": "properties.d"}),
            funnel("i", "ac", dimensions={"e": "properties.e"}),
        )
    )
    shard.feed(event("a", 0, d="ads", e="ios"), event("b", 1, d="mail", e="web"), event("c", 2), event("a", 3, d="tv"))
    assert (shard.totals("n", "f", "d", "ads"), shard.totals("n", "f", "e", "ios")) == ([1, 1], [1, 1])
    assert (shard.totals("n", "f", "d", "tv"), shard.totals("n", "f", "e", "__none__")) == ([1, 0], [1, 0])
    assert shard.totals("n", "g") == [2, 1]
    assert shard.totals("n", "h", "d", "mail") == [1, 1]
    assert shard.totals("n", "i", "e", "ios") == [1, 1]
    assert shard.counts("i").values("e") == ("__none__", "ios")


# The trace of one entity's way


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_the_trace_tells_of_a_late_event_as_if_it_had_come_in_time(chunk: int) -> None:
    assert reached(plan_of(), events("a@0 c@20 b@30 b@10 a@5"), chunk) == ["1@0 1@5 2@10 3@20 2@30"]


def test_the_trace_is_by_entity() -> None:
    trace: Reached = {}
    folded(plan_of(), [event("a", 0, "v"), event("b", 1, "v"), event("c", 2, "u"), event("b", 0.5, "v"), event("a", 3, "w")], trace=trace)
    found = {entity: [stage & 0xFF for stage, _ in by_funnel.get(0, [])] for entity, by_funnel in trace.items()}
    assert found == {"u": [], "v": [0, 1, 1], "w": [0]}
