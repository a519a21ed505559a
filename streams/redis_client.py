"""The one place that makes a client of Redis: a server, a cluster or sentinels, encrypted or not.

Credentials are read anew for every connection, so that a password kept in a file can be changed
without a restart; certificates likewise (`streams.tls`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import redis
from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.driver_info import DriverInfo

from schemas.errors import SettingsError
from schemas.secret import reveal
from schemas.settings import RedisSettings
from streams.redis_address import RedisAddress, parse
from streams.redis_sending import Sending
from streams.tls import RenewedContext, TlsFiles

WHOSE = "FUNNELWATCH_REDIS"
CONNECTIONS_MAX = 2_000  # every partition may be claimed, read and written at once; redis-py would refuse the hundred and first
# Said once: redis-py would read its own version out of its package's files at every connection.
DRIVER = DriverInfo(lib_version=redis.__version__)


class PlainConnection(Sending, Connection):
    """A connection over TCP."""


class UnixConnection(Sending, UnixDomainSocketConnection):
    """A connection on this machine."""


class ManagedConnection(Sending, SentinelManagedConnection):
    """A connection to whichever server is the master."""


class TlsConnection(Sending, SSLConnection):
    """A connection whose certificates come from `tls`."""

    def __init__(self, *, tls: RenewedContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> dict[str, Any]:
        return {"host": self.host, "port": self.port, "ssl": self._tls}


class SentinelTlsConnection(SentinelManagedConnection, TlsConnection):
    """The same to whichever server is the master."""


class Credentials(CredentialProvider):
    """User and password as they are at the moment."""

    def __init__(self, username: str, password: Callable[[], str]) -> None:
        self._username, self._password = username, password

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        return (self._username, self._password()) if self._username else (self._password(),)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


class SentinelRedis(Redis):
    """The client of a master; its sentinels go when it goes."""

    watchers: Sentinel

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        await self.watchers.aclose()


def address_of(settings: RedisSettings) -> RedisAddress:
    """The address of the settings. Raises SettingsError."""
    return parse(reveal(settings.url, f"{WHOSE}__URL"))


def check(settings: RedisSettings) -> None:
    """Raise SettingsError where `connect` would."""
    address = address_of(settings)
    _options(address, settings)
    _tls(address, settings)


def connect(settings: RedisSettings) -> Redis:
    """A client that gives up after `timeout_seconds` and never repeats a command on its own; nothing is sent yet.

    Of a cluster it is a RedisCluster, which has every command that we use, with the same answers.
    Raises SettingsError where the settings cannot be, or would let a password be read on its way.
    """
    address = address_of(settings)
    options = _options(address, settings)
    tls = _tls(address, settings)
    if address.kind == "cluster":
        return cast(Redis, _cluster(address, tls, options))
    if address.kind == "sentinel":
        return _of_sentinels(address, settings, tls, options)
    if address.kind == "unix":
        return _owned(ConnectionPool(connection_class=UnixConnection, path=address.path, **options))
    ((host, port),) = address.hosts
    return _owned(ConnectionPool(host=host, port=port, db=address.db, **_kind(tls), **options))


def _owned(pool: ConnectionPool) -> Redis:
    return Redis.from_pool(pool)


def _options(address: RedisAddress, settings: RedisSettings) -> dict[str, Any]:
    return {
        "socket_timeout": settings.timeout_seconds,
        "socket_connect_timeout": settings.timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "max_connections": CONNECTIONS_MAX,
        "protocol": 2,
        "driver_info": DRIVER,
        "credential_provider": _credentials(address, settings),
    }


def _credentials(address: RedisAddress, settings: RedisSettings) -> Credentials | None:
    username = address.username or settings.username
    if not address.password and not settings.password.get_secret_value():
        if username:
            raise SettingsError(f"{WHOSE}__PASSWORD: is not set, though there is a user {username!r}; set it, or leave out the user")
        return None
    if address.leaves_the_machine and not address.tls and not settings.allow_plaintext_credentials:
        raise SettingsError(
            f"{WHOSE}__URL: the password would travel readably to {address}; write rediss:// (Redis needs `tls-port` then), "
            f"or set {WHOSE}__ALLOW_PLAINTEXT_CREDENTIALS=true if nobody else can listen there"
        )
    written = address.password
    return _readable(Credentials(username, lambda: written or reveal(settings.password, f"{WHOSE}__PASSWORD")))


def _readable(credentials: Credentials) -> Credentials:
    """What cannot be read is said now, and not at some connection. Raises SettingsError."""
    credentials.get_credentials()
    return credentials


def _tls(address: RedisAddress, settings: RedisSettings) -> RenewedContext | None:
    given = {"CA_FILE": settings.ca_file, "CERT_FILE": settings.cert_file, "KEY_FILE": settings.key_file}
    if settings.key_file and not settings.cert_file:
        raise SettingsError(f"{WHOSE}__KEY_FILE: is set without {WHOSE}__CERT_FILE; name the certificate that it belongs to")
    if address.tls:
        password = settings.key_password
        key_password = reveal(password, f"{WHOSE}__KEY_PASSWORD") if password.get_secret_value() else ""
        return RenewedContext(TlsFiles(settings.ca_file, settings.cert_file, settings.key_file, key_password, WHOSE))
    named = [name for name, path in given.items() if path]
    if named:
        raise SettingsError(f"{WHOSE}__{named[0]}: is set, but {WHOSE}__URL is not encrypted; write rediss:// there, or leave out the file")
    return None


class _Cluster(RedisCluster):
    """A cluster's client that knows the cluster before it asks anything, with connections of ours.

    redis-py sends what is asked of a new client at once to just any node, and when it was sent
    elsewhere a few times (`reinitialize_steps`) it closes all connections, under whoever waits at them.
    Its own connections can only be told files of certificates, which they read once each.
    """

    def __init__(self, tls: RenewedContext | None, **options: Any) -> None:
        super().__init__(reinitialize_steps=0, ssl=tls is not None, **options)
        kept = {name: value for name, value in self.connection_kwargs.items() if not name.startswith("ssl_")}
        self.connection_kwargs.clear()  # in place: the nodes to come are made of it
        self.connection_kwargs.update(kept, **_kind(tls))
        nodes = [ClusterNode(node.host, node.port, **self.connection_kwargs) for node in self.startup_nodes]
        self.startup_nodes = nodes
        self.nodes_manager.startup_nodes = {node.name: node for node in nodes}

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        await self.initialize()
        return await super().execute_command(*args, **kwargs)


def _kind(tls: RenewedContext | None) -> dict[str, Any]:
    """Of a connection over TCP."""
    return {"connection_class": PlainConnection} if tls is None else {"connection_class": TlsConnection, "tls": tls}


def _cluster(address: RedisAddress, tls: RenewedContext | None, options: dict[str, Any]) -> _Cluster:
    return _Cluster(tls, startup_nodes=[ClusterNode(host, port) for host, port in address.hosts], **options)


def _of_sentinels(address: RedisAddress, settings: RedisSettings, tls: RenewedContext | None, options: dict[str, Any]) -> Redis:
    credentials = _sentinel_credentials(settings)
    watchers: Any = Sentinel([])  # type: ignore[no-untyped-call]  # redis-py's own gap
    watchers.sentinels = [
        Redis.from_pool(ConnectionPool(host=host, port=port, **_kind(tls), **{**options, "credential_provider": credentials}))
        for host, port in address.hosts
    ]
    managed: dict[str, Any] = {"connection_class": ManagedConnection}
    if tls is not None:
        managed = {"connection_class": SentinelTlsConnection, "tls": tls}
    pool: Any = SentinelConnectionPool(address.master, watchers, db=address.db, **managed, **options)  # type: ignore[no-untyped-call]  # as above
    client = cast(SentinelRedis, SentinelRedis.from_pool(pool))
    client.watchers = watchers
    return client


def _sentinel_credentials(settings: RedisSettings) -> Credentials | None:
    if not settings.sentinel_password.get_secret_value():
        return None
    return _readable(Credentials(settings.sentinel_username, lambda: reveal(settings.sentinel_password, f"{WHOSE}__SENTINEL_PASSWORD")))
