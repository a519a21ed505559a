"""[pure] Users of trailing windows as of each boundary of a stretch that was counted for at once, told by every reach.

A person is in a window from the first boundary after a reach up to the last one at which the bucket of the reach is
still in the window, and a later reach makes that longer. So a stretch's numbers of users are the running sums of who
comes and who goes at each boundary; they are those of the marks that move from bucket to bucket (see `windows`).
They hold while reaches come in the order of time, as those of a history do, and of everybody only: a reach does not
tell the values of dimensions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from schemas.duration import MICROS, bucket_seconds
from streams.retention import BUCKET_US

FORGET_MIN = 10_000  # people who are held before those that are gone are looked for

Reach = tuple[str, int, int]  # entity, place of the stage, event time in µs


class PassedUsers:
    """Of one funnel: for each stage (by its place) and window (in seconds) that is asked for."""

    def __init__(self, asked: Iterable[tuple[int, int]]) -> None:
        self._windows: dict[int, dict[int, _Window]] = {}  # by place and seconds
        for place, seconds in asked:
            self._windows.setdefault(place, {})[seconds] = _Window(seconds)

    def follow(self, reaches: Iterable[Reach], first_us: int, last_us: int) -> None:
        """Take in all reaches from the end of the last stretch on, and tell of the boundaries of a new one from now on."""
        for entity, place, at_us in reaches:
            for window in self._windows.get(place, {}).values():
                window.reach(entity, at_us)
        for window in self._all():
            window.go_on(first_us, last_us)

    def users(self, place: int, seconds: int, boundaries_us: Sequence[int]) -> list[int]:
        """Distinct entities that reached the stage within the window that ends at each of the boundaries."""
        window = self._windows[place][seconds]
        return [window.counts[(at_us - window.first_us) // BUCKET_US] for at_us in boundaries_us]

    def _all(self) -> Iterator[_Window]:
        return (window for of_place in self._windows.values() for window in of_place.values())


class _Window:
    def __init__(self, seconds: int) -> None:
        width = bucket_seconds(seconds)
        self._width_us, self._buckets = width * MICROS, seconds // width
        self._lasts: dict[str, int] = {}  # entity -> the last boundary it is in the window at, as far as is known
        self._many = FORGET_MIN
        self._changes: dict[int, int] = defaultdict(int)  # boundary -> how many more there are than at the one before
        self.first_us, self.counts = 0, [0]  # at each boundary of the stretch

    def reach(self, entity: str, at_us: int) -> None:
        begins_us = (at_us // BUCKET_US + 1) * BUCKET_US
        ends_us = (at_us // self._width_us + self._buckets) * self._width_us
        known_us = self._lasts.get(entity, -1)
        if ends_us <= known_us:
            return
        if known_us >= begins_us:
            self._changes[known_us + BUCKET_US] += 1
        else:
            self._changes[begins_us] += 1
        self._changes[ends_us + BUCKET_US] -= 1
        self._lasts[entity] = ends_us

    def go_on(self, first_us: int, last_us: int) -> None:
        changes = self._changes
        before = self.counts[-1] + sum([changes.pop(at_us) for at_us in [at_us for at_us in changes if at_us < first_us]])
        coming = [changes.pop(at_us, 0) for at_us in range(first_us, last_us + 1, BUCKET_US)]
        self.first_us, self.counts = first_us, list(accumulate(coming, initial=before))[1:]
        if len(self._lasts) > self._many:
            self._lasts = {entity: ends_us for entity, ends_us in self._lasts.items() if ends_us >= last_us}
            self._many = max(FORGET_MIN, 2 * len(self._lasts))
