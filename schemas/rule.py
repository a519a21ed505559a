"""An alert rule, and the channels its notifications go to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, HttpUrl

from schemas.duration import Duration
from schemas.funnel import Model, Name, Ratio


class Rule(Model):
    """Fire when the rate of the step into `stage` stays under `below` for `for`.

    The evidence on basis `users` is min(numerator, denominator) out of the denominator; the upper
    end of its one-sided Wilson interval at `confidence` must lie under `below`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: Name
    funnel: Name
    stage: Name
    basis: Literal["users"] = "users"
    window: Duration
    below: Ratio
    for_: Duration = Field(default=Duration("0s"), alias="for")
    recover_above: Ratio | None = None
    min_entrants: int = Field(default=30, ge=1)
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    by: tuple[Name, ...] = ()
    severity: Name = "warning"
    notify: tuple[Name, ...] = ()
    runbook: str = ""

    @property
    def recovery(self) -> float:
        """The rate from which a firing alert resolves: `recover_above`, by default `below`."""
        return self.below if self.recover_above is None else self.recover_above


class AlertmanagerChannel(Model):
    """Prometheus Alertmanager, API v2. A firing alert is sent again every `resend`."""

    type: Literal["alertmanager"]
    url: HttpUrl
    resend: Duration = Duration("1m")


class WebhookChannel(Model):
    """A JSON document posted to an address, once a transition."""

    type: Literal["webhook"]
    url: HttpUrl
    headers: dict[str, str] = Field(default_factory=dict, max_length=20)


class LogChannel(Model):
    """A line in the service's own log."""

    type: Literal["log"]


Channel = Annotated[AlertmanagerChannel | WebhookChannel | LogChannel, Field(discriminator="type")]
