"""Buckets as the engine keeps them: e, c and x by 10 s, 60 s and hour, h by hour, each for as long as it is kept."""

from __future__ import annotations

from streams.adjusted import Entries, complete_since
from streams.ages import age_bin
from streams.baseline import Hour, Terms, finished_until_us, hours_of
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES, kept_widths
from streams.windows import Cells, age_cell, cell
from tests.simulation.people import HOUR_US, SECOND_US, WINDOW_US, Conversion, Slot

STAGE = 1  # the step is 0 -> 1
KEPT = {kept.seconds: kept.count for kept in kept_widths((300, 86_400), WINDOW_US // SECOND_US, 0)}
WIDEST_FIRST = sorted(KEPT, reverse=True)
FINEST = min(KEPT)
OPENED, ENDED, INTO = cell(ENTRIES, 0), cell(CONVERSIONS, 0), cell(CONVERTED, STAGE)


class Counts:
    """The counts of the step at a moment, after what happened until then."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.at_us = 0
        self.buckets: dict[int, dict[int, Cells]] = {width: {} for width in KEPT}
        self.entries = Entries(KEPT)
        self.hours: dict[int, Hour] = {}  # finished ones: they never change again
        self._coming: dict[int, list[Conversion]] = {}  # by slot of conversion

    def pass_slot(self, slot: Slot) -> bool:
        """Let ten seconds pass; whether more hours are finished than before."""
        self._open(slot)
        for conversion in slot.converting:
            if not conversion.failed:
                self._coming.setdefault(conversion.converted_us // (10 * SECOND_US), []).append(conversion)
        for conversion in self._coming.pop(slot.start_us // (10 * SECOND_US), ()):
            self._convert(conversion)
        before, self.at_us = self.at_us, slot.start_us + 10 * SECOND_US - 1
        until = finished_until_us(self.terms, self.at_us)
        if until == finished_until_us(self.terms, before):
            return False
        self._forget()
        newest = until // HOUR_US - 1
        self.hours |= hours_of({newest: self.buckets[3600].get(newest, {})}, STAGE)
        return True

    def _open(self, slot: Slot) -> None:
        for width in KEPT:
            self._add(width, slot.start_us, OPENED, slot.opened)
            self.entries.add(width, slot.start_us // (width * SECOND_US), slot.opened)

    def _convert(self, conversion: Conversion) -> None:
        for width in KEPT:
            self._add(width, conversion.opened_us, ENDED, 1)
            self._add(width, conversion.converted_us, INTO, 1)
        self._add(3600, conversion.opened_us, age_cell(STAGE, age_bin(conversion.converted_us - conversion.opened_us)), 1)

    def _add(self, width: int, at_us: int, name: str, count: int) -> None:
        cells = self.buckets[width].setdefault(at_us // (width * SECOND_US), {})
        cells[name] = cells.get(name, 0) + count

    def _forget(self) -> None:
        for width, first in complete_since(KEPT, WINDOW_US, self.at_us).items():
            for bucket in [bucket for bucket in self.buckets[width] if bucket < first]:
                del self.buckets[width][bucket]

    def total(self, name: str, first_us: int, end_us: int) -> int:
        """A count over the buckets from one boundary to another, by the widest that fit in between."""
        found = 0
        while first_us < end_us:
            width = next(w for w in WIDEST_FIRST if first_us % (w * SECOND_US) == 0 and (first_us + w * SECOND_US <= end_us or w == FINEST))
            found += self.buckets[width].get(first_us // (width * SECOND_US), {}).get(name, 0)
            first_us += width * SECOND_US
        return found
