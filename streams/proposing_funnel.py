"""[pure] For a proposed config: a first funnel from how people walk, its conversion window from how long they take.

Event b follows a where most of those who did b had done a before. The funnel is the chain of events in
which such steps are surest, all together, and of which each has hardly more people than the one before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from schemas.duration import Duration
from streams.proposing_fields import Table, Values, is_personal

STAGES_MAX = 6
EVENTS_MAX = 15  # that a chain is looked for in, by people
PEOPLE_MIN = 3
SURE = 0.6  # of those who did b, so many had done a before
LATE_BONUS = 0.2  # of a chain that ends with what comes last of all
MORE = 1.1  # as many people as the stage before may a stage have
QUANTILE = 0.99
WAITS_MIN = 20  # that a conversion window is taken from
NICE = ("1m", "5m", "10m", "15m", "30m", "1h", "2h", "4h", "8h", "12h", "1d", "2d", "3d", "7d", "14d", "30d", "60d", "90d")
LATE_NICE = ("60s", "2m", "5m", "10m", "30m", "1h")
VALUE_HINTS = ("amount", "revenue", "total", "price", "value", "gmv", "mrr", "sum")


@dataclass(frozen=True)
class Step:
    """An event as a stage: how many people did it, and how many of them had done the one before."""

    event: str
    people: int
    had_before: float | None


@dataclass(frozen=True)
class Walk:
    """One person's events by time: (µs, name, record)."""

    events: tuple[tuple[int, str, int], ...]

    def first(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for at_us, name, _ in self.events:
            found.setdefault(name, at_us)
        return found


def walks_named(walks: Sequence[Sequence[int]], times: Sequence[int | None], names: Values) -> list[Walk]:
    """Each person's events by time."""
    return [Walk(tuple((times[p] or 0, str(names[p]), p) for p in walk if names[p] is not None)) for walk in walks]


def steps_of(walks: Sequence[Walk]) -> list[Step]:
    """The surest chain of events, most people first; empty where there is none."""
    firsts = [walk.first() for walk in walks]
    people = Counter(name for first in firsts for name in first)
    least = max(PEOPLE_MIN, len(walks) // 500)
    names = [name for name, count in people.most_common(EVENTS_MAX) if count >= least]
    had = _had_before(firsts, names)
    chain = _best_chain(names, people, had)
    return [Step(name, people[name], had[chain[i - 1], name] if i else None) for i, name in enumerate(chain)]


def _had_before(firsts: Sequence[Mapping[str, int]], names: Sequence[str]) -> dict[tuple[str, str], float]:
    """Of those who did b, the share of those who had done a before; at the same moment counts half."""
    found: dict[tuple[str, str], float] = {}
    for b in names:
        doers = [first for first in firsts if b in first]
        for a in names:
            if a != b:
                before = sum(1.0 if first[a] < first[b] else 0.5 if first[a] == first[b] else 0.0 for first in doers if a in first)
                found[a, b] = before / len(doers)
    return found


def _best_chain(names: Sequence[str], people: Counter[str], had: Mapping[tuple[str, str], float]) -> list[str]:
    """Names come by people, so that a chain only ever goes on to later ones, or to one of about as many."""
    best: dict[str, tuple[float, list[str]]] = {name: (0.0, [name]) for name in names}
    order = _by_order(names, people, had)
    for b in order:
        for a in names:
            score, chain = best[a]
            if a == b or b in chain or len(chain) >= STAGES_MAX or people[b] > MORE * people[a]:
                continue
            sure = had[a, b]
            if sure >= SURE and sure > had[b, a] and score + 2 * sure - 1 > best[b][0]:
                best[b] = (score + 2 * sure - 1, [*chain, b])
    chains = [(score + LATE_BONUS * order.index(name) / len(order), chain) for name, (score, chain) in best.items() if len(chain) > 1]
    return max(chains, key=lambda one: one[0], default=(0.0, []))[1]


def _by_order(names: Sequence[str], people: Counter[str], had: Mapping[tuple[str, str], float]) -> list[str]:
    """Names so that what usually comes before stands before."""
    lead = {a: sum(had[a, b] - had[b, a] for b in names if b != a) for a in names}
    return sorted(names, key=lambda name: (-lead[name], -people[name]))


def waits_of(walks: Sequence[Walk], events: Sequence[str]) -> list[int]:
    """How long people took from the first event to the last, each time, in µs: by the newest chain that got there."""
    return sorted(wait for walk in walks for wait in _waits(walk, events))


def _waits(walk: Walk, events: Sequence[str]) -> Iterator[int]:
    places = {event: place for place, event in enumerate(events)}
    starts: list[int | None] = [None] * len(events)
    for at_us, name, _ in walk.events:
        place = places.get(name)
        if place == 0:
            starts[0] = at_us
        elif place is not None and (start := starts[place - 1]) is not None:
            starts[place] = start
            if place == len(events) - 1:
                yield at_us - start
                starts = [None] * len(events)


def quantile(found: Sequence[int], share: float) -> int:
    """Of sorted values."""
    return found[min(len(found) - 1, int(share * len(found)))]


def nice(micros: float, among: Sequence[str] = NICE) -> str:
    """The least of the durations one would write that is no shorter."""
    return next((text for text in among if int(Duration(text)) * 1_000_000 >= micros), among[-1])


def rates_of(walks: Sequence[Walk], events: Sequence[str], window_us: int) -> list[tuple[int, int]]:
    """(people who got on, people who were there) of each step, within the conversion window of their first chain."""
    reached: Counter[int] = Counter()
    for walk in walks:
        deepest, starts = -1, [-1] * len(events)
        for at_us, name, _ in walk.events:
            for place in range(len(events) - 1, -1, -1):
                if name != events[place]:
                    continue
                if place == 0:
                    starts[0] = at_us
                elif starts[place - 1] >= 0 and at_us - starts[place - 1] <= window_us:
                    starts[place] = starts[place - 1]
                else:
                    continue
                deepest = max(deepest, place)
        reached.update(range(deepest + 1))
    return [(reached[b], reached[a]) for a, b in pairwise(range(len(events)))]


def lateness_of(entities: Values, times: Sequence[int | None]) -> int:
    """By how much an event came after a newer one of the same person, in µs: all but one in a thousand by less."""
    newest: dict[str, int] = {}
    behind = []
    for entity, at_us in zip(entities, times):
        if entity is not None and at_us is not None:
            last = newest.get(str(entity), at_us)
            behind.append(max(0, last - at_us))
            newest[str(entity)] = max(last, at_us)
    return quantile(sorted(behind), 0.999) if behind else 0


def value_of(table: Table, skip: set[str], names: Values, last: str) -> str | None:
    """A number that the last stage's events bring, if one is plainly an amount."""
    places = [place for place, name in enumerate(names) if name == last]
    found: list[tuple[bool, bool, str]] = []
    for path, values in table.columns.items():
        if path in skip or is_personal(path):
            continue
        numbers = [number for place in places if (number := _number(values[place])) is not None]
        if len(numbers) < 0.8 * len(places) or not numbers or len(set(numbers)) < 2 or min(numbers) < 0:
            continue
        hinted = any(hint in path.lower() for hint in VALUE_HINTS)
        broken = any(not number.is_integer() for number in numbers)
        if hinted or broken:
            found.append((hinted, broken, path))
    return max(found)[2] if found else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
