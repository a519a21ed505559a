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
is no number is neither greater nor less. `matches` searches a regular expression in that text, of
which it sees the first thousand characters. A list or an object exists, and meets nothing else. An
absent or null property, or an empty text, does not exist, and only `exists: false` holds for it.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Scalar = str | bool | int | float
Predicate = Callable[[Any], bool]
TEXT_LENGTH_MAX = 1000  # of what a regular expression is searched in
FOR_NOTHING = "write {exists: false} for a property that is absent, null or empty"


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


def _comparable(value: Any) -> Any:
    """A value that a property can equal. Raises ValueError, which says what to write instead."""
    wrong = ""
    if isinstance(value, date):
        wrong = f"{value} is a date to YAML, and a property is text or a number; write it in quotes"
    elif value is None or value == "":
        wrong = f"nothing equals {'null' if value is None else 'an empty text'}; {FOR_NOTHING}"
    elif not isinstance(value, str | bool | int | float):
        wrong = "a property is compared with a text, a number, true or false; write one of these"
    if wrong:
        raise ValueError(wrong)
    return value


def _bound(value: Any) -> Any:
    if value is True or value is False:
        raise ValueError(f"{str(value).lower()} is no number; write a number")
    return value


Comparable = Annotated[Scalar, BeforeValidator(_comparable, json_schema_input_type=Scalar)]
Bound = Annotated[float, BeforeValidator(_bound, json_schema_input_type=float), Field(allow_inf_nan=False)]


class Condition(BaseModel):
    """What must be so of one property; everything that is given must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    equals: Comparable | None = None
    in_: tuple[Comparable, ...] | None = Field(default=None, alias="in", min_length=1, max_length=1000)
    exists: bool | None = None
    above: Bound | None = Field(default=None, alias=">")
    at_least: Bound | None = Field(default=None, alias=">=")
    below: Bound | None = Field(default=None, alias="<")
    at_most: Bound | None = Field(default=None, alias="<=")
    matches: str | None = Field(default=None, min_length=1, max_length=200)

    @field_validator("*", mode="before")
    @classmethod
    def _is_given(cls, value: Any) -> Any:
        if value is None:
            raise ValueError(f"null asks nothing; {FOR_NOTHING}")
        return value

    @field_validator("matches")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # what means something else in another Python
                re.compile(value or "")
        except (re.error, OverflowError, Warning) as error:
            raise ValueError(f"{value!r} is no regular expression ({error})") from None
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Condition:
        given = self.model_dump(exclude_none=True)
        if not given:
            raise ValueError("an empty condition; write a value, a list, or one of equals, in, exists, >, >=, <, <=, matches")
        if self.exists is False and len(given) > 1:
            raise ValueError("what does not exist meets no other condition; write `exists: false` alone")
        if not self._can_hold():
            raise ValueError("no value meets all of this; leave out what contradicts the rest")
        return self

    @property
    def compared(self) -> dict[tuple[str | int, ...], Scalar]:
        """The values of `equals` and `in`, by where they stand in the condition."""
        found: dict[tuple[str | int, ...], Scalar] = {} if self.equals is None else {("equals",): self.equals}
        return found | {("in", place): value for place, value in enumerate(self.in_ or ())}

    def counted(self) -> dict[str, Any]:
        """What the condition asks, the same however it is written: `pro`, `[pro]` and `{equals: pro}`."""
        asked = self.model_dump(exclude_none=True, exclude={"equals", "in_"})
        texts = [sorted({str(text_of(one)) for one in wanted}) for wanted in self._wanted()]
        return asked | ({"in": texts} if texts else {})

    def predicate(self) -> Predicate:
        """A function from the raw property to whether the condition holds."""
        if self.exists is False:
            return lambda raw: raw is None or raw == ""
        tests = [*self._texts(), *self._numbers()]
        return lambda raw: raw is not None and raw != "" and all(test(raw) for test in tests)

    def _can_hold(self) -> bool:
        """False when the values, or the bounds, contradict each other for certain."""
        wanted = self._wanted()
        if wanted:
            return any(map(self.predicate(), wanted[0]))
        lows = [(bound, open_) for bound, open_ in ((self.above, True), (self.at_least, False)) if bound is not None]
        highs = [(bound, open_) for bound, open_ in ((self.below, True), (self.at_most, False)) if bound is not None]
        return all(low < high or (low == high and not open_low and not open_high) for low, open_low in lows for high, open_high in highs)

    def _wanted(self) -> list[tuple[Scalar, ...]]:
        return [wanted for wanted in (() if self.equals is None else (self.equals,), self.in_ or ()) if wanted]

    def _texts(self) -> list[Predicate]:
        tests: list[Predicate] = []
        for wanted in self._wanted():
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
    return value if isinstance(value, dict | Condition) else {"equals": _comparable(value)}


Listed = Annotated[list[Scalar], Field(min_length=1, max_length=1000)]
Where = dict[
    Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$", max_length=200)],
    Annotated[Condition, BeforeValidator(_written, json_schema_input_type=Scalar | Listed | Condition)],
]
