"""Disks without room: for the worker's own log, and for Redis's append-only file."""

from __future__ import annotations

import resource
import time

from tests.faults.catalogue import experiment
from tests.faults.scene import Scene

FULL_SECONDS = 5.0


@experiment()
def log_disk_full(scene: Scene) -> None:
    """No worker can write its log (/dev/full) while Redis is killed and comes back, of which there is much to log"""
    workers = scene.workers(scene.worker(mute=True), scene.worker(mute=True))
    with scene.load() as load:
        scene.progress()
        with scene.felt(workers):
            scene.store.kill()
        scene.store.start()
        scene.over()
        scene.progress()
        scene.ends_exact(load)


@experiment()
def redis_disk_full(scene: Scene) -> None:
    """Redis cannot write its append-only file for want of room, for five seconds; then it can

    A limit on the size of its files, which fails a write as a full disk does: some of it is written, the
    rest is refused.
    """
    workers = scene.workers()
    with scene.load() as load:
        scene.progress(4_000)
        newest = max(scene.store.folder.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_mtime)
        _, most = resource.prlimit(scene.store.pid, resource.RLIMIT_FSIZE)
        room = newest.stat().st_size + scene.dice.randrange(1_000, 50_000)
        with scene.felt(workers):
            resource.prlimit(scene.store.pid, resource.RLIMIT_FSIZE, (room, most))
        time.sleep(FULL_SECONDS)
        resource.prlimit(scene.store.pid, resource.RLIMIT_FSIZE, (most, most))
        scene.over()
        scene.progress()
        scene.ends_exact(load)
    scene.store.kill()  # and what the file has is whole
    scene.store.start()
    scene.exact(sum(load.sent.values()))
