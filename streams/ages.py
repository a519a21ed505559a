"""[pure] Ages at conversion on a log scale: four bins an octave, so that a bin is 12 to 25% wide.

Bin boundaries are those of a floating point number with two bits of mantissa, in milliseconds: no
logarithm is taken, and a bin is the same on every machine. Ages below 4 ms have a bin a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MILLI_US: Final = 1000
OCTAVE_BINS = 4


def age_bin(age_us: int) -> int:
    """The number of the bin that holds an age, given in µs and not negative."""
    age = age_us // MILLI_US
    octave = age.bit_length()
    return age if octave < 3 else (octave - 2 << 2) + (age >> octave - 3 & 3)


def quantile_us(ages: Mapping[int, int], share: float) -> float | None:
    """The age that a share of the conversions did not exceed, interpolated within its bin; None without conversions.

    `ages`: conversions by bin. The error is that of a bin's width, 12 to 25%.
    """
    due = share * sum(ages.values())
    if not due:
        return None
    for number in sorted(ages):
        if ages[number] >= due:
            start = bin_start_us(number)
            return start + (bin_start_us(number + 1) - start) * due / ages[number]
        due -= ages[number]
    return float(bin_start_us(max(ages) + 1))


def bin_start_us(number: int) -> int:
    """The least age in a bin, in µs; that of the following bin is its end."""
    if number < 4:
        return number * MILLI_US
    octave, part = divmod(number, 4)
    return (4 + part << octave - 1) * MILLI_US
