"""Workers on a Kafka with TLS, passwords, client certificates and permissions, with no more than these allow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from schemas.config import load
from schemas.errors import UsageError
from schemas.settings import KafkaSettings
from streams.brokers import Brokers, brokers_of
from streams.doctor.judge_kafka import judge_kafka
from streams.doctor.kafka import kafka_facts
from streams.permissions import kafka_grants
from streams.topics import connected
from tests.books import assert_rekeyed_exact, becomes
from tests.oracle import read_topic
from tests.parts.certificates import Authority, replace
from tests.parts.redis import RedisServer
from tests.parts.secure_kafka import Permission, SecureKafka
from tests.parts.worker import Deployment, together
from tests.traffic import clicks, make_topic, produce, write_config

USERS = {"fw": "hush", "stranger": "open"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secure_kafka(kafka_jars: Path, authority: Authority) -> Iterator[SecureKafka]:
    with SecureKafka(kafka_jars, authority, USERS) as started:
        yield started


def permit(kafka: SecureKafka, config: Path, group: str, user: str = "fw") -> None:
    """Exactly what a worker with that config needs."""
    grants = kafka_grants(load(config), group, create=True)
    asyncio.run(kafka.permit([Permission(user, grant.operation, grant.resource, grant.name) for grant in grants]))


def with_password(kafka: SecureKafka, authority: Authority, **changes: str) -> dict[str, str]:
    usual = {
        "KAFKA__BROKERS": kafka.with_password,
        "KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA__USERNAME": "fw",
        "KAFKA__PASSWORD": USERS["fw"],
        "KAFKA__CA_FILE": str(authority.file),
    }
    return usual | changes


def settings_of(variables: dict[str, str]) -> KafkaSettings:
    return KafkaSettings.model_validate({name.removeprefix("KAFKA__").lower(): value for name, value in variables.items()})


def with_certificate(kafka: SecureKafka, authority: Authority, folder: Path) -> dict[str, str]:
    """The key is kept under a password, and the password in a file."""
    held = authority.client("worker", password="sesame")
    (folder / "sesame").write_text("sesame\n")
    return {
        "KAFKA__BROKERS": kafka.with_certificate,
        "KAFKA__SECURITY_PROTOCOL": "SSL",
        "KAFKA__CA_FILE": str(authority.file),
        "KAFKA__CERT_FILE": str(held.cert),
        "KAFKA__KEY_FILE": str(held.key),
        "KAFKA__KEY_PASSWORD": f"file:{folder / 'sesame'}",
    }


def test_a_worker_with_a_password_and_one_with_a_certificate_count_together_with_the_least_permissions(
    secure_kafka: SecureKafka, authority: Authority, redis_server: RedisServer, unique_name: str, tmp_path: Path
) -> None:
    """SASL_SSL with SCRAM-SHA-512, and mTLS; they create their two topics themselves, re-key, count and set aside."""
    config = write_config(tmp_path, unique_name, entity_key=False)
    make_topic(secure_kafka.address, unique_name, 2)
    for user in ("fw", "worker"):
        permit(secure_kafka, config, unique_name, user)
    deployment = Deployment(secure_kafka.address, redis_server.url, unique_name, config)
    by_password = deployment.worker(**with_password(secure_kafka, authority))
    by_certificate = deployment.worker(**with_certificate(secure_kafka, authority, tmp_path))
    with together(by_password, by_certificate):
        produce(secure_kafka.address, unique_name, clicks(6_000), keyed=False)
        expected = assert_rekeyed_exact(deployment)
        letters = asyncio.run(read_topic(secure_kafka.address, f"{unique_name}.dead-letter"))
        assert len(letters) == expected.fates["rejected"] > 5
        for worker in (by_password, by_certificate):
            becomes(lambda worker=worker: "counting 2 partitions" in worker.get("/readyz").text, True)
            assert "hush" not in worker.log(200)


def test_the_doctor_says_which_grants_are_missing(
    secure_kafka: SecureKafka, authority: Authority, unique_name: str, tmp_path: Path
) -> None:
    """It is told so by the broker, without trying anything; granted all, it finds nothing."""
    config = write_config(tmp_path, unique_name)
    make_topic(secure_kafka.address, unique_name, 2)
    make_topic(secure_kafka.address, f"{unique_name}.dead-letter", 1)
    produce(secure_kafka.address, unique_name, clicks(100))
    settings = settings_of(with_password(secure_kafka, authority)).model_copy(update={"group": unique_name})

    def found() -> list[tuple[str, str]]:
        facts = asyncio.run(kafka_facts(load(config), settings))
        judged = judge_kafka(facts, load(config), settings, datetime.now(timezone.utc))
        return [(finding.subject, finding.remedy) for finding in judged if finding.area == "permissions" and finding.state == "fail"]

    asyncio.run(secure_kafka.permit([Permission("fw", "DESCRIBE", "topic", t) for t in (unique_name, f"{unique_name}.dead-letter")]))
    assert [remedy.partition(":")[0] for _, remedy in found()] == [
        f"grant READ on group {unique_name}",
        f"grant READ on topic {unique_name}",
        f"grant WRITE on topic {unique_name}.dead-letter",
    ]
    permit(secure_kafka, config, unique_name)
    becomes(found, [])


async def seen(brokers: Brokers, topic: str) -> bool:
    """Whether we may see the topic: whoever has no right on it is told that it is not there."""
    async with connected(brokers, 0.0) as admin:
        return topic in await admin.list_topics()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_every_mechanism_logs_in(secure_kafka: SecureKafka, authority: Authority, mechanism: str, unique_name: str) -> None:
    await asyncio.to_thread(make_topic, secure_kafka.address, unique_name, 1)
    await secure_kafka.permit([Permission("fw", "READ", "topic", unique_name)])
    brokers = brokers_of(settings_of(with_password(secure_kafka, authority, KAFKA__SASL_MECHANISM=mechanism)))
    assert await seen(brokers, unique_name)


async def test_a_renewed_certificate_makes_the_next_connection(secure_kafka: SecureKafka, authority: Authority, unique_name: str) -> None:
    """The same client, without a restart: before it is a stranger, and then the one who may."""
    await asyncio.to_thread(make_topic, secure_kafka.address, unique_name, 1)
    await secure_kafka.permit([Permission("renewed", "READ", "topic", unique_name)])
    before, after = authority.client("before"), authority.client("renewed")
    brokers = brokers_of(
        KafkaSettings(
            brokers=secure_kafka.with_certificate, security_protocol="SSL", ca_file=str(authority.file), cert_file=str(before.both)
        )
    )
    assert not await seen(brokers, unique_name)
    replace(before.both, after.both.read_bytes())
    assert await seen(brokers, unique_name)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"KAFKA__PASSWORD": "wrong"}, "it refused to log us in"),
        ({"KAFKA__USERNAME": "nobody"}, "check FUNNELWATCH_KAFKA__USERNAME"),
        ({"KAFKA__CA_FILE": ""}, "its certificate is not trusted"),
        ({"KAFKA__BROKERS": "localhost:1"}, "nobody listens there"),
    ],
)
async def test_what_keeps_us_out_is_said_at_once_with_what_to_do(
    secure_kafka: SecureKafka, authority: Authority, changes: dict[str, Any], said: str
) -> None:
    brokers = brokers_of(settings_of(with_password(secure_kafka, authority, **changes)))
    with pytest.raises(UsageError) as refused:
        async with connected(brokers, 0.0):
            pass
    assert said in str(refused.value)


async def test_a_client_without_a_certificate_is_told_what_may_be_missing(secure_kafka: SecureKafka, authority: Authority) -> None:
    brokers = brokers_of(KafkaSettings(brokers=secure_kafka.with_certificate, security_protocol="SSL", ca_file=str(authority.file)))
    with pytest.raises(UsageError, match="FUNNELWATCH_KAFKA__CERT_FILE"):
        async with connected(brokers, 0.0):
            pass


async def test_a_server_by_another_name_is_not_spoken_to(secure_kafka: SecureKafka, authority: Authority, tmp_path: Path) -> None:
    """The certificate is good, but not for that name."""
    other = Authority(tmp_path, "other")
    settings = settings_of(with_password(secure_kafka, authority, KAFKA__CA_FILE=str(other.file)))
    with pytest.raises(UsageError, match="its certificate is not trusted"):
        async with connected(brokers_of(settings), 0.0):
            pass


async def test_the_plain_door_stays_shut_to_whoever_has_no_right(secure_kafka: SecureKafka, authority: Authority, unique_name: str) -> None:
    """The tests' permissions are worth something: a stranger sees nothing."""
    await asyncio.to_thread(make_topic, secure_kafka.address, unique_name, 1)
    settings = settings_of(with_password(secure_kafka, authority, KAFKA__USERNAME="stranger", KAFKA__PASSWORD=USERS["stranger"]))
    assert not await seen(brokers_of(settings), unique_name)
    admin = AIOKafkaAdminClient(bootstrap_servers=secure_kafka.address)
    await admin.start()
    try:
        assert unique_name in await admin.list_topics()
    finally:
        await admin.close()
