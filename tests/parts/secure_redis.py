"""Redis with TLS and an ACL, three of it as a cluster, and a master with a replica under a sentinel.

Each keeps a plain port for the tests themselves, whose default user may do anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import redis

from streams.process import LOCALHOST, free_port
from tests.parts.certificates import Authority
from tests.parts.redis import RedisServer

SLOTS = 16_384
WAIT_SECONDS = 20.0


class SecureRedis(RedisServer):
    """A Redis whose `tls_port` asks for a client certificate where `mutual`; `users` are lines of its ACL file."""

    name: ClassVar[str] = "secure-redis"

    def __init__(self, binary: Path, authority: Authority, *users: str, mutual: bool = False, **more: str) -> None:
        super().__init__(binary)
        self.tls_port = free_port()
        self._held, self._authority, self._users, self._mutual, self._more = authority.server(), authority, users, mutual, more

    def prepare(self) -> None:
        (self.folder / "users.acl").write_text("\n".join(["user default on nopass ~* &* +@all", *self._users, ""]))

    def options(self) -> dict[str, str]:
        return {
            **super().options(),
            "tls-port": str(self.tls_port),
            "tls-cert-file": str(self._held.cert),
            "tls-key-file": str(self._held.key),
            "tls-ca-cert-file": str(self._authority.file),
            "tls-auth-clients": "yes" if self._mutual else "no",
            "aclfile": str(self.folder / "users.acl"),
            **self._more,
        }

    @property
    def tls_address(self) -> str:
        return f"{LOCALHOST}:{self.tls_port}"

    def client(self) -> redis.Redis[bytes]:
        return redis.Redis(LOCALHOST, self.port)


@contextmanager
def cluster(binary: Path, authority: Authority, *users: str) -> Iterator[list[SecureRedis]]:
    """Three nodes without replicas that share the slots."""
    with ExitStack() as stack:
        nodes = []
        for _ in range(3):
            options = {"cluster-enabled": "yes", "tls-cluster": "yes", "cluster-node-timeout": "2000", "cluster-port": str(free_port())}
            nodes.append(stack.enter_context(SecureRedis(binary, authority, *users, **options)))
        for number, node in enumerate(nodes):
            with node.client() as client:
                share = range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", share[0], share[-1])
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                bus = node.options()["cluster-port"]
                with nodes[0].client() as first:
                    if number:
                        first.execute_command("CLUSTER", "MEET", LOCALHOST, node.tls_port, bus)
        for node in nodes:
            until(lambda node=node: _is_whole(node))
        yield nodes


def _is_whole(node: SecureRedis) -> bool:
    with node.client() as client:
        info: Any = client.cluster("info")
        return bool(info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == 3)


class Sentinel(RedisServer):
    """Watches one master and puts its replica in its place half a second after it is gone."""

    name: ClassVar[str] = "sentinel"

    def __init__(self, binary: Path, master: RedisServer) -> None:
        super().__init__(binary)
        self._master = master

    def prepare(self) -> None:
        lines = [
            f"port {self.port}",
            f"bind {LOCALHOST}",
            f"sentinel monitor shop {LOCALHOST} {self._master.port} 1",
            "sentinel down-after-milliseconds shop 500",
            "sentinel failover-timeout shop 3000",
        ]
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [str(self._binary), str(self.folder / "sentinel.conf"), "--sentinel"]

    def master_port(self) -> int:
        """Where the master is now, as it says."""
        with redis.Redis(LOCALHOST, self.port) as client:
            found: Any = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop")
            return int(found[1])

    def knows_a_replica(self) -> bool:
        with redis.Redis(LOCALHOST, self.port) as client:
            return len(client.sentinel_slaves("shop")) == 1


@contextmanager
def watched(binary: Path) -> Iterator[tuple[RedisServer, RedisServer, Sentinel]]:
    """A master, its replica, and the sentinel that watches them."""
    with RedisServer(binary) as master, RedisServer(binary) as replica:
        with redis.Redis(LOCALHOST, replica.port) as client:
            client.replicaof(LOCALHOST, str(master.port))
            until(lambda: client.info("replication")["master_link_status"] == "up")
        with Sentinel(binary, master) as sentinel:
            until(sentinel.knows_a_replica)
            yield master, replica, sentinel


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
