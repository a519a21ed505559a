"""[pure] For the recount: what a funnel sees in an event, and what it counts it under.

Conditions are judged here once more, from what `schemas.condition` says of them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.condition import Condition, Where
from schemas.funnel import NONE, OTHER, Dimension, Funnel
from streams.recount_events import Event, text_of

SEARCHED_MAX = 1000  # characters of a text that a regular expression is searched in
VALUE_LENGTH_MAX = 64
JOINT = " / "  # between the two values of a combination


def stages_of(funnel: Funnel, event: Event) -> list[int]:
    """The stages that the event matches, from 0, lowest first."""
    return [i for i, stage in enumerate(funnel.stages) if event.name in stage.event and _holds(stage.where, event)]


def ended_by(funnel: Funnel, event: Event) -> set[int]:
    """The stages at which chains end by this event: it is excluded there."""
    matched = [x for x in funnel.exclude if event.name in x.event and _holds(x.where, event)]
    return {i for x in matched for i in range(funnel.stage_index(x.from_), funnel.stage_index(x.to))}


def looks_at(funnel: Funnel, event: Event) -> bool:
    """Whether the event may change what the funnel counts; in `strict` order every event may."""
    if funnel.order == "strict" or stages_of(funnel, event):
        return True
    return any(event.name in x.event and _holds(x.where, event) for x in funnel.exclude)


def asks_for_properties(funnel: Funnel) -> bool:
    """Whether a condition, a dimension or a value of the funnel looks at a property."""
    stages = any(stage.where or stage.value is not None for stage in funnel.stages)
    return bool(funnel.dimensions) or stages or any(x.where for x in funnel.exclude)


class Values:
    """The dimension values admitted so far, in order of arrival: one list a property and bound."""

    def __init__(self) -> None:
        self._admitted: dict[tuple[Any, int], list[str]] = defaultdict(list)

    def meet(self, funnel: Funnel, event: Event) -> None:
        """Admit what an arriving first-stage event brings, while there is room."""
        if 0 not in stages_of(funnel, event):
            return
        for dimension in sorted(funnel.dimensions.values(), key=lambda d: d.combine is not None):
            text, admitted = self._text(funnel, dimension, event), self._list(funnel, dimension)
            if dimension.allow is None and _fits(text, dimension) and text not in admitted and len(admitted) < dimension.max_values:
                admitted.append(text)

    def of(self, funnel: Funnel, event: Event) -> Mapping[str, str]:
        """The values that the event's chain counts under, by dimension."""
        return {name: self._shown(funnel, dimension, event) for name, dimension in funnel.dimensions.items()}

    def _text(self, funnel: Funnel, dimension: Dimension, event: Event) -> str:
        if dimension.combine is not None:
            return JOINT.join(self._shown(funnel, funnel.dimensions[name], event) for name in dimension.combine)
        found = event.at(dimension.field)
        return text_of(found) or (NONE if found is None or found == "" else OTHER)

    def _shown(self, funnel: Funnel, dimension: Dimension, event: Event) -> str:
        text = self._text(funnel, dimension, event)
        allowed = self._list(funnel, dimension) if dimension.allow is None else dimension.allow
        return text if text == NONE or text in allowed else OTHER

    def _list(self, funnel: Funnel, dimension: Dimension) -> list[str]:
        return self._admitted[_origin(funnel, dimension), dimension.max_values]


def _origin(funnel: Funnel, dimension: Dimension) -> Any:
    """Where its values come from: the property, or those of both parts."""
    if dimension.combine is None:
        return dimension.field
    return tuple(_origin(funnel, funnel.dimensions[name]) for name in dimension.combine)


def _fits(text: str, dimension: Dimension) -> bool:
    length_max = VALUE_LENGTH_MAX if dimension.combine is None else 2 * VALUE_LENGTH_MAX + len(JOINT)
    controls = any(unicodedata.category(character) == "Cc" for character in text)
    return text not in (NONE, OTHER) and len(text) <= length_max and not controls


def _holds(where: Where, event: Event) -> bool:
    return all(_meets(condition, event.at(path)) for path, condition in where.items())


def _meets(condition: Condition, found: Any) -> bool:
    exists = found is not None and found != ""
    return not exists if condition.exists is False else exists and all(_tests(condition, found))


def _tests(condition: Condition, found: Any) -> Iterator[bool]:
    text, number = text_of(found), _number(found)
    if condition.equals is not None:
        yield text is not None and text == text_of(condition.equals)
    if condition.in_ is not None:
        yield text is not None and any(text == text_of(one) for one in condition.in_)
    if condition.matches is not None:
        yield text is not None and bool(re.search(condition.matches, text[:SEARCHED_MAX]))
    if condition.above is not None:
        yield number > condition.above
    if condition.at_least is not None:
        yield number >= condition.at_least
    if condition.below is not None:
        yield number < condition.below
    if condition.at_most is not None:
        yield number <= condition.at_most


def _number(found: Any) -> float:
    """A finite number; anything else is NaN, which is neither greater nor less nor equal."""
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return math.nan
    try:
        number = float(found)
    except (ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan
