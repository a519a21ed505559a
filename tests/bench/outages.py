"""From an outage to the first notification, beyond what the rule's condition itself needs.

Each of several funnels of one worker has a rule of its own. People come to all of them, and most convert within two seconds; at a
known moment, another for each funnel, they stop converting. A webhook's receiver notes when it is told of each.

The moment at which the evidence suffices is found without the worker, from the very records: a backtest judges the rules at the
boundaries of their evaluation, and backtests of the same records half a second later, a second later and so on judge them between
those boundaries. The earliest of all that fires is the moment; a worker can know of it at the next boundary.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import yaml
from aiokafka import AIOKafkaProducer

from alerting.backtest import Backtest
from schemas.config import Config
from schemas.errors import FunnelwatchError
from schemas.report import Transition
from streams.history import history_of
from tests.bench.contenders import Funnelwatch, Task
from tests.bench.markdown import table
from tests.parts.kafka import Kafka, create_topic
from tests.parts.receiver import Receiver
from tests.parts.redis import RedisServer

BASES = ("users", "entries")
OUTAGES = 6  # of each basis
PARTITIONS = 4
STEP_SECONDS = 10.0  # between two evaluations of a rule
APART_SECONDS = 0.5  # two backtests
PEOPLE_A_SECOND = 15.0  # that come to a funnel
CONVERTING = 0.7
CONVERT_SECONDS = (0.2, 2.0)
WINDOW, CONVERSION_WINDOW, LATENESS = "30s", "5s", "2s"
BELOW = 0.4
HEALTHY_SECONDS = 45.0  # before the first outage: the widest window, and what entries take to be finished
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.002
BEYOND_SECONDS_MAX = STEP_SECONDS + 1.0
HEADER = ("basis", "outages", "evidence suffices after, s", "beyond it, s", "of which waiting for the evaluation", "and from then on")
NAMES = tuple(f"{basis}-{number}" for basis in BASES for number in range(OUTAGES))


class Event(NamedTuple):
    """What somebody does, so many seconds after the beginning."""

    at: float
    funnel: str
    entity: str
    stage: str

    def record(self, at_ms: int) -> bytes:
        return json.dumps({"event": f"{self.stage}-{self.funnel}", "timestamp": at_ms, "user_id": self.entity}).encode()


@dataclass(frozen=True)
class Told:
    """One outage: moments in seconds since the epoch."""

    broken: float
    suffices: float
    evaluated: float  # the boundary whose evaluation fired
    notified: float


class Judging(Funnelwatch):
    """A worker with the rules."""

    def __init__(self, task: Task, setup: Mapping[str, Any]) -> None:
        super().__init__(task)
        self._setup = setup

    def prepare(self) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self._setup))


def setup_of(topic: str, hook: str) -> dict[str, Any]:
    """The config."""
    return {
        "sources": [{"name": "web", "topic": topic, "allowed_lateness": LATENESS, "entity_key": True}],
        "funnels": [_funnel(name) for name in NAMES],
        "alerts": [_rule(name) for name in NAMES],
        "channels": {"hook": {"type": "webhook", "url": hook, "limit": {"per": "1s", "most": 1000}}},
    }


def _funnel(name: str) -> dict[str, Any]:
    stages = [{"name": stage, "event": f"{stage}-{name}"} for stage in ("view", "pay")]
    return {"name": name, "source": "web", "conversion_window": CONVERSION_WINDOW, "windows": [WINDOW], "stages": stages}


def _rule(name: str) -> dict[str, Any]:
    looks = {"funnel": name, "stage": "pay", "basis": name.partition("-")[0], "window": WINDOW}
    return {"name": f"Low-{name}", **looks, "below": BELOW, "notify": ["hook"]}


def broken_at(seed: int = 1) -> dict[str, float]:
    """When each funnel breaks, in seconds after the beginning: spread over the time between two evaluations."""
    chance = random.Random(seed)
    part = STEP_SECONDS / OUTAGES
    return {name: HEALTHY_SECONDS + (place % OUTAGES + chance.random()) * part for place, name in enumerate(NAMES)}


def traffic(broken: Mapping[str, float], until: float, seed: int = 1) -> list[Event]:
    """What everybody does, in order of time."""
    chance, found = random.Random(seed), []
    for name in broken:
        at, number = 0.0, 0
        while (at := at + chance.expovariate(PEOPLE_A_SECOND)) < until:
            number += 1
            entity, pays_at = f"{name}-{number}", at + chance.uniform(*CONVERT_SECONDS)
            found.append(Event(at, name, entity, "view"))
            if chance.random() < CONVERTING and pays_at < broken[name]:
                found.append(Event(pays_at, name, entity, "pay"))
    return sorted(found)


def outages(kafka: Kafka, redis: RedisServer) -> Iterator[str]:
    """The table, and whether the claim holds."""
    told = asyncio.run(_told(kafka, redis))
    yield f"From an outage to its notification: {len(told)} funnels, each of which stops converting at a moment of its own; rules over"
    yield f"{WINDOW} that are evaluated every {STEP_SECONDS:g} s; the least, the median and the most.\n"
    yield from said(told)


def said(told: Mapping[str, Told]) -> Iterator[str]:
    """The table and the claim."""
    yield from table(HEADER, [_row(basis, [one for name, one in told.items() if name.startswith(basis)]) for basis in BASES])
    most = max(one.notified - one.suffices for one in told.values())
    held = "held" if most <= BEYOND_SECONDS_MAX else "NOT HELD"
    yield f"\nclaim: at most {STEP_SECONDS:g} s + 1 s beyond what the condition needs: {most:.1f} s, {held}"


def _row(basis: str, told: Sequence[Told]) -> tuple[str, ...]:
    spans = (
        [one.suffices - one.broken for one in told],
        [one.notified - one.suffices for one in told],
        [one.evaluated - one.suffices for one in told],
        [one.notified - one.evaluated for one in told],
    )
    return basis, str(len(told)), *(f"{min(s):.1f} · {median(s):.1f} · {max(s):.1f}" for s in spans)


async def _told(kafka: Kafka, redis: RedisServer) -> dict[str, Told]:
    name = f"bench-outages-{uuid.uuid4().hex[:8]}"
    await create_topic(kafka.address, name, PARTITIONS)
    async with Receiver().running() as receiver:
        setup = setup_of(name, receiver.url)
        with Judging(Task(name, kafka.address, redis.url, name, 0, ()), setup) as worker:
            broken, began = broken_at(), time.time() + 5  # by when the worker is up
            sent: list[tuple[int, Event]] = []
            sending = asyncio.create_task(_send(kafka.address, name, traffic(broken, max(broken.values()) + PATIENCE_SECONDS), began, sent))
            try:
                moments = {name: began + at for name, at in broken.items()}
                notified = await _notified(receiver, worker, moments)
            finally:
                sending.cancel()
            worker.kill()
    suffices = await asyncio.to_thread(evidence_suffices, Config.model_validate(setup), sent, moments)
    return {name: Told(moments[name], suffices[name], *notified[name]) for name in broken}


async def _send(address: str, topic: str, events: Iterable[Event], began: float, sent: list[tuple[int, Event]]) -> None:
    """Write every event when it happens; `sent` gets it with its time (ms)."""
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        for event in events:
            await asyncio.sleep(began + event.at - time.time())
            at_ms = time.time_ns() // 1_000_000
            await producer.send(topic, event.record(at_ms), event.entity.encode(), timestamp_ms=at_ms)
            sent.append((at_ms, event))


async def _notified(receiver: Receiver, worker: Judging, broken: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """By funnel: the boundary of the evaluation, and when the receiver was told."""
    found: dict[str, tuple[float, float]] = {}
    read, deadline = 0, max(broken.values()) + PATIENCE_SECONDS
    while len(found) < len(broken):
        if time.time() > deadline or not worker.running:
            raise FunnelwatchError(f"told only of {sorted(found)} of {len(broken)} outages; the worker's log ends with:\n{worker.log()}")
        for request in receiver.requests[read:]:
            read += 1
            change = Transition.model_validate(request.body["transition"])
            if change.state == "firing" and change.at.timestamp() >= broken[change.funnel]:
                found.setdefault(change.funnel, (change.at.timestamp(), time.time()))
        await asyncio.sleep(LOOK_SECONDS)
    return found


def evidence_suffices(setup: Config, sent: Sequence[tuple[int, Event]], broken: Mapping[str, float]) -> dict[str, float]:
    """By funnel: the earliest moment after its outage began at which its rule, were it judged then, would fire."""
    found: dict[str, float] = {}
    for place in range(int(STEP_SECONDS / APART_SECONDS)):
        later = place * APART_SECONDS
        records = [event.record(at_ms + int(later * 1000)) for at_ms, event in sent]
        with history_of(setup, records) as history:
            fired = [change for change in Backtest(history, setup).run() if change.state == "firing"]
        for change in fired:
            moment = change.at.timestamp() - later
            if moment >= broken[change.funnel]:
                found[change.funnel] = min(found.get(change.funnel, moment), moment)
    return found
