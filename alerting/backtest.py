"""Rules over history: judged at every boundary of its own time by the live evaluator's parts, telling nobody.

At boundary b the counts are those of all events before b, T is b, and every rule whose step divides b
is evaluated: `look`, `judge`, `advance`, and `tell` for what would have been a page. So the changes of
state are those that an evaluator gives which is fed boundary by boundary (a test holds it to that).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import count
from operator import itemgetter

from alerting.course import Course, Trial, Watch
from schemas.config import Config
from schemas.duration import MICROS, bucket_seconds
from schemas.errors import UsageError
from schemas.report import Transition
from streams.history import History


def _aligned(steps_us: Iterable[int], stride: int) -> int:
    """The least multiple of the finest step, `stride` of it at least, that divides each coarser step, and is a multiple of each finer one."""
    steps = sorted(steps_us)
    return next(
        asked_us for asked_us in count(stride * steps[0], steps[0]) if not any(max(asked_us, step) % min(asked_us, step) for step in steps)
    )


class Backtest:
    """Rules of one source over its history, once.

    `stride`: how many of the finest steps lie between two evaluations, at least; more than 1 is a rough
    look, as of a service that wakes up seldom. `watch` is told how far it has come; `thorough`: let there be a
    verdict also where a glance shows that nothing changes, and tell `watch` of each. Raises UsageError.
    """

    def __init__(self, history: History, config: Config, *, stride: int = 1, thorough: bool = False, watch: Watch | None = None) -> None:
        self.history = history
        rules = [rule for rule in config.alerts if config.funnel(rule.funnel).source == history.source.name]
        if not rules:
            raise UsageError(f"the config has no alert rules over funnels of source {history.source.name!r}; write some under `alerts`")
        self.step_us = _aligned({bucket_seconds(rule.window) * MICROS for rule in rules}, stride)
        self._watch = watch
        users = [(place, rule) for place, rule in enumerate(rules) if rule.basis == "users"]
        others = [(place, rule) for place, rule in enumerate(rules) if rule.basis != "users"]
        self._courses = [Course(history, config, of, self.step_us, thorough=thorough, watch=self._told) for of in (users, others) if of]
        placed = [pair for course in self._courses for pair in zip(course.places, course.trials)]
        self.trials = [trial for _, trial in sorted(placed, key=itemgetter(0))]
        self.first_us = -1  # the first boundary evaluated
        self._told_us = -1

    def run(self) -> Iterator[Transition]:
        """Every change of state in the order of time, those of one boundary in the order of the config."""
        begun_us = self.history.at(0)
        if begun_us is None:
            return
        self.first_us = (begun_us // self.step_us + 1) * self.step_us
        for _, _, changes in merge(*(course.run(self.first_us) for course in self._courses), key=itemgetter(0, 1)):
            yield from changes

    def _told(self, trial: Trial, at_us: int) -> None:
        self._told_us = max(self._told_us, at_us)
        if self._watch is not None:
            self._watch(trial, self._told_us)

    @property
    def boundaries(self) -> int:
        """How many were evaluated."""
        return max(course.boundaries for course in self._courses)

    @property
    def last_us(self) -> int:
        """The last of them; -1 without any."""
        return max(course.last_us for course in self._courses)

    @property
    def judged_us(self) -> int:
        """How long the rules were judged, without what was passed over."""
        return max(0, self.boundaries - 1) * self.step_us
