"""[pure] Where a recount meets what is stored: an entity's state with the cells of some funnels as the recount has them.

Events that are on their way must still find their place among those before them, in the recounted
funnels and in the others. So the events at the end of the stored tail that the recount has just the
same stay as they are, and all before them is taken for granted: by the others as it is stored, by the
recounted funnels as the recount has it. Where the tails have no such end (one was matched by other
definitions, or is at rest) nothing is left but what tells duplicates, and an event that would have to
go before the entity's newest one is late ("late:tail_full").
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import takewhile

from streams.chains import Blocks, Counts
from streams.matching import SEALED
from streams.plan import Plan
from streams.resting import awake, rest_us, rested
from streams.tail import NEW, Entry, _applied, _entries, _state, pack, packed_blocks, replay, unpack_blocks


@dataclass
class Side:
    """One of the two states, unpacked."""

    newest: int
    blocks: Blocks
    entries: list[Entry]
    applied: list[bool]  # which of the entries are no duplicates
    before: Blocks
    floor: int

    def without(self, plan: Plan, place: int) -> Blocks:
        """The blocks as they were before the entry at a place of the tail."""
        blocks = {definition: [*cells] for definition, cells in self.before.items()}
        replay(plan, self.entries[:place], self.applied[:place], blocks, Counts(), 1)
        return blocks

    def since(self, time: int) -> int:
        """The place of the first entry that is not before a time."""
        return next((place for place, entry in enumerate(self.entries) if entry.time >= time), len(self.entries))


def joined(plan: Plan, stored: bytes | None, recounted: bytes | None, definitions: Collection[int], watermark_us: int) -> bytes | None:
    """A stored state (None: there is none) with these definitions' cells as recounted; None: nothing is left to keep.

    Both are of the same moment, and `plan` is that of the recount.
    """
    ours, theirs = _side(plan, stored), _side(plan, recounted)
    newest, blocks = max(ours.newest, theirs.newest), _of_both(ours.blocks, theirs.blocks, definitions)
    if stored is None and not blocks:
        return None
    alike_us = _alike(ours, theirs) if newest >= watermark_us - rest_us(plan) else None
    cut = ours.since(newest + 1 if alike_us is None else alike_us)
    entries, before, floor = [*map(_sealed, ours.entries[:cut] or theirs.entries)], blocks, newest
    if alike_us is not None:
        past = [*ours.entries[:cut], *theirs.entries[: theirs.since(alike_us)]]
        entries = [*map(_sealed, ours.entries[:cut]), *ours.entries[cut:]]
        before = _of_both(ours.without(plan, cut), theirs.without(plan, theirs.since(alike_us)), definitions)
        floor = max(ours.floor, theirs.floor, *(entry.time for entry in past), -1)
    return rested(plan, pack(_state(newest, blocks, entries, packed_blocks(before), plan.layout, floor)), watermark_us)


def _side(plan: Plan, packed: bytes | None) -> Side:
    state = NEW if packed is None else awake(packed)
    newest, blocks, tail, _, _, before, layout, floor = state
    known, entries = unpack_blocks(blocks), _entries(state)
    if tail and layout != plan.layout:
        return Side(newest, known, [*map(_sealed, entries)], [True] * len(entries), known, newest)
    return Side(newest, known, entries, _applied(plan, entries), unpack_blocks(before), floor)


def _sealed(entry: Entry) -> Entry:
    """What is left of an event that cannot be folded again."""
    return entry._replace(key=SEALED, values="", amounts=None)


def _of_both(ours: Blocks, theirs: Blocks, definitions: Collection[int]) -> Blocks:
    kept = {definition: cells for definition, cells in ours.items() if definition not in definitions}
    return kept | {definition: cells for definition, cells in theirs.items() if definition in definitions}


def _alike(ours: Side, theirs: Side) -> int | None:
    """The time since which both tails have the same events (duplicates, of which one may know more, apart); None: they end differently."""
    tails = [[entry for entry, ok in zip(side.entries, side.applied) if ok] for side in (ours, theirs)]
    same = list(takewhile(lambda pair: pair[0] == pair[1], zip(*map(reversed, tails))))
    # Simultaneous events stay together.
    before = {tail[-len(same) - 1].time for tail in tails if len(tail) > len(same)}
    return min((entry.time for entry, _ in same if entry.time not in before), default=None)
