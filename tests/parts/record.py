"""A shop whose counts are followed and recorded, all in memory; and a record that is a dict."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from schemas.config import Config
from schemas.duration import MICROS
from streams.counting import ShardCount
from streams.ledger.memory import MemoryLedger
from streams.plan import Plan
from streams.rates import Split
from streams.reader import Reader
from streams.recorder import Entry, Recorder

BEGIN = 1_699_999_200  # an hour begins
FENCE = 7


def config(funnels: int = 1) -> Config:
    """Funnels of the same stages, `f` and as many more, each with a conversion window of its own."""
    funnel = {
        "name": "f",
        "source": "web",
        "conversion_window": "10m",
        "windows": ["1m", "5m", "1h", "2h"],
        "dimensions": {"device": "properties.device"},
        "stages": [{"name": "view", "event": "view"}, {"name": "pay", "event": "pay", "value": "properties.amount"}],
        "baseline": {"min_entries": 50},
    }
    more = [{**funnel, "name": f"f{number}", "conversion_window": f"{10 + number}m"} for number in range(1, funnels)]
    return Config.model_validate({"sources": [{"name": "web", "topic": "t", "trust_key": True}], "funnels": [funnel, *more]})


class MemoryRecord:
    """The contract of `Record`; `fence` is the newest token."""

    def __init__(self, fence: int = FENCE) -> None:
        self.fence = fence
        self.kept: dict[tuple[int, int], dict[int, bytes]] = {}
        self.known: dict[int, dict[int, Split]] = {}

    async def write(self, fence: int, entries: Sequence[Entry]) -> list[bool] | None:
        if fence != self.fence:
            return None
        return [self._put(entry) for entry in entries]

    def _put(self, entry: Entry) -> bool:
        points = self.kept.setdefault((entry.definition, entry.step), {})
        if max(points, default=-1) >= entry.at_us:
            return False
        points[entry.at_us] = entry.packed
        self.known.setdefault(entry.definition, {}).update(entry.fresh)
        return True

    async def points(self, definition: int, step: int, start_us: int, end_us: int) -> list[tuple[int, bytes]]:
        return [(at, packed) for at, packed in self.kept.get((definition, step), {}).items() if start_us <= at <= end_us]

    async def names(self, *definitions: int) -> list[dict[int, Split]]:
        return [dict(self.known.get(definition, {})) for definition in definitions]


class Shop:
    """A visitor every second from two devices in turn; three or one in four of them pay after a minute."""

    def __init__(self, record: MemoryRecord | None = None, funnels: int = 1) -> None:
        self.config = config(funnels)
        self.ledger = MemoryLedger()
        self.reader = Reader(self.config, self.ledger, lambda: 10**18)
        self.record = record or MemoryRecord()
        self.recorder = Recorder(self.config, self.record)
        self.count = ShardCount(Plan(self.config, self.config.sources[0]))
        self.fence = FENCE  # the recorder's token
        self.now = BEGIN
        self._next = 0
        self._chance = random.Random(3)
        self._to_come: list[tuple[float, str, str, int]] = []

    async def run(self, seconds: int, every: int = 10) -> None:
        """Let time pass; the ledger is read, and what is due recorded, every some seconds."""
        for _ in range(seconds // every):
            for second in range(self.now, self.now + every):
                self._visit(second)
            self.now += every
            await self._write()
            await self.tick()

    async def tick(self) -> None:
        await self.reader.tick()
        await self.recorder.tick(self.fence, self.reader.views)

    def _visit(self, second: int) -> None:
        device = ("ios", "web")[second % 2]
        self._to_come.append((second, "view", device, second % 5000))
        if self._chance.random() < (0.75 if device == "ios" else 0.25):
            self._to_come.append((second + 60, "pay", device, second % 5000))

    async def _write(self) -> None:
        due = sorted(event for event in self._to_come if event[0] < self.now)
        self._to_come = [event for event in self._to_come if event[0] >= self.now]
        # The first second of the next ten, so that T has passed the boundary.
        due.append((self.now, "other", "ios", 0))
        records = [
            json.dumps({"event": name, "timestamp": at, "user_id": f"u{who}", "properties": {"device": device, "amount": 2}}).encode()
            for at, name, device, who in due
        ]
        claim = await self.ledger.claim("web:0", 1, 0)
        pending = self.count.decode(self._next, self._next + len(records), records, [None] * len(records), 10**18)
        self.count.learn(pending, {registry: dict.fromkeys(texts, True) for registry, texts in pending.unknown.items()})
        self.count.hold(pending.missing, await self.ledger.states("web:0", pending.missing))
        await self.ledger.apply(claim, self.count.fold(pending).write)
        self._next += len(records)

    @property
    def at_us(self) -> int:
        return self.now * MICROS
