"""Which settings of connections to Kafka and Redis are refused, and what the others come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.errors import SettingsError
from schemas.settings import KafkaSettings, RedisSettings
from streams.brokers import brokers_of
from streams.cli import run
from streams.redis_client import check, connect
from tests.parts.certificates import Authority
from tests.traffic import write_config

PASSWORD = SecretStr("hunter2")


def kafka(**settings: Any) -> dict[str, Any]:
    return brokers_of(KafkaSettings(brokers="k:9092", **settings)).options()


def test_without_settings_kafka_is_spoken_to_in_plain_text() -> None:
    assert kafka() == {"bootstrap_servers": "k:9092", "security_protocol": "PLAINTEXT"}


def test_kafka_is_told_a_password_over_tls(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    password, ca = SecretStr(f"file:{tmp_path / 'password'}"), str(Authority(tmp_path).file)
    options = kafka(security_protocol="SASL_SSL", username="fw", password=password, ca_file=ca)
    assert options.pop("ssl_context").check_hostname
    assert options == {
        "bootstrap_servers": "k:9092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "fw",
        "sasl_plain_password": "hunter2",
    }


def test_faust_is_told_the_same(tmp_path: Path) -> None:
    settings = {"brokers": "k:9092", "ca_file": str(Authority(tmp_path).file)}
    assert brokers_of(KafkaSettings(brokers="k:9092")).faust_credentials() is None
    encrypted = brokers_of(KafkaSettings(security_protocol="SSL", **settings))
    assert encrypted.faust_credentials().context is encrypted.tls
    named = brokers_of(KafkaSettings(security_protocol="SASL_SSL", username="fw", password=PASSWORD, **settings)).faust_credentials()
    assert (named.protocol.value, named.mechanism.value, named.username, named.password) == ("SASL_SSL", "SCRAM-SHA-512", "fw", "hunter2")


def test_scram_over_plain_text_does_not_tell_the_password_and_is_let_be() -> None:
    assert kafka(security_protocol="SASL_PLAINTEXT", username="fw", password=PASSWORD)["sasl_mechanism"] == "SCRAM-SHA-512"


def test_a_password_travels_readably_to_kafka_only_if_a_setting_says_so() -> None:
    plain = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "username": "fw", "password": PASSWORD}
    with pytest.raises(SettingsError, match="the password would travel readably; set SASL_SSL") as refused:
        kafka(**plain)
    assert "hunter2" not in str(refused.value)
    assert kafka(**plain, allow_plaintext_credentials=True)["sasl_mechanism"] == "PLAIN"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"security_protocol": "SASL_SSL"}, "asks for FUNNELWATCH_KAFKA__USERNAME and FUNNELWATCH_KAFKA__PASSWORD"),
        ({"security_protocol": "SASL_SSL", "username": "fw"}, "asks for FUNNELWATCH_KAFKA__USERNAME and"),
        ({"username": "fw", "password": PASSWORD}, "FUNNELWATCH_KAFKA__USERNAME: user or password are set, but"),
        ({"security_protocol": "SSL", "password": PASSWORD}, "is SSL, which uses none"),
        ({"ca_file": "ca.pem"}, "FUNNELWATCH_KAFKA__CA_FILE: is set, but FUNNELWATCH_KAFKA__SECURITY_PROTOCOL is PLAINTEXT"),
        ({"security_protocol": "SASL_PLAINTEXT", "cert_file": "c.pem"}, "FUNNELWATCH_KAFKA__CERT_FILE: is set, but"),
        ({"security_protocol": "SSL", "key_file": "k.pem"}, "FUNNELWATCH_KAFKA__KEY_FILE: is set without"),
        ({"security_protocol": "SSL", "ca_file": "none.pem"}, "FUNNELWATCH_KAFKA__CA_FILE: none.pem cannot be read"),
        (
            {"security_protocol": "SASL_PLAINTEXT", "username": "fw", "password": SecretStr("env:NO_SUCH_NAME")},
            "FUNNELWATCH_KAFKA__PASSWORD: the environment has no NO_SUCH_NAME",
        ),
    ],
)
def test_settings_of_kafka_that_contradict_themselves_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        kafka(**settings)
    assert said in str(refused.value)


def redis(url: str, **settings: Any) -> Any:
    return connect(RedisSettings(url=SecretStr(url), **settings))


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@redis:6379/0", "redis+cluster://:hunter2@a:1", "redis+sentinel://:hunter2@127.0.0.1/shop"]
)
async def test_a_password_travels_readably_to_redis_only_if_a_setting_says_so(url: str) -> None:
    with pytest.raises(SettingsError, match="the password would travel readably to redis") as refused:
        redis(url)
    assert "hunter2" not in str(refused.value)
    await redis(url, allow_plaintext_credentials=True).aclose()


async def test_a_password_may_stay_on_this_machine_and_travel_encrypted() -> None:
    await redis("redis://:hunter2@127.0.0.1:6379/0").aclose()
    await redis("redis://localhost:6379/0", password=PASSWORD).aclose()
    await redis("rediss://:hunter2@redis:6379/0").aclose()
    await redis("rediss+cluster://:hunter2@a:1,b:2").aclose()
    await redis("rediss+sentinel://:hunter2@a:1,b:2/shop").aclose()


@pytest.mark.parametrize(
    ("url", "settings", "said"),
    [
        ("redis://h", {"password": PASSWORD}, "would travel readably to redis://h:6379/0"),
        ("redis://h", {"username": "fw"}, "FUNNELWATCH_REDIS__PASSWORD: is not set, though there is a user 'fw'"),
        ("redis://h", {"ca_file": "ca.pem"}, "FUNNELWATCH_REDIS__CA_FILE: is set, but FUNNELWATCH_REDIS__URL is not encrypted"),
        ("rediss://h", {"key_file": "k.pem"}, "FUNNELWATCH_REDIS__KEY_FILE: is set without FUNNELWATCH_REDIS__CERT_FILE"),
        ("rediss://h", {"password": SecretStr("file:/no/such")}, "FUNNELWATCH_REDIS__PASSWORD: /no/such cannot be read"),
        ("file:/no/such", {}, "FUNNELWATCH_REDIS__URL: /no/such cannot be read"),
    ],
)
def test_settings_of_redis_that_contradict_themselves_are_refused(url: str, settings: dict[str, Any], said: str) -> None:
    for make in (connect, check):
        with pytest.raises(SettingsError) as refused:
            make(RedisSettings(url=SecretStr(url), **settings))
        assert said in str(refused.value)


async def test_a_sentinels_password_that_cannot_be_read_is_said_at_once() -> None:
    with pytest.raises(SettingsError, match="FUNNELWATCH_REDIS__SENTINEL_PASSWORD: the environment has no NO_SUCH_NAME"):
        redis("rediss+sentinel://h/m", sentinel_password=SecretStr("env:NO_SUCH_NAME"))


async def test_a_password_in_a_file_is_read_anew_for_every_connection(tmp_path: Path) -> None:
    held = tmp_path / "password"
    held.write_text("before")
    client = redis("rediss://fw@redis:6379/0", password=SecretStr(f"file:{held}"))
    credentials = client.connection_pool.connection_kwargs["credential_provider"]
    assert credentials.get_credentials() == ("fw", "before")
    held.write_text("after")
    assert credentials.get_credentials() == ("fw", "after")
    await client.aclose()


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        (("topics",), {"KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA__SASL_MECHANISM": "PLAIN", "KAFKA__USERNAME": "fw"}),
        (("backfill", "purchase"), {"REDIS__URL": "redis://redis.example:6379/0"}),
        (("doctor",), {"REDIS__URL": "redis://redis.example:6379/0"}),
    ],
)
def test_a_command_that_would_tell_a_password_readably_ends_with_one_line(
    arguments: tuple[str, ...], changes: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(f"FUNNELWATCH_{name}", value)
    monkeypatch.setenv("FUNNELWATCH_KAFKA__PASSWORD" if "topics" in arguments else "FUNNELWATCH_REDIS__PASSWORD", "hunter2")
    assert run([*arguments, "--config", str(write_config(tmp_path, "clicks"))]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: FUNNELWATCH_")
    assert shown.err.count("\n") == 1
    assert "readably" in shown.err
    assert "hunter2" not in shown.out + shown.err
