"""The recount follows semantics' words: worked cases of every order, fate, condition, value and count."""

from __future__ import annotations

import ast
import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

import streams.recount
from schemas.config import Config, parse
from streams.recount import Recount, compare, recount
from streams.recount_chains import age_bin

T0 = 1_700_000_000 // 3600 * 3600
SECOND = 1_000_000
MODULES = sorted(Path(streams.recount.__file__).parent.glob("recount*.py"))


def config(stages: str = "abc", *, window: str = "60s", lateness: str = "60s", last: Any = None, **funnel: Any) -> Config:
    """A funnel `f` with a stage s1, s2, ... for each letter, its event. `last`: more about the last stage."""
    named = [{"name": f"s{i}", "event": letter} for i, letter in enumerate(stages, 1)]
    named[-1].update(last or {})
    source = {"name": "web", "topic": "clicks", "allowed_lateness": lateness}
    usual = {"name": "f", "source": "web", "conversion_window": window, "windows": ["10s", "1m", "24h"], "stages": named}
    return parse(json.dumps({"sources": [source], "funnels": [usual | funnel]}))


def event(name: str, at: float, user: str = "u", **more: Any) -> tuple[bytes, bytes]:
    return user.encode(), json.dumps({"event": name, "timestamp": T0 + at, "user_id": user, **more}).encode()


def of(name: str, at: float, **properties: Any) -> tuple[bytes, bytes]:
    return event(name, at, properties=properties)


def events_of(written: str) -> list[tuple[bytes, bytes]]:
    """Letters at seconds: `a@0 b@10`."""
    return [event(one.split("@")[0], float(one.split("@")[1])) for one in written.split()]


def reached(found: Recount) -> str:
    """Reaches as the table of semantics writes them: stage number at second."""
    return " ".join(f"{r.stage + 1}@{r.at_us // SECOND - T0}" for r in found.reaches["f"])


def run(events: str, stages: str = "abc", **more: Any) -> str:
    """The reaches of one entity."""
    return reached(recount(config(stages, **more), "web", events_of(events)))


def cells(records: list[tuple[bytes, bytes]], made: Config | None = None) -> Recount:
    return recount(made or config(), "web", records)


# Reaching a stage


@pytest.mark.parametrize(
    ("events", "reaches"),
    [
        ("a@0 b@10 c@60", "1@0 2@10 3@60"),
        ("a@0 b@10 c@61", "1@0 2@10"),
        ("a@0 a@30 b@40 c@80", "1@0 1@30 2@40 3@80"),
        ("b@0 a@10 c@20", "1@10"),
        ("b@5 a@5", "1@5 2@5"),
        ("a@0 b@10 b@20", "1@0 2@10 2@20"),
        ("a@0 c@10 b@20", "1@0 2@20"),
        ("a@0 x@5 b@10", "1@0 2@10"),
    ],
)
def test_the_worked_table_of_semantics(events: str, reaches: str) -> None:
    assert run(events) == reaches


def test_an_event_of_two_stages_completes_a_chain_and_opens_another_but_never_chains_onto_itself() -> None:
    assert run("p@0 p@5 p@100", stages="pp") == "1@0 2@5 1@5 1@100"


@pytest.mark.parametrize("arrival", [*permutations(("a@0", "a@30", "b@40", "c@60"))])
def test_within_the_allowed_lateness_any_order_of_arrival_gives_the_reaches_of_the_sorted_events(arrival: tuple[str, ...]) -> None:
    assert run(" ".join(arrival)) == "1@0 1@30 2@40 3@60"


@pytest.mark.parametrize(
    ("events", "reaches"),
    [
        ("c@0 a@10 b@20", "1@10 2@20 3@20"),
        ("b@0 c@10 a@60", "1@60 2@60 3@60"),
        ("b@0 c@10 a@61", "1@61"),  # 61 s since the newest b
        ("c@0 b@10", ""),  # no stage without the first
        ("a@0 c@10", "1@0"),
        ("a@0 b@10 a@20", "1@0 2@10 1@20 2@20"),
        ("b@0 c@0 a@50 b@70", "1@50 2@50 3@50 2@70"),  # the newest c is too old by then
        ("a@0 b@10 x@20 c@30", "1@0 2@10 3@30"),
    ],
)
def test_in_any_order_a_stage_is_reached_once_all_up_to_it_lie_within_one_window(events: str, reaches: str) -> None:
    assert run(events, order="any") == reaches


