"""The dashboards of a config: what they ask exists, what exists is shown, targets colour the steps, links lead somewhere."""

from __future__ import annotations

import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from alerting.prometheus_health import ALERTS
from schemas.config import Config, load
from streams.cli import run
from streams.metrics import DEFINITIONS
from tests.parts.dashboards import (
    FOLDER,
    NAMES,
    Asked,
    Json,
    annotations,
    committed,
    filled,
    matchers,
    nodes,
    panels,
    parsed,
    queries,
    selectors,
    variables,
)

DEPLOY = Path(__file__).parents[2] / "deploy"
REFERENCE = DEPLOY / "reference.yaml"
WITH_SDK = pytest.mark.skipif(sys.version_info < (3, 11), reason="grafana-foundation-sdk needs Python 3.11")
OF_PROMETHEUS = {"job", "instance"}
SERIES: dict[str, set[str]] = {"up": set()}
for definition in DEFINITIONS:
    ends = ("_bucket", "_count") if definition.kind == "histogram" else ("",)
    SERIES |= {definition.name + end: {*definition.labels, *({"le"} if end == "_bucket" else ())} for end in ends}


def built(config: Config, **addresses: str) -> dict[str, Json]:
    from streams.dashboards import Addresses, dashboards

    return {name.removesuffix(".json"): json.loads(text) for name, text in dashboards(config, Addresses(**addresses)).items()}


def changed(**of_stage: float) -> Config:
    """The reference config, its last stage changed."""
    written = yaml.safe_load(REFERENCE.read_text("utf-8"))
    written["funnels"][0]["stages"][-1] |= of_stage
    return Config.model_validate(written)


def panel(dashboard: Json, title: str) -> Json:
    (found,) = [one for one in panels(dashboard) if one["title"] == title]
    return found


def override(found: Json, name: str) -> dict[str, Any]:
    (properties,) = [one["properties"] for one in found["fieldConfig"]["overrides"] if one["matcher"]["options"] == name]
    return {one["id"]: one["value"] for one in properties}


@WITH_SDK
@pytest.mark.parametrize("name", NAMES)
def test_the_committed_dashboards_are_those_of_the_reference_config(name: str) -> None:
    """If not: `funnelwatch dashboards --config deploy/reference.yaml --out deploy/grafana/dashboards`."""
    assert committed(name) == built(load(REFERENCE))[name]


@WITH_SDK
@pytest.mark.parametrize("name", NAMES)
def test_those_that_compose_mounts_are_those_of_its_config(name: str) -> None:
    """If not: `funnelwatch dashboards --config deploy/compose/funnel.yaml --out deploy/compose/dashboards`."""
    folder = REFERENCE.parent / "compose"
    assert json.loads((folder / "dashboards" / f"{name}.json").read_text("utf-8")) == built(load(folder / "funnel.yaml"))[name]


# Queries


@pytest.mark.parametrize("name", NAMES)
def test_a_query_asks_for_metrics_and_labels_that_are_served(name: str) -> None:
    dashboard = committed(name)
    asked = [*queries(dashboard), *annotations(dashboard)]
    asked += [
        Asked(v["name"], v["query"][len("label_values(") : v["query"].rindex(",")])
        for v in variables(dashboard).values()
        if v["type"] == "query"
    ]
    for one in asked:
        for selector, parents in selectors(one.expr):
            assert selector.name in SERIES, str(one)
            labels = SERIES[selector.name] | OF_PROMETHEUS
            assert matchers(selector).keys() <= labels, str(one)
            for parent in parents:
                if isinstance(parent, promql_parser.AggregateExpr) and parent.modifier is not None:
                    assert set(parent.modifier.labels) <= labels, str(one)


@pytest.mark.parametrize("name", NAMES)
def test_a_legend_names_labels_that_the_query_leaves(name: str) -> None:
    for one in panels(committed(name)):
        for target in one["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            summed = [
                set(node.modifier.labels)
                for node, _ in nodes(parsed(target["expr"]))
                if isinstance(node, promql_parser.AggregateExpr) and node.modifier
            ]
            assert not named or any(named <= labels for labels in summed), (one["title"], target["expr"])


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_there_before_what_uses_them(name: str) -> None:
    known: set[str] = set()
    for variable in variables(committed(name)).values():
        filled(str(variable["query"]), dict.fromkeys(known, "x"))
        known.add(variable["name"])
    shown = [*queries(committed(name)), *annotations(committed(name))]
    for text in [one.expr for one in shown] + [one["title"] for one in panels(committed(name))]:
        filled(text, dict.fromkeys(known, "x"))


def test_every_metric_is_shown() -> None:
    shown = {selector.name for name in NAMES for one in queries(committed(name)) for selector, _ in selectors(one.expr)}
    assert {d.name for d in DEFINITIONS if not any(name.startswith(d.name) for name in shown)} == set()


def test_every_alert_on_the_pipeline_is_told_of_at_the_panel_that_shows_it() -> None:
    told = " ".join(one["description"] for one in panels(committed("pipeline")))
    of_prometheus = {"FunnelwatchWorkerDown", "FunnelwatchDeadMan"}
    assert {alert.name for alert in ALERTS if alert.name not in told} == of_prometheus


