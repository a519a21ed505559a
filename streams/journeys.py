"""[pure] One entity's way through the funnels: events in, counts out, whatever order they arrive in.

A state rests packed (one object an entity: millions of small ones scatter the memory that every
other step then works in). Unpacked it is four things:

    newest   the greatest event time that was looked at; more than the allowed lateness before it is late
    tail     None, or: layout, floor, then five items for each of the newest events, in their total order:
             time, identity, key of its match, values that it brings, amounts by stage (None: none)
    before   the packed blocks as they were before the tail
    blocks   definition -> cells of the funnel (see `chains`)

An event newer than all before it is folded into the blocks and put behind the tail: the fast path. Any
other one takes its place within the tail; what the tail had counted is counted backwards from
`before`, and what the new tail counts is counted forwards: their sum is the difference.

The tail reaches back twice the allowed lateness, for an event as old as the lateness allows may be
a duplicate of one that is as much older again. It holds TAIL_MAX events at most; `floor` is the time
of the last event that had to leave early, and what is not newer than that is late ("late:tail_full").
Stored events whose layout is not today's cannot be folded again: they stay to tell duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from xxhash import xxh3_64_hexdigest

from schemas.event import Batch
from streams.chains import Ages, Counts, advance
from streams.matching import SEALED, Key, Match, Step
from streams.plan import Plan, Prepared
from streams.retention import BUCKET_US
from streams.values import GROUP

TAIL_MAX = 256  # events an entity; when one more comes, the oldest quarter leaves
TAIL_KEPT = TAIL_MAX * 3 // 4
TAIL_HEAD = 2
ITEMS = 5  # of an event in the tail
LAZY = 16  # events in the tail beyond which those past use are taken out
IDENTITY_BYTES_MAX = 1024  # of a record without event_id; what follows is told by its hash

Identity = str | bytes
Blocks = dict[int, list[Any]]
State = tuple[int, list[Any] | None, bytes | None, Blocks]
Reached = dict[tuple[str, int], list[tuple[int, int]]]  # (entity, funnel number) -> (stage, event time) of each reach

pack: Any = msgspec.msgpack.Encoder().encode
unpack: Any = msgspec.msgpack.Decoder(tuple[int, list[Any] | None, bytes | None, dict[int, list[Any]]]).decode
unpack_blocks: Any = msgspec.msgpack.Decoder(dict[int, list[Any]]).decode
NO_BLOCKS: bytes = pack({})
NEW: State = (-1, None, None, {})


class Entry(NamedTuple):
    """An event in the tail."""

    time: int
    identity: Identity
    key: Key
    values: str
    amounts: dict[int, int] | None


@dataclass
class Fold:
    """What a batch did: counts, ages at conversion, fates, and the states it touched."""

    counts: Counts = field(default_factory=Counts)
    ages: Ages = field(default_factory=dict)
    touched: dict[str, bytes] = field(default_factory=dict)  # of every entity that an event was for
    applied: int = 0
    filtered: int = 0
    late: int = 0
    crowded_out: int = 0  # late, because the tail was full
    duplicate: int = 0
    watermark_us: int = -1


def wanted(batch: Batch, prepared: Prepared) -> set[str]:
    """The entities whose states the fold of this batch will need."""
    return {entity for entity, match in zip(batch.entities, prepared.matches) if match is not None}


def fold(plan: Plan, batch: Batch, prepared: Prepared, states: Mapping[str, bytes], trace: Reached | None = None) -> Fold:
    """Fold a batch, given the packed states of its entities (a missing one is new), and say what it did.

    The reaches of every entity are kept in `trace` where one is given. One entity has its turn after
    the other, since what a state needs lies all over memory, and bringing it near costs more than the
    fold itself.
    """
    out = Fold()
    skip = {bad.index for bad in prepared.bad}
    times, matches, values, amounts = batch.times, prepared.matches, prepared.values, prepared.amounts
    identities = _identities(batch)
    counts, ages, touched = out.counts, out.ages, out.touched
    get_state, layout, horizon_us = states.get, plan.layout, 2 * plan.lateness_us
    applied, bucket, bucket_end = 0, 0, -1
    for entity, places in _by_entity(batch.entities, matches, skip, out).items():
        packed = get_state(entity)
        newest, tail, before, blocks = NEW[0], None, None, {}
        if packed is not None:
            newest, tail, before, blocks = unpack(packed)
        if not _in_order(places, times, identities, newest, tail, layout):
            entries = [_entry(times[i], identities[i], matches[i], values[i], amounts.get(i)) for i in places]
            touched[entity] = pack(Entity(plan, entity, (newest, tail, before, blocks), out, trace).take(entries))
            continue
        horizon = times[places[-1]] - horizon_us
        past = tail is None or newest < horizon
        for i in places:
            time, match = times[i], matches[i]
            if past and time >= horizon:
                tail, before, past = [layout, -1], pack(blocks) if blocks else NO_BLOCKS, False
            if not bucket_end - BUCKET_US <= time < bucket_end:  # one number for all that is in it, not one an event
                bucket = time // BUCKET_US
                bucket_end = (bucket + 1) * BUCKET_US
            brought = values[i] if match.openers else ""
            amount = amounts.get(i) if match.stages else None
            for step in match.steps:
                cells = blocks.get(step.definition)
                if cells is None:
                    cells = blocks[step.definition] = [None] * step.size
                own = brought if step.values_at < 0 else brought.split(GROUP)[step.values_at]
                if trace is None:
                    advance(step, cells, time, bucket, own, amount, counts, ages)
                else:
                    reached = trace.setdefault((entity, step.number), [])
                    advance(step, cells, time, bucket, own, amount, counts, ages, 1, reached)
            if not past:
                tail += (time, identities[i], match.key, brought, amount)
        newest = times[places[-1]]
        applied += len(places)
        if len(tail) > TAIL_HEAD + LAZY * ITEMS and tail[TAIL_HEAD] < horizon:
            tail, before = _shortened(plan, tail, before, newest)
        touched[entity] = pack((newest, tail, before, blocks))
    out.applied += applied
    out.watermark_us = max((t for i, t in enumerate(times) if i not in skip) if skip else times, default=-1)
    return out


def _by_entity(entities: list[str], matches: list[Match | None], skip: set[int], out: Fold) -> dict[str, list[int]]:
    """The places of each entity's events, in order of arrival, without those that are filtered or bad."""
    groups: dict[str, list[int]] = {}
    get_group = groups.get
    filtered = 0
    for i, entity in enumerate(entities):
        if matches[i] is None:
            filtered += i not in skip
        elif i not in skip:
            group = get_group(entity)
            if group is None:
                groups[entity] = [i]
            else:
                group.append(i)
    out.filtered = filtered
    return groups


