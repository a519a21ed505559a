"""A msgspec struct of just the paths that are asked for, and getters through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

Getter = Callable[[Any], Any]


class Tree:
    """A msgspec struct with one attribute a path segment, and getters through it."""

    def __init__(self, type_: Any, attributes: dict[str, str], below: dict[str, Tree]) -> None:
        self.type = type_
        self._attributes = attributes
        self._below = below

    def attribute(self, parts: list[str]) -> str | None:
        """The dotted attribute for a path, where structs lead all the way."""
        head, rest = parts[0], parts[1:]
        if not rest:
            return self._attributes[head]
        below = self._below[head].attribute(rest) if head in self._below else None
        return None if below is None else f"{self._attributes[head]}.{below}"

    def getter(self, parts: list[str]) -> Getter:
        head, rest = parts[0], parts[1:]
        attribute = self._attributes[head]
        if not rest:
            return lambda record: getattr(record, attribute)
        if head not in self._below:
            return lambda record: _dig(getattr(record, attribute), rest)
        inner = self._below[head].getter(rest)

        def through(record: Any) -> Any:
            found = getattr(record, attribute)
            return None if found is None else inner(found)

        return through


def _dig(found: Any, parts: list[str]) -> Any:
    for part in parts:
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def struct_of(wanted: dict[str, tuple[list[str], Any]], depth: int = 0) -> Tree:
    """The struct for `wanted`: a name for each, the path, and the type there. At depth 0 what a path leads through must be an object."""
    heads: dict[str, dict[str, tuple[list[str], Any]]] = {}
    for name, (parts, type_) in wanted.items():
        heads.setdefault(parts[0], {})[name] = (parts[1:], type_)
    attributes: dict[str, str] = {}
    below: dict[str, Tree] = {}
    definition: list[tuple[str, Any, Any]] = []
    for place, (head, group) in enumerate(heads.items()):
        attribute = attributes[head] = f"f{place}"
        if any(not rest for rest, _ in group.values()):
            # One path may be a field and a property, or a value and a way through: the field's type holds.
            strict = [kind for rest, kind in group.values() if not rest and kind is not Any]
            type_ = strict[0] if strict else Any
        elif depth == 0 or any(type_ is not Any for _, type_ in group.values()):
            below[head] = struct_of(group, depth + 1)
            type_ = below[head].type | None
        else:
            type_ = Any
        definition.append((attribute, type_, None))
    rename = {attributes[head]: head for head in heads}
    return Tree(msgspec.defstruct("Record", definition, rename=rename, gc=False), attributes, below)
