"""`--growth`: what an event costs with more people, funnels, dimensions, windows and partitions.

CPU time of one thread for the worker's own work, as `--stages` measures it. The variants of one
table take turns, a chunk each, and every chunk is compared with that of the first variant in the
same round, so that a slow second of the machine meets all of them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median, quantiles

from streams.pauses import COLLECT_AFTER
from tests.bench.markdown import table
from tests.bench.own_work import Chunk
from tests.bench.variants import COMPARISONS, Comparison, Variant

FLAT = 1.15  # at most this, times the first
ROUNDS_BEFORE = 4  # in which memory is first touched
ROUNDS_LEAST, ROUNDS_MOST = 15, 100
SECONDS = 240.0  # for all tables
HEADER = ("", "µs an event", "middle half", "times the first", "middle half")


def growth(seconds: float = SECONDS, comparisons: Sequence[Comparison] = COMPARISONS) -> Iterator[str]:
    """The tables, and whether what is claimed to be flat is."""
    yield "CPU time of the worker's own work, a thread's, without servers: medians over rounds in which the variants took turns."
    gc.set_threshold(*COLLECT_AFTER)
    deadline = time.monotonic() + seconds
    for done, comparison in enumerate(comparisons):
        mine = time.monotonic() + (deadline - time.monotonic()) / (len(comparisons) - done)
        yield f"\nBy {comparison.title}\n"
        gc.collect()  # the people of the table before
        yield from _compared(comparison, mine)


def _compared(comparison: Comparison, deadline: float) -> Iterator[str]:
    variants = comparison.variants()
    gc.collect()
    gc.freeze()  # a worker does not have the traffic to come in memory
    rounds = list(_rounds(variants, comparison.records, deadline))
    gc.unfreeze()
    yield from verdict([v.name for v in variants], rounds, [v.name for v in variants if v.claimed])
    if comparison.each:
        amounts = {v.name: v.amount for v in variants if v.amount is not None}
        yield f"one more {comparison.each}: {_one_more(rounds, amounts):.2f} µs an event"


def verdict(names: Sequence[str], rounds: Sequence[Mapping[str, float]], claimed: Sequence[str]) -> Iterator[str]:
    """The table of what was measured (µs an event, by name, of each round), and whether those claimed to be flat are."""
    of_first = {name: [spent[name] / spent[names[0]] for spent in rounds] for name in names}
    yield from table(HEADER, [_row(name, [spent[name] for spent in rounds], of_first[name]) for name in names])
    if not claimed:
        yield f"\n{len(rounds)} rounds"
        return
    worst = max(median(of_first[name]) for name in claimed)
    yield f"\n{len(rounds)} rounds; claim: at most {FLAT} times the first: {worst:.2f}, {'held' if worst <= FLAT else 'NOT HELD'}"


def _one_more(rounds: Sequence[Mapping[str, float]], amounts: Mapping[str, int]) -> float:
    """By the first and the last."""
    (first, few), *_, (last, many) = amounts.items()
    return median((spent[last] - spent[first]) / (many - few) for spent in rounds)


def _row(name: str, micros: list[float], of_first: list[float]) -> tuple[str, ...]:
    return name, *(cell for found in (micros, of_first) for cell in (f"{median(found):.2f}", _middle_half(found)))


def _middle_half(found: list[float]) -> str:
    low, _, high = quantiles(found, n=4)
    return f"{low:.2f}–{high:.2f}"


def _rounds(variants: Sequence[Variant], records: int, deadline: float) -> Iterator[dict[str, float]]:
    """Microseconds an event, by variant, of each round."""
    for number in range(ROUNDS_BEFORE + ROUNDS_MOST):
        if number >= ROUNDS_BEFORE + ROUNDS_LEAST and time.monotonic() > deadline:
            break
        found = _round(variants, records, number % len(variants))
        if number >= ROUNDS_BEFORE:
            yield found


def _round(variants: Sequence[Variant], records: int, first: int) -> dict[str, float]:
    traffic = {id(crowd): crowd.chunk(records) for crowd in {id(v.crowd): v.crowd for v in variants}.values()}
    return {v.name: _micros(v, traffic[id(v.crowd)]) for v in (*variants[first:], *variants[:first])}


def _micros(variant: Variant, chunk: Chunk) -> float:
    parts = variant.parts(chunk)
    began = time.thread_time_ns()
    for work, part in parts:
        work.pack(work.count(*part))
    return (time.thread_time_ns() - began) / 1000 / len(chunk[0])
