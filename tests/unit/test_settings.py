"""Settings come from the environment; what is misspelt there is refused, and what is secret is not shown."""

from __future__ import annotations

import os

import pytest

from schemas.errors import SettingsError
from schemas.settings import PREFIX, describe, load_settings
from streams.tables import setting_now

CHANGED = {
    "FUNNELWATCH_CONFIG": ("shop.yaml", lambda s: s.config),
    "FUNNELWATCH_LOG_LEVEL": ("debug", lambda s: s.log_level),
    "FUNNELWATCH_KAFKA__BROKERS": ("kafka-1:9092,kafka-2:9092", lambda s: s.kafka.brokers),
    "FUNNELWATCH_KAFKA__GROUP": ("shop", lambda s: s.kafka.group),
    "FUNNELWATCH_KAFKA__SESSION_TIMEOUT_SECONDS": ("6.5", lambda s: s.kafka.session_timeout_seconds),
    "FUNNELWATCH_REDIS__URL": ("redis://:hunter2@redis:6379/1", lambda s: s.redis.url.get_secret_value()),
    "FUNNELWATCH_REDIS__PREFIX": ("shop", lambda s: s.redis.prefix),
    "FUNNELWATCH_KAFKA__SECURITY_PROTOCOL": ("SASL_SSL", lambda s: s.kafka.security_protocol),
    "FUNNELWATCH_KAFKA__SASL_MECHANISM": ("PLAIN", lambda s: s.kafka.sasl_mechanism),
    "FUNNELWATCH_KAFKA__CA_FILE": ("/etc/ca.pem", lambda s: s.kafka.ca_file),
    "FUNNELWATCH_REDIS__USERNAME": ("worker", lambda s: s.redis.username),
    "FUNNELWATCH_LOG_FORMAT": ("json", lambda s: s.log_format),
    "FUNNELWATCH_WEB__PORT": ("8080", lambda s: s.web.port),
    "FUNNELWATCH_WORKER__AUDIT_SHARE": ("0.01", lambda s: s.worker.audit_share),
    "FUNNELWATCH_WORKER__FENCES": ("False", lambda s: s.worker.fences),
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", CHANGED)
def test_a_variable_sets_its_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, read = CHANGED[name]
    assert str(read(load_settings())) != text
    monkeypatch.setenv(name, text)
    assert str(read(load_settings())) == text


def test_every_setting_is_described_and_set_to_its_default_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = load_settings()
    rows = describe()
    assert {name for name, _, _ in rows} >= CHANGED.keys()
    assert all(meaning for _, _, meaning in rows)
    for name, default, _ in rows:
        monkeypatch.setenv(name, default)
    assert load_settings() == defaults


@pytest.mark.parametrize(
    "name", ["FUNNELWATCH_REDIS_URL", "FUNNELWATCH_KAFKA__BROKER", "FUNNELWATCH_KAFKA", "FUNNELWATCH_", "FUNNELWATCH_WEB__HOST__X"]
)
def test_an_unknown_variable_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "{}")
    with pytest.raises(SettingsError, match=f"^{name}: no such setting; `funnelwatch settings` lists all$"):
        load_settings()


def test_every_unknown_variable_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNNELWATCH_A", "1")
    monkeypatch.setenv("FUNNELWATCH_B", "1")
    with pytest.raises(SettingsError, match=r"^FUNNELWATCH_A: .*\nFUNNELWATCH_B: "):
        load_settings()


@pytest.mark.parametrize("name", ["FUNNELWATCH_REQUIRE_ALL", "FUNNELWATCH_DATA", "OTHERS_SETTING"])
def test_what_is_not_for_the_service_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = load_settings()
    monkeypatch.setenv(name, "1")
    assert load_settings() == defaults


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("FUNNELWATCH_WEB__PORT", "70000", "less than or equal to 65535 (given: '70000')"),
        ("FUNNELWATCH_WEB__PORT", "http", "valid integer"),
        ("FUNNELWATCH_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error' (given: 'loud')"),
        ("FUNNELWATCH_REDIS__PREFIX", "a b", "should match pattern"),
        ("FUNNELWATCH_KAFKA__SESSION_TIMEOUT_SECONDS", "0", "greater than or equal to 1"),
        ("FUNNELWATCH_WORKER__AUDIT_SHARE", "1.5", "less than or equal to 1"),
        ("FUNNELWATCH_WORKER__AUDIT_SHARE", "-0.1", "greater than or equal to 0"),
        ("FUNNELWATCH_WORKER__FENCES", "perhaps", "valid boolean"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_variable(name: str, text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNNELWATCH_REDIS__URL", "redis://:hunter2@redis:6379/0")
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value).startswith(f"{name}: ")
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_the_address_of_redis_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNNELWATCH_REDIS__URL", "redis://:hunter2@redis:6379/0")
    settings = load_settings()
    for shown in (repr(settings), str(settings), f"{settings.redis.url}", settings.model_dump_json()):
        assert "hunter2" not in shown
    assert settings.redis.url.get_secret_value() == "redis://:hunter2@redis:6379/0"
    assert "hunter2" not in str(describe())


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("FUNNELWATCH_KAFKA__PASSWORD", "hunter2", "***"),
        ("FUNNELWATCH_REDIS__PASSWORD", "file:/run/secrets/redis", "file:/run/secrets/redis"),
        ("FUNNELWATCH_REDIS__KEY_PASSWORD", "", ""),
        ("FUNNELWATCH_REDIS__URL", "redis://:hunter2@redis:6379/0", "redis://***@redis:6379/0"),
    ],
)
def test_a_secret_is_shown_by_where_it_is_or_as_stars(name: str, text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, text)
    assert setting_now(load_settings(), name) == shown


def test_nobody_is_audited_unless_it_is_asked_for() -> None:
    assert load_settings().worker.audit_share == 0
