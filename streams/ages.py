"""[pure] Ages at conversion on a log scale: four bins an octave, so that a bin is 12 to 25% wide.

Bin boundaries are those of a floating point number with two bits of mantissa, in milliseconds: no
logarithm is taken, and a bin is the same on every machine. Ages below 4 ms have a bin a millisecond.
"""

from __future__ import annotations

MILLI_US = 1000


def age_bin(age_us: int) -> int:
    """The number of the bin that holds an age, given in µs and not negative."""
    age = age_us // MILLI_US
    octave = age.bit_length()
    return age if octave < 3 else (octave - 2 << 2) + (age >> octave - 3 & 3)


def bin_start_us(number: int) -> int:
    """The least age in a bin, in µs; that of the following bin is its end."""
    if number < 4:
        return number * MILLI_US
    octave, part = divmod(number, 4)
    return (4 + part << octave - 1) * MILLI_US
