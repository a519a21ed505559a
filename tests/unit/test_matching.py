"""Which stages and exclusions an event matches, and that a stored event finds its match again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from schemas.funnel import Funnel
from streams.matching import CELLS, LOWEST, NO_STAGE, NOTHING, NUMBER, SEALED, Match, Matcher, asked_paths
from tests.unit.test_counting import funnel

CLEARS, MATCHED, ASCENDING = 7, 6, 8  # of a step
Record = dict[str, Any]


def matcher(*funnels: dict[str, Any]) -> Matcher:
    """Of funnels with the definitions 101, 102, …; a record is a dict of paths."""
    found = [(101 + number, Funnel.model_validate(one)) for number, one in enumerate(funnels)]
    return Matcher(found, lambda path: lambda record: record.get(path))


def match(found: Matcher, name: str, **properties: Any) -> Match | None:
    return found.matches([name], [{f"properties.{path}": value for path, value in properties.items()}])[0]


def sure(found: Match | None) -> Match:
    assert found is not None, "it is filtered"
    return found


def told(found: Match | None) -> dict[int, tuple[list[int], list[int]]] | None:
    """By number of the funnel: stages in the order they are looked at, stages whose start is cleared."""
    if found is None:
        return None
    return {step[NUMBER]: ([op[0] & 0xFF for op in step[MATCHED]], [at // CELLS for at in step[CLEARS]]) for step in found.steps}


def stage(name: str, *events: str, **where: Any) -> dict[str, Any]:
    return {"name": name, "event": list(events), "where": {f"properties.{path}": condition for path, condition in where.items()}}


# By name


def test_an_event_matches_the_stages_that_name_it_in_every_funnel() -> None:
    found = matcher(funnel("f", "abc"), funnel("g", "cb"), funnel("h", "xy"))
    assert told(match(found, "b")) == {0: ([1], []), 1: ([1], [])}
    assert told(match(found, "c")) == {0: ([2], []), 1: ([0], [])}
    assert told(match(found, "x")) == {2: ([0], [])}
    assert match(found, "z") is None


def test_the_deeper_stages_come_first() -> None:
    assert told(match(matcher(funnel("f", "apqp"), funnel("g", "ppp")), "p")) == {0: ([3, 1], []), 1: ([2, 1, 0], [])}


def test_a_stage_that_names_an_event_twice_is_one_stage() -> None:
    assert told(match(matcher(funnel(stages=[stage("1", "a", "a"), stage("2", "b")])), "a")) == {0: ([0], [])}


def test_many_events_are_matched_at_once_each_in_its_place() -> None:
    found = matcher(funnel(stages=[stage("1", "a"), stage("2", "b", p=1)]))
    names = ["b", "a", "x", "b", "a"]
    records = [{"properties.p": p} for p in (1, 1, 1, 2, 2)]
    assert [told(one) for one in found.matches(names, records)] == [{0: ([1], [])}, {0: ([0], [])}, None, None, {0: ([0], [])}]


def test_events_that_match_alike_share_their_match() -> None:
    found = matcher(funnel(stages=[stage("1", "a"), stage("2", "b", p=[1, 2])]))
    assert match(found, "b", p=1) is match(found, "b", p=2)
    assert match(found, "a", p=1) is match(found, "a")


# By condition


def test_all_conditions_of_a_stage_must_hold() -> None:
    found = matcher(funnel(stages=[stage("1", "a", p="pro", n={">": 10}), stage("2", "b")]))
    assert told(match(found, "a", p="pro", n=11)) == {0: ([0], [])}
    assert [match(found, "a", **record) for record in ({"p": "pro", "n": 10}, {"p": "free", "n": 11}, {"n": 11}, {"p": "pro"}, {})] == [
        None
    ] * 5


def test_stages_of_one_name_are_told_apart_by_their_conditions() -> None:
    found = matcher(funnel(stages=[stage("1", "v"), stage("2", "v", p=1), stage("3", "v", p=[1, 2])]))
    assert told(match(found, "v", p=1)) == {0: ([2, 1, 0], [])}
    assert told(match(found, "v", p=2)) == {0: ([2, 0], [])}
    assert told(match(found, "v", p=3)) == {0: ([0], [])}


def test_a_condition_asks_nothing_of_events_of_another_name_or_funnel() -> None:
    found = matcher(funnel("f", stages=[stage("1", "a", p=1), stage("2", "b")]), funnel("g", "ab"))
    assert told(match(found, "a", p=2)) == {1: ([0], [])}
    assert told(match(found, "a", p=1)) == {0: ([0], []), 1: ([0], [])}
    assert told(match(found, "b", p=2)) == {0: ([1], []), 1: ([1], [])}


def test_the_lowest_stage_is_that_of_the_event_not_of_its_name() -> None:
    found = matcher(funnel("f", stages=[stage("1", "a", p=1), stage("2", "b"), stage("3", "a")]), funnel("g", "xyba"))
    assert [step[LOWEST] for step in sure(match(found, "a", p=1)).steps] == [0, 3]
    assert [step[LOWEST] for step in sure(match(found, "a", p=2)).steps] == [2, 3]
    assert [sure(match(found, name, p=2)).lowest for name in "abx"] == [2, 1, 0]


# Exclusions


def exclusion(event: str, from_: str, to: str, **where: Any) -> dict[str, Any]:
    return {"event": event, "from": from_, "to": to, "where": {f"properties.{path}": condition for path, condition in where.items()}}


def test_an_exclusion_clears_the_starts_from_its_first_stage_to_before_its_last() -> None:
    found = matcher(funnel(events="abcd", exclude=[exclusion("x", "2b", "4d"), exclusion("y", "1a", "2b"), exclusion("b", "1a", "2b")]))
    assert told(match(found, "x")) == {0: ([], [1, 2])}
    assert told(match(found, "y")) == {0: ([], [0])}
    assert told(match(found, "b")) == {0: ([1], [0])}
    assert sure(match(found, "x")).lowest == NO_STAGE, "it comes after all that match a stage"


def test_exclusions_of_one_event_add_up_as_far_as_their_conditions_hold() -> None:
    found = matcher(
        funnel(events="abcd", exclude=[exclusion("x", "1a", "2b", p=1), exclusion("x", "3c", "4d", n=1), exclusion("x", "1a", "3c", n=1)])
    )
    assert told(match(found, "x", p=1)) == {0: ([], [0])}
    assert told(match(found, "x", n=1)) == {0: ([], [0, 1, 2])}
    assert told(match(found, "x", p=1, n=1)) == {0: ([], [0, 1, 2])}
    assert match(found, "x") is None


# Strict


def test_with_a_strict_funnel_every_event_is_looked_at_by_that_funnel_alone() -> None:
    found = matcher(funnel("f", "abc"), funnel("g", "abc", order="strict"))
    assert told(match(found, "z")) == {1: ([], [0, 1, 2])}
    assert told(match(found, "b")) == {0: ([1], []), 1: ([1], [0, 2])}
    assert matcher(funnel("f", "abc")).foreign is None


def test_strictly_an_event_of_another_funnel_is_foreign_too() -> None:
    found = matcher(funnel("f", "yz"), funnel("g", "ab", order="strict"), funnel("h", "ac", order="strict"))
    assert told(match(found, "y")) == {0: ([0], []), 1: ([], [0, 1]), 2: ([], [0, 1])}
    assert told(match(found, "a")) == {1: ([0], [1]), 2: ([0], [1])}


def test_strictly_an_event_whose_condition_fails_is_foreign() -> None:
    found = matcher(funnel(stages=[stage("1", "a"), stage("2", "b", p=1)], order="strict"))
    assert told(match(found, "b", p=1)) == {0: ([1], [0])}
    assert match(found, "b", p=2) is match(found, "z") is found.foreign
    assert told(found.foreign) == {0: ([], [0, 1])}


def test_strictly_an_exclusion_adds_nothing_but_to_the_stages_it_matches_itself() -> None:
    found = matcher(funnel(order="strict", exclude=[exclusion("b", "1a", "3c"), exclusion("x", "1a", "2b")]))
    assert told(match(found, "x")) == {0: ([], [0, 1, 2])}
    assert told(match(found, "b")) == {0: ([1], [0, 1, 2])}


def test_in_any_order_all_stages_are_at_hand_ascending() -> None:
    (step,) = sure(match(matcher(funnel(order="any")), "b")).steps
    assert [op[0] for op in step[ASCENDING] or ()] == [0, 1, 2]
    (other,) = sure(match(matcher(funnel()), "b")).steps
    assert other[ASCENDING] is None


# What an event brings


def test_an_event_brings_values_to_the_funnels_with_dimensions_that_it_opens() -> None:
    by = {"dimensions": {"d": "properties.d"}}
    found = matcher(funnel("f", "ab", **by), funnel("g", "ab"), funnel("h", "ba", **by), funnel("i", "ab", **by))
    assert [sure(match(found, name)).openers for name in "ab"] == [(0, 3), (2,)]
    assert not found.alone
    assert matcher(funnel("f", "ab", **by), funnel("g", "ab")).alone


def test_an_event_brings_amounts_to_the_stages_with_a_value_that_it_matches() -> None:
    paying = [stage("1", "a"), stage("2", "b", p=1) | {"value": "properties.n"}, stage("3", "b") | {"value": "properties.n"}]
    found = matcher(funnel("f", "ab"), funnel("g", stages=paying))
    matches = [sure(one) for one in (match(found, "a"), match(found, "b", p=1), match(found, "b"))]
    assert [[(s >> 8, s & 0xFF) for s in sorted(one.stages)] for one in matches] == [[], [(1, 1), (1, 2)], [(1, 2)]]
    excluding = matcher(funnel(stages=paying, exclude=[exclusion("x", "1", "2")]))
    assert sure(match(excluding, "x")).stages == (), "an exclusion has no value, though the last stage has one"


# Keys

CONDITIONED = [
    funnel("f", stages=[stage("1", "a", p=1), stage("2", "a", q=1), stage("3", "b")], exclude=[exclusion("a", "1", "3", r=1)]),
    funnel("g", stages=[stage("1", "b"), stage("2", "a"), stage("3", "c", p=1)], order="strict"),
]


def every_match(found: Matcher, names: str = "abcz", paths: str = "pqr") -> list[Match]:
    """Of every name with every combination of conditions."""
    records: Sequence[Record] = [dict(zip(paths, values)) for values in product((0, 1), repeat=len(paths))]
    return [sure(match(found, name, **record)) for record in records for name in names]


def test_a_stored_match_is_found_again_by_another_matcher() -> None:
    """One that has met none of these events, and one that met them in another order."""
    mine = every_match(matcher(*CONDITIONED))
    fresh, other = matcher(*CONDITIONED), matcher(*CONDITIONED)
    theirs = {one.key: one for one in every_match(other, "zcba", "rpq")}
    for one in mine:
        found = fresh.by_key(one.key)
        assert (found.steps, found.key, found.openers, found.stages, found.lowest) == (
            one.steps,
            one.key,
            one.openers,
            one.stages,
            one.lowest,
        )
        assert theirs[one.key].steps == one.steps
    assert len({one.key for one in mine}) == 8 + 1 + 1 + 1, "a and what it meets, b, c that meets, and all that is foreign"


def test_what_is_matched_after_a_stored_match_was_found_is_the_same_match() -> None:
    key = sure(match(matcher(*CONDITIONED), "a", p=1)).key
    found = matcher(*CONDITIONED)
    assert found.by_key(key) is match(found, "a", p=1) is found.by_key(key)


def test_more_conditions_than_bits_in_a_byte_have_keys_of_their_own() -> None:
    stages = [stage(f"s{n}", "a", **{f"p{n}": 1}) for n in range(20)]
    found, other = matcher(funnel(stages=stages)), matcher(funnel(stages=stages))
    for holding in ([0], [7], [8], [15], [16], [19], [0, 8, 16], [*range(20)]):
        one = sure(match(found, "a", **{f"p{n}": 1 for n in holding}))
        assert told(other.by_key(one.key)) == told(one) == {0: (holding[::-1], [])}


def test_a_foreign_event_is_found_again() -> None:
    found, other = (matcher(*CONDITIONED) for _ in range(2))
    assert told(other.by_key(sure(match(found, "z")).key)) == {1: ([], [0, 1, 2])}


def test_a_sealed_event_does_nothing() -> None:
    assert matcher(*CONDITIONED).by_key(SEALED) is NOTHING
    assert (NOTHING.steps, NOTHING.openers, NOTHING.stages) == ((), (), ())


def test_no_match_has_the_key_of_a_sealed_one() -> None:
    assert SEALED not in {one.key for one in every_match(matcher(*CONDITIONED))}


@pytest.mark.parametrize(
    ("written", "otherwise"),
    [
        (
            {"exclude": [exclusion("x", "1a", "2b", p=1), exclusion("x", "2b", "3c", q=1)]},
            {"exclude": [exclusion("x", "2b", "3c", q=1), exclusion("x", "1a", "2b", p=1)]},
        ),
        ({"stages": [stage("1", "a", "x", p=1), stage("2", "x")]}, {"stages": [stage("one", "x", "a", p=1), stage("two", "x")]}),
        ({"stages": [stage("1", "x", p=1, q=1), stage("2", "b")]}, {"stages": [stage("1", "x", q={"equals": 1}, p=[1]), stage("2", "b")]}),
    ],
    ids=["exclusions", "event names", "conditions"],
)
def test_a_key_means_the_same_however_one_definition_is_written(written: dict[str, Any], otherwise: dict[str, Any]) -> None:
    """Where the definition is the same, stored events are folded again by their keys."""
    assert Funnel.model_validate(funnel(**written)).definition == Funnel.model_validate(funnel(**otherwise)).definition
    found, other = matcher(funnel(**written)), matcher(funnel(**otherwise))
    for record in ({"p": 1}, {"q": 1}, {"p": 1, "q": 1}):
        one = match(found, "x", **record)
        assert told(match(other, "x", **record)) == told(one)
        if one is not None:
            assert told(other.by_key(one.key)) == told(one)


def test_the_paths_that_conditions_look_at_are_those_of_stages_and_exclusions() -> None:
    assert asked_paths(Funnel.model_validate(CONDITIONED[0])) == {"properties.p", "properties.q", "properties.r"}
    assert asked_paths(Funnel.model_validate(funnel())) == set()
