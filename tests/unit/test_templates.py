"""Each template runs: counted as the oracle counts, calm on healthy traffic, alarmed when the last step breaks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.event import micros_of
from streams.cli import run
from streams.cli_init import Template, text_of
from tests.oracle import Record, Recount, recount
from tests.parts.walks import Walks

NAMES = [template.value for template in Template]
# (people, days, when the last step breaks): enough before it for what is usual to be known, enough after it to show.
TRAFFIC = {
    "ecommerce": (8_000, 1.7, 0.85), "saas": (20_000, 17.5, 0.9), "education": (7_000, 9.5, 0.88),
    "healthcare": (4_000, 4.6, 0.85), "manufacturing": (11_000, 24.5, 0.93), "content": (14_000, 9.5, 0.88),
}  # fmt: skip
# Weeks of thin traffic, hour by hour, take long to judge: here only the rules that see enough of it in so long.
ONLY = {"manufacturing": ("OrderingLeaks",), "saas": ("SubscribingLeaks",)}
STAGES = {"awareness", "interest", "consideration", "action"}


@cache
def config(name: str) -> Any:
    return yaml.safe_load(text_of(name))


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The template, as `init` writes it."""
    path = tmp_path / "funnel.yaml"
    assert run(["init", "--template", request.getfixturevalue("name"), "--out", str(path)]) == 0
    return path


@cache
def events(name: str, among: int = 1) -> bytes:
    """Of so many people, one in `among`."""
    people, days, breaks_at = TRAFFIC[name]
    return b"\n".join(Walks(config(name), people // among, days).lines(breaks_at))


@pytest.mark.parametrize("name", NAMES)
def test_a_template_maps_the_way_of_a_customer_and_keeps_the_second_purchase_apart(name: str) -> None:
    first, second = config(name)["funnels"]
    assert {stage["name"] for stage in first["stages"]} >= STAGES
    assert second["stages"][-1]["name"] == "retention"
    assert (first["stages"][0]["name"], first["stages"][-1]["name"]) == ("awareness", "action")
    assert second["stages"][0]["event"] == first["stages"][-1]["event"]
    assert all(funnel["owner"] and funnel["description"] for funnel in (first, second))
    assert all("target" in stage for funnel in (first, second) for stage in funnel["stages"][1:])
    assert any("benchmark" in stage for stage in first["stages"])
    assert {rule.get("detector") for rule in config(name)["alerts"]} == {"sequential", None}
    assert {"below_target", "drop"} <= {key for rule in config(name)["alerts"] for key in rule}


@pytest.mark.parametrize("name", NAMES)
def test_a_template_says_that_its_figures_are_made_up_and_what_to_change(name: str) -> None:
    text = text_of(name)
    figures = [line for line in text.splitlines() if line.strip().startswith(("target:", "benchmark:"))]
    assert figures
    assert all("our assumption" in line or "made up" in line for line in figures)
    assert "none of them is a\n#                 measurement of your trade" in text
    assert "What to change first" in text


@pytest.mark.parametrize("name", NAMES)
def test_a_template_is_valid_without_warnings_and_every_command_takes_it(name: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["check", str(file)]) == 0
    shown = capsys.readouterr()
    assert (shown.out.startswith("ok: "), shown.err) == (True, "")
    for command in (["dictionary", "--config", str(file)], ["dictionary", "--config", str(file), "--language", "zh"]):
        assert run(command) == 0
        assert config(name)["funnels"][0]["title"] in capsys.readouterr().out
    assert run(["rules", "--config", str(file)]) == 0
    assert config(name)["alerts"][0]["name"] in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_a_template_counts_what_the_oracle_counts(name: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traffic = tmp_path / "events.jsonl"
    traffic.write_bytes(events(name, 10))
    capsys.readouterr()
    assert run(["replay", str(traffic), "--config", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    lines = enumerate(events(name, 10).splitlines())
    expected = recount(config(name), [Record(0, n, json.loads(line)["user_id"].encode(), line) for n, line in lines])
    assert {funnel: told(found, funnel) for funnel in found["funnels"]} == {
        f["name"]: recounted(expected, f) for f in config(name)["funnels"]
    }
    assert all(stages[-1][0] > 2 for stages in (told(found, funnel) for funnel in found["funnels"]))
    assert found["rejected"] == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_template_is_calm_while_all_is_well_and_alerts_when_the_last_step_breaks(
    name: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic = tmp_path / "events.jsonl"
    traffic.write_bytes(events(name))
    only = [argument for rule in ONLY.get(name, ()) for argument in ("--rule", rule)]
    capsys.readouterr()
    assert run(["backtest", str(traffic), "--config", str(file), "--json", *only]) == 0
    fired = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if line["state"] == "firing"]
    first = json.loads(events(name).splitlines()[0])["timestamp"]
    broke = first + TRAFFIC[name][1] * TRAFFIC[name][2] * 86_400
    assert (config(name)["alerts"][0]["name"], None) in {(line["rule"], line["dimension"]) for line in fired}
    assert [line for line in fired if micros_of(line["at"]) < broke * 1_000_000] == []


def told(found: Any, funnel: str) -> list[tuple[Any, ...]]:
    return [
        (stage["reached"], stage["entries"], stage["conversions"], stage["events"], round(stage["value"], 2))
        for stage in found["funnels"][funnel]["stages"]
    ]


def recounted(expected: Recount, funnel: Any) -> list[tuple[Any, ...]]:
    last = len(funnel["stages"]) - 1
    total = expected.total
    return [
        (
            total(funnel["name"], "users", place),
            total(funnel["name"], "entries", place),
            None if place == last else total(funnel["name"], "conversions", place),
            total(funnel["name"], "events", place),
            round(total(funnel["name"], "value", place) / 1_000_000, 2),
        )
        for place in range(last + 1)
    ]
