"""What Prometheus is told: every metric with its help, no rate where nobody was, one series a label."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from faust.types import TP
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from schemas.config import Config
from schemas.report import AlertState
from streams.collector import SourceReading
from streams.metrics import CONFLICTS, DEFINITIONS, OUTCOMES, Definition, WorkerMetrics, exposition
from streams.plan import Plan
from streams.retention import CONVERSIONS, ENTRIES
from streams.windows import EVENTS, USERS, VALUE, Cells, FunnelCounts, cell
from tests.parts.ledger_text import ledger_text

AT_US = 1_690_000_000_500_000
Labels = dict[str, str]


def counts(cells: Cells) -> FunnelCounts:
    """A funnel view, cart, pay whose counts are all of this moment."""
    stages: list[dict[str, Any]] = [
        {"name": "view", "event": "v"},
        {"name": "cart", "event": "c"},
        {"name": "pay", "event": "p", "value": "properties.amount"},
    ]
    funnel = {"name": "shop", "source": "web", "conversion_window": "60s", "windows": ["5m"], "stages": stages}
    funnel["dimensions"] = {"channel": "properties.channel"}
    config = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": [funnel]})
    found = FunnelCounts(Plan(config, config.sources[0]).funnels[0])
    found.add(10, AT_US // 10_000_000, cells)
    found.add_totals(cells)
    return found


def reading(cells: Cells | None = None, **changes: Any) -> SourceReading:
    given: dict[str, Any] = {"source": "web", "at_us": AT_US, "fates": {}, "gone": 0, "watermarks": {}}
    windows = {"shop": (("5m", 300), ("1m", 60))}
    return SourceReading(**given | changes, funnels={"shop": counts(cells or {})}, windows=windows)


def alert(state: str, dimension: str | None = None, value: str | None = None, data: str = "ok", flaps: int = 0) -> AlertState:
    now = datetime.now(timezone.utc)
    return AlertState(
        rule="Low", funnel="shop", stage="pay", dimension=dimension, value=value, state=state, since=now, at=now, data=data, flaps=flaps,
        numerator=1, denominator=2, rate=0.5, threshold=0.6, severity="page", window="5m",
    )  # fmt: skip


def name_of(definition: Definition) -> str:
    """A family's name, as the parser gives it."""
    return definition.name.removesuffix("_total") if definition.kind == "counter" else definition.name


def families(readings: list[SourceReading] | None = None, alerts: list[AlertState] | None = None) -> dict[str, Metric]:
    ledger = None if readings is None else ledger_text(readings, alerts or [])
    return parsed(exposition(WorkerMetrics("1.2.3"), ledger).decode())


def parsed(text: str) -> dict[str, Metric]:
    """Metrics by name, but for the `_created` that the client library puts beside counters and histograms."""
    return {metric.name: metric for metric in text_string_to_metric_families(text) if not metric.name.endswith("_created")}


def samples(found: dict[str, Metric], name: str, **labels: str) -> list[tuple[Labels, float]]:
    """Labels and value of every sample of that name with these labels."""
    every = [s for metric in found.values() for s in metric.samples if s.name == name]
    return [(s.labels, s.value) for s in every if labels.items() <= s.labels.items()]


def the_value(found: dict[str, Metric], name: str, **labels: str) -> float:
    ((_, value),) = samples(found, name, **labels)
    return value


TOTAL = {"dimension": "", "value": ""}
USED = {cell(USERS, 0): 8, cell(USERS, 1): 4, cell(USERS, 2): 6}


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_every_metric_is_exposed_with_its_kind_and_a_help_that_says_what_to_do(definition: Definition) -> None:
    found = families([reading()])[name_of(definition)]
    assert found.type == definition.kind
    assert found.documentation == definition.help
    assert all(sentence in definition.help for sentence in (definition.meaning, definition.action))
    assert ("lease holder" in definition.help) is (definition.of == "ledger")


def test_no_metric_is_exposed_that_is_not_defined() -> None:
    defined = {name_of(d) for d in DEFINITIONS}
    assert families([reading(USED)], [alert("firing")]).keys() == defined
    assert len(defined) == len(DEFINITIONS)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.name)
def test_names_follow_the_conventions(definition: Definition) -> None:
    assert definition.name.startswith(("funnel_", "funnelwatch_"))
    assert definition.name.endswith("_total") is (definition.kind == "counter")
    assert not {"user_id", "entity"} & set(definition.labels)


def test_who_does_not_hold_the_lease_says_nothing_of_the_ledger() -> None:
    assert families().keys() == {name_of(d) for d in DEFINITIONS if d.of == "worker"}


