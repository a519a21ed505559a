"""Every Prometheus metric, defined once, each with what to do when it moves.

Two kinds. *Ledger* metrics are read from the ledger and served only by the worker that holds the
lease, so that `sum` and `max` over instances are both right. *Worker* metrics are each worker's own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from faust.types import TP
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


@dataclass(frozen=True)
class Definition:
    """A metric: its name, labels, what it means and what to do about it."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    action: str
    of: Literal["ledger", "worker"]

    @property
    def help(self) -> str:
        served = "Served by the lease holder only." if self.of == "ledger" else "Each worker's own."
        return f"{self.meaning} {served} {self.action}"


SPLIT = ("dimension", "value")
CONFLICTS = ("fenced", "mismatch", "corrupt", "nostate", "unavailable", "failed", "halted", "backfill")
LET_GO = ("slow", "crowded_out", "full", "deaf", "not_http", "too_many_requests", "too_many_of_one_address")
OUTCOMES = ("delivered", "retried", "refused", "limited")
DEFINITIONS = (
    Definition(
        "funnel_stage_users",
        "gauge",
        ("funnel", "stage", "window", *SPLIT),
        "Distinct entities that reached the stage within the trailing window; dimension and value are empty for the total.",
        "Falls with traffic; compare stages before looking for a fault.",
        "ledger",
    ),
    Definition(
        "funnel_conversion_ratio",
        "gauge",
        ("funnel", "stage", "from_stage", "window", "basis", *SPLIT),
        "Rate of the step into the stage, a fraction of 1; absent when nobody was there to convert; on basis users it can pass 1, "
        "on basis entries it is that of finished entries, on basis adjusted it is absent until there is enough history.",
        "When it falls below target, look which value of a dimension fell.",
        "ledger",
    ),
    Definition(
        "funnel_conversion_numerator",
        "gauge",
        ("funnel", "stage", "from_stage", "window", "basis", *SPLIT),
        "What funnel_conversion_ratio is of: users at the stage (users), conversions of finished entries (entries), conversions in "
        "the window (adjusted); there whenever the ratio is.",
        "Sum it and its denominator before dividing, never average ratios.",
        "ledger",
    ),
    Definition(
        "funnel_conversion_denominator",
        "gauge",
        ("funnel", "stage", "from_stage", "window", "basis", *SPLIT),
        "What funnel_conversion_ratio is out of: users at the stage before (users), finished entries (entries), the worth in entries "
        "of what was due to convert in the window (adjusted); there whenever the ratio is.",
        "When it is small, a ratio says little.",
        "ledger",
    ),
    Definition(
        "funnel_stage_reached_total",
        "counter",
        ("funnel", "stage", *SPLIT),
        "Events that reached the stage since the funnel's definition began, those that late events took back included.",
        "When it stops while records are consumed, the stage's event is no longer sent.",
        "ledger",
    ),
    Definition(
        "funnel_corrections_total",
        "counter",
        ("funnel", "stage", *SPLIT),
        "Events that had reached the stage until a late event showed otherwise; take them from funnel_stage_reached_total.",
        "When it rises with every hour, events arrive out of order: look at what produces them.",
        "ledger",
    ),
    Definition(
        "funnel_stage_entries",
        "gauge",
        ("funnel", "stage", "window", *SPLIT),
        "Entries that opened at the stage within the trailing window.",
        "Falls with traffic; the ratio on basis entries is made of those that are finished.",
        "ledger",
    ),
    Definition(
        "funnel_time_to_convert_seconds",
        "histogram",
        ("funnel", "stage", "from_stage"),
        "Time from an entry's opening to its conversion into the stage, of all conversions since the funnel's definition began.",
        "When it grows, people get stuck before the stage; what late events took back is not subtracted.",
        "ledger",
    ),
    Definition(
        "funnel_stage_value_total",
        "counter",
        ("funnel", "stage", *SPLIT),
        "Sum of the stage's value property over those events.",
        "Compare with the books of the shop.",
        "ledger",
    ),
    Definition(
        "funnel_records_total",
        "counter",
        ("source", "fate", "reason"),
        "Records consumed, by fate: applied, filtered, late, duplicate, rejected (with reason).",
        "When rejected rises, read the dead-letter topic; when late rises, look for a producer that lags.",
        "ledger",
    ),
    Definition(
        "funnel_watermark_timestamp_seconds",
        "gauge",
        ("source", "partition"),
        "Greatest event time accepted from the partition, seconds since the epoch.",
        "When it stands still while lag grows, the partition is stuck: read the worker's log.",
        "ledger",
    ),
    Definition(
        "funnel_records_gone_total",
        "counter",
        ("source",),
        "Records that left the topic before they were counted; the windows they belong to are incomplete.",
        "Lengthen the topic's retention or add workers.",
        "ledger",
    ),
    Definition(
        "funnel_window_incomplete",
        "gauge",
        ("funnel", "window"),
        "1 while the window reaches back to before its funnel was counted as it is defined now, or to records that were gone, else 0.",
        "Its counts are too low: wait until the window has passed, or run `funnelwatch backfill FUNNEL`.",
        "ledger",
    ),
    Definition(
        "funnel_alert_state",
        "gauge",
        ("rule", *SPLIT),
        "Where a rule stands: 0 inactive, 1 pending, 2 firing (also while the rate is back but not yet for long enough), 3 no data, "
        "4 stale or not judged for another reason; what fires stays 2 when the data are lost.",
        "At 2 follow the rule's runbook; at 3 or 4 see what became of the source: `FunnelwatchPipeline` with the source as its value.",
        "ledger",
    ),
    Definition(
        "funnel_alert_flaps",
        "gauge",
        ("rule", *SPLIT),
        "How often an alert began to fire in the last 24 h.",
        "Over a few: give the rule a recovery further from its threshold, a longer `for`, or a `keep_firing_for`.",
        "ledger",
    ),
    Definition(
        "funnel_lag_records",
        "gauge",
        ("source", "partition"),
        "Records of an assigned partition that are not counted yet.",
        "When it grows, add workers (up to the number of partitions) or look whether Redis is slow.",
        "worker",
    ),
    Definition(
        "funnel_progress_seconds",
        "gauge",
        ("source", "partition"),
        "Seconds since a chunk of an assigned partition was last applied, while it has lag; 0 without lag.",
        "Over a minute: the partition is stuck; read the worker's log, then restart it.",
        "worker",
    ),
    Definition(
        "funnel_retention_headroom_records",
        "gauge",
        ("source", "partition"),
        "Records between the oldest that the topic still keeps and the position of an assigned partition; at 0 with lag, what is "
        "deleted next is lost.",
        "When it falls while there is lag, lengthen the topic's retention first, then see why counting is slow.",
        "worker",
    ),
    Definition(
        "funnel_apply_seconds",
        "histogram",
        (),
        "How long the ledger took to apply one chunk, without the wait for other partitions' chunks.",
        "Chunks are cut so that it stays under 0.5 s. Over that, or over 100 ms with few funnels: Redis is slow or far; see its slow log.",
        "worker",
    ),
    Definition(
        "funnel_ledger_conflicts_total",
        "counter",
        ("kind",),
        f"Times a partition had to be claimed anew, by kind: {', '.join(CONFLICTS)}.",
        "A few at a rebalance are normal; a steady rate of fenced means two deployments share one ledger.",
        "worker",
    ),
    Definition(
        "funnel_notifications_total",
        "counter",
        ("channel", "outcome"),
        "Notifications, by outcome: delivered, retried, refused, limited (held back by the channel's limit, to be told together).",
        "When refused or retried rises, try the channel's address by hand; `funnelwatch alerts dead-letters` lists what was given up.",
        "worker",
    ),
    Definition(
        "funnel_http_let_go_total",
        "counter",
        ("reason",),
        "Connections and requests that were let go: slow (no whole request in time), crowded_out (only waiting while others came), full "
        "(too many connections), deaf (does not read its answer), not_http, too_many_requests, too_many_of_one_address.",
        "When it rises, somebody floods the port; `too_many_requests` alone: raise FUNNELWATCH_WEB__REQUESTS_PER_SECOND, or add workers.",
        "worker",
    ),
    Definition(
        "funnel_dead_letters_total",
        "counter",
        ("source", "reason"),
        "Records written to the dead-letter topic (at least once).",
        "Read the topic; its headers say what was wrong.",
        "worker",
    ),
    Definition(
        "funnel_audit_difference",
        "gauge",
        ("source",),
        "What the counts of audited entities differ by from a recount of their records, summed over all counts since the worker "
        "began; absent until something was compared (FUNNELWATCH_WORKER__AUDIT_SHARE).",
        "When it is not 0, counts are wrong: read the worker's log, which names the first that differ, and report them.",
        "worker",
    ),
    Definition(
        "funnel_audit_events_total",
        "counter",
        ("source",),
        "Records of audited entities whose counts were compared with the recount.",
        "While it stands still nothing is checked: only entities that were never met before are audited.",
        "worker",
    ),
    Definition(
        "funnel_stream_clients",
        "gauge",
        (),
        "Clients that listen to /api/v1/stream.",
        "At 2,000 others are asked to try again later: add workers, and share the clients out among them.",
        "worker",
    ),
    Definition(
        "funnel_stream_dropped_total",
        "counter",
        (),
        "Clients of /api/v1/stream that were let go because they did not keep up; they come back by themselves.",
        "A few are sleeping laptops; a steady rate means that the network or a proxy in between is too slow.",
        "worker",
    ),
    Definition(
        "funnelwatch_lease_held",
        "gauge",
        (),
        "1 on the worker that holds the lease: it serves the ledger's metrics and evaluates the rules.",
        "When the sum is not 1 for a minute, look whether Redis answers.",
        "worker",
    ),
    Definition(
        "funnelwatch_build_info",
        "gauge",
        ("version",),
        "1, with the version.",
        "Nothing to do.",
        "worker",
    ),
)
BY_NAME = {definition.name: definition for definition in DEFINITIONS}


