"""Short answers to questions in words: what a language model, or a person in a hurry, gets of the reports.

Every answer begins with its `summary`, and none is longer than what is read at a glance.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from schemas.report import AlertState, FunnelSummary, Rate, Transition


class Answer(BaseModel):
    """What is said first, in a sentence or two."""

    model_config = ConfigDict(frozen=True)

    summary: str


class Frozen(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True)


class FunnelList(Answer):
    """Every funnel, and what may be asked of it."""

    funnels: tuple[FunnelSummary, ...]
    left_out: int = Field(default=0, description="how many funnels are not listed here")


class StageLine(Frozen):
    """One stage of a funnel, and the step into it."""

    name: str
    title: str
    users: int = Field(description="distinct people who reached the stage within the window")
    step: Rate | None = Field(description="rate of the step into the stage; null at the first")
    lost: int = Field(description="users at the stage before less users here")
    target: float | None
    p50_seconds: float | None = Field(description="median time from the stage before")


class ValueLine(Frozen):
    """One value of a dimension: users by stage, and the rate of each step in turn."""

    value: str
    users: tuple[int, ...]
    rates: tuple[float | None, ...]
    overall: float | None


class FunnelNow(Answer):
    """A funnel over one trailing window, as of `at`."""

    funnel: str
    window: str
    basis: str
    at: datetime | None
    stale: bool
    stages: tuple[StageLine, ...]
    overall: Rate = Field(description="users at the last stage ÷ users at the first")
    by: str | None
    values: tuple[ValueLine, ...] = Field(description="those with most people first")
    values_left_out: int = 0


class ValueChange(Frozen):
    """One value of a dimension in both periods, at one step."""

    dimension: str
    value: str
    before: Rate
    now: Rate
    conversions: float = Field(description="how many more (or, negative, fewer) converted than at the value's own rate before")
    share: float = Field(description="that, of what the whole step gained or lost; more than 1 where others made up for some of it")
    p_adjusted: float | None
    significant: bool


class StepChange(Frozen):
    """One step in both periods, and the value of a dimension that explains most of its change."""

    summary: str
    funnel: str
    from_stage: str
    stage: str = Field(description="the step is the passage into this stage")
    before: Rate
    now: Rate
    difference: float = Field(description="rate now − rate before")
    conversions: float = Field(description="how many more (or, negative, fewer) converted than at the rate before")
    p_adjusted: float | None = Field(description="p-value by Holm's method for all `tests` of the answer")
    significant: bool = Field(description="p_adjusted ≤ 0.05; a step that is not, is here for the sake of its `place`")
    place: ValueChange | None = Field(
        description="the value that explains at least half of it, and surely more than its part of the people"
    )
    values: tuple[ValueChange, ...] = Field(description="the values that changed most, of all dimensions")


class WhatChanged(Answer):
    """Which steps changed between two periods by more than chance, and where; the costliest first."""

    since: datetime
    to: datetime
    against_from: datetime
    against_to: datetime
    worse: tuple[StepChange, ...]
    better: tuple[StepChange, ...]
    compared: int = Field(description="how many steps of how many funnels' were compared: all of those not listed did not change")
    tests: int = Field(description="how many tests were made, which is what p-values are adjusted for")
    bases: dict[str, str] = Field(
        description="by funnel, what its rates are made of: adjusted (conversions in the period by what was due, each entry at its age) "
        "or entries (of those opened in the period, the finished ones that converted)"
    )
    not_compared: dict[str, str] = Field(description="by funnel, why nothing can be said of it")


class PastPoint(Frozen):
    """The window that ended at `at`: users by stage, and the rate of each step in turn."""

    at: datetime
    users: tuple[int | None, ...]
    rates: tuple[float | None, ...]


class FunnelPast(Answer):
    """A funnel, or one value of a dimension of it, at steps of a period."""

    funnel: str
    window: str
    basis: str
    step: str
    by: str | None
    value: str | None
    stages: tuple[str, ...]
    points: tuple[PastPoint, ...]
    gaps: int = Field(description="how many points are missing")


class AlertsNow(Answer):
    """The alerts that are not at rest, and the last changes."""

    active: tuple[AlertState, ...]
    transitions: tuple[Transition, ...] = Field(description="newest first")
    rules: int = Field(description="how many rules there are, each value that one judges counted by itself")


class Meaning(Frozen):
    """One name of the config, or one word of the reports, explained."""

    what: str = Field(description="funnel, stage, step, dimension, alert, source or term")
    funnel: str = Field(description="empty where it is none's")
    name: str
    title: str
    meaning: str
    counted: tuple[str, ...] = Field(description="how it is counted exactly, sentence by sentence")
    target: float | None = None
    owner: str = ""


class Meanings(Answer):
    """What the dictionary has on a word."""

    found: tuple[Meaning, ...]
    left_out: int = 0
