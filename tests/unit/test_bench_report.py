"""What the bench says: its last line is for programs, and nothing that was not measured is made up."""

from __future__ import annotations

import json
import os

from tests.bench.markdown import table
from tests.bench.measure import Run
from tests.bench.report import last_line, lines


def run(rate: float, cpu_seconds: float = 1.0, others: float = 0.0) -> Run:
    """Of one second, on a machine of which others took a share."""
    return Run(int(rate), 1.0, cpu_seconds, (0.0, 0.0), cpu_seconds + others * (os.cpu_count() or 1))


def test_the_last_line_is_one_json_object_of_rates_and_their_ratios_to_the_limit() -> None:
    runs = {"limit": [run(1000), run(2000), run(4000)], "funnelwatch": [run(600), run(500), run(400)], "faust": [run(20)]}
    expected = {
        "limit": 2000.0,
        "contenders": {"funnelwatch": {"rate": 500.0, "of_limit": 0.25}, "faust": {"rate": 20.0, "of_limit": 0.01}},
    }
    assert json.loads(last_line(runs)) == expected
    assert "\n" not in last_line(runs)


def test_without_a_limit_nothing_is_measured_against_it() -> None:
    assert json.loads(last_line({"funnelwatch": [run(500)]})) == {
        "limit": None,
        "contenders": {"funnelwatch": {"rate": 500.0, "of_limit": None}},
    }


def test_every_contender_has_a_row() -> None:
    text = "\n".join(lines({"limit": [run(1000)], "funnelwatch": [run(500)], "funnelwatch-before": [run(400)]}))
    assert [line.split()[0] for line in text.splitlines()[1:4]] == ["limit", "funnelwatch", "funnelwatch-before"]


def test_before_and_after_are_compared_by_the_processor_time_they_need() -> None:
    text = "\n".join(lines({"funnelwatch": [run(500, cpu_seconds=1.0)], "funnelwatch-before": [run(500, cpu_seconds=1.5)]}))
    assert "funnelwatch does 1.5 x funnelwatch-before" in text


def test_a_missed_target_is_said() -> None:
    text = "\n".join(lines({"limit": [run(1000)], "funnelwatch": [run(100)]}))
    assert "0.1 x, NOT MET" in text


def test_a_busy_machine_is_said() -> None:
    assert "NOISY" in "\n".join(lines({"funnelwatch": [run(500, others=0.5)]}))
    assert "NOISY" not in "\n".join(lines({"funnelwatch": [run(500)]}))


def test_a_table_lines_its_columns_up() -> None:
    assert list(table(("", "bytes"), [("one", "5"), ("twenty", "1,000")])) == [
        "|        | bytes |",
        "|--------|------:|",
        "| one    |     5 |",
        "| twenty | 1,000 |",
    ]
