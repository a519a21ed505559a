"""[pure] Points of the record: what a funnel's windows held when a minute or an hour of event time closed, and their bytes.

Markers have no past (semantics), so how many people a window held is known only if it was written down
then. A point is taken at the first reading of the ledger after the boundary B, over the windows that
end there. People who came in between are in it, and so a window is only recorded while T is past B by
no more than a twelfth of it; what is missed stays missing. Of the total and of the values of each
dimension, window by window, it holds

    incomplete                  0 or 1, of the total only
    users                       of each stage
    observed, worth × 1000      of each step: the parts of the age-adjusted rate; of values only where
                                the shape says so (the points of hours)

Bytes of a point: msgpack of [shape, planes], deflated. Planes are the numbers in 64 bits, those of the
least bytes first, then the next ones, as far as there are any but zeros; it is what makes small numbers
small, and is read at the speed of C. A point whose shape is that of the one before, of the same frame of
15, has no shape and only the differences. The first of a frame is whole, so that reading can begin there.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import msgspec

from schemas.duration import MICROS
from streams.rates import Split
from streams.retention import CONVERTED, USERS
from streams.turns import Steps
from streams.windows import FunnelCounts, cell, first_bucket

MINUTE, HOUR = 60, 3600
KEPT_SECONDS = {MINUTE: 48 * HOUR, HOUR: 90 * 24 * HOUR}  # how long points are kept, by step
FRAME = 15  # points from one whole point to the next
VALUES_MAX = 50  # recorded of a dimension, those with most people
BEHIND_SHARE = 12
BEHIND_US_MIN = 2 * MICROS
WORTH_SCALE = 1000
TOTAL = 0  # the number of no value


class Worth(Protocol):
    """What entries were worth that were due in a span. See `adjusting.Adjusting`."""

    def worth(self, stage: int, start_us: int, end_us: int, split: Split | None) -> float: ...


class Shape(NamedTuple):
    """What the numbers of a point are."""

    stages: int
    windows: tuple[int, ...]  # in seconds
    splits: tuple[int, ...]  # TOTAL first, then the numbers of values
    worth_by_value: bool

    def place(self, split: int, window: int) -> int | None:
        """Where the users of a split over a window begin; None: not in here."""
        if split not in self.splits or window not in self.windows:
            return None
        number = self.splits.index(split)
        before = len(self.windows) * (self._length(TOTAL) + (number - 1) * self._length(1)) if number else 0
        return before + self.windows.index(window) * self._length(split) + (split == TOTAL)

    def has_worth(self, split: int) -> bool:
        return split == TOTAL or self.worth_by_value

    def _length(self, split: int) -> int:
        return (split == TOTAL) + self.stages + (2 * (self.stages - 1) if self.has_worth(split) else 0)


class Point(NamedTuple):
    shape: Shape
    numbers: Sequence[int]


@dataclass
class Names:
    """The numbers of a funnel's dimension values, so that no point spells them out."""

    numbers: dict[Split, int] = field(default_factory=dict)
    fresh: dict[int, Split] = field(default_factory=dict)  # not written down yet

    def number(self, split: Split) -> int:
        found = self.numbers.get(split)
        if found is None:
            found = self.numbers[split] = max(self.numbers.values(), default=TOTAL) + 1
            self.fresh[found] = split
        return found


# When and what


def due(at_us: int, step_seconds: int, done_us: int) -> int | None:
    """The newest boundary up to T that is not recorded yet; earlier ones that were missed are gaps."""
    boundary_us = at_us // (step_seconds * MICROS) * step_seconds * MICROS
    return boundary_us if boundary_us > done_us else None


