"""The doctor's judgements: facts in, findings out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.config import Config, parse
from schemas.settings import KafkaSettings, RedisSettings, RegistrySettings, Settings, WebSettings, WorkerSettings
from streams.doctor.facts import ChannelFacts, Finding, KafkaFacts, Node, RedisFacts, Server, State, Topic
from streams.doctor.judge_kafka import judge_kafka, shown
from streams.doctor.judge_redis import judge_redis
from streams.doctor.judge_rest import exit_code, judge_config, judge_places, judge_web
from streams.doctor.probes import Probe, doctor_keys, probes
from streams.doctor.registry import registry_facts
from streams.permissions import REDIS_COMMANDS
from streams.process import free_port

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
NOW_US = int(NOW.timestamp()) * 1_000_000
DAY_MS = 86_400_000
MAY = frozenset({"READ", "WRITE", "CREATE", "DESCRIBE"})
TEXT = """
sources:
  - {{name: web, topic: clicks, entity_key: false}}
funnels:
  - {{name: f, source: web, conversion_window: 2h, windows: [5m, 7d], stages: [{{name: a, event: a}}, {{name: b, event: b}}]}}
{more}
"""
CONFIG = parse(TEXT.format(more=""))
SOURCE = Topic(4, 3, operations=MAY, retention_ms=8 * DAY_MS, cleanup="delete", newest_us=NOW_US - 90_000_000)
KAFKA = KafkaFacts(
    (Server("k:9092"),),
    {"clicks": SOURCE, "clicks.by-entity": SOURCE, "clicks.dead-letter": Topic(1, 3, operations=MAY)},
    frozenset({"READ", "DESCRIBE"}),
)
SAFE = {"appendonly": "yes", "aof-load-truncated": "no", "maxmemory-policy": "noeviction", "hash-max-listpack-entries": "128"}
INFO: dict[str, Any] = {"redis_version": "7.0.15", "role": "master", "used_memory": 100, "maxmemory": 1000}
NODE = Node(Server("redis://r:6379/0"), INFO, SAFE, 0.1, "fw")


def of_kafka(facts: KafkaFacts = KAFKA, config: Config = CONFIG, **settings: Any) -> list[Finding]:
    return list(judge_kafka(facts, config, KafkaSettings(**settings), NOW))


def of_redis(node: Node = NODE, partitions: dict[str, int] | None = None, **settings: Any) -> list[Finding]:
    return list(judge_redis(RedisFacts((node,), partitions or {}), KAFKA, CONFIG, RedisSettings(**settings), NOW))


def bad(findings: list[Finding]) -> list[tuple[State, str, str]]:
    assert all(finding.remedy for finding in findings if finding.state != "ok")
    return [(finding.state, finding.subject, finding.what) for finding in findings if finding.state != "ok"]


def with_topic(name: str = "clicks", **changes: Any) -> KafkaFacts:
    return replace(KAFKA, topics={**KAFKA.topics, name: replace(KAFKA.topics[name], **changes)})


def without(name: str) -> KafkaFacts:
    return replace(KAFKA, topics={topic: found for topic, found in KAFKA.topics.items() if topic != name})


def test_a_deployment_that_is_well_is_found_to_be_well() -> None:
    assert bad([*of_kafka(), *of_redis()]) == []
    assert exit_code([*of_kafka(), *of_redis()]) == 0


@pytest.mark.parametrize(
    ("facts", "state", "subject", "said"),
    [
        (replace(KAFKA, servers=(Server("k:9092", "nobody listens there", "start it"),)), "fail", "k:9092", "nobody listens"),
        (
            replace(KAFKA, servers=(Server("k:9092", expires=NOW + timedelta(days=3)),)),
            "warn",
            "k:9092",
            "its certificate ends on 2026-01-05",
        ),
        (replace(KAFKA, trouble="the brokers do not do as asked"), "fail", "127.0.0.1:9092", "do not do as asked"),
        (without("clicks"), "fail", "clicks", "is missing (source)"),
        (without("clicks.by-entity"), "warn", "clicks.by-entity", "is missing (re-keyed)"),
        (with_topic("clicks.by-entity", partitions=3), "fail", "clicks.by-entity", "has 3 partitions"),
        (with_topic(leaderless=1), "fail", "clicks", "1 partitions have no leader"),
        (with_topic(under_replicated=2), "warn", "clicks", "2 of 4 partitions lack a replica"),
        (with_topic(operations=frozenset({"DESCRIBE"})), "fail", "topic clicks", "READ is missing"),
        (with_topic("clicks.dead-letter", operations=frozenset({"READ"})), "fail", "topic clicks.dead-letter", "WRITE is missing"),
        (replace(KAFKA, group=frozenset()), "fail", "group funnelwatch", "READ is missing"),
        (replace(KAFKA, group=None), "warn", "kafka", "does not say what we may do"),
        (with_topic(cleanup="compact"), "fail", "clicks", "cleanup.policy is compact"),
        (with_topic(retention_ms=None), "warn", "clicks", "cannot be asked"),
        (with_topic(retention_ms=3_600_000), "fail", "clicks", "for 1h, less than a conversion takes (2.02h)"),
        (with_topic(retention_ms=3 * 3_600_000), "warn", "clicks", "workers that stand still for longer lose records"),
        (with_topic(retention_ms=2 * DAY_MS), "warn", "clicks", "a backfill cannot fill the longest window (7.08d"),
        (with_topic(newest_us=NOW_US + 30_000_000), "warn", "clicks", "30 s ahead of our clock"),
        (with_topic(newest_us=NOW_US + 301_000_000), "fail", "clicks", "such events are rejected (max_skew)"),
        (with_topic(unreadable="timed out"), "fail", "clicks", "its newest record cannot be read (timed out)"),
    ],
)
def test_what_is_wrong_with_kafka_is_found(facts: KafkaFacts, state: State, subject: str, said: str) -> None:
    assert any(found[:2] == (state, subject) and said in found[2] for found in bad(of_kafka(facts))), bad(of_kafka(facts))


def test_of_brokers_that_nobody_reached_nothing_else_is_said() -> None:
    assert len(of_kafka(KafkaFacts((Server("k:9092", "nobody listens there", "start it"),)))) == 1


def test_a_topic_that_a_worker_may_not_create_must_be_there() -> None:
    assert ("fail", "clicks.by-entity", "is missing (re-keyed)") in bad(of_kafka(without("clicks.by-entity"), create_topics=False))


def test_one_copy_is_enough_where_there_is_one_broker() -> None:
    one = with_topic(replicas=1)
    assert bad(of_kafka(one)) == []
    assert ("warn", "clicks", "lies on one broker only") in bad(of_kafka(replace(one, servers=(Server("a"), Server("b")))))


def test_records_kept_for_ever_are_long_enough() -> None:
    assert bad(of_kafka(with_topic(retention_ms=-1))) == []


def test_what_travels_readably_is_told() -> None:
    scram = of_kafka(security_protocol="SASL_PLAINTEXT", username="u", password=SecretStr("p"))
    assert bad(scram) == [("warn", "SASL_PLAINTEXT", "records travel readably, and the answers of SCRAM can be guessed at")]
    plain = of_kafka(security_protocol="SASL_PLAINTEXT", allow_plaintext_credentials=True)
    assert bad(plain) == [("warn", "SASL_PLAINTEXT", "a password may travel readably")]
    assert bad(of_redis(allow_plaintext_credentials=True)) == [("warn", "password", "may travel readably")]


@pytest.mark.parametrize(
    ("node", "state", "said"),
    [
        (Node(Server("r", "ConnectionError", "start it")), "fail", "ConnectionError"),
        (replace(NODE, info=INFO | {"redis_version": "6.2.1"}), "fail", "is Redis 6.2.1"),
        (replace(NODE, info=INFO | {"role": "slave"}), "fail", "is a slave: it takes no writes"),
        (replace(NODE, info=INFO | {"aof_last_write_status": "err"}), "fail", "its last write to its log failed"),
        (replace(NODE, info=INFO | {"loading": 1}), "fail", "is loading its data"),
        (replace(NODE, info=INFO | {"used_memory": 850}), "warn", "uses 85% of maxmemory"),
        (replace(NODE, info=INFO | {"used_memory": 990}), "fail", "uses 99% of maxmemory"),
        (replace(NODE, info=INFO | {"maxmemory": 0, "total_system_memory": 110}), "warn", "uses 91% of the machine's memory"),
        (replace(NODE, settings=SAFE | {"appendonly": "no"}), "fail", "appendonly is no: a restart forgets"),
        (replace(NODE, settings=SAFE | {"maxmemory-policy": "allkeys-lru"}), "fail", "maxmemory-policy is allkeys-lru"),
        (replace(NODE, settings=SAFE | {"aof-load-truncated": "yes"}), "warn", "aof-load-truncated is yes"),
        (replace(NODE, settings=SAFE | {"hash-max-listpack-entries": "512"}), "warn", "hash-max-listpack-entries is 512: counting by many"),
        (replace(NODE, settings=None, info=None), "warn", "its settings cannot be asked"),
        (replace(NODE, ahead_seconds=3.0), "warn", "its clock is 3.0 s ahead of ours"),
        (replace(NODE, ahead_seconds=-31.0), "fail", "its clock is 31.0 s behind ours"),
        (replace(NODE, missing=("hset", "keys fw:*")), "fail", "may not hset"),
        (replace(NODE, missing=("hset", "keys fw:*")), "fail", "may not touch keys fw:*"),
    ],
)
def test_what_is_wrong_with_redis_is_found(node: Node, state: State, said: str) -> None:
    assert any(found[0] == state and said in found[2] for found in bad(of_redis(node))), bad(of_redis(node))


def test_counts_that_were_begun_with_other_partitions_are_found() -> None:
    assert bad(of_redis(partitions={"web": 4})) == []
    assert bad(of_redis(partitions={"web": 8})) == [("fail", "clicks.by-entity", "has 4 partitions, its counts were begun with 8")]


def test_valkey_is_as_good() -> None:
    node = replace(NODE, info=INFO | {"redis_version": "7.2.4", "valkey_version": "8.1.0"})
    assert "is Valkey 8.1.0" in [finding.what for finding in of_redis(node)]


def test_a_channel_is_well_or_says_what_to_do() -> None:
    found = list(judge_places("channels", [ChannelFacts("a", "where"), ChannelFacts("b", "", "cannot be resolved", "mend it")]))
    assert [(f.state, f.subject) for f in found] == [("ok", "a"), ("fail", "b")]


async def test_a_registry_is_asked_only_where_a_source_needs_one() -> None:
    assert await registry_facts(CONFIG, RegistrySettings()) == []
    avro = parse(TEXT.format(more="").replace("entity_key: false", "entity_key: false, format: avro"))
    (found,) = await registry_facts(avro, RegistrySettings(url=f"http://127.0.0.1:{free_port()}"))
    assert (found.name, "does not answer" in found.error, bool(found.remedy)) == ("registry (avro)", True, True)


@pytest.mark.parametrize(
    ("host", "more", "state"),
    [
        ("127.0.0.1", "", "ok"),
        ("0.0.0.0", "", "warn"),
        ("0.0.0.0", f"access: {{tokens: [{{name: t, hash: 'sha256:{'a' * 64}'}}]}}", "ok"),
    ],
)
def test_a_page_that_others_reach_asks_who_they_are(host: str, more: str, state: State) -> None:
    (found,) = judge_web(parse(TEXT.format(more=more)), Settings(web=WebSettings(host=host)))
    assert found.state == state


def test_what_the_config_warns_of_and_fences_that_are_off_are_told() -> None:
    found = list(judge_config(["window 5m is short; make it longer"], Settings(worker=WorkerSettings(fences=False))))
    assert (found[0].state, found[0].what, found[0].remedy) == ("warn", "window 5m is short", "make it longer")
    assert (found[1].state, found[1].subject) == ("fail", "FUNNELWATCH_WORKER__FENCES")


@pytest.mark.parametrize(("states", "code"), [([], 0), (["ok"], 0), (["ok", "warn"], 1), (["warn", "fail"], 2)])
def test_the_exit_code_is_that_of_the_worst(states: list[State], code: int) -> None:
    assert exit_code(Finding("kafka", state, "", "", "") for state in states) == code


def test_every_command_has_a_probe_on_the_doctors_own_keys() -> None:
    found = list(probes("fw"))
    assert [probe.name for probe in found] == [*REDIS_COMMANDS, "keys fw:*", "keys {fw:*"]
    keyed = {str(probe.words[1]) for probe in found if len(probe.words) > 1 and "doctor" in str(probe.words[1])}
    assert keyed == {*doctor_keys("fw"), "fw:doctor"}


def test_a_refused_command_and_a_refused_key_are_told_apart() -> None:
    command, key = Probe("hset", ("HSET",)), Probe("keys fw:*", ("EXISTS",))
    no_command = "This user has no permissions to run the 'hset' command"
    no_key = "This user has no permissions to access the 'x' key"
    tried = "this user has no permissions to access one of the keys used as arguments"
    assert [command.is_refused(text) for text in (no_command, no_key, tried, "OK", "")] == [True, False, False, False, False]
    assert [key.is_refused(text) for text in (no_command, no_key, tried, "OK", "")] == [False, True, True, False, False]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (90, "1.5m"), (7200, "2h"), (612_000, "7.08d")])
def test_a_span_is_shown_in_its_greatest_unit(seconds: int, text: str) -> None:
    assert shown(seconds) == text
