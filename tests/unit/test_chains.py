"""What an entity's events do in a funnel, one after the other in their total order: reaches, entries, conversions, users."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from streams.ages import age_bin
from streams.chains import Blocks, Counts, Reaches, walk
from streams.plan import Plan
from tests.unit.test_counting import AT, FOREVER_US, event, events, funnel, plan_of

FAMILIES = "unvecx"  # of a record of counts, in their order
SECOND_US = 1_000_000


@dataclass
class Walk:
    """Events taken through a source's funnels, and what that counted."""

    plan: Plan
    blocks: Blocks = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    reached: Reaches = field(default_factory=dict)

    def take(self, records: Sequence[bytes], sign: int = 1) -> Walk:
        """Take events, which come in their total order."""
        batch = self.plan.decoder.decode(records, [None] * len(records), FOREVER_US, 0)
        prepared = self.plan.prepare(batch)
        while prepared.unknown:
            self.plan.learn({registry: dict.fromkeys(texts, True) for registry, texts in prepared.unknown.items()})
            prepared = self.plan.prepare(batch)
        matches, values, amounts = prepared.matches, prepared.values, prepared.amounts
        places = [place for place, match in enumerate(matches) if match is not None]
        walk(self.blocks, places, batch.times, matches, values, amounts, self.counts, sign, self.reached)
        return self

    def reaches(self, number: int = 0) -> str:
        """`1@0 2@10`: stages from 1, seconds."""
        return " ".join(f"{(stage & 0xFF) + 1}@{us / SECOND_US - AT:g}" for stage, us in self.reached.get(number, []))

    def cells(self, number: int = 0) -> dict[tuple[str, str, int], int]:
        """(family and stage from 0, values, second at which the finest bucket begins) -> count, but for 0."""
        return {
            (f"{family}{stage & 0xFF}", values, bucket * 10 - AT): count
            for stage, by_values in self.counts.records.items()
            for values, by_bucket in by_values.items()
            for bucket, record in by_bucket.items()
            for family, count in zip(FAMILIES, record)
            if count and stage >> 8 == number
        }

    def ages(self, stage: int) -> dict[int, dict[int, int]]:
        """Second at which the bucket of the opening begins -> age bin -> conversions of entries at the stage."""
        found = {
            bucket * 10 - AT: {number: count for number, count in bins.items() if count} for bucket, bins in self.counts.ages[stage].items()
        }
        return {second: bins for second, bins in found.items() if bins}

    def totals(self, families: str = FAMILIES, number: int = 0) -> dict[str, int]:
        """Family and stage -> count since ever, whatever the values."""
        found: Counter[str] = Counter()
        for (name, _, _), count in self.cells(number).items():
            found[name] += count
        return {name: count for name, count in found.items() if count and name[0] in families}

    def at(self, *families: str) -> dict[str, list[int]]:
        """Of some families and stages, the seconds of their buckets, each as often as it counts."""
        found: dict[str, list[int]] = {name: [] for name in families}
        for (name, _, second), count in sorted(self.cells().items(), key=lambda item: item[0][2]):
            if name in found:
                found[name] += [second] * count
        return found

    def under(self, *families: str) -> dict[str, dict[str, int]]:
        """Of some families and stages, the count by value of the chain."""
        found: dict[str, dict[str, int]] = {name: {} for name in families}
        for (name, values, _), count in self.cells().items():
            if name in found:
                found[name][values] = found[name].get(values, 0) + count
        return {name: {values: count for values, count in sorted(mine.items()) if count} for name, mine in found.items()}


def walked(given: str, **changes: Any) -> Walk:
    """`a@0 b@10` through a funnel of a, b, c."""
    return Walk(plan_of(funnel(**changes))).take(events(given))


# Reaching a stage, in the order given


