"""What the tests of backtests share: a shop's history with an incident in it, and a live evaluator fed with it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from alerting.backtest import Backtest
from alerting.evaluator import Evaluator
from alerting.memory_store import MemoryAlertStore
from alerting.pipeline import Intake
from schemas.config import Config
from schemas.duration import MICROS
from schemas.pipeline import PIPELINE
from schemas.report import Transition
from streams.adjusting import Adjusting
from streams.counting import ShardCount
from streams.history import history_of
from streams.plan import Plan
from streams.windows import FunnelCounts

# 2026-01-02 00:00:00 UTC
MIDNIGHT_US = 1_767_312_000 * MICROS
RULE: dict[str, Any] = {"name": "PayLow", "funnel": "shop", "stage": "pay", "basis": "users", "window": "5m", "below": 0.4, "for": "1m"}


def config(*rules: dict[str, Any], lateness: str = "60s", **funnel: Any) -> Config:
    """A shop's step into pay, by device, with rules: each RULE with changes (None takes out)."""
    alerts = [{key: value for key, value in (RULE | changes).items() if value is not None} for changes in rules]
    stages = [{"name": "checkout", "event": "checkout"}, {"name": "pay", "event": "pay", "target": 0.4}]
    made = {"name": "shop", "source": "web", "conversion_window": "10m", "windows": ["5m"], "stages": stages, **funnel}
    made.setdefault("dimensions", {"device": {"field": "properties.device", "allow": ["ios", "web"]}})
    made.setdefault("baseline", {"min_entries": 50})
    source = {"name": "web", "topic": "clicks", "allowed_lateness": lateness, "trust_key": True}
    return Config.model_validate({"sources": [source], "funnels": [made], "alerts": alerts})


def event(seconds: float, entity: str, name: str, device: str = "web") -> bytes:
    """An event so long after midnight."""
    at = MIDNIGHT_US // 1000 + round(seconds * 1000)
    return json.dumps({"event": name, "timestamp": at, "user_id": entity, "properties": {"device": device}}).encode()


def shop(
    seconds: float, per_minute: float, incident: tuple[float, float] = (0, 0), *, silence: tuple[float, float] = (0, 0), seed: int = 1
) -> list[bytes]:
    """People at random, of whom 60% pay a minute later or so; in the incident few on ios do, in the silence nobody comes."""
    luck, found, at, number = random.Random(seed), [], 0.0, 0
    while (at := at + luck.expovariate(per_minute / 60)) < seconds:
        if silence[0] <= at < silence[1]:
            continue
        number += 1
        who, device = f"u{luck.randrange(1 + number // 2)}", luck.choice(["ios", "web"])
        found.append((at, who, "checkout", device))
        rate = 0.05 if device == "ios" and incident[0] <= at < incident[1] else 0.6
        if luck.random() < rate:
            paid = at + min(500.0, luck.expovariate(1 / 60))
            if not silence[0] <= paid < silence[1]:
                found.append((paid, who, "pay", device))
    return [event(*each) for each in sorted(found)]


def backtested(setup: Config, records: Iterable[bytes], *, at_us: int | None = None, stride: int = 1) -> list[Transition]:
    with history_of(setup, records, at_us=at_us) as history:
        return list(Backtest(history, setup, stride=stride).run())


async def live(setup: Config, records: Sequence[bytes], until_us: int | None = None) -> list[Transition]:
    """What a live evaluator says that is ticked at every boundary, with the events before it counted."""
    source = setup.sources[0]
    plan = Plan(setup, source)
    shard, counts = ShardCount(plan), {f.funnel.name: FunnelCounts(f) for f in plan.funnels}
    adjusting = {name: Adjusting(of, source.allowed_lateness.micros) for name, of in counts.items()}
    evaluator, told, taken = Evaluator(setup, MemoryAlertStore()), [], 0
    for boundary_us, arrived in by_boundary(records, until_us):
        pending = shard.decode(taken, taken + len(arrived), arrived, [None] * len(arrived), 2**60)
        deltas = shard.fold(pending).write.deltas
        for (_, width, bucket), cells in deltas.buckets.items():
            counts["shop"].add(width, bucket, cells)
        for cells in deltas.totals.values():
            counts["shop"].add_totals(cells)
        counts["shop"].forget_before(boundary_us)
        taken += len(arrived)
        intake = Intake(boundary_us, settled=True, records=boundary_us)  # something always comes: that is not what is asked here
        now = {name: of.at(boundary_us) for name, of in adjusting.items()}
        told += await evaluator.tick(0, counts, now, {source.name: intake}, boundary_us)
    return [each for each in told if each.rule != PIPELINE]


def by_boundary(records: Sequence[bytes], until_us: int | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """Every boundary of ten seconds that the records pass, and those since the one before."""
    times = [json.loads(record)["timestamp"] * 1000 for record in records]
    step_us, place = 10 * MICROS, 0
    boundary_us = (times[0] // step_us + 1) * step_us
    while boundary_us <= (times[-1] if until_us is None else until_us):
        start = place
        while place < len(times) and times[place] < boundary_us:
            place += 1
        yield boundary_us, list(records[start:place])
        boundary_us += step_us