@pytest.mark.parametrize(
    ("events", "reaches"),
    [
        ("a@0 x@1 b@2 c@3", "1@0"),
        ("a@0 x@1 a@2 b@3 c@4", "1@0 1@2 2@3 3@4"),
        ("a@0 b@1 x@2 c@3", "1@0 2@1"),
        ("a@0 b@1 b@2 c@3", "1@0 2@1 3@3"),  # the second b does not get on, but is no other event
        ("a@0 b@1 c@2 c@3", "1@0 2@1 3@2"),
        ("a@0 a@1 b@2", "1@0 1@1 2@2"),
    ],
)
def test_in_strict_order_an_event_clears_the_start_of_every_stage_that_it_does_not_match(events: str, reaches: str) -> None:
    assert run(events, order="strict") == reaches


def test_in_strict_order_foreign_events_are_applied() -> None:
    assert recount(config(order="strict"), "web", events_of("a@0 x@1")).fates["applied"] == 2
    assert recount(config(), "web", events_of("a@0 x@1")).fates["filtered"] == 1


@pytest.mark.parametrize(
    ("first", "until", "events", "reaches"),
    [
        ("s1", "s2", "a@0 x@5 b@10", "1@0"),
        ("s1", "s2", "a@0 b@10 x@15 c@20", "1@0 2@10 3@20"),  # the chain stands at s2 by then
        ("s2", "s3", "a@0 b@10 x@15 c@20", "1@0 2@10"),
        ("s2", "s3", "a@0 x@5 b@10 c@20", "1@0 2@10 3@20"),
        ("s1", "s3", "a@0 b@10 x@15 b@16 c@20", "1@0 2@10"),
        ("s1", "s3", "a@0 x@5 a@6 b@10 c@20", "1@0 1@6 2@10 3@20"),
        ("s1", "s3", "a@0 b@5 x@5 c@10", "1@0 2@5"),  # at one time what matches a stage comes first
    ],
)
def test_an_excluded_event_ends_the_chains_that_stand_between(first: str, until: str, events: str, reaches: str) -> None:
    assert run(events, exclude=[{"event": "x", "from": first, "to": until}]) == reaches


def test_an_excluded_event_that_matches_stages_sees_the_state_before_it_and_its_own_start_stands() -> None:
    assert run("a@0 a@5 b@10", exclude=[{"event": "a", "from": "s1", "to": "s2"}]) == "1@0 1@5 2@10"
    assert run("a@0 b@5 b@10 c@20", exclude=[{"event": "b", "from": "s1", "to": "s3"}]) == "1@0 2@5"


def test_an_excluded_event_without_the_property_asked_for_excludes_nothing_and_is_filtered() -> None:
    made = config(exclude=[{"event": "x", "from": "s1", "to": "s2", "where": {"properties.why": "bot"}}])
    found = cells([of("a", 0), of("x", 1, why="fun"), of("b", 2)], made)
    assert (reached(found), found.fates["filtered"]) == ("1@0 2@2", 1)
    assert reached(cells([of("a", 0), of("x", 1, why="bot"), of("b", 2)], made)) == "1@0"


# Conditions


@pytest.mark.parametrize(
    ("where", "holds", "fails"),
    [
        ("pro", ["pro"], ["Pro", "", None, ["pro"], {"pro": 1}]),
        (1, [1, 1.0, "1"], [2, True, "1.0", "one"]),
        (True, [True, "true"], [1, "True", False]),
        (["de", "fr", 7], ["de", "fr", "7", 7], ["es", None]),
        ({"equals": "de", "in": ["de", "fr"]}, ["de"], ["fr"]),
        ({">": 100, "<=": 500}, [101, "500", 100.5], [100, 501, "many", True, None, [200], "nan"]),
        ({">=": 100, "<": 500}, [100, "499.9"], [99, 500]),
        ({"exists": True}, ["x", 0, False, [], {}], ["", None]),
        ({"exists": False}, ["", None], ["x", 0, False, []]),
        ({"matches": "^/shop"}, ["/shop/1"], ["/a/shop", None, ["/shop"]]),
        ({"matches": "ru|z"}, [True, "e" * 999 + "z"], [False, "e" * 1000 + "z"]),  # the first thousand characters are searched
    ],
)
def test_a_stage_is_matched_where_its_conditions_hold(where: Any, holds: list[Any], fails: list[Any]) -> None:
    made = config("ab", last={"where": {"properties.p": where}})
    for value in holds:
        assert reached(cells([of("a", 0), of("b", 1, p=value)], made)) == "1@0 2@1", value
    for value in fails:
        assert reached(cells([of("a", 0), of("b", 1, p=value)], made)) == "1@0", value