@pytest.mark.parametrize(
    ("given", "reached"),
    [
        ("a@0 b@10 c@60", "1@0 2@10 3@60"),
        ("a@0 b@10 c@61", "1@0 2@10"),
        ("a@0 b@10 c@60.001", "1@0 2@10"),
        ("a@0 a@30 b@40 c@80", "1@0 1@30 2@40 3@80"),
        ("b@0 a@10 c@20", "1@10"),
        ("a@5 b@5", "1@5 2@5"),
        ("a@0 b@10 b@20", "1@0 2@10 2@20"),
        ("a@0 c@10 b@20", "1@0 2@20"),
        ("a@0 x@5 b@10", "1@0 2@10"),
        ("a@0 b@10 a@20 c@60", "1@0 2@10 1@20 3@60"),
        ("a@0 b@10 a@20 c@61", "1@0 2@10 1@20"),
        ("a@0 b@10 a@20 b@30 c@80", "1@0 2@10 1@20 2@30 3@80"),
        ("c@0", ""),
    ],
)
def test_a_stage_is_reached_as_the_table_says(given: str, reached: str) -> None:
    assert walked(given).reaches() == reached


def test_an_event_never_chains_onto_itself() -> None:
    """First order, second order: two events are needed, and the deeper stage is reached first."""
    assert walked("p@0 p@5 p@100", events="pp").reaches() == "1@0 2@5 1@5 1@100"


def test_one_event_may_complete_a_chain_and_open_the_next() -> None:
    stages = [{"name": "1", "event": ["a", "x"]}, {"name": "2", "event": ["b", "x"]}]
    assert walked("a@0 x@10 b@65", stages=stages).reaches() == "1@0 2@10 1@10 2@65"


def test_a_stage_is_reached_only_where_its_conditions_hold() -> None:
    stages = [{"name": "1", "event": "a"}, {"name": "2", "event": "b", "where": {"properties.p": "pro"}}]
    found = Walk(plan_of(funnel(stages=stages))).take([event("a", 0), event("b", 1, p="free"), event("b", 2, p="pro"), event("b", 3)])
    assert found.reaches() == "1@0 2@2"


# Any order


@pytest.mark.parametrize(
    ("given", "reached"),
    [
        ("c@0 a@10 b@20", "1@10 2@20 3@20"),
        ("c@0 b@10 a@20", "1@20 2@20 3@20"),
        ("a@0 b@10 c@60", "1@0 2@10 3@60"),
        ("a@0 b@10 c@60.001", "1@0 2@10"),
        ("b@0 a@60", "1@60 2@60"),
        ("b@0 a@60.001", "1@60.001"),
        ("b@0 c@1", ""),
        ("c@0 a@10 b@61", "1@10 2@61"),
        ("a@0 c@1", "1@0"),
        ("a@0 b@50 a@100 b@120", "1@0 2@50 1@100 2@100 2@120"),
        ("a@0 b@1 c@2 a@3", "1@0 2@1 3@2 1@3 2@3 3@3"),
        ("a@0 b@1 x@2 c@3", "1@0 2@1 3@3"),
    ],
)
def test_in_any_order_a_stage_is_reached_when_the_newest_of_all_up_to_it_lie_within_one_window(given: str, reached: str) -> None:
    assert walked(given, order="any").reaches() == reached


def test_in_any_order_one_event_may_be_several_stages() -> None:
    assert walked("p@0", events="pp", order="any").reaches() == "1@0 2@0"


# Strict


@pytest.mark.parametrize(
    ("given", "reached"),
    [
        ("a@0 x@1 b@2", "1@0"),
        ("a@0 x@1 a@2 b@3 c@4", "1@0 1@2 2@3 3@4"),
        ("a@0 b@1 x@2 c@3", "1@0 2@1"),
        ("a@0 c@1 b@2", "1@0"),
        ("a@0 b@1 b@2 c@3", "1@0 2@1 3@3"),
        ("a@0 b@1 a@2 c@3", "1@0 2@1 1@2"),
        ("a@0 b@60.001", "1@0"),
    ],
)
def test_strictly_every_other_event_ends_the_chains(given: str, reached: str) -> None:
    assert walked(given, order="strict").reaches() == reached


def test_strictly_an_event_whose_condition_fails_is_a_foreign_one() -> None:
    stages = [{"name": "1", "event": "a"}, {"name": "2", "event": "b", "where": {"properties.p": 1}}, {"name": "3", "event": "c"}]
    plan = plan_of(funnel(stages=stages, order="strict"))
    assert Walk(plan).take([event("a", 0), event("b", 1, p=1), event("b", 2, p=2), event("c", 3)]).reaches() == "1@0 2@1"


