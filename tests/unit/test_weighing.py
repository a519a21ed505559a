"""Σ factor × sum from one place after the other is the sum of the products, rounded once."""

from __future__ import annotations

from itertools import accumulate
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.weighing import weigh_from


def plainly(sums: list[float], starts: list[int], edges: list[int], factors: list[float]) -> list[float]:
    return [fsum([sums[start + edge] * factor for edge, factor in zip(edges, factors)]) for start in starts]


def factors_of(weights: list[float]) -> list[float]:
    """As of groups one after the other: their sum is 0 but for rounding."""
    return [weight - following for weight, following in zip([0.0, *weights], [*weights, 0.0])]


@given(
    st.lists(st.integers(0, 3), min_size=60, max_size=60),
    st.integers(0, 10**9),
    st.sets(st.integers(0, 40), min_size=2, max_size=40),
    st.randoms(use_true_random=False),
)
def test_it_is_the_double_nearest_to_the_sum_of_the_products(came: list[int], before: int, places: set[int], luck: object) -> None:
    sums, edges = [float(n) for n in accumulate(came, initial=before)], sorted(places)
    factors = factors_of([luck.random() for _ in edges[1:]])  # type: ignore[attr-defined]  # hypothesis gives a Random
    starts = sorted(luck.sample(range(20), 12))  # type: ignore[attr-defined]
    assert weigh_from(sums, starts, edges, factors) == plainly(sums, starts, edges, factors)


@pytest.mark.parametrize("level", [0.0, 3.0, 123_456_789.0])
def test_so_it_is_where_nobody_came_and_products_cancel(level: float) -> None:
    sums, edges, starts = [level] * 30 + [level + 1] * 30, list(range(0, 20, 2)), list(range(40))
    factors = factors_of([0.1 * n for n in range(9)])
    assert weigh_from(sums, starts, edges, factors) == plainly(sums, starts, edges, factors)


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=30))
def test_so_it_is_of_any_factors(factors: list[float]) -> None:
    sums, edges = [float(n * n) for n in range(40)], list(range(len(factors)))
    assert weigh_from(sums, [0, 3, 9], edges, factors) == plainly(sums, [0, 3, 9], edges, factors)
