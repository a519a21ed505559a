"""What a reader gets: counts and rates of a funnel over one window. What the API returns."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class Rate(BaseModel):
    """A rate with its parts. `rate` is numerator ÷ denominator, absent when there is no denominator."""

    model_config = ConfigDict(frozen=True)

    numerator: int
    denominator: int
    rate: float | None = Field(description="numerator ÷ denominator; null when the denominator is 0; may pass 1 on basis users")


class StageReport(BaseModel):
    """One stage in one window."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str = ""
    users: int = Field(description="distinct entities that reached the stage within the window")
    step: Rate | None = Field(description="users here ÷ users at the stage before; null at the first stage")
    lost: int = Field(description="users at the stage before less users here, never below 0; 0 at the first stage")
    events: int = Field(description="events that reached the stage within the window")
    value: float = Field(description="sum of the stage's value property over those events")
    target: float | None = None
    benchmark: float | None = None


class Breakdown(BaseModel):
    """The stages of a funnel for one value of a dimension."""

    model_config = ConfigDict(frozen=True)

    value: str
    stages: tuple[StageReport, ...]
    overall: Rate


class FunnelReport(BaseModel):
    """A funnel over one trailing window at event time `at` (T)."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    source: str
    window: str
    basis: str = "users"
    conversion_window: str
    at: datetime | None = Field(description="T, the time the report is about; null before the first event")
    stale: bool = Field(description="a partition has unread records and stands more than 60 s behind T")
    incomplete: bool = Field(description="records were gone from the topic before they could be counted")
    lag: int | None = Field(description="records not yet counted, of all partitions; null when unknown")
    stages: tuple[StageReport, ...]
    overall: Rate = Field(description="users at the last stage ÷ users at the first")
    by: str | None = None
    values: tuple[Breakdown, ...] = ()


class FunnelSummary(BaseModel):
    """A funnel as it is configured: its name and what may be asked of it."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    description: str
    owner: str
    source: str
    conversion_window: str
    windows: tuple[str, ...]
    dimensions: tuple[str, ...]
    stages: tuple[str, ...]
    overall: Rate | None = Field(description="over the first of its windows; null before the first event")
    at: datetime | None


class Transition(BaseModel):
    """One change of state of a rule (for the total, or for one value of a dimension)."""

    model_config = ConfigDict(frozen=True)

    at: datetime = Field(description="event time of the evaluation")
    rule: str
    funnel: str
    stage: str
    dimension: str | None
    value: str | None
    state: str = Field(description="pending, firing or resolved")
    numerator: int
    denominator: int
    rate: float | None
    threshold: float


class AlertState(BaseModel):
    """Where a rule stands now."""

    model_config = ConfigDict(frozen=True)

    rule: str
    funnel: str
    stage: str
    dimension: str | None
    value: str | None
    state: str = Field(description="inactive, pending or firing")
    since: datetime | None = Field(description="event time at which this state began")
    at: datetime | None = Field(description="event time of the last evaluation")
    numerator: int
    denominator: int
    rate: float | None
    threshold: float
    severity: str
    window: str
