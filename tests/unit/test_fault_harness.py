"""The harness that breaks things: its parts do what the experiments rely on."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest
import yaml

from schemas.errors import FunnelwatchError
from tests.faults import report
from tests.faults.catalogue import Experiment, experiments
from tests.faults.endless import LAP, Laps, in_all
from tests.faults.experiments.poison import GOOD, KEY, KINDS, kinds
from tests.faults.experiments.soak import flat
from tests.faults.play import Played, Run, told
from tests.faults.proxy import Proxy
from tests.faults.runs import Runs, play_and_keep, to_play
from tests.oracle import recount
from tests.oracle_events import Record
from tests.traffic import CONFIG

SAID = yaml.safe_load(CONFIG.format(topic="clicks", source=""))


@contextmanager
def echo() -> Iterator[int]:
    """A server that says what it hears; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(1000):
                        connection.sendall(data)

        Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied() -> Iterator[tuple[Proxy, socket.socket]]:
    with echo() as port, Proxy(port, random.Random(1)) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.settimeout(5)
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        yield proxy, client


def test_a_proxy_that_dawdles_takes_as_long_as_it_is_told() -> None:
    with proxied() as (proxy, client):
        proxy.delay_seconds = 0.2
        began = time.monotonic()
        client.sendall(b"late")
        assert client.recv(100) == b"late"
        assert time.monotonic() - began >= 0.2


def test_a_proxy_that_holds_lets_all_of_it_through_when_it_lets_go() -> None:
    with proxied() as (proxy, client):
        proxy.holds = True
        client.sendall(b"held")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(100)
        client.settimeout(5)
        proxy.holds = False
        assert client.recv(100) == b"held"


def test_a_proxy_that_resets_does_so_when_the_answer_is_there() -> None:
    with proxied() as (proxy, client):
        proxy.resets = 1.0
        client.sendall(b"lost")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        assert proxy.reset_count == 1


def test_every_kind_of_poison_is_rejected_and_what_it_is_made_from_is_not() -> None:
    records = [Record(0, number, key, value) for number, (key, value) in enumerate(KINDS)]
    assert recount(SAID, records).fates == {"rejected": len(KINDS)}
    bad = islice(kinds(random.Random(1)), 2 * len(KINDS))
    assert recount(SAID, [Record(0, number, *click) for number, click in enumerate(bad)]).fates == {"rejected": 2 * len(KINDS)}
    assert recount(SAID, [Record(0, 0, KEY, json.dumps(GOOD).encode())]).fates == {"applied": 1}


def test_laps_come_to_what_the_first_lap_comes_to() -> None:
    laps = Laps(3, seed=1)
    few = [laps[lap * LAP + number] for lap in range(3) for number in range(400)]
    all_of_it = recount(SAID, [Record(0, number, *click) for number, click in enumerate(few)])
    one = recount(SAID, [Record(0, number, *click) for number, click in enumerate(few[:400])])
    found = in_all(one, 3)
    assert found.fates == all_of_it.fates
    assert +found.cells == +all_of_it.cells
    assert found.at_us == all_of_it.at_us
    oldest = {(cell.funnel, cell.width): cell.bucket for cell in sorted(found.cells) if cell.width}  # the newest of each
    asked = {cell: n for cell, n in found.cells.items() if not cell.width or cell.bucket >= oldest[cell.funnel, cell.width]}
    fewer = in_all(one, 3, oldest).cells
    assert asked.items() <= fewer.items()
    assert len(fewer) < len(found.cells) / 2


def test_a_slice_of_laps_is_the_clicks_one_by_one() -> None:
    laps = Laps(2, seed=1)
    assert laps[LAP - 2 : LAP + 2] == [laps[number] for number in range(LAP - 2, LAP + 2)]
    assert len(laps) == 2 * LAP


