"""The JSON document of an alert (see `document`) as a record of a Kafka topic, once a transition.

The key is the alert, so that all of one alert is in one partition and in order; the header
`idempotency-key` repeats the document's `key`.
"""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from alerting.channels.document import document
from alerting.channels.sender import Gathers, seconds_of
from alerting.message import Notification
from schemas.channel import KafkaChannel
from schemas.errors import DeliveryError, StoreUnavailable
from streams.brokers import Where
from streams.producer import AckedProducer, Outgoing

TIMEOUT_SECONDS = 15.0


class KafkaSender:
    """Writes records and waits until every replica has them."""

    def __init__(self, name: str, channel: KafkaChannel, brokers: Where) -> None:
        self.resend_seconds: int | None = None
        self.heartbeat_seconds = seconds_of(channel.heartbeat)
        self.gathers: Gathers = "alerts"
        self._name = name
        self._topic = channel.topic
        self._producer = AckedProducer(brokers)

    async def send(self, *notifications: Notification) -> None:
        try:
            await asyncio.wait_for(self._producer.send_all([self._record(n) for n in notifications]), TIMEOUT_SECONDS)
        except asyncio.TimeoutError:
            await self._producer.close()
            raise DeliveryError(self._name, f"Kafka did not answer within {TIMEOUT_SECONDS:g} s") from None
        except StoreUnavailable as error:
            raise DeliveryError(self._name, str(error)) from None

    def _record(self, notification: Notification) -> Outgoing:
        key = "/".join(quote(part) for part in notification.alert if part is not None)
        return self._topic, key.encode(), document(notification), [("idempotency-key", notification.key.encode())]

    async def close(self) -> None:
        await self._producer.close()
