"""[pure] Watermarks, the time T a report is about, and when it is stale (semantics.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

STALE_US = 60_000_000


def report_time(watermarks_us: Iterable[int], wall_clock_us: int, before_us: int | None) -> int | None:
    """T: the lesser of the wall clock and the greatest watermark of any partition; it never goes back.

    None before the first event. A partition without events has the watermark -1.
    """
    greatest = max(watermarks_us, default=-1)
    if greatest < 0:
        return before_us
    now = min(greatest, wall_clock_us)
    return now if before_us is None else max(now, before_us)


def is_stale(watermarks_us: Mapping[int, int], lags: Mapping[int, int], at_us: int | None) -> bool:
    """Whether a partition has unread records and stands more than 60 s behind T.

    A partition without any event yet but with records to read counts as behind.
    """
    if at_us is None:
        return False
    return any(lags.get(p, 0) > 0 and mark < at_us - STALE_US for p, mark in watermarks_us.items())


def is_catching_up(at_us: int | None, wall_clock_us: int, lag: int | None) -> bool:
    """Whether T runs through the past because records wait to be read: no time to judge rates."""
    return at_us is not None and bool(lag) and at_us < wall_clock_us - STALE_US
