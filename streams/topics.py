"""The topics a config needs: the sources' must be there, ours are created when missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code

from schemas.config import Config
from schemas.errors import UsageError
from streams.brokers import Brokers, Where, options_of
from streams.kafka_reach import reach_all
from streams.topics_plan import Need, Step, needs_of, steps

CONNECT_SECONDS = 30.0
RETRY_SECONDS = 0.5
REPLICAS_MAX = 3


async def prepare_topics(brokers: Where, config: Config, *, create: bool) -> None:
    """Check the sources' topics and create the re-keyed and dead-letter ones.

    Raises UsageError: no broker answers, or a topic is missing.
    """
    needs = [need for need in needs_of(config) if need.role != "alerts"]
    async with connected(brokers) as admin:
        there = await partition_counts(admin, needs)
        missing = sorted({s.topic for s in config.sources} - there.keys())
        if missing:
            raise UsageError(
                f"topic {', '.join(missing)} does not exist at {brokers}, or we may not see it; create it with `funnelwatch topics`, "
                "grant READ on it, or mend `topic` of its source"
            )
        absent = [step for step in steps(needs, there) if step.action == "create"]
        if absent and not create:
            raise UsageError(
                f"topics {', '.join(sorted(step.topic for step in absent))} are missing at {brokers}; create them with "
                "`funnelwatch topics`, or set FUNNELWATCH_KAFKA__CREATE_TOPICS=true"
            )
        await create_topics(admin, absent)


@asynccontextmanager
async def connected(brokers: Where, patience_seconds: float = CONNECT_SECONDS) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that asks and orders. Raises UsageError, also for what goes wrong within."""
    admin = await _admin(brokers, patience_seconds)
    try:
        yield admin
    except (KafkaError, OSError, asyncio.TimeoutError) as error:
        raise UsageError(f"the brokers at {brokers} do not do as asked: {error!r}") from error
    finally:
        await admin.close()


async def partition_counts(admin: AIOKafkaAdminClient, needs: Sequence[Need]) -> dict[str, int]:
    """How many partitions each of the topics has that exist and that we may see."""
    there = set(await admin.list_topics())
    wanted = [need.topic for need in needs if need.topic in there]
    if not wanted:
        return {}
    return {found["topic"]: len(found["partitions"]) for found in await admin.describe_topics(wanted)}


async def create_topics(admin: AIOKafkaAdminClient, wanted: Iterable[Step], replicas: int | None = None) -> None:
    """Create topics; one that is there meanwhile is fine. Raises UsageError."""
    count = replicas or min(REPLICAS_MAX, len((await admin.describe_cluster())["brokers"]))
    new = [NewTopic(name=step.topic, num_partitions=step.partitions, replication_factor=count) for step in wanted]
    if not new:
        return
    answer = await admin.create_topics(new)
    for name, code, message, *_ in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            remedy = "; grant CREATE on it, or have somebody create it who may" if error is TopicAuthorizationFailedError else ""
            raise UsageError(f"topic {name} could not be created: {message or error.__name__}{remedy}")


async def topics(
    brokers: Where, config: Config, *, apply: bool, partitions: int | None = None, replicas: int | None = None
) -> tuple[list[Step], Mapping[str, int]]:
    """What a config needs, what is to be done about it, done when `apply` says so; and what was there before. Raises UsageError."""
    needs = needs_of(config)
    async with connected(brokers) as admin:
        there = await partition_counts(admin, needs)
        found = list(steps(needs, there, partitions))
        if apply:
            await create_topics(admin, [step for step in found if step.action == "create"], replicas)
    return found, there


async def _admin(brokers: Where, patience_seconds: float) -> AIOKafkaAdminClient:
    deadline = asyncio.get_running_loop().time() + patience_seconds
    while True:
        admin = AIOKafkaAdminClient(**options_of(brokers), request_timeout_ms=10_000)
        try:
            await admin.start()
            return admin
        except (KafkaError, OSError) as error:
            await admin.close()
            late = asyncio.get_running_loop().time() > deadline
            # Before giving up, and where waiting cannot help, say what is the matter with each.
            reached = await reach_all(Brokers(brokers) if isinstance(brokers, str) else brokers)
            wrong = [each for each in reached if each.error and (late or each.final)]
            if late or wrong:
                why = "; ".join(f"{each.address}: {each.error}; {each.remedy}" for each in wrong) or str(error)
                raise UsageError(f"no Kafka broker answers at {brokers}: {why}") from error
            await asyncio.sleep(RETRY_SECONDS)