def test_an_absent_property_does_not_exist_and_all_conditions_must_hold() -> None:
    made = config("ab", last={"where": {"properties.p": {"exists": False}, "properties.q.deep": "yes"}})
    assert reached(cells([of("a", 0), of("b", 1, q={"deep": "yes"})], made)) == "1@0 2@1"
    assert reached(cells([of("a", 0), of("b", 1, q="yes")], made)) == "1@0"


def test_an_event_that_misses_its_only_condition_is_filtered_whatever_it_brings_as_value() -> None:
    made = config("ab", last={"where": {"properties.p": 1}, "value": "properties.v"})
    assert cells([of("b", 0, p=2, v="dear")], made).fates["filtered"] == 1
    assert cells([of("b", 0, p=1, v="dear")], made).fates["rejected"] == 1


# Fates


def fates(events: list[tuple[bytes, bytes]], **more: Any) -> str:
    found = recount(config(**more), "web", events).fates
    return " ".join(f"{fate} {count}" for fate, count in found.items() if count)


def test_every_record_has_one_fate() -> None:
    rejected = [
        (b"u", b"no json"),
        (b"u", b"[]"),
        (b"u", None),
        (b"v", event("a", 0)[1]),
        (None, event("a", 0)[1]),
        (b"u", b'{"event": "a", "timestamp": 1}'),
    ]
    found = recount(config(), "web", [*rejected, event("x", 500), event("a", 0), event("a", 0)])
    assert found.fates == {"rejected": 6, "filtered": 1, "late": 0, "duplicate": 1, "applied": 1}
    assert found.fates.total() == len(rejected) + 3
    assert found.at_us == (T0 + 500) * SECOND  # filtered events move time too


@pytest.mark.parametrize(
    "changes",
    [
        {"event": 5}, {"event": ""}, {"event": "a" * 513}, {"timestamp": None}, {"timestamp": True}, {"timestamp": "yesterday"},
        {"user_id": True}, {"user_id": 5.5}, {"user_id": ""}, {"anonymous_id": ["x"]}, {"event_id": 1.5}, {"event_id": True},
        {"x": float("nan")}, {"x": "\ud800"}, {"x": "y" * 1_000_000},
    ],
    ids=lambda changes: str(changes)[:30],
)  # fmt: skip
def test_what_cannot_be_an_event_is_rejected(changes: dict[str, Any]) -> None:
    raw = json.dumps({"event": "a", "timestamp": T0, "user_id": "u"} | changes).encode()
    assert recount(config(), "web", [(b"u", raw)]).fates["rejected"] == 1


def test_properties_that_are_no_object_are_rejected_where_a_funnel_asks_for_one() -> None:
    assert fates([event("a", 0, properties="none")]) == "applied 1"
    assert fates([event("a", 0, properties="none")], last={"where": {"properties.p": 1}}) == "rejected 1"
    assert fates([event("a", 0, properties=None)], last={"where": {"properties.p": 1}}) == "applied 1"


def test_what_is_further_ahead_of_the_clock_than_max_skew_is_rejected() -> None:
    ahead = [event("a", 300), event("a", 301)]
    assert recount(config(), "web", ahead, now_us=T0 * SECOND).fates["rejected"] == 1
    assert recount(config(), "web", ahead).fates["rejected"] == 0


def test_keys_are_not_looked_at_where_there_are_none() -> None:
    assert recount(config(), "web", [(None, event("a", 0)[1])], keyed=False).fates["applied"] == 1


def test_late_is_older_than_the_newest_of_the_same_entity_by_more_than_the_lateness() -> None:
    assert fates([event("a", 100), event("a", 40)]) == "applied 2"
    assert fates([event("a", 100), event("a", 39.999)]) == "late 1 applied 1"
    assert fates([event("a", 100, "v"), event("a", 0)]) == "applied 2"
    assert fates([event("a", 100), event("a", 99)], lateness="0s") == "late 1 applied 1"


def test_only_what_is_looked_at_and_in_time_makes_others_late() -> None:
    assert fates([event("x", 100), event("a", 0)]) == "filtered 1 applied 1"
    assert fates([event("x", 100), event("a", 0)], order="strict") == "late 1 applied 1"
    assert fates([event("a", 100), event("a", 0), event("a", 41), event("a", 40)]) == "late 1 applied 3"
    assert fates([event("a", 100), event("a", 40), event("a", 39)]) == "late 1 applied 2"


