"""Clocks that are wrong, and that jump."""

from __future__ import annotations

from tests.faults.catalogue import experiment
from tests.faults.scene import Scene
from tests.faults.workers import FaultyWorker

DAY = 86_400


def _set(scene: Scene, name: str, seconds: int) -> str:
    path = scene.folder / f"clock-{name}"
    path.write_text(str(seconds))
    return str(path)


@experiment()
def clocks_apart(scene: Scene) -> None:
    """One worker's clock is a day ahead, the other's a day behind, and partitions change hands"""
    clocks = [_set(scene, name, off) for name, off in (("ahead", DAY), ("behind", -DAY))]
    workers = scene.workers(*[scene.worker({"clock": {"file": file}}) for file in clocks])
    with scene.load() as load:
        _change_hands(scene, workers)
        scene.over()
        scene.ends_exact(load)


@experiment()
def clocks_jump(scene: Scene) -> None:
    """Both workers' clocks jump a day ahead, two days back, and right again, under load"""
    files = [_set(scene, str(number), 0) for number in range(2)]
    workers = scene.workers(*[scene.worker({"clock": {"file": file}}) for file in files])
    with scene.load() as load:
        for off in (DAY, -DAY, 0):
            for number in range(2):
                scene.wait(0.0, 1.0)
                _set(scene, str(number), off)
            scene.progress()
        _change_hands(scene, workers)
        scene.over()
        scene.ends_exact(load)


def _change_hands(scene: Scene, workers: list[FaultyWorker]) -> None:
    for worker in workers:
        scene.progress()
        worker.kill()
        worker.start()
