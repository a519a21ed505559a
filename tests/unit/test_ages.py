"""Ages at conversion have bins that are the same everywhere and fine enough for a rate."""

from __future__ import annotations

import random

import pytest

from streams.ages import age_bin, bin_start_us, quantile_us


@pytest.mark.parametrize(
    ("age_ms", "number"),
    [(0, 0), (0.999, 0), (1, 1), (3.999, 3), (4, 4), (7.999, 7), (8, 8), (9.999, 8), (10, 9), (15, 11), (16, 12), (1000, 35), (1024, 36)],
)
def test_a_bin_has_a_number_that_never_changes(age_ms: float, number: int) -> None:
    """Counts are stored under it. E.g. 1000 ms is in the last quarter (896 to 1023) of the octave that begins at 512."""
    assert age_bin(round(age_ms * 1000)) == number


def test_every_age_lies_in_its_bin() -> None:
    chance = random.Random(1)
    ages = [*range(0, 100_000, 250), *(chance.randrange(2**bits) for bits in range(1, 47) for _ in range(50))]
    assert [age for age in ages if not bin_start_us(age_bin(age)) <= age < bin_start_us(age_bin(age) + 1)] == []


def test_a_bin_begins_where_the_one_before_it_ends() -> None:
    starts = [bin_start_us(number) for number in range(200)]
    assert [age_bin(start) for start in starts] == [*range(200)]
    assert [age_bin(start - 1) for start in starts[1:]] == [*range(199)]


def test_a_bin_is_12_to_25_percent_wide_but_for_the_first_milliseconds() -> None:
    assert [bin_start_us(number) for number in range(5)] == [0, 1000, 2000, 3000, 4000]
    widths = [bin_start_us(number + 1) / bin_start_us(number) - 1 for number in range(4, 200)]
    assert max(widths) == 0.25
    assert min(widths) > 1 / 8


def test_a_quantile_is_as_close_as_its_bin_is_wide() -> None:
    chance = random.Random(2)
    ages = sorted(round(chance.lognormvariate(17, 1.5)) for _ in range(5000))
    bins: dict[int, int] = {}
    for age in ages:
        bins[age_bin(age)] = bins.get(age_bin(age), 0) + 1
    for share in (0.1, 0.5, 0.9, 0.99):
        assert quantile_us(bins, share) == pytest.approx(ages[int(share * len(ages))], rel=0.13)


def test_a_quantile_is_interpolated_within_its_bin() -> None:
    start, end = bin_start_us(40), bin_start_us(41)
    assert quantile_us({40: 4}, 0.5) == (start + end) / 2
    assert quantile_us({40: 4}, 1) == end
    assert quantile_us({30: 1, 40: 3}, 0.25) == bin_start_us(31)
    assert quantile_us({40: 2, 30: 2}, 0.75) == (start + end) / 2


def test_without_conversions_there_is_no_quantile() -> None:
    assert quantile_us({}, 0.5) is None
    assert quantile_us({3: 0}, 0.5) is None