def test_a_duplicate_makes_others_late_too() -> None:
    assert fates([event("a", 0, event_id="1"), event("a", 60, event_id="1"), event("a", -1)]) == "late 1 duplicate 1 applied 1"


def test_a_late_event_changes_nothing() -> None:
    assert run("b@100 a@39 c@110") == ""
    assert run("b@100 a@40 c@110") == "1@40 2@100"


def test_a_repeated_event_id_changes_nothing() -> None:
    found = cells([event("a", 0, event_id="1"), event("a", 0, event_id="1"), event("a", 0, "v", event_id="1")])
    assert found.fates["duplicate"] == 1
    assert found.cells()["f", "s1", "", "", "events"] == 2


def test_without_an_event_id_the_same_bytes_are_the_same_event() -> None:
    assert fates([event("a", 0), event("a", 0), event("a", 0, tab=2)]) == "duplicate 1 applied 2"


def test_an_event_id_may_be_a_number() -> None:
    assert fates([event("a", 0, event_id=1), event("a", 1, event_id="1")]) == "duplicate 1 applied 1"


def test_the_same_event_id_beyond_the_allowed_lateness_is_another_event() -> None:
    assert fates([event("a", 0, event_id="1"), event("a", 60, event_id="1")]) == "duplicate 1 applied 1"
    assert fates([event("a", 0, event_id="1"), event("a", 61, event_id="1")]) == "applied 2"


@pytest.mark.parametrize("arrival", [*permutations((0, 10, 20))])
def test_of_a_resent_event_the_earliest_counts_whichever_arrived_first(arrival: tuple[int, ...]) -> None:
    found = cells([event("a", at, event_id="1") for at in arrival])
    assert (reached(found), found.fates["duplicate"], found.fates["applied"]) == ("1@0", 2, 1)


def test_what_repeats_only_a_duplicate_counts() -> None:
    """50 repeats 0 and does not count; 100 repeats 50, and 0 lies too far back."""
    found = cells([event("a", at, event_id="1") for at in (0, 50, 100)])
    assert reached(found) == "1@0 1@100"


def test_a_record_has_one_fate_in_all_funnels() -> None:
    """Of two simultaneous events with one id, the one that matches the lowest stage of any funnel counts, in all of them."""
    stages = {"f": "ab", "g": "cb"}
    funnels = [config(letters).funnels[0].model_copy(update={"name": name}) for name, letters in stages.items()]
    made = config().model_copy(update={"funnels": tuple(funnels)})
    found = cells([event("b", 0, event_id="1"), event("c", 0, event_id="1"), event("b", 1)], made)
    assert [r.stage for r in found.reaches["g"]] == [0, 1]
    assert found.fates["duplicate"] == 1


# Dimensions


BY_D = {"d": {"field": "properties.d", "allow": ["x", "y"]}}


def test_a_chain_carries_the_value_of_its_start_and_values_add_up_to_the_total() -> None:
    records = [
        event("a", 0, properties={"d": "x"}),
        event("b", 1, properties={"d": "y"}),
        event("a", 0, "v", properties={"d": "z"}),
        event("a", 0, "w"),
    ]
    found = cells(records, config(dimensions=BY_D)).cells()
    assert found["f", "s2", "d", "x", "events"] == 1
    assert [found["f", "s1", "d", value, "reached"] for value in ("x", "__other__", "__none__")] == [1, 1, 1]


def test_in_any_order_the_values_are_those_of_the_newest_first_stage_event() -> None:
    found = cells([of("a", 0, d="x"), of("b", 1, d="y"), of("a", 2, d="y"), of("c", 3)], config(order="any", dimensions=BY_D))
    assert [(r.stage, r.values["d"]) for r in found.reaches["f"]] == [(0, "x"), (1, "x"), (0, "y"), (1, "y"), (2, "y")]


def test_values_beyond_the_cap_are_other() -> None:
    made = config(dimensions={"d": {"field": "properties.d", "max_values": 1}})
    found = cells([event("a", 0, properties={"d": "x"}), event("a", 0, "v", properties={"d": "y"})], made).cells()
    assert (found["f", "s1", "d", "x", "events"], found["f", "s1", "d", "__other__", "events"]) == (1, 1)


