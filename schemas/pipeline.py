"""How funnelwatch tells that its own data do not come: the one alert that no rule has to ask for."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from schemas.duration import Duration
from schemas.funnel import Model, Name

PIPELINE = "FunnelwatchPipeline"


class Pipeline(Model):
    """The pipeline's own alert, one per source: it lags behind, or nothing comes, for longer than `for`.

    `notify` left out: every channel that a rule names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    for_: Duration = Field(default=Duration("2m"), alias="for")
    notify: tuple[Name, ...] | None = None
    severity: Name = "page"
    runbook: str = ""
