"""[pure] The clicks of the bench, as records, and what their counts must be.

People walk down a funnel of four stages: a quarter leaves after each of the first three, so there
are 4 views to 3 carts to 2 checkouts to 1 purchase, and nearly every event reaches a stage. At any
moment a tenth of all people are on their way, which at 500 events a second gives a walk of half a
minute.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

EVENTS = ("product_view", "add_to_cart", "begin_checkout", "purchase")
STAGES = ("view", "cart", "checkout", "pay")
CHANNELS = ("ads", "email", "organic", "social")
CONVERSION_MS = 600_000
BEGIN_MS = 1_735_689_600_000  # 2025-01-01: never ahead of the clock
STEP_MS = (1, 3)  # between one event and the next, 2 on average
ON_THEIR_WAY = 0.1  # of all entities
CENTS = (500, 50_000)

# Entities, events and value (in millionths) by stage, of everybody (None) or of one channel.
Counts: TypeAlias = "dict[tuple[str, int, str | None], int]"
USERS, REACHES, VALUE = "u", "n", "v"


class Click(NamedTuple):
    number: int
    at_ms: int
    entity: str
    stage: int
    channel: str
    cents: int

    def key(self) -> bytes:
        return self.entity.encode()

    def value(self) -> bytes:
        """About 150 bytes of JSON."""
        amount = f',"amount":{self.cents / 100}' if self.cents else ""
        return (
            f'{{"event":"{EVENTS[self.stage]}","timestamp":{self.at_ms},"user_id":"{self.entity}","event_id":"e-{self.number:012}",'
            f'"properties":{{"channel":"{self.channel}","page":"/p/{self.number % 9973}"{amount}}}}}'
        ).encode()


def clicks(events: int, entities: int, seed: int = 2) -> Iterator[Click]:
    """The same clicks for the same arguments, in order of event time."""
    chance = random.Random(seed)
    walks = _walks(entities, chance)
    walking = [next(walks) for _ in range(max(1, int(entities * ON_THEIR_WAY)))]
    at_ms = BEGIN_MS
    for number in range(events):
        at_ms += chance.randint(*STEP_MS)
        place = chance.randrange(len(walking))
        entity, channel, stages = walking[place]
        stage = stages.pop()
        yield Click(number, at_ms, entity, stage, channel, chance.randint(*CENTS) if stage == len(STAGES) - 1 else 0)
        if not stages:
            walking[place] = next(walks)


def _walks(entities: int, chance: random.Random) -> Iterator[tuple[str, str, list[int]]]:
    """Entity, channel and the stages still before them, the next one last. Everybody comes round again."""
    names = [f"user-{n:06}" for n in range(entities)]
    while True:
        chance.shuffle(names)
        for name in names:
            yield name, chance.choice(CHANNELS), list(range(chance.randint(1, len(STAGES))))[::-1]


def recount(found: Iterable[Click]) -> Counts:
    """What must be counted, worked out the slow way and by nobody's code but this."""
    by_entity: dict[str, list[Click]] = {}
    for click in found:
        by_entity.setdefault(click.entity, []).append(click)
    counts: Counter[tuple[str, int, str | None]] = Counter()
    for mine in by_entity.values():
        latest: dict[int, str] = {}  # stage to the channel of its latest reach
        for stage, channel, cents in _reaches(mine):
            latest[stage] = channel
            for split in (None, channel):
                counts[REACHES, stage, split] += 1
                counts[VALUE, stage, split] += cents * 10_000
        counts.update((USERS, stage, split) for stage, channel in latest.items() for split in (None, channel))
    return {cell: count for cell, count in counts.items() if count}


def _reaches(mine: list[Click]) -> Iterator[tuple[int, str, int]]:
    chains: list[Click | None] = [None] * len(STAGES)  # by stage: the first click of the newest chain there
    for click in mine:
        chain = chains[click.stage - 1] if click.stage else click
        if chain is not None and click.at_ms - chain.at_ms <= CONVERSION_MS:
            chains[click.stage] = chain
            yield click.stage, chain.channel, click.cents