@pytest.mark.parametrize(("late", "complaint"), [((130_000, 50), "grew from"), ((100_000, 60), "files open")])
def test_a_soak_sees_what_grows(late: tuple[int, int], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        flat([(100_000, 50)] * 400 + [late] * 100, "worker 0")
    flat([(50_000, 20)] * 100 + [(100_000, 50)] * 400, "worker 0")


def test_the_last_line_says_how_many_runs_of_each_failed() -> None:
    chance = Experiment("chance", "what happens", lambda scene: None, quick=True, once=False)
    runs = [Run(1, 9.0, 2.0), Run(2, 8.0, 4.0, "3 cells are wrong:\nCell"), Run(3, 7.0, None)]
    found = [Played(chance, runs)]
    assert json.loads(report.last_line(found)) == {"experiments": {"chance": {"runs": 3, "failed": 1}}}
    page = "\n".join(report.page(found, ["3 runs on two cores"]))
    assert "| chance" in page
    assert page.endswith("3 runs on two cores.")
    assert "1 ÷ 3" in page
    assert "`chance` failed at seed 2: 3 cells are wrong:" in page
    assert "--only chance --seed 2" in told(chance, runs[1])


def test_what_was_played_is_not_played_again_and_of_a_seed_the_newest_run_counts(tmp_path: Path) -> None:
    chance, always = (Experiment(name, "", lambda scene: None, quick=True, once=name == "always") for name in ("chance", "always"))
    file, complaints = tmp_path / "runs.jsonl", iter(["2 cells are wrong:\nCell", "", "", "", ""])

    def played(runs: Runs, seeds: Sequence[int], without: Container[tuple[str, int]]) -> list[tuple[str, int]]:
        which = to_play([chance, always], seeds, without)
        found = play_and_keep(which, [lambda _, seed: Run(seed, 1.0, None, next(complaints))], runs, "2026-11-27", "two cores")
        return [(experiment.name, run.seed) for experiment, run in found]

    first = Runs(file)
    assert played(first, [1], first.kept) == [("chance", 1), ("always", 1)]
    assert [one.failed for one in first.played({"chance": chance})] == [1]
    second = Runs(file)
    assert played(second, [1, 2], second.kept) == [("chance", 2)]
    assert second.played({"chance": chance})[0].runs[0].complaint == "2 cells are wrong:"
    assert played(second, [1], ()) == [("chance", 1), ("always", 1)]
    third = Runs(file)
    assert [(one.failed, len(one.runs)) for one in third.played({"always": always, "chance": chance})] == [(0, 1), (0, 2)]
    assert [line.partition(" on ")[0] for line in third.circumstances()] == ["3 runs"]


def test_as_many_experiments_are_played_at_a_time_as_there_are_lanes_and_each_once(tmp_path: Path) -> None:
    chance, both = Experiment("chance", "", lambda scene: None, quick=True, once=False), Barrier(2)

    def lane(_: Experiment, seed: int) -> Run:
        both.wait(20)  # for the other lane
        return Run(seed, 1.0, None)

    runs = Runs(tmp_path / "runs.jsonl")
    found = [run.seed for _, run in play_and_keep(to_play([chance], range(6), ()), [lane, lane], runs, "2026-11-27", "two cores")]
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    assert len(runs.kept) == 6


def test_whoever_goes_early_waits_for_what_is_on_its_way_and_does_not_keep_it(tmp_path: Path) -> None:
    chance, begun, stopped = Experiment("chance", "", lambda scene: None, quick=True, once=False), Event(), []
    started = []

    def lane(_: Experiment, seed: int) -> Run:
        started.append(seed)
        if seed:
            begun.set()
            time.sleep(0.2)
        stopped.append(seed)
        return Run(seed, 1.0, None)

    runs = Runs(tmp_path / "runs.jsonl")
    found = play_and_keep(to_play([chance], range(6), ()), [lane], runs, "2026-11-27", "two cores")
    next(found)
    assert begun.wait(20)
    found.close()  # type: ignore[attr-defined]  # as an interrupt does
    assert stopped == started
    assert 5 not in started
    assert [seed for _, seed in runs.kept] == [0]


def test_what_breaks_the_harness_itself_ends_all_lanes(tmp_path: Path) -> None:
    chance = Experiment("chance", "", lambda scene: None, quick=True, once=False)

    def lane(_: Experiment, seed: int) -> Run:
        if seed == 2:
            raise FunnelwatchError("no broker")
        return Run(seed, 1.0, None)

    runs = Runs(tmp_path / "runs.jsonl")
    with pytest.raises(FunnelwatchError, match="no broker"):
        list(play_and_keep(to_play([chance], range(6), ()), [lane], runs, "2026-11-27", "two cores"))
    assert [seed for _, seed in runs.kept] == [0, 1]


def test_every_experiment_says_what_happens() -> None:
    found = experiments()
    assert all(experiment.text for experiment in found.values())
    quick = sum(experiment.quick for experiment in found.values())
    assert len(found) / 4 < quick < len(found) / 2
