"""[pure] Alerts on the pipeline itself for Prometheus: what keeps counts from being right, current, or told.

Each is about the deployment whose workers are scraped under one `job`. What concerns a source carries it as
the alert's dimension and value, as FunnelwatchPipeline does: the label `source` says who alerts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alerting.message import DEAD_MAN
from alerting.prometheus_text import SOURCE
from alerting.promql import quoted

JOB = "funnelwatch"
RUNBOOKS = "deploy/runbooks"
LEAK = "FunnelLeak"  # the runbook of every rule of a config that names none
OF_SOURCE = {"dimension": "source", "value": "{{ $labels.source }}"}
_LABEL = re.compile(r"{{ \$labels\.(\w+) }}")

LAG, RATE = "source:funnel_lag_records:sum", "source:funnel_records:rate5m"
REJECTED, AGE = "source:funnel_records_rejected:ratio_rate5m", "source_partition:funnel_watermark_age_seconds:max"
RECORDED: Mapping[str, str] = {
    LAG: "sum by (source) (max by (source, partition) (funnel_lag_records))",
    RATE: "sum by (source) (rate(funnel_records_total[5m]))",
    REJECTED: f'sum by (source) (rate(funnel_records_total{{fate="rejected"}}[5m])) / ({RATE} > 0)',
    AGE: "time() - max by (source, partition) (funnel_watermark_timestamp_seconds)",
}
_LAGS, _HEADROOM = (f"max by (source, partition) ({name})" for name in ("funnel_lag_records", "funnel_retention_headroom_records"))


@dataclass(frozen=True)
class HealthAlert:
    """One alert; `expr` may hold `JOB`, a matcher of the workers' job. Texts may name the labels of what it finds."""

    name: str
    expr: str
    lasting: str
    severity: str
    summary: str
    description: str
    labels: Mapping[str, str]

    def rule(self, job: str, runbooks: str) -> dict[str, Any]:
        """As Prometheus takes it."""
        return {
            "alert": self.name,
            "expr": self.expr.replace("JOB", f"job={quoted(job)}"),
            **({"for": self.lasting} if self.lasting != "0s" else {}),
            "labels": {"severity": self.severity, "source": SOURCE, **self.labels},
            "annotations": {"summary": self.summary, "description": self.description, "runbook_url": runbook(runbooks, self.name)},
        }

    def told(self, found: Mapping[str, str], runbooks: str) -> dict[str, Any]:
        """Labels and annotations of the alert where its expression finds a series with these labels."""

        def filled(text: str) -> str:
            return _LABEL.sub(lambda label: found.get(label[1], ""), text)

        own = {name: filled(text) for name, text in self.labels.items()}
        return {
            "exp_labels": {**found, "severity": self.severity, "source": SOURCE, **own},
            "exp_annotations": {
                "summary": filled(self.summary),
                "description": filled(self.description),
                "runbook_url": runbook(runbooks, self.name),
            },
        }


