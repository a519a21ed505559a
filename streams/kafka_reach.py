"""Whether one broker can be spoken to with our settings, and if not, why: aiokafka only logs that."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from streams.brokers import WHOSE, Brokers

REACH_SECONDS = 5.0
REFUSED = (AuthenticationFailedError, SaslAuthenticationFailed, UnsupportedSaslMechanismError)


@dataclass(frozen=True)
class Reached:
    """What came of it: no error, or what was wrong and what to do; `final` if waiting does not help."""

    address: str
    error: str = ""
    remedy: str = ""
    final: bool = False
    expires: datetime | None = None  # the broker's certificate


async def reach_all(brokers: Brokers, hosts: Sequence[tuple[str, int]] = ()) -> list[Reached]:
    """Speak to each of these hosts; by default the ones of the settings."""
    wanted = list(hosts) or [(host, port) for host, port, _ in collect_hosts(brokers.addresses)]
    return list(await asyncio.gather(*(reach(brokers, host, port) for host, port in wanted)))


async def reach(brokers: Brokers, host: str, port: int) -> Reached:
    """Connect, encrypt, log in, and hang up."""
    options = {name: value for name, value in brokers.options().items() if name != "bootstrap_servers"}
    address = f"{host}:{port}"
    try:
        connection = await create_conn(host, port, request_timeout_ms=int(REACH_SECONDS * 1000), **options)
    except (OSError, KafkaError, asyncio.TimeoutError) as error:
        return _why(address, brokers, error)
    expires = _expires(connection)
    connection.close()
    return Reached(address, expires=expires)


def _why(address: str, brokers: Brokers, error: BaseException) -> Reached:
    said = str(error) or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        mismatch = "mismatch" in error.verify_message or "not valid for" in error.verify_message
        remedy = (
            "connect by a name that is in it, or have one issued with this name"
            if mismatch
            else f"name the authority that signed it in {WHOSE}__CA_FILE"
        )
        return Reached(address, f"its certificate is not trusted ({error.verify_message})", remedy, final=True)
    if isinstance(error, ssl.SSLError):
        remedy = f"it may ask for a certificate of ours ({WHOSE}__CERT_FILE), or not be a TLS listener ({WHOSE}__SECURITY_PROTOCOL)"
        return Reached(address, f"TLS failed ({error.reason or said})", remedy, final=True)
    if isinstance(error, REFUSED):
        remedy = f"check {WHOSE}__USERNAME, {WHOSE}__PASSWORD and {WHOSE}__SASL_MECHANISM, and that the broker knows this user"
        return Reached(address, f"it refused to log us in ({said})", remedy, final=True)
    if isinstance(error, socket.gaierror):
        return Reached(
            address, f"its name cannot be resolved ({error.strerror})", f"mend {WHOSE}__BROKERS, or the broker's advertised.listeners"
        )
    if isinstance(error, ConnectionRefusedError):
        return Reached(address, "nobody listens there", f"start it, or mend {WHOSE}__BROKERS")
    protocol = f"it may be one that wants another {WHOSE}__SECURITY_PROTOCOL than {brokers.protocol}"
    if brokers.tls is not None:
        protocol += f", or one that asks for a certificate of ours ({WHOSE}__CERT_FILE)"
    return Reached(address, f"it does not answer ({said})", f"is it a Kafka listener, and reachable from here? {protocol}")


def _expires(connection: AIOKafkaConnection) -> datetime | None:
    """When the certificate of the other side ends; None without one."""
    writer: Any = connection._writer
    found = (writer.get_extra_info("peercert") if writer is not None else None) or {}
    ends = found.get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), timezone.utc) if ends else None
