"""[pure] What Kafka's facts mean for a config."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from schemas.config import Config, Source
from schemas.duration import MICROS, Duration
from schemas.settings import KafkaSettings
from streams.doctor.facts import Area, Finding, KafkaFacts, Server, Topic
from streams.permissions import kafka_grants
from streams.topics_plan import needs_of, steps

DAY_MS = 86_400_000
EXPIRES_SOON = timedelta(days=14)
AHEAD_SECONDS_FINE = 10
FOR_EVER = -1


def judge_kafka(facts: KafkaFacts, config: Config, settings: KafkaSettings, now: datetime) -> Iterator[Finding]:
    """Everything about Kafka."""
    for server in facts.servers:
        yield from server_finding("kafka", server, now)
    if facts.trouble:
        yield Finding("kafka", "fail", settings.brokers, facts.trouble, "see the brokers' own log")
    yield from _security(settings)
    if facts.trouble or all(server.error for server in facts.servers):
        return
    yield from _topics(facts, config, settings)
    yield from _permissions(facts, config, settings)
    for source in config.sources:
        for name in dict.fromkeys((source.topic, source.keyed_topic)):
            if (topic := facts.topics.get(name)) is not None:
                yield from _retention(name, topic, config, source)
                yield from _records(name, topic, source, now)


def server_finding(area: Area, server: Server, now: datetime) -> Iterator[Finding]:
    """Whether a server answers, and whether its certificate will go on doing so."""
    where = server.address
    if server.error:
        yield Finding(area, "fail", where, server.error, server.remedy)
    elif server.expires is not None and server.expires - now < EXPIRES_SOON:
        yield Finding(area, "warn", where, f"answers; its certificate ends on {server.expires:%Y-%m-%d}", "have it renewed")
    else:
        until = f"; its certificate is good until {server.expires:%Y-%m-%d}" if server.expires else ""
        yield Finding(area, "ok", where, f"answers{until}")


def _security(settings: KafkaSettings) -> Iterator[Finding]:
    if settings.allow_plaintext_credentials and settings.security_protocol == "SASL_PLAINTEXT":
        remedy = "set SASL_SSL, and leave FUNNELWATCH_KAFKA__ALLOW_PLAINTEXT_CREDENTIALS out"
        yield Finding("kafka", "warn", settings.security_protocol, "a password may travel readably", remedy)
    elif settings.security_protocol == "SASL_PLAINTEXT":
        what = "records travel readably, and the answers of SCRAM can be guessed at"
        yield Finding("kafka", "warn", settings.security_protocol, what, "set FUNNELWATCH_KAFKA__SECURITY_PROTOCOL=SASL_SSL")


def _topics(facts: KafkaFacts, config: Config, settings: KafkaSettings) -> Iterator[Finding]:
    for step in steps(needs_of(config), {name: topic.partitions for name, topic in facts.topics.items()}):
        topic = facts.topics.get(step.topic)
        if topic is None:
            ours = step.role in ("re-keyed", "dead-letter") and settings.create_topics
            remedy = "`funnelwatch topics --apply` creates it; if it is there, grant DESCRIBE on it"
            yield Finding("topics", "warn" if ours else "fail", step.topic, f"is missing ({step.role})", remedy)
        elif step.action == "differs":
            yield Finding("topics", "fail", step.topic, f"has {topic.partitions} partitions", step.note)
        elif topic.leaderless:
            yield Finding("topics", "fail", step.topic, f"{topic.leaderless} partitions have no leader", "see which brokers are down")
        elif topic.under_replicated:
            what = f"{topic.under_replicated} of {topic.partitions} partitions lack a replica"
            yield Finding("topics", "warn", step.topic, what, "see which brokers are down or behind")
        elif topic.replicas < 2 and len(facts.servers) > 1:
            remedy = "raise its replication factor (kafka-reassign-partitions)"
            yield Finding("topics", "warn", step.topic, "lies on one broker only", remedy)
        else:
            yield Finding("topics", "ok", step.topic, f"{topic.partitions} partitions ({step.role})")


def _permissions(facts: KafkaFacts, config: Config, settings: KafkaSettings) -> Iterator[Finding]:
    grants = kafka_grants(config, settings.group, create=settings.create_topics)
    missing = 0
    for grant in grants:
        topic = facts.topics.get(grant.name)
        allowed = facts.group if grant.resource == "group" else topic.operations if topic is not None else None
        # Whoever may not create a topic is told nothing of it; where it is there the right is not needed.
        if allowed is None or grant.operation == "CREATE" or grant.operation in allowed:
            continue
        missing += 1
        remedy = f"grant {grant.operation} on {grant.resource} {grant.name}: {grant.why}"
        yield Finding("permissions", "fail", f"{grant.resource} {grant.name}", f"{grant.operation} is missing", remedy)
    unknown = facts.group is None or any(topic.operations is None for topic in facts.topics.values())
    if unknown and not missing:
        what = "this broker does not say what we may do"
        yield Finding("permissions", "warn", "kafka", what, "compare deploy/permissions.md with its ACLs")
    elif not missing:
        yield Finding("permissions", "ok", "kafka", "all that a worker needs is granted")


def _retention(name: str, topic: Topic, config: Config, source: Source) -> Iterator[Finding]:
    if topic.cleanup is not None and "compact" in topic.cleanup:
        remedy = "set cleanup.policy=delete: compaction takes a person's earlier events away before they are counted"
        yield Finding("topics", "fail", name, f"cleanup.policy is {topic.cleanup}", remedy)
    if topic.retention_ms is None:
        remedy = "grant DESCRIBE_CONFIGS on it, or look at retention.ms yourself"
        yield Finding("topics", "warn", name, "how long it keeps records cannot be asked", remedy)
        return
    if topic.retention_ms == FOR_EVER:
        yield Finding("topics", "ok", name, "keeps records for ever")
        return
    kept = f"keeps records for {shown(topic.retention_ms // 1000)}"
    funnels = config.funnels_of(source.name)
    chain = max((int(f.conversion_window) for f in funnels), default=0) + int(source.allowed_lateness)
    whole = max((int(f.conversion_window) + max(map(int, config.windows_of(f))) for f in funnels), default=0)
    if topic.retention_ms < chain * 1000:
        what = f"{kept}, less than a conversion takes ({shown(chain)})"
        yield Finding("topics", "fail", name, what, f"raise retention.ms to {max(whole * 1000, DAY_MS)} or more")
    elif topic.retention_ms < DAY_MS:
        what = f"{kept}: workers that stand still for longer lose records"
        yield Finding("topics", "warn", name, what, f"raise retention.ms to {DAY_MS} or more")
    elif topic.retention_ms < whole * 1000:
        what = f"{kept}: a backfill cannot fill the longest window ({shown(whole)} with its conversions)"
        yield Finding("topics", "warn", name, what, f"raise retention.ms to {whole * 1000} or more, or do without backfills")
    else:
        yield Finding("topics", "ok", name, kept)


def _records(name: str, topic: Topic, source: Source, now: datetime) -> Iterator[Finding]:
    if topic.unreadable:
        remedy = "see the brokers' own log, and whether we may read the topic"
        yield Finding("topics", "fail", name, f"its newest record cannot be read ({topic.unreadable})", remedy)
    if topic.newest_us is None:
        return
    ahead = topic.newest_us / MICROS - now.timestamp()
    if ahead > int(source.max_skew):
        what = f"its newest record is {ahead:.0f} s ahead of our clock: such events are rejected (max_skew)"
        yield Finding("clocks", "fail", name, what, "set this machine's clock and the producers' (NTP)")
    elif ahead > AHEAD_SECONDS_FINE:
        what = f"its newest record is {ahead:.0f} s ahead of our clock"
        yield Finding("clocks", "warn", name, what, "set this machine's clock and the producers' (NTP)")
    else:
        yield Finding("clocks", "ok", name, f"its newest record is {shown(max(0, int(-ahead)))} old")


def shown(seconds: int) -> str:
    """A span, in its greatest unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return str(Duration(f"{seconds}s"))
