"""Who comes: conversions and misses by bucket of ten seconds, at random."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator
from functools import lru_cache
from math import exp

BUCKET_SECONDS = 10
DAY_BUCKETS = 8640
HEALTHY, BROKEN, THRESHOLD = 0.35, 0.15, 0.30


@lru_cache(maxsize=10_000)
def shares(mean: float) -> tuple[float, ...]:
    """The chance that a Poisson number is at most 0, 1, …"""
    chance = total = exp(-mean)
    found = [total]
    while total < 1 - 1e-13 and len(found) < mean + 400:
        chance *= mean / len(found)
        total += chance
        found.append(total)
    return tuple(found)


class Traffic:
    """Buckets of Poisson entrants, each of whom converts by chance."""

    def __init__(self, seed: object) -> None:
        self._chance = random.Random(repr(seed))

    def bucket(self, per_minute: float, rate: float) -> tuple[int, int]:
        """Conversions and entrants: of a Poisson number of entrants both kinds are Poisson, one apart from the other."""
        mean = per_minute * BUCKET_SECONDS / 60
        draw = self._chance.random
        converted = bisect(shares(mean * rate), draw())
        return converted, converted + bisect(shares(mean * (1 - rate)), draw())

    def total(self, entrants: float, rate: float) -> tuple[int, int]:
        """The same of a long time."""
        came = max(0, round(self._chance.gauss(entrants, entrants**0.5)))
        return min(came, max(0, round(self._chance.gauss(came * rate, (came * rate * (1 - rate)) ** 0.5)))), came

    def phase(self) -> float:
        """A moment within a bucket, in seconds."""
        return self._chance.random() * BUCKET_SECONDS

    def entrants(self, per_minute: float, since: float, broken_at: float) -> Iterator[tuple[float, bool]]:
        """One by one, for ever: when, in seconds, and whether it converts."""
        moment, chance = since, self._chance
        while True:
            moment += chance.expovariate(per_minute / 60)
            yield moment, chance.random() < (HEALTHY if moment < broken_at else BROKEN)
