"""[pure] One entity's way through the funnels: events in, reaches out.

A state is a list: [newest event time, tail, definition, block, definition, block, ...]. The tail
holds (event time, identity) of the events within the allowed lateness, for telling duplicates. A
block has three cells a stage (`ordered` mode, semantics.md):

    start   event time of the first-stage event of the newest chain that got here
    mark    the finest bucket of the latest reach (what the `users` family counts)
    values  the dimension values of that chain

An event older than the entity's newest one is late.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    openings, amounts = prepared.openings, prepared.amounts
    skip = {bad.index for bad in prepared.bad}
    times, entities, names, ids, raws = batch.times, batch.entities, batch.names, batch.ids, batch.raws
    get_ops, get_state, new_state = plan.ops.get, states.get, plan.new_state
    lateness = plan.lateness_us
    touched, reaches, moved = out.touched, out.reaches, out.moved
    filtered = late = duplicate = applied = 0
    no_opening: dict[int, str] = {}
    for i in total_order(plan, batch, skip):
        ops = get_ops(names[i])
        if ops is None:
            filtered += 1
            continue
        time = times[i]
        entity = entities[i]
        state = get_state(entity)
        if state is None:
            state = states[entity] = new_state()
        elif time < state[0]:
            late += 1
            continue
        own = ids[i]
        identity = digest(own.encode(), ID_SEED) if own else digest(raws[i])
        tail = state[1]
        if tail:
            if identity in tail:
                duplicate += 1
                continue
            if state[0] < time - lateness:
                tail.clear()
            elif tail[0] < time - lateness or len(tail) >= 2 * TAIL_MAX:
                _prune(tail, time - lateness)
        tail.append(time)
        tail.append(identity)
        state[0] = time
        applied += 1
        touched[entity] = state
        bucket = time // BUCKET_US
        opened = openings.get(i, no_opening)
        for slot, place, window, stage, first, valued in ops:
            block = state[slot]
            if first:
                start = time
                values = opened.get(stage >> 8, "")
            else:
                start = block[place - 3]
                if start is None or time - start > window:
                    continue
                values = block[place - 1]
            before = block[place + 1]
            if before is not None:
                moved.append((stage, block[place + 2], before))
            reach = (stage, values, bucket)
            reaches.append(reach)
            if trace is not None:
                trace.append((entity, stage, time))
            block[place] = start
            block[place + 1] = bucket
            block[place + 2] = values
            if valued:
                amount = amounts[i][stage]
                if amount:
                    out.amounts.append((reach, amount))
    out.applied, out.filtered, out.late, out.duplicate = applied, filtered, late, duplicate
    out.watermark_us = max((t for i, t in enumerate(times) if i not in skip) if skip else times, default=-1)
    return out


def total_order(plan: Plan, batch: Batch, skip: set[int]) -> list[int]:
    """Places of a batch in the total order: timestamp, lowest stage matched, event_id, bytes."""
    times = batch.times
    order = sorted(range(len(times)), key=times.__getitem__)
    if len(set(times)) < len(times) and len(set(zip(times, batch.entities))) < len(times):
        lowest = {name: min(op[3] & 0xFF for op in ops) for name, ops in plan.ops.items()}
        order.sort(key=lambda i: (times[i], lowest.get(batch.names[i], 255), batch.ids[i], batch.raws[i]))
    return [i for i in order if i not in skip] if skip else order


def _prune(tail: list[int], horizon: int) -> None:
    """Forget what is older than the horizon, and the oldest beyond the bound."""
    keep = max(0, len(tail) - 2 * (TAIL_MAX - 1))
    while keep < len(tail) and tail[keep] < horizon:
        keep += 2
    del tail[:keep]
