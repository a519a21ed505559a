"""What `funnelwatch backfill` does: ask by way of the ledger, wait for the workers, show what each shard counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from schemas.config import Config
from schemas.errors import FunnelwatchError, UsageError
from schemas.event import iso
from schemas.settings import RedisSettings
from streams.console import Row
from streams.ledger.contract import Ledger, Position
from streams.ledger.redis import RedisLedger
from streams.plan import FunnelPlan, Plan
from streams.redis_client import connect

POLL_SECONDS = 0.25
HEADERS = ("shard", "funnel", "definition", "counted since", "backfill")
T = TypeVar("T")


def plan_of(config: Config, name: str) -> tuple[Plan, FunnelPlan]:
    """A funnel's source and itself, as a worker with this config counts them. Raises UsageError."""
    names = [funnel.name for funnel in config.funnels]
    if name not in names:
        raise UsageError(f"no funnel {name!r} in the config; there are: {', '.join(names)}")
    plan = Plan(config, config.source(config.funnel(name).source))
    return plan, next(funnel for funnel in plan.funnels if funnel.funnel.name == name)


def over(settings: RedisSettings, work: Callable[[Ledger], Awaitable[T]]) -> T:
    """Do something over the ledger that the workers of these settings count into. Raises StoreUnavailable, SettingsError."""

    async def done() -> T:
        ledger = RedisLedger(connect(settings), settings.prefix)
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    return asyncio.run(done())


@dataclass(frozen=True)
class Asked:
    """A funnel, the shards that were asked to count it anew, and those of them where no worker counts it now."""

    funnel: FunnelPlan
    shards: tuple[str, ...]
    idle: tuple[str, ...]

    def __str__(self) -> str:
        what = f"{self.funnel.funnel.name} (definition {self.funnel.definition})"
        return f"asked {_shards(len(self.shards))} of source {self.funnel.funnel.source} to count {what} from the topic's beginning"

    def warnings(self) -> Iterator[str]:
        if not self.shards:
            yield (
                f"source {self.funnel.funnel.source!r} has no shards in this Redis under this prefix: no worker has counted it yet, "
                "and the first one counts it from where its source begins"
            )
        if self.idle:
            yield (
                f"{_shards(len(self.idle))} will do it once a worker with this config holds them, which none does now: {', '.join(self.idle)}"
            )


async def ask(ledger: Ledger, funnel: FunnelPlan) -> Asked:
    """Ask every shard of a funnel's source to count it from the topic's beginning. Raises StoreUnavailable."""
    positions = await _positions(ledger, funnel.funnel.source)
    shards = tuple([shard for shard in positions if await ledger.ask_backfill(shard, funnel.definition)])
    return Asked(funnel, shards, tuple(shard for shard in shards if funnel.definition not in positions[shard].since))


async def wait(ledger: Ledger, asked: Asked, seconds: float, advance: Callable[[Callable[[], int]], None]) -> str:
    """Wait until all that were asked have done it, and say so; `advance` may ask how many have.

    Raises FunnelwatchError when they have not within `seconds`.
    """
    began, definition = time.monotonic(), asked.funnel.definition
    while True:
        positions = await _positions(ledger, asked.funnel.funnel.source)
        # A shard that is gone is begun anew, and so counts everything from the beginning.
        left = [shard for shard in asked.shards if shard in positions and definition in positions[shard].backfills]
        advance(partial(len, set(asked.shards).difference(left)))
        if not left:
            return _done(asked, positions, time.monotonic() - began)
        if time.monotonic() - began >= seconds:
            raise FunnelwatchError(
                f"{len(left)} of the {_shards(len(asked.shards))} asked did not do it within {seconds:g} s: {', '.join(left)}. "
                "The request stands; is a worker with this config running, and does its log say anything of a backfill?"
            )
        await asyncio.sleep(POLL_SECONDS)


def _done(asked: Asked, positions: Mapping[str, Position], seconds: float) -> str:
    since_us = max((at.since.get(asked.funnel.definition, -1) for at in positions.values()), default=-1)
    cut = f"; what was before {iso(since_us)} has left the topic" if since_us >= 0 else ""
    return f"{_shards(len(asked.shards))} counted {asked.funnel.funnel.name} anew in {seconds:.1f} s{cut}"


async def rows(ledger: Ledger, plan: Plan, funnel: FunnelPlan) -> list[Row]:
    """What every shard of a source counts, and since when, under HEADERS; the funnel's definition also where it is not counted."""
    names = {each.definition: each.funnel.name for each in plan.funnels}
    positions = await _positions(ledger, plan.source.name)
    return [row for shard, position in positions.items() for row in _rows(shard, position, names, funnel.definition)]


def _rows(shard: str, position: Position, names: Mapping[int, str], definition: int) -> Iterator[Row]:
    found = {definition, *position.since, *position.backfills}
    for each in sorted(found, key=lambda each: (each not in names, names.get(each), each)):
        since = position.since.get(each)
        shown = "not counted" if since is None else "its beginning" if since < 0 else iso(since)
        yield shard, names.get(each, "of another config"), str(each), shown, "asked for" if each in position.backfills else ""


async def _positions(ledger: Ledger, source: str) -> dict[str, Position]:
    """Where the shards of a source stand, in the order of their partitions."""
    shards = sorted(await ledger.shards(source), key=lambda shard: int(shard.rpartition(":")[2]))
    found = {shard: await ledger.changes(shard, "", 0) for shard in shards}
    return {shard: change.position for shard, change in found.items() if change is not None}


def _shards(count: int) -> str:
    return f"{count} shard{'s' * (count != 1)}"
