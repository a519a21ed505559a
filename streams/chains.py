"""[pure] One entity's chains: events come, stages are reached, entries open and convert, counts are added.

What is kept of an entity in one funnel is a *block*, a list with five cells a stage and one more:

    start    event time of the first-stage event of the newest chain that got here (order `any`: of
             the newest event that matches this stage); None: there is no such chain
    values   the dimension values of the latest reach's chain
    mark     the finest bucket of the latest reach: where the entity counts as a user
    opened   event time at which the newest entry opened
    entered  True once that entry has converted; before, the values at the opening, or None when they are `values`
    note     order `any`: the values of the newest first-stage event; else: when a chain was last ended
             by an exclusion, or by an event that `strict` does not allow in between

Deeper stages come first, so that an event sees the state as it was before it. In the order `any` the
stages that one event reaches come one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.ages import age_bin
from streams.matching import CELLS, Op, Step
from streams.retention import BUCKET_US
from streams.values import GROUP

START, VALUES, MARK, OPENED, ENTERED = range(CELLS)
USERS, EVENTS, VALUE, ENTRIES, CONVERSIONS, CONVERTED = range(6)  # of a record of counts
BIN_BITS = 8  # of an age bin

Blocks = dict[int, list[Any]]  # by definition
Counts = dict[int, dict[str, dict[int, list[int]]]]  # funnel number << 8 | stage -> values -> finest bucket -> record of counts
Ages = dict[int, dict[int, int]]  # stage converted into -> finest bucket of the opening << BIN_BITS | age bin -> conversions
Reaches = dict[int, list[tuple[int, int]]]  # by funnel number: (stage, event time)


@dataclass
class Fold:
    """What a batch did: counts, ages at conversion, fates, and the states it touched."""

    counts: Counts = field(default_factory=dict)
    ages: Ages = field(default_factory=dict)
    touched: dict[str, bytes] = field(default_factory=dict)  # of every entity that an event was for
    applied: int = 0
    filtered: int = 0
    late: int = 0
    crowded_out: int = 0  # late, because the tail was full
    duplicate: int = 0
    watermark_us: int = -1


def walk(
    blocks: Blocks,
    places: Iterable[int],
    times: Sequence[int],
    steps: Sequence[Iterable[Step]],
    values: Sequence[str],
    amounts: Mapping[int, Mapping[int, int]],
    counts: Counts,
    ages: Ages,
    sign: int = 1,
    reached: Reaches | None = None,
) -> None:
    """Take one entity's events through the funnels: `blocks` change, and what they count is added `sign` times.

    The events stand in columns; `places` are theirs, in their total order. `values` are those of a
    chain that an event starts, `amounts` (by place and stage) what it adds to a stage's value, in
    millionths. Every reach is added to `reached` where one is given.
    """
    for i in places:
        time = times[i]
        bucket = time // BUCKET_US
        for definition, number, size, values_at, _, window, matched, clears, ascending in steps[i]:
            try:
                cells = blocks[definition]
            except KeyError:
                cells = blocks[definition] = [None] * size
            ops = matched
            if ascending is not None:
                ops = _any_order(matched, ascending, window, cells, time, own_values(values[i], values_at))
            advanced: list[int] | None = [] if clears else None
            for stage, at, its_values, its_mark, its_opened, its_entered, prior, valued in ops:
                if not at:
                    start, chain = time, own_values(values[i], values_at) if values_at >= 0 else values[i]
                elif ascending is not None:
                    start, chain = cells[at], cells[-1]
                else:
                    start = cells[prior]
                    if start is None or time - start > window:
                        continue
                    chain = cells[prior + 1]
                try:
                    record = counts[stage][chain][bucket]
                except KeyError:
                    record = _record(counts, stage, chain, bucket)
                record[1] += sign
                mark, shown = cells[its_mark], cells[its_values]
                if mark != bucket or shown != chain:
                    record[0] += sign
                    if mark is not None:  # the entity counts as a user here now, and there no longer
                        _record(counts, stage, shown, mark)[0] -= sign
                if valued and i in amounts:
                    record[2] += sign * amounts[i].get(stage, 0)
                if at:
                    opened, entered = cells[prior + 3], cells[prior + 4]
                    if opened is not None and entered is not True and time - opened <= window:
                        cells[prior + 4] = True  # the entry at the stage before converts, once
                        if entered is None:
                            entered = cells[prior + 1]
                        (record if entered == chain else _record(counts, stage, entered, bucket))[5] += sign
                        opening = opened // BUCKET_US
                        _record(counts, stage - 1, entered, opening)[4] += sign
                        _age(ages, stage, opening, time - opened, sign)
                opened = cells[its_opened]
                if opened is None or time - opened > window:
                    cells[its_opened] = time
                    cells[its_entered] = None
                    record[3] += sign
                elif shown != chain and cells[its_entered] is None:
                    cells[its_entered] = shown
                cells[at] = start
                cells[its_values] = chain
                cells[its_mark] = bucket
                if advanced is not None:
                    advanced.append(at)
                if reached is not None:
                    reached.setdefault(number, []).append((stage, time))
            if advanced is not None:
                for at in clears:
                    if cells[at] is not None and at not in advanced:
                        cells[at] = None
                        cells[-1] = time


def own_values(values: str, values_at: int) -> str:
    """One funnel's part of the values that an event brings."""
    return values if values_at < 0 else values.split(GROUP)[values_at]


def _record(counts: Counts, stage: int, values: str, bucket: int) -> list[int]:
    try:
        return counts[stage][values][bucket]
    except KeyError:
        found = counts.setdefault(stage, {}).setdefault(values, {})[bucket] = [0, 0, 0, 0, 0, 0]
        return found


def _age(ages: Ages, stage: int, opening: int, age_us: int, sign: int) -> None:
    of_stage = ages.setdefault(stage, {})
    place = opening << BIN_BITS | age_bin(age_us)
    of_stage[place] = of_stage.get(place, 0) + sign


def _any_order(ops: tuple[Op, ...], ascending: tuple[Op, ...], window: int, cells: list[Any], time: int, values: str) -> tuple[Op, ...]:
    """Note the event under every stage it matches; the stages it reaches, in ascending order."""
    for op in ops:
        cells[op[1]] = time
        if not op[1]:
            cells[-1] = values
    first, oldest = ops[-1][1], time
    found = []
    for op in ascending:
        newest = cells[op[1]]
        if newest is None or time - min(oldest, newest) > window:
            break
        oldest = min(oldest, newest)
        if op[1] >= first:
            found.append(op)
    return tuple(found)
