"""What an administrator does to a topic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType


def delete_before(brokers: str, topic: str, starts: Mapping[int, int]) -> None:
    """Have the log of each partition begin at an offset, as retention does."""
    records = {TopicPartition(topic, partition): RecordsToDelete(before_offset=start) for partition, start in starts.items()}
    _with_admin(brokers, lambda admin: admin.delete_records(records))


def add_partitions(brokers: str, topic: str, count: int) -> None:
    """Have a topic so many partitions in all."""
    _with_admin(brokers, lambda admin: admin.create_partitions({topic: NewPartitions(total_count=count)}))


def set_topic(brokers: str, topic: str, **settings: str) -> None:
    """Set topic configs, with `_` for the dots; those that are not named fall back to their defaults."""
    configs = {key.replace("_", "."): value for key, value in settings.items()}
    _with_admin(brokers, lambda admin: admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)]))


def _with_admin(brokers: str, work: Callable[[AIOKafkaAdminClient], Awaitable[Any]]) -> Any:
    async def done() -> Any:
        admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
        await admin.start()
        try:
            return await work(admin)
        finally:
            await admin.close()

    return asyncio.run(done())