def test_a_strict_funnel_is_strict_by_itself() -> None:
    found = Walk(plan_of(funnel("f", "ab"), funnel("g", "ab", order="strict"), funnel("h", "ax", order="strict"))).take(
        events("a@0 x@1 b@2")
    )
    assert [found.reaches(number) for number in range(3)] == ["1@0 2@2", "1@0", "1@0 2@1"]


# Exclusions


@pytest.mark.parametrize(
    ("exclude", "given", "reached"),
    [
        ("x:b-d", "a@0 b@1 x@2 c@3", "1@0 2@1"),
        ("x:b-d", "a@0 b@1 c@2 x@3 d@4", "1@0 2@1 3@2"),
        ("x:b-d", "a@0 x@1 b@2 c@3 d@4", "1@0 2@2 3@3 4@4"),
        ("x:b-d", "a@0 b@1 x@2 b@3 c@4", "1@0 2@1 2@3 3@4"),
        ("x:a-d", "a@0 b@1 c@2 d@3 x@4", "1@0 2@1 3@2 4@3"),
        ("x:c-d", "a@0 b@1 x@2 c@3 d@4", "1@0 2@1 3@3 4@4"),
        ("x:a-b y:b-c", "a@0 y@1 b@2 x@3 c@4 y@5 a@6 x@7 b@8", "1@0 2@2 3@4 1@6"),
        ("c:b-c", "a@0 b@1 c@2 c@3 d@4", "1@0 2@1 3@2 4@4"),
        ("b:a-b", "a@0 b@1 b@2 c@3", "1@0 2@1 3@3"),
        ("a:a-c", "a@0 b@1 a@2 b@3 c@4", "1@0 2@1 1@2 2@3 3@4"),
    ],
)
def test_an_exclusion_ends_the_chains_that_stand_between_its_stages(exclude: str, given: str, reached: str) -> None:
    """What was reached stays; a start that the event itself sets stands; its own reaches are decided before it."""
    exclusions = [
        {"event": word[0], "from": f"{'abcd'.index(word[2]) + 1}{word[2]}", "to": f"{'abcd'.index(word[4]) + 1}{word[4]}"}
        for word in exclude.split()
    ]
    assert walked(given, events="abcd", exclude=exclusions).reaches() == reached


def test_an_exclusion_ends_chains_only_where_its_conditions_hold() -> None:
    plan = plan_of(funnel(exclude=[{"event": "x", "where": {"properties.p": 1}, "from": "1a", "to": "2b"}]))
    found = Walk(plan).take([event("a", 0), event("x", 1, p=2), event("b", 2), event("x", 3, p=1), event("b", 4)])
    assert found.reaches() == "1@0 2@2"


# Entries and conversions


@pytest.mark.parametrize(
    ("given", "entries", "conversions"),
    [
        ("a@0 b@10 b@20", "1 1 0", "1 0"),
        ("a@0 a@50 b@90", "1 1 0", "0 0"),
        ("a@0 a@60 b@60", "1 1 0", "1 0"),
        ("a@0 a@60.001 b@62", "2 1 0", "1 0"),
        ("a@0 b@10 a@61 b@62", "2 1 0", "2 0"),
        ("a@0 b@60 a@61 b@121", "2 2 0", "2 0"),
        ("a@0 b@1 a@2 b@3 a@4 b@5 c@6", "1 1 1", "1 1"),
        ("a@0 a@40 a@70 b@95", "2 1 0", "1 0"),
        ("a@0 b@10 c@20 b@71 c@72", "1 1 1", "1 1"),
        ("c@0 b@0", "0 0 0", "0 0"),
    ],
)
def test_an_entry_is_open_for_one_window_and_converts_once_within_it(given: str, entries: str, conversions: str) -> None:
    found = walked(given).totals("ec")
    assert " ".join(str(found.get(f"e{stage}", 0)) for stage in range(3)) == entries
    assert " ".join(str(found.get(f"c{stage}", 0)) for stage in range(2)) == conversions
    assert "c2" not in found, "there is nothing for the last stage to convert into"


def test_an_event_does_not_convert_the_entry_that_it_opens_but_in_any_order() -> None:
    assert walked("p@0 p@50 p@100", events="pp").totals("ec") == {"e0": 2, "c0": 1, "e1": 1}
    assert walked("p@0", events="pp", order="any").totals("ecx") == {"e0": 1, "c0": 1, "e1": 1, "x1": 1}


