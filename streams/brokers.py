"""The one place that says how Kafka is reached: addresses, encryption, credentials.

Certificates are read anew when they are renewed (`streams.tls`); a password is read once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from schemas.errors import SettingsError
from schemas.secret import reveal
from schemas.settings import KafkaSettings
from streams.tls import RenewedContext, TlsFiles

WHOSE = "FUNNELWATCH_KAFKA"


@dataclass(frozen=True)
class Brokers:
    """Where the brokers are and how they are spoken to."""

    addresses: str  # host:port, comma separated
    tls: RenewedContext | None = None
    mechanism: str = ""  # of SASL; none without
    username: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.addresses

    def at(self, addresses: str) -> Brokers:
        """Others, spoken to in the same way."""
        return Brokers(addresses, self.tls, self.mechanism, self.username, self.password)

    def options(self) -> dict[str, Any]:
        """What aiokafka's clients are told."""
        found: dict[str, Any] = {"bootstrap_servers": self.addresses, "security_protocol": self.protocol}
        if self.tls is not None:
            found["ssl_context"] = self.tls
        if self.mechanism:
            found |= {"sasl_mechanism": self.mechanism, "sasl_plain_username": self.username, "sasl_plain_password": self.password}
        return found

    @property
    def protocol(self) -> str:
        return ("SASL_" if self.mechanism else "") + ("SSL" if self.tls is not None else "PLAINTEXT")

    def faust_credentials(self) -> Any:
        """The same for Faust; None: no more than addresses."""
        from faust import SASLCredentials, SSLCredentials

        if self.mechanism:
            return SASLCredentials(username=self.username, password=self.password, ssl_context=self.tls, mechanism=self.mechanism)
        return SSLCredentials(self.tls) if self.tls is not None else None


Where: TypeAlias = "Brokers | str"  # a bare address is spoken to in plain text, as the embedded broker is


def options_of(brokers: Where) -> dict[str, Any]:
    """What aiokafka's clients are told."""
    return (Brokers(brokers) if isinstance(brokers, str) else brokers).options()


def brokers_of(settings: KafkaSettings) -> Brokers:
    """The brokers of the settings. Raises SettingsError where they cannot be, or would let a password be read on its way."""
    encrypted, with_password = settings.security_protocol.endswith("SSL"), settings.security_protocol.startswith("SASL_")
    _refuse_what_is_not_used(settings, encrypted, with_password)
    tls = None
    if encrypted:
        key_password = reveal(settings.key_password, f"{WHOSE}__KEY_PASSWORD") if settings.key_password.get_secret_value() else ""
        tls = RenewedContext(TlsFiles(settings.ca_file, settings.cert_file, settings.key_file, key_password, WHOSE))
    if not with_password:
        return Brokers(settings.brokers, tls)
    if not settings.username or not settings.password.get_secret_value():
        raise SettingsError(
            f"{WHOSE}__SECURITY_PROTOCOL: {settings.security_protocol} asks for {WHOSE}__USERNAME and {WHOSE}__PASSWORD; set both"
        )
    if settings.sasl_mechanism == "PLAIN" and not encrypted and not settings.allow_plaintext_credentials:
        raise SettingsError(
            f"{WHOSE}__SECURITY_PROTOCOL: with SASL_PLAINTEXT and PLAIN the password would travel readably; set SASL_SSL, "
            f"or {WHOSE}__SASL_MECHANISM=SCRAM-SHA-512, or {WHOSE}__ALLOW_PLAINTEXT_CREDENTIALS=true if nobody else can listen there"
        )
    password = reveal(settings.password, f"{WHOSE}__PASSWORD")
    return Brokers(settings.brokers, tls, settings.sasl_mechanism, settings.username, password)


def _refuse_what_is_not_used(settings: KafkaSettings, encrypted: bool, with_password: bool) -> None:
    """Whoever sets a password or a certificate believes that it is used."""
    files = {"CA_FILE": settings.ca_file, "CERT_FILE": settings.cert_file, "KEY_FILE": settings.key_file}
    for name, path in files.items():
        if path and not encrypted:
            raise SettingsError(
                f"{WHOSE}__{name}: is set, but {WHOSE}__SECURITY_PROTOCOL is {settings.security_protocol}, without encryption; "
                f"set SSL or SASL_SSL there, or leave out the file"
            )
    if settings.key_file and not settings.cert_file:
        raise SettingsError(f"{WHOSE}__KEY_FILE: is set without {WHOSE}__CERT_FILE; name the certificate that it belongs to")
    if (settings.username or settings.password.get_secret_value()) and not with_password:
        raise SettingsError(
            f"{WHOSE}__USERNAME: user or password are set, but {WHOSE}__SECURITY_PROTOCOL is {settings.security_protocol}, which uses none; "
            "set SASL_SSL there, or leave them out"
        )
