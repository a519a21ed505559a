"""The mean time to an alarm of a CUSUM, by an exact Markov chain over levels of its score.

D. Brook and D. A. Evans, "An approach to the probability distribution of cusum run length", Biometrika
59 (1972), 539-549. An addition that falls between two levels is shared by them, so that its mean is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp

from alerting.detectors import Evidence

STATES = 120


def poisson(mean: float) -> list[float]:
    chances = [exp(-mean)]
    while sum(chances) < 1 - 1e-12 and len(chances) < mean + 100:
        chances.append(chances[-1] * mean / len(chances))
    return chances


def one_entrant(of: Evidence, rate: float) -> list[tuple[float, float]]:
    """What one entrant adds, and its chance."""
    return [(of.of(1, 1), rate), (of.of(0, 1), 1 - rate)]


def one_bucket(of: Evidence, rate: float, entrants: float) -> list[tuple[float, float]]:
    """What a bucket adds: of Poisson entrants, or of so much worth."""
    hits = list(enumerate(poisson(entrants * rate)))
    if of.poisson:
        return [(of.of(k, entrants), chance) for k, chance in hits]
    misses = list(enumerate(poisson(entrants * (1 - rate))))
    return [(of.of(k, k + j), hit * miss) for k, hit in hits for j, miss in misses]


def mean_time(additions: Iterable[tuple[float, float]], limit: float, states: int = STATES) -> float:
    """The mean number of additions until the score, from 0 and never under it, is at the limit."""
    step = limit / states
    chances: dict[int, float] = {}
    for value, chance in additions:
        whole = int(value / step // 1)
        share = value / step - whole
        for place, part in ((whole, 1 - share), (whole + 1, share)):
            chances[place] = chances.get(place, 0.0) + chance * part
    rows = [[0.0] * states for _ in range(states)]
    for here, row in enumerate(rows):
        row[here] += 1
        for place, chance in chances.items():
            if here + place < states:
                row[max(0, here + place)] -= chance
    return _first(rows)


def _first(matrix: list[list[float]]) -> float:
    """The first unknown of matrix × unknowns = 1, by elimination from the last one up."""
    right = [1.0] * len(matrix)
    for place in range(len(matrix) - 1, 0, -1):
        pivot = matrix[place]
        for above in range(place):
            row = matrix[above]
            factor = row[place] / pivot[place]
            if factor:
                matrix[above] = [a - factor * b for a, b in zip(row[:place], pivot)]
                right[above] -= factor * right[place]
    return right[0] / matrix[0][0]
