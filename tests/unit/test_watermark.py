"""The time a report is about, and when it must say that somebody's records are missing from it."""

from __future__ import annotations

import pytest

from streams.watermark import STALE_US, is_catching_up, is_stale, report_time

NOW = 1_690_000_000_000_000


@pytest.mark.parametrize(
    ("watermarks", "at"),
    [
        ([NOW - 5], NOW - 5),
        ([NOW - 9, NOW - 5, NOW - 7], NOW - 5),
        ([-1, NOW - 5], NOW - 5),
        ([NOW + 5], NOW),
        ([NOW - 5, NOW + 5], NOW),
        ([0], 0),
        ([-1, -1], None),
        ([], None),
    ],
)
def test_it_is_the_lesser_of_the_clock_and_the_greatest_watermark(watermarks: list[int], at: int | None) -> None:
    assert report_time(watermarks, NOW, None) == at


@pytest.mark.parametrize("watermarks", [[NOW - 60], [-1], []])
def test_it_never_goes_back(watermarks: list[int]) -> None:
    assert report_time(watermarks, NOW, NOW - 50) == NOW - 50


def test_it_goes_on_when_the_clock_was_set_back_and_caught_up() -> None:
    assert report_time([NOW], NOW - 100, NOW - 50) == NOW - 50
    assert report_time([NOW], NOW - 10, NOW - 50) == NOW - 10


@pytest.mark.parametrize(
    ("behind_us", "lag", "stale"),
    [(STALE_US + 1, 1, True), (STALE_US, 1, False), (STALE_US + 1, 0, False), (0, 1000, False)],
)
def test_a_report_is_stale_when_a_partition_with_unread_records_is_far_behind(behind_us: int, lag: int, stale: bool) -> None:
    assert is_stale({0: NOW, 1: NOW - behind_us}, {0: 0, 1: lag}, NOW) is stale


def test_a_partition_that_never_had_an_event_is_behind_once_it_has_records() -> None:
    assert is_stale({0: NOW, 1: -1}, {0: 0, 1: 1}, NOW)
    assert not is_stale({0: NOW, 1: -1}, {0: 0, 1: 0}, NOW)


def test_without_a_known_end_nothing_is_called_unread() -> None:
    assert not is_stale({0: NOW, 1: -1}, {}, NOW)


def test_before_the_first_event_nothing_is_stale() -> None:
    assert not is_stale({0: -1}, {0: 5}, None)


@pytest.mark.parametrize(
    ("behind_us", "lag", "catching_up"),
    [(STALE_US + 1, 1, True), (STALE_US, 1, False), (STALE_US + 1, 0, False), (STALE_US + 1, None, False)],
)
def test_a_report_catches_up_while_it_is_about_the_past_and_records_wait(behind_us: int, lag: int | None, catching_up: bool) -> None:
    assert is_catching_up(NOW - behind_us, NOW, lag) is catching_up


def test_before_the_first_event_nothing_catches_up() -> None:
    assert not is_catching_up(None, NOW, 5)
