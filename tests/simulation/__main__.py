"""`python -m tests.simulation`: simulate, print the figures, and draw the picture where one is asked for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.simulation import picture, report
from tests.simulation.study import incident, incidents, rhythm


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the incident too, as .svg or .png")
    parser.add_argument("--history", type=int, default=14, metavar="DAYS", help="days to learn from first")
    parser.add_argument("--healthy", type=int, default=14, metavar="DAYS", help="days to check before the incident")
    parser.add_argument("--incidents", type=int, default=10, metavar="NUMBER", help="incidents whose delays are told")
    parser.add_argument("--traffic", type=float, default=1.0, metavar="FACTOR", help="times as many entries")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.picture and not picture.available():
        sys.exit(picture.MISSING)
    say(f"simulating {options.history + options.healthy + 3} days")
    study = incident(options.history, options.healthy, options.seed, options.traffic)
    say(f"simulating nights, and {options.incidents} incidents")
    nights = rhythm(21, 7, options.seed, options.traffic / 2)
    for line in report.lines(study, nights, incidents(options.incidents, options.seed, options.traffic)):
        print(line)
    if options.picture:
        picture.draw(study, options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
