"""Tests that measure have the machine to themselves."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier, Event, Thread

from tests.parts.alone import machine

WAIT_SECONDS = 10


def test_those_that_do_not_measure_run_side_by_side(tmp_path: Path) -> None:
    both = Barrier(2, timeout=WAIT_SECONDS)

    def run() -> None:
        with machine(tmp_path, alone=False):
            both.wait()

    threads = [Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert not both.broken


def test_who_is_alone_keeps_others_out_until_it_is_done(tmp_path: Path) -> None:
    came = Event()

    def run() -> None:
        with machine(tmp_path, alone=False):
            came.set()

    other = Thread(target=run)
    with machine(tmp_path, alone=True):
        other.start()
        assert not came.wait(0.2)
    assert came.wait(WAIT_SECONDS)
    other.join(WAIT_SECONDS)