def in_time(window_seconds: int, boundary_us: int, at_us: int) -> bool:
    """Whether what a window holds at T still tells what it held at the boundary."""
    return at_us - boundary_us <= max(BEHIND_US_MIN, window_seconds * MICROS // BEHIND_SHARE)


def taking(
    counts: FunnelCounts, worth: Worth, windows: Sequence[int], boundary_us: int, at_us: int, names: Names,
    incomplete: Callable[[int], bool], *, worth_by_value: bool = False,
) -> Steps[Point | None]:  # fmt: skip
    """A funnel at a boundary that T has just passed; None where no window is in time, or nothing was counted before it.

    Counts must stay as they are meanwhile.
    """
    kept = tuple(window for window in windows if in_time(window, boundary_us, at_us))
    begun = any(bucket * width * MICROS < boundary_us for width, buckets in counts.buckets.items() for bucket in buckets)
    if not (kept and begun):
        return None
    spans = [_Span(counts, window, boundary_us, at_us) for window in kept]
    stages = len(counts.plan.funnel.stages)
    splits = [None, *(split for dimension in counts.plan.dimensions for split in _most(dimension, counts, spans, stages))]
    numbers: list[int] = []
    for split in splits:
        for span in spans:
            if split is None:
                numbers.append(int(incomplete(span.window)))
            numbers += [span.open(cell(USERS, stage, *(split or ()))) for stage in range(stages)]
            if split is None or worth_by_value:
                numbers += [number for stage in range(1, stages) for number in span.adjusted(worth, stage, split)]
                yield  # weighing entries by their age is most of the work
    shown = (TOTAL, *(names.number(split) for split in splits[1:] if split is not None))
    return Point(Shape(stages, kept, shown, worth_by_value), numbers)


class _Span:
    """The window that ended at a boundary."""

    def __init__(self, counts: FunnelCounts, window: int, boundary_us: int, at_us: int) -> None:
        self.window = window
        width, first = first_bucket(window, boundary_us - 1)
        now = first_bucket(window, at_us)[1]
        self._sums = counts.window(window, at_us)
        buckets = counts.buckets.get(width, {})
        self._left = [buckets[b] for b in range(first, now) if b in buckets]  # by now out of the window
        closed = (boundary_us - 1) // (width * MICROS) + 1
        self._after = [buckets[b] for b in range(closed, at_us // (width * MICROS) + 1) if b in buckets]
        self._start_us, self._end_us = first * width * MICROS, closed * width * MICROS

    def open(self, name: str) -> int:
        """A count from the window's beginning onward."""
        return self._sums.get(name, 0) + sum(cells.get(name, 0) for cells in self._left)

    def adjusted(self, worth: Worth, stage: int, split: Split | None) -> tuple[int, int]:
        """Conversions into a stage until the window's end, and what the entries due were worth."""
        name = cell(CONVERTED, stage, *(split or ()))
        observed = self.open(name) - sum(cells.get(name, 0) for cells in self._after)
        return observed, round(worth.worth(stage, self._start_us, self._end_us, split) * WORTH_SCALE)


def _most(dimension: str, counts: FunnelCounts, spans: Sequence[_Span], stages: int) -> list[Split]:
    """The values that anybody is counted under in any window, those with most people first."""
    found = []
    for value in counts.values(dimension):
        most = [max(span.open(cell(USERS, stage, dimension, value)) for span in spans) for stage in range(stages)]
        if any(most):
            found.append((-most[0], value))
    # In the order of their names: so the shape stays what it was while their ranks change.
    return sorted((dimension, value) for _, value in sorted(found)[:VALUES_MAX])


# Bytes

_encode: Any = msgspec.msgpack.Encoder().encode
_decode: Any = msgspec.msgpack.Decoder(tuple[Shape | None, bytes]).decode


def frame(at_us: int, step_seconds: int) -> int:
    """The number of the frame that a boundary is in."""
    return at_us // (step_seconds * FRAME * MICROS)


def pack(point: Point, before: Point | None = None) -> bytes:
    """A point's bytes; `before` is the one recorded before it in its frame."""
    if before is not None and before.shape == point.shape:
        changed = [now - then for now, then in zip(point.numbers, before.numbers)]
        return _deflate(_encode((None, _planes(changed))))
    return _deflate(_encode((point.shape, _planes(point.numbers))))


def unpack(entries: Iterable[tuple[int, bytes]], places: Callable[[Shape], Sequence[int]]) -> Iterator[tuple[int, Shape, list[int]]]:
    """(boundary, shape, the numbers at the places asked for) of points in order, from the first of a frame on.

    What comes before the first whole point, or cannot be read, is left out.
    """
    shape: Shape | None = None
    wanted: Sequence[int] = ()
    numbers: list[int] = []
    for at_us, packed in entries:
        try:
            found, planes = _decode(zlib.decompress(packed, -zlib.MAX_WBITS))
            if found is not None:
                shape, wanted = found, places(found)
                numbers = [0] * len(wanted)
            if shape is None:
                continue
            values = _values(planes, _count(shape))
        except (zlib.error, msgspec.DecodeError, ValueError):
            shape = None
            continue
        zigzag = [values[place] for place in wanted]
        numbers = [then + ((n >> 1) ^ -(n & 1)) for then, n in zip(numbers, zigzag)]
        yield at_us, shape, numbers


def _count(shape: Shape) -> int:
    """How many numbers a point of a shape has."""
    values = len(shape.splits) - 1
    return len(shape.windows) * (shape._length(TOTAL) + values * shape._length(1))


def _planes(numbers: Sequence[int]) -> bytes:
    zigzag = array("Q", [n << 1 if n >= 0 else (-n << 1) - 1 for n in numbers])
    if sys.byteorder == "big":
        zigzag.byteswap()
    raw, planes = zigzag.tobytes(), (max(zigzag, default=0).bit_length() + 7) // 8
    return b"".join([raw[plane::8] for plane in range(planes)])


def _values(planes: bytes, count: int) -> array[int]:
    if count == 0 or len(planes) % count or len(planes) > 8 * count:
        raise ValueError(f"{len(planes)} bytes are not the planes of {count} numbers")
    raw = bytearray(8 * count)
    for plane in range(len(planes) // count):
        raw[plane::8] = planes[plane * count : (plane + 1) * count]
    values = array("Q", bytes(raw))
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _deflate(raw: bytes) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(raw) + squeeze.flush()