def _in_order(
    places: list[int], times: list[int], identities: list[Identity], newest: int, tail: list[Any] | None, layout: int
) -> bool:
    """Whether each event is newer than all before it, and none may be a duplicate: the fast path."""
    if times[places[0]] <= newest:
        return False
    if len(places) > 1:
        if any(times[i] >= times[j] for i, j in pairwise(places)) or len({identities[i] for i in places}) < len(places):
            return False
    if tail is None:
        return True
    if tail[0] != layout or len(tail) + len(places) * ITEMS > TAIL_HEAD + TAIL_MAX * ITEMS:
        return False
    return not any(identities[i] in tail for i in places)


def _identities(batch: Batch) -> list[Identity]:
    """What tells each event from another: its event_id (text), or else its bytes."""
    if all(batch.ids):
        return batch.ids  # type: ignore[return-value]  # a list of str is one of str | bytes for whoever only reads it
    return [own or _bytes_identity(raw) for own, raw in zip(batch.ids, batch.raws)]


def _bytes_identity(raw: bytes) -> bytes:
    if len(raw) <= IDENTITY_BYTES_MAX:
        return raw
    return raw[:IDENTITY_BYTES_MAX] + xxh3_64_hexdigest(raw).encode()


def _entry(time: int, identity: Identity, match: Match | None, values: str, amounts: dict[int, int] | None) -> Entry:
    assert match is not None
    return Entry(time, identity, match.key, values if match.openers else "", amounts if match.stages else None)


def _told(entry: Entry) -> tuple[Any, ...]:
    """What is the same of an event and its exact copy."""
    return (*entry[:-1], *sorted((entry.amounts or {}).items()))


