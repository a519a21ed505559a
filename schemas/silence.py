"""A silence: alerts that are told to nobody for a while. One that begins later is a maintenance window."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from schemas.funnel import Model

PARTS = ("rule", "funnel", "stage", "dimension", "value")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has control characters in it")
    return text


Glob = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
Author = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
Reason = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_printable)]
Moment = Annotated[AwareDatetime, AfterValidator(lambda at: at.astimezone(timezone.utc))]


class Matchers(Model):
    """Which alerts are meant: patterns with `*` and `?`, all of which must match; left out matches all."""

    rule: Glob | None = None
    funnel: Glob | None = None
    stage: Glob | None = None
    dimension: Glob | None = None
    value: Glob | None = None

    @model_validator(mode="after")
    def _something(self) -> Matchers:
        if not self.patterns:
            raise ValueError(f"a silence names at least one of {', '.join(PARTS)}; rule '*' means all")
        return self

    @property
    def patterns(self) -> dict[str, str]:
        """What was written, by part."""
        return {part: pattern for part in PARTS if (pattern := getattr(self, part)) is not None}


class NewSilence(Model):
    """A silence as it is asked for."""

    matchers: Matchers
    starts: Moment | None = Field(default=None, description="by default now")
    ends: Moment
    author: Author
    reason: Reason


class Silence(Model):
    """A silence as it is kept; its times are those of the wall clock, since people write them."""

    id: str
    matchers: Matchers
    starts: datetime
    ends: datetime
    author: str
    reason: str


class Signed(Model):
    """Who does something to the alerts, and why."""

    author: Author
    reason: str = Field(default="", max_length=500)


class NewAcknowledgement(Signed):
    """An alert whose incident somebody has seen: the total, or one value of a dimension."""

    rule: str = Field(max_length=64)
    dimension: str | None = Field(default=None, max_length=64)
    value: str | None = Field(default=None, max_length=200)


class Resend(Signed):
    """A dead letter that is to be sent again."""

    id: str = Field(max_length=1000)
