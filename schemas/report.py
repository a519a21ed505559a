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
        default=None, description="since when this definition is counted and no record is missing; null: from the topic's beginning"
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
    funnel: str = Field(description="empty for the pipeline's own alert")
    stage: str = Field(description="the step into this stage; empty for the pipeline's own alert")
    dimension: str | None
    value: str | None
    state: str = Field(description="pending, firing, resolved; or no_data, stale: the data to judge by were lost")
    numerator: int
    denominator: int | float
    rate: float | None
    threshold: float | None = Field(description="the one in force then; null while a relative rule has nothing to compare with")
    baseline: float | None = Field(default=None, description="what a relative threshold was taken from")
    basis: str = Field(default="users", description="what the rate was made of: users, entries or adjusted")


class AlertState(BaseModel):
    """Where a rule stands now."""

    model_config = ConfigDict(frozen=True)

    rule: str
    funnel: str = Field(description="empty for the pipeline's own alert")
    stage: str
    dimension: str | None
    value: str | None
    state: str = Field(description="inactive, pending, firing or recovering (still firing, but the rate is back)")
    since: datetime | None = Field(description="event time at which this state began; of the incident while it recovers")
    at: datetime | None = Field(description="event time of the last evaluation")
    data: str = Field(default="ok", description="ok, low_sample, no_data, stale or error: whether the rule can be judged")
    data_since: datetime | None = Field(default=None, description="event time since which the data are so")
    recovering_since: datetime | None = None
    flaps: int = Field(default=0, description="how often it began to fire in the last 24 h")
    told: bool = Field(default=False, description="the channels were told of the incident by a notification of its own")
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    silenced_by: tuple[str, ...] = Field(default=(), description="the ids of the silences that hold it now")
    numerator: int
    denominator: int | float
    rate: float | None
    low: float | None = Field(default=None, description="lower one-sided bound of the rate at the rule's confidence")
    upper: float | None = Field(default=None, description="upper one-sided bound")
    threshold: float | None = Field(description="the one in force; null while a relative rule has nothing to compare with")
    baseline: float | None = Field(default=None, description="what a relative threshold is taken from")
    basis: str = Field(default="users", description="what the rate is really made of")
    window_seconds: int | None = Field(default=None, description="the window really looked at, where it had to grow")
    severity: str
    window: str


class Alerts(BaseModel):
    """Where the rules stand, and how they got there."""

    states: list[AlertState] = Field(description="every rule, for the total and for each value it judges; then the pipeline's own")
    transitions: list[Transition] = Field(description="the last changes of state, newest first")


class SilenceReport(BaseModel):
    """A silence: what it holds, when, by whom and why."""

    model_config = ConfigDict(frozen=True)

    id: str
    matchers: dict[str, str] = Field(description="rule, funnel, stage, dimension, value: patterns with * and ?, all of which must match")
    starts: datetime
    ends: datetime
    author: str
    reason: str
    state: str = Field(description="active, future or expired")


class AuditEntry(BaseModel):
    """One thing that a person did to the alerts, or one look at an entity."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    author: str
    action: str = Field(description="silence_added, silence_expired, acknowledged, resent or entity_read")
    subject: str = Field(description="what it was done to: a silence's id, an alert, a dead letter's id, the digest of an entity")
    detail: str
    reason: str


class DeadLetterReport(BaseModel):
    """A notification that a channel did not take, and that waits for somebody to look at it."""

    model_config = ConfigDict(frozen=True)

    id: str
    channel: str
    status: str
    title: str
    error: str
    attempts: int
    at: datetime = Field(description="when it was given up")
    transition: Transition
