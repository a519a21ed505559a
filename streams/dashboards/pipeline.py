"""[pure] The pipeline's health: is everything counted, how far behind, and does everybody who should learn of it."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from streams.dashboards.frame import Addresses, datasource, framed, job, several, with_variables
from streams.dashboards.panels import (
    COUNT,
    GREEN,
    GREY,
    PER_SECOND,
    PLAIN,
    RATE,
    RED,
    SECONDS,
    STATES,
    YELLOW,
    number,
    over_time,
    states,
)

OF_ALL = 'job=~"$job", instance=~"$instance"'
OF = f'{OF_ALL}, source=~"$source"'
PARTITION, OF_PARTITION = "source, partition", "{{source}} {{partition}}"
HOLDS = (("follows", GREY), ("holds the lease", GREEN))


def pipeline(addresses: Addresses) -> build.Dashboard:
    says = f"What keeps counts from being right, current, or told. Each alert has a runbook: {addresses.runbooks}."
    board = framed("pipeline", "Funnels: pipeline health", says, addresses)
    instances = several("instance", "Instance", 'label_values(funnelwatch_build_info{job=~"$job"}, instance)')
    sources = several("source", "Source", 'label_values(funnel_records_gone_total{job=~"$job"}, source)')
    with_variables(board, [datasource(), job(), instances, sources])
    _now(board.with_row(build.Row("Is it working")))
    _intake(board.with_row(build.Row("Intake")))
    _ledger(board.with_row(build.Row("Ledger")))
    _told(board.with_row(build.Row("Alerts and notifications")))
    _workers(board.with_row(build.Row("Workers")))
    return board


def flow(metric: str, by: str = "", of: str = OF, extra: str = "") -> str:
    """Per second, summed over workers."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{extra}{of}}}[$__rate_interval]))"


def per_partition(metric: str) -> str:
    return f"max by ({PARTITION}) ({metric}{{{OF}}})"


AGE = f"time() - {per_partition('funnel_watermark_timestamp_seconds')}"
REJECTED = flow("funnel_records_total", extra='fate="rejected", ')


def _now(board: build.Dashboard) -> None:
    held = f"sum(funnelwatch_lease_held{{{OF_ALL}}})"
    lost = flow("funnel_notifications_total", of=OF_ALL, extra='outcome=~"refused|retried", ')
    for panel in (
        number("Workers", "Workers that Prometheus can scrape.", COUNT, f"sum(up{{{OF_ALL}}})", span=3),
        number("Lease holders", "Exactly one evaluates rules and serves the ledger's metrics: FunnelwatchNoLeaseHolder.", COUNT, held, [(2, RED)], 3),
        number("Newest event", "Its age, where it is oldest: FunnelwatchWatermarkStale.", SECONDS, f"max({AGE})", [(60, YELLOW), (300, RED)], 3),
        number("Lag", "Records that wait to be counted: FunnelwatchLagGrowing.", COUNT, f"sum({per_partition('funnel_lag_records')})", span=3),
        number("Records", "Records taken per second.", PER_SECOND, flow("funnel_records_total"), span=3),
        number(
            "Rejected", "Share of the records: FunnelwatchRejects.", RATE, f"{REJECTED} / ({flow('funnel_records_total')} > 0)",
            [(0.01, YELLOW), (0.05, RED)], 3, empty="none",
        ),
        number(
            "Audit difference", "0, or counts are wrong: FunnelwatchAuditDifference. Nothing is audited unless it is asked for.", COUNT,
            f"max(funnel_audit_difference{{{OF}}})", [(1, RED)], 3, empty="not audited",
        ),
        number("Failed notifications", "Refused or put off, per second: FunnelwatchNotificationsFailing.", PER_SECOND, lost, [(0.001, YELLOW)], 3, empty="none"),
    ):  # fmt: skip
        board.with_panel(panel)


