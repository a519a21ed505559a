"""Gathers what a doctor must know of Kafka; asks and reads, writes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupAuthorizationFailedError, IncompatibleBrokerVersion, KafkaError

from schemas.config import Config
from schemas.errors import UsageError
from schemas.settings import KafkaSettings
from streams.brokers import Brokers, brokers_of
from streams.doctor.allowed import allowed_on_group, described
from streams.doctor.facts import KafkaFacts, Server, Topic
from streams.kafka_reach import Reached, reach_all
from streams.topics import connected
from streams.topics_plan import needs_of

READ_SECONDS = 5.0
PARTITIONS_READ_MAX = 12  # of a topic, for its newest record
CONFIGS = ("retention.ms", "cleanup.policy")
TROUBLES = (KafkaError, OSError, asyncio.TimeoutError, TimeoutError, NotImplementedError, ValueError)


async def kafka_facts(config: Config, settings: KafkaSettings) -> KafkaFacts:
    """Speak to every broker, look at every topic. Raises SettingsError where the settings themselves are wrong."""
    brokers = brokers_of(settings)
    first = await reach_all(brokers)
    if all(reached.error for reached in first):
        return KafkaFacts(_servers(first))
    try:
        async with connected(brokers, 0.0) as admin:
            others = [(b["host"], b["port"]) for b in (await admin.describe_cluster())["brokers"]]
            known = {reached.address for reached in first}
            rest = [at for at in others if f"{at[0]}:{at[1]}" not in known]
            second = await reach_all(brokers, rest) if rest else []
            topics = await _topics(admin, [need.topic for need in needs_of(config)])
            group = await _group(admin, settings.group)
    except UsageError as error:
        return KafkaFacts(_servers(first), trouble=str(error))
    read = dict.fromkeys(topic for source in config.sources for topic in (source.topic, source.keyed_topic))
    newest = await _newest_of(brokers, {name: topics[name].partitions for name in read if name in topics})
    topics |= {name: replace(topics[name], newest_us=us, unreadable=why) for name, (us, why) in newest.items()}
    return KafkaFacts(_servers([*first, *second]), topics, group)


def _servers(reached: Iterable[Reached]) -> tuple[Server, ...]:
    return tuple(Server(each.address, each.error, each.remedy, each.expires) for each in reached)


async def _topics(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, Topic]:
    there = [name for name in names if name in set(await admin.list_topics())]
    if not there:
        return {}
    found: list[tuple[dict[str, Any], frozenset[str] | None]]
    try:
        found = await described(admin, there)
    except (IncompatibleBrokerVersion, NotImplementedError):  # an older broker, or one that is not Kafka
        found = [(topic, None) for topic in await admin.describe_topics(there)]
    configs = await _configs(admin, there)
    return {topic["topic"]: _topic(topic, operations, configs.get(topic["topic"], {})) for topic, operations in found}


def _topic(described: Mapping[str, Any], operations: frozenset[str] | None, configs: Mapping[str, str]) -> Topic:
    partitions = described["partitions"]
    return Topic(
        len(partitions),
        min((len(p["replicas"]) for p in partitions), default=0),
        sum(p["leader"] < 0 for p in partitions),
        sum(len(p["isr"]) < len(p["replicas"]) for p in partitions),
        operations,
        int(configs["retention.ms"]) if "retention.ms" in configs else None,
        configs.get("cleanup.policy"),
    )


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Settings of topics; nothing of those that we may not ask about."""
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(CONFIGS, "")) for name in names]
    try:
        answers = await admin.describe_configs(wanted)
    except TROUBLES:
        return {}
    resources = [resource for answer in answers for resource in answer.resources]
    return {name: {entry[0]: entry[1] for entry in entries} for code, _, _, name, entries in resources if code == 0}


async def _group(admin: AIOKafkaAdminClient, group: str) -> frozenset[str] | None:
    try:
        return await allowed_on_group(admin, group)
    except GroupAuthorizationFailedError:
        return frozenset()
    except TROUBLES:
        return None


async def _newest_of(brokers: Brokers, partitions: Mapping[str, int]) -> dict[str, tuple[int | None, str]]:
    """When the newest record of each topic was made, as it says; or why that cannot be read."""
    found: dict[str, tuple[int | None, str]] = {}
    for topic, count in partitions.items():
        try:
            found[topic] = await asyncio.wait_for(_newest(brokers, topic, min(count, PARTITIONS_READ_MAX)), READ_SECONDS), ""
        except TROUBLES as error:
            found[topic] = None, str(error) or type(error).__name__
    return found


async def _newest(brokers: Brokers, topic: str, count: int) -> int | None:
    tps = [TopicPartition(topic, partition) for partition in range(count)]
    options: dict[str, Any] = {"enable_auto_commit": False, "auto_offset_reset": "latest", **brokers.options()}
    async with AIOKafkaConsumer(**options) as consumer:
        consumer.assign(tps)
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
        left = {tp for tp in tps if ends[tp] > begins[tp]}
        for tp in left:
            consumer.seek(tp, ends[tp] - 1)
        newest, until = -1, time.monotonic() + READ_SECONDS / 2
        while left and time.monotonic() < until:  # a log that ends in a transaction's marker has no record there
            for tp, records in (await consumer.getmany(*left, timeout_ms=300)).items():
                newest = max([newest, *(record.timestamp for record in records)])
                left.discard(tp)
        return newest * 1000 if newest >= 0 else None
