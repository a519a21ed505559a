"""Traffic whose working set is everybody, however many they are.

People come in *turns*. In each turn everybody comes once, in an order that is shuffled anew within
each tenth of the crowd: whoever comes was away while nearly all the others came, so that a state is
as far from the processor's caches as any. What a visit is, the *manner* says:

    steps    one event, the next of the person's walk down the funnel: no state is met twice in a chunk
    walks    a whole walk, 2.5 events on average, while 999 others are on theirs: as in the bench, people come,
             take a few steps, and are gone

A turn of more people takes longer, for the events come as fast at every size. An event does the same
at every size, though: people are always away for longer than twice the allowed lateness; a walk is
over well within the conversion window, and with steps that window is six turns long.

People begin as they are after TURNS_BEFORE turns. Those are really folded for MODELS of them, spread
over the turn; the others get copies, objects of their own, of the states of their neighbours.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice, pairwise
from typing import Any

from schemas.config import Config
from streams.plan import Plan
from tests.bench.contenders import config
from tests.bench.own_work import CHUNK_RECORDS, Chunk, OwnWork
from tests.bench.workload import BEGIN_MS, CENTS, CHANNELS, STAGES, Click

EVENT_MS = 2  # between one event and the next
LATENESS_SECONDS = 5
TURNS_BEFORE = 8
MODELS = 3_000
TENTHS = 10
VISITS = 64  # of a model; then they begin again
STRIDE = 7_368_787  # a prime

Funnel = dict[str, Any]
Visit = list[tuple[int, str, int]]  # stage, channel and cents of its events


@dataclass(frozen=True)
class Manner:
    """How people come."""

    walking: int  # visits under way at a time
    events: float  # of a visit, on average
    window_seconds: int  # conversion window
    window_turns: int  # added to it


STEPS = Manner(walking=1, events=1.0, window_seconds=0, window_turns=6)
WALKS = Manner(walking=1_000, events=2.5, window_seconds=20, window_turns=0)


class Crowd:
    """So many people, and the endless traffic that they make after `TURNS_BEFORE` turns."""

    def __init__(self, people: int, manner: Manner, seed: int = 3, kind: type[Click] = Click) -> None:
        self.people = people
        self._kind = kind
        self._manner = manner
        self._chance = random.Random(seed)
        self._names = [f"user-{n:07}" for n in range(people)]
        self._chance.shuffle(self._names)
        self._models = min(MODELS, people)
        self._visits = [list(islice(self._script(), VISITS)) for _ in range(self._models)]
        self._turn_ms = int(people * manner.events * EVENT_MS)
        self._clicks = self._traffic()

    @property
    def window_seconds(self) -> int:
        """The conversion window."""
        return self._manner.window_seconds + self._manner.window_turns * self._turn_ms // 1000

    def setup(self, others: list[Funnel] | None = None, **changes: object) -> Config:
        """The bench's funnel, with changes, and with other funnels on its source."""
        found = config("clicks")
        found["funnels"][0] |= {"conversion_window": f"{self.window_seconds}s", **changes}
        found["funnels"] += others or []
        found["sources"][0]["allowed_lateness"] = f"{LATENESS_SECONDS}s"
        return Config.model_validate(found)

    def at_work(self, setup: Config) -> OwnWork:
        """A worker that holds the states of all."""
        models = OwnWork(Plan(setup, setup.sources[0]))
        clicks = list(self._before())
        for at in range(0, len(clicks), CHUNK_RECORDS):
            models.count(*_chunk(clicks[at : at + CHUNK_RECORDS]))
        work = OwnWork(models.shard.plan)
        states = [models.shard.states[self._names[self._place(model)]] for model in range(self._models)]
        places = (n * STRIDE % self.people for n in range(self.people))  # neighbours in a turn do not lie together in memory
        work.shard.states = {self._names[place]: bytes(memoryview(states[self._model(place)])) for place in places}
        work.shard.watermark_us = models.shard.watermark_us
        return work

    def chunk(self, records: int = CHUNK_RECORDS) -> Chunk:
        """The next chunk of the traffic."""
        return _chunk(list(islice(self._clicks, records)))

    def _before(self) -> Iterator[Click]:
        """The models' events of the turns before, turn by turn."""
        for turn in range(TURNS_BEFORE):
            for model in range(self._models):
                place = self._place(model)
                at_ms = turn * self._turn_ms + place * self._turn_ms // self.people
                for step, event in enumerate(self._visits[model][turn]):
                    yield self._click(at_ms + step * self._manner.walking * EVENT_MS, place, event)

    def _traffic(self) -> Iterator[Click]:
        visits = self._in_turns()
        walking = [next(visits) for _ in range(self._manner.walking)]
        for at_ms in count(TURNS_BEFORE * self._turn_ms, EVENT_MS):
            at = self._chance.randrange(len(walking))
            place, ahead = walking[at]
            yield self._click(at_ms, place, ahead.pop())
            if not ahead:
                walking[at] = next(visits)

    def _click(self, at_ms: int, place: int, event: tuple[int, str, int]) -> Click:
        return self._kind(at_ms, BEGIN_MS + at_ms, self._names[place], *event)

    def _in_turns(self) -> Iterator[tuple[int, Visit]]:
        """The place of who comes, and the events of that visit, the next one last."""
        edges = [self.people * tenth // TENTHS for tenth in range(TENTHS + 1)]
        for turn in count(TURNS_BEFORE):
            for first, last in pairwise(edges):
                places = list(range(first, last))
                self._chance.shuffle(places)
                for place in places:
                    yield place, self._visits[self._model(place)][turn % VISITS][::-1]

    def _script(self) -> Iterator[Visit]:
        """One visit after another; as in the bench, a quarter leaves after each stage."""
        while True:
            channel = self._chance.choice(CHANNELS)
            stages = range(self._chance.randint(1, len(STAGES)))
            walk = [(stage, channel, self._chance.randint(*CENTS) if stage == len(STAGES) - 1 else 0) for stage in stages]
            yield from [walk] if self._manner.events > 1 else ([step] for step in walk)

    def _model(self, place: int) -> int:
        return place * self._models // self.people

    def _place(self, model: int) -> int:
        """The first place whose person is like the model."""
        return -(-model * self.people // self._models)


def _chunk(clicks: list[Click]) -> Chunk:
    return [click.value() for click in clicks], [click.key() for click in clicks]
