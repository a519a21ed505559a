"""What the product has counted, read from its ledger, and held cell by cell against the oracle."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import SecretStr

from schemas.config import Config, Source, load
from schemas.errors import StoreUnavailable
from schemas.settings import RedisSettings
from streams.ledger.contract import Ledger, Position, Snapshot
from streams.ledger.redis import RedisLedger
from streams.plan import Plan
from streams.redis_client import connect
from streams.values import SEPARATOR
from tests.oracle import SECOND_US, Cell, Recount, read_topic, recount_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.parts.worker import Deployment

FAMILIES = {"u": "users", "n": "events", "v": "value", "e": "entries", "c": "conversions", "x": "converted", "h": "age"}
TAKEN_BACK = "rq"  # how much late events took back, since ever: that depends on arrival, and is no count of its own
FATES = ("applied", "duplicate", "filtered", "late", "rejected")
SHOWN = 8  # wrong cells in a failure's message
T = TypeVar("T")
WAIT_SECONDS = 40.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Books:
    """The counts of one source, summed over its shards, and where each shard stands."""

    cells: Counter[Cell]
    fates: Counter[str]
    next: dict[str, int]  # shard -> offset of the first record not counted
    gone: int
    oldest: dict[tuple[str, int], int]  # (funnel, width) -> first bucket that every shard still keeps


def read_books(deployment: Deployment) -> Books:
    """Everything the ledger holds of a config's first source."""
    return asyncio.run(_read_books(deployment))


async def _read_books(deployment: Deployment) -> Books:
    async with _ledger(deployment) as ledger:
        return await books_of(load(deployment.config), ledger)


async def books_of(config: Config, ledger: Ledger) -> Books:
    """The same of any ledger."""
    source = config.sources[0]
    plan = Plan(config, source)
    kept = [(f.definition, k.seconds, k.count) for f in plan.funnels for k in f.kept]
    shards = {shard: await ledger.snapshot(shard, kept) for shard in await ledger.shards(source.name)}
    intake = {shard: await ledger.changes(shard, "", 0) for shard in await ledger.shards(f"{source.name}/intake")}
    snapshots = {shard: found for shard, found in shards.items() if found is not None}
    positions = {shard: found.position for shard, found in snapshots.items()}
    positions |= {shard: found.position for shard, found in intake.items() if found is not None}
    return Books(
        _cells(plan, list(snapshots.values())),
        _fates(list(positions.values())),
        {shard: position.next for shard, position in positions.items()},
        sum(position.gone for position in positions.values()),
        _oldest(plan, [found.position.watermark_us for found in snapshots.values()]),
    )


def _ledger(deployment: Deployment) -> AbstractAsyncContextManager[RedisLedger]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[RedisLedger]:
        ledger = RedisLedger(connect(RedisSettings(url=SecretStr(deployment.redis), timeout_seconds=5.0)), deployment.prefix)
        try:
            yield ledger
        finally:
            await ledger.close()

    return opened()


def _cells(plan: Plan, snapshots: list[Snapshot]) -> Counter[Cell]:
    names = {funnel.definition: funnel.funnel.name for funnel in plan.funnels}
    cells: Counter[Cell] = Counter()
    for snapshot in snapshots:
        for (definition, width, bucket), counts in snapshot.buckets.items():
            for name, count in counts.items():
                cells[_named(names[definition], name, width, bucket)] += count
        for definition, counts in snapshot.totals.items():
            for name, count in counts.items():
                if name[0] not in TAKEN_BACK:
                    cells[_named(names[definition], name)] += count
    return cells


def _named(funnel: str, name: str, width: int = 0, bucket: int = 0) -> Cell:
    """The cell that the ledger calls `u2`, or `u2<US>channel<US>paid`, or `h2:37` (ages in bin 37)."""
    count, *split = name.split(SEPARATOR)
    dimension, value = split or ("", "")
    stage, *number = count[1:].split(":")
    return Cell(funnel, ":".join((FAMILIES[count[0]], *number)), int(stage), dimension, value, width, bucket)


def _fates(positions: list[Position]) -> Counter[str]:
    fates: Counter[str] = Counter()
    for position in positions:
        for fate, count in position.fates.items():
            fates[fate.partition(":")[0]] += count
    return fates


