"""Conditions on an event's properties (`where`): all of them must hold for a stage to match.

Written as a path and what must be so of it: a value (equals), a list of values (in), or operators:

    where:
      properties.plan: pro
      properties.country: [de, fr]
      properties.amount: {">": 100, "<": 500}
      properties.coupon: {exists: false}
      properties.page: {matches: "^/shop"}

Values are compared as the text a dimension would show (`text_of`), so that JSON and CSV agree: 1,
1.0 and "1" are equal, true is "true". `>` and `<` compare numbers, numeric text among them; what
is no number is neither greater nor less. `matches` searches a regular expression in that text.
An absent, null or empty property does not exist, and only `exists: false` holds for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Scalar = str | bool | int | float
Predicate = Callable[[Any], bool]
TEXT_LENGTH_MAX = 1000  # of what a regular expression is searched in


def text_of(raw: Any) -> str | None:
    """A property as text: None when it is absent or empty, or is a list or an object."""
    if raw is None or raw == "":
        return None
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, float) and raw.is_integer():
        return str(int(raw))
    return str(raw) if isinstance(raw, str | int | float) else None


def number_of(raw: Any) -> float | None:
    """A property as a finite number, numeric text too; None when it is none."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        return None
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


class Condition(BaseModel):
    """What must be so of one property; everything that is given must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    equals: Scalar | None = None
    in_: tuple[Scalar, ...] | None = Field(default=None, alias="in", min_length=1, max_length=1000)
    exists: bool | None = None
    above: float | None = Field(default=None, alias=">")
    at_least: float | None = Field(default=None, alias=">=")
    below: float | None = Field(default=None, alias="<")
    at_most: float | None = Field(default=None, alias="<=")
    matches: str | None = Field(default=None, min_length=1, max_length=200)

    @field_validator("matches")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression ({error})") from None
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Condition:
        given = self.model_dump(exclude_none=True)
        if not given:
            raise ValueError("an empty condition; write a value, a list, or one of equals, in, exists, >, >=, <, <=, matches")
        if self.exists is False and len(given) > 1:
            raise ValueError("what does not exist meets no other condition; write `exists: false` alone")
        return self

    def predicate(self) -> Predicate:
        """A function from the raw property to whether the condition holds."""
        if self.exists is False:
            return lambda raw: raw is None or raw == ""
        tests = [*self._texts(), *self._numbers()]
        return lambda raw: raw is not None and raw != "" and all(test(raw) for test in tests)

    def _texts(self) -> list[Predicate]:
        tests: list[Predicate] = []
        for wanted in (None if self.equals is None else (self.equals,), self.in_):
            if wanted is not None:
                texts = frozenset(text_of(one) for one in wanted)
                tests.append(lambda raw, texts=texts: text_of(raw) in texts)  # type: ignore[misc]  # mypy wants no defaults here
        if self.matches is not None:
            search = re.compile(self.matches).search
            tests.append(lambda raw: (text := text_of(raw)) is not None and search(text[:TEXT_LENGTH_MAX]) is not None)
        return tests

    def _numbers(self) -> list[Predicate]:
        compared: list[tuple[float | None, Callable[[float, float], bool]]] = [
            (self.above, lambda number, bound: number > bound),
            (self.at_least, lambda number, bound: number >= bound),
            (self.below, lambda number, bound: number < bound),
            (self.at_most, lambda number, bound: number <= bound),
        ]
        return [_numeric(compare, bound) for bound, compare in compared if bound is not None]


def _numeric(compare: Callable[[float, float], bool], bound: float) -> Predicate:
    def test(raw: Any) -> bool:
        number = number_of(raw)
        return number is not None and compare(number, bound)

    return test


def _written(value: Any) -> Any:
    """A value alone stands for `equals`, a list for `in`."""
    if isinstance(value, list | tuple):
        return {"in": value}
    if isinstance(value, str | bool | int | float):
        return {"equals": value}
    return value


Where = dict[
    Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$", max_length=200)],
    Annotated[Condition, BeforeValidator(_written)],
]