@pytest.mark.parametrize(
    "changes", [{"exclude": [{"event": "x", "from": "1a", "to": "2b"}]}, {"order": "strict"}], ids=["exclude", "strict"]
)
def test_an_entry_is_closed_by_time_alone(changes: dict[str, Any]) -> None:
    found = walked("a@0 x@5 b@10 a@20 b@25", **changes)
    assert found.reaches() == "1@0 1@20 2@25"
    assert found.totals("ec") == {"e0": 1, "c0": 1, "e1": 1}
    assert found.at("e0", "c0", "x1") == {"e0": [0], "c0": [0], "x1": [20]}


def test_an_entry_and_its_conversion_stand_in_the_bucket_of_the_opening_and_when_it_converted_beside_that() -> None:
    found = walked("a@5 a@12 b@39 c@61")
    assert found.at("e0", "c0", "x1") == {"e0": [0], "c0": [0], "x1": [30]}
    assert found.at("e1", "c1", "x2") == {"e1": [30], "c1": [30], "x2": [60]}
    assert found.at("e2", "c2", "x0") == {"e2": [60], "c2": [], "x0": []}


def test_the_age_at_conversion_is_since_the_opening_and_stands_in_its_bucket() -> None:
    found = walked("a@5 a@12 b@39 c@61.5 b@70")
    assert found.ages(0) == {0: {age_bin(34 * SECOND_US): 1}}
    assert found.ages(1) == {30: {age_bin(22_500_000): 1}}


@pytest.mark.parametrize("age_us", [0, 999, 1000, 3999, 4000, 7999, 8000, 10_000, 1_023_999, 1_024_000, 59_999_999, 60_000_000])
def test_an_age_is_filed_in_the_bin_of_its_number(age_us: int) -> None:
    assert walked(f"a@0 b@{age_us / SECOND_US:.6f}").ages(0) == {0: {age_bin(age_us): 1}}


def test_in_any_order_an_entry_may_convert_in_the_moment_it_opens() -> None:
    found = walked("b@0 a@10", order="any")
    assert found.at("e0", "c0", "x1", "e1") == {"e0": [10], "c0": [10], "x1": [10], "e1": [10]}
    assert found.ages(0) == {10: {0: 1}}


# Users


def test_a_user_stands_in_the_bucket_of_the_latest_reach_and_nowhere_else() -> None:
    found = Walk(plan_of(funnel()))
    assert found.take(events("a@0 b@1")).at("u0", "u1", "n0") == {"u0": [0], "u1": [0], "n0": [0]}
    assert found.take(events("a@9")).at("u0", "u1", "n0") == {"u0": [0], "u1": [0], "n0": [0, 0]}
    assert found.take(events("a@25 b@30")).at("u0", "u1", "n0") == {"u0": [20], "u1": [30], "n0": [0, 0, 20]}
    assert found.take(events("c@86 c@200")).at("u2") == {"u2": []}


# Under which values

ADS, MAIL, NONE = "ads", "mail", "__none__"


def valued(given: str, **changes: Any) -> Walk:
    """`a:ads@0 b@10`: events of channels."""
    records = []
    for word in given.split():
        what, _, second = word.partition("@")
        name, _, channel = what.partition(":")
        records.append(event(name, float(second), d=channel or None))
    return Walk(plan_of(funnel(dimensions={"d": {"field": "properties.d", "allow": [ADS, MAIL]}}, **changes))).take(records)


def test_a_chain_has_the_values_of_its_newest_start() -> None:
    found = valued("a:ads@0 b:mail@1 a:mail@2 c:ads@3 b@4")
    assert found.under("n0", "n1", "n2") == {"n0": {ADS: 1, MAIL: 1}, "n1": {ADS: 1, MAIL: 1}, "n2": {ADS: 1}}
    assert found.under("u0", "u1", "u2") == {"u0": {MAIL: 1}, "u1": {MAIL: 1}, "u2": {ADS: 1}}