def _oldest(plan: Plan, watermarks_us: list[int]) -> dict[tuple[str, int], int]:
    newest = max(watermarks_us, default=-1)
    return {(f.funnel.name, k.seconds): newest // (k.seconds * SECOND_US) - k.count for f in plan.funnels for k in f.kept}


def wrong_cells(expected: Recount, books: Books) -> list[str]:
    """Every cell that differs, as a line: what it is, what it must be, what it is in the ledger."""
    found = []
    for cell in sorted(expected.cells.keys() | books.cells.keys()):
        if cell.width and cell.bucket < books.oldest.get((cell.funnel, cell.width), 0):
            continue  # no window reaches it any more
        if expected.cells[cell] != books.cells[cell]:
            found.append(f"{cell}: must be {expected.cells[cell]}, is {books.cells[cell]}")
    return found


def assert_counts_exact(expected: Recount, books: Books, keyed_ends: dict[int, int] | None = None) -> None:
    """Every cell, every fate and every position is right.

    For a re-keyed source `expected` is recounted from the source's own topic; `keyed_ends` are the
    ends of its re-keyed copy.
    """
    wrong = wrong_cells(expected, books)
    complaints = [f"{len(wrong)} of {len(expected.cells)} cells are wrong:", *wrong[:SHOWN]] if wrong else []
    complaints += [
        f"fate {fate}: must be {expected.fates[fate]}, is {books.fates[fate]}"
        for fate in (*FATES, *sorted(books.fates.keys() - FATES))
        if expected.fates[fate] != books.fates[fate]
    ]
    had = sum(books.fates[fate] for fate in FATES)
    if had != expected.records:
        complaints.append(f"the books do not close: {expected.records} records were consumed, {had} had a fate ({dict(books.fates)})")
    complaints += [f"shard {shard}: {what}" for shard, what in _misplaced(expected, books, keyed_ends)]
    if books.gone:
        complaints.append(f"{books.gone} records are said to be gone")
    assert not complaints, "\n".join(complaints)


def assert_rekeyed_exact(deployment: Deployment, expected: Recount | None = None) -> Recount:
    """Wait until everything of a re-keyed source has come through both topics; it is counted exactly.

    What was produced must be all there already. The re-keyed copy may have records twice. `expected`
    for records that the oracle does not read by itself.
    """
    expected = expected or expected_of(deployment)
    counted(deployment, expected.ends, intake=True)
    source = load(deployment.config).sources[0]
    copies = asyncio.run(read_topic(deployment.kafka, source.keyed_topic))
    ends = {record.partition: record.offset + 1 for record in copies}
    counted(deployment, ends)
    assert_counts_exact(expected, read_books(deployment), ends)
    return expected


def _misplaced(expected: Recount, books: Books, keyed_ends: dict[int, int] | None) -> list[tuple[str, str]]:
    found = []
    for shard, position in books.next.items():
        source, _, partition = shard.rpartition(":")
        ends = expected.ends if keyed_ends is None or source.endswith("/intake") else keyed_ends
        end = ends.get(int(partition), 0)
        if position != end:
            found.append((shard, f"stands at {position}, its log ends at {end}"))
    return found


def counted(deployment: Deployment, ends: dict[int, int], *, seconds: float = WAIT_SECONDS, intake: bool = False) -> None:
    """Return once the ledger stands at the end of every partition; fails after a while."""
    source = load(deployment.config).sources[0]

    def held() -> dict[int, int]:
        found = positions(deployment, source, intake=intake)
        return {partition: found.get(partition, 0) for partition in ends}

    becomes(held, ends, seconds)


def positions(deployment: Deployment, source: Source | None = None, *, intake: bool = False) -> dict[int, int]:
    """Where the ledger stands in each partition; nothing while it cannot be asked."""
    source = source or load(deployment.config).sources[0]
    return asyncio.run(_positions(deployment, f"{source.name}/intake" if intake else source.name))


async def _positions(deployment: Deployment, shards: str) -> dict[int, int]:
    try:
        async with _ledger(deployment) as ledger:
            found = {shard: await ledger.changes(shard, "", 0) for shard in await ledger.shards(shards)}
    except StoreUnavailable:
        return {}
    return {int(shard.rpartition(":")[2]): change.position.next for shard, change in found.items() if change is not None}


def becomes(probe: Callable[[], T], wanted: T, seconds: float = WAIT_SECONDS) -> None:
    """Return once the probe answers what is wanted; fail, showing its last answer, after a while."""
    deadline = time.monotonic() + seconds
    while (found := probe()) != wanted:
        assert time.monotonic() < deadline, f"not within {seconds:g} s: wanted {wanted}, found {found}"
        time.sleep(POLL_SECONDS)


def expected_of(deployment: Deployment, ends: dict[int, int] | None = None) -> Recount:
    """The oracle's recount of the deployment's topic."""
    return asyncio.run(recount_topic(deployment.config, deployment.kafka, ends))
