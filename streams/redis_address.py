"""[pure] Where Redis is: one server, a cluster, or whichever server its sentinels name.

    redis://[USER:PASSWORD@]HOST[:PORT][/DB]
    redis+cluster://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/MASTER[/DB]
    unix://[USER:PASSWORD@]/PATH/TO/SOCKET

`rediss` in the place of `redis` is the same, encrypted. User and password are percent-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

from schemas.errors import SettingsError
from streams.loopback import is_loopback

VARIABLE = "FUNNELWATCH_REDIS__URL"
SHAPES = (
    "redis://HOST:PORT/DB, rediss://... (encrypted), redis+cluster://HOST:PORT,HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB"
)
PORTS = {"single": 6379, "cluster": 6379, "sentinel": 26379, "unix": 0}
Kind = Literal["single", "cluster", "sentinel", "unix"]


@dataclass(frozen=True)
class RedisAddress:
    """An address, taken apart."""

    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...]  # of the sentinels, where there are
    master: str = ""  # as the sentinels call it
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    path: str = ""  # of a Unix socket

    def __str__(self) -> str:
        """Without user and password."""
        if self.kind == "unix":
            return f"unix://{self.path}"
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "single" else f"+{self.kind}")
        tail = {"single": f"/{self.db}", "cluster": "", "sentinel": f"/{self.master}/{self.db}"}[self.kind]
        return f"{scheme}://{','.join(f'[{host}]:{port}' if ':' in host else f'{host}:{port}' for host, port in self.hosts)}{tail}"

    @property
    def leaves_the_machine(self) -> bool:
        """Whether what is sent there can be read on the way, if it is not encrypted. Sentinels may name any host."""
        return self.kind == "sentinel" or not all(is_loopback(host) for host, _ in self.hosts)


def parse(url: str) -> RedisAddress:
    """Take an address apart. Raises SettingsError, which does not repeat it: there may be a password in it."""
    scheme, separator, rest = url.partition("://")
    kind, tls = _scheme(scheme if separator else "")
    if "?" in rest:
        raise SettingsError(f"{VARIABLE}: options after ? are not taken; the settings FUNNELWATCH_REDIS__... take their place")
    authority, slash, tail = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    username, _, password = credentials.partition(":")
    user, secret = unquote(username), unquote(password)
    if kind == "unix":
        return RedisAddress("unix", False, (), username=user, password=secret, path=slash + tail)
    found = tuple(_host(text, PORTS[kind]) for text in hosts.split(","))
    if kind == "single" and len(found) > 1:
        raise SettingsError(f"{VARIABLE}: several hosts belong to a cluster or to sentinels; write {SHAPES}")
    master, db = "", tail
    if kind == "sentinel":
        master, _, db = tail.partition("/")
        if not master:
            raise SettingsError(f"{VARIABLE}: sentinels are asked for a master by its name; write redis+sentinel://HOST:PORT/MASTER/DB")
    if db and (not db.isdecimal() or (kind == "cluster" and int(db))):
        raise SettingsError(f"{VARIABLE}: what comes last is the number of a database, and a cluster has none but 0; write {SHAPES}")
    return RedisAddress(kind, tls, found, unquote(master), int(db or 0), user, secret)


def _scheme(scheme: str) -> tuple[Kind, bool]:
    base, _, kind = scheme.partition("+")
    if scheme == "unix":
        return "unix", False
    if base not in ("redis", "rediss") or kind not in ("", "cluster", "sentinel") or scheme.endswith("+"):
        raise SettingsError(f"{VARIABLE}: is no address of a Redis; write {SHAPES}")
    tls = base == "rediss"
    return ("cluster", tls) if kind == "cluster" else ("sentinel", tls) if kind == "sentinel" else ("single", tls)


def _host(text: str, port: int) -> tuple[str, int]:
    host, _, number = text.strip().rpartition(":") if not text.endswith("]") and ":" in text else (text.strip(), "", str(port))
    host = host.removeprefix("[").removesuffix("]")
    if not host or not number.isdecimal() or not 0 < int(number) < 65_536:
        raise SettingsError(f"{VARIABLE}: a host or its port is missing or wrong; write {SHAPES}")
    return host, int(number)
