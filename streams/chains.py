"""[pure] One entity's chains in one funnel: an event comes, stages are reached, entries open and convert.

A funnel's *block* is a list with five cells a stage, and one more at its end:

    start    event time of the first-stage event of the newest chain that got here (order `any`: of
             the newest event that matches this stage); None: there is no such chain
    values   the dimension values of the latest reach's chain
    reached  event time of the latest reach; its bucket is where the entity counts as a user
    opened   2 × event time at which the newest entry opened, + 1 once it has converted
    entered  the dimension values at that opening, where they are not those in `values`
    note     order `any`: the values of the newest first-stage event; else: when a chain was last ended
             by an exclusion, or by an event that `strict` does not allow in between

Deeper stages come first, so that an event sees the state as it was before it. In the order `any` the
stages that one event reaches come one after the other.
"""

from __future__ import annotations

from typing import Any

from streams.ages import age_bin
from streams.matching import CELLS, Step
from streams.retention import BUCKET_US

START, VALUES, REACHED, OPENED, ENTERED = range(CELLS)
USERS, EVENTS, VALUE, ENTRIES, CONVERSIONS, CONVERTED = range(6)  # of a record of counts

Reach = tuple[int, str, int]  # funnel number << 8 | stage, values, finest bucket
Ages = dict[tuple[int, int, int], int]  # (stage converted into, age bin, finest bucket of the opening) -> conversions


class Counts(dict[Reach, list[int]]):
    """What a fold adds, by stage, values and bucket: users, events, value, entries, conversions, converted."""

    def __missing__(self, key: Reach) -> list[int]:
        found = self[key] = [0, 0, 0, 0, 0, 0]
        return found


def advance(
    step: Step,
    cells: list[Any],
    time: int,
    bucket: int,
    values: str,
    amounts: dict[int, int] | None,
    counts: Counts,
    ages: Ages,
    sign: int = 1,
    reached: list[tuple[int, int]] | None = None,
) -> None:
    """Take one event through one funnel: `cells` change, and what it counts is added `sign` times.

    `values` are those of a chain that this event starts, `amounts` what it adds to the value of a
    stage in millionths. (stage, event time) of every reach is added to `reached` where one is given.
    """
    _, _, window, any_order, ops, clears, _, _, _ = step
    if any_order:
        ops = _any_order(step, cells, time, values)
    advanced: list[int] = []
    for at, stage in ops:
        if any_order:
            start, chain = cells[at], cells[-1]
        elif at:
            start = cells[at - CELLS]
            if start is None or time - start > window:
                continue
            chain = cells[at - CELLS + VALUES]
        else:
            start, chain = time, values
        record = counts[stage, chain, bucket]
        record[EVENTS] += sign
        record[USERS] += sign
        before = cells[at + REACHED]
        if before is not None:
            counts[stage, cells[at + VALUES], before // BUCKET_US][USERS] -= sign
        if amounts:
            record[VALUE] += sign * amounts.get(stage, 0)
        if at:
            _convert(cells, at, stage, time, bucket, window, counts, ages, sign)
        opened = cells[at + OPENED]
        if opened is None or time - (opened >> 1) > window:
            cells[at + OPENED] = time << 1
            cells[at + ENTERED] = None
            record[ENTRIES] += sign
        elif cells[at + VALUES] != chain and cells[at + ENTERED] is None:
            cells[at + ENTERED] = cells[at + VALUES]
        if clears:
            advanced.append(at)
        cells[at] = start
        cells[at + VALUES] = chain
        cells[at + REACHED] = time
        if reached is not None:
            reached.append((stage, time))
    for at in clears:
        if cells[at] is not None and at not in advanced:
            cells[at] = None
            cells[-1] = time


def _convert(
    cells: list[Any], at: int, stage: int, time: int, bucket: int, window: int, counts: Counts, ages: Ages, sign: int
) -> None:
    """The entry at the stage before, if it is open and has not converted yet, converts now."""
    opened = cells[at - CELLS + OPENED]
    if opened is None or opened & 1:
        return
    opening = opened >> 1
    age = time - opening
    if age > window:
        return
    cells[at - CELLS + OPENED] = opened | 1
    entered = cells[at - CELLS + ENTERED]
    if entered is None:
        entered = cells[at - CELLS + VALUES]
    opening_bucket = opening // BUCKET_US
    counts[stage - 1, entered, opening_bucket][CONVERSIONS] += sign
    counts[stage, entered, bucket][CONVERTED] += sign
    of_age = (stage, age_bin(age), opening_bucket)
    ages[of_age] = ages.get(of_age, 0) + sign


def _any_order(step: Step, cells: list[Any], time: int, values: str) -> tuple[tuple[int, int], ...]:
    """Note the event under every stage it matches; the stages it reaches, in ascending order."""
    for at, _ in step.ops:
        cells[at] = time
        if not at:
            cells[-1] = values
    first_at, first_stage = step.ops[-1]
    oldest = time
    found = []
    for at in range(0, step.size - 1, CELLS):
        newest = cells[at]
        if newest is None:
            break
        oldest = min(oldest, newest)
        if time - oldest > step.window_us:
            break
        if at >= first_at:
            found.append((at, first_stage + (at - first_at) // CELLS))
    return tuple(found)