def _entries(tail: list[Any] | None) -> list[Entry]:
    if tail is None:
        return []
    return [Entry(*tail[at : at + ITEMS]) for at in range(TAIL_HEAD, len(tail), ITEMS)]


def _flat(layout: int, floor: int, entries: Iterable[Entry]) -> list[Any]:
    return [layout, floor, *(item for entry in entries for item in entry)]


def _shortened(plan: Plan, tail: list[Any], before: bytes | None, newest: int) -> tuple[list[Any], bytes]:
    """The tail without what is past use, or too much, and the blocks before it."""
    entries, floor = _entries(tail), tail[1]
    applied, lateness = _applied(plan, entries), plan.lateness_us
    horizon = newest - 2 * lateness
    cut = next((n for n, entry in enumerate(entries) if entry.time >= horizon), len(entries))
    if len(entries) - cut > TAIL_MAX:
        cut = len(entries) - TAIL_KEPT
        while cut < len(entries) and entries[cut].time == entries[cut - 1].time:  # simultaneous events stay together
            cut += 1
        if entries[cut - 1].time >= newest - lateness:
            floor = entries[cut - 1].time
    blocks = unpack_blocks(before) if before else {}
    nobody = Walk(plan, Counts(), {})
    nobody.fold(entries[:cut], applied[:cut], blocks, 1)
    gone = {entry.identity for entry in entries[:cut]}
    # A duplicate stays one for good when what it repeats can change no more; nobody would know it for one later.
    kept = [e for e, ok in zip(entries[cut:], applied[cut:]) if ok or (e.time >= newest - lateness and e.identity not in gone)]
    return _flat(plan.layout, floor, kept), pack(blocks)


