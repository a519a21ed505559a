"""[pure] Σ factor × sum, from one place after the other: the sums behind each worth, as machine code where that was made.

The products are added up with what each addition loses (Knuth's two-sum), and the two are made one at the end.
That is the double nearest to the sum of the products, the one `math.fsum` finds, wherever the bound on what
is still lost leaves no other (Ziv's test: A. Ziv, Fast evaluation of elementary mathematical functions with
correctly rounded last bit, ACM Transactions on Mathematical Software 17, 1991); elsewhere `fsum` is asked.
"""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i64  # a machine number, where this is machine code

LOST = 4e-16  # of what additions lose, an addition of those loses less


def weigh_from(sums: list[float], starts: list[int], edges: list[int], factors: list[float]) -> list[float]:
    """From each start: Σ factors[k] × sums[start + edges[k]], rounded once. All places lie within the sums."""
    count: i64 = len(edges)
    bound, found = LOST * len(edges), list[float]()
    level, of_level = -1.0, 0.0  # where sums are the same all over, and what that comes to
    place: i64
    for begin in starts:
        start: i64 = begin
        total, lost, size = 0.0, 0.0, 0.0
        for place in range(count):
            edge: i64 = edges[place]
            product: float = sums[start + edge] * factors[place]
            larger: float = total + product
            part: float = larger - total
            missed: float = (total - (larger - part)) + (product - part)
            total = larger
            lost += missed
            size += missed if missed >= 0.0 else -missed
        nearest = total + lost
        if total + (lost - bound * size) != nearest or total + (lost + bound * size) != nearest:
            first, level_here = sums[start + edges[0]], all_equal(sums, begin, edges)
            if level_here and first == level:
                nearest = of_level
            else:
                nearest = fsum([sums[begin + edge] * factor for edge, factor in zip(edges, factors)])
                if level_here:
                    level, of_level = first, nearest
        found.append(nearest)
    return found


def all_equal(sums: list[float], start: int, edges: list[int]) -> bool:
    """Whether there is one value at all the edges."""
    first = sums[start + edges[0]]
    return all(sums[start + edge] == first for edge in edges)
