"""[pure] Long work in steps of a millisecond or two, for whoever runs it to do other things in between."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")
Steps = Generator[None, None, T]  # what the work comes to is returned at the end


def at_once(steps: Callable[P, Steps[T]]) -> Callable[P, T]:
    """The same work without pauses, for whom nobody waits."""

    @wraps(steps)
    def work(*given: P.args, **more: P.kwargs) -> T:
        taken = steps(*given, **more)
        while True:
            try:
                next(taken)
            except StopIteration as done:
                return cast(T, done.value)

    return work
