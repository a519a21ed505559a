"""[pure] The weights of spans of buckets, for the worth of what was due to convert in them.

Spans that begin as long after a full hour, are as long and are asked about as soon part the entries that
may convert in them alike, whatever the hour; and how they do is found once. Most spans of a funnel
have one shape, or a few, so that their weights are found once for each curve that is learned.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.duration import MICROS
from streams.adjusted import Groups, Weights, complete_since, groups, worth_of
from streams.baseline import HOUR_US, Curve, Terms

SHAPES_MAX = 4000
KNOWN_US = 60 * MICROS  # when a span is asked about counts in whole minutes, upward


class Spans:
    """Of one funnel, which keeps buckets of these widths (in seconds)."""

    def __init__(self, kept: Iterable[int], terms: Terms) -> None:
        self._kept, self._terms = tuple(kept), terms
        self._shapes: dict[tuple[int, int, int], Groups] = {}  # by when it begins after the hour, its length, and how long ago it ended
        self._different: dict[Groups, Groups] = {}
        self._weights: dict[tuple[int, int], Weights] = {}  # by stage and identity of the shape
        self._of_spans: dict[tuple[int, int, int, int], Weights] = {}  # likewise, by what tells the shape

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
            shape = self._shape(start_us, end_us, known_us)
            found = self._weights.get((stage, id(shape)))
            if found is None:
                found = self._weights[stage, id(shape)] = worth_of(shape, curve)
            self._of_spans[what] = found
        return found

    def _shape(self, start_us: int, end_us: int, known_us: int) -> Groups:
        what = (start_us % HOUR_US, end_us - start_us, known_us - end_us)
        found = self._shapes.get(what)
        if found is None:
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
                self._different.clear()
                self.forget_weights()
            terms = self._terms
            since = complete_since(self._kept, terms.conversion_us, known_us)
            # The bucket that begins at the end is past it: the last moment is the one before.
            parted = groups(since, start_us, end_us - 1, terms.conversion_us, by_hour=terms.by_hour, known_us=known_us).relative()
            found = self._shapes[what] = self._different.setdefault(parted, parted)
        return found
