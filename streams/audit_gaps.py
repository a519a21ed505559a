"""[pure] For the audit: what a recount comes to in the engine's own counts, and where the two differ.

Only names and retention are the engine's here (which widths hold which families, and how far back);
what is counted where is worked out from the recount's reaches and entries.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

from schemas.config import Config
from schemas.duration import MICROS
from schemas.event import iso
from schemas.funnel import Funnel
from streams.plan import FunnelPlan, Plan
from streams.recount import TOLERANCE, Recount
from streams.recount_chains import Entry, Reach, age_bin
from streams.retention import AGES, CONVERSIONS, CONVERTED, ENTRIES, EVENTS, USERS, VALUE, Kept
from streams.tally import Deltas
from streams.values import SEPARATOR, VALUE_SCALE, Values
from streams.windows import RETRACTED, RETRACTED_AGES, age_cell, cell

EVER = (0, 0, 0)  # in the place of width, bucket and oldest bucket: since ever

Gap = tuple[int, str]  # how much differs, and what, in words
Place = tuple[int, int, str]  # width in seconds, bucket, name of the count
Numbers = Mapping[Place, int]
Fact = tuple[str, list[str], int, int]  # family, names of the counts, event time, how much


def closed(plan: Plan) -> Config:
    """The plan's funnels for a recount: of a dimension, the values that were admitted, as far as the plan knows, are allowed."""
    return Config(sources=(plan.source,), funnels=tuple(map(_closed, plan.funnels)))


def fate_gaps(counts: Deltas, found: Recount, *, counted: int, recounted: int) -> Iterator[Gap]:
    """Fates that differ. `counted` and `recounted`: records that were rejected besides those that these two know of."""
    ours, theirs = Counter(rejected=counted), {**found.fates, "rejected": found.fates["rejected"] + recounted}
    for fate, count in counts.fates.items():
        ours[fate.partition(":")[0]] += count
    for fate, count in theirs.items():
        if ours[fate] != count:
            yield abs(ours[fate] - count), f"{fate}: counted {ours[fate]}, recounted {count}"


def count_gaps(counts: Deltas, found: Recount, plan: Plan, watermark_us: int) -> Iterator[Gap]:
    """Counts of funnels that differ; `counts` without what is behind its retention."""
    for funnel in plan.funnels:
        yield from _gaps_of(funnel, _counted(counts, funnel), _recounted(found, funnel, watermark_us))


def forget(counts: Deltas, plan: Plan, watermark_us: int) -> None:
    """Drop the buckets that are behind their retention."""
    oldest = {(funnel.definition, kept.seconds): _oldest(kept, watermark_us) for funnel in plan.funnels for kept in funnel.kept}
    counts.buckets = {key: cells for key, cells in counts.buckets.items() if key[2] >= oldest[key[:2]]}


def _closed(funnel: FunnelPlan) -> Funnel:
    dimensions = {
        name: dimension if values.allow is not None else dimension.model_copy(update={"allow": _admitted(values)})
        for values, (name, dimension) in zip(funnel.values, funnel.funnel.dimensions.items())
    }
    return funnel.funnel.model_copy(update={"dimensions": dimensions})


def _admitted(values: Values) -> frozenset[str]:
    return frozenset(text for text, shown in values.known.items() if text == shown)


def _oldest(kept: Kept, watermark_us: int) -> int:
    """The first bucket of a width that is not behind its retention."""
    return watermark_us // (kept.seconds * MICROS) - kept.count


def _counted(counts: Deltas, funnel: FunnelPlan) -> Numbers:
    """What the engine has of a funnel; but what was ever taken back depends on arrival."""
    totals = counts.totals.get(funnel.definition, {})
    found = {(*EVER[:2], name): count for name, count in totals.items() if name[0] not in (RETRACTED, RETRACTED_AGES)}
    for (definition, width, bucket), cells in counts.buckets.items():
        if definition == funnel.definition:
            found |= {(width, bucket, name): count for name, count in cells.items()}
    return found


def _recounted(found: Recount, funnel: FunnelPlan, watermark_us: int) -> Numbers:
    """What the recount has of a funnel, by the engine's names."""
    numbers: dict[Place, int] = defaultdict(int)
    widths = [(kept.families, kept.seconds, _oldest(kept, watermark_us)) for kept in funnel.kept]
    for family, names, at_us, count in _facts(found.reaches[funnel.funnel.name], found.entries[funnel.funnel.name]):
        places = [(width, at_us // (width * MICROS), oldest) for families, width, oldest in widths if family in families]
        for width, bucket, oldest in (EVER, *places):
            if bucket >= oldest:
                for name in names:
                    numbers[width, bucket, name] += count
    return numbers


def _facts(reaches: Iterable[Reach], entries: Iterable[Entry]) -> Iterator[Fact]:
    """Everything that is counted, once."""
    latest: dict[tuple[str, int], Reach] = {}
    for reach in reaches:
        latest[reach.entity, reach.stage] = reach
        yield EVENTS, _names(EVENTS, reach.stage, reach), reach.at_us, 1
        yield VALUE, _names(VALUE, reach.stage, reach), reach.at_us, int(reach.amount * VALUE_SCALE)
    for reach in latest.values():
        yield USERS, _names(USERS, reach.stage, reach), reach.at_us, 1
    for entry in entries:
        opening, into, age_us = entry.opening, entry.opening.stage + 1, entry.age_us
        yield ENTRIES, _names(ENTRIES, opening.stage, opening), opening.at_us, 1
        if age_us is not None:
            yield CONVERSIONS, _names(CONVERSIONS, opening.stage, opening), opening.at_us, 1
            yield CONVERTED, _names(CONVERTED, into, opening), opening.at_us + age_us, 1
            yield AGES, [age_cell(into, age_bin(age_us))], opening.at_us, 1


def _names(family: str, stage: int, reach: Reach) -> list[str]:
    """In total, and under each value that the reach has."""
    return [cell(family, stage), *(cell(family, stage, dimension, value) for dimension, value in reach.values.items())]


def _gaps_of(funnel: FunnelPlan, counted: Numbers, recounted: Numbers) -> Iterator[Gap]:
    """Where two differ, totals first."""
    for place in sorted(counted.keys() | recounted.keys(), key=lambda place: (SEPARATOR in place[2], place)):
        ours, theirs = counted.get(place, 0), recounted.get(place, 0)
        width, bucket, name = place
        if ours == theirs or (name[0] == VALUE and math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=TOLERANCE * VALUE_SCALE)):
            continue
        when = f" in the {width} s from {iso(bucket * width * MICROS)}" if width else " ever"
        size = math.ceil(abs(ours - theirs) / (VALUE_SCALE if name[0] == VALUE else 1))
        yield size, f"{funnel.funnel.name} {name.replace(SEPARATOR, ' ')}{when}: counted {ours}, recounted {theirs}"
