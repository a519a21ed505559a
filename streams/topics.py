"""The topics a config needs: the sources' must be there, ours are created when missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from schemas.config import Config
from schemas.errors import UsageError

CONNECT_SECONDS = 30.0
RETRY_SECONDS = 0.5
REPLICAS_MAX = 3


async def prepare_topics(brokers: str, config: Config, *, create: bool) -> None:
    """Check the sources' topics and create the re-keyed and dead-letter ones.

    Raises UsageError: no broker answers, or a topic is missing.
    """
    admin = await _admin(brokers)
    try:
        there = set(await admin.list_topics())
        missing = sorted({s.topic for s in config.sources} - there)
        if missing:
            raise UsageError(f"topic {', '.join(missing)} does not exist at {brokers}; create it, or mend `topic` of its source")
        wanted = {s.dead_letter_topic: 1 for s in config.sources}
        for source in config.sources:
            if not source.entity_key:
                (described,) = await admin.describe_topics([source.topic])
                wanted[source.keyed_topic] = len(described["partitions"])
        absent = {name: count for name, count in wanted.items() if name not in there}
        if absent and not create:
            raise UsageError(
                f"topics {', '.join(sorted(absent))} are missing at {brokers}; create them, or set FUNNELWATCH_KAFKA__CREATE_TOPICS=true"
            )
        await _create(admin, absent.items())
    except (KafkaError, OSError) as error:
        raise UsageError(f"the brokers at {brokers} do not do as asked: {error!r}") from error
    finally:
        await admin.close()


async def _admin(brokers: str) -> AIOKafkaAdminClient:
    deadline = asyncio.get_running_loop().time() + CONNECT_SECONDS
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=brokers, request_timeout_ms=10_000)
        try:
            await admin.start()
            return admin
        except (KafkaError, OSError) as error:
            await admin.close()
            if asyncio.get_running_loop().time() > deadline:
                raise UsageError(f"no Kafka broker answers at {brokers} ({error}); is FUNNELWATCH_KAFKA__BROKERS right?") from error
            await asyncio.sleep(RETRY_SECONDS)


async def _create(admin: AIOKafkaAdminClient, topics: Iterable[tuple[str, int]]) -> None:
    replicas = min(REPLICAS_MAX, len((await admin.describe_cluster())["brokers"]))
    new = [NewTopic(name=name, num_partitions=count, replication_factor=replicas) for name, count in topics]
    if not new:
        return
    answer = await admin.create_topics(new)
    for name, code, *_ in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise UsageError(f"topic {name} could not be created: {error.__name__}")
