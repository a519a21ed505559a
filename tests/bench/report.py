"""[pure] What the bench says: a table, the targets, and one JSON object as the last line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from tests.bench.measure import Run

LIMIT, OURS, BEFORE, PLAIN = "limit", "funnelwatch", "funnelwatch-before", "faust"
OF_LIMIT_LEAST = 0.25
TIMES_PLAIN_LEAST = 25.0
OTHERS_MAX = 0.1
HEADER = ("contender", "events/s", "min", "max", "of limit", "CPU s per million", "Kafka", "Redis", "others")

Runs = Mapping[str, Sequence[Run]]


def lines(runs: Runs) -> Iterator[str]:
    """The table of all contenders, the targets, and how ours compares."""
    rates = _rates(runs)
    yield from _table([HEADER, *(_row(name, found, rates) for name, found in runs.items())])
    yield "events/s: median of the rounds. CPU seconds per million events, of the contender and of both servers. Others: share of the"
    yield "machine that went to processes which have no part in this."
    yield from _noise(runs)
    yield ""
    yield from _targets(rates)
    yield from _by_cpu(runs)


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
    spent = [median(per_million) for per_million in zip(*(run.cpu_seconds_per_million for run in found))]
    return (
        name,
        *(f"{rate:,.0f}" for rate in (rates[name], min(each), max(each))),
        "-" if ratio is None else f"{ratio:.3f}",
        *(f"{seconds:.2f}" for seconds in spent),
        f"{median(run.others for run in found):.0%}",
    )


def _of_limit(name: str, rates: Mapping[str, float]) -> float | None:
    return rates[name] / rates[LIMIT] if LIMIT in rates else None


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])


def _by_cpu(runs: Runs) -> Iterator[str]:
    """What others do to the rates does less to this."""
    spent = {name: median(run.cpu_seconds_per_million[0] for run in found) for name, found in runs.items()}
    for other in (LIMIT, BEFORE, PLAIN):
        if OURS in spent and other in spent:
            yield f"by the CPU time they need, {OURS} does {spent[other] / spent[OURS]:.3g} x {other}"


def _noise(runs: Runs) -> Iterator[str]:
    worst = max(run.others for found in runs.values() for run in found)
    if worst > OTHERS_MAX:
        yield f"NOISY: others took up to {worst:.0%} of the machine; repeat this when it is idle."


def _targets(rates: Mapping[str, float]) -> Iterator[str]:
    for other, least in ((LIMIT, OF_LIMIT_LEAST), (PLAIN, TIMES_PLAIN_LEAST)):
        if OURS in rates and other in rates:
            ratio = rates[OURS] / rates[other]
            yield f"target: {OURS} at least {least:g} x {other}: {ratio:.3g} x, {'met' if ratio >= least else 'NOT MET'}"


def _summary(rates: Mapping[str, float]) -> dict[str, object]:
    counting = [name for name in rates if name != LIMIT]
    contenders = {name: {"rate": _rounded(rates[name], 1), "of_limit": _rounded(_of_limit(name, rates), 4)} for name in counting}
    return {"limit": _rounded(rates.get(LIMIT), 1), "contenders": contenders}


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
