"""What can be played: every function marked as an experiment, by the name it goes by in reports."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.scene import Scene

Play = Callable[["Scene"], None]


@dataclass(frozen=True)
class Experiment:
    """One fault and what must hold after it."""

    name: str
    text: str
    play: Play
    quick: bool  # of the third that is played at every change
    once: bool  # chance has no part in it: a second seed would play the same


_FOUND: dict[str, Experiment] = {}


def experiment(*, quick: bool = False, once: bool = False) -> Callable[[Play], Play]:
    """Enter a function; its name and the first paragraph of its docstring go into the report."""

    def enter(play: Play) -> Play:
        name = play.__name__.replace("_", "-")
        text = " ".join((play.__doc__ or "").strip().partition("\n\n")[0].split())
        _FOUND[name] = Experiment(name, text, play, quick, once)
        return play

    return enter


def experiments() -> dict[str, Experiment]:
    """All of them, module by module."""
    package = import_module("tests.faults.experiments")
    for module in sorted(found.name for found in pkgutil.iter_modules(package.__path__)):
        import_module(f"tests.faults.experiments.{module}")
    return dict(_FOUND)
