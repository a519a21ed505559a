"""What is wrong with a config file, in words: where it stands, what it is and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from schemas.errors import Problem

Location = tuple[str | int, ...]
DEPTH_MAX = 50


def instead(wrong: str, right: Sequence[str]) -> str:
    close = difflib.get_close_matches(wrong, right, n=1)
    if close and any(map(str.isalnum, wrong)):  # "=" is close to ">=" and means another thing
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(right)}" if right else "there are none"


def root_causes(errors: Sequence[Any]) -> list[Any]:
    """Without the "too short" that pydantic adds for a list whose only item failed."""
    places = [e["loc"] for e in errors]
    return [e for e in errors if not (e["type"] == "too_short" and any(p[: len(e["loc"])] == e["loc"] and p != e["loc"] for p in places))]


def explain(model: type[BaseModel], root: yaml.Node | None, error: Any) -> Problem:
    kind = error["type"]
    loc: Location = error["loc"][:-1] if kind == "missing" or error["loc"][-1:] == ("[key]",) else error["loc"]
    _, line = find(root, loc)
    if kind == "extra_forbidden":
        return Problem(line, dotted(loc[:-1]), f"unknown key {loc[-1]!r}", instead(str(loc[-1]), _keys_at(model, loc[:-1])))
    if kind == "missing":
        return Problem(line, dotted(loc), f"{error['loc'][-1]!r} is missing", "add it")
    if kind == "value_error":  # our own
        return Problem(line, dotted(loc), str(error["ctx"]["error"]))
    message = error["msg"].split(" or instance of ")[0].replace(" after validation", "")
    message = message.replace("tuple", "list").replace("Tuple", "List")
    if kind == "string_pattern_mismatch":
        message = next((told for part, told in PATTERNS.items() if part in message), message)
    given = error.get("input")
    shown = f" (given: {repr(given)[:80]})" if isinstance(given, str | int | float | bool) and repr(given) not in message else ""
    if loc[:1] in QUIET:
        shown = ""
    return Problem(line, dotted(loc), f"{message[0].lower()}{message[1:]}{shown}", REMEDIES.get(kind, ""))


QUIET = [("access",)]  # what stands there may be a token
PATTERNS = {
    "\\w": "not a name; write letters, digits, _ - . : or spaces, 64 at most",
    "[^.\\s]": "not a path; write words with dots between them, as in properties.channel",
}
REMEDIES = {
    "dict_type": "write KEY: VALUE pairs",
    "model_type": "write KEY: VALUE pairs",
    "string_type": "write a text, in quotes if it looks like a number, a date, true or false",
    "tuple_type": "write a list, as in [a, b]",
}


def _keys_at(root: type[BaseModel], loc: Location) -> list[str]:
    """The keys a model takes at a place, found by walking the models' own fields."""
    here: list[Any] = [root]
    for step in loc:
        following: list[Any] = []
        for model in here:
            field = next((f for n, f in model.model_fields.items() if step in (n, f.alias)), None)
            following += list(_models_in(field.annotation)) if field else [model]
        here = following
    return sorted({f.alias or name for model in here for name, f in model.model_fields.items()})


def _models_in(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node | None, int | None]:
    """The node below `node` at a key or place, and the line to show for it."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return value, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        value = node.value[step]
        return value, value.start_mark.line + 1
    return node, None


def find(root: yaml.Node | None, loc: Location) -> tuple[yaml.Node | None, int]:
    """The node at a place, or the nearest above it, and its line. What stands for a longer form counts as that: `a` for `[a]`."""
    line = 1
    node = root
    for step in loc:
        node, found = _child(node, step)
        line = found or line
    return node, line


def dotted(loc: Location) -> str:
    shown = ""
    for step in loc:
        shown += f"[{step}]" if isinstance(step, int) else f"{'.' if shown else ''}{step}"
    return shown


def refused_shapes(text: str) -> Iterator[Problem]:
    """Aliases, and the first nesting that is too deep, before anything is built: either can take for ever."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            yield Problem(line, "", f"*{event.anchor} is an alias; a config has none", "write the value out")
        if depth > DEPTH_MAX:
            yield Problem(line, "", "is nested too deeply", "a config needs eight levels")
            return


def duplicate_keys(node: yaml.Node) -> Iterator[Problem]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                yield Problem(key.start_mark.line + 1, "", "a key is a list or a mapping", "write a word")
                continue
            if key.value in seen:
                yield Problem(key.start_mark.line + 1, "", f"key {key.value!r} is there twice", "keep one of them")
            seen.add(str(key.value))
            yield from duplicate_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from duplicate_keys(value)