def test_the_variables_are_those_to_look_by() -> None:
    assert list(variables(committed("overview"))) == ["datasource", "job", "window", "basis"]
    assert list(variables(committed("funnel"))) == ["datasource", "job", "funnel", "window", "basis", "stage", "dimension", "value"]
    assert list(variables(committed("pipeline"))) == ["datasource", "job", "instance", "source"]


# Look


@pytest.mark.parametrize("name", NAMES)
def test_panels_fill_24_columns_line_by_line_without_a_gap(name: str) -> None:
    taken: dict[int, set[int]] = {}
    for one in committed(name)["panels"]:
        at = one["gridPos"]
        for y in range(at["y"], at["y"] + at["h"]):
            columns = set(range(at["x"], at["x"] + at["w"]))
            assert not columns & taken.setdefault(y, set()), one["title"]
            taken[y] |= columns
    assert set(taken) == set(range(max(taken) + 1))
    assert all(columns == set(range(24)) for columns in taken.values())
    numbers = [one["id"] for one in committed(name)["panels"]]
    assert len(numbers) == len(set(numbers))


@WITH_SDK
@pytest.mark.parametrize(
    ("dashboard", "title", "step"), [("overview", "purchase: steps", "checkout → pay"), ("funnel", "Steps", "purchase: checkout → pay")]
)
def test_a_step_is_coloured_by_its_own_target_and_benchmark(dashboard: str, title: str, step: str) -> None:
    found = override(panel(built(changed(target=0.7, benchmark=0.62))[dashboard], title), step)["thresholds"]
    assert [(one["value"], one["color"]) for one in found["steps"]] == [(None, "red"), (0.62, "yellow"), (0.7, "green")]
    found = override(panel(built(changed(target=0.5, benchmark=0.62))[dashboard], title), step)["thresholds"]
    assert [(one["value"], one["color"]) for one in found["steps"]] == [(None, "red"), (0.5, "green")]
    lines = override(panel(built(changed(target=0.7))[dashboard], f"{title} over time"), step)
    assert lines["custom.thresholdsStyle"] == {"mode": "dashed"}


def test_a_step_without_a_target_has_no_colour_of_good_and_bad() -> None:
    names = {one["matcher"]["options"] for one in panel(committed("overview"), "purchase: steps")["fieldConfig"]["overrides"]}
    stages = load(REFERENCE).funnels[0].stages
    assert names == {f"{before.name} → {stage.name}" for before, stage in pairwise(stages) if stage.target is not None}


def test_alerts_and_deploys_are_marked() -> None:
    for name in NAMES:
        assert [one["name"] for one in committed(name)["annotations"]["list"]] == ["Alerts", "Deploys"]
        assert all(one["datasource"]["uid"] == "${datasource}" for one in committed(name)["annotations"]["list"])


@WITH_SDK
def test_links_lead_to_the_page_as_it_is_chosen_here_and_to_the_runbooks() -> None:
    linked = built(load(REFERENCE), page="https://funnels.example/", runbooks="https://git.example/runbooks")
    for dashboard in linked.values():
        links = {link["title"]: link.get("url") for link in dashboard["links"]}
        assert links["Runbooks"] == "https://git.example/runbooks"
        assert links["Live page"].startswith("https://funnels.example/#")
    (page,) = [link["url"] for link in linked["funnel"]["links"] if link["title"] == "Live page"]
    assert filled(page, {"funnel": "purchase", "window": "5m", "basis": "users", "dimension": "device"}).endswith(
        "#window.purchase=5m&basis.purchase=users&by.purchase=device"
    )


def test_a_folder_of_runbooks_that_is_no_url_is_named_and_not_linked() -> None:
    assert "Runbooks" not in {link["title"] for link in committed("pipeline")["links"]}
    assert "deploy/runbooks" in committed("pipeline")["description"]


# The command


@WITH_SDK
def test_the_command_writes_what_is_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["dashboards", "--config", str(REFERENCE), "--out", str(tmp_path / "new")]) == 0
    assert {one.name: one.read_text("utf-8") for one in (tmp_path / "new").iterdir()} == {
        f"{name}.json": (FOLDER / f"{name}.json").read_text("utf-8") for name in NAMES
    }
    assert "overview.json" in capsys.readouterr().out


@WITH_SDK
def test_a_folder_that_is_a_file_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["dashboards", "--config", str(REFERENCE), "--out", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_without_the_sdk_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("grafana_foundation_sdk", "streams.dashboards"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("streams.dashboards", raising=False)
    monkeypatch.setitem(sys.modules, "grafana_foundation_sdk", None)
    monkeypatch.setitem(sys.modules, "grafana_foundation_sdk.builders", None)
    assert run(["dashboards", "--config", str(REFERENCE), "--out", str(tmp_path)]) == 2
    assert "pip install 'funnelwatch[grafana]'" in capsys.readouterr().err
