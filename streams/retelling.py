"""[pure] A stored state whose events are told apart by other identities than they were."""

from __future__ import annotations

from collections.abc import Callable

from streams.matching import SEALED
from streams.resting import awake, is_at_rest
from streams.tail import Entry, Identity, _entries, _state, pack, packed_blocks, unpack_blocks


def with_identities(packed: bytes, of: Callable[[Identity], Identity]) -> bytes:
    """The state with another identity for each event of its tail."""
    if is_at_rest(packed):
        return packed
    state = awake(packed)
    newest, known, _, count, _, before, layout, floor = state
    if not count:
        return packed
    blocks, old = unpack_blocks(known), _entries(state)
    new = [entry._replace(identity=of(entry.identity)) for entry in old]
    if _simultaneous(old):
        # Which of them came first may be told by their identities: what is folded is taken for granted, as by another layout.
        new, before, floor = [entry._replace(key=SEALED, values="", amounts=None) for entry in new], packed_blocks(blocks), newest
    found: bytes = pack(_state(newest, blocks, new, before, layout, floor))
    return found


def _simultaneous(entries: list[Entry]) -> bool:
    """Whether two events are of one time that are no copies of each other."""
    told = {entry.time: entry.identity for entry in entries}
    return any(told[entry.time] != entry.identity for entry in entries)