def test_an_entry_and_its_conversion_have_the_values_at_the_opening() -> None:
    found = valued("a:ads@0 a:mail@30 b@40 c@50")
    assert found.under("e0", "c0", "x1", "n1") == {"e0": {ADS: 1}, "c0": {ADS: 1}, "x1": {ADS: 1}, "n1": {MAIL: 1}}
    assert found.under("e1", "c1", "x2", "e2") == {"e1": {MAIL: 1}, "c1": {MAIL: 1}, "x2": {MAIL: 1}, "e2": {MAIL: 1}}


def test_the_values_at_the_opening_outlast_many_a_change() -> None:
    found = valued("a:ads@0 a:mail@10 a@20 a:ads@30 a:mail@40 b@50 a:mail@61 a:ads@70 b@80")
    assert found.under("e0", "c0", "x1") == {"e0": {ADS: 1, MAIL: 1}, "c0": {ADS: 1, MAIL: 1}, "x1": {ADS: 1, MAIL: 1}}


def test_in_any_order_a_chain_has_the_values_of_the_newest_first_stage_event() -> None:
    found = valued("b:mail@0 a:ads@10 a:mail@20 c:ads@30", order="any")
    assert found.under("n0", "n1", "n2") == {"n0": {ADS: 1, MAIL: 1}, "n1": {ADS: 1, MAIL: 1}, "n2": {MAIL: 1}}
    assert found.under("e0", "e1", "x1", "x2") == {"e0": {ADS: 1}, "e1": {ADS: 1}, "x1": {ADS: 1}, "x2": {ADS: 1}}


# A value


def paid(*records: bytes, **changes: Any) -> dict[str, int]:
    stages = [{"name": f"{n}{name}", "event": name, "value": "properties.n"} for n, name in enumerate("abb", 1)]
    return Walk(plan_of(funnel(stages=stages, **changes))).take(list(records)).totals("v")


def test_a_value_is_added_to_every_stage_that_its_event_reaches() -> None:
    assert paid(event("a", 0, n=1), event("b", 1, n=2.5), event("b", 2, n=4)) == {"v0": 1_000_000, "v1": 6_500_000, "v2": 4_000_000}


def test_an_event_that_does_not_reach_its_stage_brings_no_value() -> None:
    assert paid(event("b", 0, n=5), event("a", 1), event("b", 61.5, n=7)) == {}


def test_in_any_order_an_event_brings_its_value_only_to_stages_it_matches() -> None:
    """What a late first-stage event completes was not paid with it, nor is it paid again."""
    assert paid(event("b", 0, n=5), event("a", 1, n=2), order="any") == {"v0": 2_000_000}
    assert paid(event("a", 1, n=2), event("b", 2, n=5), order="any") == {"v0": 2_000_000, "v1": 5_000_000, "v2": 5_000_000}


# Backwards

WAYS: list[dict[str, Any]] = [
    {},
    {"order": "any"},
    {"order": "strict"},
    {"exclude": [{"event": "x", "from": "1a", "to": "3c"}]},
    {"events": "aab"},
]


@pytest.mark.parametrize("changes", WAYS, ids=repr)
def test_what_is_counted_forwards_and_backwards_from_the_same_blocks_leaves_nothing(changes: dict[str, Any]) -> None:
    chance = random.Random(1)
    second, records = 0.0, []
    for _ in range(60):
        second += chance.choice((0.5, 7, 10, 30, 61))
        records.append(event(chance.choice("aabbcx"), second, d=chance.choice((ADS, MAIL))))
    found = Walk(plan_of(funnel(dimensions={"d": "properties.d"}, **changes)))
    found.take(records[:20])
    before, ages, blocks = found.cells(), found.ages(0), {definition: [*cells] for definition, cells in found.blocks.items()}
    found.take(records[20:])
    assert (found.cells() != before, found.ages(0) != ages) == (True, True)
    found.blocks = blocks
    found.take(records[20:], sign=-1)
    assert (found.cells(), found.ages(0)) == (before, ages)


def test_a_walk_goes_on_where_the_blocks_stand() -> None:
    records = events("a@0 b@10 a@20 b@31 c@62 a@70 c@75")
    whole, parts = Walk(plan_of(funnel())).take(records), Walk(plan_of(funnel()))
    for record in records:
        parts.take([record])
    assert (parts.blocks, parts.counts, parts.reached) == (whole.blocks, whole.counts, whole.reached)
