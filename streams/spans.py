"""[pure] The weights of spans of buckets, for the worth of what was due to convert in them.

Spans that begin as long after a full hour, are as long and are asked about as soon part the entries that
may convert in them alike, whatever the hour; and how they do is found once. Most spans of a funnel
have one shape, or a few, so that their weights are found once for each curve that is learned.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.duration import MICROS, bucket_seconds
from streams.adjusted import Groups, Weights, complete_since, groups, worth_of
from streams.baseline import HOUR_US, Curve, Terms

SHAPES_MAX = 4000
KNOWN_US = 60 * MICROS  # when a span is asked about counts in whole minutes, upward


Alike = tuple[Weights, list[int], list[int]]  # what spans weigh, when they begin, and the moments as of which that is asked


class Spans:
    """Of one funnel, which keeps buckets of these widths (in seconds)."""

    def __init__(self, kept: Iterable[int], terms: Terms) -> None:
        self._kept, self._terms = tuple(kept), terms
        self._shapes: dict[tuple[int, int, int], Groups] = {}  # by when it begins after the hour, its length, and how long ago it ended
        self._different: dict[Groups, Groups] = {}
        self._weights: dict[tuple[int, int], Weights] = {}  # by stage and identity of the shape
        self._of_spans: dict[tuple[int, int, int, int], Weights] = {}  # likewise, by what tells the shape
        self._newest: dict[int, dict[int, Groups]] = {}  # shapes by length, and by T after the full hour

    def forget_weights(self) -> None:
        """Other curves are learned."""
        self._weights.clear()
        self._of_spans.clear()

    def weights(self, stage: int, curve: Curve, start_us: int, end_us: int, at_us: int) -> Weights:
        """Those of the span from `start_us` until `end_us`, boundaries of buckets, as of T; numbered from the span's start."""
        known_us = -(-at_us // KNOWN_US) * KNOWN_US
        what = stage, start_us % HOUR_US, end_us - start_us, known_us - end_us
        found = self._of_spans.get(what)
        if found is None:
            found = self._of_spans[what] = self._of_shape(stage, self._shape(start_us, end_us, known_us), curve)
        return found

    def alike(self, stage: int, curve: Curve, length_us: int, moments_us: Iterable[int]) -> list[Alike]:
        """Those of the newest spans of a length as of ascending moments, which end where the newest bucket does; spans of one shape together."""
        width_us = bucket_seconds(length_us // MICROS) * MICROS
        found: dict[int, tuple[Groups, list[int], list[int]]] = {}
        shapes = self._newest.setdefault(length_us, {})
        for at_us in moments_us:
            end_us = at_us // width_us * width_us
            shape = shapes.get(at_us % HOUR_US)
            if shape is None:
                shape = shapes[at_us % HOUR_US] = self._shape(end_us - length_us, end_us, -(-at_us // KNOWN_US) * KNOWN_US)
            alike = found.get(id(shape))
            if alike is None:
                alike = found[id(shape)] = shape, [], []
            alike[1].append(end_us - length_us)
            alike[2].append(at_us)
        return [(self._of_shape(stage, shape, curve), starts_us, ats_us) for shape, starts_us, ats_us in found.values()]

    def _of_shape(self, stage: int, shape: Groups, curve: Curve) -> Weights:
        found = self._weights.get((stage, id(shape)))
        if found is None:
            found = self._weights[stage, id(shape)] = worth_of(shape, curve)
        return found

    def _shape(self, start_us: int, end_us: int, known_us: int) -> Groups:
        what = (start_us % HOUR_US, end_us - start_us, known_us - end_us)
        found = self._shapes.get(what)
        if found is None:
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
                self._different.clear()
                self._newest.clear()
                self.forget_weights()
            terms = self._terms
            since = complete_since(self._kept, terms.conversion_us, known_us)
            # The bucket that begins at the end is past it: the last moment is the one before.
            parted = groups(since, start_us, end_us - 1, terms.conversion_us, by_hour=terms.by_hour, known_us=known_us).relative()
            found = self._shapes[what] = self._different.setdefault(parted, parted)
        return found