class WorkerMetrics:
    """What each worker knows of itself."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self.lag = self._gauge("funnel_lag_records")
        self.progress = self._gauge("funnel_progress_seconds")
        self._headroom = self._gauge("funnel_retention_headroom_records")
        self._headroom_of: dict[TP, str] = {}
        spec = BY_NAME["funnel_apply_seconds"]
        buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
        self.apply_seconds = Histogram(spec.name, spec.help, spec.labels, registry=self.registry, buckets=buckets)
        self._conflicts = self._counter("funnel_ledger_conflicts_total")
        for kind in CONFLICTS:  # from 0 on: an increase from nothing is none to Prometheus
            self._conflicts.labels(kind)
        self._notifications = self._counter("funnel_notifications_total")
        self._let_go = self._counter("funnel_http_let_go_total")
        for reason in LET_GO:
            self._let_go.labels(reason)
        self.dead_letters = self._counter("funnel_dead_letters_total")
        self.audit_difference = self._gauge("funnel_audit_difference")
        self.audit_events = self._counter("funnel_audit_events_total")
        self.stream_clients = self._gauge("funnel_stream_clients")
        self.stream_dropped = self._counter("funnel_stream_dropped_total")
        self.lease = self._gauge("funnelwatch_lease_held")
        self._gauge("funnelwatch_build_info").labels(version).set(1)
        self._sources: dict[TP, str] = {}

    def conflict(self, kind: str) -> None:
        self._conflicts.labels(kind).inc()

    def channels(self, names: Iterable[str]) -> None:
        """Those that there are, each outcome from 0 on."""
        for name in names:
            for outcome in OUTCOMES:
                self._notifications.labels(name, outcome)

    def notification(self, channel: str, outcome: str) -> None:
        self._notifications.labels(channel, outcome).inc()

    def let_go(self, reason: str) -> None:
        self._let_go.labels(reason).inc()

    def at(self, tp: TP, source: str, lag: int, idle_seconds: float) -> None:
        """Where an assigned partition stands."""
        self._sources[tp] = source
        self.lag.labels(source, str(tp.partition)).set(lag)
        self.progress.labels(source, str(tp.partition)).set(idle_seconds if lag else 0)

    def kept(self, tp: TP, source: str, headroom: int) -> None:
        """How many records the topic still keeps before the position of an assigned partition."""
        self._headroom_of[tp] = source
        self._headroom.labels(source, str(tp.partition)).set(headroom)

    def forget(self, tp: TP) -> None:
        """The partition is not ours any more."""
        kept = self._headroom_of.pop(tp, None)
        if kept is not None:
            self._headroom.remove(kept, str(tp.partition))
        source = self._sources.pop(tp, None)
        if source is not None:
            self.lag.remove(source, str(tp.partition))
            self.progress.remove(source, str(tp.partition))

    def _gauge(self, name: str) -> Gauge:
        spec = BY_NAME[name]
        return Gauge(spec.name, spec.help, spec.labels, registry=self.registry)

    def _counter(self, name: str) -> Counter:
        spec = BY_NAME[name]
        return Counter(spec.name, spec.help, spec.labels, registry=self.registry)


def exposition(worker: WorkerMetrics, ledger: bytes | None = None) -> bytes:
    """The worker's own part of /metrics; that of the ledger follows where this worker holds the lease."""
    return generate_latest(worker.registry) + (ledger or b"")


def page() -> str:
    """The metrics page, as Markdown; `python -m streams.metrics` prints it."""
    lines = [
        "# Metrics",
        "",
        "Written by `python -m streams.metrics > deploy/metrics.md`; a test keeps it so.",
        "",
        "*ledger*: served by the one worker that holds the lease, so `sum` and `max` over instances are both right.",
        "*worker*: each worker's own. `dimension` and `value` are empty for the total.",
        "",
        "| metric | type | labels | of | what it says | when it moves |",
        "|---|---|---|---|---|---|",
    ]
    for d in DEFINITIONS:
        lines.append(f"| `{d.name}` | {d.kind} | {', '.join(d.labels) or '–'} | {d.of} | {d.meaning} | {d.action} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
