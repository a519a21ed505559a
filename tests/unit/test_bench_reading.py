"""What `--read` says of what it measured."""

from __future__ import annotations

import json
import os
import subprocess
import time
from itertools import islice
from pathlib import Path

import pytest

from schemas.config import Config
from tests.bench import readers
from tests.bench.readers import Load
from tests.bench.reading import Span, apart, claims, each_page, many, slowed, visits


def span(rate: float, cpu: float = 10.0, **took_ms: list[float]) -> Span:
    return Span(
        rate,
        cpu,
        {"took_ms": took_ms, "waited_ms": {kind: [1.0] * len(times) for kind, times in took_ms.items()}, "delays_ms": []},
        stolen=0.02 * (os.cpu_count() or 1),
    )


def test_a_span_with_readers_is_compared_with_those_around_it() -> None:
    spans = [("", span(100)), ("readers", span(88, 11, funnel=[3.0])), ("", span(80)), ("p", span(81)), ("", span(82))]
    said = list(slowed("readers", spans))
    assert "readers: 2.2% slower" in said[0]
    assert "10.0% more CPU an event" in said[1]
    assert said[2] == "the host took 2.0% of the machine meanwhile"
    assert "- claim: by at most 3%: held" in said[3]
    (row,) = [line for line in said if line.startswith("| funnel |")]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["2.0", "2.0", "2.0", "3.0", "1"]  # without the reader's own wait


def test_a_claim_that_does_not_hold_is_said() -> None:
    said = list(claims({"funnel": [19.0] * 98 + [30.0] * 2, "scrape": [90.0], "tick to client": [500.0]}))
    assert said == [
        "- claim: p99 of funnel under 20 ms: 30.0 ms, NOT HELD",
        "- claim: p99 of scrape under 100 ms: 90.0 ms, held",
    ]


def test_pages_that_hear_too_seldom_are_a_claim_that_does_not_hold() -> None:
    assert each_page(1500, pages=100, seconds=30) == "- claim: a page hears of the worker every 2 s: every 2.0 s, held"
    assert each_page(300, pages=100, seconds=30).endswith("every 10.0 s, NOT HELD")
    assert each_page(0, pages=100, seconds=30).endswith("every inf s, NOT HELD")


def test_a_worker_shares_no_core_with_the_others_while_it_is_looked_at() -> None:
    with subprocess.Popen(["sleep", "60"]) as worker, subprocess.Popen(["sleep", "60"]) as other:
        try:
            before = os.sched_getaffinity(other.pid)
            with apart(worker.pid, other.pid):
                cores = os.sched_getaffinity(worker.pid), os.sched_getaffinity(other.pid)
                assert cores[0].isdisjoint(cores[1]) or len(before) == 1
                assert len(cores[0]) == 1
            assert os.sched_getaffinity(other.pid) == before
        finally:
            worker.kill()
            other.kill()


def test_every_visit_is_in_a_funnel_of_the_config_and_times_ascend() -> None:
    config = many("visits")
    assert Config.model_validate(config)
    events = {stage["event"] for funnel in config["funnels"] for stage in funnel["stages"]}
    found = list(islice(visits(), 2000))
    assert {json.loads(visit.value())["event"] for visit in found} <= events
    assert [visit.at_ms for visit in found] == sorted(visit.at_ms for visit in found)
    assert len({visit.channel.partition("/")[0] for visit in found}) == 100


def test_a_load_goes_to_another_process_as_it_is() -> None:
    load = Load(1.5, requests=10, clients=3, funnels=("a",), windows=("5m",), by="channel")
    sent = json.loads(load.text())
    assert (sent["seconds"], sent["clients"], sent["funnels"]) == (1.5, 3, ["a"])


def test_what_a_reader_waits_for_a_core_is_told_beside_what_the_answer_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedstat, found = tmp_path / "schedstat", readers.Found()
    monkeypatch.setattr(readers, "SCHEDSTAT", schedstat)
    for waits_ns in ((0, 0), (500_000, 700_000), (0, 10**12)):
        schedstat.write_text(f"1 {waits_ns[0]} 1\n")
        with found.one("funnel"):
            time.sleep(0.001)
            schedstat.write_text(f"2 {waits_ns[1]} 2\n")
    assert found.waited_ms["funnel"] == [0.0, pytest.approx(0.2), found.took_ms["funnel"][2]]  # never more than it took
    schedstat.unlink()
    assert readers.own_wait_ms() == 0
