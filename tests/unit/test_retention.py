"""How long counts and states are kept: as long as a window may read them, and no count in a width that nobody asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from streams.retention import (
    AGES,
    BUCKET_US,
    COHORTS,
    CONVERSIONS,
    CONVERTED,
    ENTRIES,
    EVENTS,
    REACHES,
    USERS,
    VALUE,
    kept_widths,
    state_seconds,
)

MINUTE, HOUR, DAY = 60, 3600, 86_400


def test_the_families_are_those_of_reaches_and_those_of_entries() -> None:
    assert {USERS, EVENTS, VALUE} == REACHES
    assert {ENTRIES, CONVERSIONS, CONVERTED, AGES} == COHORTS


@pytest.mark.parametrize(
    ("windows", "widths"),
    [
        ([10], [10, HOUR]),
        ([5 * MINUTE, HOUR], [10, HOUR]),
        ([HOUR + MINUTE], [60, HOUR]),
        ([DAY], [60, HOUR]),
        ([25 * HOUR], [HOUR]),
        ([7 * DAY, MINUTE, 2 * HOUR], [10, 60, HOUR]),
    ],
)
def test_a_window_is_made_of_buckets_of_its_width_and_the_hour_is_always_kept(windows: list[int], widths: list[int]) -> None:
    assert [kept.seconds for kept in kept_widths(windows, 600, 0)] == widths, "finest first"


@pytest.mark.parametrize("windows", [[10], [DAY], [25 * HOUR], [MINUTE, 7 * DAY]])
def test_users_are_kept_only_in_the_widths_of_windows_entries_in_the_hour_too(windows: list[int]) -> None:
    for kept in kept_widths(windows, 600, 0):
        asked = kept.seconds != HOUR or max(windows) > DAY
        assert kept.families == (REACHES | COHORTS if asked else COHORTS)


@pytest.mark.parametrize(("width", "longest"), [(10, HOUR), (60, DAY), (HOUR, 30 * DAY)])
@pytest.mark.parametrize("slack", [0, 1, 360])
def test_a_bucket_is_kept_until_no_window_of_its_width_reaches_it(width: int, longest: int, slack: int) -> None:
    """Also of a window that is added later, and by whoever is `slack` behind the watermark."""
    kept = {k.seconds: k for k in kept_widths([10, DAY, 7 * DAY], 600, slack)}[width]
    for watermark in (10**9, 10**9 + width - 1, 10**9 + 7):
        oldest = watermark // width - kept.count
        assert oldest <= (watermark - slack - longest) // width + 1
        assert (oldest + 1) * width > watermark - slack - longest - 600 - 2 * width, "nor much longer"


def test_an_hour_is_kept_for_as_long_as_an_entry_of_it_may_convert_beyond() -> None:
    short, long = kept_widths([10], HOUR, 0)[-1], kept_widths([10], 90 * DAY, 0)[-1]
    assert long.count - short.count == 90 * 24 - 1
    assert short.count * HOUR >= 30 * DAY + HOUR


@pytest.mark.parametrize(
    ("windows", "conversion", "lateness"),
    [([10], 60, 60), ([10], 90 * DAY, 60), ([DAY], 600, 600), ([7 * DAY], 600, 0), ([10, DAY], 2 * DAY, 2 * DAY)],
)
def test_a_state_outlasts_its_chains_its_marks_and_late_events(windows: list[int], conversion: int, lateness: int) -> None:
    kept = kept_widths(windows, conversion, 360)
    found = state_seconds(kept, conversion, lateness)
    assert found >= conversion + 2 * lateness, "an event as late as allowed may convert what is as old as the window"
    for one in kept:
        if USERS in one.families:  # a mark may lie at the beginning of the oldest bucket that is kept
            assert found >= (one.count + 1) * one.seconds


def test_a_state_does_not_last_as_long_as_the_hours_where_no_window_asks_for_users_by_the_hour() -> None:
    assert state_seconds(kept_widths([10], 60, 0), 60, 60) < 2 * HOUR
    assert state_seconds(kept_widths([25 * HOUR], 60, 0), 60, 60) > 30 * DAY


def test_buckets_of_every_width_are_made_of_whole_buckets_of_the_finest() -> None:
    chance = random.Random(1)
    widths: Sequence[int] = [k.seconds for k in kept_widths([10, DAY, 7 * DAY], 60, 0)]
    assert [width * 1_000_000 % BUCKET_US for width in widths] == [0, 0, 0]
    for _ in range(50):
        at_us = chance.randrange(2 * 10**15)
        assert [at_us // BUCKET_US * 10 // width for width in widths] == [at_us // (width * 1_000_000) for width in widths]
