"""`funnelwatch backtest`: what it prints, and one clear line for what cannot be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from streams.cli import run
from tests.parts.backtest import config, shop

HOUR = 3600
KEYS = ["at", "rule", "funnel", "stage", "dimension", "value", "state", "numerator", "denominator", "rate", "threshold"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("backtest")
    rules = [{"by": ["device"]}, {"name": "Sooner", "below": 0.5, "for": "0s"}]
    made = json.loads(config(*rules).model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True))
    found = {name: folder / name for name in ("config.yaml", "other.yaml", "events.jsonl", "incidents.yaml", "bad.yaml", "empty.jsonl")}
    found["config.yaml"].write_text(yaml.safe_dump(made))
    found["other.yaml"].write_text(yaml.safe_dump(made | {"alerts": made["alerts"][:1]}))
    found["events.jsonl"].write_bytes(b"\n".join(shop(3 * HOUR, 20, (1.5 * HOUR, 2.5 * HOUR))))
    found["incidents.yaml"].write_text("- {from: 2026-01-02T01:30:00Z, to: 2026-01-02T02:30:00Z, dimension: device, value: ios}\n")
    found["bad.yaml"].write_text("- {from: 2026-01-02T01:30:00Z}\n")
    found["empty.jsonl"].write_text('{"event": "other", "timestamp": 1767312000, "user_id": "a"}\n')
    return found


def asked(files: dict[str, Path], *arguments: str) -> int:
    return run(["backtest", *(str(files.get(argument, argument)) for argument in arguments)])


def test_it_prints_one_json_line_a_transition(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(files, "events.jsonl", "--config", "config.yaml", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines
    assert all(list(line)[: len(KEYS)] == KEYS for line in lines)
    assert {line["state"] for line in lines} <= {"pending", "firing", "resolved", "no_data", "stale"}
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    assert {(line["rule"], line["value"]) for line in lines if line["state"] == "firing"} >= {("PayLow", "ios")}


def test_without_json_it_prints_a_table(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(files, "events.jsonl", "--config", "config.yaml", "--rule", "PayLow") == 0
    out = capsys.readouterr().out
    assert "1 rule at" in out
    assert "device = ios" in out
    assert "Pages (alerts of one cause are one): PayLow " in out


def test_a_history_in_which_nothing_happens_gives_a_table_without_rows(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(files, "events.jsonl", "--config", "config.yaml", "--rule", "PayLow", "--at", "2026-01-02T00:20:00Z") == 0
    title, headers, pages = capsys.readouterr().out.splitlines()
    assert "1 rule at" in title
    assert headers.split()[1:3] == ["rule", "of"]
    assert pages == "Pages (alerts of one cause are one): PayLow 0"


def test_a_summary_compares_rules_and_configs(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("events.jsonl", "--config", "config.yaml", "--config", "other.yaml", "--summary", "--incidents", "incidents.yaml")
    assert asked(files, *arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [variant["rule"] for variant in found["variants"]] == ["PayLow", "Sooner", "PayLow"]
    first = found["variants"][0]
    assert first == {**found["variants"][2], "config": str(files["config.yaml"])}
    assert (first["incidents"], first["missed"]) == (1, 0)
    assert first["median_time_to_detect_seconds"] < HOUR
    assert asked(files, *arguments) == 0
    assert "median time to find" in capsys.readouterr().out


def test_a_summary_without_labels_says_nothing_of_misses(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(files, "events.jsonl", "--config", "other.yaml", "--summary", "--json") == 0
    (variant,) = json.loads(capsys.readouterr().out)["variants"]
    assert variant["pages"] > 0
    assert variant["missed"] is None


def test_tuning_prints_one_object_or_a_table_with_words(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("events.jsonl", "--config", "other.yaml", "--tune", "--pages-per-month", "2", "--incidents", "incidents.yaml")
    assert asked(files, *arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["wanted_pages_per_month"], found["enough"]) == (2.0, False)
    assert found["rules"][0]["now"]["below"] == 0.4
    assert asked(files, *arguments) == 0
    assert "Too short a history" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("events.jsonl",), "name a config file"),
        (("--config", "config.yaml"), "name a file, or a topic"),
        (("events.jsonl", "--config", "config.yaml", "--topic", "t"), "name a file, or a topic"),
        (("nowhere.jsonl", "--config", "config.yaml"), "nowhere.jsonl: cannot be read"),
        (("empty.jsonl", "--config", "config.yaml"), "none of 1 records is an event that a funnel looks at (filtered 1)"),
        (("events.jsonl", "--config", "config.yaml", "--at", "noon"), "--at 'noon' is no time"),
        (("events.jsonl", "--config", "config.yaml", "--from", "1"), "go with --topic"),
        (("--topic", "t", "--config", "config.yaml"), "give --from TIME and --to TIME"),
        (("--topic", "t", "--config", "config.yaml", "--from", "2", "--to", "1"), "--to does not come after --from"),
        (("events.jsonl", "--config", "config.yaml", "--config", "other.yaml"), "compared with --summary"),
        (("events.jsonl", "--config", "config.yaml", "--summary", "--tune"), "one of them"),
        (("events.jsonl", "--config", "config.yaml", "--incidents", "incidents.yaml"), "goes with --summary or --tune"),
        (("events.jsonl", "--config", "config.yaml", "--summary", "--incidents", "bad.yaml"), "bad.yaml:1: has no `to`"),
        (("events.jsonl", "--config", "config.yaml", "--tune", "--pages-per-month", "0"), "--pages-per-month 0 must be above 0"),
        (("events.jsonl", "--config", "config.yaml", "--tune", "--fall", "1"), "--fall 1 must lie between 0 and 1"),
        (("events.jsonl", "--config", "config.yaml", "--rule", "X"), "no rule 'X' in the config; there are: PayLow, Sooner"),
        (("events.jsonl", "--config", "config.yaml", "--source", "x"), "no source 'x'"),
        (("events.jsonl", "--config", "config.yaml", "--format", "xml"), "give --format jsonl or --format csv"),
    ],
)
def test_bad_input_gives_one_clear_line(
    files: dict[str, Path], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], what: str
) -> None:
    assert asked(files, *arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert what in line
