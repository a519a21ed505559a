"""What the bench says: a table, the targets, and one JSON object as the last line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from tests.bench.measure import Run

LIMIT, OURS, PLAIN = "limit", "funnelwatch", "faust"
OF_LIMIT_LEAST = 0.25
TIMES_PLAIN_LEAST = 25.0
HEADER = ("contender", "events/s", "min", "max", "of limit", "CPU s per million")

Runs = Mapping[str, Sequence[Run]]


def lines(runs: Runs) -> Iterator[str]:
    """The whole report; the last line is the JSON object."""
    rates = {name: median(run.rate for run in found) for name, found in runs.items()}
    yield from _table([HEADER, *(_row(name, found, rates) for name, found in runs.items())])
    yield ""
    yield from _targets(rates)
    yield json.dumps(_summary(rates))


def _row(name: str, found: Sequence[Run], rates: Mapping[str, float]) -> tuple[str, ...]:
    each = [run.rate for run in found]
    ratio = _of_limit(name, rates)
    cpu = median(run.cpu_seconds_per_million for run in found)
    return name, f"{rates[name]:,.0f}", f"{min(each):,.0f}", f"{max(each):,.0f}", "-" if ratio is None else f"{ratio:.3f}", f"{cpu:.2f}"


def _of_limit(name: str, rates: Mapping[str, float]) -> float | None:
    return rates[name] / rates[LIMIT] if LIMIT in rates else None


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])


def _targets(rates: Mapping[str, float]) -> Iterator[str]:
    for other, least in ((LIMIT, OF_LIMIT_LEAST), (PLAIN, TIMES_PLAIN_LEAST)):
        if OURS in rates and other in rates:
            ratio = rates[OURS] / rates[other]
            yield f"target: {OURS} at least {least:g} x {other}: {ratio:.3g} x, {'met' if ratio >= least else 'NOT MET'}"


def _summary(rates: Mapping[str, float]) -> dict[str, object]:
    contenders = {name: {"rate": round(rate, 1), "of_limit": _rounded(_of_limit(name, rates))} for name, rate in rates.items() if name != LIMIT}
    return {"limit": _rounded(rates.get(LIMIT)), "contenders": contenders}


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
