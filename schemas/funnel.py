"""A funnel: two or more named stages in order, with one conversion window; its dimensions."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.duration import Duration

Name = Annotated[str, Field(pattern=r"^\w[\w .:-]{0,63}$")]
Path = Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$", max_length=200)]
Ratio = Annotated[float, Field(ge=0, le=1)]

NONE = "__none__"
OTHER = "__other__"


class Model(BaseModel):
    """Frozen, and strict about keys: an unknown key is an error, not a wish ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Dimension(Model):
    """An event property that counts are split by. At most `max_values` values, or those allowed."""

    field: Path
    allow: tuple[str, ...] | None = None
    max_values: int = Field(default=100, ge=1, le=10_000)


class Stage(Model):
    """A name and what matches it: one or more event names."""

    name: Name
    event: tuple[str, ...] = Field(min_length=1)
    title: str = ""
    value: Path | None = None
    target: Ratio | None = None
    benchmark: Ratio | None = None

    @field_validator("event", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("event")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(value):
            raise ValueError("an event name cannot be empty")
        return value


class Funnel(Model):
    """Stages in order over one source, counted within trailing windows and by dimension."""

    name: Name
    title: str = ""
    description: str = ""
    owner: str = ""
    source: Name
    order: Literal["ordered"] = "ordered"
    conversion_window: Duration
    windows: tuple[Duration, ...] = Field(min_length=1, max_length=16)
    dimensions: dict[Name, Dimension] = Field(default_factory=dict, max_length=8)
    stages: tuple[Stage, ...] = Field(min_length=2, max_length=32)

    @field_validator("dimensions", mode="before")
    @classmethod
    def _field_alone(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: {"field": spec} if isinstance(spec, str) else spec for name, spec in value.items()}

    @property
    def definition(self) -> int:
        """A 31-bit hash of what the funnel counts (semantics: definition)."""
        counted = {
            "name": self.name,
            "source": self.source,
            "order": self.order,
            "conversion_window": int(self.conversion_window),
            "stages": [[sorted(stage.event), stage.value] for stage in self.stages],
            # In their order: the stored values of a chain are.
            "dimensions": [[n, d.field, d.allow and sorted(d.allow), d.max_values] for n, d in self.dimensions.items()],
        }
        digest = hashlib.blake2b(json.dumps(counted, sort_keys=True).encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") >> 1

    def stage_index(self, name: str) -> int:
        """The place of the stage of that name, from 0. Raises KeyError."""
        for place, stage in enumerate(self.stages):
            if stage.name == name:
                return place
        raise KeyError(name)
