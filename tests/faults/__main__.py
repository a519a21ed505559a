"""`python -m tests.faults`: see `tests.faults`."""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from schemas.errors import FunnelwatchError
from tests.faults import report
from tests.faults.catalogue import Experiment, experiments
from tests.faults.play import play, told
from tests.faults.runs import Runs, play_and_keep, to_play
from tests.faults.scene import KAFKA_SETTINGS, Parts
from tests.parts import requirements
from tests.parts.kafka import Kafka

SEEDS = 10


def say(line: str) -> None:
    print(line, flush=True)


def required(name: str) -> Path:
    found = requirements.find(name)
    if isinstance(found, requirements.Missing):
        raise FunnelwatchError(found.reason)
    return found


def arguments() -> argparse.Namespace:
    known = experiments()
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Breaks things under load and recounts.")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(known), help="; ".join(known))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of each experiment")
    parser.add_argument("--seed", type=int, help="only this one, to see a failure again")
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="how long the soak lasts, 300 at least to see memory grow; 3600 for the hour"
    )
    parser.add_argument("--quick", action="store_true", help="the quick third, one seed each")
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep every run there; what is in it is not played again, but reported")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page, as Markdown")
    parser.add_argument("--rate", type=float, default=2_500.0, help="events a second")
    parser.add_argument(
        "--together",
        type=int,
        default=1,
        metavar="N",
        help="experiments at a time, each with a broker and workers of its own; not the soak",
    )
    parser.add_argument(
        "--patience", type=float, default=1.0, help="times the 60 s to recover in; for a machine that is busy with other things"
    )
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Experiment]:
    known = experiments()
    if options.only:
        return [known[name] for name in options.only]
    without = {"soak"} if options.together > 1 else set()  # what it measures is the worker's alone
    return [found for name, found in known.items() if name not in without and (found.quick or not options.quick)]


def machine(options: argparse.Namespace) -> str:
    together = "" if options.together == 1 else f"{options.together} experiments at a time, "
    return together + (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {options.rate:,.0f} events a second, "
        f"{60 * options.patience:.0f} s to recover, a soak of {options.seconds:,.0f} s at 10,000 events a second"
    )


def run(options: argparse.Namespace, runs: Runs) -> None:
    seeds = range(1, (1 if options.quick else options.seeds) + 1) if options.seed is None else [options.seed]
    # Whoever asks for one seed wants to see it again.
    which = to_play(chosen(options), seeds, runs.kept if options.seed is None else ())
    today = datetime.now(timezone.utc).date().isoformat()
    with ExitStack() as open_parts:
        lanes = [partial(play, parts=open_parts.enter_context(_parts(options))) for _ in range(max(1, options.together))]
        for found in play_and_keep(which, lanes, runs, today, machine(options)):
            say(told(*found))


@contextmanager
def _parts(options: argparse.Namespace) -> Iterator[Parts]:
    with Kafka(required("kafka_jars"), KAFKA_SETTINGS) as kafka:
        yield Parts(kafka, required("kafka_jars"), required("redis_server_binary"), options.rate, options.patience, options.seconds)


def main() -> int:
    options = arguments()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it warns of every retry, and here everything is retried
    runs = Runs(options.record)
    try:
        run(options, runs)
    except KeyboardInterrupt:
        say("stopped; what was played is below")
    found = runs.played(experiments())
    for line in report.lines(found):
        say(line)
    if options.report is not None:
        options.report.write_text("\n".join(report.page(found, list(runs.circumstances()))) + "\n")
    say(report.last_line(found))
    return int(any(played.failed for played in found))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FunnelwatchError as error:
        sys.exit(str(error))
