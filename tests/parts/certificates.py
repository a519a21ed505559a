"""An authority of our own, and certificates that it signs; made in milliseconds, valid for a day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from streams.process import LOCALHOST


@dataclass(frozen=True)
class Held:
    """The files of one certificate."""

    cert: Path
    key: Path
    both: Path  # certificate and key, as Kafka and Redis take them


class Authority:
    """Signs, and keeps what it signed in a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.file = folder / f"{name}.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def server(self, *names: str) -> Held:
        """Of a server at these names; by default at 127.0.0.1 and localhost."""
        return self._hold(
            "server-" + "-".join(names), self._authority.issue_cert(*(names or (LOCALHOST, "localhost")), not_after=_tomorrow())
        )

    def client(self, name: str, password: str = "") -> Held:
        """Of a client called so: its common name; its key may be kept under a password."""
        issued = self._authority.issue_cert(f"{name}@clients.example", common_name=name, not_after=_tomorrow())
        return self._hold(f"client-{name}", issued, password)

    def _hold(self, name: str, issued: trustme.LeafCert, password: str = "") -> Held:
        held = Held(self._folder / f"{name}.crt", self._folder / f"{name}.key", self._folder / f"{name}.pem")
        certificate = issued.cert_chain_pems[0].bytes()
        replace(held.cert, certificate)
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        lock = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)  # PKCS #8: the only form that Kafka reads
        replace(held.key, key_pem)
        replace(held.both, key_pem + certificate)
        return held


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another in one step, as a renewal does."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)


def _tomorrow() -> datetime:
    return datetime.now(timezone.utc) + timedelta(days=1)
