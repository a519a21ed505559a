"""What a batch is prepared with before its fold: matches, values, amounts, and what to ask the registries."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.config import Config
from schemas.event import Batch
from streams.plan import Plan, Prepared
from streams.values import GROUP, SEPARATOR
from tests.unit.test_counting import FOREVER_US, PAYING, config, event, funnel, plan_of

BY_D: dict[str, Any] = {"d": {"field": "properties.d", "allow": ["ads", "mail", "tv"]}}
BY_E: dict[str, Any] = {"e": {"field": "properties.e", "allow": ["ios", "web"]}}


def batch(plan: Plan, *records: bytes) -> Batch:
    return plan.decoder.decode(records, [None] * len(records), FOREVER_US, 0)


def prepared(plan: Plan, *records: bytes) -> Prepared:
    return plan.prepare(batch(plan, *records))


def asked(found: Prepared) -> dict[str, set[str]]:
    """By the property (or combination) of the registry."""
    return {registry.name.partition(SEPARATOR)[0]: texts for registry, texts in found.unknown.items()}


def admit(plan: Plan, found: Prepared) -> None:
    plan.learn({registry: dict.fromkeys(texts, True) for registry, texts in found.unknown.items()})


# Values


def test_without_dimensions_an_event_brings_no_values() -> None:
    assert prepared(plan_of(), event("a", 0, d="ads"), event("x", 1)).values == ["", ""]


def test_the_values_of_a_chain_are_those_of_its_dimensions_in_their_order() -> None:
    records = [event("a", 0, d="ads", e="ios"), event("a", 1, e="tv")]
    assert prepared(plan_of(funnel(dimensions=BY_D)), *records).values == ["ads", "__none__"]
    assert prepared(plan_of(funnel(dimensions=BY_D | BY_E)), *records).values == [f"ads{SEPARATOR}ios", f"__none__{SEPARATOR}__other__"]
    assert prepared(plan_of(funnel(dimensions=BY_E | BY_D)), *records).values == [f"ios{SEPARATOR}ads", f"__other__{SEPARATOR}__none__"]


def test_an_event_that_opens_two_funnels_brings_the_values_of_both() -> None:
    plan = plan_of(
        funnel("f", "ab", dimensions=BY_D), funnel("g", "ac"), funnel("h", "ba", dimensions=BY_D), funnel("i", "ac", dimensions=BY_E)
    )
    found = prepared(plan, event("a", 0, d="ads", e="ios"), event("b", 1, d="tv"), event("c", 2, d="mail"), event("x", 3))
    assert found.values == [f"ads{GROUP}ios", "tv", "", ""]
    assert [match and match.openers for match in found.matches] == [(0, 3), (2,), (), None]


def test_funnels_with_dimensions_that_nothing_opens_bring_nothing() -> None:
    plan = plan_of(funnel("f", "ab", dimensions=BY_D), funnel("g", "bc", dimensions={"d": "properties.d"}))
    found = prepared(plan, event("c", 0, d="new"), event("x", 0, d="new"))
    assert (found.values, found.unknown) == (["", ""], {})
    found = prepared(plan, event("a", 0, d="new"))
    assert (found.values, found.unknown) == (["__other__"], {}), "the list of f, and g is not opened by an a"


# What the registries are asked


def test_only_events_that_open_a_chain_ask_for_a_place_in_the_registry() -> None:
    plan = plan_of(funnel(dimensions={"d": "properties.d"}), funnel("g", "ba", dimensions={"e": "properties.e"}))
    found = prepared(
        plan, event("b", 0, d="no start", e="start of g"), event("a", 1, d="start", e="none of g"), event("x", 2, d="foreign", e="foreign")
    )
    assert asked(found) == {"properties.d": {"start"}, "properties.e": {"start of g"}}


def test_an_event_whose_condition_fails_asks_for_no_place() -> None:
    stages = [{"name": "1", "event": "a", "where": {"properties.p": 1}}, {"name": "2", "event": ["a", "b"]}]
    plan = plan_of(funnel(stages=stages, dimensions={"d": "properties.d"}))
    assert asked(prepared(plan, event("a", 0, d="second stage only", p=2), event("a", 1, d="start", p=1))) == {"properties.d": {"start"}}


def test_what_was_asked_once_is_not_asked_again() -> None:
    plan = plan_of(funnel(dimensions={"d": "properties.d"}))
    records = [event("a", 0, d="yes"), event("a", 1, d="no"), event("a", 2, d="x" * 65), event("a", 3)]
    found = prepared(plan, *records)
    assert asked(found) == {"properties.d": {"yes", "no"}}
    (registry,) = found.unknown
    plan.learn({registry: {"yes": True, "no": False}})
    again = prepared(plan, *records)
    assert (again.values, again.unknown) == (["yes", "__other__", "__other__", "__none__"], {})


def test_funnels_that_share_a_property_ask_once() -> None:
    plan = plan_of(*(funnel(name, dimensions={"d": "properties.d"}) for name in "fg"))
    found = prepared(plan, event("a", 0, d="ads"))
    assert len(found.unknown) == 1
    admit(plan, found)
    assert prepared(plan, event("a", 0, d="ads")).values == [f"ads{GROUP}ads"]


# Combinations

BOTH: dict[str, Any] = {"both": {"combine": ["d", "e"]}}


def test_a_combination_is_both_values_as_they_are_shown() -> None:
    plan = plan_of(
        funnel(dimensions=BY_D | BY_E | {"both": {"combine": ["e", "d"], "allow": ["ios / ads", "__none__ / tv", "__other__ / ads"]}})
    )
    records = [event("a", 0, d="ads", e="ios"), event("a", 1, d="tv"), event("a", 2, d="ads", e="radio"), event("a", 3, d="mail", e="ios")]
    found = prepared(plan, *records)
    assert [values.split(SEPARATOR)[2] for values in found.values] == ["ios / ads", "__none__ / tv", "__other__ / ads", "__other__"]
    assert found.unknown == {}


@pytest.mark.parametrize("names", [("d", "e", "both"), ("both", "d", "e"), ("e", "both", "d")])
def test_a_combination_may_stand_anywhere_among_its_parts(names: tuple[str, ...]) -> None:
    known = BY_D | BY_E | {"both": {"combine": ["d", "e"], "allow": ["ads / ios"]}}
    plan = plan_of(funnel(dimensions={name: known[name] for name in names}))
    shown = {"d": "ads", "e": "ios", "both": "ads / ios"}
    assert prepared(plan, event("a", 0, d="ads", e="ios")).values == [SEPARATOR.join(shown[name] for name in names)]


def test_a_combination_has_a_registry_of_its_own_bound_by_its_own_number() -> None:
    plan = plan_of(funnel(dimensions=BY_D | BY_E | {"both": {"combine": ["d", "e"], "max_values": 2}}))
    found = prepared(plan, event("a", 0, d="ads", e="ios"), event("a", 1, d="ads"))
    assert asked(found) == {"properties.d+properties.e": {"ads / ios", "ads / __none__"}}
    assert {registry.max_values for registry in found.unknown} == {2}
    admit(plan, found)
    assert prepared(plan, event("a", 0, d="ads", e="ios")).values == [SEPARATOR.join(("ads", "ios", "ads / ios"))]


def test_a_combination_is_asked_about_only_once_its_parts_are_known() -> None:
    """What its parts will be shown as is not known before; nothing else may take a place among its values."""
    plan = plan_of(funnel(dimensions={"d": "properties.d", "e": "properties.e"} | BOTH))
    record = event("a", 0, d="ads", e="ios")
    first = prepared(plan, record)
    assert asked(first) == {"properties.d": {"ads"}, "properties.e": {"ios"}}
    admit(plan, first)
    second = prepared(plan, record)
    assert asked(second) == {"properties.d+properties.e": {"ads / ios"}}
    admit(plan, second)
    last = prepared(plan, record)
    assert (last.values, last.unknown) == ([SEPARATOR.join(("ads", "ios", "ads / ios"))], {})


def test_a_combination_of_a_part_that_was_refused_is_one_with_other() -> None:
    plan = plan_of(funnel(dimensions={"d": "properties.d"} | BY_E | BOTH))
    record = event("a", 0, d="refused", e="ios")
    registry = next(registry for registry in prepared(plan, record).unknown if registry.name.startswith(f"properties.d{SEPARATOR}"))
    plan.learn({registry: {"refused": False}})
    assert asked(prepared(plan, record)) == {"properties.d+properties.e": {"__other__ / ios"}}


# Amounts


def test_an_amount_is_that_of_each_stage_that_the_event_matches() -> None:
    other = [{"name": "1", "event": ["a", "b"], "value": "properties.n"}, {"name": "2", "event": "b"}]
    plan = plan_of(funnel("f", stages=PAYING), funnel("g", stages=other))
    found = prepared(plan, event("b", 0, paid=1, n=2), event("x", 1, paid=3), event("a", 2, paid=4), event("a", 3, n="7"))
    assert found.amounts == {0: {1: 1_000_000, 256: 2_000_000}, 2: {256: 0}, 3: {256: 7_000_000}}


def test_an_amount_that_is_none_makes_its_event_a_bad_record_where_a_stage_asks_for_it() -> None:
    found = prepared(plan_of(funnel(stages=PAYING)), event("b", 0, paid=1), event("b", 1, paid="much"), event("a", 2, paid="much"))
    assert [(bad.index, bad.reason, bad.detail) for bad in found.bad] == [(1, "bad_value", "'much'")]
    assert found.amounts == {0: {1: 1_000_000}}


def test_parts_of_a_batch_that_are_prepared_one_by_one_are_the_whole() -> None:
    plan = plan_of(funnel("f", stages=PAYING, dimensions=BY_D), funnel("g", "ba", dimensions=BY_E))
    records = [
        event("a", 0, d="ads"),
        event("b", 1, e="ios", paid=1),
        event("x", 2),
        event("b", 3, paid="much"),
        event("b", 4, e="web", paid=2),
    ]
    whole, parts = prepared(plan, *records), Prepared([])
    for at in (0, 2, 3):
        parts.extend(prepared(plan, *records[at : {0: 2, 2: 3, 3: 5}[at]]), at)
    assert (parts.matches, parts.values, parts.amounts, parts.bad) == (whole.matches, whole.values, whole.amounts, whole.bad)


# Definitions


def definitions(setup: Config) -> list[int]:
    return [plan.definition for plan in Plan(setup, setup.sources[0]).funnels]


@pytest.mark.parametrize(
    "changes",
    [
        {"conversion_window": "61s"},
        {"events": "abd"},
        {"order": "any"},
        {"dimensions": {"d": "properties.d"}},
        {"exclude": [{"event": "x", "from": "1a", "to": "2b"}]},
        {"stages": [{"name": "1", "event": "a", "where": {"properties.p": 1}}, {"name": "2", "event": "b"}, {"name": "3", "event": "c"}]},
        {"windows": ["5m", "24h"]},
        {"windows": ["5m", "7d"]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_changes_what_is_counted_is_another_definition(changes: dict[str, Any]) -> None:
    assert definitions(config(funnel(**changes))) != definitions(config(funnel()))


@pytest.mark.parametrize(
    "changes", [{"title": "Else"}, {"owner": "us"}, {"windows": ["10s", "1h"]}, {"baseline": {"half_life": "1d"}}], ids=repr
)
def test_what_changes_no_count_is_the_same_definition(changes: dict[str, Any]) -> None:
    assert definitions(config(funnel(**changes))) == definitions(config(funnel()))


def test_a_window_of_a_rule_is_one_that_is_kept_too() -> None:
    rule = {"name": "Low", "funnel": "f", "stage": "2b", "window": "24h", "below": 0.5}
    setup = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": [funnel()], "alerts": [rule]})
    assert [kept.seconds for kept in Plan(setup, setup.sources[0]).funnels[0].kept] == [10, 60, 3600]


def test_a_layout_is_that_of_all_definitions_in_their_order() -> None:
    layouts = [
        plan_of(*(funnel(name, events) for name, events in given)).layout
        for given in ([("f", "ab")], [("f", "ab"), ("g", "ab")], [("g", "ab"), ("f", "ab")])
    ]
    assert len(set(layouts)) == 3
    assert plan_of(funnel("f", "ab", title="Else")).layout == layouts[0]


def test_a_funnel_of_another_source_is_no_part_of_a_plan() -> None:
    setup = Config.model_validate(
        {
            "sources": [{"name": "web", "topic": "clicks"}, {"name": "app", "topic": "taps"}],
            "funnels": [funnel("f"), funnel("g", source="app")],
        }
    )
    assert [[plan.funnel.name for plan in Plan(setup, source).funnels] for source in setup.sources] == [["f"], ["g"]]


def test_states_and_counts_are_kept_for_the_lateness_and_the_skew_of_the_source() -> None:
    short, long = plan_of(allowed_lateness="0s", max_skew="0s").funnels[0], plan_of(allowed_lateness="1h", max_skew="1h").funnels[0]
    assert [b.count - a.count for a, b in zip(short.kept, long.kept)] == [360, 1]
    assert long.state_seconds - short.state_seconds == 3600 + 2 * 3600


def test_an_entry_is_final_when_nothing_within_its_window_can_come_any_more() -> None:
    assert plan_of(funnel(conversion_window="10m"), allowed_lateness="90s").funnels[0].mature_after_us == 690_000_000
