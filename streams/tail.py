"""[pure] One entity's way through the funnels: events in, counts out, whatever order they arrive in.

A state rests packed (one object an entity: millions of small ones scatter the memory that every
other step then works in). Unpacked it is eight things:

    newest   the greatest event time that was looked at; more than the allowed lateness before it is late
    blocks   definition -> cells of the funnel (see `chains`)
    tail     the newest events in their total order, packed one behind the other; their times are µs after `oldest`
    count    how many these are
    oldest   time of the first of them
    before   the packed blocks as they were before the tail
    layout   of the plan whose matches the tail names
    floor    time of the last event that left the tail before its time; what is not newer is late; or -1

An event newer than all before it is folded into the blocks and put behind the tail: the fast path. Any
other one takes its place within the tail; what the tail had counted is counted backwards from
`before`, and what the new tail counts is counted forwards: their sum is the difference.

The tail reaches back twice the allowed lateness (as far again before it is cut), for an event as old as the lateness allows may be
a duplicate of one that is as much older again. It holds TAIL_MAX events at most; what then would have
to stand before its first one is late, and counted so ("late:tail_full").
Stored events whose layout is not today's cannot be folded again: they stay to tell duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec

from streams.chains import Blocks, Counts, Fold, Reaches, walk
from streams.matching import LOWEST, NUMBER, SEALED, Key, Match, Step, only
from streams.plan import Plan

TAIL_MAX: Final = 256  # events an entity; when one more comes, the oldest quarter leaves
TAIL_KEPT = TAIL_MAX * 3 // 4
ABSOLUTE = 10**15  # µs since the epoch: so an earlier layout wrote the times of a tail
LAZY: Final = 16  # events in a tail that may stay past use

Identity = str | bytes
State = tuple[int, msgspec.Raw, bytes, int, int, msgspec.Raw, int, int]  # as unpacked; blocks stay packed until they are needed
Folded = tuple[int, Blocks, bytes, int, int, msgspec.Raw, int, int]  # as it is packed again
Reached = dict[str, Reaches]  # by entity

pack: Any = msgspec.msgpack.Encoder().encode
unpack: Any = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw, bytes, int, int, msgspec.Raw, int, int]).decode
unpack_blocks: Any = msgspec.msgpack.Decoder(dict[int, list[Any]]).decode
NO_BLOCKS = msgspec.Raw(pack({}))
NEW: State = (-1, NO_BLOCKS, b"", 0, -1, NO_BLOCKS, 0, -1)


class Entry(NamedTuple):
    """An event in the tail: what is needed to take it through the funnels again."""

    time: int
    identity: Identity
    key: Key
    values: str  # that it brings
    amounts: dict[int, int] | None  # stage -> millionths


unpack_entries: Any = msgspec.msgpack.Decoder(list[list[Any]]).decode


def _told(entry: Entry) -> tuple[Any, ...]:
    """What is the same of an event and its exact copy."""
    return (*entry[:-1], *sorted((entry.amounts or {}).items()))


def _entries(state: State | Folded) -> list[Entry]:
    _, _, tail, count, oldest, *_ = state
    found = unpack_entries(b"\xdd" + count.to_bytes(4, "big") + tail)  # as one msgpack array
    return [Entry(since if since > ABSOLUTE else since + oldest, *others) for since, *others in found]


def _state(newest: int, blocks: Blocks, entries: list[Entry], before: msgspec.Raw, layout: int, floor: int) -> Folded:
    oldest = entries[0].time if entries else -1
    tail = b"".join([pack((entry.time - oldest, *entry[1:])) for entry in entries])
    return newest, blocks, tail, len(entries), oldest, before, layout, floor


def packed_blocks(blocks: Blocks) -> msgspec.Raw:
    return msgspec.Raw(pack(blocks))


def is_long(plan: Plan, count: int, oldest: int, newest: int) -> bool:
    """Whether a tail has too many events, or as much past use as of use: then each is taken out at the cost of one."""
    return count > TAIL_MAX or (count > LAZY and oldest < newest - 4 * plan.lateness_us)


def shortened(plan: Plan, state: Folded) -> Folded:
    """The state with a tail without what is past use, or too much."""
    newest, blocks, _, _, _, before, layout, floor = state
    entries, lateness = _entries(state), plan.lateness_us
    applied = _applied(plan, entries)
    horizon = newest - 2 * lateness
    cut = next((n for n, entry in enumerate(entries) if entry.time >= horizon), len(entries))
    if len(entries) - cut > TAIL_MAX:
        cut = len(entries) - TAIL_KEPT
        while cut < len(entries) and entries[cut].time == entries[cut - 1].time:  # simultaneous events stay together
            cut += 1
        if entries[cut - 1].time >= newest - lateness:
            floor = entries[cut - 1].time
    earlier = unpack_blocks(before)
    replay(plan, entries[:cut], applied[:cut], earlier, Counts(), 1)
    gone = {entry.identity for entry in entries[:cut]}
    # A duplicate stays one for good when what it repeats can change no more; nobody would know it for one later.
    kept = [e for e, ok in zip(entries[cut:], applied[cut:]) if ok or (e.time >= newest - lateness and e.identity not in gone)]
    return _state(newest, blocks, kept, packed_blocks(earlier), layout, floor)


def replay(plan: Plan, entries: list[Entry], applied: list[bool], blocks: Blocks, counts: Counts, sign: int) -> Reaches:
    """Take stored events, without duplicates, through every funnel in its own total order; their reaches."""
    reached: Reaches = {}
    times, values = [entry.time for entry in entries], [entry.values for entry in entries]
    amounts = {place: entry.amounts for place, entry in enumerate(entries) if entry.amounts}
    if _ascend(entries):  # the order is the same in every funnel
        alike: list[Match | None] = [plan.matcher.by_key(entry.key) for entry in entries]
        walk(blocks, [place for place, ok in enumerate(applied) if ok], times, alike, values, amounts, counts, sign, reached)
        return reached
    by_funnel: dict[int, list[tuple[tuple[Any, ...], int, Step]]] = {}
    for place, (entry, ok) in enumerate(zip(entries, applied)):
        if ok:
            for step in plan.matcher.by_key(entry.key).steps:
                by_funnel.setdefault(step[NUMBER], []).append((_order(entry, step[LOWEST]), place, step))
    for found in by_funnel.values():
        found.sort(key=lambda item: item[0])
        matches: list[Match | None] = [None] * len(entries)
        for _, place, step in found:
            matches[place] = only(step)
        walk(blocks, [place for _, place, _ in found], times, matches, values, amounts, counts, sign, reached)
    return reached


def _order(entry: Entry, lowest: int) -> tuple[Any, ...]:
    """What the total order compares: time, lowest stage matched, event_id, bytes.

    Two events with one event_id and one time differ, if at all, in what they match and bring.
    """
    identity = entry.identity
    own, raw = (identity, b"") if isinstance(identity, str) else ("", identity)
    key = entry.key if isinstance(entry.key, bytes) else entry.key.to_bytes(4, "big", signed=True)
    return entry.time, lowest, own, raw, key, entry.values, sorted((entry.amounts or {}).items())


def _applied(plan: Plan, entries: list[Entry]) -> list[bool]:
    """Which events of a tail, in their order, are no duplicates: none applied before them has their identity."""
    if len({entry.identity for entry in entries}) == len(entries):
        return [True] * len(entries)
    newest: dict[Identity, int] = {}
    applied = []
    for entry in entries:
        last = newest.get(entry.identity)
        applied.append(last is None or last < entry.time - plan.lateness_us)
        if applied[-1]:
            newest[entry.identity] = entry.time
    return applied


def _ascend(entries: list[Entry]) -> bool:
    """Whether no two events of a tail are simultaneous."""
    return all(entry.time < following.time for entry, following in pairwise(entries))


class Entity:
    """One entity's turn off the fast path: late events, simultaneous ones, duplicates, other layouts."""

    def __init__(self, plan: Plan, name: str, state: State, out: Fold, trace: Reached | None) -> None:
        self._plan = plan
        self._name = name
        self._newest, known, tail, _, _, self._before, layout, self._floor = state
        self._blocks: Blocks = unpack_blocks(known)
        self._entries = _entries(state)
        if tail and layout != plan.layout:
            self._seal()
        self._out = out
        self._trace = trace

    def _seal(self) -> None:
        """Take what is folded for granted: the events were matched by definitions that are not today's."""
        self._entries = [entry._replace(key=SEALED, values="", amounts=None) for entry in self._entries]
        self._before = packed_blocks(self._blocks)
        self._floor = self._newest

    def take(self, arriving: list[Entry]) -> Folded:
        """Take events in their order of arrival; the state after them."""
        horizon = 2 * self._plan.lateness_us
        if self._newest < min(entry.time for entry in arriving) - horizon:
            self._entries, self._before, self._floor = [], packed_blocks(self._blocks), -1
        for run in self._runs(arriving):
            self._place(run)
        state = self._state()
        return shortened(self._plan, state) if is_long(self._plan, state[3], state[4], self._newest) else state

    def _state(self) -> Folded:
        return _state(self._newest, self._blocks, self._entries, self._before, self._plan.layout, self._floor)

    def _runs(self, arriving: list[Entry]) -> Iterator[list[Entry]]:
        """The events that are neither late nor exact copies, in runs that a tail may hold."""
        run: list[Entry] = []
        moments = {entry.time for entry in arriving}
        known = {_told(entry) for entry in self._entries if entry.time in moments}
        sealed = {(entry.time, entry.identity) for entry in self._entries if entry.key == SEALED}
        for entry in arriving:
            if entry.time < self._newest - self._plan.lateness_us:
                self._out.late += 1
            elif (told := _told(entry)) in known or (entry.time, entry.identity) in sealed:
                self._out.duplicate += 1
            elif entry.time <= self._floor:
                self._out.crowded_out += 1
            else:
                known.add(told)
                self._newest = max(self._newest, entry.time)
                run.append(entry)
                if len(self._entries) + len(run) > TAIL_MAX:
                    yield run
                    run = []
                    self._shorten()
        if run:
            yield run

    def _shorten(self) -> None:
        state = shortened(self._plan, self._state())
        self._entries, self._before, self._floor = _entries(state), state[5], state[7]

    def _place(self, run: list[Entry]) -> None:
        """Put events into the tail, and count the difference."""
        old, out, plan = self._entries, self._out, self._plan
        old_applied = _applied(plan, old)
        entries = [*old, *run]
        if not _ascend(entries):
            entries.sort(key=lambda entry: _order(entry, plan.matcher.by_key(entry.key).lowest))
        applied = _applied(plan, entries)
        if not old or min(entry.time for entry in run) > old[-1].time:  # all behind the tail: it stands
            fresh = entries[len(old) :], applied[len(old) :]
        else:
            backwards = replay(plan, old, old_applied, unpack_blocks(self._before), out.counts, -1)
            self._take_back(backwards)
            self._blocks = unpack_blocks(self._before)
            fresh = entries, applied
        self._add(replay(plan, *fresh, self._blocks, out.counts, 1))
        more = sum(applied) - sum(old_applied)
        out.applied += more
        out.duplicate += len(run) - more
        self._entries = entries

    def _take_back(self, reached: Reaches) -> None:
        if self._trace is not None:
            for number, mine in reached.items():
                kept = self._trace.get(self._name, {}).get(number, [])
                del kept[len(kept) - len(mine) :]

    def _add(self, reached: Reaches) -> None:
        if self._trace is not None:
            for number, mine in reached.items():
                self._trace.setdefault(self._name, {}).setdefault(number, []).extend(mine)