@dataclass
class Walk:
    """Takes events through every funnel, each funnel in its own total order; where counts go."""

    plan: Plan
    counts: Counts
    ages: Ages

    def fold(
        self, entries: list[Entry], applied: list[bool], blocks: Blocks, sign: int, reached: dict[int, list[tuple[int, int]]] | None = None
    ) -> None:
        """Fold the events that are applied into `blocks`, counting `sign` times."""
        by_funnel: dict[int, list[tuple[Any, ...]]] = {}
        for place, (entry, ok) in enumerate(zip(entries, applied)):
            if ok:
                for step in self.plan.matcher.by_key(entry.key).steps:
                    by_funnel.setdefault(step.number, []).append((*_order(entry, step.lowest), place, step))
        for number, found in by_funnel.items():
            found.sort(key=lambda item: item[:-1])
            mine = None if reached is None else reached.setdefault(number, [])
            for *_, place, step in found:
                self._one(entries[place], step, blocks, sign, mine)

    def _one(self, entry: Entry, step: Step, blocks: Blocks, sign: int, reached: list[tuple[int, int]] | None) -> None:
        cells = blocks.get(step.definition)
        if cells is None:
            cells = blocks[step.definition] = [None] * step.size
        own = entry.values if step.values_at < 0 else entry.values.split(GROUP)[step.values_at]
        advance(step, cells, entry.time, entry.time // BUCKET_US, own, entry.amounts, self.counts, self.ages, sign, reached)


def _order(entry: Entry, lowest: int) -> tuple[Any, ...]:
    """What the total order compares: time, lowest stage matched, event_id, bytes.

    Two events with one event_id and one time differ, if at all, in what they match and bring.
    """
    identity = entry.identity
    own, raw = (identity, b"") if isinstance(identity, str) else ("", identity)
    key = entry.key if isinstance(entry.key, bytes) else entry.key.to_bytes(4, "big", signed=True)
    return entry.time, lowest, own, raw, key, entry.values, sorted((entry.amounts or {}).items())


def _applied(plan: Plan, entries: list[Entry]) -> list[bool]:
    """Which events of a tail are no duplicates: none applied before them has their identity."""
    by_key = plan.matcher.by_key
    newest: dict[Identity, int] = {}
    applied = [False] * len(entries)
    for place in sorted(range(len(entries)), key=lambda n: _order(entries[n], by_key(entries[n].key).lowest)):
        entry = entries[place]
        last = newest.get(entry.identity)
        if last is None or last < entry.time - plan.lateness_us:
            newest[entry.identity] = entry.time
            applied[place] = True
    return applied


class Entity:
    """One entity's turn off the fast path: late events, simultaneous ones, duplicates, other layouts."""

    def __init__(self, plan: Plan, name: str, state: State, out: Fold, trace: Reached | None) -> None:
        self._plan = plan
        self._name = name
        self._newest, tail, before, self._blocks = state
        self._floor = -1 if tail is None else tail[1]
        self._entries = _entries(tail)
        self._before = before or NO_BLOCKS
        if tail is not None and tail[0] != plan.layout:
            self._seal()
        self._out = out
        self._trace = trace

    def _seal(self) -> None:
        """Take what is folded for granted: the events were matched by definitions that are not today's."""
        self._entries = [entry._replace(key=SEALED, values="", amounts=None) for entry in self._entries]
        self._before = pack(self._blocks)
        self._floor = self._newest

    def take(self, arriving: list[Entry]) -> State:
        """Take events in their order of arrival; the state after them."""
        if self._newest < min(entry.time for entry in arriving) - 2 * self._plan.lateness_us:
            self._entries, self._before = [], pack(self._blocks)
        for run in self._runs(arriving):
            self._place(run)
        entries, before = self._entries, self._before
        tail = _flat(self._plan.layout, self._floor, entries)
        if len(entries) > TAIL_MAX or (len(entries) > LAZY and entries[0].time < self._newest - 2 * self._plan.lateness_us):
            tail, before = _shortened(self._plan, tail, before, self._newest)
        return self._newest, tail, before, self._blocks

    def _runs(self, arriving: list[Entry]) -> Iterator[list[Entry]]:
        """The events that are neither late nor exact copies, in runs that a tail may hold."""
        run: list[Entry] = []
        known = {_told(entry) for entry in self._entries}
        for entry in arriving:
            if entry.time < self._newest - self._plan.lateness_us:
                self._out.late += 1
            elif entry.time <= self._floor:
                self._out.crowded_out += 1
            elif (told := _told(entry)) in known:
                self._out.duplicate += 1
            else:
                known.add(told)
                self._newest = max(self._newest, entry.time)
                run.append(entry)
                if len(self._entries) + len(run) > TAIL_MAX:
                    yield run
                    run = []
                    self._shorten()
                    known = {_told(entry) for entry in self._entries}
        if run:
            yield run

    def _shorten(self) -> None:
        tail, self._before = _shortened(self._plan, _flat(self._plan.layout, self._floor, self._entries), self._before, self._newest)
        self._floor, self._entries = tail[1], _entries(tail)

    def _place(self, run: list[Entry]) -> None:
        """Put events into the tail, and count the difference."""
        plan, out = self._plan, self._out
        walk = Walk(plan, out.counts, out.ages)
        old, old_applied = self._entries, _applied(plan, self._entries)
        entries = sorted([*old, *run], key=lambda entry: _order(entry, plan.matcher.by_key(entry.key).lowest))
        applied = _applied(plan, entries)
        if not old or min(entry.time for entry in run) > old[-1].time:  # all behind the tail: it stands
            reached: dict[int, list[tuple[int, int]]] = {}
            walk.fold(entries[len(old) :], applied[len(old) :], self._blocks, 1, reached)
            self._add(reached)
        else:
            backwards: dict[int, list[tuple[int, int]]] = {}
            walk.fold(old, old_applied, unpack_blocks(self._before), -1, backwards)
            self._blocks = unpack_blocks(self._before)
            forwards: dict[int, list[tuple[int, int]]] = {}
            walk.fold(entries, applied, self._blocks, 1, forwards)
            self._take_back(backwards)
            self._add(forwards)
        out.applied += sum(applied) - sum(old_applied)
        out.duplicate += len(run) - (sum(applied) - sum(old_applied))
        self._entries = entries

    def _take_back(self, reached: dict[int, list[tuple[int, int]]]) -> None:
        if self._trace is not None:
            for number, mine in reached.items():
                kept = self._trace.get((self._name, number), [])
                del kept[len(kept) - len(mine) :]

    def _add(self, reached: dict[int, list[tuple[int, int]]]) -> None:
        if self._trace is not None:
            for number, mine in reached.items():
                self._trace.setdefault((self._name, number), []).extend(mine)
