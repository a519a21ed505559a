"""A broker that dies, stays away, and has no room."""

from __future__ import annotations

import resource
import time

from tests.faults.catalogue import experiment
from tests.faults.scene import LONG_RATE, Scene

GONE_SECONDS = 60.0


@experiment(quick=True)
def broker_restarted(scene: Scene) -> None:
    """The broker is killed under load and started again at once"""
    _broker_away(scene, 0.0)


@experiment()
def broker_gone(scene: Scene) -> None:
    """The broker is gone for a minute"""
    _broker_away(scene, GONE_SECONDS)


def _broker_away(scene: Scene, seconds: float) -> None:
    broker = scene.own_kafka()
    scene.workers()
    with scene.load(rate=LONG_RATE, request_timeout_ms=int((seconds + scene.limit) * 1000)) as load:
        scene.progress(scene.dice.randrange(2_000, 5_000))
        broker.kill()
        time.sleep(seconds)
        broker.start()
        scene.over()
        scene.progress()
        scene.ends_exact(load)


@experiment()
def broker_disk_full(scene: Scene) -> None:
    """The broker cannot write its log for want of room, and gives up; with room it is started again

    A limit on the size of its files, which fails a write as a full disk does.
    """
    broker = scene.own_kafka()
    scene.workers()
    with scene.load(rate=LONG_RATE, request_timeout_ms=int(2 * scene.limit * 1000)) as load:
        scene.progress(scene.dice.randrange(2_000, 5_000))
        written = max(path.stat().st_size for path in broker.folder.glob(f"data/{scene.name}-*/*.log"))
        resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (written + 100_000, resource.RLIM_INFINITY))
        scene.until(lambda: not broker.running)
        broker.start()
        scene.over()
        scene.progress()
        scene.ends_exact(load)
