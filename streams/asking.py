"""[pure] Which of many conditions on an event hold, by one look at each property that they ask about.

Conditions that many funnels put on the same property are answered together: what they say of a value
is remembered as bits, one for each role that an event may have. So an event costs a look-up for each
property, however many funnels ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from schemas.condition import Predicate

REMEMBERED_MAX = 10_000  # values of one property
REMEMBERED_LENGTH_MAX = 64  # of a text that is remembered

Getter = Callable[[Any], Any]
Conditions = Sequence[tuple[str, Getter, Predicate]]  # of one role: path, what gets the value there, what must hold for it


class Asking:
    """The conditions of several roles."""

    def __init__(self, roles: Sequence[Conditions]) -> None:
        getters = {path: get for conditions in roles for path, get, _ in conditions}
        self._asked = [
            (get, _Asked([[holds for p, _, holds in conditions if p == path] for conditions in roles])) for path, get in getters.items()
        ]
        self._all = (1 << len(roles)) - 1

    def bits(self, record: Any) -> int:
        """One bit for each role, in their order: whether all its conditions hold."""
        found = self._all
        for get, asked in self._asked:
            found &= asked.bits(get(record))
        return found


class _Asked:
    """What the conditions of each role on one property say of its value; a role without any has its bit set."""

    def __init__(self, predicates: Sequence[Sequence[Predicate]]) -> None:
        self._predicates = predicates
        self._known: dict[Any, int] = {}

    def bits(self, raw: Any) -> int:
        kind = type(raw)
        if kind is str:
            told: Any = raw
        elif kind is list or kind is dict:
            return self._decide(raw)
        else:
            told = kind, raw  # 1, 1.0 and true are equal to a dict, and are not to a condition
        found = self._known.get(told)
        if found is None:
            found = self._decide(raw)
            if len(self._known) < REMEMBERED_MAX and (kind is not str or len(raw) <= REMEMBERED_LENGTH_MAX):
                self._known[told] = found
        return found

    def _decide(self, raw: Any) -> int:
        return sum(1 << place for place, tests in enumerate(self._predicates) if all(holds(raw) for holds in tests))
