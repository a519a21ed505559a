"""Channels as the config writes them, and what is said of one that is written wrongly."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from schemas.channel import AlertmanagerChannel, AppriseChannel, KafkaChannel, PagerdutyChannel, WebhookChannel
from schemas.config import parse
from schemas.errors import ConfigError

REST: dict[str, Any] = {
    "sources": [{"name": "web", "topic": "clicks"}],
    "funnels": [
        {
            "name": "purchase", "source": "web", "conversion_window": "30m", "windows": ["5m"],
            "stages": [{"name": "view", "event": "v"}, {"name": "pay", "event": "p"}],
        }
    ],
}  # fmt: skip


def parsed(**channel: Any) -> Any:
    return parse(yaml.safe_dump(REST | {"channels": {"oncall": channel}})).channels["oncall"]


def refused(**channel: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(**channel)
    return str(caught.value)


def test_every_channel_has_its_defaults() -> None:
    alertmanager = parsed(type="alertmanager", url="http://am:9093")
    assert isinstance(alertmanager, AlertmanagerChannel)
    assert (int(alertmanager.resend), alertmanager.heartbeat, alertmanager.allow) == (60, None, ())
    assert (int(alertmanager.limit.per), alertmanager.limit.most) == (60, 30)
    pagerduty = parsed(type="pagerduty", routing_key="env:PAGERDUTY_KEY")
    assert isinstance(pagerduty, PagerdutyChannel)
    assert str(pagerduty.url) == "https://events.pagerduty.com/v2/enqueue"
    assert isinstance(parsed(type="webhook", url="https://hooks.example", secret="file:/run/secrets/hook"), WebhookChannel)
    assert isinstance(parsed(type="kafka", topic="alerts"), KafkaChannel)
    assert isinstance(parsed(type="apprise", urls=["slack://a/b/c"]), AppriseChannel)


@pytest.mark.parametrize("allow", ["127.0.0.0/8", "::1", "fe80::/10", "alertmanager.internal", "localhost"])
def test_hosts_and_networks_can_be_allowed(allow: str) -> None:
    assert parsed(type="webhook", url="https://hooks.example", allow=[allow]).allow == (allow,)


@pytest.mark.parametrize("allow", ["127.0.0.0/99", "http://hooks.example", "two words", ""])
def test_what_is_neither_a_host_nor_a_network_is_refused(allow: str) -> None:
    assert "is neither a host nor a network; write a name, an address or a CIDR block" in refused(
        type="webhook", url="https://hooks.example", allow=[allow]
    )


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"resend": "0s"}, "channels.oncall.alertmanager.resend: must be 1s or more"),
        ({"heartbeat": "5s"}, "heartbeat: is too often; write 10s or more"),
        ({"limit": {"most": 0}}, "limit.most"),
        ({"limit": {"per": "0s"}}, "must be 1s or more"),
        ({"url": "ftp://am"}, "url"),
        ({"resned": "1m"}, "unknown key 'resned'; did you mean 'resend'?"),
    ],
)
def test_what_is_written_wrongly_is_refused_in_words(wrong: dict[str, Any], what: str) -> None:
    assert what in refused(**{"type": "alertmanager", "url": "http://am:9093"} | wrong)


@pytest.mark.parametrize("written", ["env:", "file:"])
def test_a_reference_that_names_nothing_is_refused(written: str) -> None:
    assert "names nothing; write env:NAME or file:/PATH, or the secret itself" in refused(type="pagerduty", routing_key=written)


def test_a_channel_of_no_known_type_is_refused_with_those_there_are() -> None:
    assert "'alertmanager', 'pagerduty', 'webhook', 'kafka', 'apprise', 'log'" in refused(type="pigeon")
