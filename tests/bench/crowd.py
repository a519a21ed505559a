"""People who come in turns: traffic whose working set is everybody, however many they are.

In a *turn* everybody comes once, in an order that is shuffled anew within each tenth of the crowd.
So whoever comes was away while nearly all the others came, every state is as far from the
processor's caches as any, and no two events of a chunk are of the same person. Events come 1 ms
apart at every size; a turn of more people takes longer. What is counted in turns stays alike: the
conversion window is six of them, the allowed lateness less than half of one, so that an event of a
crowd of a million does what an event of ten thousand does, and only the number of states differs.

People begin as they are after TURNS_BEFORE turns. Those turns are really folded for MODELS of them,
spread over a turn; the others get copies, objects of their own, of the states of their neighbours.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from schemas.config import Config
from streams.plan import Plan
from tests.bench.contenders import config
from tests.bench.own_work import CHUNK_RECORDS, Chunk, OwnWork
from tests.bench.workload import BEGIN_MS, CENTS, CHANNELS, STAGES, Click

TURNS_BEFORE = 10
CONVERSION_TURNS = 6
LATENESS_SECONDS = 2
MODELS = 5_000
TENTHS = 10
SCRIPT_TURNS = 64  # then a model's steps begin again

Funnel = dict[str, Any]


class Crowd:
    """So many people, and the endless traffic that they make after `TURNS_BEFORE` turns."""

    def __init__(self, people: int, seed: int = 3) -> None:
        chance = random.Random(seed)
        self.people = people
        self._models = min(MODELS, people)
        self._names = [f"user-{n:07}" for n in range(people)]
        chance.shuffle(self._names)
        self._scripts = [list(islice(_steps(chance), SCRIPT_TURNS)) for _ in range(self._models)]
        self._chance = chance
        self._clicks = self._traffic()

    def setup(self, others: list[Funnel] | None = None) -> Config:
        """The bench's funnel with a window that is as many turns long at every size, and other funnels on its source."""
        found = config("clicks")
        found["funnels"][0]["conversion_window"] = f"{CONVERSION_TURNS * self.people // 1000}s"
        found["funnels"] += others or []
        found["sources"][0]["allowed_lateness"] = f"{LATENESS_SECONDS}s"
        return Config.model_validate(found)

    def at_work(self, setup: Config) -> OwnWork:
        """A worker that holds the states of all."""
        models = OwnWork(Plan(setup, setup.sources[0]))
        for turn in range(TURNS_BEFORE):
            clicks = [self._click(turn, model * self.people // self._models) for model in range(self._models)]
            for at in range(0, len(clicks), CHUNK_RECORDS):
                models.count(*_chunk(clicks[at : at + CHUNK_RECORDS]))
        work = OwnWork(models.shard.plan)
        states = [models.shard.states[self._names[model * self.people // self._models]] for model in range(self._models)]
        places = sorted(range(self.people), key=self._names.__getitem__)  # neighbours in a turn do not lie together in memory
        work.shard.states = {self._names[place]: bytes(memoryview(states[self._model(place)])) for place in places}
        work.shard.watermark_us = models.shard.watermark_us
        return work

    def chunks(self, number: int) -> list[Chunk]:
        """The next chunks of the traffic."""
        return [_chunk(list(islice(self._clicks, CHUNK_RECORDS))) for _ in range(number)]

    def _traffic(self) -> Iterator[Click]:
        edges = [self.people * tenth // TENTHS for tenth in range(TENTHS + 1)]
        for turn in count(TURNS_BEFORE):
            for first, last in zip(edges, edges[1:]):
                places = list(range(first, last))
                self._chance.shuffle(places)
                for offset, place in enumerate(places):
                    yield self._click(turn, place, first + offset)

    def _click(self, turn: int, place: int, at: int | None = None) -> Click:
        """What the person at a place of the crowd does in a turn, at a place of that turn."""
        number = turn * self.people + (place if at is None else at)
        stage, channel, cents = self._scripts[self._model(place)][turn % SCRIPT_TURNS]
        return Click(number, BEGIN_MS + number, self._names[place], stage, channel, cents)

    def _model(self, place: int) -> int:
        return place * self._models // self.people


def _steps(chance: random.Random) -> Iterator[tuple[int, str, int]]:
    """Stage, channel and cents of one walk after another; as in the bench, a quarter leaves after each stage."""
    while True:
        channel = chance.choice(CHANNELS)
        for stage in range(chance.randint(1, len(STAGES))):
            yield stage, channel, chance.randint(*CENTS) if stage == len(STAGES) - 1 else 0


def _chunk(clicks: list[Click]) -> Chunk:
    return [click.value() for click in clicks], [click.key() for click in clicks]
