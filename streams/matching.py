"""[pure] Which stages an event matches: one lookup by its name, then the conditions, where it has some.

A *match* says what an event does in which funnels. Events that match alike share one. Each has a
key by which a stored event finds it again, the same in every worker with the same definitions: a
number for a name without conditions, the name's number and the bits of the conditions that hold
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.condition import Where
from schemas.funnel import Funnel
from streams.asking import Asking, Conditions, Getter
from streams.values import GROUP

CELLS = 5  # a stage's in a funnel's block, see `chains`
NO_STAGE = 256
SEALED: Final = 0  # the key of an event that cannot be folded again

Key = int | bytes
# A stage: funnel number << 8 | stage, the places of its five cells, of the first cell of the stage before it, and
# whether it has a value property. Plain tuples: they are unpacked faster than named ones.
Op = tuple[int, int, int, int, int, int, int, bool]
# What an event does in one funnel: definition, funnel number, cells of a block, which of the values that it brings are
# this funnel's (-1: all of them), lowest stage matched, conversion window in µs, the stages matched, deepest first, the
# places of the starts it clears, and in the order `any` all stages, ascending.
Step = tuple[int, int, int, int, int, int, tuple[Op, ...], tuple[int, ...], tuple[Op, ...] | None]
NUMBER: Final = 1
LOWEST: Final = 4


@dataclass(eq=False, slots=True)
class Match:
    """What an event does in all funnels of a source."""

    steps: tuple[Step, ...]
    key: Key
    openers: tuple[int, ...]  # numbers of the funnels with dimensions whose first stage it matches
    stages: tuple[int, ...]  # funnel number << 8 | stage, of stages with a value property
    lowest: int  # of all funnels


def only(step: Step) -> Match:
    """What an event does in one funnel, as a match."""
    return Match((step,), SEALED, (), (), step[LOWEST])


NOTHING = Match((), SEALED, (), (), NO_STAGE)


@dataclass(frozen=True)
class Role:
    """One thing that events of a name may be to a funnel: a stage, or (place -1) one of its exclusions."""

    funnel: int
    place: int
    clears: tuple[int, ...]  # stages whose start it clears
    conditions: Conditions  # none: the name is enough


@dataclass(frozen=True)
class _Unsure:
    """A name that is not enough to tell what an event does."""

    place: int  # among the names
    sure: list[Role]
    others: list[Role]
    asking: Asking
    matches: dict[int, Match] = field(default_factory=dict)  # by the bits of the conditions that hold


class Matcher:
    """The matches of one source's events."""

    def __init__(self, funnels: Sequence[tuple[int, Funnel]], getter: Callable[[str], Getter]) -> None:
        """`funnels`: (definition, funnel) in the order of their numbers; `getter`: of the value at a path of a record."""
        self._funnels = funnels
        self._strict = [number for number, (_, funnel) in enumerate(funnels) if funnel.order == "strict"]
        dimensioned = [number for number, (_, funnel) in enumerate(funnels) if funnel.dimensions]
        self._dimensioned = frozenset(dimensioned)
        self.alone = len(dimensioned) == 1  # its values need not be told from another funnel's
        roles: dict[str, list[Role]] = {}
        for number, (_, funnel) in enumerate(funnels):
            for name, role in _roles(number, funnel, getter):
                roles.setdefault(name, []).append(role)
        self._sure: dict[str, Match | None] = {}
        self._unsure: dict[str, _Unsure] = {}
        self._by_key: dict[Key, Match] = {SEALED: NOTHING}
        for place, name in enumerate(sorted(roles), start=1):
            sure = [role for role in roles[name] if not role.conditions]
            others = [role for role in roles[name] if role.conditions]
            if others:
                self._unsure[name] = _Unsure(place, sure, others, Asking([role.conditions for role in others]))
            else:
                self._sure[name] = self._remember(place, sure)
        # In the order `strict` an event that nothing asks for ends chains too.
        self.foreign = self._remember(-1, []) if self._strict else None
        self.get = self._sure.get

    def matches(self, names: Sequence[str], records: Sequence[Any]) -> list[Match | None]:
        """The match of every event; None: filtered."""
        foreign = self.foreign
        found = list(map(self.get, names)) if foreign is None else [self.get(name, foreign) for name in names]
        if self._unsure:
            unsure = self._unsure
            for place, name in enumerate(names):
                if name in unsure:
                    found[place] = self._decide(unsure[name], records[place])
        return found

    def by_key(self, key: Key) -> Match:
        """The match of a stored event."""
        found = self._by_key.get(key)
        if found is None:  # a combination of conditions that this worker has not met yet
            assert isinstance(key, bytes)
            place, bits = int.from_bytes(key[:4], "big"), int.from_bytes(key[4:], "big")
            unsure = next(unsure for unsure in self._unsure.values() if unsure.place == place)
            found = self._remember(key, [*unsure.sure, *(role for bit, role in enumerate(unsure.others) if bits >> bit & 1)])
        return found

    def _decide(self, unsure: _Unsure, record: Any) -> Match | None:
        bits = unsure.asking.bits(record)
        if not bits and not unsure.sure:
            return self.foreign
        found = unsure.matches.get(bits)
        if found is None:
            key = unsure.place.to_bytes(4, "big") + bits.to_bytes((len(unsure.others) + 7) // 8, "big")
            found = unsure.matches[bits] = self.by_key(key)
        return found

    def _remember(self, key: Key, roles: Iterable[Role]) -> Match:
        found = self._by_key[key] = self._match(key, list(roles))
        return found

    def _match(self, key: Key, roles: list[Role]) -> Match:
        numbers = sorted({role.funnel for role in roles}.union(self._strict))
        # In their order, which is that of the values it brings.
        openers = tuple(sorted({r.funnel for r in roles if r.place == 0} & self._dimensioned))
        steps = tuple(self._step(number, [r for r in roles if r.funnel == number], openers) for number in numbers)
        valued = tuple(
            r.funnel << 8 | r.place for r in roles if r.place >= 0 and self._funnels[r.funnel][1].stages[r.place].value is not None
        )
        return Match(steps, key, openers, valued, min((step[LOWEST] for step in steps), default=NO_STAGE))

    def _step(self, number: int, roles: list[Role], openers: tuple[int, ...]) -> Step:
        definition, funnel = self._funnels[number]
        stages = sorted({r.place for r in roles if r.place >= 0})
        clears = {place for r in roles for place in r.clears}
        if funnel.order == "strict":
            clears |= set(range(len(funnel.stages))) - set(stages)
        values_at = openers.index(number) if not self.alone and number in openers else -1
        ascending = tuple(_op(number, place, stage.value is not None) for place, stage in enumerate(funnel.stages))
        return (
            definition,
            number,
            CELLS * len(funnel.stages) + 2,
            values_at,
            min(stages, default=NO_STAGE),
            funnel.conversion_window.micros,
            tuple(ascending[place] for place in reversed(stages)),
            tuple(CELLS * place for place in sorted(clears)),
            ascending if funnel.order == "any" else None,
        )


def openings(matches: list[Match | None]) -> dict[int, list[int]]:
    """Funnel number -> the places of the events that open it, of funnels with dimensions."""
    found: dict[int, list[int]] = {}
    for place, match in enumerate(matches):
        if match is not None:
            for number in match.openers:
                found.setdefault(number, []).append(place)
    return found


def put(shown: list[str], matches: list[Match | None], number: int, places: list[int], values: list[str]) -> None:
    """Put a funnel's values in their places, behind those of the funnels before it."""
    for place, found in zip(places, values):
        match = matches[place]
        assert match is not None  # who opens a funnel has one
        shown[place] = found if match.openers[0] == number else shown[place] + GROUP + found


def with_amounts(matches: list[Match | None]) -> list[int]:
    """The places of events that match a stage with a value property."""
    return [place for place, match in enumerate(matches) if match is not None and match.stages]


def _op(number: int, place: int, valued: bool) -> Op:
    at = CELLS * place
    return number << 8 | place, at, at + 1, at + 2, at + 3, at + 4, max(0, at - CELLS), valued


def _roles(number: int, funnel: Funnel, getter: Callable[[str], Getter]) -> Iterable[tuple[str, Role]]:
    for place, stage in enumerate(funnel.stages):
        role = Role(number, place, (), _conditions(stage.where, getter))
        yield from ((name, role) for name in dict.fromkeys(stage.event))
    # In an order that does not depend on how they are written, as the definition does not either: keys number them.
    for exclusion in sorted(funnel.exclude, key=lambda e: (funnel.stage_index(e.from_), funnel.stage_index(e.to), told(e.event, e.where))):
        clears = tuple(range(funnel.stage_index(exclusion.from_), funnel.stage_index(exclusion.to)))
        role = Role(number, -1, clears, _conditions(exclusion.where, getter))
        yield from ((name, role) for name in dict.fromkeys(exclusion.event))


def told(names: Iterable[str], where: Where) -> str:
    """What an event must be, however it is written."""
    return repr((sorted(set(names)), [(path, sorted(condition.counted().items())) for path, condition in sorted(where.items())]))


def _conditions(where: Where, getter: Callable[[str], Getter]) -> Conditions:
    return tuple((path, getter(path), condition.predicate()) for path, condition in where.items())


def asked_paths(funnel: Funnel) -> set[str]:
    """The property paths that a funnel's conditions look at."""
    places: list[Mapping[str, Any]] = [*(s.where for s in funnel.stages), *(e.where for e in funnel.exclude)]
    return {path for where in places for path in where}
