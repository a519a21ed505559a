"""What was due in a span of the past, when the finest buckets no longer reach back to it."""

from __future__ import annotations

import pytest

from schemas.config import Config
from schemas.duration import MICROS, bucket_seconds
from streams.adjusted import Weights
from streams.adjusting import Adjusting
from streams.baseline import Curve, Terms
from streams.plan import Plan
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES
from streams.spans import Spans
from streams.windows import FunnelCounts, age_cell, cell

HOUR = 3600
NOW = 1_700_000_040  # on a minute
FUNNEL = {
    "name": "shop", "source": "web", "conversion_window": "10m", "windows": ["5m", "24h"],
    "stages": [{"name": "view", "event": "view"}, {"name": "pay", "event": "pay"}],
}  # fmt: skip


@pytest.mark.parametrize("ended", [600, 3540, 3600, 3660, 7200, 10_800])
@pytest.mark.parametrize("length", [600, 7200])
def test_entries_that_convert_at_once_were_worth_what_they_are(ended: int, length: int) -> None:
    """However long ago the span ended: within the hour of 10 s buckets, across its end, or by minutes alone."""
    config = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": [FUNNEL]})
    counts = FunnelCounts(Plan(config, config.sources[0]).funnels[0])
    for kept in counts.plan.kept:
        opened = range(NOW - 8 * HOUR, NOW, 10)
        for at in opened if kept.seconds > 10 else [at for at in opened if at >= NOW - HOUR]:  # what is older was expired
            cells = {cell(ENTRIES, 0): 3, cell(CONVERSIONS, 0): 1, age_cell(1, 0): 1, cell(CONVERTED, 1): 1}
            counts.add(kept.seconds, at // kept.seconds, cells)
    worth = Adjusting(counts, 60 * MICROS).at(NOW * MICROS).worth(1, (NOW - ended - length) * MICROS, (NOW - ended) * MICROS, None)
    assert worth == pytest.approx(length / 10 * 3, rel=0.01)


def test_spans_of_one_shape_share_their_weights() -> None:
    """Whatever the hour, until another curve is learned; one that is asked about later may reach less fine buckets."""
    curve = Curve((0, 600 * MICROS), (0.0, 1.0), (1 / (600 * MICROS), 0.0), (0.0, 300.0 * MICROS))
    spans = Spans((10, 60, 3600), Terms(600 * MICROS, 60 * MICROS, 86_400 * MICROS, 20))
    start_us = NOW // HOUR * HOUR * MICROS

    def weights(after: int, hours: int = 0) -> Weights:
        began = start_us + (after + hours * HOUR) * MICROS
        return spans.weights(1, curve, began, began + 10 * MICROS, began + 10 * MICROS)

    assert weights(0) is weights(0, hours=5) is weights(60)
    known = weights(0)
    spans.forget_weights()
    assert weights(0) is not known


@pytest.mark.parametrize("length", [10, 600, 2400, 7200])
def test_the_newest_spans_as_of_many_moments_weigh_what_each_weighs_by_itself(length: int) -> None:
    curve = Curve((0, 600 * MICROS), (0.0, 1.0), (1 / (600 * MICROS), 0.0), (0.0, 300.0 * MICROS))
    spans = Spans((10, 60, 3600), Terms(600 * MICROS, 60 * MICROS, 86_400 * MICROS, 20))
    width_us = bucket_seconds(length) * MICROS
    moments_us = range(NOW * MICROS, (NOW + 2 * HOUR) * MICROS, 10 * MICROS)
    told: dict[int, tuple[Weights, int]] = {}
    for weights, starts_us, ats_us in spans.alike(1, curve, length * MICROS, moments_us):
        told |= {at_us: (weights, start_us) for at_us, start_us in zip(ats_us, starts_us, strict=True)}
    for at_us in moments_us:
        end_us = at_us // width_us * width_us
        start_us = end_us - length * MICROS
        assert told[at_us] == (spans.weights(1, curve, start_us, end_us, at_us), start_us)
