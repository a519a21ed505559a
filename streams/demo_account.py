"""The demo's account: every number the service shows, held against a recount of what was produced."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.config import Config
from schemas.funnel import Funnel
from streams.client import Funnelwatch
from streams.recount import Cell, Recount, compare, recount

DEADLINE_SECONDS = 60.0
CALM_SECONDS = 5.0  # how long a difference may last once every record has been counted
POLL_SECONDS = 0.5
METRICS = {"funnel_stage_reached_total": "events", "funnel_stage_value_total": "value"}
REPORTED = ("users", "events", "value", "entries", "conversions")  # of a stage, in every window
NOT_SHOWN = frozenset({"reached", "entries", "conversions"})  # since ever: the service does not tell
TRANSITION_KEYS = {
    "at", "rule", "funnel", "stage", "dimension", "value", "state", "numerator", "denominator", "rate", "threshold",
}  # fmt: skip


@dataclass(frozen=True)
class Account:
    """How what was counted compares with what was produced."""

    produced: int
    applied: int
    lost: int
    duplicated: int
    funnels: Mapping[str, Any]


def settle(service: Funnelwatch, config: Config, source: str, records: list[tuple[bytes | None, bytes]]) -> Account:
    """Wait until everything produced is counted and agrees with the recount, or has had its time to."""
    truth = recount(config, source, records)
    expected = {cell: number for cell, number in truth.cells().items() if cell[-1] not in NOT_SHOWN}
    deadline = time.monotonic() + DEADLINE_SECONDS
    counted = False
    while True:
        got = observed(service, config, truth)
        lost, duplicated = compare(expected, got)
        if not counted and _consumed(got) >= len(records):
            counted, deadline = True, min(deadline, time.monotonic() + CALM_SECONDS)
        if (lost, duplicated) == (0, 0) or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    applied = int(got.get(("fate", source, "applied"), 0))
    return Account(len(records), applied, lost, duplicated, {f.name: _shown(got, config, f) for f in config.funnels})


def observed(service: Funnelwatch, config: Config, truth: Recount) -> dict[Cell, float]:
    """The service's side of the recount's cells: from its metrics and from its reports."""
    found: dict[Cell, float] = {}
    for name, labels, number in service.metrics():
        if name == "funnel_records_total" and labels["source"] == truth.source:
            fate: Cell = ("fate", truth.source, labels["fate"])
            found[fate] = found.get(fate, 0) + number
        elif name in METRICS:
            found[labels["funnel"], labels["stage"], labels["dimension"], labels["value"], METRICS[name]] = number
    for funnel in config.funnels_of(truth.source):
        for window in map(str, config.windows_of(funnel)):
            for dimension in ("", *funnel.dimensions):
                found |= _from_report(service.funnel(funnel.name, window, by=dimension or None).model_dump(mode="json"), dimension)
    return found


def transitions(service: Funnelwatch) -> list[dict[str, Any]]:
    """Every transition, oldest first, in the shape of a backtest line."""
    return [one.model_dump(mode="json", include=TRANSITION_KEYS) for one in reversed(service.alerts().transitions)]


def _from_report(report: Mapping[str, Any], dimension: str) -> dict[Cell, float]:
    splits = [(value["value"], value["stages"]) for value in report["values"]] if dimension else [("", report["stages"])]
    return {
        (report["name"], stage["name"], dimension, value, f"{measure} {report['window']}"): stage[measure]
        for value, stages in splits
        for stage in stages
        for measure in REPORTED
        if stage[measure] is not None  # the last stage has no conversions
    }


def _consumed(got: Mapping[Cell, float]) -> float:
    return sum(number for cell, number in got.items() if cell[0] == "fate")


def _shown(got: Mapping[Cell, float], config: Config, funnel: Funnel) -> dict[str, Any]:
    """A funnel of the final line, in the words of `replay --json`."""
    stages = []
    before: dict[str, float] = {}
    for stage in funnel.stages:
        users = {str(w): got.get((funnel.name, stage.name, "", "", f"users {w}"), 0) for w in config.windows_of(funnel)}
        windows = {w: {"users": n, "of": before.get(w), "rate": n / before[w] if before.get(w) else None} for w, n in users.items()}
        events, value = (got.get((funnel.name, stage.name, "", "", measure), 0) for measure in ("events", "value"))
        stages.append({"name": stage.name, "windows": windows, "events": int(events), "value": round(value, 6)})
        before = users
    return {"stages": stages}
