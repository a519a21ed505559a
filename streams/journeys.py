"""[pure] One entity's way through the funnels: events in, reaches out.

A state is one flat list, for speed and for size:

    newest event time, its identity, tail, then for each funnel: definition, number of cells, cells

The tail (None when empty) is a list of (event time, identity) of the earlier events within the
allowed lateness, for telling duplicates. A funnel has three cells a stage (`ordered` mode):

    start   event time of the first-stage event of the newest chain that got here
    values  the dimension values of that chain
    mark    the finest bucket of the latest reach (what the `users` family counts)

An event older than the entity's newest one is late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import lt
from typing import Any

from xxhash import xxh3_64_intdigest as digest

from schemas.event import Batch
from streams.plan import BUCKET_US, Plan, Prepared

TAIL_MAX = 64  # (time, identity) pairs kept an entity; beyond it the oldest are forgotten
ID_SEED = 1  # identities by event_id and by bytes never meet

State = list[Any]
Reach = tuple[int, str, int]  # stage, values, finest bucket
Reached = tuple[str, int, int]  # entity, stage, event time: who got where, when it was asked for


@dataclass
class Fold:
    """What a batch did: reaches, marks that moved, values, fates, and the states it touched."""

    reaches: list[Reach] = field(default_factory=list)
    moved: list[Reach] = field(default_factory=list)  # where a mark was before
    amounts: list[tuple[Reach, int]] = field(default_factory=list)  # millionths
    touched: dict[str, State] = field(default_factory=dict)
    applied: int = 0
    filtered: int = 0
    late: int = 0
    duplicate: int = 0
    watermark_us: int = -1


def wanted(plan: Plan, batch: Batch) -> set[str]:
    """The entities whose states the fold of this batch will need."""
    ops = plan.ops
    return {entity for entity, name in zip(batch.entities, batch.names) if name in ops}


def fold(plan: Plan, batch: Batch, prepared: Prepared, states: dict[str, State], trace: list[Reached] | None = None) -> Fold:
    """Fold a batch into `states` (changed in place; a missing entity is new) and say what it did.

    Every reach is added to `trace` where one is given.
    """
    out = Fold()
    columns, amounts = prepared.columns, prepared.amounts
    skip = {bad.index for bad in prepared.bad}
    times, entities, names, ids, raws = batch.times, batch.entities, batch.names, batch.ids, batch.raws
    get_ops, get_state, new_state = plan.ops.get, states.get, plan.new_state
    lateness = plan.lateness_us
    touched, reaches, moved = out.touched, out.reaches, out.moved
    filtered = late = duplicate = 0
    for i in total_order(plan, batch, skip):
        ops = get_ops(names[i])
        if ops is None:
            filtered += 1
            continue
        time = times[i]
        entity = entities[i]
        own = ids[i]
        identity = digest(own.encode(), ID_SEED) if own else digest(raws[i])
        state = get_state(entity)
        if state is None:
            state = states[entity] = new_state()
        else:
            newest = state[0]
            if time < newest:
                late += 1
                continue
            tail = state[2]
            if newest >= time - lateness:
                if identity == state[1] or (tail is not None and identity in tail[1::2]):
                    duplicate += 1
                    continue
                state[2] = _longer(tail, newest, state[1], time - lateness)
            elif tail is not None:
                state[2] = None
        state[0] = time
        state[1] = identity
        touched[entity] = state
        bucket = time // BUCKET_US
        for at, before, window, stage, number, valued in ops:
            if before:
                start = state[before]
                if start is None or time - start > window:
                    continue
                values = state[before + 1]
            else:
                start = time
                column = columns[number]
                values = "" if column is None else column[i]
            mark = state[at + 2]
            if mark is not None:
                moved.append((stage, state[at + 1], mark))
            reach = (stage, values, bucket)
            reaches.append(reach)
            if trace is not None:
                trace.append((entity, stage, time))
            state[at] = start
            state[at + 1] = values
            state[at + 2] = bucket
            if valued:
                amount = amounts[i][stage]
                if amount:
                    out.amounts.append((reach, amount))
    out.filtered, out.late, out.duplicate = filtered, late, duplicate
    out.applied = len(times) - len(skip) - filtered - late - duplicate
    out.watermark_us = max((t for i, t in enumerate(times) if i not in skip) if skip else times, default=-1)
    return out


def total_order(plan: Plan, batch: Batch, skip: set[int]) -> Sequence[int]:
    """Places of a batch in the total order: timestamp, lowest stage matched, event_id, bytes."""
    times = batch.times
    if not skip and all(map(lt, times, islice(times, 1, None))):
        return range(len(times))
    order = sorted(range(len(times)), key=times.__getitem__)
    if len(set(times)) < len(times) and len(set(zip(times, batch.entities))) < len(times):
        lowest = {name: min(op[3] & 0xFF for op in ops) for name, ops in plan.ops.items()}
        order.sort(key=lambda i: (times[i], lowest.get(batch.names[i], 255), batch.ids[i], batch.raws[i]))
    return [i for i in order if i not in skip] if skip else order


def _longer(tail: list[int] | None, time: int, identity: int, horizon: int) -> list[int]:
    """The tail with one event more, without what is older than the horizon or beyond the bound."""
    if tail is None:
        return [time, identity]
    forget = max(0, len(tail) - 2 * (TAIL_MAX - 1))
    while forget < len(tail) and tail[forget] < horizon:
        forget += 2
    del tail[:forget]
    tail.append(time)
    tail.append(identity)
    return tail
