"""The ledger's metrics as text, served by the worker that holds the lease.

The lines of each funnel are kept (`series`), and at every tick those that are oldest are made anew, for
SECONDS_A_TICK of processor time: with a few funnels all of them, every tick; with a hundred by twenty
values each is some ticks old, and a scrape still costs no more than putting them together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.duration import MICROS
from schemas.report import AlertState
from streams.metrics import DEFINITIONS, Definition
from streams.pauses import Stretches
from streams.rates import AdjustedRates
from streams.series import METRICS, FunnelSeries, header
from streams.windows import FunnelCounts

SECONDS_A_TICK = 0.02
LITTLE = 0.25
STATES = {"inactive": 0, "pending": 1, "firing": 2, "recovering": 2}
WITHOUT_DATA = {"no_data": 3, "stale": 4, "error": 4}


@dataclass(frozen=True)
class SourceReading:
    """What the ledger says of a source."""

    source: str
    at_us: int | None
    fates: dict[str, int]
    gone: int
    watermarks: dict[int, int]  # partition -> µs
    funnels: dict[str, FunnelCounts]
    windows: dict[str, tuple[tuple[str, int], ...]]  # funnel -> (as written, seconds)
    adjusted: Mapping[str, AdjustedRates] = field(default_factory=dict)  # by funnel
    incomplete: Callable[[str], Collection[str]] = lambda _: ()  # the windows of a funnel that are, as written


@dataclass
class _Kept:
    series: FunnelSeries
    lines: dict[str, bytes]  # by metric


class LedgerText:
    """The text of the ledger's metrics. `follow` it at every tick."""

    def __init__(self, clock: Callable[[], float] = time.thread_time, seconds: float = SECONDS_A_TICK) -> None:
        self._clock = clock
        self._seconds = seconds
        self._kept: dict[str, _Kept] = {}  # by funnel, the oldest first
        self.complete = False  # whether every funnel has its lines
        self.is_little = False  # whether all lines are made anew in a small part of the time that there is for it

    def forget(self) -> None:
        """Others serve it now."""
        self._kept.clear()
        self.complete = False

    async def follow(self, readings: Iterable[SourceReading]) -> None:
        """Make lines anew: those that there are not yet, then the oldest. Others have their turn in between."""
        stretches = Stretches(self._clock)
        for _ in self.renewed(readings):
            await stretches.pause()

    def renewed(self, readings: Iterable[SourceReading]) -> Iterator[None]:
        """What `follow` does, up to the next pause."""
        due = {funnel: reading for reading in readings for funnel in reading.funnels}
        for funnel in self._kept.keys() - due.keys():
            del self._kept[funnel]
        new = [funnel for funnel, reading in due.items() if not self._has(funnel, reading)]
        spent, self.is_little = 0.0, False
        for funnel in (*new, *[funnel for funnel in self._kept if funnel not in new]):
            if funnel not in new and spent >= self._seconds:
                break
            writing, began = self._written(due[funnel], funnel), self._clock()
            for _ in writing:
                spent += self._clock() - began
                yield
                began = self._clock()
            spent += self._clock() - began
        self.complete = True
        self.is_little = spent <= LITTLE * self._seconds

    def _written(self, reading: SourceReading, funnel: str) -> Iterator[None]:
        series = self._kept[funnel].series if self._has(funnel, reading) else FunnelSeries(reading.funnels[funnel], reading.windows[funnel])
        incomplete = reading.incomplete(funnel)
        lines: dict[str, list[str]] = {}
        for part in series.write(reading.at_us, reading.adjusted.get(funnel), incomplete):
            for metric, text in part.items():
                lines.setdefault(metric, []).append(text)
            yield
        self._kept.pop(funnel, None)  # to be the newest
        self._kept[funnel] = _Kept(series, {metric: "".join(texts).encode() for metric, texts in lines.items()})

    def _has(self, funnel: str, reading: SourceReading) -> bool:
        """Whether the lines of a funnel are there, and of these counts: the ledger may have been read anew."""
        return funnel in self._kept and self._kept[funnel].series.counts is reading.funnels[funnel]

    def pieces(self, readings: Iterable[SourceReading], alerts: Iterable[AlertState]) -> Iterator[bytes]:
        """All of it, with sources and alerts as they are now; not put together, since it may be dozens of megabytes."""
        registry = CollectorRegistry()
        registry.register(_Sources(readings, alerts))
        yield generate_latest(registry)
        for definition in DEFINITIONS:
            if definition.name in METRICS:
                yield header(definition.name, definition.kind, definition.help).encode()
                yield from [kept.lines.get(definition.name, b"") for kept in self._kept.values()]


class _Sources(Collector):
    """What is told of sources and alerts."""

    def __init__(self, readings: Iterable[SourceReading], alerts: Iterable[AlertState]) -> None:
        self._readings = list(readings)
        self._alerts = list(alerts)

    def collect(self) -> Iterator[Metric]:
        families = {d.name: _family(d) for d in DEFINITIONS if d.of == "ledger" and d.name not in METRICS}
        for reading in self._readings:
            for fate, count in reading.fates.items():
                kind, _, reason = fate.partition(":")
                families["funnel_records_total"].add_metric([reading.source, kind, reason], count)
            families["funnel_records_gone_total"].add_metric([reading.source], reading.gone)
            for partition, watermark in reading.watermarks.items():
                if watermark >= 0:
                    families["funnel_watermark_timestamp_seconds"].add_metric([reading.source, str(partition)], watermark / MICROS)
        for alert in self._alerts:
            labels = [alert.rule, alert.dimension or "", alert.value or ""]
            families["funnel_alert_state"].add_metric(labels, _alert_number(alert))
            families["funnel_alert_flaps"].add_metric(labels, alert.flaps)
        yield from families.values()


_Family = Any  # CounterMetricFamily or GaugeMetricFamily: their `add_metric` has nothing in common


def _family(definition: Definition) -> _Family:
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    return kinds[definition.kind](definition.name, definition.help, labels=definition.labels)


def _alert_number(alert: AlertState) -> int:
    """What fires goes on firing whatever becomes of the data."""
    number = STATES[alert.state]
    return number if number == STATES["firing"] else WITHOUT_DATA.get(alert.data, number)
