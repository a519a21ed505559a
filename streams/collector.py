"""The ledger's metrics: families made from a reading, served by the worker that holds the lease."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.duration import MICROS
from schemas.report import AlertState
from streams.ages import OCTAVE_BINS, bin_start_us
from streams.metrics import DEFINITIONS, Definition
from streams.rates import AdjustedRates, mature
from streams.retention import ENTRIES, EVENTS, USERS, VALUE
from streams.values import VALUE_SCALE
from streams.windows import BINS_MAX, RETRACTED, FunnelCounts

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


class LedgerCollector(Collector):
    """Metric families from readings of the ledger."""

    def __init__(self, readings: Iterable[SourceReading], alerts: Iterable[AlertState]) -> None:
        self._readings = list(readings)
        self._alerts = list(alerts)

    def collect(self) -> Iterator[Metric]:
        families = {d.name: _family(d) for d in DEFINITIONS if d.of == "ledger"}
        for reading in self._readings:
            self._add_source(families, reading)
            for name, counts in reading.funnels.items():
                self._add_totals(families, name, counts)
                self._add_times(families, name, counts)
                if reading.at_us is not None:
                    for window, seconds in reading.windows[name]:
                        self._add_window(families, reading, name, counts, window, seconds, reading.at_us)
        for alert in self._alerts:
            labels = [alert.rule, alert.dimension or "", alert.value or ""]
            families["funnel_alert_state"].add_metric(labels, _alert_number(alert))
            families["funnel_alert_flaps"].add_metric(labels, alert.flaps)
        yield from families.values()

    def _add_source(self, families: dict[str, _Family], reading: SourceReading) -> None:
        for fate, count in reading.fates.items():
            kind, _, reason = fate.partition(":")
            families["funnel_records_total"].add_metric([reading.source, kind, reason], count)
        families["funnel_records_gone_total"].add_metric([reading.source], reading.gone)
        for partition, watermark in reading.watermarks.items():
            if watermark >= 0:
                families["funnel_watermark_timestamp_seconds"].add_metric([reading.source, str(partition)], watermark / MICROS)

    def _add_totals(self, families: dict[str, _Family], funnel: str, counts: FunnelCounts) -> None:
        for place, stage in enumerate(counts.plan.funnel.stages):
            for dimension, value in _splits(counts):
                labels = [funnel, stage.name, dimension or "", value or ""]
                retracted = counts.total(RETRACTED, place, dimension, value)
                families["funnel_stage_reached_total"].add_metric(labels, counts.total(EVENTS, place, dimension, value) + retracted)
                families["funnel_corrections_total"].add_metric(labels, retracted)
                if stage.value is not None:
                    total = counts.total(VALUE, place, dimension, value) / VALUE_SCALE
                    families["funnel_stage_value_total"].add_metric(labels, total)

    def _add_times(self, families: dict[str, _Family], funnel: str, counts: FunnelCounts) -> None:
        """Conversions by age: the bins of whole octaves, from 1 s on, as far as the conversion window reaches."""
        stages = counts.plan.funnel.stages
        window_us = counts.plan.funnel.conversion_window.micros
        edges = [edge for edge in range(OCTAVE_BINS, BINS_MAX, OCTAVE_BINS) if MICROS <= bin_start_us(edge) < 2 * window_us]
        for place in range(1, len(stages)):
            ages = counts.total_ages(place)
            buckets = [(f"{bin_start_us(edge) / MICROS:g}", sum(n for number, n in ages.items() if number < edge)) for edge in edges]
            buckets.append(("+Inf", sum(ages.values())))
            labels = [funnel, stages[place].name, stages[place - 1].name]
            # Without a sum: the ages are known by bin alone.
            families["funnel_time_to_convert_seconds"].add_metric(labels, buckets, None)

    def _add_window(
        self, families: dict[str, _Family], reading: SourceReading, funnel: str, counts: FunnelCounts, window: str, seconds: int, at_us: int
    ) -> None:
        stages = counts.plan.funnel.stages
        adjusted = reading.adjusted.get(funnel)
        for dimension, value in _splits(counts):
            shown = [dimension or "", value or ""]
            split = None if dimension is None else (dimension, value or "")
            before = 0
            for place, stage in enumerate(stages):
                users = counts.count(USERS, place, seconds, at_us, split)
                families["funnel_stage_users"].add_metric([funnel, stage.name, window, *shown], users)
                families["funnel_stage_entries"].add_metric(
                    [funnel, stage.name, window, *shown], counts.count(ENTRIES, place, seconds, at_us, split)
                )
                if place:
                    rates = {
                        "users": users / before if before > 0 else None,
                        "entries": mature(counts, place, seconds, at_us, split)[0].rate,
                    }
                    if adjusted is not None:
                        rates["adjusted"] = adjusted.step(place, seconds, split)[0].rate
                    for basis, rate in rates.items():
                        if rate is not None:
                            labels = [funnel, stage.name, stages[place - 1].name, window, basis, *shown]
                            families["funnel_conversion_ratio"].add_metric(labels, rate)
                before = users


_Family = Any  # CounterMetricFamily, GaugeMetricFamily or HistogramMetricFamily: their `add_metric` has nothing in common


def _family(definition: Definition) -> _Family:
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    return kinds[definition.kind](definition.name, definition.help, labels=definition.labels)


def _alert_number(alert: AlertState) -> int:
    """What fires goes on firing whatever becomes of the data."""
    number = STATES[alert.state]
    return number if number == STATES["firing"] else WITHOUT_DATA.get(alert.data, number)


def _splits(counts: FunnelCounts) -> Iterator[tuple[str | None, str | None]]:
    yield None, None
    for dimension in counts.plan.dimensions:
        for value in counts.values(dimension):
            yield dimension, value
