"""[pure] Reaches to count deltas: what a chunk adds to which bucket, total and per dimension value.

Marks of coarser buckets are those of the finest one, divided: an entity's latest reach lies in one
bucket of every width. So deltas are netted in the finest buckets first, then rolled up; what moved
within an hour never touches an hour's count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from schemas.duration import MICROS
from streams.journeys import Fold
from streams.plan import FINEST_SECONDS, SEPARATOR, FunnelPlan, Plan
from streams.windows import EVENTS, USERS, VALUE, Cells, cell

BucketKey = tuple[int, int, int]  # definition, width in seconds, bucket


@dataclass
class Deltas:
    """What one chunk changes besides the states."""

    buckets: dict[BucketKey, Cells] = field(default_factory=dict)
    totals: dict[int, Cells] = field(default_factory=dict)  # by definition
    fates: Cells = field(default_factory=dict)
    expired: list[BucketKey] = field(default_factory=list)
    watermark_us: int = -1


def tally(plan: Plan, fold: Fold, watermark_us: int, rejected: Mapping[str, int]) -> Deltas:
    """The deltas of a fold, given the partition's watermark before it (-1: none yet)."""
    after = max(watermark_us, fold.watermark_us)
    out = Deltas(watermark_us=after, fates=_fates(fold, rejected))
    cells = _Finest(fold)
    for funnel in plan.funnels:
        mine = cells.of(funnel)
        if mine:
            _totals(out, funnel, mine)
            _buckets(out, funnel, mine, after)
        out.expired += _expired(funnel, watermark_us, after)
    return out


def _fates(fold: Fold, rejected: Mapping[str, int]) -> Cells:
    fates = {"applied": fold.applied, "filtered": fold.filtered, "late": fold.late, "duplicate": fold.duplicate}
    fates |= {f"rejected:{reason}": count for reason, count in rejected.items()}
    return {fate: count for fate, count in fates.items() if count}


Finest = dict[tuple[str, int, str, int], int]  # family, stage, values, finest bucket


class _Finest:
    """The net deltas of a fold in the finest buckets, by funnel number."""

    def __init__(self, fold: Fold) -> None:
        self._by_funnel: dict[int, Finest] = {}
        for family, counts in ((EVENTS, fold.events), (USERS, fold.users), (VALUE, fold.amounts)):
            for (stage, shown, bucket), count in counts.items():
                if count:
                    mine = self._by_funnel.setdefault(stage >> 8, {})
                    mine[family, stage & 0xFF, shown, bucket] = count

    def of(self, funnel: FunnelPlan) -> Finest:
        return self._by_funnel.get(funnel.number, {})


def _totals(out: Deltas, funnel: FunnelPlan, finest: Finest) -> None:
    sums: Counter[tuple[str, int, str]] = Counter()
    for (family, stage, shown, _), count in finest.items():
        sums[family, stage, shown] += count
    into = out.totals.setdefault(funnel.definition, {})
    for (family, stage, shown), count in sums.items():
        if count:
            _split(into, funnel, family, stage, shown, count)
    _without_zeros(into)


def _buckets(out: Deltas, funnel: FunnelPlan, finest: Finest, watermark_us: int) -> None:
    level, width = finest, FINEST_SECONDS
    for kept in funnel.kept:
        level, width = _coarser(level, kept.seconds // width), kept.seconds
        oldest = watermark_us // (width * MICROS) - kept.count
        for (family, stage, shown, bucket), count in level.items():
            if count and bucket >= oldest:
                into = out.buckets.setdefault((funnel.definition, width, bucket), {})
                _split(into, funnel, family, stage, shown, count)
    for cells in out.buckets.values():
        _without_zeros(cells)


def _coarser(level: Finest, factor: int) -> Finest:
    if factor == 1:
        return level
    out: Finest = {}
    for (family, stage, shown, bucket), count in level.items():
        key = (family, stage, shown, bucket // factor)
        out[key] = out.get(key, 0) + count
    return out


def _split(into: Cells, funnel: FunnelPlan, family: str, stage: int, shown: str, count: int) -> None:
    """Count in the total, and under the value of each dimension by itself."""
    for name in _names(funnel, family, stage, shown):
        into[name] = into.get(name, 0) + count


@lru_cache(maxsize=10_000)
def _names(funnel: FunnelPlan, family: str, stage: int, shown: str) -> tuple[str, ...]:
    values = zip(funnel.dimensions, shown.split(SEPARATOR))
    return (cell(family, stage), *(cell(family, stage, d, v) for d, v in values))


def _without_zeros(cells: Cells) -> None:
    for name in [name for name, count in cells.items() if not count]:
        del cells[name]


def _expired(funnel: FunnelPlan, before_us: int, after_us: int) -> Iterator[BucketKey]:
    """The buckets that the watermark's step forward put out of every window's reach."""
    if before_us < 0:
        return
    for kept in funnel.kept:
        width_us = kept.seconds * MICROS
        oldest_before, oldest = before_us // width_us - kept.count, after_us // width_us - kept.count
        # Nothing beyond one retention back was ever written, however far the watermark jumps.
        for bucket in range(oldest_before, min(oldest, before_us // width_us + 1)):
            yield funnel.definition, kept.seconds, bucket
