"""[pure] Panels of one look: title, description, unit and data source always; colours by what is good and bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus as query
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from schemas.config import Config
from streams.dashboards.frame import SOURCE

RATE, COUNT, SECONDS, PER_SECOND, PLAIN = "percentunit", "short", "s", "cps", "none"
GREEN, YELLOW, RED, GREY, PURPLE, BLUE = "green", "yellow", "red", "#808080", "purple", "blue"
STATES = (("quiet", GREEN), ("pending", YELLOW), ("fires", RED), ("no data", GREY), ("stale", PURPLE))
Steps: TypeAlias = Sequence[tuple[float, str]]  # from a value on, a colour; what is less is green

P = TypeVar("P", timeseries.Panel, stat.Panel, bargauge.Panel, table.Panel, statetimeline.Panel)


def asked(expr: str, legend: str = "", ref: str = "A", *, now: bool = False) -> query.Dataquery:
    """A query; `now`: its newest values alone."""
    made = query.Dataquery().expr(expr).legend_format(legend or "__auto").ref_id(ref).datasource(SOURCE)
    return made.instant() if now else made.range()


def over_time(title: str, says: str, unit: str, queries: Sequence[tuple[str, str]], span: int = 12) -> timeseries.Panel:
    """Lines; `queries` are expressions, each with the legend of its series."""
    panel = _dressed(timeseries.Panel(), title, says, unit, span, 8)
    for number, (expr, legend) in enumerate(queries):
        panel.with_target(asked(expr, legend, chr(ord("A") + number)))
    legends = common.VizLegendOptions().display_mode(look.LegendDisplayMode.LIST).placement(look.LegendPlacement.BOTTOM).show_legend(True)
    tooltip = common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING)
    return panel.legend(legends).tooltip(tooltip).fill_opacity(5).show_points(look.VisibilityMode.NEVER).min(0)


def number(title: str, says: str, unit: str, expr: str, steps: Steps = (), span: int = 4, *, empty: str = "–") -> stat.Panel:
    """One number now, with its colour."""
    panel = _dressed(stat.Panel(), title, says, unit, span, 4).with_target(asked(expr)).no_value(empty)
    return panel.reduce_options(_last()).thresholds(thresholds(steps)).graph_mode(look.BigValueGraphMode.AREA)


def bars(title: str, says: str, unit: str, expr: str, legend: str, span: int = 8) -> bargauge.Panel:
    """The newest values side by side."""
    panel = _dressed(bargauge.Panel(), title, says, unit, span, 8).with_target(asked(expr, legend, now=True))
    return panel.reduce_options(_last()).orientation(look.VizOrientation.HORIZONTAL).display_mode(look.BarGaugeDisplayMode.BASIC).min(0)


def states(title: str, says: str, expr: str, legend: str, shown: Sequence[tuple[str, str]], span: int = 24) -> statetimeline.Panel:
    """Which state each series was in, as words and colours; the state is the place in `shown`."""
    mapped = {str(value): model.ValueMappingResult(text=text, color=color, index=value) for value, (text, color) in enumerate(shown)}
    panel = _dressed(statetimeline.Panel(), title, says, PLAIN, span, 8).with_target(asked(expr, legend))
    return panel.mappings([model.ValueMap(mapped)]).show_value(look.VisibilityMode.NEVER).merge_values(True)


def rates_table(title: str, says: str, parts: Mapping[str, str], renamed: Mapping[str, str], first: str, span: int = 12) -> table.Panel:
    """Columns of instant queries whose series have the same labels: `parts` by ref, named in `renamed` (as `Value #A`)."""
    panel = _dressed(table.Panel(), title, says, COUNT, span, 8)
    for ref, expr in parts.items():
        panel.with_target(asked(expr, "", ref, now=True).format(PromQueryFormat.TABLE))
    hidden = {"Time": True}
    panel.with_transformation(model.DataTransformerConfig("merge", options={}))
    panel.with_transformation(model.DataTransformerConfig("organize", options={"excludeByName": hidden, "renameByName": dict(renamed)}))
    percent = [model.DynamicConfigValue("unit", RATE), model.DynamicConfigValue("decimals", 1)]
    return panel.override_by_name("rate", percent).sort_by([common.TableSortByFieldState().display_name(first).desc(True)])


def thresholds(steps: Steps, below: str = GREEN) -> build.ThresholdsConfig:
    found = [model.Threshold(None, below), *(model.Threshold(value, color) for value, color in steps)]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(found)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _dressed(panel: P, title: str, says: str, unit: str, span: int, height: int) -> P:
    return panel.title(title).description(says).unit(unit).span(span).height(height).datasource(SOURCE)


# Targets


def step_name(before: str, stage: str, funnel: str = "") -> str:
    """How a step is named in legends."""
    return f"{funnel}: {before} → {stage}" if funnel else f"{before} → {stage}"


Targeted = TypeVar("Targeted", timeseries.Panel, bargauge.Panel, stat.Panel)


def with_targets(panel: Targeted, config: Config, only: str = "", *, lines: bool = False) -> Targeted:
    """Colour each step by its own target: green from it on, yellow from the benchmark on where that is lower, else red.

    `only` one funnel, whose steps are then named without it. `lines`: the target is drawn, too.
    """
    panel.thresholds(thresholds((), BLUE))  # of a step without a target
    for funnel in config.funnels:
        if only and funnel.name != only:
            continue
        for before, stage in zip(funnel.stages, funnel.stages[1:]):
            if stage.target is None:
                continue
            properties = [model.DynamicConfigValue("thresholds", _against(stage.target, stage.benchmark))]
            if lines:
                properties.append(model.DynamicConfigValue("custom.thresholdsStyle", {"mode": "dashed"}))
            panel.override_by_name(step_name(before.name, stage.name, "" if only else funnel.name), properties)
    return panel


def _against(target: float, benchmark: float | None) -> dict[str, object]:
    steps: list[dict[str, object]] = [{"color": RED, "value": None}]
    if benchmark is not None and benchmark < target:
        steps.append({"color": YELLOW, "value": benchmark})
    return {"mode": "absolute", "steps": [*steps, {"color": GREEN, "value": target}]}
