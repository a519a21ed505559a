"""What a record says becomes a bounded value of a dimension, or an amount that adds up exactly."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from schemas.event import Reject
from schemas.funnel import NONE, OTHER, Dimension
from streams.values import REMEMBERED_MAX, VALUE_LENGTH_MAX, Registry, Values, dimension_text, fits, millionths
from streams.windows import VALUE
from tests.unit.test_counting import PAYING, Shard, config, event, funnel

SHOWN: list[tuple[Any, str]] = [
    (None, NONE),
    ("", NONE),
    ("ads", "ads"),
    ("größer 東京 & <b>", "größer 東京 & <b>"),
    (7, "7"),
    (7.0, "7"),
    (1.5, "1.5"),
    (True, "true"),
    (False, "false"),
    ("x" * 64, "x" * 64),
    ("x" * 65, OTHER),
    ("line\nbreak", OTHER),
    ("\x1f", OTHER),
    ("\x1e", OTHER),
    ("nul\x00", OTHER),
    ("\x85", OTHER),
    (["ads"], OTHER),
    ({"name": "ads"}, OTHER),
    (NONE, NONE),
    (OTHER, OTHER),
]


def values(**dimension: Any) -> Values:
    return Values("properties.d", Dimension.model_validate({"field": "properties.d"} | dimension))


# Dimension values


@pytest.mark.parametrize(("raw", "shown"), SHOWN, ids=repr)
def test_a_value_is_bounded_text(raw: Any, shown: str) -> None:
    found = values()
    text = dimension_text(raw)
    if fits(text) and text not in (NONE, OTHER):
        assert found.shown(raw) is None, "the registry has to be asked first"
        found.learn({text: True})
    assert found.shown(raw) == shown
    assert found.shown(raw) == shown, "and again"


@pytest.mark.parametrize(("raw", "shown"), SHOWN, ids=repr)
def test_a_value_is_counted_as_it_is_shown(raw: Any, shown: str) -> None:
    shard = Shard(config(funnel(dimensions={"d": "properties.d"})))
    shard.feed(event("a", 0, d=raw), event("b", 1))
    assert shard.by_value("d") == {shown: [1, 1, 0]}


def test_a_missing_property_is_none() -> None:
    shard = Shard(config(funnel(dimensions={"d": "properties.d", "e": "properties.way.down"})))
    shard.feed(event("a", 0), event("a", 0, "v", way="up"), event("a", 0, "w", way={"down": "there"}))
    assert shard.by_value("d") == {NONE: [3, 0, 0]}
    assert shard.by_value("e") == {NONE: [2, 0, 0], "there": [1, 0, 0]}


@pytest.mark.parametrize("text", ["x" * VALUE_LENGTH_MAX, " ", "ü"])
def test_a_text_fits_up_to_64_characters(text: str) -> None:
    assert fits(text)


@pytest.mark.parametrize("text", ["", "x" * (VALUE_LENGTH_MAX + 1), "a\tb", "\x7f", "\x9f"])
def test_a_text_without_end_or_with_control_characters_does_not_fit(text: str) -> None:
    assert not fits(text)


def test_many_values_are_looked_up_at_once_as_one_by_one() -> None:
    found = values()
    found.learn({"ads": True, "7": True, "no": False})
    raws = ["ads", "no", "new", 7, None, "", ["ads"], {"d": 1}, "ads", True]
    column = found.column(raws)
    assert column[:3] == ["ads", OTHER, None]
    assert [(shown is None or shown == found.shown(raw)) for raw, shown in zip(raws, column)] == [True] * len(raws)
    assert found.column(["ads", "new", "no"]) == ["ads", None, OTHER], "the same where all is text"


# Bounds


def test_what_is_not_on_the_allow_list_is_other() -> None:
    shard = Shard(config(funnel(dimensions={"e": {"field": "properties.e", "allow": ["ios", "7"]}})))
    shard.feed(event("a", 0, "u", e="ios"), event("a", 0, "v", e="tv"), event("a", 0, "w"), event("a", 0, "x", e=7.0))
    assert shard.by_value("e") == {"7": [1, 0, 0], NONE: [1, 0, 0], OTHER: [1, 0, 0], "ios": [1, 0, 0]}
    assert shard.admitted == {}, "a list needs no registry"


def test_an_allow_list_holds_whatever_another_funnel_admits() -> None:
    listed = {"field": "properties.e", "allow": ["ios", "web"]}
    shard = Shard(config(funnel("f", dimensions={"e": listed}), funnel("g", dimensions={"e": "properties.e"})))
    shard.feed(event("a", 0, e="tv"))
    assert shard.by_value("e", "g") == {"tv": [1, 0, 0]}
    assert shard.by_value("e", "f") == {OTHER: [1, 0, 0]}


def test_the_registry_admits_the_first_values_and_counts_the_rest_as_other() -> None:
    shard = Shard(config(funnel(dimensions={"d": {"field": "properties.d", "max_values": 2}})))
    shard.feed(event("a", 0, "u", d="one"))
    shard.feed(event("a", 1, "v", d="three"), event("a", 1, "w", d="four"))
    shard.feed(event("a", 2, "x", d="one"), event("a", 2, "y", d="five"), event("a", 2, "z"))
    assert shard.by_value("d") == {NONE: [1, 0, 0], OTHER: [2, 0, 0], "four": [1, 0, 0], "one": [2, 0, 0]}


def test_funnels_of_a_source_share_the_registry_of_a_property_and_a_bound() -> None:
    one = {"field": "properties.d", "max_values": 1}
    shard = Shard(config(*(funnel(name, dimensions={f"d{name}": one}) for name in "fg"), funnel("h", dimensions={"d": "properties.d"})))
    shard.feed(event("a", 0, d="first"))
    shard.feed(event("a", 1, "v", d="second"))
    assert shard.by_value("df", "f") == shard.by_value("dg", "g") == {OTHER: [1, 0, 0], "first": [1, 0, 0]}
    assert shard.by_value("d", "h") == {"first": [1, 0, 0], "second": [1, 0, 0]}
    assert {(registry.max_values, *sorted(texts)) for registry, texts in shard.admitted.items()} == {(1, "first"), (100, "first", "second")}


def test_a_registry_is_named_for_its_property_and_its_bound() -> None:
    assert values().registry == values(max_values=100).registry == Registry("properties.d\x1f100", 100)
    assert values(max_values=5).registry.name != values().registry.name


def test_what_the_registry_refused_is_not_asked_again_until_too_much_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.values.REMEMBERED_MAX", 4)
    found = values()
    found.learn({"yes": True, "no": False})
    found.learn({"never": False})
    assert (found.shown("yes"), found.shown("no"), found.shown("never")) == ("yes", OTHER, OTHER)
    found.learn({"late": True})
    assert (found.shown("yes"), found.shown("late")) == ("yes", "late"), "what was admitted is always known"
    assert (found.shown("no"), found.shown("never")) == (None, None)
    assert (found.shown(None), found.shown(OTHER)) == (NONE, OTHER)


def test_a_combination_may_be_as_long_as_two_values() -> None:
    combined = Values("properties.d+properties.e", Dimension(combine=("d", "e")))
    longest = f"{'x' * 64} / {'y' * 64}"
    assert combined.shown(longest) is None
    combined.learn({longest: True})
    assert combined.shown(longest) == longest
    assert combined.shown(f"{longest}y") == OTHER


def hostile(dice: random.Random, number: int) -> str:
    """Random values of every length and alphabet, every tenth with a control character, now and then a megabyte."""
    if number % 250_000 == 0:
        return "x" * 1_000_000
    text = f"{dice.getrandbits(48):x}"
    return text + chr(dice.choice((*range(32), *range(127, 160)))) if number % 10 == 0 else text


def test_a_million_hostile_values_are_as_few_as_the_cap_says_and_take_bounded_memory() -> None:
    dice, found, admitted, shown = random.Random(7), values(max_values=20), set[str](), Counter[str]()
    for number in range(1_000_000):
        raw = hostile(dice, number)
        value = found.shown(raw)
        if value is None:
            if len(admitted) < found.registry.max_values:
                admitted.add(raw)
            found.learn({raw: raw in admitted})
            value = found.shown(raw)
        assert value is not None
        shown[value] += 1
        assert len(found.known) <= REMEMBERED_MAX + 2
    assert len(shown) == 20 + 1
    assert shown[OTHER] == 1_000_000 - 20
    assert all(fits(value) for value in shown)
    assert sum(map(len, found.known)) < REMEMBERED_MAX * VALUE_LENGTH_MAX


# Amounts


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (3, 3_000_000),
        ("4.25", 4_250_000),
        (-2.5, -2_500_000),
        (0, 0),
        (None, 0),
        ("", 0),
        (1e12, 10**18),
        (0.000_001, 1),
        (2.01, 2_010_000),
        (0.000_000_4, 0),
        (" 7 ", 7_000_000),
    ],
    ids=repr,
)
def test_an_amount_is_a_number_in_whole_millionths_or_absent(raw: Any, found: int) -> None:
    assert millionths(raw) == found
    shard = Shard(config(funnel(stages=PAYING)))
    assert shard.feed(event("a", 0), event("b", 1, paid=raw)) == {"applied": 2}
    assert shard.totals(VALUE) == [0, found]


@pytest.mark.parametrize("raw", ["much", "nan", "1e999", True, [1], {"eur": 1}, 1e13, -1e13, 10**400], ids=lambda raw: repr(raw)[:20])
def test_an_amount_that_is_no_number_up_to_a_trillion_rejects_its_record(raw: Any) -> None:
    with pytest.raises(Reject) as caught:
        millionths(raw)
    assert caught.value.reason == "bad_value"
    assert len(caught.value.detail) <= 64


def test_a_rejected_amount_takes_its_record_out_and_no_other() -> None:
    shard = Shard(config(funnel(stages=PAYING)))
    assert shard.feed(event("a", 0), event("b", 1, paid="much"), event("b", 2)) == {"applied": 2, "rejected:bad_value": 1}
    assert shard.totals("n") == [1, 1]


def test_amounts_add_up_exactly_in_any_order() -> None:
    shard = Shard(config(funnel(stages=PAYING)))
    shard.feed(event("a", 0))
    for second in (3, 1, 2, 10, 9, 8, 7, 4, 5, 6):
        shard.feed(event("b", second, paid=0.1))
    assert shard.totals(VALUE) == [0, 1_000_000]
    assert sum([0.1] * 10) != 1.0


# Values add up


def test_the_order_in_which_dimensions_are_written_changes_no_count() -> None:
    names = {"d": "properties.d", "e": "properties.e"}
    shard = Shard(config(funnel(dimensions=names)))
    shard.feed(event("a", 0, d="ads", e="ios"))
    shard.restart(config(funnel(dimensions=dict(reversed(names.items())))))
    shard.feed(event("a", 20, d="ads", e="ios"))
    assert (shard.by_value("d"), shard.by_value("e")) == ({"ads": [1, 0, 0]}, {"ios": [1, 0, 0]})


def test_the_values_of_a_dimension_add_up_to_the_total() -> None:
    dimensions = {
        "d": "properties.d",
        "e": {"field": "properties.e", "allow": ["ios", "web"]},
        "both": {"combine": ["d", "e"], "max_values": 5},
    }
    shard = Shard(config(funnel(dimensions=dimensions, stages=PAYING)))
    for place in range(60):
        said = {"d": f"d{place % 7}", "e": ["ios", "web", "tv", None][place % 4], "paid": place / 10}
        second = place * 3 - (50 if place % 9 == 8 else 0)
        shard.feed(event("a", second, f"u{place % 5}", **said), event("b", second + 0.5, f"u{place % 3}", **said))
    counts = shard.counts()
    for family in "unvecx":
        for dimension in dimensions:
            known = counts.values(dimension)
            assert len(known) > 2
            assert [sum(counts.total(family, stage, dimension, v) for v in known) for stage in (0, 1)] == shard.totals(family)
            assert all(counts.total(family, 0, dimension, v) >= 0 for v in known)
        assert any(shard.totals(family))