@pytest.mark.parametrize(
    ("said", "shown"),
    [("é ß", "é ß"), (1.0, "1"), (True, "true"), ("a\u00a0b", "a\u00a0b"), ("x" * 64, "x" * 64)]
    + [(said, "__other__") for said in ("x" * 65, "a\tb", "a\x85b", ["x"], {"x": 1})]
    + [(said, "__none__") for said in ("", None)],
)  # fmt: skip
def test_a_value_is_text_of_64_characters_and_no_control_characters(said: Any, shown: str) -> None:
    found = cells([of("a", 0, d=said)], config(dimensions={"d": "properties.d"}))
    assert found.reaches["f"][0].values == {"d": shown}


def test_a_combination_shows_both_values_and_is_bounded_itself() -> None:
    both = {"d": {"field": "properties.d", "allow": ["x"]}, "e": "properties.e", "de": {"combine": ["d", "e"], "max_values": 2}}
    records = [of("a", 0, d="x", e="1"), of("a", 1, d="?"), of("a", 2, d="x"), of("a", 3, d="x", e="1")]
    shown = [r.values["de"] for r in cells(records, config(dimensions=both)).reaches["f"]]
    assert shown == ["x / 1", "__other__ / __none__", "__other__", "x / 1"]


def test_a_combination_may_be_as_long_as_its_two_values() -> None:
    both = {"d": "properties.d", "e": "properties.e", "de": {"combine": ["d", "e"]}}
    found = cells([of("a", 0, d="x" * 64, e="y" * 64)], config(dimensions=both))
    assert found.reaches["f"][0].values["de"] == "x" * 64 + " / " + "y" * 64


def test_a_combination_may_have_a_list_of_what_is_allowed() -> None:
    both = {"d": "properties.d", "e": "properties.e", "de": {"combine": ["d", "e"], "allow": ["x / 1"]}}
    found = cells([of("a", 0, d="x", e=1), of("a", 1, d="x", e=2)], config(dimensions=both))
    assert [r.values["de"] for r in found.reaches["f"]] == ["x / 1", "__other__"]


# Users, events and value


def test_users_are_counted_where_their_latest_reach_lies() -> None:
    found = cells([event("a", 0), event("a", 95), event("a", 5, "v"), event("a", 100, "w")]).cells()
    assert found["f", "s1", "", "", "users 10s"] == 1  # T is 100: only w, in the bucket from 100
    assert found["f", "s1", "", "", "users 1m"] == 2  # the buckets from 50 on: u by its second reach, w
    assert found["f", "s1", "", "", "users 24h"] == found["f", "s1", "", "", "reached"] == 3
    assert found["f", "s1", "", "", "events 1m"] == 2
    assert found["f", "s1", "", "", "events"] == 4


def test_windows_can_be_asked_as_of_another_time() -> None:
    assert cells([event("a", 0)]).cells(at_us=(T0 + 60) * SECOND)["f", "s1", "", "", "users 1m"] == 0


def test_value_is_summed_exactly_and_a_value_that_is_no_number_is_rejected() -> None:
    made = config("ba", order="any", last={"value": "properties.v"})
    values = [0.1, "0.2", None, "dear", True, "inf", 10**12 + 1, [1]]
    found = cells([of("b", 0), *(of("a", i, v=value) for i, value in enumerate(values))], made)
    assert found.fates["rejected"] == 5
    assert found.cells()["f", "s2", "", "", "value"] == 0.3


def test_in_any_order_an_event_adds_nothing_to_the_value_of_a_stage_that_it_does_not_match() -> None:
    made = config("ab", order="any", last={"value": "properties.v"})
    assert cells([of("b", 0, v=5), of("a", 1, v="no number")], made).cells()["f", "s2", "", "", "value"] == 0


# Entries, conversions and ages


