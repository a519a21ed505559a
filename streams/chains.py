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

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.ages import MILLI_US
from streams.matching import CELLS, Match, Op
from streams.retention import BUCKET_US
from streams.values import GROUP

START, VALUES, MARK, OPENED, ENTERED = range(CELLS)
USERS, EVENTS, VALUE, ENTRIES, CONVERSIONS, CONVERTED, AGES = range(7)  # of a record of counts; ages: bin -> conversions

Blocks = dict[int, list[Any]]  # by definition
Record = list[Any]
Counts = defaultdict[int, defaultdict[str, defaultdict[int, Record]]]  # funnel number << 8 | stage -> values -> finest bucket
Reaches = dict[int, list[tuple[int, int]]]  # by funnel number: (stage, event time)


def nothing_counted() -> Counts:
    """Counts that grow by whatever is asked for."""
    return defaultdict(lambda: defaultdict(lambda: defaultdict(_nothing)))


def _nothing() -> Record:
    return [0, 0, 0, 0, 0, 0, {}]


@dataclass
class Fold:
    """What a batch did: counts, ages at conversion, fates, and the states it touched."""

    counts: Counts = field(default_factory=nothing_counted)
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
    matches: Sequence[Match | None],
    values: Sequence[str],
    amounts: Mapping[int, Mapping[int, int]],
    counts: Counts,
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
        for definition, funnel, size, values_at, _, window, matched, clears, ascending in matches[i].steps:  # type: ignore[union-attr]  # who has none has no place
            cells = blocks.get(definition)
            if cells is None:
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
                    begun = cells[prior]
                    if begun is None or time - begun > window:
                        continue
                    start, chain = begun, cells[prior + 1]
                record = counts[stage][chain][bucket]
                record[1] += sign
                mark, shown = cells[its_mark], cells[its_values]
                if mark != bucket or shown != chain:
                    record[0] += sign
                    if mark is not None:  # the entity counts as a user here now, and there no longer
                        counts[stage][shown][mark][0] -= sign
                if valued and i in amounts:
                    record[2] += sign * amounts[i].get(stage, 0)
                if at:
                    opened, entered = cells[prior + 3], cells[prior + 4]
                    if opened is not None and entered is not True and time - opened <= window:
                        cells[prior + 4] = True  # the entry at the stage before converts, once
                        if entered is None:
                            entered = cells[prior + 1]
                        (record if entered == chain else counts[stage][entered][bucket])[5] += sign
                        opening = counts[stage - 1][entered][opened // BUCKET_US]
                        opening[4] += sign
                        age = (time - opened) // MILLI_US
                        octave = age.bit_length()  # the bin as in `ages.age_bin`, which a call would cost too much
                        number = age if octave < 3 else (octave - 2 << 2) + (age >> octave - 3 & 3)
                        bins = opening[6]
                        bins[number] = bins.get(number, 0) + sign
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
                    reached.setdefault(funnel, []).append((stage, time))
            if advanced is not None:
                for at in clears:
                    if cells[at] is not None and at not in advanced:
                        cells[at] = None
                        cells[-1] = time


def own_values(values: str, values_at: int) -> str:
    """One funnel's part of the values that an event brings."""
    return values if values_at < 0 else values.split(GROUP)[values_at]


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
