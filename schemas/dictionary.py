"""What every number and every alert of a config means, in words; and what another config changes in that.

Sentences are plain text. Names as the config writes them stand between “ and ”.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Language = Literal["en", "zh"]
Kind = Literal["meaning", "anew", "words", "running"]


class Frozen(BaseModel):
    """A part of a dictionary."""

    model_config = ConfigDict(frozen=True)


class Entry(Frozen):
    """One thing with a name of the config: what it means, and how it is counted."""

    name: str
    title: str = Field(description="what people call it; the name where the config has no title")
    description: str = Field(default="", description="in the config's own words")
    meaning: str = Field(description="in plain words, one sentence")
    counted: tuple[str, ...] = Field(description="how it is counted exactly, sentence by sentence")
    target: float | None = Field(default=None, description="wanted rate of a step")
    benchmark: float | None = Field(default=None, description="what others reach")
    owner: str = Field(default="", description="who answers for the funnel")


class StepEntry(Entry):
    """The rate of the step into a stage."""

    from_stage: str
    stage: str
    alerts: tuple[str, ...] = Field(description="names of the rules that judge it")


class AlertEntry(Entry):
    """An alert rule. `funnel` and `stage` are empty for the pipeline's own alert."""

    funnel: str
    stage: str
    severity: str
    notify: tuple[str, ...]
    runbook: str


class FunnelEntry(Entry):
    """A funnel with its parts."""

    source: str
    definition: int = Field(description="what its counts belong to: with another number they begin at zero")
    windows: tuple[str, ...]
    stages: tuple[Entry, ...]
    steps: tuple[StepEntry, ...]
    dimensions: tuple[Entry, ...]
    alerts: tuple[AlertEntry, ...]


class Term(Frozen):
    """A word of the page, the API and the alerts; `key` is its name in the API where it has one."""

    key: str
    term: str
    meaning: str


class Dictionary(Frozen):
    """All of a config in words."""

    language: Language
    sources: tuple[Entry, ...]
    funnels: tuple[FunnelEntry, ...]
    pipeline: AlertEntry = Field(description="the alert that is always there")
    terms: tuple[Term, ...]


class Change(Frozen):
    """One difference between two configs."""

    kind: Kind = Field(
        description="meaning: a number or an alert means another thing; anew: counts begin at zero; "
        "words: only names, titles, texts; running: how it runs, and what is written otherwise but means the same"
    )
    subject: str = Field(description="what it is about, in words: source, funnel, stage, alert, ...")
    funnel: str = Field(description="the funnel's name; empty where it is none's")
    text: str


class Difference(Frozen):
    """What one config changes in the meaning of another."""

    language: Language
    same: bool = Field(description="nothing changes in meaning, and nothing begins anew")
    changes: tuple[Change, ...]
