"""Redis behind a bad network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.catalogue import experiment
from tests.faults.proxy import Proxy
from tests.faults.scene import Scene
from tests.faults.workers import FaultyWorker
from tests.parts.worker import SESSION_SECONDS
from tests.traffic import Load

SLOW_SECONDS = 0.5
SLOW_FOR_SECONDS = 10.0
RESETS = 0.05
RESETS_LEAST = 10


@contextmanager
def behind(scene: Scene) -> Iterator[tuple[Proxy, list[FaultyWorker], Load]]:
    """Two workers that reach Redis through a proxy, and a load."""
    with Proxy(scene.store.port, scene.dice) as proxy:
        workers = scene.workers(REDIS__URL=proxy.url)
        with scene.load() as load:
            scene.progress()
            yield proxy, workers, load


@experiment()
def redis_slow(scene: Scene) -> None:
    """Every answer of Redis takes 500 ms more, for ten seconds; counting goes on meanwhile"""
    with behind(scene) as (proxy, _, load):
        proxy.delay_seconds = SLOW_SECONDS
        before = scene.stored()
        time.sleep(SLOW_FOR_SECONDS)
        assert scene.stored() > before, "nothing was counted while Redis was slow"
        proxy.delay_seconds = 0.0
        scene.over()
        scene.ends_exact(load)


@experiment(quick=True)
def redis_black_holed(scene: Scene) -> None:
    """Redis answers nothing for longer than a session, though connections stay open; then all that was held arrives"""
    with behind(scene) as (proxy, workers, load):
        with scene.felt(workers):
            proxy.holds = True
        time.sleep(SESSION_SECONDS + scene.dice.uniform(0, 3))
        proxy.holds = False
        scene.over()
        scene.progress()
        scene.ends_exact(load)


@experiment()
def redis_reset(scene: Scene) -> None:
    """One answer of Redis in twenty is lost: what was asked is done, but the connection is reset before anyone knows"""
    with behind(scene) as (proxy, _, load):
        proxy.resets = RESETS
        scene.until(lambda: proxy.reset_count >= RESETS_LEAST)
        proxy.resets = 0.0
        scene.over()
        scene.progress()
        scene.ends_exact(load)
