"""What a `where` asks of a property: every operator against every type that JSON and CSV can bring."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from schemas.condition import TEXT_LENGTH_MAX, Condition, Where, number_of, text_of
from schemas.config import parse
from schemas.errors import ConfigError

WHERE: TypeAdapter[dict[str, Condition]] = TypeAdapter(Where)
NOTHING = [None, ""]
NO_VALUE = [[], [1], ["pro"], {}, {"a": 1}]  # they exist, and no value can be told of them
ANYTHING = ["pro", " ", "0", 0, 0.0, -1, 1.5, True, False, math.inf, math.nan, 10**400, *NO_VALUE]


def condition(written: Any) -> Condition:
    """The condition as a config writes it."""
    return WHERE.validate_python({"properties.a": written})["properties.a"]


def holds(written: Any, raw: Any) -> bool:
    return condition(written).predicate()(raw)


def refusal(written: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        condition(written)
    return "\n".join(error["msg"] for error in refused.value.errors())


@pytest.mark.parametrize("raw", ["pro", "Pro", "pro ", "professional", "", None, True, 1, ["pro"], {"pro": "pro"}])
def test_a_text_equals_itself_alone(raw: Any) -> None:
    assert holds("pro", raw) == (raw == "pro")


@pytest.mark.parametrize("written", [1, 1.0, "1"])
@pytest.mark.parametrize("raw", [1, 1.0, "1"])
def test_a_number_equals_its_text_whichever_side_wrote_it_how(written: Any, raw: Any) -> None:
    assert holds(written, raw)
    assert holds([written, "x"], raw)


@pytest.mark.parametrize("raw", [True, "true", "1.0", "01", " 1", "1 ", 2, 1.5, [1], {"a": 1}, None, ""])
def test_a_number_equals_nothing_else(raw: Any) -> None:
    assert not holds(1, raw)


@pytest.mark.parametrize(("written", "raw"), [(True, True), (True, "true"), ("true", True), (False, False), (False, "false")])
def test_true_and_false_are_their_words(written: Any, raw: Any) -> None:
    assert holds(written, raw)


@pytest.mark.parametrize(("written", "raw"), [(True, 1), (True, "True"), (True, "1"), (False, 0), (False, ""), (False, None), (1, True)])
def test_true_and_false_are_no_numbers_and_not_nothing(written: Any, raw: Any) -> None:
    assert not holds(written, raw)


def test_a_list_asks_for_one_of_its_values() -> None:
    written = ["de", 49, True]
    assert [raw for raw in ("de", "fr", 49, "49", 49.0, 48, True, "true", False, None, "", ["de"]) if holds(written, raw)] == [
        *("de", 49, "49", 49.0),
        *(True, "true"),
    ]


@pytest.mark.parametrize(
    ("operator", "below", "at", "above"),
    [(">", False, False, True), (">=", False, True, True), ("<", True, False, False), ("<=", True, True, False)],
)
def test_a_bound_divides_the_numbers(operator: str, below: bool, at: bool, above: bool) -> None:
    for numbers, expected in (
        ([99, 99.99, "99", "-1e3", -(10**308)], below),
        ([100, 100.0, "100", "100.0", "1e2", " 100 "], at),
        ([101, 100.01, "101", 10**308, "1e308"], above),
    ):
        assert [holds({operator: 100}, raw) for raw in numbers] == [expected] * len(numbers)


@pytest.mark.parametrize("operator", [">", ">=", "<", "<="])
@pytest.mark.parametrize(
    "raw", [*NOTHING, *NO_VALUE, "many", "1,5", "0x10", "12 €", True, False, "true", math.inf, -math.inf, math.nan, "inf", "nan", "1e999"]
)
def test_what_is_no_finite_number_is_neither_greater_nor_less(operator: str, raw: Any) -> None:
    assert not holds({operator: 0}, raw)


@pytest.mark.parametrize("raw", [10**400, -(10**400), "1" + "0" * 400])
def test_a_number_too_large_to_compare_is_neither_greater_nor_less(raw: Any) -> None:
    assert not holds({">": 0}, raw)
    assert not holds({"<": 0}, raw)


def test_a_number_too_large_to_compare_still_equals_itself() -> None:
    digits = "1" + "0" * 400
    assert holds(digits, int(digits))
    assert holds(int(digits), digits)
    assert holds(2**70, float(2**70))


def test_bounds_together_are_a_range() -> None:
    assert [raw for raw in (100, 100.5, "300", 499, 500, None, "x") if holds({">": 100, "<": 500}, raw)] == [100.5, "300", 499]
    assert [raw for raw in (99, 100, 500, 501) if holds({">=": 100, "<=": 500}, raw)] == [100, 500]


def test_everything_that_is_given_must_hold() -> None:
    written = {"matches": "^1", ">": 50, "in": [10, 100, 200], "exists": True}
    assert [raw for raw in (10, 100, "100", 200, 150, None) if holds(written, raw)] == [100, "100"]


@pytest.mark.parametrize("raw", ANYTHING)
def test_what_is_there_exists_whatever_it_is(raw: Any) -> None:
    assert holds({"exists": True}, raw)
    assert not holds({"exists": False}, raw)


@pytest.mark.parametrize("raw", NOTHING)
def test_null_and_an_empty_text_are_as_absent(raw: Any) -> None:
    assert holds({"exists": False}, raw)
    for written in ("pro", ["pro", 0], False, {"exists": True}, {">": -1}, {"<=": 0}, {"matches": "^$"}, {"matches": ".*"}):
        assert not holds(written, raw)


@pytest.mark.parametrize("raw", NO_VALUE)
def test_a_list_or_an_object_meets_nothing_but_that_it_exists(raw: Any) -> None:
    for written in ("pro", "[]", "{}", "[1]", ["pro", 1], {">": -1}, {"<": 9}, {"matches": "."}):
        assert not holds(written, raw)


@pytest.mark.parametrize(
    ("pattern", "raw"),
    [
        ("^/shop", "/shop/shoes"),
        ("shoes", "/shop/shoes"),  # searched for, not matched from the start
        (r"^\d+$", 42),
        (r"^42$", 42.0),
        ("^true$", True),
        ("(?i)shop", "/SHOP"),
        ("ü", "grün"),
        ("a.b", "a.b"),
        (r"a(?s:.)b", "a\nb"),
    ],
)
def test_an_expression_is_searched_in_the_text_of_a_value(pattern: str, raw: Any) -> None:
    assert holds({"matches": pattern}, raw)


@pytest.mark.parametrize(("pattern", "raw"), [("^shop", "/shop"), ("Shop", "shop"), ("^1$", True), ("a.b", "a\nb"), ("1", [1])])
def test_an_expression_that_is_not_found_does_not_hold(pattern: str, raw: Any) -> None:
    assert not holds({"matches": pattern}, raw)


def test_an_expression_sees_the_first_thousand_characters_of_a_long_text() -> None:
    text = "x" * (TEXT_LENGTH_MAX - 1) + "yz"
    assert holds({"matches": "y"}, text)
    assert not holds({"matches": "z"}, text)
    assert not holds({"matches": "z"}, "x" * 5_000_000 + "z")


def test_infinity_and_what_is_no_number_are_texts_to_equal() -> None:
    assert holds("inf", math.inf)
    assert holds("nan", math.nan)
    assert not holds(0, math.nan)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (None, None),
        ("", None),
        (" ", " "),
        ([], None),
        ({}, None),
        (True, "true"),
        (0, "0"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e22, "10000000000000000000000"),
        (1e-7, "1e-07"),
        ("1.50", "1.50"),
        (math.inf, "inf"),
        (b"bytes", None),
    ],
)
def test_the_text_of_a_property(raw: Any, text: str | None) -> None:
    assert text_of(raw) == text


@pytest.mark.parametrize(
    ("raw", "number"),
    [("1.50", 1.5), (" 7 ", 7.0), (3, 3.0), (True, None), ("", None), ("x", None), ("nan", None), ([], None), (None, None)],
)
def test_the_number_of_a_property(raw: Any, number: float | None) -> None:
    assert number_of(raw) == number


@pytest.mark.parametrize("written", [None, [None], {"equals": None}, {">": None}, {"in": None, "equals": 1}, "", ["a", ""], {"equals": ""}])
def test_asking_for_nothing_is_refused_with_the_way_to_say_it(written: Any) -> None:
    assert "write {exists: false} for a property that is absent, null or empty" in refusal(written)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({}, "an empty condition; write a value, a list, or one of equals, in, exists, >, >=, <, <=, matches"),
        ([], "at least 1 item"),
        ({"exists": False, "equals": 1}, "what does not exist meets no other condition"),
        ({"exists": False, ">": 1}, "what does not exist meets no other condition"),
        ({">": True}, "true is no number"),
        ({">": "many"}, "should be a valid number"),
        ({"<": math.nan}, "should be a finite number"),
        ({"<": math.inf}, "should be a finite number"),
        ({"<": 10**400}, "should be a valid number"),
        ({"equals": [1]}, "a property is compared with a text, a number, true or false"),
        ([{"a": 1}], "a property is compared with a text, a number, true or false"),
        ({"matches": "("}, "'(' is no regular expression (missing ), unterminated subpattern at position 0)"),
        ({"matches": "a{99999999999}"}, "is no regular expression (the repetition number is too large)"),
        ({"matches": "[[a]"}, "is no regular expression (Possible nested set"),
        ({"matches": ""}, "at least 1 character"),
        ({"matches": "x" * 201}, "at most 200 characters"),
        (["x"] * 1001, "at most 1000 items"),
        ({"gt": 1}, "Extra inputs are not permitted"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(written: Any, said: str) -> None:
    assert said in refusal(written)


@pytest.mark.parametrize(
    "written",
    [
        {">": 5, "<": 3},
        {">": 5, "<": 5},
        {">=": 5, "<": 5},
        {">": 5, "<=": 5},
        {"equals": "a", "in": ["b", "c"]},
        {"equals": "a", ">": 1},
        {"in": [1, 2], ">": 2},
        {"in": ["a", "b"], "matches": "^c"},
    ],
)
def test_a_condition_that_no_value_can_meet_is_refused(written: Any) -> None:
    assert "no value meets all of this" in refusal(written)


@pytest.mark.parametrize(
    "written", [{">=": 5, "<=": 5}, {">": 5, "<": 5.1}, {"in": [1, 2], ">": 1}, {"equals": "1", ">=": 1}, {"matches": "^a", ">": 1}]
)
def test_a_narrow_condition_is_not_refused(written: Any) -> None:
    assert condition(written)


@pytest.mark.parametrize("path", ["", "a b", ".a", "a.", "a..b", "p" * 201])
def test_a_path_is_words_with_dots_between_them(path: str) -> None:
    with pytest.raises(ValidationError):
        WHERE.validate_python({path: 1})


CONFIG = """\
sources: [{name: web, topic: clicks}]
funnels:
  - name: shop
    source: web
    conversion_window: 30m
    windows: [5m]
    stages:
      - {name: view, event: view}
      - name: cart
        event: add
        where: WHERE
