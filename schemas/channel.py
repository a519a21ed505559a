"""The channels that notifications go to: where they are, how often they may be told, what they may reach."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, HttpUrl
from pydantic_core import PydanticCustomError

from schemas.duration import Duration
from schemas.funnel import Model
from schemas.secret import Secret


def _positive(value: Duration) -> Duration:
    if value < 1:
        raise ValueError("must be 1s or more")
    return value


def _not_hurried(value: Duration) -> Duration:
    if value < 10:
        raise ValueError("is too often; write 10s or more")
    return value


def _host_or_network(value: str) -> str:
    try:
        ip_network(value, strict=False)
    except ValueError:
        if not value or "/" in value or ":" in value or any(c.isspace() for c in value):
            raise PydanticCustomError(
                "allow", "{given} is neither a host nor a network; write a name, an address or a CIDR block", {"given": repr(value)}
            ) from None
    return value


Span = Annotated[Duration, AfterValidator(_positive)]
Heartbeat = Annotated[Duration, AfterValidator(_not_hurried)]
Allowed = Annotated[str, Field(max_length=255), AfterValidator(_host_or_network)]


class Limit(Model):
    """At most `most` notifications a `per`, as many at once; what is more waits, and is then told in one."""

    per: Span = Duration("1m")
    most: int = Field(default=30, ge=1, le=10_000)


class Limited(Model):
    """What every channel has."""

    limit: Limit = Limit()


class Addressed(Limited):
    """A channel at an address of the network; `allow` names hosts or networks that would be refused otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    allow: tuple[Allowed, ...] = Field(default=(), max_length=100)


class AlertmanagerChannel(Addressed):
    """Prometheus Alertmanager, API v2. A firing alert is sent again every `resend`, a resolved one for 15 minutes."""

    type: Literal["alertmanager"]
    url: HttpUrl
    resend: Span = Duration("1m")
    heartbeat: Heartbeat | None = None


class PagerdutyChannel(Addressed):
    """PagerDuty, Events API v2: one PagerDuty incident for each of ours."""

    type: Literal["pagerduty"]
    routing_key: Secret
    url: HttpUrl = HttpUrl("https://events.pagerduty.com/v2/enqueue")
    heartbeat: Heartbeat | None = None


class WebhookChannel(Addressed):
    """A JSON document posted to an address, once a transition; signed when there is a `secret`."""

    type: Literal["webhook"]
    url: HttpUrl
    headers: dict[str, str] = Field(default_factory=dict, max_length=20)
    secret: Secret | None = None
    heartbeat: Heartbeat | None = None


class KafkaChannel(Limited):
    """The webhook's document as a record of a Kafka topic, keyed by the alert; `brokers` are the service's own by default."""

    type: Literal["kafka"]
    topic: str = Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")
    brokers: str = Field(default="", max_length=2000)
    heartbeat: Heartbeat | None = None


class AppriseChannel(Addressed):
    """Everything that Apprise knows: mail, Slack, Telegram, DingTalk, WeCom, Feishu; one address a receiver."""

    type: Literal["apprise"]
    urls: tuple[Secret, ...] = Field(min_length=1, max_length=20)
    picture: bool = True


class LogChannel(Limited):
    """A line in the service's own log."""

    type: Literal["log"]


Channel = Annotated[
    AlertmanagerChannel | PagerdutyChannel | WebhookChannel | KafkaChannel | AppriseChannel | LogChannel,
    Field(discriminator="type"),
]
