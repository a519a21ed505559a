"""[pure] What a record says, bounded: dimension values and value properties."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.condition import text_of
from schemas.event import Reject
from schemas.funnel import NONE, OTHER, Dimension

SEPARATOR = "\x1f"  # between values of one chain, and between the parts of a count's name
GROUP = "\x1e"  # between the values that one event brings to several funnels
COMBINED = " / "  # between the two values of a combination
VALUE_LENGTH_MAX = 64
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
VALUE_SCALE = 1_000_000  # values are summed as whole millionths: exact in any order
VALUE_MAX = 1_000_000_000_000
REMEMBERED_MAX = 100_000  # values that were refused and need not be asked about again


@dataclass(frozen=True)
class Registry:
    """The admitted values of one property, shared by all partitions of a source."""

    name: str
    max_values: int


class Values:
    """Turns what a record says of a dimension into a bounded value."""

    def __init__(self, path: str, dimension: Dimension) -> None:
        self.path = path
        self.allow = dimension.allow
        self.registry = Registry(f"{path}{SEPARATOR}{dimension.max_values}", dimension.max_values)
        self._length_max = VALUE_LENGTH_MAX if dimension.combine is None else 2 * VALUE_LENGTH_MAX + len(COMBINED)
        self.known: dict[str, str] = {NONE: NONE, OTHER: OTHER}
        self.known |= {text: text for text in dimension.allow or ()}

    def shown(self, raw: Any) -> str | None:
        """The value to count under; None when the registry has to be asked first."""
        text = dimension_text(raw)
        found = self.known.get(text)
        if found is None and (self.allow is not None or not fits(text, self._length_max)):
            return OTHER
        return found

    def column(self, raws: Sequence[Any]) -> list[str | None]:
        """`shown` for many, quickly: None where it is not plain; those are to be asked one by one."""
        try:
            return list(map(self.known.get, raws))
        except TypeError:  # a list or an object among them
            return [self.known.get(raw) if type(raw) is str else None for raw in raws]

    def learn(self, answers: dict[str, bool]) -> None:
        """Remember which values the registry admitted; of the refused ones as many as there is room for."""
        if len(self.known) > REMEMBERED_MAX:
            self.known = {text: shown for text, shown in self.known.items() if shown == text}
        self.known |= {text: text if ok else OTHER for text, ok in answers.items()}


def dimension_text(raw: Any) -> str:
    """A property as the text of a dimension value."""
    text = text_of(raw)
    if text is None:
        return NONE if raw is None or raw == "" else OTHER
    return text


def fits(text: str, length_max: int = VALUE_LENGTH_MAX) -> bool:
    """Whether a text may be a dimension value: 1 to 64 characters, none of them control characters."""
    return 0 < len(text) <= length_max and CONTROL.search(text) is None


def millionths(raw: Any) -> int:
    """A value property as whole millionths; absent counts as 0. Raises Reject."""
    if raw is None or raw == "":
        return 0
    try:
        number = float(raw) if isinstance(raw, str) else raw
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number) or abs(number) > VALUE_MAX:
            raise ValueError
    except (ValueError, OverflowError):
        raise Reject("bad_value", repr(raw)[:64]) from None
    return round(number * VALUE_SCALE)
