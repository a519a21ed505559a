"""`--growth`: what an event costs with more people, and with more funnels that have no use for it.

CPU time of one thread for the worker's own work, as `--stages` measures it. The variants of one
table take turns, a chunk each, and every chunk is compared with that of the first variant in the
same round, so that a slow second of the machine meets all of them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles

from tests.bench.crowd import STEPS, WALKS, Crowd, Funnel, Manner
from tests.bench.markdown import table
from tests.bench.own_work import COLLECT_AFTER, Chunk, OwnWork
from tests.bench.workload import EVENTS

PEOPLE = (10_000, 100_000, 1_000_000)
PEOPLE_OF_FUNNELS = 100_000
FLAT = 1.15  # at most this, times the first
ROUNDS_BEFORE = 4  # in which memory is first touched
ROUNDS_LEAST, ROUNDS_MOST = 15, 100
SECONDS = 100.0  # for all tables
HEADER = ("", "µs an event", "middle half", "times the first", "middle half")


@dataclass
class Variant:
    """What is compared: a worker, and whose traffic it counts."""

    name: str
    crowd: Crowd
    work: OwnWork
    claimed: bool = True  # to be flat


def growth(seconds: float = SECONDS) -> Iterator[str]:
    """Three tables, and whether each is flat."""
    tables: list[tuple[str, Callable[[], list[Variant]]]] = [
        ("people: a step a turn, so that every state is met cold", partial(_by_people, STEPS)),
        ("people: a walk a turn, as people do", partial(_by_people, WALKS)),
        ("other funnels on the source", _by_funnels),
    ]
    yield "CPU time of the worker's own work, a thread's, without servers: medians over rounds in which the variants took turns."
    gc.set_threshold(*COLLECT_AFTER)
    deadline = time.monotonic() + seconds
    for done, (title, variants) in enumerate(tables):
        mine = time.monotonic() + (deadline - time.monotonic()) / (len(tables) - done)
        yield f"\nBy {title}\n"
        gc.collect()  # the people of the table before
        yield from _compared(variants(), mine)


def _by_people(manner: Manner) -> list[Variant]:
    crowds = [Crowd(people, manner) for people in PEOPLE]
    return [Variant(f"{crowd.people:,}", crowd, crowd.at_work(crowd.setup())) for crowd in crowds]


def _by_funnels() -> list[Variant]:
    crowd = Crowd(PEOPLE_OF_FUNNELS, WALKS)
    channel, device = {"channel": "properties.channel"}, {"device": "properties.device"}
    variants = [
        ("none", [], True),
        ("10 that look at other events", [_other(n) for n in range(10)], True),
        ("50 that look at other events", [_other(n) for n in range(50)], True),
        ("50 of these with two dimensions", [_other(n, dimensions=channel | device) for n in range(50)], True),
        ("50 that look at the same first event, `where` never true", [_never(n) for n in range(50)], False),
    ]
    return [Variant(name, crowd, crowd.at_work(crowd.setup(others)), claimed) for name, others, claimed in variants]


def _other(number: int, **more: object) -> Funnel:
    """A funnel of four stages whose events never come."""
    stages = [{"name": str(stage), "event": f"other_{number}_{stage}"} for stage in range(4)]
    return {"name": f"other_{number}", "source": "web", "conversion_window": "10m", "windows": ["5m", "1h"], "stages": stages, **more}


def _never(number: int) -> Funnel:
    """A funnel whose first stage matches the commonest event by name, and never by its condition."""
    found = _other(number)
    found["stages"][0] |= {"event": EVENTS[0], "where": {"properties.channel": f"partner_{number}"}}
    return found


def _compared(variants: Sequence[Variant], deadline: float) -> Iterator[str]:
    gc.collect()
    gc.freeze()  # a worker does not have the traffic to come in memory
    rounds = list(_rounds(variants, deadline))
    gc.unfreeze()
    yield from verdict([v.name for v in variants], rounds, [v.name for v in variants if v.claimed])


def verdict(names: Sequence[str], rounds: Sequence[Mapping[str, float]], claimed: Sequence[str]) -> Iterator[str]:
    """The table of what was measured (µs an event, by name, of each round), and whether those claimed to be flat are."""
    of_first = {name: [spent[name] / spent[names[0]] for spent in rounds] for name in names}
    yield from table(HEADER, [_row(name, [spent[name] for spent in rounds], of_first[name]) for name in names])
    worst = max(median(of_first[name]) for name in claimed)
    yield f"\n{len(rounds)} rounds; claim: at most {FLAT} times the first: {worst:.2f}, {'held' if worst <= FLAT else 'NOT HELD'}"


def _row(name: str, micros: list[float], of_first: list[float]) -> tuple[str, ...]:
    return name, *(cell for found in (micros, of_first) for cell in (f"{median(found):.2f}", _middle_half(found)))


def _middle_half(found: list[float]) -> str:
    low, _, high = quantiles(found, n=4)
    return f"{low:.2f}–{high:.2f}"


def _rounds(variants: Sequence[Variant], deadline: float) -> Iterator[dict[str, float]]:
    """Microseconds an event, by variant, of each round."""
    for number in range(ROUNDS_BEFORE + ROUNDS_MOST):
        if number >= ROUNDS_BEFORE + ROUNDS_LEAST and time.monotonic() > deadline:
            break
        found = _round(variants, number % len(variants))
        if number >= ROUNDS_BEFORE:
            yield found


def _round(variants: Sequence[Variant], first: int) -> dict[str, float]:
    traffic = {id(crowd): crowd.chunk() for crowd in {id(v.crowd): v.crowd for v in variants}.values()}
    return {v.name: _micros(v.work, traffic[id(v.crowd)]) for v in (*variants[first:], *variants[:first])}


def _micros(work: OwnWork, chunk: Chunk) -> float:
    began = time.thread_time_ns()
    work.pack(work.count(*chunk))
    return (time.thread_time_ns() - began) / 1000 / len(chunk[0])
