"""`python -m tests.alerts_study`: simulate, print the tables, and write them into deploy/alerts.md where asked to."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.alerts_study import delayed, hardships, levels, report

PAGE = Path(__file__).parents[2] / "deploy" / "alerts.md"
BEGIN, END = "<!-- figures: python -m tests.alerts_study --write -->", "<!-- end of figures -->"
SIMPLE_DAYS, COLD_DAYS = 20, 30


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.alerts_study")
    parser.add_argument("--days", type=int, default=100, metavar="N", help="days of healthy traffic, at each level")
    parser.add_argument("--bare-days", type=int, default=1000, metavar="N", help="the same for the detector alone")
    parser.add_argument("--incidents", type=int, default=200, metavar="N", help="falls, at each level")
    parser.add_argument("--campaigns", type=int, default=16, metavar="N", help="campaigns and falls with late conversions")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}")
    options = parser.parse_args()
    began = time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        found = _ask(pool, options)
        results = {name: [each.result() for each in futures] for name, futures in found.items()}
    tables = [
        *report.levels(results["pages"], results["bare"], results["delays"]),
        "",
        *report.by_rate(),
        "",
        *report.hardships(results["hardships"]),
        "",
        *report.delayed(results["delayed"][0]),
    ]
    print("\n".join(tables))
    print(f"{time.monotonic() - began:.0f} s on {options.processes} processes", file=sys.stderr)
    if options.write:
        write(tables)
    sequential = [pages for pages in results["pages"] if pages.name == levels.SEQUENCE]
    missed = report.reached(sequential, results["bare"], results["delays"])
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


def _ask(pool: ProcessPoolExecutor, options: argparse.Namespace) -> dict[str, list[Future[Any]]]:
    seed, days = options.seed, options.days

    def each(call: Callable[..., Any], *arguments: Any) -> list[Future[Any]]:
        return [pool.submit(call, level, *arguments) for level in levels.LEVELS]

    return {
        "pages": [
            *(pool.submit(levels.false_pages, levels.SEQUENCE, level, days, seed) for level in levels.LEVELS),
            *(pool.submit(levels.false_pages, n, level, min(days, SIMPLE_DAYS), seed) for n in levels.SIMPLE for level in levels.LEVELS),
            *each(levels.false_pages_of_the_first_day, min(days, COLD_DAYS), seed),
        ],
        "bare": each(levels.false_pages_of_the_detector, options.bare_days, seed),
        "delays": each(levels.delays, options.incidents, seed),
        "hardships": [
            pool.submit(hardships.days_and_nights, days // 2, seed),
            pool.submit(hardships.drift, seed, days // 2),
            pool.submit(hardships.silence, days // 2, seed),
            pool.submit(hardships.lag, days // 2, seed),
            pool.submit(hardships.one_device, options.incidents // 5, seed),
        ],
        "delayed": [pool.submit(delayed.delayed, options.campaigns, seed)],
    }


def write(tables: Sequence[str], page: Path = PAGE) -> None:
    """Between the marks of the page."""
    text = page.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text("\n".join([before + BEGIN, "", *tables, "", END + after]), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
