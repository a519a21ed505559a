"""Notifications as records of a Kafka topic, on real brokers."""

from __future__ import annotations

import asyncio
import json

from aiokafka import AIOKafkaConsumer

from alerting.channels import build
from streams.embedded import KafkaProcess
from tests.parts.alerts import config, notification
from tests.parts.kafka import create_topic


async def test_a_topic_gets_every_transition_of_an_alert_in_order_and_in_one_partition(any_kafka: KafkaProcess, unique_name: str) -> None:
    await create_topic(any_kafka.address, unique_name, 3)
    channel = config(channels={"oncall": {"type": "kafka", "topic": unique_name}}).channels["oncall"]
    sender = build("oncall", channel, brokers=any_kafka.address)
    told = [notification(value="ios"), notification(value="web"), notification("resolved", value="ios")]
    await sender.send(told[0], told[1])
    await sender.send(told[2])
    await sender.close()
    async with AIOKafkaConsumer(unique_name, bootstrap_servers=any_kafka.address, auto_offset_reset="earliest") as consumer:
        records = [await asyncio.wait_for(consumer.getone(), 30) for _ in told]
    assert {json.loads(record.value)["key"] for record in records} == {said.key for said in told}
    ios = [record for record in records if record.key == b"CheckoutToPayLow/device/ios"]
    assert len({record.partition for record in ios}) == 1
    assert [json.loads(record.value)["status"] for record in ios] == ["firing", "resolved"]
    assert all(dict(record.headers)["idempotency-key"].decode() == json.loads(record.value)["key"] for record in records)
