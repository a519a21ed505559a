"""Settings of a process, from the environment; the only module that reads it.

Every name starts with FUNNELWATCH_, groups are joined by two underscores:
FUNNELWATCH_KAFKA__BROKERS, FUNNELWATCH_REDIS__URL, FUNNELWATCH_WEB__PORT.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import SettingsError

PREFIX = "FUNNELWATCH_"


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(Group):
    brokers: str = Field(default="127.0.0.1:9092", description="host:port of the brokers, comma separated")
    group: str = Field(default="funnelwatch", description="consumer group; all workers of one deployment share it")
    session_timeout_seconds: float = Field(default=10.0, ge=1, description="a worker silent for this long loses its partitions")
    heartbeat_seconds: float = Field(default=2.0, gt=0, description="how often a worker tells the broker it lives")
    fetch_bytes_max: int = Field(default=2_097_152, ge=1024, description="most bytes fetched of a partition at once; bounds a chunk")
    fetch_bytes_min: int = Field(
        default=524_288, ge=1, description="the broker answers once it has so many bytes; chunks of few records cost most"
    )
    fetch_wait_ms: int = Field(default=100, ge=1, description="or when it has waited so long")
    create_topics: bool = Field(default=True, description="create the re-keyed and dead-letter topics when missing")
    end_offset_slack: int = Field(default=0, ge=0, description="how far past the log's reported end a stored position may be")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="SSL: encrypted; SASL: with username and password"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="how username and password are told"
    )
    username: str = Field(default="", description="of SASL")
    password: SecretStr = Field(default=SecretStr(""), description="of SASL; or env:NAME, or file:/PATH")
    ca_file: str = Field(default="", description="who signed the brokers' certificates (PEM); the system's authorities by default")
    cert_file: str = Field(default="", description="our own certificate (PEM), where brokers ask for one; read again when it is renewed")
    key_file: str = Field(default="", description="its private key (PEM), unless that is in the same file")
    key_password: SecretStr = Field(default=SecretStr(""), description="of the key; or env:NAME, or file:/PATH")
    allow_plaintext_credentials: bool = Field(default=False, description="let a password travel readably, in SASL_PLAINTEXT with PLAIN")


class RedisSettings(Group):
    url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="where the ledger is: redis://HOST:PORT/DB, redis+cluster://HOST:PORT,..., redis+sentinel://HOST:PORT,.../MASTER/DB; "
        "rediss: encrypted; or env:NAME, or file:/PATH",
    )
    username: str = Field(default="", description="ACL user, unless the address names one")
    password: SecretStr = Field(default=SecretStr(""), description="its password; or env:NAME, or file:/PATH; read at every connection")
    sentinel_username: str = Field(default="", description="ACL user of the sentinels themselves")
    sentinel_password: SecretStr = Field(default=SecretStr(""), description="its password; or env:NAME, or file:/PATH")
    ca_file: str = Field(default="", description="who signed Redis's certificate (PEM); the system's authorities by default")
    cert_file: str = Field(default="", description="our own certificate (PEM), where Redis asks for one; read again when it is renewed")
    key_file: str = Field(default="", description="its private key (PEM), unless that is in the same file")
    key_password: SecretStr = Field(default=SecretStr(""), description="of the key; or env:NAME, or file:/PATH")
    allow_plaintext_credentials: bool = Field(
        default=False, description="let a password travel readably: redis:// to another machine than this one"
    )
    prefix: str = Field(default="fw", pattern=r"^[A-Za-z0-9._-]{1,40}$", description="every key begins with it")
    timeout_seconds: float = Field(default=2.0, gt=0, description="longest wait for one answer")


class WebSettings(Group):
    host: str = Field(default="127.0.0.1", description="interface to listen on")
    port: int = Field(default=6066, ge=0, le=65_535, description="port of page, API and metrics")
    url: str = Field(default="", description="address by which others reach this page; goes into notifications")
    token: SecretStr = Field(default=SecretStr(""), description="what the command line and other clients show a service that asks for one")
    requests_per_second: int = Field(
        default=1000, ge=10, le=100_000, description="requests answered by one worker, on average over five seconds; more get a 503"
    )
    connections_per_address: int = Field(
        default=200,
        ge=2,
        le=100_000,
        description="connections of one address to one worker, half of them live pages; proxies have no bound",
    )
    proxies: str = Field(
        default="127.0.0.1,::1", description="proxies whose X-Forwarded-For and -Proto are believed: addresses, comma separated, or *"
    )
    dashboard_url: str = Field(
        default="", description="address of a dashboard, for notifications; may hold {funnel} {stage} {rule} {from_ms} {to_ms}"
    )


class RegistrySettings(Group):
    url: str = Field(default="", description="schema registry of sources whose format is avro or json_schema")
    username: str = Field(default="", description="of basic authentication; an API key's name")
    password: SecretStr = Field(default=SecretStr(""), description="its password or secret; or env:NAME, or file:/PATH")
    ca_file: str = Field(default="", description="who signed its certificate (PEM); the system's authorities by default")
    timeout_seconds: float = Field(default=5.0, gt=0, description="longest wait for one answer")


class WorkerSettings(Group):
    states_max: int = Field(default=2_000_000, ge=1000, description="entities held in memory; the rest are read back from Redis")
    tick_seconds: float = Field(default=1.0, gt=0, description="how often reports are computed and rules looked at")
    lease_seconds: float = Field(default=6.0, ge=1, description="how long a silent lease holder keeps the lease")
    audit_share: float = Field(
        default=0.0, ge=0, le=1, description="share of the entities whose counts are checked against a recount, 0 to 1; 0: none"
    )
    fences: bool = Field(default=True, description="off only to show in a test what the fences prevent; counts go wrong")


class PrivacySettings(Group):
    key: SecretStr = Field(
        default=SecretStr(""),
        description="entities are stored under pseudonyms made with it, 32 characters or more; or env:NAME, or file:/PATH; empty: by their ids",
    )
    previous_key: SecretStr = Field(
        default=SecretStr(""),
        description="the key before, while who was stored under it may come again; none: there was no key; or env:, file:",
    )


class Settings(BaseSettings):
    """All settings; `funnelwatch settings` lists them with their defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="ignore", frozen=True)

    config: str = Field(default="", description="config file for `faust -A streams.app worker`")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level that is logged")
    log_format: Literal["console", "json"] = Field(default="console", description="json: one object a line")
    log_repeat_seconds: float = Field(
        default=60.0, ge=0, description="what repeats is logged once in so long, then how often; 0: each time"
    )
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    web: WebSettings = WebSettings()
    registry: RegistrySettings = RegistrySettings()
    worker: WorkerSettings = WorkerSettings()
    privacy: PrivacySettings = PrivacySettings()


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment. Raises SettingsError, one line a variable that is wrong or unknown."""
    unknown = sorted(k for k in os.environ if k.upper().startswith(PREFIX) and k.upper() not in KNOWN | NOT_SETTINGS)
    if unknown:
        raise SettingsError("\n".join(f"{k}: no such setting; `funnelwatch settings` lists all" for k in unknown))
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [f"{PREFIX}{'__'.join(str(p).upper() for p in e['loc'])}: {e['msg']} (given: {e['input']!r})" for e in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def describe() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting."""
    rows = []
    for name, field in Settings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Group):
            for part, inner in group.model_fields.items():
                rows.append((f"{PREFIX}{name.upper()}__{part.upper()}", _shown(inner.default), inner.description or ""))
        else:
            rows.append((f"{PREFIX}{name.upper()}", _shown(field.default), field.description or ""))
    return rows


def _shown(default: Any) -> str:
    return str(default.get_secret_value() if isinstance(default, SecretStr) else default)


KNOWN = frozenset(variable for variable, _, _ in describe())
# Read by the tests and by Make, not by the service.
NOT_SETTINGS = frozenset({f"{PREFIX}REQUIRE_ALL", f"{PREFIX}DATA", f"{PREFIX}COMPILED"})