"""
WRONG_WHERE = [
    ("{plan: pro}", "where.plan: 'plan' is no event property; write properties.plan"),
    ("{properties: pro}", "where.properties: 'properties' is no event property; write properties.NAME"),
    ("{my plan: pro}", "where.my plan: not a path; write words with dots between them, as in properties.channel (given: 'my plan')"),
    ("{1: pro}", "where[1]: input should be a valid string (given: 1); write a text, in quotes if it looks like a number"),
    ("{properties.plan: }", "where.properties.plan: nothing equals null; write {exists: false} for a property that is absent"),
    ("{properties.plan: ~}", "where.properties.plan: nothing equals null; write {exists: false} for a property that is absent"),
    ("{properties.plan: [pro, null]}", "where.properties.plan.in[1]: nothing equals null; write {exists: false}"),
    ("{properties.plan: {equals: null}}", "where.properties.plan.equals: null asks nothing; write {exists: false}"),
    ('{properties.plan: ""}', "where.properties.plan: nothing equals an empty text; write {exists: false}"),
    ("{properties.plan: yes}", 'yes is read as true; write true, or "yes" in quotes for that text'),
    ("{properties.plan: [a, Off]}", 'plan.in[1]: Off is read as false; write false, or "Off" in quotes for that text'),
    ("{properties.plan: 0123}", '0123 is read as 83; write 83, or "0123" in quotes for that text'),
    ("{properties.plan: {equals: 12:30}}", 'plan.equals: 12:30 is read as 750; write 750, or "12:30" in quotes for that text'),
    ("{properties.plan: {in: [1_000]}}", 'plan.in[0]: 1_000 is read as 1000; write 1000, or "1_000" in quotes for that text'),
    ("{properties.plan: 1.10}", '1.10 is read as 1.1; write 1.1, or "1.10" in quotes for that text'),
    ("{properties.plan: 2024-01-31}", "plan: 2024-01-31 is a date to YAML, and a property is text or a number; write it in quotes"),
    (
        "{properties.plan: {>: 1}}",
        'shop.yaml:11: is not YAML: found character \'>\' that cannot start any token; write ">" and ">=" in quotes',
    ),
    ("{properties.plan: {=: 1}}", "plan: unknown key '='; there are: <, <=, >, >=, equals, exists, in, matches"),
    ("{properties.plan: {gt: 1}}", "plan: unknown key 'gt'; there are: <, <=, >, >=, equals, exists, in, matches"),
    ("{properties.plan: {match: a}}", "plan: unknown key 'match'; did you mean 'matches'?"),
    ("{properties.plan: {above: 1}}", "plan: unknown key 'above'; there are: <, <=, >, >=, equals"),
    ("{properties.plan: {in_: [1]}}", "plan: unknown key 'in_'; did you mean 'in'?"),
    ("{properties.plan: {}}", "plan: an empty condition; write a value, a list, or one of equals, in, exists"),
    ("{properties.plan: []}", "plan.in: list should have at least 1 item, not 0"),
    ("{properties.plan: {in: pro}}", "plan.in: input should be a valid list (given: 'pro'); write a list, as in [a, b]"),
    ("{properties.plan: [[pro]]}", "plan.in[0]: a property is compared with a text, a number, true or false; write one of these"),
    ("{properties.plan: {equals: {a: b}}}", "plan.equals: a property is compared with a text, a number, true or false"),
    ("{properties.plan: {exists: false, equals: pro}}", "what does not exist meets no other condition; write `exists: false` alone"),
    ("{properties.plan: {exists: maybe}}", "plan.exists: input should be a valid boolean, unable to interpret input (given: 'maybe')"),
    ('{properties.plan: {">": 5, "<": 3}}', "plan: no value meets all of this; leave out what contradicts the rest"),
    ('{properties.plan: {">": many}}', "plan.>: input should be a valid number, unable to parse string as a number (given: 'many')"),
    ('{properties.plan: {">": on}}', "plan.>: true is no number; write a number"),
    ('{properties.plan: {">": .nan}}', "plan.>: input should be a finite number (given: nan)"),
    ('{properties.plan: {matches: "("}}', "plan.matches: '(' is no regular expression (missing ), unterminated subpattern"),
    ("{properties.plan: {matches: 5}}", "plan.matches: input should be a valid string (given: 5); write a text, in quotes"),
    ("", "where: input should be a valid dictionary; write KEY: VALUE pairs"),
    ("[properties.plan]", "where: input should be a valid dictionary; write KEY: VALUE pairs"),
    ("properties.plan", "where: input should be a valid dictionary (given: 'properties.plan'); write KEY: VALUE pairs"),
]


def in_a_config(where: str) -> str:
    return CONFIG.replace("WHERE", where)


def problems(where: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        parse(in_a_config(where), "shop.yaml")
    return str(refused.value).splitlines()


@pytest.mark.parametrize(("where", "said"), WRONG_WHERE, ids=[said for _, said in WRONG_WHERE])
def test_a_wrong_condition_is_one_problem_with_line_and_remedy(where: str, said: str) -> None:
    (line,) = problems(where)
    assert line.startswith("shop.yaml:11: ")
    assert said in line


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ("~", "in[2]: nothing equals null; write {exists: false} for a property that is absent, null or empty"),
        ("no", 'in[2]: no is read as false; write false, or "no" in quotes for that text'),
        ("2024-01-31", "in[2]: 2024-01-31 is a date to YAML, and a property is text or a number; write it in quotes"),
    ],
)
def test_a_wrong_value_deep_in_a_condition_is_told_with_its_own_line(last: str, said: str) -> None:
    deep = f"""
          properties.country:
            - de
            - fr
            - {last}"""
    assert problems(deep) == [f"shop.yaml:15: funnels[0].stages[1].where.properties.country.{said}"]


@pytest.mark.parametrize(
    "value", ["pro", '"yes"', "true", "false", "1", "-1", "1.0", "1.5", '"0123"', '"1.10"', "1e3", "a b", "'2024-01-31'", "!!str 5"]
)
def test_a_value_that_says_what_is_written_is_taken_as_it_is(value: str) -> None:
    (read,) = parse(in_a_config(f"{{properties.plan: {value}}}")).funnels[0].stages[1].where.values()
    assert read.equals == yaml.safe_load(value)
