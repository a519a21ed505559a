"""What the bench says: its last line is for programs, and nothing that was not measured is made up."""

from __future__ import annotations

import json
import os
from dataclasses import replace

from tests.bench.markdown import table
from tests.bench.measure import Run
from tests.bench.report import TARGETS, last_line, lines


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
    found = list(lines({"limit": [run(1000)], "funnelwatch": [run(500)], "funnelwatch-before": [run(400)]}))
    assert [line.split()[1] for line in found[2:5]] == ["limit", "funnelwatch", "funnelwatch-before"]


def row(runs: dict[str, list[Run]], other: str) -> list[str]:
    """Of the table of targets."""
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines(runs) if line.startswith(f"| {other} ")]
    return found[-1]


def test_before_and_after_are_compared_by_the_processor_time_they_need() -> None:
    runs = {"funnelwatch": [run(500, cpu_seconds=1.0)], "funnelwatch-before": [run(500, cpu_seconds=1.5)]}
    assert row(runs, "funnelwatch-before") == ["funnelwatch-before", "-", "1", "1–1", "-", "1.5", ""]


def test_a_target_is_met_by_the_ratio_of_the_medians() -> None:
    runs = {"funnelwatch": [run(500), run(400), run(600)], "handwritten": [run(200), run(250), run(240)]}
    assert row(runs, "handwritten") == ["handwritten", "2", "2.08", "1.6–2.5", "-", "2.08", "met"]


def test_a_missed_target_says_by_how_much_and_where_the_time_goes() -> None:
    runs = {"limit": [run(1000)], "funnelwatch": [run(100)]}
    assert row(runs, "limit") == ["limit", "0.4 (goal 0.55)", "0.1", "0.1–0.1", "-", "0.1", "SHORT by 75%"]
    assert "Short against limit: an event takes 10000.0 µs" in "\n".join(lines(runs))
    assert "Short against" not in "\n".join(lines({"limit": [run(1000)], "funnelwatch": [run(500)]}))


def test_the_second_half_is_compared_too_where_it_was_seen() -> None:
    ours, jvm = replace(run(500), late=run(600)), replace(run(100), late=run(300))
    assert row({"funnelwatch": [ours], "kafka-streams": [jvm]}, "kafka-streams")[2:5] == ["5", "5–5", "2"]
    assert row({"funnelwatch": [ours], "kafka-streams": [jvm, run(100)]}, "kafka-streams")[4] == "-"


def test_every_target_of_the_issue_is_asked_for() -> None:
    assert {target.other: target.least for target in TARGETS} == {
        "limit": 0.40,
        "handwritten": 2,
        "handwritten-stored": 2,
        "bytewax": 2.5,
        "quix": 4,
        "kafka-streams": 0.7,
        "faust": 40,
    }


def test_a_contender_that_failed_is_missing_and_nothing_else_is() -> None:
    assert "funnelwatch" not in "".join(line for line in lines({"limit": [run(1000)], "quix": [run(10)]}) if "|" in line)


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
