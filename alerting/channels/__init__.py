"""Ways to tell people and machines: one file a channel, one way to build them."""

from __future__ import annotations

import time
from collections.abc import Callable

from alerting.channels.alertmanager import AlertmanagerSender
from alerting.channels.apprise import AppriseSender
from alerting.channels.kafka import KafkaSender
from alerting.channels.log import LogSender
from alerting.channels.pagerduty import PagerdutySender
from alerting.channels.sender import Sender
from alerting.channels.webhook import WebhookSender
from schemas.channel import AlertmanagerChannel, AppriseChannel, Channel, KafkaChannel, PagerdutyChannel, WebhookChannel
from streams.brokers import Where

__all__ = ["Sender", "build"]


def build(name: str, channel: Channel, clock: Callable[[], float] = time.time, *, brokers: Where = "") -> Sender:
    """The sender for a channel of the config; `clock` gives seconds since the epoch, `brokers` are the service's own.

    Raises SettingsError when a secret is not where the config says, or Apprise does not know an address.
    """
    if isinstance(channel, AlertmanagerChannel):
        return AlertmanagerSender(name, channel, clock)
    if isinstance(channel, PagerdutyChannel):
        return PagerdutySender(name, channel)
    if isinstance(channel, WebhookChannel):
        return WebhookSender(name, channel, clock)
    if isinstance(channel, KafkaChannel):
        return KafkaSender(name, channel, _brokers(channel, brokers))
    if isinstance(channel, AppriseChannel):
        return AppriseSender(name, channel)
    return LogSender(name)


def _brokers(channel: KafkaChannel, ours: Where) -> Where:
    """A channel's own brokers are spoken to as the service's are."""
    if not channel.brokers:
        return ours
    return channel.brokers if isinstance(ours, str) else ours.at(channel.brokers)
