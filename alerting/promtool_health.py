"""[pure] Unit tests of the alerts on the pipeline and of what they are recorded from: each fires, and stays quiet.

A case is what is served for a while, a sample a minute in promtool's notation, and which series the
alert is then about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alerting.message import DEAD_MAN
from alerting.prometheus_health import AGE, ALERTS, LAG, RATE, REJECTED
from alerting.promql import quoted, selector

SAMPLE_SECONDS = 60
LASTS_SECONDS = 1200  # longer than any `for` and any range that an alert looks at, the hour of one apart
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """`found` has the labels of the series that the alert is about; none: it stays quiet."""

    alert: str
    what: str
    served: Sequence[tuple[str, Labels, str]]  # metric, labels, values
    found: Sequence[Labels] = ()


WEB = {"source": "web"}
PART = {"source": "web", "partition": "3"}
SAY = {"channel": "oncall"}
WORKERS = ({"instance": "a:6066"}, {"instance": "b:6066"})


def _held(first: str, second: str) -> tuple[tuple[str, Labels, str], ...]:
    return tuple(("funnelwatch_lease_held", {**worker, "job": "JOB"}, values) for worker, values in zip(WORKERS, (first, second)))


def _records(applied: str, rejected: str = "0+0x20") -> tuple[tuple[str, Labels, str], ...]:
    of = {"fate": "rejected", "reason": "bad_json"}
    return ("funnel_records_total", {**WEB, "fate": "applied"}, applied), ("funnel_records_total", {**WEB, **of}, rejected)


def _partition(lag: str, watermark: str = "0+60x20", headroom: str = "9000+0x20") -> tuple[tuple[str, Labels, str], ...]:
    return (
        ("funnel_lag_records", PART, lag),
        ("funnel_watermark_timestamp_seconds", PART, watermark),
        ("funnel_retention_headroom_records", PART, headroom),
    )


def _conflicts(kind: str, values: str) -> tuple[tuple[str, Labels, str], ...]:
    return (("funnel_ledger_conflicts_total", {"kind": kind}, values),)


def _applied(under_1_s: str, every: str) -> tuple[tuple[str, Labels, str], ...]:
    return tuple(
        ("funnel_apply_seconds_bucket", {"le": le}, values)
        for le, values in (("0.5", under_1_s), ("1.0", under_1_s), ("2.5", every), ("+Inf", every))
    )


def _sent(**outcomes: str) -> tuple[tuple[str, Labels, str], ...]:
    return tuple(("funnel_notifications_total", {**SAY, "outcome": outcome}, values) for outcome, values in outcomes.items())


CASES = (
    Case(
        "FunnelwatchWorkerDown", "fires for the worker that does not answer",
        [("up", {**WORKERS[0], "job": "JOB"}, "1+0x20"), ("up", {**WORKERS[1], "job": "JOB"}, "1 0+0x19")],
        [{**WORKERS[1], "job": "JOB"}],
    ),
    Case(
        "FunnelwatchWorkerDown", "stays quiet while all answer, whatever another job does",
        [("up", {**WORKERS[0], "job": "JOB"}, "1+0x20"), ("up", {"instance": "c", "job": "another"}, "0+0x20")],
    ),
    Case("FunnelwatchNoLeaseHolder", "fires without a holder", _held("0+0x20", "0+0x20"), [{}]),
    Case("FunnelwatchNoLeaseHolder", "fires with two", _held("1+0x20", "1+0x20"), [{}]),
    Case("FunnelwatchNoLeaseHolder", "fires when no worker is scraped", [], [{}]),
    Case("FunnelwatchNoLeaseHolder", "stays quiet when the lease changes hands", _held("1+0x9 0+0x10", "0+0x9 1+0x10")),
    Case(
        "FunnelwatchLagGrowing", "fires when over a minute's worth waits and more comes",
        [*_records("0+300x20"), *_partition("0+100x20")], [WEB],
    ),
    Case("FunnelwatchLagGrowing", "stays quiet while it shrinks", [*_records("0+300x20"), *_partition("90000-1000x20")]),
    Case("FunnelwatchLagGrowing", "stays quiet while less than a minute's worth waits", [*_records("0+30000x20"), *_partition("0+10x20")]),
    Case("FunnelwatchNoProgress", "fires after a minute", [("funnel_progress_seconds", PART, "0+60x20")], [PART]),
    Case("FunnelwatchNoProgress", "stays quiet while chunks come", [("funnel_progress_seconds", PART, "20+0x20")]),
    Case("FunnelwatchWatermarkStale", "fires when records wait and event time stands", _partition("5+0x20", watermark="0+0x20"), [PART]),
    Case("FunnelwatchWatermarkStale", "stays quiet when nothing waits", _partition("0+0x20", watermark="0+0x20")),
    Case("FunnelwatchWatermarkStale", "stays quiet while event time goes on", _partition("5+0x20")),
    Case("FunnelwatchLedgerConflicts", "fires when a claim is lost again and again", _conflicts("fenced", "0+1x20"), [{"kind": "fenced"}]),
    Case("FunnelwatchLedgerConflicts", "fires when a partition is halted", _conflicts("halted", "0+0x15 1+0x5"), [{"kind": "halted"}]),
    Case("FunnelwatchLedgerConflicts", "stays quiet after a rebalance", _conflicts("fenced", "0+0x15 2+0x5")),
    Case("FunnelwatchLedgerConflicts", "stays quiet while a backfill is begun", _conflicts("backfill", "0+3x20")),
    Case("FunnelwatchLedgerSlow", "fires when two chunks in a hundred take longer", _applied("0+98x20", "0+100x20"), [{}]),
    Case("FunnelwatchLedgerSlow", "stays quiet when one in a thousand does", _applied("0+999x20", "0+1000x20")),
    Case("FunnelwatchLedgerSlow", "stays quiet when nothing is applied", _applied("5+0x20", "9+0x20")),
    Case("FunnelwatchRejects", "fires at a tenth", _records("0+90x20", "0+10x20"), [WEB]),
    Case("FunnelwatchRejects", "stays quiet at a hundredth", _records("0+99x20", "0+1x20")),
    Case("FunnelwatchRejects", "stays quiet when nothing comes", _records("7+0x20", "3+0x20")),
    Case("FunnelwatchRetention", "fires in the oldest tenth of the log", _partition("9500+0x20", headroom="500-8x20"), [PART]),
    Case("FunnelwatchRetention", "stays quiet with room", _partition("9500+0x20")),
    Case("FunnelwatchRetention", "stays quiet when all is counted, however little is kept", _partition("0+0x20", headroom="0+0x20")),
    Case("FunnelwatchRecordsGone", "fires when some were", [("funnel_records_gone_total", WEB, "0+0x15 12+0x5")], [WEB]),
    Case("FunnelwatchRecordsGone", "stays quiet about those of the past", [("funnel_records_gone_total", WEB, "12+0x20")]),
    Case(
        "FunnelwatchWindowsIncomplete", "fires once for a funnel",
        [("funnel_window_incomplete", {"funnel": "purchase", "window": window}, "1+0x20") for window in ("1h", "24h")],
        [{"funnel": "purchase"}],
    ),
    Case(
        "FunnelwatchWindowsIncomplete", "stays quiet when the window has passed",
        [("funnel_window_incomplete", {"funnel": "purchase", "window": "5m"}, "1+0x5 0+0x14")],
    ),
    Case("FunnelwatchNotificationsFailing", "fires when one is given up", _sent(refused="0+0x15 1+0x5", delivered="0+1x20"), [SAY]),
    Case("FunnelwatchNotificationsFailing", "fires when none gets through", _sent(refused="0+0x20", delivered="3+0x20", retried="0+1x20"), [SAY]),
    Case("FunnelwatchNotificationsFailing", "stays quiet when a second try does", _sent(refused="0+0x20", delivered="0+1x20", retried="0+1x20")),
    Case("FunnelwatchAuditDifference", "fires", [("funnel_audit_difference", WEB, "0+0x15 3+0x5")], [WEB]),
    Case("FunnelwatchAuditDifference", "stays quiet while they agree", [("funnel_audit_difference", WEB, "0+0x20")]),
    Case(DEAD_MAN, "always fires", _held("1+0x20", "0+0x20"), [{}]),
    Case(DEAD_MAN, "goes on while the lease changes hands", _held("1+0x19 0", "0+0x20"), [{}]),
    Case(DEAD_MAN, "falls silent without a holder", _held("0+0x20", "0+0x20")),
    Case(DEAD_MAN, "falls silent when no worker is scraped", []),
)  # fmt: skip


def health_tests(job: str, runbooks: str) -> Iterator[dict[str, Any]]:
    """Every case, and one of the recording rules."""
    alerts = {alert.name: alert for alert in ALERTS}
    for case in CASES:
        told = [alerts[case.alert].told(_of_job(found, job), runbooks) for found in case.found]
        asked = {"eval_time": f"{LASTS_SECONDS}s", "alertname": case.alert, "exp_alerts": told}
        yield {**_test(f"{case.alert} {case.what}", case.served, job), "alert_rule_test": [asked]}
    served = [
        *_records("0+90x20", "0+30x20"),
        *_partition("40+0x20", watermark="0+60x20"),
        ("funnel_lag_records", {**WEB, "partition": "4"}, "2+0x20"),
    ]
    known = {LAG: (WEB, 42.0), RATE: (WEB, 2.0), REJECTED: (WEB, 0.25), AGE: (PART, 0.0)}
    queries = [_query(name, labels, value) for name, (labels, value) in known.items()]
    yield {**_test("what is recorded is right", served, job), "promql_expr_test": queries}
    queries = [{"expr": name, "eval_time": f"{LASTS_SECONDS}s", "exp_samples": []} for name in known]
    yield {**_test("nothing is recorded when nothing is served", [], job), "promql_expr_test": queries}


def _test(name: str, served: Sequence[tuple[str, Labels, str]], job: str) -> dict[str, Any]:
    series = [{"series": selector(metric, _of_job(labels, job)), "values": values} for metric, labels, values in served]
    return {"name": name, "interval": f"{SAMPLE_SECONDS}s", "input_series": series}


def _query(name: str, labels: Labels, value: float) -> dict[str, Any]:
    shown = ", ".join(f"{label}={quoted(text)}" for label, text in labels.items())
    return {"expr": name, "eval_time": f"{LASTS_SECONDS}s", "exp_samples": [{"labels": f"{name}{{{shown}}}", "value": value}]}


def _of_job(labels: Labels, job: str) -> dict[str, str]:
    return {name: job if value == "JOB" else value for name, value in labels.items()}
