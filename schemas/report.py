"""What a reader gets: counts and rates of a funnel over one window. What the API returns."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class Rate(BaseModel):
    """A rate with its parts. `rate` is numerator ÷ denominator, absent when there is no denominator."""

    model_config = ConfigDict(frozen=True)

    numerator: int
    denominator: int | float = Field(description="on basis adjusted: what the entries that were due are worth, in entries")
    rate: float | None = Field(description="numerator ÷ denominator; null when the denominator is 0; may pass 1 on basis users")
    low: float | None = Field(default=None, description="lower end of the two-sided 95% interval; null on basis users, which has none")
    high: float | None = Field(default=None, description="upper end of that interval")


class Adjusted(BaseModel):
    """What stands behind an age-adjusted rate."""

    model_config = ConfigDict(frozen=True)

    ready: bool = Field(description="whether there is enough history to say anything")
    reason: str = Field(description="why not, in words; empty when ready")
    expected: float = Field(description="conversions usual in the window for the entries that were due")
    baseline: float | None = Field(description="share of entries that usually converts in the end, learned from finished ones")
    capped: bool = Field(description="the rate would be more than 1 and is shown as 1")
    projected: Rate | None = Field(description="entries opened in the window: the share expected to have converted in the end")


class TimeToConvert(BaseModel):
    """How long the conversions of the entries opened in the window took, in seconds."""

    model_config = ConfigDict(frozen=True)

    conversions: int
    p50_seconds: float | None
    p90_seconds: float | None
    p99_seconds: float | None


class StageReport(BaseModel):
    """One stage in one window."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str = ""
    users: int = Field(description="distinct entities that reached the stage within the window")
    step: Rate | None = Field(description="rate of the step into the stage on the basis asked for; null at the first stage")
    lost: int = Field(description="users at the stage before less users here, never below 0; 0 at the first stage")
    events: int = Field(description="events that reached the stage within the window")
    value: float = Field(description="sum of the stage's value property over those events")
    entries: int = Field(default=0, description="entries that opened at the stage within the window")
    conversions: int | None = Field(default=None, description="how many of them went on to the next stage; null at the last stage")
    pending: Rate | None = Field(default=None, description="basis entries: the step's entries that may still convert, not in `step`")
    adjusted: Adjusted | None = Field(default=None, description="basis adjusted: what stands behind `step`")
    time_to_convert: TimeToConvert | None = Field(default=None, description="of the step into the stage; null at the first stage")
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
    incomplete: bool = Field(description="the window misses something: records were gone before they were counted, or counting began later")
    since: datetime | None = Field(
        default=None, description="when counting of this definition began; null when it was there from the topic's beginning"
    )
    lag: int | None = Field(description="records not yet counted, of all partitions; null when unknown")
    stages: tuple[StageReport, ...]
    overall: Rate = Field(description="users at the last stage ÷ users at the first, on every basis")
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
