"""Workers on a Redis with TLS and an ACL, on a cluster, and through a failover under a sentinel: each counts exactly."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from schemas.settings import RedisSettings
from streams.cli import run
from streams.permissions import redis_user
from streams.redis_client import connect
from tests.books import assert_counts_exact, becomes, counted, expected_of, read_books
from tests.parts.certificates import Authority, replace
from tests.parts.kafka import Kafka
from tests.parts.secure_redis import SecureRedis, cluster, until, watched
from tests.parts.worker import Deployment, Worker
from tests.traffic import Load, clicks, make_topic, produce, write_config

RULES = """
alerts:
  - {name: Low, funnel: purchase, stage: pay, basis: users, window: 1h, below: 0.99, notify: [log]}
channels:
  log: {type: log}
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def deployed(kafka: Kafka, redis: str, name: str, folder: Path, **settings: str) -> Deployment:
    make_topic(kafka.address, name, 3)
    config = write_config(folder, name)
    config.write_text(config.read_text() + RULES)
    return Deployment(kafka.address, redis, name, config, settings)


def refused(*nodes: SecureRedis) -> list[Any]:
    """What was asked for without permission."""
    found: list[Any] = []
    for node in nodes:
        with node.client() as client:
            found += client.acl_log()
    return found


def assert_leads_and_listens(worker: Worker) -> None:
    """It holds the lease, judges, and keeps what people say."""
    becomes(lambda: worker.metric("funnelwatch_lease_held"), 1)
    becomes(lambda: bool(worker.get("/api/v1/alerts").json()["states"]), True)
    assert (
        run(
            ["silence", "add", "--rule", "Low", "--for", "1h", "--reason", "moving", "--author", "kim", "--url", f"http://{worker.address}"]
        )
        == 0
    )
    assert len(worker.get("/api/v1/silences").json()["silences"]) == 1


def test_a_worker_counts_over_tls_as_a_user_that_may_only_what_it_needs(
    kafka: Kafka, redis_server_binary: Path, authority: Authority, unique_name: str, tmp_path: Path
) -> None:
    """And shows a certificate; alerts are judged and told too. Nothing was asked that the user may not."""
    user = f"{redis_user('worker', unique_name)} >hush"
    with SecureRedis(redis_server_binary, authority, user, mutual=True) as redis:
        (tmp_path / "password").write_text("hush\n")
        deployment = deployed(
            kafka, redis.url, unique_name, tmp_path,
            REDIS__URL=f"rediss://worker@{redis.tls_address}/0", REDIS__PASSWORD=f"file:{tmp_path / 'password'}",
            REDIS__CA_FILE=str(authority.file), REDIS__CERT_FILE=str(authority.client("worker").both),
        )  # fmt: skip
        with deployment.worker() as worker:
            counted(deployment, produce(kafka.address, unique_name, clicks(6_000)))
            assert_counts_exact(expected_of(deployment), read_books(deployment))
            assert_leads_and_listens(worker)
            assert refused(redis) == []
            assert "hush" not in worker.log(200)


def test_a_worker_counts_on_a_cluster(
    kafka: Kafka, redis_server_binary: Path, authority: Authority, unique_name: str, tmp_path: Path
) -> None:
    """Three nodes, TLS, least permissions; the shards lie on several of them."""
    user = f"{redis_user('worker', unique_name, cluster=True)} >hush"
    with cluster(redis_server_binary, authority, user) as nodes:
        hosts = ",".join(node.tls_address for node in nodes[:2])
        deployment = deployed(
            kafka, f"redis+cluster://{nodes[0].address}", unique_name, tmp_path,
            REDIS__URL=f"rediss+cluster://worker:hush@{hosts}", REDIS__CA_FILE=str(authority.file),
        )  # fmt: skip
        with deployment.worker() as worker:
            counted(deployment, produce(kafka.address, unique_name, clicks(6_000)))
            assert_counts_exact(expected_of(deployment), read_books(deployment))
            assert_leads_and_listens(worker)
            assert refused(*nodes) == []
        sizes = []
        for node in nodes:
            with node.client() as client:
                sizes.append(client.dbsize())
        assert sum(size > 0 for size in sizes) >= 2


def test_a_failover_loses_nothing(kafka: Kafka, redis_server_binary: Path, unique_name: str, tmp_path: Path) -> None:
    """The master is killed under load; its replica may lack the last writes, and what they counted is read again."""
    with watched(redis_server_binary) as (master, replica, sentinel):
        deployment = deployed(kafka, f"redis+sentinel://{sentinel.address}/shop", unique_name, tmp_path)
        with deployment.worker(), Load(kafka.address, unique_name, clicks(20_000), rate=4_000) as load:
            until(lambda: load.share > 0.3)
            master.kill()
            until(lambda: sentinel.master_port() == replica.port)
            ends = load.finish()
            counted(deployment, ends)
            assert_counts_exact(expected_of(deployment), read_books(deployment))


async def test_a_renewed_certificate_and_password_make_the_next_connection(
    redis_server_binary: Path, authority: Authority, tmp_path: Path
) -> None:
    """The same client: its certificate and password are changed under it, then its connections are cut."""
    with SecureRedis(redis_server_binary, authority, "user shop on ~* +@all >first >second", mutual=True) as redis:
        held, password = authority.client("first"), tmp_path / "password"
        password.write_text("first")
        client = connect(
            RedisSettings(
                url=SecretStr(f"rediss://shop@{redis.tls_address}/0"), password=SecretStr(f"file:{password}"),
                ca_file=str(authority.file), cert_file=str(held.both),
            )
        )  # fmt: skip
        try:
            assert await client.ping()
            replace(held.both, authority.client("second").both.read_bytes())
            password.write_text("second")
            with redis.client() as ours:
                ours.execute_command("ACL", "SETUSER", "shop", "<first")
                ours.execute_command("CLIENT", "KILL", "USER", "shop")
            deadline = time.monotonic() + 5.0
            while True:
                try:
                    assert await client.ping()
                    break
                except (OSError, ConnectionError, Exception):  # the connection that was cut
                    assert time.monotonic() < deadline, "waited in vain"
        finally:
            await client.aclose()
