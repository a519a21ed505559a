"""[pure] Reaches to count deltas: what a chunk adds to which bucket, total and per dimension value.

Marks of coarser buckets are those of the finest one, divided: an entity's latest reach lies in one
bucket of every width. So deltas are netted in the finest buckets first, then rolled up; what moved
within an hour never touches an hour's count. They are split by dimension before that, since many
combinations of values come to few values of each.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from schemas.duration import MICROS
from streams.chains import Fold
from streams.plan import FunnelPlan, Plan
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES, EVENTS, FINEST_SECONDS, USERS, VALUE
from streams.values import SEPARATOR
from streams.windows import RETRACTED, RETRACTED_AGES, Cells, age_cell, cell

LETTERS = (USERS, EVENTS, VALUE, ENTRIES, CONVERSIONS, CONVERTED)  # in the order of a record of counts
TAKEN_BACK = LETTERS.index(EVENTS)
BucketKey = tuple[int, int, int]  # definition, width in seconds, bucket


@dataclass
class Deltas:
    """What one chunk changes besides the states."""

    buckets: dict[BucketKey, Cells] = field(default_factory=dict)
    totals: dict[int, Cells] = field(default_factory=dict)  # by definition
    fates: Cells = field(default_factory=dict)
    expired: list[BucketKey] = field(default_factory=list)
    watermark_us: int = -1


def tally(plan: Plan, fold: Fold, watermark_us: int, rejected: Mapping[str, int]) -> Generator[None, None, Deltas]:
    """The deltas of a fold, given the partition's watermark before it (-1: none yet); a funnel a step. The fold's counts are used up."""
    after = max(watermark_us, fold.watermark_us)
    out = Deltas(watermark_us=after, fates=_fates(fold, rejected))
    places: dict[int, list[int]] = {}  # of a funnel's stages that were reached
    for stage in [*fold.counts.records, *[stage for stage in fold.counts.ages if stage not in fold.counts.records]]:
        places.setdefault(stage >> 8, []).append(stage & 0xFF)
    for number, of_funnel in places.items():
        funnel = plan.funnels[number]
        _totals(out, funnel, _buckets(out, funnel, _columns(funnel, fold, of_funnel), after))
        yield
    for funnel in plan.funnels:
        out.expired += _expired(funnel, watermark_us, after)
    return out


def _fates(fold: Fold, rejected: Mapping[str, int]) -> Cells:
    fates = {"applied": fold.applied, "filtered": fold.filtered, "late": fold.late, "duplicate": fold.duplicate}
    fates["late:tail_full"] = fold.crowded_out
    fates |= {f"rejected:{reason}": count for reason, count in rejected.items()}
    return {fate: count for fate, count in fates.items() if count}


Column = dict[int, list[int]]  # bucket -> counts, see `chains`
AgeColumn = dict[int, int]  # bucket -> conversions
TOTAL = ""  # a label: everybody; else a dimension and one of its values, joined by SEPARATOR


@dataclass
class Columns:
    """A funnel's counts in buckets of one width."""

    counts: dict[tuple[int, str], Column] = field(default_factory=dict)  # by stage and label
    ages: dict[str, AgeColumn] = field(default_factory=dict)  # by the name of the count


def _columns(funnel: FunnelPlan, fold: Fold, places: list[int]) -> Columns:
    """In the finest buckets: the counts of everybody, and of each value of a dimension by itself."""
    found, prefixes = Columns(), [name + SEPARATOR for name in funnel.dimensions]
    for place in places:
        stage = funnel.number << 8 | place
        for shown, by_bucket in fold.counts.records.pop(stage, {}).items():
            labels = [TOTAL, *[prefix + value for prefix, value in zip(prefixes, shown.split(SEPARATOR))]]
            for label in labels:
                _add(found.counts.setdefault((place, label), {}), by_bucket, 1)
        for bucket, bins in fold.counts.ages.pop(stage, {}).items():
            for bin_number, count in bins.items():
                if count:  # ages are noted with the opening, and filed under the stage converted into
                    found.ages.setdefault(age_cell(place + 1, bin_number), {})[bucket] = count
    return found


def _coarser(columns: Columns, factor: int) -> Columns:
    out = Columns()
    for key, column in columns.counts.items():
        _add(out.counts.setdefault(key, {}), column, factor)
    for name, by_bucket in columns.ages.items():
        summed = out.ages[name] = {}
        for bucket, count in by_bucket.items():
            wider = bucket // factor
            summed[wider] = summed.get(wider, 0) + count
    return out


def _add(into: Column, column: Mapping[int, list[int]], factor: int) -> None:
    """Add counts to those of buckets that are so many times as wide."""
    for bucket, found in column.items():
        wider = bucket // factor
        sums = into.get(wider)
        if sums is None:
            into[wider] = [*found]
        else:
            for family, count in enumerate(found):
                if count:
                    sums[family] += count


def _buckets(out: Deltas, funnel: FunnelPlan, columns: Columns, watermark_us: int) -> Columns:
    """What is added to the buckets of every width, from the finest up; what the widest ones get."""
    width = FINEST_SECONDS
    for kept in funnel.kept:
        factor, width = kept.seconds // width, kept.seconds
        if factor > 1:
            columns = _coarser(columns, factor)
        oldest = watermark_us // (width * MICROS) - kept.count
        families = [family for family, letter in enumerate(LETTERS) if letter in kept.families]
        written: dict[int, Cells] = {}
        for (stage, label), column in columns.counts.items():
            names = _names(stage, label)
            for bucket, found in column.items():
                if bucket >= oldest:
                    cells = written.get(bucket)
                    if cells is None:
                        cells = written[bucket] = {}
                    for family in families:
                        if found[family]:
                            cells[names[family]] = found[family]
        for name, by_bucket in columns.ages.items():
            for bucket, count in by_bucket.items():
                if count and bucket >= oldest:
                    written.setdefault(bucket, {})[name] = count
        for bucket, cells in written.items():
            if cells:
                out.buckets[funnel.definition, width, bucket] = cells
    return columns


def _totals(out: Deltas, funnel: FunnelPlan, columns: Columns) -> None:
    """What is added since ever; what is taken back of events and ages is counted too, for counters that never fall."""
    into = out.totals.setdefault(funnel.definition, {})
    for (stage, label), column in columns.counts.items():
        names, sums = _names(stage, label), [0] * len(LETTERS)
        for found in column.values():
            for family, count in enumerate(found):
                sums[family] += count
        for family, count in enumerate(sums):
            if count:
                into[names[family]] = count
        if sums[TAKEN_BACK] < 0:
            into[RETRACTED + names[TAKEN_BACK][1:]] = -sums[TAKEN_BACK]
    for name, by_bucket in columns.ages.items():
        count = sum(by_bucket.values())
        if count:
            into[name] = count
        if count < 0:
            into[RETRACTED_AGES + name[1:]] = -count


@lru_cache(maxsize=10_000)
def _names(stage: int, label: str) -> tuple[str, ...]:
    """By family, the name of a count."""
    if label == TOTAL:
        return tuple([cell(letter, stage) for letter in LETTERS])
    dimension, _, value = label.partition(SEPARATOR)
    return tuple([cell(letter, stage, dimension, value) for letter in LETTERS])


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
