"""`--backtest`: a month of a shop's history through alert rules, by the command that people use, beside a replay of the same file.

The shop has a daily cycle, and one outage: for two hours in its last week nobody can pay. Each rule is judged at every boundary
of the month, must say that it fires in the outage, and must say nothing before it.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from schemas.errors import FunnelwatchError
from tests.bench.markdown import table

DAYS, VIEWS_A_MINUTE = 30, 3.5
BEGUN_MS = 1_767_571_200_000  # Monday, 2026-01-05
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
OUTAGE_DAYS, OUTAGE_HOURS = (5, 12), 2  # so long before the end, and at this hour
CLICKS = (("checkout", 0.6, 120_000), ("pay", 0.5, 240_000))  # event, share of those before, mean time to it
DEVICES = ("ios", "android", "web")
SECONDS_MAX = 60.0
STEP_MS = 10_000  # between two boundaries, whatever the rule
COMMON: Mapping[str, Any] = {"funnel": "shop", "stage": "pay", "window": "10m", "for": "2m"}
RULES: Mapping[str, Mapping[str, Any]] = {
    "sequential": {"below": 0.35, "detector": "sequential", "run_length": "365d", "for": "0s"},
    "sequential, by device": {"below": 0.3, "detector": "sequential", "run_length": "365d", "for": "0s", "by": ["device"]},
    "adjusted, by device": {"below": 0.2, "by": ["device"], "min_entrants": 10, "widen_to": "1h", "confidence": 0.999},
    "against last week": {"window": "1h", "drop": {"by": 0.3, "from": "last_week"}, "min_entrants": 20, "confidence": 0.999},
    "entries": {"below": 0.3, "basis": "entries", "window": "1h", "confidence": 0.999},
    "users": {"below": 0.25, "basis": "users", "window": "1h", "confidence": 0.999},
}
HEADER = ("rule", "seconds", "× the replay", "µs a boundary", "fires after, min")


@dataclass(frozen=True)
class Judged:
    """What a run of the command came to."""

    seconds: float
    fires_ms: Sequence[int]


def backtests(days: int = DAYS, rules: Mapping[str, Mapping[str, Any]] = RULES) -> Iterator[str]:
    """The table, and whether the claim holds. Raises FunnelwatchError where a rule misses the outage, or sees one that was not."""
    outage_ms = BEGUN_MS + (days - OUTAGE_DAYS[0]) * DAY_MS + OUTAGE_DAYS[1] * HOUR_MS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events = _write(folder / "events.jsonl", days, outage_ms)
        (folder / "replay.yaml").write_text(yaml.safe_dump(_config([])))
        replay, _ = _run("replay", folder, "replay")
        named = [{**COMMON, **rule, "name": f"rule-{number}"} for number, rule in enumerate(rules.values())]
        found = {label: _judged(folder, [rule], outage_ms) for label, rule in zip(rules, named)}
        found["all of them"] = _judged(folder, named, outage_ms)
    yield f"`funnelwatch backtest FILE` of {days} days: {events:,} events of a shop, judged every ten seconds."
    yield f"`funnelwatch replay` of the same file: {replay:.1f} s. No rule fired before the outage; every one did in it."
    yield ""
    yield from table(HEADER, [_row(label, judged, replay, days, outage_ms) for label, judged in found.items()])
    yield ""
    most = max(judged.seconds for label, judged in found.items() if label in rules)
    held = "held" if most < SECONDS_MAX else "NOT HELD"
    yield f"claim: {days} days through a rule in seconds, under {SECONDS_MAX:g}: {most:.0f} s, {held}"


def _row(label: str, judged: Judged, replay: float, days: int, outage_ms: int) -> Sequence[str]:
    return (
        label,
        f"{judged.seconds:.1f}",
        f"{judged.seconds / replay:.1f}",
        f"{judged.seconds / (days * DAY_MS / STEP_MS) * 1e6:.0f}",
        f"{(min(judged.fires_ms) - outage_ms) / 60_000:.1f}",
    )


def _config(rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    stages = [{"name": name, "event": name} for name in ("view", *(event for event, _, _ in CLICKS))]
    device = {"field": "properties.device", "allow": list(DEVICES)}
    shop = {"name": "shop", "source": "web", "conversion_window": "30m", "windows": ["5m", "1h", "24h"], "stages": stages}
    return {"sources": [{"name": "web", "topic": "clicks"}], "funnels": [{**shop, "dimensions": {"device": device}}], "alerts": [*rules]}


def _write(file: Path, days: int, outage_ms: int) -> int:
    """The shop's events by time; how many."""
    luck, found, at_ms, number = random.Random(7), [], float(BEGUN_MS), 0
    while at_ms < BEGUN_MS + days * DAY_MS:
        busy = 1 + 0.8 * math.sin((at_ms % DAY_MS / DAY_MS - 0.35) * 2 * math.pi)  # most at two in the afternoon
        at_ms += luck.expovariate(VIEWS_A_MINUTE * max(0.1, busy) / 60_000)
        number, device, reached_ms = number + 1, luck.choice(DEVICES), at_ms
        found.append((at_ms, "view", number, device))
        for event, share, later_ms in CLICKS:
            out = event == "pay" and outage_ms <= reached_ms < outage_ms + OUTAGE_HOURS * HOUR_MS
            if out or luck.random() >= share:
                break
            reached_ms += luck.expovariate(1 / later_ms)
            found.append((reached_ms, event, number, device))
    found.sort()
    with file.open("w") as lines:
        for at_ms, event, number, device in found:
            told = {"event": event, "timestamp": int(at_ms), "user_id": f"u{number}", "event_id": f"{event}-{number}"}
            lines.write(json.dumps({**told, "properties": {"device": device}}) + "\n")
    return len(found)


def _judged(folder: Path, rules: Sequence[Mapping[str, Any]], outage_ms: int) -> Judged:
    (folder / "rules.yaml").write_text(yaml.safe_dump(_config(rules)))
    seconds, said = _run("backtest", folder, "rules")
    changes = [json.loads(line) for line in said.splitlines()]
    fires = {
        change["rule"]: round(datetime.fromisoformat(change["at"]).timestamp() * 1000)
        for change in reversed(changes)
        if change["state"] == "firing"
    }
    names = {rule["name"] for rule in rules}
    end_ms = outage_ms + OUTAGE_HOURS * HOUR_MS
    if fires.keys() != names or not all(outage_ms <= fired_ms < end_ms for fired_ms in fires.values()):
        raise FunnelwatchError(f"the outage of {outage_ms} to {end_ms} is told by {fires}, of {sorted(names)}")
    return Judged(seconds, [*fires.values()])


def _run(command: str, folder: Path, config: str) -> tuple[float, str]:
    asked = [
        sys.executable,
        "-m",
        "streams.cli",
        command,
        str(folder / "events.jsonl"),
        "--config",
        str(folder / f"{config}.yaml"),
        "--json",
    ]
    began = time.perf_counter()
    done = subprocess.run(asked, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}, check=False)
    if done.returncode != 0:
        raise FunnelwatchError(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout
