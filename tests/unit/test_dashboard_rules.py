"""The rules of Grafana's dashboard linter, on the dashboards that are committed: what it would say, without it."""

from __future__ import annotations

from typing import Any

import promql_parser
import pytest
import yaml

from tests.parts.dashboards import FOLDER, NAMES, Json, committed, matchers, panels, parsed, queries, selectors, variables

UNITS = {"percentunit", "short", "s", "cps", "none"}
EXCLUDED = yaml.safe_load((FOLDER / ".lint").read_text("utf-8"))["exclusions"]

pytestmark = pytest.mark.parametrize("name", NAMES)


def excluded(rule: str, dashboard: Json) -> bool:
    return any(entry["dashboard"] == dashboard["title"] for entry in EXCLUDED.get(rule, {}).get("entries", ()))


def test_the_data_source_is_a_variable(name: str) -> None:
    (found,) = [variable for variable in variables(committed(name)).values() if variable["type"] == "datasource"]
    assert (found["name"], found["label"], found["query"]) == ("datasource", "Data source", "prometheus")


@pytest.mark.parametrize("label", ["job", "instance"])
def test_job_and_instance_are_variables_of_any_number_of_values(name: str, label: str) -> None:
    dashboard = committed(name)
    if excluded(f"template-{label}-rule", dashboard):
        assert label not in variables(dashboard)
        return
    found = variables(dashboard)[label]
    assert (found["type"], found["datasource"]["uid"], found["label"]) == ("query", "${datasource}", label.title())
    assert found["multi"]
    assert found["includeAll"]
    assert found["allValue"] == ".+"


def test_variables_ask_for_labels_in_valid_promql_whenever_the_time_changes(name: str) -> None:
    for variable in variables(committed(name)).values():
        if variable["type"] == "query":
            assert variable["refresh"] == 2
            asked, _, label = variable["query"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
            assert isinstance(parsed(asked), promql_parser.VectorSelector)
            assert label.isidentifier()


def test_panels_have_the_data_source_a_title_a_description_and_a_unit(name: str) -> None:
    titles = [panel["title"] for panel in panels(committed(name))]
    assert len(titles) == len(set(titles))
    for panel in panels(committed(name)):
        assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} == {"${datasource}"}
        assert panel["title"]
        assert panel["description"].endswith((".", "?"))
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["targets"]


def test_nobody_edits_them_by_hand(name: str) -> None:
    assert committed(name)["editable"] is False


@pytest.mark.parametrize("label", ["job", "instance"])
def test_queries_are_of_the_job_and_instance_that_are_chosen(name: str, label: str) -> None:
    if excluded(f"target-{label}-rule", committed(name)):
        return
    for asked in queries(committed(name)):
        for selector, _ in selectors(asked.expr):
            assert matchers(selector).get(label) == ("Re", f"${label}"), str(asked)


def test_counters_are_rates_over_the_rate_interval(name: str) -> None:
    for asked in queries(committed(name)):
        for selector, parents in selectors(asked.expr):
            if selector.name.endswith(("_total", "_bucket", "_count", "_sum")):
                assert called(parents) == "rate", str(asked)
        assert asked.expr.count("[") == asked.expr.count("[$__rate_interval]"), str(asked)


def called(parents: tuple[Any, ...]) -> str | None:
    """The function over the range that the selector is in."""
    if len(parents) < 2 or not isinstance(parents[-1], promql_parser.MatrixSelector):
        return None
    return parents[-2].func.name if isinstance(parents[-2], promql_parser.Call) else None


def test_quantiles_of_histograms_keep_their_buckets(name: str) -> None:
    for asked in queries(committed(name)):
        for selector, parents in selectors(asked.expr):
            if selector.name.endswith("_bucket"):
                (summed,) = [one for one in parents if isinstance(one, promql_parser.AggregateExpr)]
                assert "le" in summed.modifier.labels, str(asked)


def test_every_exclusion_has_a_reason_and_is_of_a_dashboard_that_there_is(name: str) -> None:
    titles = {committed(one)["title"] for one in NAMES}
    for rule, of in EXCLUDED.items():
        assert of["reason"], rule
        assert {entry["dashboard"] for entry in of["entries"]} <= titles
