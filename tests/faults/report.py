"""[pure] What the runs came to: a table, a page, and one JSON object as the last line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from tests.bench.markdown import table
from tests.faults.play import Played

HEADER = ("experiment", "failed ÷ runs", "recovered in at most", "a run takes")


def lines(found: Sequence[Played]) -> Iterator[str]:
    """The table, for a terminal."""
    yield from table(HEADER, [_row(played) for played in found])
    failed, runs = sum(played.failed for played in found), sum(len(played.runs) for played in found)
    yield f"{failed} of {runs} runs failed"


def page(found: Sequence[Played], circumstances: Sequence[str]) -> Iterator[str]:
    """deploy/faults.md."""
    yield "# What was broken, and whether the counts were exact"
    yield ""
    yield "Written by `make faults`; not by hand. It plays ten seeds of each in some hours; [faults.jsonl](faults.jsonl) has every run,"
    yield "so that it goes on where it was stopped."
    yield ""
    yield "Each run has a real Apache Kafka with a topic of six partitions, a redis-server with an append-only file, two workers and a"
    yield "load that goes on meanwhile. After the fault, an oracle that shares no code with the product reads every partition from its"
    yield "first record to a recorded end and recounts. A run succeeds if every cell is equal, every stored offset is its partition's end,"
    yield "the five fates add up to what was produced, and that was so within 60 s of the fault's end, without a hand on it."
    yield ""
    yield from table(
        ("experiment", "what happens", *HEADER[1:]), [(name, p.experiment.text, *rest) for p in found for name, *rest in [_row(p)]]
    )
    yield from _failures(found)
    yield ""
    yield from (f"{line}." for line in circumstances)


def _failures(found: Sequence[Played]) -> Iterator[str]:
    for played in found:
        for run in played.runs:
            if run.complaint:
                yield ""
                yield f"`{played.experiment.name}` failed at seed {run.seed}: {run.complaint.splitlines()[0]}"


def last_line(found: Sequence[Played]) -> str:
    """What other programs read: `{"experiments": {NAME: {"runs": n, "failed": n}}}`."""
    return json.dumps({"experiments": {played.experiment.name: {"runs": len(played.runs), "failed": played.failed} for played in found}})


def _row(played: Played) -> tuple[str, ...]:
    recoveries = [run.recovery for run in played.runs if run.recovery is not None]
    took = max(run.seconds for run in played.runs) if played.runs else 0.0
    return (
        played.experiment.name,
        f"{played.failed} ÷ {len(played.runs)}",
        f"{max(recoveries):.1f} s" if recoveries else "-",
        f"{took:.0f} s",
    )
