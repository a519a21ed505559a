"""Where an entity stands in each funnel, and why it is not further. What the API and `explain` return."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

StandingState = Literal["complete", "waiting", "passed", "ended", "over", "not_entered"]
STATES = (
    "of the chain that stands at the deepest stage reached. complete: that is the last stage; waiting: the next stage may still be "
    "reached; passed: the conversion window passed; ended: an event ended the chain; over: one of these two, which is not kept; "
    "not_entered: no event of the first stage is on record"
)


class Frozen(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(frozen=True)


class Reach(Frozen):
    """When a stage was reached last: exactly, or between two times."""

    at: datetime | None = Field(description="the event's time; null when only the bucket is kept")
    since: datetime = Field(description="not before this time")
    before: datetime = Field(description="before this time")


class Entry(Frozen):
    """The newest entry at a stage; reaches within the conversion window of its opening belong to it."""

    opened: datetime
    converted: bool | None = Field(description="whether the next stage was reached in time; null at the last stage")
    until: datetime | None = Field(description="opening + conversion window: until when it can convert; null at the last stage")
    pending: bool = Field(description="not converted, and `until` has not passed")


class StageStanding(Frozen):
    """An entity at one stage."""

    name: str
    title: str
    reached: Reach | None = Field(description="the latest reach; null: none on record")
    start: datetime | None = Field(
        description="when the newest chain that got here began (order any: the newest event of the stage); null: there is no such chain"
    )
    until: datetime | None = Field(description="start + conversion window: until when that chain can go on; null without a start")
    values: dict[str, str] = Field(description="dimension values of the latest reach's chain")
    entry: Entry | None = Field(description="null: none on record, or one that ended long ago")


class Wait(Frozen):
    """A stage that may still be reached by a chain as it stands."""

    stage: str
    until: datetime


class FunnelStanding(Frozen):
    """An entity in one funnel."""

    funnel: str
    title: str
    order: str
    conversion_window: str
    state: StandingState = Field(description=STATES)
    deepest: str | None = Field(description="the deepest stage reached; null: none on record")
    why: str = Field(description="the same in sentences, with times: what was reached, and why it is not further")
    waiting: tuple[Wait, ...] = Field(description="of every chain that can go on, the deepest first")
    stages: tuple[StageStanding, ...]


class FormerStanding(Frozen):
    """What is kept under a definition that no funnel of the config has (any more)."""

    definition: int
    stages: int = Field(description="how many stages it has")
    deepest: int = Field(description="the deepest stage reached, from 1; 0: none")
    reached: Reach | None = Field(description="the latest reach of the deepest stage")
    why: str


class SourceExplanation(Frozen):
    """An entity in all funnels of one source."""

    source: str
    partition: int | None = Field(description="the partition that counts the entity; null for a file")
    at: datetime | None = Field(description="T of the source, to which the sentences refer; null before the first report")
    newest: datetime = Field(description="the entity's newest event that a funnel looked at")
    funnels: tuple[FunnelStanding, ...]
    former: tuple[FormerStanding, ...] = ()


class EntityExplanation(Frozen):
    """An entity in every source that knows it."""

    entity: str
    sources: tuple[SourceExplanation, ...]
