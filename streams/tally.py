"""[pure] Reaches to count deltas: what a chunk adds to which bucket, total and per dimension value.

Marks of coarser buckets are those of the finest one, divided: an entity's latest reach lies in one
bucket of every width. So deltas are netted in the finest buckets first, then rolled up; what moved
within an hour never touches an hour's count. They are split by dimension before that, since many
combinations of values come to few values of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from schemas.duration import MICROS
from streams.chains import Fold
from streams.plan import FunnelPlan, Plan
from streams.retention import COHORTS, CONVERSIONS, CONVERTED, ENTRIES, EVENTS, FINEST_SECONDS, REACHES, USERS, VALUE
from streams.values import SEPARATOR
from streams.windows import RETRACTED, RETRACTED_AGES, Cells, age_cell, cell

LETTERS = (USERS, EVENTS, VALUE, ENTRIES, CONVERSIONS, CONVERTED)  # in the order of a record of counts
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
    counts, ages = _counts_by_funnel(fold), _ages_by_funnel(fold)
    for number in counts:
        funnel = plan.funnels[number]
        _totals(out, funnel, *_buckets(out, funnel, _split(funnel, counts[number]), ages.get(number, {}), after))
    for funnel in plan.funnels:
        out.expired += _expired(funnel, watermark_us, after)
    return out


def _fates(fold: Fold, rejected: Mapping[str, int]) -> Cells:
    fates = {"applied": fold.applied, "filtered": fold.filtered, "late": fold.late, "duplicate": fold.duplicate}
    fates["late:tail_full"] = fold.crowded_out
    fates |= {f"rejected:{reason}": count for reason, count in rejected.items()}
    return {fate: count for fate, count in fates.items() if count}


Level = dict[tuple[int, str, int], list[int]]  # stage, label, bucket -> counts, see `chains`
TOTAL = ""  # a label: everybody; else a dimension and one of its values, joined by SEPARATOR
AgeLevel = dict[tuple[int, int, int], int]  # stage, age bin, bucket -> conversions


def _counts_by_funnel(fold: Fold) -> dict[int, Level]:
    """By funnel number; a stage is then its place in the funnel, and a label the values of all dimensions."""
    found: dict[int, Level] = {}
    for stage, by_values in fold.counts.records.items():
        mine, place = found.setdefault(stage >> 8, {}), stage & 0xFF
        for shown, by_bucket in by_values.items():
            for bucket, record in by_bucket.items():
                if any(record):
                    mine[place, shown, bucket] = record
    return found


def _split(funnel: FunnelPlan, counts: Level) -> Level:
    """The counts of everybody, and of each value of a dimension by itself."""
    prefixes = [name + SEPARATOR for name in funnel.dimensions]
    out: Level = {}
    for (stage, shown, bucket), found in counts.items():
        _add(out, (stage, TOTAL, bucket), found)
        for prefix, value in zip(prefixes, shown.split(SEPARATOR)):
            _add(out, (stage, prefix + value, bucket), found)
    return out


def _ages_by_funnel(fold: Fold) -> dict[int, AgeLevel]:
    """Ages are noted with the opening; they are filed under the stage converted into."""
    found: dict[int, AgeLevel] = {}
    for stage, by_bucket in fold.counts.ages.items():
        mine, into = found.setdefault(stage >> 8, {}), (stage & 0xFF) + 1
        for bucket, bins in by_bucket.items():
            for number, count in bins.items():
                if count:
                    mine[into, number, bucket] = count
    return found


def _totals(out: Deltas, funnel: FunnelPlan, counts: Level, ages: AgeLevel) -> None:
    """What is added since ever; what is taken back of events and ages is counted too, for counters that never fall."""
    into = out.totals.setdefault(funnel.definition, {})
    sums: Level = {}
    for (stage, label, _), found in counts.items():
        _add(sums, (stage, label, 0), found)
    _write(into, sums.items(), REACHES | COHORTS)
    for name, count in [*into.items()]:
        if count < 0 and name[0] == EVENTS:
            into[RETRACTED + name[1:]] = -count
    by_bin: dict[str, int] = {}
    for (stage, number, _), count in ages.items():
        by_bin[age_cell(stage, number)] = by_bin.get(age_cell(stage, number), 0) + count
    into |= by_bin
    into |= {RETRACTED_AGES + name[1:]: -count for name, count in by_bin.items() if count < 0}
    _without_zeros(into)


def _buckets(out: Deltas, funnel: FunnelPlan, counts: Level, ages: AgeLevel, watermark_us: int) -> tuple[Level, AgeLevel]:
    """What is added to the buckets of every width, from the finest up; what the widest ones get."""
    width = FINEST_SECONDS
    for kept in funnel.kept:
        factor, width = kept.seconds // width, kept.seconds
        if factor > 1:
            counts, ages = _coarser(counts, ages, factor)
        oldest = watermark_us // (width * MICROS) - kept.count
        grouped: dict[int, list[tuple[tuple[int, str, int], list[int]]]] = {}
        for item in counts.items():
            grouped.setdefault(item[0][2], []).append(item)
        written: dict[int, Cells] = {}
        for bucket, items in grouped.items():
            if bucket >= oldest:
                _write(written.setdefault(bucket, {}), items, kept.families)
        for (stage, number, bucket), count in ages.items():
            if count and bucket >= oldest:
                written.setdefault(bucket, {})[age_cell(stage, number)] = count
        for bucket, cells in written.items():
            _without_zeros(cells)
            if cells:
                out.buckets[funnel.definition, width, bucket] = cells
    return counts, ages


def _coarser(counts: Level, ages: AgeLevel, factor: int) -> tuple[Level, AgeLevel]:
    out: Level = {}
    for (stage, label, bucket), found in counts.items():
        _add(out, (stage, label, bucket // factor), found)
    of_age: AgeLevel = {}
    for (stage, number, bucket), count in ages.items():
        key = (stage, number, bucket // factor)
        of_age[key] = of_age.get(key, 0) + count
    return out, of_age


def _add(level: Level, key: tuple[int, str, int], found: list[int]) -> None:
    sums = level.get(key)
    if sums is None:
        level[key] = [*found]
    else:
        for family, count in enumerate(found):
            sums[family] += count


def _write(into: Cells, items: Iterable[tuple[tuple[int, str, int], list[int]]], families: frozenset[str]) -> None:
    """Counts of one bucket under their names. No two have the same stage and label."""
    for (stage, label, _), found in items:
        names = _names(stage, label)
        for family, count in enumerate(found):
            if count and LETTERS[family] in families:
                into[names[family]] = count


@lru_cache(maxsize=10_000)
def _names(stage: int, label: str) -> tuple[str, ...]:
    """By family, the name of a count."""
    if label == TOTAL:
        return tuple([cell(letter, stage) for letter in LETTERS])
    dimension, _, value = label.partition(SEPARATOR)
    return tuple([cell(letter, stage, dimension, value) for letter in LETTERS])


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