def cohort(events: str, stages: str = "ab", **more: Any) -> list[tuple[int, int, int | None]]:
    """(stage from 1, opened, converted) of every entry of one entity."""
    found = recount(config(stages, **more), "web", events_of(events)).entries["f"]
    seconds = [(e.opening.at_us // SECOND - T0, None if e.converted_us is None else e.converted_us // SECOND - T0) for e in found]
    return sorted((e.opening.stage + 1, *when) for e, when in zip(found, seconds))


@pytest.mark.parametrize(
    ("events", "entries"),
    [
        ("a@0 b@10 b@20", [(1, 0, 10), (2, 10, None)]),
        ("a@0 a@50 b@90", [(1, 0, None), (2, 90, None)]),  # b is reached, but not within the window of the opening
        ("a@0 a@60 b@60", [(1, 0, 60), (2, 60, None)]),  # both ends are inclusive
        ("a@0 a@61 b@62", [(1, 0, None), (1, 61, 62), (2, 62, None)]),
        ("a@0 b@30 a@50 b@70", [(1, 0, 30), (2, 30, None)]),  # converted once
        ("a@0", [(1, 0, None)]),
    ],
)
def test_an_entry_is_opened_beyond_the_window_of_the_one_before_and_converted_once_within_its_own(events: str, entries: Any) -> None:
    assert cohort(events) == entries


def test_an_event_does_not_convert_the_entry_that_it_opens() -> None:
    assert cohort("p@0 p@5 p@100", stages="pp") == [(1, 0, 5), (1, 100, None), (2, 5, None)]


def test_in_any_order_an_event_may_convert_the_entry_that_it_opens() -> None:
    assert cohort("b@0 a@10", order="any") == [(1, 10, 10), (2, 10, None)]


def test_neither_exclusions_nor_strictness_close_an_entry() -> None:
    excluded = [{"event": "x", "from": "s1", "to": "s2"}]
    assert cohort("a@0 x@5 a@10 b@20", exclude=excluded) == [(1, 0, 20), (2, 20, None)]
    assert cohort("a@0 x@5 a@10 b@20", order="strict") == [(1, 0, 20), (2, 20, None)]


def test_entries_and_conversions_are_counted_by_when_and_under_what_the_entry_was_opened() -> None:
    records = [of("a", 0, d="x"), of("a", 30, d="y"), of("b", 55), of("a", 100, d="y")]
    found = cells(records, config("ab", dimensions=BY_D)).cells()
    assert [found["f", "s1", "d", value, "entries"] for value in "xy"] == [1, 1]
    assert [found["f", "s1", "d", value, "conversions"] for value in "xy"] == [1, 0]
    assert [found["f", "s2", "d", value, "entries"] for value in "xy"] == [0, 1]
    assert [found["f", "s1", "", "", f"{measure} 1m"] for measure in ("entries", "conversions")] == [1, 0]  # from 50 on
    assert [found["f", "s1", "", "", f"{measure} 24h"] for measure in ("entries", "conversions")] == [2, 1]
    assert [found["f", "s1", "", "", measure] for measure in ("entries", "conversions")] == [2, 1]


def test_the_last_stage_has_entries_but_no_conversions() -> None:
    found = cells(events_of("a@0 b@10 c@20")).cells()
    assert found["f", "s3", "", "", "entries"] == found["f", "s3", "", "", "entries 1m"] == 1
    assert not [cell for cell in found if cell[1] == "s3" and cell[-1].startswith("conversions")]


def test_ages_are_those_of_conversions_into_a_stage_from_the_opening() -> None:
    made = config("ab")
    found = cells([event("a", 0), event("a", 1), event("b", 2), event("a", 0, "v"), event("b", 0, "v")], made)
    assert found.ages(made.funnels[0]) == {("s2", age_bin(2 * SECOND)): 1, ("s2", 0): 1}


@pytest.mark.parametrize(
    ("millis", "number"),
    [
        (0, 0),
        (1, 1),
        (3, 3),
        (4, 4),
        (5, 5),
        (7, 7),
        (8, 8),
        (9, 8),
        (10, 9),
        (15, 11),
        (16, 12),
        (19, 12),
        (20, 13),
        (1000, 35),
        (1024, 36),
    ],
)
def test_an_age_has_a_bin_a_millisecond_below_four_and_then_four_an_octave(millis: int, number: int) -> None:
    assert age_bin(millis * 1000) == age_bin(millis * 1000 + 999) == number


# The recount itself


def test_comparing_sums_shortfalls_and_excesses_apart() -> None:
    expected = {("f", "users"): 5.0, ("f", "events"): 7.0, ("f", "value"): 0.3}
    assert compare(expected, expected | {("f", "value"): 0.1 + 0.2}) == (0, 0)
    assert compare(expected, {("f", "users"): 3, ("f", "events"): 8, ("f", "value"): 0.3, ("f", "ghost"): 2}) == (2, 3)
    assert compare(expected, {("f", "users"): 5, ("f", "events"): 7}) == (1, 0)  # 0.3 of value gone counts as one


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_the_recount_shares_no_code_with_the_engine(module: Path) -> None:
    """Of the product it knows the models of a config, and how a timestamp and a duration are written."""
    lines = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {alias.name if isinstance(line, ast.Import) else line.module or "." for line in lines for alias in line.names}
    assert not [name for name in imported if name.startswith((".", "alerting", "streams")) and not name.startswith("streams.recount_")]
