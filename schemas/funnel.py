"""A funnel: two or more named stages in order, with one conversion window; its dimensions."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from schemas.condition import Where
from schemas.duration import Duration

Name = Annotated[str, Field(pattern=r"^\w[\w .:-]{0,63}$")]
Path = Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$", max_length=200)]
Ratio = Annotated[float, Field(ge=0, le=1)]

NONE = "__none__"
OTHER = "__other__"


class Model(BaseModel):
    """Frozen, and strict about keys: an unknown key is an error, not a wish ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _two(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] == value[1]:
        raise ValueError("a combination is of two different dimensions; write combine: [DIMENSION, DIMENSION]")
    return value


class Dimension(Model):
    """What counts are split by: an event property, or a combination of two other dimensions.

    At most `max_values` values, or those allowed. A combination's value is both values, joined by " / ".
    """

    field: str = Field(default="", pattern=r"^([^.\s]+(\.[^.\s]+)*)?$", max_length=200)
    combine: Annotated[tuple[Name, Name], BeforeValidator(_two)] | None = None
    allow: tuple[str, ...] | None = None
    max_values: int = Field(default=100, ge=1, le=10_000)

    @model_validator(mode="after")
    def _one_of_both(self) -> Dimension:
        if bool(self.field) == (self.combine is not None):
            raise ValueError("a dimension is either a `field` or `combine: [DIMENSION, DIMENSION]`; write one of them")
        return self


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(value):
        raise ValueError("an event name cannot be empty")
    return value


EventNames = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(_one_or_many, json_schema_input_type=str | Annotated[list[str], Field(min_length=1)]),
    AfterValidator(_not_empty),
]


class Stage(Model):
    """A name and what matches it: one or more event names, and conditions on the event's properties."""

    name: Name
    event: EventNames
    where: Where = Field(default_factory=dict, max_length=16)
    title: str = ""
    value: Path | None = None
    target: Ratio | None = None
    benchmark: Ratio | None = None


class Exclusion(Model):
    """An event that ends the chains which stand at `from` or later, before `to`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    event: EventNames
    where: Where = Field(default_factory=dict, max_length=16)
    from_: Name = Field(alias="from")
    to: Name


class Baseline(Model):
    """How the usual conversion of a step is learned, for age-adjusted rates.

    From mature entries, each weighing half as much `half_life` later; `by: hour_of_week` learns each
    of the 168 hours by itself. Below `min_entries` (weighted) there is no baseline.
    """

    half_life: Duration = Duration("7d")
    by: Literal["all", "hour_of_week"] = "all"
    min_entries: int = Field(default=200, ge=1)


class Funnel(Model):
    """Stages in order over one source, counted within trailing windows and by dimension."""

    name: Name
    title: str = ""
    description: str = ""
    owner: str = ""
    source: Name
    order: Literal["ordered", "any", "strict"] = "ordered"
    conversion_window: Duration
    windows: tuple[Duration, ...] = Field(min_length=1, max_length=16)
    dimensions: dict[Name, Dimension] = Field(default_factory=dict, max_length=8)
    stages: tuple[Stage, ...] = Field(min_length=2, max_length=32)
    exclude: tuple[Exclusion, ...] = Field(default=(), max_length=16)
    baseline: Baseline = Baseline()

    @field_validator("dimensions", mode="before", json_schema_input_type=Annotated[dict[Name, Path | Dimension], Field(max_length=8)])
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
            "stages": [[sorted(stage.event), stage.value, _asked(stage.where)] for stage in self.stages],
            "exclude": sorted(
                ([sorted(e.event), _asked(e.where), self.stage_index(e.from_), self.stage_index(e.to)] for e in self.exclude),
                key=json.dumps,
            ),
            # In their order: the stored values of a chain are.
            "dimensions": [[n, d.field or d.combine, d.allow and sorted(d.allow), d.max_values] for n, d in self.dimensions.items()],
        }
        digest = hashlib.blake2b(json.dumps(counted, sort_keys=True).encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") >> 1

    def stage_index(self, name: str) -> int:
        """The place of the stage of that name, from 0. Raises KeyError."""
        for place, stage in enumerate(self.stages):
            if stage.name == name:
                return place
        raise KeyError(name)


def _asked(where: Where) -> dict[str, Any]:
    return {path: condition.counted() for path, condition in sorted(where.items())}
