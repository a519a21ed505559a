"""[pure] Counts by bucket of event time, and the trailing windows read from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.duration import MICROS, bucket_seconds
from streams.plan import SEPARATOR, VALUE_SCALE, FunnelPlan

USERS, EVENTS, VALUE = "u", "n", "v"

Cells = dict[str, int]  # name of a count -> how much


def cell(family: str, stage: int, dimension: str | None = None, value: str = "") -> str:
    """The name of a count: family and stage, and the value of a dimension where it is split."""
    total = f"{family}{stage}"
    return total if dimension is None else f"{total}{SEPARATOR}{dimension}{SEPARATOR}{value}"


def first_bucket(window_seconds: int, at_us: int) -> tuple[int, int]:
    """(width in seconds, number of the first bucket) of the trailing window at time T."""
    width = bucket_seconds(window_seconds)
    return width, at_us // (width * MICROS) - window_seconds // width + 1


@dataclass
class FunnelCounts:
    """All counts of one funnel: per bucket width, per bucket, and in total."""

    plan: FunnelPlan
    buckets: dict[int, dict[int, Cells]] = field(default_factory=dict)  # width -> bucket -> cells
    totals: Cells = field(default_factory=dict)
    _windows: dict[tuple[int, int], Cells] = field(default_factory=dict)

    def add(self, width: int, bucket: int, cells: Mapping[str, int]) -> None:
        """Add the counts of one partition's bucket."""
        _add(self.buckets.setdefault(width, {}).setdefault(bucket, {}), cells)

    def add_totals(self, cells: Mapping[str, int]) -> None:
        _add(self.totals, cells)

    def window(self, window_seconds: int, at_us: int) -> Cells:
        """The sums over a trailing window: from its first bucket onward, without an upper end."""
        width, first = first_bucket(window_seconds, at_us)
        if (width, first) not in self._windows:
            sums: Cells = {}
            for bucket, cells in self.buckets.get(width, {}).items():
                if bucket >= first:
                    _add(sums, cells)
            self._windows[width, first] = sums
        return self._windows[width, first]

    def users(self, stage: int, window_seconds: int, at_us: int, dimension: str | None = None, value: str | None = None) -> int:
        """Distinct entities that reached the stage within the trailing window at `at_us`."""
        return self.window(window_seconds, at_us).get(cell(USERS, stage, dimension, value or ""), 0)

    def events(self, stage: int, window_seconds: int, at_us: int, dimension: str | None = None, value: str | None = None) -> int:
        """Events that reached the stage within the trailing window."""
        return self.window(window_seconds, at_us).get(cell(EVENTS, stage, dimension, value or ""), 0)

    def value(self, stage: int, window_seconds: int, at_us: int, dimension: str | None = None, value: str | None = None) -> float:
        """Sum of the stage's value property over those events."""
        return self.window(window_seconds, at_us).get(cell(VALUE, stage, dimension, value or ""), 0) / VALUE_SCALE

    def total(self, family: str, stage: int, dimension: str | None = None, value: str | None = None) -> int:
        """A count since the funnel's definition began (`u`: distinct entities ever)."""
        return self.totals.get(cell(family, stage, dimension, value or ""), 0)

    def values(self, dimension: str) -> tuple[str, ...]:
        """Every value of a dimension that was ever counted, in order."""
        found = {parts[2] for name in self.totals if len(parts := name.split(SEPARATOR)) == 3 and parts[1] == dimension}
        return tuple(sorted(found))


def _add(into: Cells, cells: Mapping[str, int]) -> None:
    for name, count in cells.items():
        into[name] = into.get(name, 0) + count
