"""TLS with certificates that are renewed under our hands.

A context that looks at its files whenever a connection is made, and reads them again when they
changed: a renewed certificate, key or authority is used for the next connection, without a restart.
Connections that stand keep theirs. There is no way to leave out the check of the other side's
certificate and name.
"""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from schemas.errors import SettingsError

log = structlog.get_logger()
Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class TlsFiles:
    """Where the certificates are; PEM. `whose` begins the names of the settings they come from."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    key_password: str = ""
    whose: str = ""

    def stamp(self) -> Stamp:
        """What changes when a file does, in place or by a link that is moved."""
        return tuple(_stamp(path) for path in (self.ca, self.cert, self.key) if path)

    def read(self) -> ssl.SSLContext:
        """A context that checks certificate and name. Raises OSError and ssl.SSLError."""
        context = ssl.create_default_context(cafile=self.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert:
            # A function, since without one OpenSSL would ask on the terminal.
            context.load_cert_chain(self.cert, self.key or None, password=lambda: self.key_password)
        return context


class RenewedContext(ssl.SSLContext):
    """An SSLContext whose connections are made by another one, which is read anew when the files change.

    Raises SettingsError when they cannot be used at the beginning; later on what was there before stays
    in use, and the log says so.
    """

    _files: TlsFiles
    _stamp: Stamp
    _current: ssl.SSLContext
    _lock: threading.Lock

    def __new__(cls, files: TlsFiles) -> RenewedContext:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context._lock = threading.Lock()  # Faust's consumer connects from a thread of its own
        context._files, context._stamp = files, files.stamp()
        try:
            context._current = files.read()
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(_unusable(files, error)) from None
        return context

    def __init__(self, files: TlsFiles) -> None:
        """All is done; the base class would take the files for a protocol."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self._renewed().wrap_bio(*args, **kwargs)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self._renewed().wrap_socket(*args, **kwargs)

    def _renewed(self) -> ssl.SSLContext:
        with self._lock:
            stamp = self._files.stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._current = self._files.read()
                    log.info("certificates read anew", files=self._named())
                except (OSError, ssl.SSLError) as error:  # half of it may be written yet: the next change is another chance
                    log.warning("renewed certificates cannot be used; those before stay in use", error=_unusable(self._files, error))
            return self._current

    def _named(self) -> str:
        return ", ".join(path for path in (self._files.ca, self._files.cert, self._files.key) if path)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _unusable(files: TlsFiles, error: Exception) -> str:
    for name, path in (("CA_FILE", files.ca), ("CERT_FILE", files.cert), ("KEY_FILE", files.key)):
        if path and not os.access(path, os.R_OK):
            return f"{files.whose}__{name}: {path} cannot be read by this process; name a readable PEM file"
    named = [f"{files.whose}__{name}" for name, path in (("CA_FILE", files.ca), ("CERT_FILE", files.cert)) if path]
    remedy = "name PEM files of a certificate, the key that belongs to it and the key's password"
    return f"{' and '.join(named)}: cannot be used ({error}); {remedy}"
