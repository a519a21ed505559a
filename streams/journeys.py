"""[pure] One entity's way through the funnels: events in, reaches out.

A state rests packed (one object an entity: millions of small ones scatter the memory that every
other step then works in) and is one flat list while it is worked on:

    newest event time, its identity, tail, then for each funnel: definition, number of cells, cells

The tail (None when empty) is a list of (event time, identity) of the earlier events within the
allowed lateness, for telling duplicates. A funnel has three cells a stage (`ordered` mode):

    start   event time of the first-stage event of the newest chain that got here
    values  the dimension values of that chain
    mark    the finest bucket of the latest reach (what the `users` family counts)

An event older than the entity's newest one is late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, repeat
from operator import lt
from typing import Any

import msgspec
from xxhash import xxh3_64_intdigest as digest

from schemas.event import Batch
from streams.plan import BUCKET_US, Op, Plan, Prepared

TAIL_MAX = 64  # (time, identity) pairs kept an entity; beyond it the oldest are forgotten
TAIL_LONGEST = 2 * (TAIL_MAX - 1)  # items of a tail that takes one pair more
NO_STAGE = 256
ID_SEED = 1  # identities by event_id and by bytes never meet

State = list[Any]
pack: Callable[[State], bytes] = msgspec.msgpack.Encoder().encode
unpack: Callable[[bytes], State] = msgspec.msgpack.Decoder(list).decode
Reach = tuple[int, str, int]  # stage, values, finest bucket
Reached = tuple[str, int, int]  # entity, stage, event time: who got where, when it was asked for


@dataclass
class Fold:
    """What a batch did: reaches, users by their marks, values, fates, and the states it touched."""

    events: dict[Reach, int] = field(default_factory=dict)
    users: dict[Reach, int] = field(default_factory=dict)  # a mark that moves: one less there, one more here
    amounts: dict[Reach, int] = field(default_factory=dict)  # millionths
    touched: dict[str, bytes] = field(default_factory=dict)  # of every entity that an event was for
    applied: int = 0
    filtered: int = 0
    late: int = 0
    duplicate: int = 0
    watermark_us: int = -1


def wanted(plan: Plan, batch: Batch) -> set[str]:
    """The entities whose states the fold of this batch will need."""
    ops = plan.ops
    return {entity for entity, name in zip(batch.entities, batch.names) if name in ops}


def fold(plan: Plan, batch: Batch, prepared: Prepared, states: Mapping[str, bytes], trace: list[Reached] | None = None) -> Fold:
    """Fold a batch, given the packed states of its entities (a missing one is new), and say what it did.

    Every reach is added to `trace` where one is given. One entity has its turn after the other, since
    what a state needs lies all over memory, and bringing it near costs more than the fold itself.
    """
    out = Fold()
    columns, amounts = prepared.columns, prepared.amounts
    skip = {bad.index for bad in prepared.bad}
    times, ops, identities = batch.times, list(map(plan.ops.get, batch.names)), _identities(batch)
    get_state, new_state, lateness = states.get, plan.new_state, plan.lateness_us
    events, users, values_of = out.events, out.users, out.amounts
    late = duplicate = 0
    bucket, bucket_end = 0, -1

    order, ties = total_order(plan, batch, skip)
    for entity, places in _by_entity(batch, ops, order, out).items():
        packed = get_state(entity)
        state = new_state() if packed is None else unpack(packed)
        tied: list[int] = []  # accepted events of a tie, whose order differs from funnel to funnel
        for i in places:
            if i >= 0:
                time, identity = times[i], identities[i]
                newest = state[0]
                if newest >= 0:
                    if time < newest:
                        late += 1
                        continue
                    last, tail = state[1], state[2]
                    if newest >= time - lateness:
                        if tail and (tail[0] < time - lateness or len(tail) >= TAIL_LONGEST):
                            _prune(tail, time - lateness)
                        if identity == last or (tail is not None and identity in tail and identity in tail[1::2]):
                            duplicate += 1
                            continue
                        if tail is None:
                            state[2] = [newest, last]
                        else:
                            tail.append(newest)
                            tail.append(last)
                    elif tail is not None:
                        state[2] = None
                state[0] = time
                state[1] = identity
                if i in ties:
                    tied.append(i)
                    continue
                steps: Iterable[tuple[int, Iterable[Op]]] = ((i, ops[i] or ()),)
            else:
                steps, tied, time = _by_funnel(plan, batch, tied), [], times[~i]
            if not bucket_end - BUCKET_US <= time < bucket_end:  # one number for all that is in it, not one an event
                bucket = time // BUCKET_US
                bucket_end = (bucket + 1) * BUCKET_US
            for j, stages in steps:
                for at, before, window, stage, number, valued in stages:
                    if before:
                        start = state[before]
                        if start is None or time - start > window:
                            continue
                        values = state[before + 1]
                    else:
                        start = time
                        column = columns[number]
                        values = "" if column is None else column[j]
                    reach = (stage, values, bucket)
                    events[reach] = events.get(reach, 0) + 1
                    users[reach] = users.get(reach, 0) + 1
                    mark = state[at + 2]
                    if mark is not None:
                        moved = (stage, state[at + 1], mark)
                        users[moved] = users.get(moved, 0) - 1
                    if trace is not None:
                        trace.append((entity, stage, time))
                    state[at] = start
                    state[at + 1] = values
                    state[at + 2] = bucket
                    if valued:
                        values_of[reach] = values_of.get(reach, 0) + amounts[j][stage]
        out.touched[entity] = pack(state)
    out.late, out.duplicate = late, duplicate
    out.applied = len(times) - len(skip) - out.filtered - late - duplicate
    out.watermark_us = max((t for i, t in enumerate(times) if i not in skip) if skip else times, default=-1)
    return out


def _by_entity(batch: Batch, ops: Sequence[object], order: Iterable[int], out: Fold) -> dict[str, list[int]]:
    """The places of each entity's events that match a stage, and the marks after ties, in their order."""
    entities = batch.entities
    groups: dict[str, list[int]] = {}
    get_group = groups.get
    for i in order:
        group = get_group(entities[i if i >= 0 else ~i])
        if i >= 0 and ops[i] is None:
            out.filtered += 1
        elif group is not None:
            group.append(i)
        elif i >= 0:  # a mark without a group: all of its events were filtered
            groups[entities[i]] = [i]
    return groups


