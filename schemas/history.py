"""What a reader gets of the past: a funnel at chosen steps, and two of its periods or values compared."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from schemas.report import Rate


class StagePoint(BaseModel):
    """One stage in the window that ended at a point; what was not kept that far back is null."""

    model_config = ConfigDict(frozen=True)

    users: int | None = Field(default=None, description="distinct entities within the window, from the record; null on basis entries")
    step: Rate | None = Field(default=None, description="rate of the step into the stage on the basis asked for; null at the first stage")
    entries: int | None = Field(default=None, description="basis entries: opened at the stage within the window")
    conversions: int | None = Field(default=None, description="basis entries: how many of them went on by now; null at the last stage")
    pending: Rate | None = Field(default=None, description="basis entries: the step's entries that may still convert, not in `step`")
    events: int | None = Field(default=None, description="events that reached the stage within the window")
    value: float | None = Field(default=None, description="sum of the stage's value property over those events")


class ValuePoint(BaseModel):
    """A point for one value of a dimension."""

    model_config = ConfigDict(frozen=True)

    value: str
    stages: tuple[StagePoint, ...]


class HistoryPoint(BaseModel):
    """A funnel in the window that ended at `at`."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    stages: tuple[StagePoint, ...] = Field(description="in the order of the report's `stages`")
    incomplete: bool = Field(default=False, description="the window missed something when it was recorded")
    values: tuple[ValuePoint, ...] = ()


class HistoryReport(BaseModel):
    """A funnel over one window, at every step of a period."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    name: str
    title: str
    source: str
    window: str
    basis: str
    by: str | None
    step: str
    from_: datetime | None = Field(alias="from", description="the first boundary asked for; null before the first event")
    to: datetime | None = Field(description="the last boundary of this page")
    at: datetime | None = Field(description="T, the time of the newest counts")
    since: datetime | None = Field(
        description="since when this definition is counted and no record is missing; null: from the topic's beginning"
    )
    stages: tuple[str, ...]
    points: tuple[HistoryPoint, ...] = Field(description="in order of time; one that was missed is not there")
    gaps: int = Field(description="how many boundaries of the page have no point")
    next: str | None = Field(description="the address of the page that follows; null at the end")


class Side(BaseModel):
    """One of the two that are compared."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    from_: datetime = Field(alias="from", description="where it begins: counts are by bucket, so a bucket's boundary")
    to: datetime
    value: str | None = Field(default=None, description="the dimension's value; null: all of them")
    others: bool = Field(default=False, description="all values but this one")


class StepComparison(BaseModel):
    """The rate of one step on both sides, and whether they differ by more than chance would have it."""

    model_config = ConfigDict(frozen=True)

    stage: str = Field(description="the step into this stage")
    a: Rate
    b: Rate
    difference: float | None = Field(description="rate of a − rate of b")
    low: float | None = Field(default=None, description="lower end of the 95% interval of the difference; null where none is claimed")
    high: float | None = None
    ratio: float | None = Field(default=None, description="basis adjusted: rate of a ÷ rate of b")
    ratio_low: float | None = Field(default=None, description="lower end of the 95% interval of the ratio")
    ratio_high: float | None = Field(default=None, description="null where there is no upper end")
    p: float | None = Field(default=None, description="two-sided p-value of this comparison by itself; null where no test is made")
    p_adjusted: float | None = Field(default=None, description="p-value by Holm's method for all `tests` of the answer")
    significant: bool | None = Field(default=None, description="p_adjusted ≤ 0.05; null where no test is made")
    test: str = Field(default="", description="fisher, score, poisson; empty where none is made")


class Comparison(BaseModel):
    """Two sides, step by step."""

    model_config = ConfigDict(frozen=True)

    a: Side
    b: Side
    pending_a: int = Field(default=0, description="basis entries: entries of a that may still convert, and are left out")
    pending_b: int = 0
    steps: tuple[StepComparison, ...]


class ComparisonReport(BaseModel):
    """Two periods of a funnel, or values of a dimension, compared."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    basis: str
    by: str | None
    at: datetime | None = Field(description="T, the time of the newest counts")
    compared: int = Field(description="how many pairs of sides were compared")
    tests: int = Field(description="how many tests were made, which is what p-values are adjusted for")
    level: float = Field(default=0.05, description="chance of one false finding or more, over all tests of the answer")
    note: str = Field(description="what is claimed and what is not, in a sentence")
    comparisons: tuple[Comparison, ...]