ALERTS = (
    HealthAlert(
        "FunnelwatchWorkerDown", "up{JOB} == 0", "2m", "warning",
        "Worker {{ $labels.instance }} does not answer",
        "Prometheus cannot scrape it. Its partitions go to the others after the session timeout; without others nothing is counted.", {},
    ),
    HealthAlert(
        "FunnelwatchNoLeaseHolder", "(sum(funnelwatch_lease_held{JOB}) or vector(0)) != 1", "1m", "page",
        "No worker, or more than one, holds the lease: rules are not judged",
        "Exactly one worker evaluates rules, sends notifications and serves the ledger's metrics. Counting goes on without.", {},
    ),
    HealthAlert(
        "FunnelwatchLagGrowing", f"deriv({LAG}[10m]) > 0\nand {LAG} > 60 * {RATE}", "10m", "warning",
        "Source {{ $labels.source }}: records come faster than they are counted",
        "More than a minute's worth of records waits, and the number grows. Rates are behind by as much.", OF_SOURCE,
    ),
    HealthAlert(
        "FunnelwatchNoProgress", "max by (source, partition) (funnel_progress_seconds) > 60", "1m", "page",
        "Source {{ $labels.source }}, partition {{ $labels.partition }}: records wait and none is counted",
        "No chunk of the partition was applied for over a minute, though it has lag. Its people are missing from every rate.", OF_SOURCE,
    ),
    HealthAlert(
        "FunnelwatchWatermarkStale", f"{AGE} > 300\nand on (source, partition) {_LAGS} > 0", "5m", "warning",
        "Source {{ $labels.source }}, partition {{ $labels.partition }}: what is counted is over five minutes old",
        "Records wait, and the newest event that was counted is old: rates are of the past, and rules wait for it to catch up.", OF_SOURCE,
    ),
    HealthAlert(
        "FunnelwatchLedgerConflicts",
        'sum by (kind) (increase(funnel_ledger_conflicts_total{kind!~"backfill|corrupt|halted"}[10m])) > 5\n'
        'or sum by (kind) (increase(funnel_ledger_conflicts_total{kind=~"corrupt|halted"}[10m])) > 0',
        "1m", "warning",
        "Partitions are claimed anew again and again ({{ $labels.kind }})",
        "Counts stay right, but counting stops while a partition is claimed; a halted one is not counted at all.", {},
    ),
    HealthAlert(
        "FunnelwatchLedgerSlow", "histogram_quantile(0.99, sum by (le) (rate(funnel_apply_seconds_bucket[5m]))) > 1", "10m", "warning",
        "Redis takes over 1 s for one chunk in a hundred",
        "Chunks are cut to what it does in half a second, and it is sent one at a time: a slow ledger bounds how fast records are counted.", {},
    ),
    HealthAlert(
        "FunnelwatchRejects", f"{REJECTED} > 0.05", "10m", "warning",
        "Source {{ $labels.source }}: over 5% of its records are rejected",
        "They are not counted; each is in the dead-letter topic with its reason.", OF_SOURCE,
    ),
    HealthAlert(
        "FunnelwatchRetention", f"{_HEADROOM} < 0.1 * ({_HEADROOM} + {_LAGS})\nand {_LAGS} > 0", "10m", "page",
        "Source {{ $labels.source }}, partition {{ $labels.partition }}: retention is about to delete what is not counted yet",
        "The reader stands in the oldest tenth of what the topic keeps. What is deleted before it is counted is lost.", OF_SOURCE,
    ),
    HealthAlert(
        "FunnelwatchRecordsGone", "sum by (source) (increase(funnel_records_gone_total[1h])) > 0", "0s", "warning",
        "Source {{ $labels.source }}: records left the topic before they were counted",
        "They are lost to every count; the windows they belong to are incomplete.", OF_SOURCE,
    ),
    HealthAlert(
        "FunnelwatchWindowsIncomplete", "max by (funnel) (funnel_window_incomplete) == 1", "10m", "info",
        "Funnel {{ $labels.funnel }}: a window reaches back to before it was counted",
        "Its definition changed, the topic began later than the window, or records were gone: until the window has passed, counts are too low.",
        {},
    ),
    HealthAlert(
        "FunnelwatchNotificationsFailing",
        'sum by (channel) (increase(funnel_notifications_total{outcome="refused"}[15m])) > 0\n'
        'or (sum by (channel) (increase(funnel_notifications_total{outcome="retried"}[15m])) > 0\n'
        '  unless sum by (channel) (increase(funnel_notifications_total{outcome="delivered"}[15m])) > 0)',
        "1m", "page",
        "Channel {{ $labels.channel }} does not take notifications",
        "Somebody may not learn of a leak. What was refused, or tried for a day, is among the dead letters.", {},
    ),
    HealthAlert(
        "FunnelwatchAuditDifference", "max by (source) (funnel_audit_difference) != 0", "0s", "page",
        "Source {{ $labels.source }}: counts differ from an independent recount",
        "Of the people whose counts are worked out twice, some differ. Do not rely on the source's counts until it is known why.", OF_SOURCE,
    ),
    HealthAlert(
        DEAD_MAN, "sum(max_over_time(funnelwatch_lease_held{JOB}[2m])) >= 1", "0s", "none",
        "funnelwatch is alive, as Prometheus sees it",
        "This always fires. When it stops coming, nobody watches the funnels, or nobody would be told: have its absence wake somebody.",
        {"via": "prometheus"},
    ),
)  # fmt: skip


def runbook(runbooks: str, name: str) -> str:
    """The address of a runbook."""
    return f"{runbooks.rstrip('/')}/{name}.md"


def health_groups(job: str, runbooks: str) -> list[dict[str, Any]]:
    """Recording rules, and the alerts that go by them."""
    recorded = [{"record": name, "expr": expr} for name, expr in RECORDED.items()]
    alerts = [alert.rule(job, runbooks) for alert in ALERTS]
    return [{"name": "funnelwatch health", "interval": "30s", "rules": [*recorded, *alerts]}]