def _identities(batch: Batch) -> list[int]:
    if all(batch.ids):
        return list(map(digest, map(str.encode, batch.ids), repeat(ID_SEED)))
    return [digest(own.encode(), ID_SEED) if own else digest(raw) for own, raw in zip(batch.ids, batch.raws)]


def total_order(plan: Plan, batch: Batch, skip: set[int]) -> tuple[Iterable[int], Container[int]]:
    """Places of a batch in the total order: timestamp, lowest stage matched, event_id, bytes.

    The lowest stage is each funnel's own. Where several funnels might order one entity's simultaneous
    events differently, these events are the second result, and ~(the last of them) follows them.
    """
    times, entities = batch.times, batch.entities
    if not skip and all(map(lt, times, islice(times, 1, None))):
        return range(len(times)), ()
    order = sorted((i for i in range(len(times)) if i not in skip) if skip else range(len(times)), key=times.__getitem__)
    moments = Counter((times[i], entities[i]) for i in order) if len(set(times)) < len(times) else Counter()
    if len(moments) in (0, len(order)):
        return order, ()
    lowest = _lowest_stages(plan, None)
    order.sort(key=lambda i: (times[i], entities[i], lowest.get(batch.names[i], NO_STAGE), batch.ids[i], batch.raws[i]))
    if len(plan.funnels) == 1:
        return order, ()
    marked: list[int] = []
    for n, i in enumerate(order):
        marked.append(i)
        moment = (times[i], entities[i])
        if moments[moment] > 1 and (n + 1 == len(order) or (times[order[n + 1]], entities[order[n + 1]]) != moment):
            marked.append(~i)
    return marked, {i for i in order if moments[times[i], entities[i]] > 1}


def _by_funnel(plan: Plan, batch: Batch, waiting: Sequence[int]) -> Iterator[tuple[int, Iterable[Op]]]:
    """The stages that simultaneous events of one entity match, each funnel in its own total order."""
    for funnel in plan.funnels:
        lowest = _lowest_stages(plan, funnel.number)
        for i in sorted(waiting, key=lambda i: (lowest.get(batch.names[i], NO_STAGE), batch.ids[i], batch.raws[i])):
            yield i, [op for op in plan.ops[batch.names[i]] if op[4] == funnel.number]


def _lowest_stages(plan: Plan, number: int | None) -> dict[str, int]:
    """Event name to the lowest stage it matches, in one funnel or (None) in any."""
    mine = {name: [op[3] & 0xFF for op in ops if number in (None, op[4])] for name, ops in plan.ops.items()}
    return {name: min(stages) for name, stages in mine.items() if stages}


def _prune(tail: list[int], horizon: int) -> None:
    """Forget what is older than the horizon, and the oldest where another event would not fit."""
    forget = max(0, len(tail) - TAIL_LONGEST)
    while forget < len(tail) and tail[forget] < horizon:
        forget += 2
    if forget:
        del tail[:forget]
