"""[pure] What the contenders came to: a table, what was to be reached, and one JSON object as the last line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.markdown import table
from tests.bench.measure import Run, noise

LIMIT, OURS, BEFORE = "limit", "funnelwatch", "funnelwatch-before"
HEADER = ("contender", "events/s", "min", "max", "2nd half", "of limit", "CPU s per million", "2nd half", "Kafka", "Redis", "others")
TARGETS_HEADER = (f"{OURS} ÷", "to reach", "by rate", "of each round", "2nd half", "by CPU time", "")

Runs = Mapping[str, Sequence[Run]]


@dataclass(frozen=True)
class Target:
    """Our rate is to be at least so many times another's; the figures are those of issue 7."""

    other: str
    least: float
    goal: float | None = None


TARGETS = (
    Target(LIMIT, 0.40, goal=0.55),
    Target("handwritten", 2),
    Target("handwritten-stored", 2),
    Target("bytewax", 2.5),
    Target("quix", 4),
    Target("kafka-streams", 0.7),
    Target("faust", 40),
)


def lines(runs: Runs) -> Iterator[str]:
    """The table of all contenders, the targets, and how ours compares."""
    rates = _rates(runs)
    yield from table(HEADER, [_row(name, found, rates) for name, found in runs.items()])
    yield ""
    yield "events/s: median of the rounds. CPU seconds per million events, of the contender and of both servers. 2nd half: of the events,"
    yield "when a JVM has compiled what is hot. Others: share of the machine that went to processes which have no part in this."
    yield from (f"\n{line}" for line in noise(max(run.others for found in runs.values() for run in found)))
    yield from _targets(runs)


def last_line(runs: Runs) -> str:
    """What other programs read: `{"limit": records/s, "contenders": {NAME: {"rate": events/s, "of_limit": ratio}}}`.

    What was not measured is null.
    """
    return json.dumps(_summary(_rates(runs)))


def _rates(runs: Runs) -> dict[str, float]:
    return {name: median(run.rate for run in found) for name, found in runs.items()}


def _row(name: str, found: Sequence[Run], rates: Mapping[str, float]) -> tuple[str, ...]:
    each = [run.rate for run in found]
    ratio = _of_limit(name, rates)
    late = _late(found)
    spent, *of_parts = (f"{seconds:.2f}" for seconds in _spent(found))
    return (
        name,
        *(f"{rate:,.0f}" for rate in (rates[name], min(each), max(each))),
        f"{median(run.rate for run in late):,.0f}" if late else "-",
        "-" if ratio is None else f"{ratio:.3f}",
        spent,
        f"{_spent(late)[0]:.2f}" if late else "-",
        *of_parts,
        f"{median(run.others for run in found):.0%}",
    )


def _of_limit(name: str, rates: Mapping[str, float]) -> float | None:
    return rates[name] / rates[LIMIT] if LIMIT in rates else None


def _late(found: Sequence[Run]) -> list[Run]:
    """The second halves, if all were seen."""
    late = [run.late for run in found if run.late is not None]
    return late if len(late) == len(found) else []


def _spent(found: Sequence[Run]) -> list[float]:
    """CPU seconds per million: the contender, Kafka, Redis."""
    return [median(per_million) for per_million in zip(*(run.cpu_seconds_per_million for run in found))]


def _targets(runs: Runs) -> Iterator[str]:
    """Each target with its ratio; for one that is missed, by how much and where the time goes."""
    if OURS not in runs:
        return
    asked = [target for target in TARGETS if target.other in runs]
    asked += [Target(BEFORE, 0)] if BEFORE in runs else []
    if asked:
        yield ""
        yield from table(TARGETS_HEADER, [_target(target, runs) for target in asked])
        yield "\nBy CPU time: how many times as long the other one's own processor time for an event is. What others do to the machine does"
        yield "less to it."
    for target in asked:
        yield from _why(target, runs)


def _target(target: Target, runs: Runs) -> tuple[str, ...]:
    ours, other = runs[OURS], runs[target.other]
    each = [one.rate / two.rate for one, two in zip(ours, other)]
    to_reach = f"{target.least:g}" + (f" (goal {target.goal:g})" if target.goal else "") if target.least else "-"
    ratio = _ratio(target, runs)
    met = "met" if ratio >= target.least else f"SHORT by {1 - ratio / target.least:.0%}"
    late = [median(run.rate for run in halves) for halves in (_late(ours), _late(other)) if halves]
    return (
        target.other,
        to_reach,
        f"{ratio:.3g}",
        f"{min(each):.3g}–{max(each):.3g}",
        f"{late[0] / late[1]:.3g}" if len(late) == len((ours, other)) else "-",
        f"{_spent(other)[0] / _spent(ours)[0]:.3g}",
        met if target.least else "",
    )


def _ratio(target: Target, runs: Runs) -> float:
    rates = _rates(runs)
    return rates[OURS] / rates[target.other]


def _why(target: Target, runs: Runs) -> Iterator[str]:
    if _ratio(target, runs) < target.least:
        parts = [_spent(runs[name]) for name in (OURS, target.other)]
        (ours, kafka, redis), (other, other_kafka, other_redis) = parts
        yield f"\nShort against {target.other}: an event takes {ours:.1f} µs of {OURS}'s processor time, {kafka:.1f} of Kafka's and {redis:.1f} of"
        yield f"Redis's, {ours + kafka + redis:.1f} in all; with {target.other} {other:.1f}, {other_kafka:.1f} and {other_redis:.1f}, {other + other_kafka + other_redis:.1f} in all."


def _summary(rates: Mapping[str, float]) -> dict[str, object]:
    counting = [name for name in rates if name != LIMIT]
    contenders = {name: {"rate": _rounded(rates[name], 1), "of_limit": _rounded(_of_limit(name, rates), 4)} for name in counting}
    return {"limit": _rounded(rates.get(LIMIT), 1), "contenders": contenders}


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
