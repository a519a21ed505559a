"""[pure] The rate of a step as it was before now, for a picture of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from alerting.conditions import Verdict
from alerting.samples import look
from schemas.duration import MICROS, Duration, bucket_seconds
from schemas.rule import Rule
from streams.adjusting import Adjusting
from streams.baseline import HOUR_US, Curve, NoBaseline
from streams.rates import Split
from streams.retention import CONVERTED, ENTRIES, HOUR_SECONDS, LONGEST_SECONDS
from streams.windows import FunnelCounts, cell

POINTS = 60
WINDOWS_MIN = 12  # that a picture spans
ENTRANTS_MIN = 5  # of a point


def series(
    rule: Rule, counts: FunnelCounts, adjusting: Adjusting | None, stage: int, boundary_us: int, verdict: Verdict, split: Split | None
) -> tuple[int, tuple[tuple[int, float], ...]]:
    """The rate before the boundary, as the rule sees it, as far back as buckets of its width are kept.

    Over the rule's window, or a part of it where hardly more than the window is kept. Users have no past.
    """
    width = bucket_seconds(rule.window)
    kept = LONGEST_SECONDS[width]
    seconds = min(int(rule.window), kept // WINDOWS_MIN // width * width)
    step = max(width, (kept - seconds) // POINTS // width * width)
    ends = range(boundary_us - (kept - seconds) // step * step * MICROS, boundary_us + 1, step * MICROS)
    past: Callable[[int], tuple[int, float]]
    if verdict.basis == "adjusted" and adjusting is not None:
        usual = adjusting.baseline(stage, None)
        if isinstance(usual, NoBaseline):
            return 0, ()
        past = _Past(counts, usual.curve, stage, width, boundary_us, split).window(seconds)
    elif verdict.basis == "entries":
        past = partial(_finished, rule, counts, stage, split, seconds)
    else:
        return 0, ()
    found = [(at_us, *past(at_us)) for at_us in ends]
    return seconds, tuple((at_us, round(seen / of, 5)) for at_us, seen, of in found if of >= ENTRANTS_MIN)


def _finished(rule: Rule, counts: FunnelCounts, stage: int, split: Split | None, seconds: int, at_us: int) -> tuple[int, float]:
    plain = {
        "basis": "entries",
        "window": Duration(f"{seconds}s"),
        "widen_to": None,
        "long_window": None,
        "drop": None,
        "detector": "windowed",
    }
    seen = look(rule.model_copy(update=plain), counts, None, stage, split, at_us).window
    return seen.numerator, seen.denominator


class _Past:
    """Conversions and the worth of what was due, in windows that ended earlier.

    Entries come from fine buckets as far as these are kept, and from hours before that, less what the
    fine ones already have of an hour. Within a bucket they are spread evenly.
    """

    def __init__(self, counts: FunnelCounts, curve: Curve, stage: int, width: int, boundary_us: int, split: Split | None) -> None:
        self._curve = curve
        self._width_us = width * MICROS
        self._fine = counts.buckets.get(width, {})
        self._converted = cell(CONVERTED, stage, *(split or ()))
        opened = cell(ENTRIES, stage - 1, *(split or ()))
        since_us = boundary_us - LONGEST_SECONDS[width] * MICROS
        self._opened = [(b * self._width_us, self._width_us, n) for b, c in self._fine.items() if (n := c.get(opened, 0))]
        self._opened = [group for group in self._opened if group[0] >= since_us]
        oldest_us = since_us - counts.plan.funnel.conversion_window.micros
        for hour, cells in counts.buckets.get(HOUR_SECONDS, {}).items():
            start_us, end_us = hour * HOUR_US, min((hour + 1) * HOUR_US, since_us)
            if oldest_us - HOUR_US < start_us < since_us and width != HOUR_SECONDS:
                rest = cells.get(opened, 0) - sum(n for at_us, _, n in self._opened if start_us <= at_us < start_us + HOUR_US)
                self._opened.append((start_us, end_us - start_us, max(0, rest)))
        self._due: dict[int, float] = {}

    def window(self, seconds: int) -> Callable[[int], tuple[int, float]]:
        """Conversions in the window that ends at a time, and the worth of what was due in it."""
        count = seconds * MICROS // self._width_us

        def of(at_us: int) -> tuple[int, float]:
            end = at_us // self._width_us
            seen = sum(self._fine[b].get(self._converted, 0) for b in range(end - count, end) if b in self._fine)
            return seen, self._due_until(at_us) - self._due_until(at_us - seconds * MICROS)

        return of

    def _due_until(self, at_us: int) -> float:
        """Σ entries × share of their conversions that is due by a time."""
        if at_us not in self._due:
            area = self._curve.area
            self._due[at_us] = sum(n * (area(at_us - a) - area(at_us - a - span)) / span for a, span, n in self._opened if a < at_us)
        return self._due[at_us]
