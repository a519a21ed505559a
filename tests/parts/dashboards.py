"""Dashboards as Grafana reads them: their panels, the queries of these, and what a query looks at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
NAMES = ("overview", "funnel", "pipeline")
RANGES = {"__rate_interval": "1m", "__interval": "30s", "__range": "3h"}
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A query of a panel."""

    panel: str
    expr: str

    def __str__(self) -> str:
        return f"{self.panel}: {self.expr}"


def committed(name: str) -> Json:
    found: Json = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return found


def panels(dashboard: Json) -> list[Json]:
    """All but rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(dashboard: Json) -> list[Asked]:
    return [Asked(panel["title"], target["expr"]) for panel in panels(dashboard) for target in panel["targets"]]


def annotations(dashboard: Json) -> list[Asked]:
    return [Asked(one["name"], one["expr"]) for one in dashboard["annotations"]["list"]]


def variables(dashboard: Json) -> dict[str, Json]:
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def filled(text: str, values: Mapping[str, str]) -> str:
    """With the values of variables; one that is not given is an error."""
    return VARIABLE.sub(lambda found: {**RANGES, **values}[found[1] or found[2]], text)


def parsed(expr: str) -> Any:
    """The syntax tree, each variable standing for itself where it may, for a length of time where it must."""
    return promql_parser.parse(VARIABLE.sub(lambda found: RANGES.get(found[1] or found[2], found[0]), expr))


def nodes(node: Any, parents: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every node with those it is in, the nearest last."""
    yield node, parents
    for name in ("lhs", "rhs", "expr", "args", "vector_selector"):
        below = getattr(node, name, None)
        for one in below if isinstance(below, list) else [below] if below is not None else []:
            yield from nodes(one, (*parents, node))


def selectors(expr: str) -> list[tuple[Any, tuple[Any, ...]]]:
    """What it reads, each with what is done to it."""
    return [(node, parents) for node, parents in nodes(parsed(expr)) if isinstance(node, promql_parser.VectorSelector)]


def matchers(selector: Any) -> dict[str, tuple[str, str]]:
    """Label -> operator and value."""
    return {one.name: (str(one.op).removeprefix("MatchOp."), one.value) for one in selector.matchers.matchers}
