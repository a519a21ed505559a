"""Entries of one step, when they open, and when they convert."""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

SECOND_US = 1_000_000
SLOT_US = 10 * SECOND_US
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
SLOTS = DAY_US // SLOT_US  # of a day
BEGIN_US = 19_723 * DAY_US  # 2024-01-01, a Monday
FEWEST, MOST = 30.0, 300.0  # entries a minute, at four in the morning and in the afternoon
DELAY_MEDIAN_HOURS, DELAY_SIGMA = 1.5, 1.3
WINDOW_US = DAY_US  # conversion window
LEVEL = 0.3
FAILING = 0.6


def even(hour: int) -> float:
    """Every hour's entries convert alike."""
    return 1.0


def sleepy(hour: int) -> float:
    """Of those who open at night half as many convert."""
    return 0.5 if hour < 7 else 1.0


@dataclass(frozen=True)
class Scenario:
    """What is simulated, from `BEGIN_US` on."""

    days: int
    seed: int
    broken_us: int | None = None  # the moment from which conversions fail
    traffic: float = 1.0  # times as many entries
    swing: float = 0.2  # a day has up to so much more or less of them
    by_hour: Callable[[int], float] = even

    @property
    def end_us(self) -> int:
        return BEGIN_US + self.days * DAY_US


@dataclass(frozen=True)
class Conversion:
    """An entry that converts, or that would have."""

    opened_us: int
    converted_us: int
    failed: bool


@dataclass(frozen=True)
class Slot:
    """Ten seconds: how many entries opened, and the conversions, failed ones too, of those who would convert."""

    start_us: int
    opened: int
    converting: tuple[Conversion, ...]  # by moment of opening


def rate_per_minute(of_day_us: int) -> float:
    """Entries a minute at a time of day, before the day's own factor."""
    middle, half = (MOST + FEWEST) / 2, (MOST - FEWEST) / 2
    return middle - half * math.cos(2 * math.pi * (of_day_us / HOUR_US - 4) / 24)


def delay_share(age_us: float) -> float:
    """The true share of conversions that come by an age: a log-normal distribution, cut off at the conversion window."""
    if age_us <= 0:
        return 0.0
    return min(1.0, _log_normal(age_us) / _log_normal(WINDOW_US))


def _log_normal(age_us: float) -> float:
    z = math.log(age_us / HOUR_US / DELAY_MEDIAN_HOURS) / DELAY_SIGMA
    return 0.5 * math.erfc(-z / math.sqrt(2))


def slots(scenario: Scenario) -> Iterator[Slot]:
    """What happens, ten seconds by ten seconds."""
    rng = random.Random(scenario.seed)
    for day in range(scenario.days):
        factor = scenario.traffic * rng.uniform(1 - scenario.swing, 1 + scenario.swing)
        for number in range(SLOTS):
            mean = factor * rate_per_minute(number // 6 * 6 * SLOT_US) / 6
            level = LEVEL * scenario.by_hour(number * SLOT_US // HOUR_US)
            start_us = BEGIN_US + day * DAY_US + number * SLOT_US
            opened = [start_us + int(rng.random() * SLOT_US) for _ in range(_poisson(rng, mean * level))]
            converting = tuple(_conversion(rng, at, scenario.broken_us) for at in sorted(opened))
            yield Slot(start_us, len(converting) + _poisson(rng, mean * (1 - level)), converting)


def _conversion(rng: random.Random, opened_us: int, broken_us: int | None) -> Conversion:
    delay_us = WINDOW_US
    while delay_us >= WINDOW_US:
        delay_us = int(math.exp(rng.gauss(0, DELAY_SIGMA)) * DELAY_MEDIAN_HOURS * HOUR_US)
    converted_us = opened_us + delay_us
    failed = broken_us is not None and converted_us >= broken_us and rng.random() < FAILING
    return Conversion(opened_us, converted_us, failed)


def _poisson(rng: random.Random, mean: float) -> int:
    """A Poisson number, by its distribution function, of which a table is kept."""
    return bisect(_distribution(mean), rng.random())


@lru_cache(maxsize=100)
def _distribution(mean: float) -> tuple[float, ...]:
    most = int(mean + 12 * math.sqrt(mean) + 12)
    return tuple(accumulate([math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(most)]))
