"""A shard read in parts has the counts of one moment, whatever is written between the parts."""

from __future__ import annotations

import pytest

from streams import snapshots
from streams.ledger.contract import Kept, Snapshot, Write
from streams.ledger.memory import MemoryLedger
from streams.snapshots import read_whole
from streams.tally import BucketKey, Deltas
from streams.windows import Cells

SHARD = "web:0"
DEFINITIONS = (11, 12, 13)
KEPT: Kept = [(definition, width, 30) for definition in DEFINITIONS for width in (10, 60)]


class Busy(MemoryLedger):
    """Somebody writes whenever a part was read; `begun_anew` times the shard is begun anew too."""

    def __init__(self, journal_length: int = 256, begun_anew: int = 0) -> None:
        super().__init__(journal_length=journal_length)
        self.begun_anew, self.read, self.next = begun_anew, 0, 0

    async def snapshot(self, shard: str, kept: Kept) -> Snapshot | None:
        found = await super().snapshot(shard, kept)
        self.read += 1
        if self.begun_anew:
            self.begun_anew -= 1
            await self.reset(shard)
            self.next = 0
        if len(kept) < len(KEPT):
            await self.write()
        return found

    async def write(self) -> None:
        claim = await self.claim(SHARD, 1, 0)
        buckets = {(definition, width, 5): {"u0": 1} for definition in DEFINITIONS for width in (10, 60)}
        deltas = Deltas(buckets, {definition: {"u0": 1} for definition in DEFINITIONS}, watermark_us=100_000_000)
        await self.apply(claim, Write(self.next, self.next + 1, deltas))
        self.next += 1


@pytest.fixture(autouse=True)
def _one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "DEFINITIONS_AT_ONCE", 1)


async def read(ledger: Busy) -> tuple[int, dict[BucketKey, Cells], dict[int, Cells]]:
    """How many writes the shard had when it was read, and its counts."""
    whole = await read_whole(ledger, SHARD, KEPT)
    assert whole is not None
    buckets: dict[BucketKey, Cells] = {}
    totals: dict[int, Cells] = {}
    for part, ever in whole.counts:
        for into, found in ((buckets, part), (totals, ever)):
            for key, cells in found.items():
                for name, count in cells.items():
                    mine = into.setdefault(key, {})  # type: ignore[attr-defined]
                    mine[name] = mine.get(name, 0) + count
    return whole.position.next, buckets, totals


@pytest.mark.parametrize("ledger", [Busy(), Busy(begun_anew=1), Busy(journal_length=1)], ids=["busy", "begun anew", "short journal"])
async def test_every_definition_has_all_that_was_written(ledger: Busy) -> None:
    for _ in range(4):
        await ledger.write()
    writes, buckets, totals = await read(ledger)
    assert writes > 0
    assert totals == {definition: {"u0": writes} for definition in DEFINITIONS}
    assert buckets == {(definition, width, 5): {"u0": writes} for definition in DEFINITIONS for width in (10, 60)}


async def test_a_shard_that_is_not_there_has_no_counts() -> None:
    assert await read_whole(Busy(), SHARD, KEPT) is None
