"""A Redis that dies, loses what it wrote last, is replaced by a replica that lags, or is emptied."""

from __future__ import annotations

import subprocess
import time

import redis

from streams.process import ProcessFailed
from tests.faults.catalogue import experiment
from tests.faults.proxy import Proxy
from tests.faults.scene import Scene
from tests.parts.redis import RedisServer

TORN_BYTES_MAX = 60_000
LAG_SECONDS = (0.3, 1.5)
FULL_SECONDS = 5.0


@experiment(quick=True)
def redis_killed(scene: Scene) -> None:
    """redis-server is killed under load, twice, and comes back with its append-only file"""
    workers = scene.workers()
    with scene.load() as load:
        for _ in range(2):
            scene.progress(scene.dice.randrange(2_000, 5_000))
            with scene.felt(workers):
                scene.store.kill()
            revive(scene.store)
            scene.over()
        scene.progress()
        scene.ends_exact(load)


@experiment()
def redis_torn(scene: Scene) -> None:
    """The tail of the append-only file is cut off at a random byte while Redis is down; what was counted last is counted again"""
    scene.workers()
    with scene.load() as load:
        scene.progress(scene.dice.randrange(4_000, 8_000))
        scene.store.kill()
        newest = max(scene.store.folder.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_mtime)
        size = newest.stat().st_size
        with newest.open("r+b") as log:
            log.truncate(size - scene.dice.randrange(1, min(TORN_BYTES_MAX, size)))
        revive(scene.store)
        scene.over()
        scene.progress()
        scene.ends_exact(load)


def revive(store: RedisServer) -> None:
    """Start it again; where its last write is cut in two, after the repair that it asks for."""
    try:
        store.start()
    except ProcessFailed as failed:
        if "Unexpected end of file" not in failed.log:
            raise
        for manifest in store.folder.glob("appendonlydir/*.manifest"):
            subprocess.run(["redis-check-aof", "--fix", str(manifest)], input=b"y\n", check=True, capture_output=True)
        store.start()


@experiment()
def redis_hung(scene: Scene) -> None:
    """redis-server is frozen until it is missed; what was sent to it before is still done when it goes on"""
    workers = scene.workers()
    with scene.load() as load:
        scene.progress()
        with scene.felt(workers):
            scene.store.pause()
        scene.store.resume()
        scene.over()
        scene.progress()
        scene.ends_exact(load)


@experiment()
def replica_promoted(scene: Scene) -> None:
    """A replica that lacks the last second or so is promoted, and the primary dies"""
    replica = scene.enter(RedisServer(scene.parts.redis_server))
    with Proxy(scene.store.port, scene.dice) as proxy, redis.Redis.from_url(replica.url) as heir:
        heir.replicaof("127.0.0.1", str(scene.store.port))
        scene.workers(REDIS__URL=proxy.url)
        with scene.load() as load:
            scene.progress(4_000)
            scene.until(lambda: heir.info("replication").get("master_link_status") == "up")
            heir.replicaof("no", "one")
            scene.wait(*LAG_SECONDS)
            ahead = scene.stored()
            scene.store.kill()
            scene.promote(replica)
            assert scene.stored() < ahead, "the replica did not lag"
            proxy.target = replica.port
            scene.over()
            scene.progress()
            scene.ends_exact(load)


@experiment(quick=True)
def flushed(scene: Scene) -> None:
    """FLUSHALL under load: everything is counted again from Kafka"""
    workers = scene.workers()
    with scene.load() as load:
        scene.progress(scene.dice.randrange(6_000, 12_000))
        scene.client.flushall()
        scene.over()
        scene.until(lambda: scene.conflicted(workers, "nostate") >= 1)
        scene.ends_exact(load)


@experiment()
def redis_full(scene: Scene) -> None:
    """Redis is out of memory (maxmemory, noeviction) for five seconds, then has room again"""
    workers = scene.workers()
    with scene.load() as load:
        scene.progress(4_000)
        with scene.felt(workers):
            scene.client.config_set("maxmemory", int(scene.client.info("memory")["used_memory"]) + 200_000)
        time.sleep(FULL_SECONDS)
        scene.client.config_set("maxmemory", 0)
        scene.over()
        scene.progress()
        scene.ends_exact(load)
