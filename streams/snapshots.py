"""A shard's counts read whole, some definitions at a time.

A script in Redis holds up everybody, and the counts of a hundred funnels are millions of fields. So they
are read in parts, each of one moment, and what was written between the first part and the last is added
to those that were read before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streams.ledger.contract import Kept, Ledger, Position, Snapshot
from streams.tally import BucketKey
from streams.windows import Cells

DEFINITIONS_AT_ONCE = 10
TRIES = 3  # the shard may be begun anew meanwhile, or more be written than its journal holds

Counts = tuple[Mapping[BucketKey, Cells], Mapping[int, Cells]]


class Whole(NamedTuple):
    """Where a shard stands, and what adds up to its counts."""

    position: Position
    counts: Sequence[Counts]


async def read_whole(ledger: Ledger, shard: str, kept: Kept) -> Whole | None:
    """A shard's counts, or None when it is not there. Raises StoreUnavailable."""
    parts = _parts(kept)
    for _ in range(TRIES if len(parts) > 1 else 0):
        read: list[tuple[frozenset[int], Snapshot]] = []
        for part in parts:
            snapshot = await ledger.snapshot(shard, part)
            if snapshot is None:
                return None
            read.append((frozenset(definition for definition, _, _ in part), snapshot))
        found = await _joined(ledger, shard, read)
        if found is not None:
            return found
    snapshot = await ledger.snapshot(shard, kept)
    return None if snapshot is None else Whole(snapshot.position, [(snapshot.buckets, snapshot.totals)])


def _parts(kept: Kept) -> list[list[tuple[int, int, int]]]:
    definitions = list(dict.fromkeys(definition for definition, _, _ in kept))
    groups = [definitions[at : at + DEFINITIONS_AT_ONCE] for at in range(0, len(definitions), DEFINITIONS_AT_ONCE)]
    return [[triple for triple in kept if triple[0] in group] for group in groups]


async def _joined(ledger: Ledger, shard: str, read: Sequence[tuple[frozenset[int], Snapshot]]) -> Whole | None:
    """The parts, brought to one moment; None where that cannot be."""
    first = read[0][1].position
    if any(snapshot.position.generation != first.generation for _, snapshot in read):
        return None
    changes = await ledger.changes(shard, first.generation, first.sequence)
    if changes is None or changes.deltas is None:
        return None
    counts: list[Counts] = [(snapshot.buckets, snapshot.totals) for _, snapshot in read]
    for sequence, (buckets, totals) in enumerate(changes.deltas, first.sequence + 1):
        behind = frozenset().union(*(definitions for definitions, snapshot in read if snapshot.position.sequence < sequence))
        counts.append(
            ({key: cells for key, cells in buckets.items() if key[0] in behind}, {d: cells for d, cells in totals.items() if d in behind})
        )
    return Whole(changes.position, counts)
