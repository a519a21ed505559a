"""The bench's growth: whoever comes was away while the others came, all of it is applied, and what is not flat is said."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.bench.crowd import EVENT_MS, LATENESS_SECONDS, STEPS, TENTHS, WALKS, Crowd, Manner
from tests.bench.growth import verdict
from tests.bench.own_work import CHUNK_RECORDS
from tests.bench.variants import DIMENSIONS, FEW, Rich, Variant, _same, _split

PEOPLE = 20_000  # more than two chunks


def keys(crowd: Crowd, chunks: int) -> list[bytes]:
    return [key for _ in range(chunks) for key in crowd.chunk()[1] if key is not None]


def test_in_steps_nobody_comes_twice_before_nearly_all_others_came() -> None:
    seen = keys(Crowd(PEOPLE, STEPS), 9)
    latest: dict[bytes, int] = {}
    away = []
    for place, key in enumerate(seen):
        if key in latest:
            away.append(place - latest[key])
        latest[key] = place
    assert len(latest) == PEOPLE
    assert min(away) >= PEOPLE * (1 - 1 / TENTHS)


def test_in_steps_no_state_is_met_twice_in_a_chunk() -> None:
    crowd = Crowd(PEOPLE, STEPS)
    assert [len(set(keys(crowd, 1))) for _ in range(5)] == [CHUNK_RECORDS] * 5


def test_in_walks_everybody_comes_for_as_many_events_as_in_the_bench() -> None:
    visits = Counter(keys(Crowd(PEOPLE, WALKS), 8))
    assert 2.3 < sum(visits.values()) / len(visits) < 2.7


@pytest.mark.parametrize("manner", [STEPS, WALKS], ids=["steps", "walks"])
def test_every_event_is_applied_and_every_state_is_held(manner: Manner) -> None:
    crowd = Crowd(PEOPLE, manner)
    work = crowd.at_work(crowd.setup())
    fates: Counter[str] = Counter()
    for _ in range(4):
        fates.update(work.count(*crowd.chunk()).deltas.fates)
    assert fates == {"applied": 4 * CHUNK_RECORDS}
    assert len(work.shard.states) == PEOPLE


def test_every_person_has_a_state_of_their_own() -> None:
    """Shared ones would all lie in the processor's caches."""
    crowd = Crowd(PEOPLE, STEPS)
    states = crowd.at_work(crowd.setup()).shard.states
    assert len({id(state) for state in states.values()}) == PEOPLE


def test_people_are_away_for_longer_than_events_may_be_late() -> None:
    assert 10_000 * STEPS.events * EVENT_MS * (1 - 1 / TENTHS) > 2 * LATENESS_SECONDS * 1000


def test_each_round_is_compared_with_the_first_of_the_same_round() -> None:
    """A minute in which the machine is three times as slow changes no ratio."""
    rounds = [{"few": 10.0, "many": 11.0}, {"few": 30.0, "many": 33.0}, {"few": 10.0, "many": 11.0}]
    lines = list(verdict(["few", "many"], rounds, ["many"]))
    assert [cell.strip() for cell in lines[3].split("|")[4:6]] == ["1.10", "1.10–1.10"]
    assert lines[-1].endswith("1.10, held")


def test_what_is_not_flat_is_said_unless_it_was_never_claimed_to_be() -> None:
    rounds = [{"none": 10.0, "more": 10.5, "asking": 20.0}] * 3
    assert "1.05, held" in list(verdict(["none", "more", "asking"], rounds, ["none", "more"]))[-1]
    assert "2.00, NOT HELD" in list(verdict(["none", "more", "asking"], rounds, ["none", "more", "asking"]))[-1]


def test_without_a_claim_nothing_is_said_to_hold() -> None:
    assert list(verdict(["one", "ten"], [{"one": 10.0, "ten": 40.0}] * 3, []))[-1] == "\n3 rounds"


def test_records_go_to_the_shard_that_holds_their_people() -> None:
    crowd = Crowd(2_000, FEW)
    variant = Variant("4", crowd, _split(crowd.at_work(crowd.setup()), 4))
    parts = variant.parts(crowd.chunk(1_000))
    assert sum(len(keys) for _, (_, keys) in parts) == 1_000
    assert all(key is not None and key.decode() in shard.shard.states for shard, (_, keys) in parts for key in keys)
    assert sum(len(shard.shard.states) for shard in variant.shards) == 2_000


def test_funnels_that_match_every_event_are_definitions_of_their_own() -> None:
    crowd = Crowd(1_000, FEW)
    work = crowd.at_work(crowd.setup(_same(crowd, 4)))
    assert len({funnel.definition for funnel in work.shard.plan.funnels}) == 5
    deltas = work.count(*crowd.chunk(1_000)).deltas
    assert len({definition for definition, _, _ in deltas.buckets}) == 5


def test_every_dimension_has_as_many_values_as_it_says_and_combinations_too() -> None:
    clicks = Crowd(20_000, WALKS, kind=Rich).chunk(5_000)[0]
    found = [json.loads(value or b"")["properties"] for value in clicks]
    for name, asked in DIMENSIONS:
        for each in asked:
            assert len({properties[each] for properties in found}) == (int(each[3:]) if len(asked) == 1 else 20)
        combinations = len({tuple(properties[each] for each in asked) for properties in found})
        if "100 combinations" in name:
            assert combinations == 100
        if "any combination" in name:
            assert combinations > 4_900
