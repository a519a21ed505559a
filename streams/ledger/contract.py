"""What a ledger is: counts, states and positions of a shard, changed together or not at all.

A *shard* is one source partition ("web:3"). Whoever counts it holds a *claim*: an epoch that rises
with every claim and a token nobody else has. A chunk is applied in one step that compares the claim
and the position first; every answer but `Ok` means that nothing was written, and that the caller's
memory of the shard is worth nothing any more: claim again, read again, go on from there.

Redis keeps it for real (`redis.py`), memory for replay and tests (`memory.py`); one suite of tests
holds both to this page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streams.tally import BucketKey, Deltas
from streams.values import Registry
from streams.windows import Cells


@dataclass(frozen=True)
class Claim:
    """The right to write a shard, and what stood there when it was given."""

    shard: str
    epoch: int
    token: str
    next: int  # offset of the first record not yet counted
    watermark_us: int  # -1: none yet
    upstream: Mapping[int, int]  # source partition -> highest offset counted (re-keyed sources)
    corrupt: bool = False
    backfills: tuple[int, ...] = ()  # definitions that somebody asked to be counted from the topic's beginning


@dataclass(frozen=True)
class Write:
    """One chunk's changes. `start`: where the chunk begins; `next`: where the one after it will."""

    start: int
    next: int
    deltas: Deltas
    states: Mapping[str, bytes] = field(default_factory=dict)
    upstream: Mapping[int, int] = field(default_factory=dict)
    gone: int = 0  # records that left the topic before they were counted
    began_us: int = -1  # event time of the first event; -1: no event
    forgotten: Sequence[str] = ()  # entities whose states go


@dataclass(frozen=True)
class Ok:
    """Applied."""

    seconds: float = field(default=0.0, compare=False)  # that the store took for it, as far as it is one that takes any


@dataclass(frozen=True)
class Mismatch:
    """The chunk does not begin where the ledger stands."""

    stored: int


@dataclass(frozen=True)
class Fenced:
    """Somebody else's claim is the newest, or ours was rolled back (a lower epoch)."""

    epoch: int


@dataclass(frozen=True)
class Corrupt:
    """A write was torn (Redis restarted from half a script): the shard must be rebuilt."""


@dataclass(frozen=True)
class NoState:
    """The shard is not there any more (Redis was flushed)."""


Outcome = Ok | Mismatch | Fenced | Corrupt | NoState


@dataclass(frozen=True)
class Position:
    """Where a shard stands."""

    next: int
    watermark_us: int
    fates: Cells
    gone: int
    generation: str  # another one means: begun anew
    sequence: int  # writes since
    since: Mapping[int, int] = field(default_factory=dict)  # definition counted -> watermark (µs) at which its counting began
    backfills: tuple[int, ...] = ()  # definitions asked to be counted from the topic's beginning
    whole_us: int = -1  # event time since which no record is missing; -1: from the topic's beginning
    gap: bool = False  # records before the next event are missing: `whole_us` will be its time


@dataclass(frozen=True)
class Snapshot:
    """A shard's position and all its counts, of one moment."""

    position: Position
    buckets: Mapping[BucketKey, Cells]
    totals: Mapping[int, Cells]


@dataclass(frozen=True)
class Changes:
    """A shard's position and the deltas since a sequence number; None when they are not kept that far back."""

    position: Position
    deltas: Sequence[tuple[Mapping[BucketKey, Cells], Mapping[int, Cells]]] | None


UNKEYED = ("",)  # entities are stored by their own ids
Kept = Sequence[tuple[int, int, int]]  # definition, bucket width in seconds, buckets behind the watermark


class Ledger(Protocol):
    """Everything that is remembered. Every method may raise StoreUnavailable."""

    async def claim(self, shard: str, partitions: int, start: int, definitions: Sequence[int] = (), keys: Sequence[str] = UNKEYED) -> Claim:
        """Take the shard over; it begins at `start` if it is new, and has a gap before it unless that is 0.

        Raises PartitionsChanged and OtherPseudonyms.

        `definitions` are what the new holder counts. One that the holder before did not count begins
        at the shard's watermark; what the holder before counted and this one does not has ended.
        `keys` are fingerprints of pseudonym keys: the first is the new holder's, and the shard must have been
        held last with one of them.
        """

    async def apply(self, claim: Claim, write: Write) -> Outcome:
        """Change everything, if claim and position are still right."""

    async def states(self, shard: str, entities: Sequence[str]) -> list[bytes | None]:
        """The stored states of entities, in their order."""

    async def scan(self, shard: str, cursor: int, count: int) -> tuple[int, list[tuple[str, bytes]]]:
        """Some of the stored states, about `count`, and the cursor for more; 0 to begin, 0 when all were seen.

        A state that is there all the while is seen at least once. One scan of a shard at a time.
        """

    async def ask_backfill(self, shard: str, definition: int) -> bool:
        """Ask whoever claims the shard next to count a definition from the topic's beginning; False: no such shard."""

    async def drop(self, claim: Claim, definition: int) -> Outcome:
        """Forget the counts of one definition, if the claim is still right; where it is counted, it begins at the watermark now."""

    async def backfilled(self, claim: Claim, definition: int, since_us: int) -> Outcome:
        """Note that a definition has been counted since an event time (-1: from the beginning), and that its backfill is done."""

    async def admit(self, source: str, registry: Registry, texts: Sequence[str]) -> dict[str, bool]:
        """Which of these dimension values are among the first `max_values`."""

    async def reset(self, shard: str) -> None:
        """Forget everything of a shard."""

    async def shards(self, source: str) -> list[str]:
        """Every shard of a source that was ever claimed."""

    async def snapshot(self, shard: str, kept: Kept) -> Snapshot | None:
        """All counts of a shard, or None when it is not there."""

    async def changes(self, shard: str, generation: str, since: int) -> Changes | None:
        """What was written after sequence number `since`, or None when the shard is not there."""

    async def publish_ends(self, source: str, ends: Mapping[int, int]) -> None:
        """Tell readers where the logs of partitions end (records not yet counted = end - next)."""

    async def ends(self, source: str) -> dict[int, int]:
        """The newest known end of each partition's log."""

    async def ping(self) -> None:
        """Raises StoreUnavailable when the store does not answer."""

    async def close(self) -> None:
        """Let go of connections."""
