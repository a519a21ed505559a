"""[pure] One entity's chains: events come, stages are reached, entries open and convert, counts are added.

What is kept of an entity in one funnel is a *block*, a list with five cells a stage and two more:

    start    event time of the first-stage event of the newest chain that got here (order `any`: of
             the newest event that matches this stage); None: there is no such chain
    values   the dimension values of the latest reach's chain
    mark     the finest bucket of the latest reach: where the entity counts as a user
    opened   event time at which the newest entry opened
    entered  True once that entry has converted; before, the values at the opening, or None when they are `values`
    note     order `any`: the values of the newest first-stage event; else: when a chain was last ended
             by an exclusion, or by an event that `strict` does not allow in between
    origin   the finest bucket of the event that began the block: marks are counted in buckets from it, and
             times in microseconds from its beginning. Small numbers are packed smaller, and states lie
             all over memory: what they weigh is what a fold costs

Deeper stages come first, so that an event sees the state as it was before it. In the order `any` the
stages that one event reaches come one after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.ages import MILLI_US
from streams.matching import CELLS, Match, Op
from streams.retention import BUCKET_US
from streams.values import GROUP

START, VALUES, MARK, OPENED, ENTERED = range(CELLS)
NOTE, ORIGIN = -2, -1
USERS, EVENTS, VALUE, ENTRIES, CONVERSIONS, CONVERTED = range(6)  # of a record of counts

Blocks = dict[int, list[Any]]  # by definition
Records = dict[int, dict[str, dict[int, list[int]]]]  # funnel number << 8 | stage -> values -> finest bucket -> counts
Ages = dict[int, dict[int, dict[int, int]]]  # funnel number << 8 | stage converted from -> bucket of the opening -> age bin -> conversions
Reaches = dict[int, list[tuple[int, int]]]  # by funnel number: (stage, event time)


def _nothing() -> list[int]:
    return [0, 0, 0, 0, 0, 0]


def _by_bucket() -> dict[int, list[int]]:
    return defaultdict(_nothing)


def _by_values() -> dict[str, dict[int, list[int]]]:
    return defaultdict(_by_bucket)


def _by_stage() -> Records:
    return defaultdict(_by_values)


def _ages() -> dict[int, dict[int, int]]:
    return defaultdict(dict)


def _ages_by_stage() -> Ages:
    return defaultdict(_ages)


@dataclass
class Counts:
    """Counts that grow by whatever is asked for."""

    records: Records = field(default_factory=_by_stage)
    ages: Ages = field(default_factory=_ages_by_stage)


@dataclass
class Fold:
    """What a batch did: counts, ages at conversion, fates, and the states it touched."""

    counts: Counts = field(default_factory=Counts)
    touched: dict[str, bytes] = field(default_factory=dict)  # of every entity that an event was for
    applied: int = 0
    filtered: int = 0
    late: int = 0
    crowded_out: int = 0  # late, because the tail was full
    duplicate: int = 0
    watermark_us: int = -1


def walk(
    blocks: Blocks,
    places: list[int],
    times: list[int],
    matches: list[Match | None],
    values: list[str],
    amounts: dict[int, dict[int, int]],
    counts: Counts,
    sign: int = 1,
    reached: Reaches | None = None,
) -> None:
    """Take one entity's events through the funnels: `blocks` change, and what they count is added `sign` times.

    The events stand in columns; `places` are theirs, in their total order. `values` are those of a
    chain that an event starts, `amounts` (by place and stage) what it adds to a stage's value, in
    millionths. Every reach is added to `reached` where one is given.
    """
    # The types of what comes out of cells let a compiled walk work on machine numbers; what goes back into them
    # unchanged, or several times, is made an object once.
    records, ages, bucket_us = counts.records, counts.ages, BUCKET_US
    for i in places:
        time: int = times[i]
        bucket = time // bucket_us
        match = matches[i]
        assert match is not None  # who has none has no place
        for definition, funnel, size, values_at, _, window, matched, clears, ascending in match.steps:
            cells = blocks.get(definition)
            if cells is None:
                cells = blocks[definition] = [None] * size
                cells[-1] = bucket
            origin: int = cells[-1]
            now, since = bucket - origin, time - origin * bucket_us
            here: Any = since
            ops = matched
            if ascending is not None:
                ops = _any_order(matched, ascending, window, cells, since, own_values(values[i], values_at))
            advanced: list[int] | None = [] if clears else None
            for stage, at, its_values, its_mark, its_opened, its_entered, prior, valued in ops:
                start = here
                if not at:
                    chain = own_values(values[i], values_at) if values_at >= 0 else values[i]
                elif ascending is not None:
                    start, chain = cells[at], cells[-2]
                else:
                    start = cells[prior]
                    if start is None:
                        continue
                    begun: int = start
                    if since - begun > window:
                        continue
                    chain = cells[prior + 1]
                of_stage = records[stage]
                of_chain = of_stage[chain]
                record = of_chain[bucket]
                record[1] = record[1] + sign
                mark, shown = cells[its_mark], cells[its_values]
                alike: bool = shown == chain
                if mark is None:
                    record[0] = record[0] + sign
                else:
                    marked: int = mark
                    if marked != now or not alike:  # the entity counts as a user here now, and there no longer
                        record[0] = record[0] + sign
                        left = (of_chain if alike else of_stage[shown])[marked + origin]
                        left[0] = left[0] - sign
                if valued and i in amounts:
                    record[2] = record[2] + sign * amounts[i].get(stage, 0)
                if at:
                    opened, entered = cells[prior + 3], cells[prior + 4]
                    if opened is not None and entered is not True:
                        entry: int = opened
                        if since - entry <= window:
                            cells[prior + 4] = True  # the entry at the stage before converts, once
                            if entered is None:
                                entered = cells[prior + 1]
                            into = record if entered == chain else of_stage[entered][bucket]
                            into[5] = into[5] + sign
                            opening = entry // bucket_us + origin
                            source = records[stage - 1][entered][opening]
                            source[4] = source[4] + sign
                            age = (since - entry) // MILLI_US
                            octave = age.bit_length()  # the bin as in `ages.age_bin`, which a call would cost too much
                            number = age if octave < 3 else (octave - 2 << 2) + (age >> octave - 3 & 3)
                            bins = ages[stage - 1][opening]
                            bins[number] = bins.get(number, 0) + sign
                opened, opens = cells[its_opened], True
                if opened is not None:
                    latest: int = opened
                    opens = since - latest > window
                if opens:
                    cells[its_opened] = here
                    cells[its_entered] = None
                    record[3] = record[3] + sign
                elif not alike and cells[its_entered] is None:
                    cells[its_entered] = shown
                cells[at] = start
                cells[its_values] = chain
                cells[its_mark] = now
                if advanced is not None:
                    advanced.append(at)
                if reached is not None:
                    reached.setdefault(funnel, []).append((stage, time))
            if advanced is not None:
                for at in clears:
                    if cells[at] is not None and at not in advanced:
                        cells[at] = None
                        cells[-2] = since


def own_values(values: str, values_at: int) -> str:
    """One funnel's part of the values that an event brings."""
    return values if values_at < 0 else values.split(GROUP)[values_at]


def _any_order(ops: tuple[Op, ...], ascending: tuple[Op, ...], window: int, cells: list[Any], time: int, values: str) -> tuple[Op, ...]:
    """Note the event under every stage it matches; the stages it reaches, in ascending order."""
    for op in ops:
        cells[op[1]] = time
        if not op[1]:
            cells[-2] = values
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


def absolute(cells: Sequence[Any]) -> list[Any]:
    """A block's cells, without the origin: with times since the epoch, and marks as numbers of buckets."""
    if len(cells) % CELLS == 1:  # as an earlier layout wrote them, of a definition that was counted then
        return [*cells]
    return _moved(cells[:ORIGIN], cells[ORIGIN])


def relative(cells: Sequence[Any], origin: int) -> list[Any]:
    """The reverse of `absolute`."""
    return [*_moved(cells, -origin), origin]


def _moved(cells: Sequence[Any], buckets: int) -> list[Any]:
    found, micros = [*cells], buckets * BUCKET_US
    for at in range(0, len(cells) - 1, CELLS):
        for place, by in ((at + START, micros), (at + MARK, buckets), (at + OPENED, micros)):
            if found[place] is not None:
                found[place] += by
    if isinstance(found[-1], int):
        found[-1] += micros
    return found
