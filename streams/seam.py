"""[pure] Where a recount meets what is stored: an entity's state with the cells of some funnels as the recount has them.

Events on their way when a backfill ends must still find their place among those before them, in the
funnels that were recounted and in the others alike. So the events at the end of the stored tail that
the recount has just the same stay as they are, and all that was before them is taken for granted: for
the others as it is stored, for the recounted funnels as the recount has it. Where the tails differ (one
of them matched by other definitions, or at rest) nothing is left of them but what tells duplicates, and
an event that would have to go before the entity's newest one is late ("late:tail_full").
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from streams.chains import Blocks, nothing_counted
from streams.matching import SEALED
from streams.plan import Plan
from streams.resting import awake
from streams.tail import NEW, Entry, _applied, _entries, _state, pack, packed_blocks, replay, unpack_blocks


def joined(plan: Plan, stored: bytes | None, recounted: bytes | None, definitions: Collection[int]) -> bytes | None:
    """The stored state (None: there is none) with these definitions' cells from the recounted one; None: nothing is left.

    Both are of the same moment; `plan` is the one that the recount was made with.
    """
    ours, theirs = _Side.of(plan, stored), _Side.of(plan, recounted)
    blocks = _of_both(ours.blocks, theirs.blocks, definitions)
    if not blocks:
        return None
    newest = max(ours.newest, theirs.newest)
    mine, same = _alike(ours.entries, theirs.entries)
    sealed = [_sealed(entry) for entry in ours.entries[:mine]] or ([] if same else [_sealed(entry) for entry in theirs.entries])
    before = _of_both(ours.without(plan, same), theirs.without(plan, same), definitions)
    floor = max(ours.floor, theirs.floor, *(entry.time for side in (ours, theirs) for entry in side.entries[: len(side.entries) - same]), -1)
    entries = sealed + ours.entries[mine:]
    if not same or not _leads_to(plan, before, entries, blocks):
        entries, before, floor = [_sealed(entry) for entry in entries], blocks, newest
    return bytes(pack(_state(newest, blocks, entries, packed_blocks(before), plan.layout, floor)))


@dataclass
class _Side:
    """One of the two states, unpacked."""

    newest: int
    blocks: Blocks
    entries: list[Entry]
    before: Blocks
    floor: int

    @classmethod
    def of(cls, plan: Plan, packed: bytes | None) -> _Side:
        state = NEW if packed is None else awake(packed)
        newest, blocks, tail, _, _, before, layout, floor = state
        known, entries = unpack_blocks(blocks), _entries(state)
        if tail and layout != plan.layout:
            return cls(newest, known, [_sealed(entry) for entry in entries], known, newest)
        return cls(newest, known, entries, unpack_blocks(before), floor)

    def without(self, plan: Plan, last: int) -> Blocks:
        """The blocks as they were before the last few events of the tail."""
        blocks = unpack_blocks(packed_blocks(self.before))
        count = len(self.entries) - last
        replay(plan, self.entries[:count], _applied(plan, self.entries)[:count], blocks, nothing_counted(), 1)
        return blocks
