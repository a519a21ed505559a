"""Workers that die: by chance, at the worst moment, in order, and by their own code."""

from __future__ import annotations

import time

from tests.faults.catalogue import experiment
from tests.faults.scene import LONG_RATE, PARTITIONS, Scene
from tests.parts.worker import SESSION_SECONDS

DEATHS = 3
STOP_SECONDS_MAX = 20.0  # deploy/ gives a worker more before it is killed
CHURN_SECONDS = 10.0
CHURNS = 4
INJECTED_SHARE = 0.01


@experiment()
def sigkill(scene: Scene) -> None:
    """SIGKILL at random moments, three times; the dead worker is started again"""
    workers = scene.workers()
    with scene.load() as load:
        for _ in range(DEATHS):
            scene.progress(scene.dice.randrange(1_000, 4_000))
            victim = scene.dice.choice(workers)
            victim.kill()
            scene.over()
            victim.start()
        scene.ends_exact(load)


@experiment()
def killed_before_apply(scene: Scene) -> None:
    """SIGKILL just before a chunk is applied, in both workers, twice"""
    _killed_at_apply(scene, "before")


@experiment()
def killed_after_apply(scene: Scene) -> None:
    """SIGKILL just after a chunk was applied, before the worker takes note, in both workers, twice"""
    _killed_at_apply(scene, "after")


def _killed_at_apply(scene: Scene, when: str) -> None:
    def failpoint() -> dict[str, object]:
        return {"signalled": {"name": "KILL", "when": when, "nth": scene.dice.randrange(20, 120)}}

    workers = scene.workers(*[scene.worker(failpoint()) for _ in range(2)])
    with scene.load() as load:
        for last in (False, True):
            for worker in workers:
                scene.until(lambda: not worker.running)  # noqa: B023
            for worker in workers:
                worker.faults = {} if last else failpoint()
            scene.over()
            scene.workers(*workers)
        scene.ends_exact(load)


@experiment(quick=True)
def sigterm(scene: Scene) -> None:
    """SIGTERM with a chunk in hand: the worker exits with 0 within 20 s, the other takes over"""
    struck = scene.folder / "struck"
    fault = {"signalled": {"name": "TERM", "when": "before", "nth": scene.dice.randrange(20, 80), "note": str(struck)}}
    leaving, other = scene.workers(scene.worker(fault), scene.worker())
    with scene.load() as load:
        scene.until(struck.exists)
        code = leaving.ended(STOP_SECONDS_MAX * scene.parts.patience)
        assert code == 0, f"the worker ended with {code}"
        scene.over()
        scene.holds(other, PARTITIONS)
        scene.progress()
        leaving.faults = {}
        leaving.start()
        scene.ends_exact(load)


@experiment()
def joining_and_leaving(scene: Scene) -> None:
    """Workers join and leave every 10 s, four times, in order or by SIGKILL as the dice say"""
    staying, other = scene.workers()
    with scene.load(rate=LONG_RATE) as load:
        for _ in range(CHURNS // 2):
            time.sleep(CHURN_SECONDS)
            scene.dice.choice((other.stop, other.kill))()
            time.sleep(CHURN_SECONDS)
            scene.over()
            other.start()
            staying, other = other, staying
        scene.ends_exact(load)


@experiment()
def agent_raises(scene: Scene) -> None:
    """Exceptions in the agent, before and after it folds and while it submits: one in a hundred calls"""
    quiet = scene.folder / "quiet"
    faults = [{"raising": {"share": INJECTED_SHARE, "seed": scene.dice.randrange(1000), "until": str(quiet)}} for _ in range(2)]
    workers = scene.workers(*map(scene.worker, faults))
    with scene.load() as load:
        scene.until(lambda: scene.conflicted(workers, "failed") >= 5)
        quiet.touch()
        scene.over()
        scene.ends_exact(load)


@experiment()
def exception_storm(scene: Scene) -> None:
    """Every call of the agent raises, for longer than a session; then none does"""
    quiet = scene.folder / "quiet"
    workers = scene.workers(*[scene.worker({"raising": {"share": 1.0, "seed": 1, "until": str(quiet)}}) for _ in range(2)])
    with scene.load() as load:
        scene.until(lambda: scene.conflicted(workers, "failed") > 0)
        time.sleep(SESSION_SECONDS + 1)
        quiet.touch()
        scene.over()
        scene.ends_exact(load)
