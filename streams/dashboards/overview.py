"""[pure] The first dashboard: is anything wrong, and how does every funnel do."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from schemas.config import Config
from schemas.funnel import Funnel
from streams.dashboards.frame import OF_JOB, Addresses, basis, datasource, framed, job, one_of, with_variables
from streams.dashboards.panels import (
    COUNT,
    PER_SECOND,
    RATE,
    RED,
    SECONDS,
    STATES,
    YELLOW,
    bars,
    number,
    over_time,
    states,
    with_targets,
)

ALERTS = f"max by (rule, dimension, value) (funnel_alert_state{{{OF_JOB}}})"
STEP = "{{from_stage}} → {{stage}}"


def overview(config: Config, addresses: Addresses) -> build.Dashboard:
    board = framed("overview", "Funnels: overview", "Every funnel's steps against their targets, and whether anything is wrong.", addresses)
    window = str(config.windows_of(config.funnels[0])[0])
    variables = [datasource(), job(), one_of("window", "Window", f"label_values(funnel_stage_users{{{OF_JOB}}}, window)", window), basis()]
    with_variables(board, variables)
    _now(board.with_row(build.Row("Now")))
    for funnel in config.funnels:
        _steps(board.with_row(build.Row(funnel.title or funnel.name)), config, funnel)
    board.with_row(build.Row("Alerts"))
    says = "Where each rule stands, in total and by value. What fires stays so while data are missing."
    return board.with_panel(states("Rules", says, ALERTS, "{{rule}} {{dimension}} {{value}}", STATES))


def _now(board: build.Dashboard) -> None:
    age = f"max(time() - max by (source, partition) (funnel_watermark_timestamp_seconds{{{OF_JOB}}}))"
    rejected, every = (f"sum(rate(funnel_records_total{{{extra}{OF_JOB}}}[$__rate_interval]))" for extra in ('fate="rejected", ', ""))
    board.with_panel(
        number("Alerts firing", "Rules that fire, each value of a dimension for itself.", COUNT, f"sum({ALERTS} == bool 2)", [(1, RED)])
    )
    says = "Rules that cannot be judged, since nothing comes or counting is behind: see the dashboard of the pipeline."
    board.with_panel(number("Rules without data", says, COUNT, f"sum({ALERTS} >= bool 3)", [(1, YELLOW)]))
    says = "Age of the newest event counted, on the partition where it is oldest. It grows, too, when nothing is produced."
    board.with_panel(number("Newest event", says, SECONDS, age, [(60, YELLOW), (300, RED)]))
    board.with_panel(number("Records", "Records taken per second, whatever became of them.", PER_SECOND, every))
    says = "Share of the records that are rejected; the dead-letter topic has them."
    board.with_panel(number("Rejected", says, RATE, f"{rejected} / ({every} > 0)", [(0.01, YELLOW), (0.05, RED)], empty="none"))
    says = "Windows that reach back to before their funnel was counted as it is defined now: their counts are too low."
    incomplete = f"sum(max by (funnel, window) (funnel_window_incomplete{{{OF_JOB}}}))"
    board.with_panel(number("Incomplete windows", says, COUNT, incomplete, [(1, YELLOW)]))


def _steps(board: build.Dashboard, config: Config, funnel: Funnel) -> None:
    of = f'funnel="{funnel.name}", window="$window", dimension="", {OF_JOB}'
    rate = f'max by (from_stage, stage) (funnel_conversion_ratio{{basis="$basis", {of}}})'
    link = build.DashboardLink("Open by dimension").url(
        f"/d/funnelwatch-funnel?var-funnel={funnel.name}&${{__url_time_range}}&${{window:queryparam}}"
    )
    says = "Rate of each step in the window. Green: at its target or over. On the basis adjusted it appears once there is history enough."
    steps = bars(f"{funnel.name}: steps", says, RATE, rate, STEP)
    board.with_panel(with_targets(steps.max(1), config, funnel.name).links([link]))
    says = "The same over time; dashed: a step's target."
    lines = over_time(f"{funnel.name}: steps over time", says, RATE, [(rate, STEP)], 10)
    board.with_panel(with_targets(lines, config, funnel.name, lines=True))
    says = "Distinct people who reached each stage within the window."
    board.with_panel(over_time(f"{funnel.name}: people", says, COUNT, [(f"max by (stage) (funnel_stage_users{{{of}}})", "{{stage}}")], 6))