def test_users_are_told_by_stage_window_and_value() -> None:
    found = families([reading(USED | {cell(USERS, 0, "channel", "ads"): 3})])
    for window in ("5m", "1m"):
        at = {"funnel": "shop", "window": window}
        assert the_value(found, "funnel_stage_users", stage="cart", **TOTAL, **at) == 4
        assert the_value(found, "funnel_stage_users", stage="view", dimension="channel", value="ads", **at) == 3
    assert len(samples(found, "funnel_stage_users")) == 12


def test_a_rate_is_told_of_every_step_with_both_its_ends() -> None:
    found = families([reading(USED)])
    rates = {(labels["from_stage"], labels["stage"]): value for labels, value in samples(found, "funnel_conversion_ratio", window="5m")}
    assert rates == {("view", "cart"): 0.5, ("cart", "pay"): 1.5}
    assert {labels["basis"] for labels, _ in samples(found, "funnel_conversion_ratio")} == {"users"}


def test_a_rate_is_told_with_its_parts_on_every_basis() -> None:
    told = reading(USED)
    told.funnels["shop"].add(10, AT_US // 10_000_000 - 25, {cell(ENTRIES, 0): 8, cell(CONVERSIONS, 0): 6})  # finished by now
    found = families([told])
    for basis, numerator, denominator in (("users", 4, 8), ("entries", 6, 8)):
        at = {"stage": "cart", "window": "5m", "basis": basis, **TOTAL}
        assert the_value(found, "funnel_conversion_numerator", **at) == numerator
        assert the_value(found, "funnel_conversion_denominator", **at) == denominator
        assert the_value(found, "funnel_conversion_ratio", **at) == numerator / denominator
    keys = [
        {tuple(sorted(labels.items())) for labels, _ in samples(found, f"funnel_conversion_{part}")}
        for part in ("ratio", "numerator", "denominator")
    ]
    assert keys[0] == keys[1] == keys[2]


def test_a_window_that_reaches_back_to_before_its_funnel_was_counted_is_told() -> None:
    found = families([reading(USED, incomplete=lambda funnel: {"5m"} if funnel == "shop" else ())])
    told = {labels["window"]: value for labels, value in samples(found, "funnel_window_incomplete", funnel="shop")}
    assert told == {"5m": 1, "1m": 0}


def test_where_nobody_was_to_convert_there_is_no_rate_but_a_0_where_nobody_did() -> None:
    found = families([reading({cell(USERS, 0): 5, cell(USERS, 0, "channel", "ads"): 0, cell(USERS, 1, "channel", "ads"): 2})])
    rates = samples(found, "funnel_conversion_ratio", window="5m")
    assert [(labels["value"], labels["stage"], value) for labels, value in rates] == [("", "cart", 0), ("ads", "pay", 0)]


def test_totals_are_told_before_the_first_report_and_windows_are_not() -> None:
    found = families([reading({cell(EVENTS, 0): 9}, at_us=None)])
    assert the_value(found, "funnel_stage_reached_total", stage="view", **TOTAL) == 9
    assert samples(found, "funnel_stage_users") == []


def test_a_value_is_told_of_the_stages_that_have_one_in_its_own_unit() -> None:
    cells = {cell(VALUE, 2): 12_340_000, cell(VALUE, 2, "channel", "ads"): 2_500_000, cell(EVENTS, 2, "channel", "ads"): 1}
    found = samples(families([reading(cells)]), "funnel_stage_value_total")
    assert [(labels["stage"], labels["value"], value) for labels, value in found] == [("pay", "", 12.34), ("pay", "ads", 2.5)]


VALUES = ['say "hi"', "back\\slash", "größer 東京", "a=b,c{d}", "__none__", "__other__", " spaced "]


def test_any_value_of_a_dimension_is_read_back_as_it_was() -> None:
    found = families([reading({cell(USERS, 0, "channel", value): place for place, value in enumerate(VALUES, 1)})])
    read = samples(found, "funnel_stage_users", window="5m", stage="view", dimension="channel")
    assert {labels["value"]: value for labels, value in read} == {value: place for place, value in enumerate(VALUES, 1)}


def test_fates_are_told_with_the_reason_of_a_reject() -> None:
    found = families([reading(fates={"applied": 5, "late": 1, "rejected:bad_json": 2, "rejected:future": 3})])
    told = {(labels["fate"], labels["reason"]): value for labels, value in samples(found, "funnel_records_total", source="web")}
    assert told == {("applied", ""): 5, ("late", ""): 1, ("rejected", "bad_json"): 2, ("rejected", "future"): 3}


def test_watermarks_are_seconds_and_a_partition_without_events_has_none() -> None:
    found = families([reading(watermarks={0: AT_US, 1: -1})])
    assert [(labels["partition"], value) for labels, value in samples(found, "funnel_watermark_timestamp_seconds")] == [
        ("0", 1_690_000_000.5)
    ]


def test_records_gone_are_told_even_when_there_are_none() -> None:
    assert the_value(families([reading()]), "funnel_records_gone_total", source="web") == 0
    assert the_value(families([reading(gone=7)]), "funnel_records_gone_total", source="web") == 7


@pytest.mark.parametrize(
    ("state", "data", "number"),
    [
        ("inactive", "ok", 0),
        ("inactive", "low_sample", 0),
        ("pending", "ok", 1),
        ("firing", "ok", 2),
        ("recovering", "ok", 2),
        ("inactive", "no_data", 3),
        ("pending", "no_data", 3),
        ("inactive", "stale", 4),
        ("inactive", "error", 4),
        ("firing", "no_data", 2),  # what fires goes on firing
        ("recovering", "stale", 2),
    ],
)
def test_the_state_of_a_rule_is_a_number(state: str, data: str, number: int) -> None:
    found = families([], [alert(state, data=data), alert(state, "device", "ios", data)])
    assert [value for _, value in samples(found, "funnel_alert_state", rule="Low")] == [number, number]
    assert the_value(found, "funnel_alert_state", dimension="device", value="ios") == number


def test_how_often_a_rule_began_to_fire_is_told() -> None:
    assert the_value(families([], [alert("firing", flaps=7)]), "funnel_alert_flaps", rule="Low") == 7


def worker_samples(worker: WorkerMetrics, name: str) -> list[tuple[Labels, float]]:
    return samples(parsed(exposition(worker, None).decode()), name)


def test_a_worker_tells_where_its_partitions_stand_and_forgets_those_it_lost() -> None:
    worker = WorkerMetrics("1")
    worker.at(TP("clicks", 0), "web", 12, 3.5)
    worker.at(TP("clicks", 1), "web", 0, 99.0)
    assert worker_samples(worker, "funnel_lag_records") == [
        ({"source": "web", "partition": "0"}, 12),
        ({"source": "web", "partition": "1"}, 0),
    ]
    assert [value for _, value in worker_samples(worker, "funnel_progress_seconds")] == [3.5, 0], "without lag nothing is stuck"
    worker.forget(TP("clicks", 0))
    worker.forget(TP("clicks", 0))
    assert [labels["partition"] for labels, _ in worker_samples(worker, "funnel_lag_records")] == ["1"]
    assert [labels["partition"] for labels, _ in worker_samples(worker, "funnel_progress_seconds")] == ["1"]


def test_a_worker_counts_its_conflicts_notifications_and_dead_letters() -> None:
    worker = WorkerMetrics("1")
    worker.conflict("fenced")
    worker.conflict("fenced")
    worker.notification("oncall", "delivered")
    worker.dead_letters.labels("web", "bad_json").inc()
    told = {labels["kind"]: value for labels, value in worker_samples(worker, "funnel_ledger_conflicts_total")}
    assert told == dict.fromkeys(CONFLICTS, 0) | {"fenced": 2}
    assert worker_samples(worker, "funnel_notifications_total") == [({"channel": "oncall", "outcome": "delivered"}, 1)]
    assert worker_samples(worker, "funnel_dead_letters_total") == [({"source": "web", "reason": "bad_json"}, 1)]


def test_a_channel_is_told_of_from_the_beginning_so_that_the_first_failure_is_an_increase() -> None:
    worker = WorkerMetrics("1")
    worker.channels(["oncall"])
    assert {labels["outcome"]: value for labels, value in worker_samples(worker, "funnel_notifications_total")} == dict.fromkeys(
        OUTCOMES, 0
    )


def test_a_worker_tells_what_the_topic_still_keeps_before_its_position() -> None:
    worker = WorkerMetrics("1")
    worker.kept(TP("clicks", 0), "web", 12)
    worker.kept(TP("clicks", 1), "web", 0)
    worker.forget(TP("clicks", 0))
    assert worker_samples(worker, "funnel_retention_headroom_records") == [({"source": "web", "partition": "1"}, 0)]


def test_the_time_of_an_apply_is_a_histogram_with_a_bucket_at_the_alarm_of_its_help() -> None:
    worker = WorkerMetrics("1")
    worker.apply_seconds.observe(0.09)
    worker.apply_seconds.observe(0.11)
    assert {labels["le"]: value for labels, value in worker_samples(worker, "funnel_apply_seconds_bucket")}["0.1"] == 1
    assert worker_samples(worker, "funnel_apply_seconds_count") == [({}, 2)]


def test_the_build_says_its_version() -> None:
    assert worker_samples(WorkerMetrics("1.2.3"), "funnelwatch_build_info") == [({"version": "1.2.3"}, 1)]
