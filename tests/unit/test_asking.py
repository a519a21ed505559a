"""Conditions that many roles put on the same properties are answered together, as each would be alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter

from schemas.condition import Where
from streams.asking import REMEMBERED_LENGTH_MAX, Asking, Conditions

WHERES: list[dict[str, Any]] = [
    {"a": 1},
    {"a": ["1", "x"]},
    {"a": True},
    {"a": {">": 0}},
    {"a": {"exists": False}},
    {"a": {"matches": "^x"}, "b": {"exists": True}},
    {"b": {"<": 5}},
]
VALUES: list[Any] = [None, "", 1, 1.0, True, False, "1", "true", "x", "xx" * REMEMBERED_LENGTH_MAX, 0, 4.5, "4.5", [1], {"x": 1}, [], {}]


def getter(name: str) -> Callable[[Any], Any]:
    return lambda record: record.get(name)


def conditions(written: dict[str, Any]) -> Conditions:
    where = TypeAdapter(Where).validate_python(written)
    return [(path, getter(path), condition.predicate()) for path, condition in where.items()]


@pytest.mark.parametrize("again", [False, True], ids=["asked once", "asked before"])
def test_each_role_gets_the_answer_that_its_conditions_give_alone(again: bool) -> None:
    roles = [conditions(written) for written in WHERES]
    asking = Asking(roles)
    records = [{"a": a, "b": b} for a in VALUES for b in VALUES]
    if again:
        for record in records:
            asking.bits(record)
    for record in records:
        alone = [all(holds(get(record)) for _, get, holds in role) for role in roles]
        assert [bool(asking.bits(record) >> place & 1) for place in range(len(roles))] == alone, record


def test_a_property_is_looked_at_once_however_many_ask() -> None:
    looked = []

    def look(record: Any) -> Any:
        looked.append(record)
        return record["a"]

    asking = Asking([[("a", look, lambda raw, n=n: raw == n)] for n in range(50)])
    assert asking.bits({"a": 7}) == 1 << 7
    assert len(looked) == 1


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.asking.REMEMBERED_MAX", 10)
    asked: list[Any] = []
    asking = Asking([[("a", lambda record: record["a"], lambda raw: asked.append(raw) is None)]])
    for _ in range(2):
        for n in range(20):
            assert asking.bits({"a": n}) == 1
    assert len(asked) == 30, "ten are remembered, the other ten asked about again"