def _intake(board: build.Dashboard) -> None:
    by_reason = flow("funnel_records_total", "source, reason", extra='fate="rejected", ')
    for panel in (
        over_time("Records by fate", "Applied, filtered, late, duplicate, rejected: they add up to what was consumed.", PER_SECOND, [(flow("funnel_records_total", "source, fate"), "{{source}} {{fate}}")]),
        over_time("Rejects by reason", "The dead-letter topic has each of them, with the reason in its headers.", PER_SECOND, [(by_reason, "{{source}} {{reason}}")]),
        over_time("Lag by partition", "Records that wait to be counted.", COUNT, [(per_partition("funnel_lag_records"), OF_PARTITION)]),
        over_time("Age of the newest event", "By partition; it grows when nothing is produced, too.", SECONDS, [(AGE, OF_PARTITION)]),
        over_time("Time without progress", "Since a chunk was applied, while there is lag: FunnelwatchNoProgress.", SECONDS, [(per_partition("funnel_progress_seconds"), OF_PARTITION)]),
        over_time(
            "Room before retention", "Records that the topic still keeps before the reader's position. Near 0 with lag, records will be lost: FunnelwatchRetention.",
            COUNT, [(per_partition("funnel_retention_headroom_records"), OF_PARTITION)],
        ),
        over_time("Records lost to retention", "They left the topic before they were counted: FunnelwatchRecordsGone.", PER_SECOND, [(flow("funnel_records_gone_total", "source"), "{{source}}")]),
        over_time("Dead letters written", "By reason; each rejected record is written at least once.", PER_SECOND, [(flow("funnel_dead_letters_total", "source, reason"), "{{source}} {{reason}}")]),
    ):  # fmt: skip
        board.with_panel(panel)


def _ledger(board: build.Dashboard) -> None:
    buckets = flow("funnel_apply_seconds_bucket", "le", OF_ALL)
    quantiles = [(f"histogram_quantile({share}, {buckets})", name) for share, name in ((0.5, "p50"), (0.99, "p99"))]
    for panel in (
        over_time("Time to apply a chunk", "Over 100 ms Redis is slow or far: FunnelwatchLedgerSlow.", SECONDS, quantiles, 8),
        over_time("Chunks applied", "By worker.", PER_SECOND, [(flow("funnel_apply_seconds_count", "instance", OF_ALL), "{{instance}}")], 8),
        over_time(
            "Claims lost", "Partitions that had to be claimed anew, by kind; some at a rebalance: FunnelwatchLedgerConflicts.", PER_SECOND,
            [(flow("funnel_ledger_conflicts_total", "kind", OF_ALL), "{{kind}}")], 8,
        ),
        over_time("Audited records", "Records whose counts were worked out twice.", PER_SECOND, [(flow("funnel_audit_events_total", "source"), "{{source}}")]),
        over_time(
            "Incomplete windows", "1 while a window reaches back to before its funnel was counted as it is defined now: FunnelwatchWindowsIncomplete.", PLAIN,
            [(f"max by (funnel, window) (funnel_window_incomplete{{{OF_ALL}}})", "{{funnel}} {{window}}")],
        ),
    ):  # fmt: skip
        board.with_panel(panel)


def _told(board: build.Dashboard) -> None:
    alerts = f"max by (rule, dimension, value) (funnel_alert_state{{{OF_ALL}}})"
    flaps = f"max by (rule, dimension, value) (funnel_alert_flaps{{{OF_ALL}}})"
    name = "{{rule}} {{dimension}} {{value}}"
    board.with_panel(states("Rules", "Where each rule stands; FunnelwatchPipeline is that of a source.", alerts, name, STATES))
    says = "Delivered, retried, refused, limited (held back, to be told together)."
    board.with_panel(
        over_time(
            "Notifications", says, PER_SECOND, [(flow("funnel_notifications_total", "channel, outcome", OF_ALL), "{{channel}} {{outcome}}")]
        )
    )
    says = "How often each rule began to fire in the last 24 h. Over a few: give it a recovery further from its threshold."
    board.with_panel(over_time("Flaps", says, COUNT, [(flaps, name)]))


def _workers(board: build.Dashboard) -> None:
    board.with_panel(states("Lease", "Who holds it.", f"max by (instance) (funnelwatch_lease_held{{{OF_ALL}}})", "{{instance}}", HOLDS, 6))
    says = "Workers by version; two at once while a deploy is under way."
    board.with_panel(over_time("Versions", says, COUNT, [(f"count by (version) (funnelwatch_build_info{{{OF_ALL}}})", "{{version}}")], 6))
    says = "Pages that follow the stream of a worker, and how many a second it let go for being too slow."
    clients = [
        (f"sum by (instance) (funnel_stream_clients{{{OF_ALL}}})", "{{instance}}"),
        (flow("funnel_stream_dropped_total", "instance", OF_ALL), "{{instance}} let go /s"),
    ]
    board.with_panel(over_time("Pages that follow", says, COUNT, clients, 6))
    says = "Connections and requests let go for being too slow, too many or no HTTP, so that counting has its time; by reason."
    board.with_panel(over_time("Let go", says, PER_SECOND, [(flow("funnel_http_let_go_total", "reason", OF_ALL), "{{reason}}")], 6))
