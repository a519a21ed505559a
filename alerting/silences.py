"""[pure] Which silences hold an alert, and whether a silence is active, still to come or over."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from alerting.lifecycle import AlertKey
from schemas.report import SilenceReport
from schemas.rule import Rule
from schemas.silence import NewSilence, Silence

SilenceState = Literal["active", "future", "expired"]
SILENCES_MAX = 1000


class Subject(NamedTuple):
    """An alert by everything that a silence can name; what it has not is empty."""

    rule: str
    funnel: str = ""
    stage: str = ""
    dimension: str = ""
    value: str = ""


def subject_of(rule: Rule | None, alert: AlertKey) -> Subject:
    """What a silence sees of an alert; `rule` is None for the pipeline's own."""
    where = (rule.funnel, rule.stage) if rule else ("", "")
    return Subject(alert.rule, *where, alert.dimension or "", alert.value or "")


def state_of(silence: Silence, now: datetime) -> SilenceState:
    """Active from `starts` until just before `ends`."""
    if silence.ends <= now:
        return "expired"
    return "active" if silence.starts <= now else "future"


def matches(silence: Silence, subject: Subject) -> bool:
    """Whether every pattern of the silence matches; capitals count."""
    return all(fnmatchcase(getattr(subject, part), pattern) for part, pattern in silence.matchers.patterns.items())


def holding(silences: Iterable[Silence], subject: Subject, now: datetime) -> tuple[str, ...]:
    """The ids of the silences that hold an alert now."""
    return tuple(silence.id for silence in silences if state_of(silence, now) == "active" and matches(silence, subject))


def begun(asked: NewSilence, name: str, now: datetime) -> Silence:
    """The silence that was asked for. Raises ValueError when it would never hold anything."""
    starts = asked.starts or now
    if asked.ends <= max(starts, now):
        raise ValueError("a silence ends after it starts, and not in the past")
    return Silence(id=name, matchers=asked.matchers, starts=starts, ends=asked.ends, author=asked.author, reason=asked.reason)


def ended(silence: Silence, now: datetime) -> Silence:
    """The silence, over at once; as it was if it is over already."""
    return silence if state_of(silence, now) == "expired" else silence.model_copy(update={"ends": now})


def superfluous(silences: Collection[Silence], now: datetime) -> tuple[str, ...]:
    """The ids to be forgotten so that one more can be kept: of those that are over, the longest over."""
    over = sorted((silence for silence in silences if state_of(silence, now) == "expired"), key=lambda silence: silence.ends)
    return tuple(silence.id for silence in over[: max(0, len(silences) - SILENCES_MAX + 1)])


def report(silence: Silence, now: datetime) -> SilenceReport:
    """A silence as readers get it."""
    return SilenceReport(matchers=silence.matchers.patterns, state=state_of(silence, now), **silence.model_dump(exclude={"matchers"}))
