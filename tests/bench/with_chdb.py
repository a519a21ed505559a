"""Asks ClickHouse in this process: `with_chdb.py CSV PARQUET END_MS WINDOWS TIMES`, run by the Python of an environment with chdb.

Writes the CSV's rows (at_ms, user, event, channel) as Parquet, asks TIMES times for all WINDOWS (seconds, with commas between)
that end at END_MS, and prints one JSON object: ClickHouse's version, the Parquet file's bytes, seconds and CPU seconds of each
question, and the last answer: rows of window, stage, channel ("" for all) and users.

A question reads the file once for all windows; one question for each window would take twice as long.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

EVENTS = ("product_view", "add_to_cart", "begin_checkout", "purchase")
CONVERSION_MS = 600_000
COLUMNS = "at_ms UInt64, user String, event LowCardinality(String), channel LowCardinality(String)"


def question(parquet: str, end_ms: int, windows: list[int]) -> str:
    """Users by how far they came in each window: of all, and by the channel of their latest event of the stage."""
    steps = ", ".join(f"event = '{event}'" for event in EVENTS)
    begins = {window: end_ms - window * 1000 for window in windows}
    levels = [f"windowFunnelIf({CONVERSION_MS})(at_ms, {steps}, at_ms > {begin})" for begin in begins.values()]
    channels = [f"argMaxIf(channel, at_ms, event = '{event}')" for event in EVENTS]
    return f"""
        SELECT window, stage, channel, count() AS users
        FROM (
            SELECT [{", ".join(levels)}] AS levels, [{", ".join(channels)}] AS channels
            FROM file('{parquet}', Parquet)
            WHERE at_ms > {min(begins.values())}
            GROUP BY user
        )
        ARRAY JOIN {windows} AS window, levels AS level
        ARRAY JOIN range(level) AS stage, arraySlice(channels, 1, level) AS channel
        GROUP BY GROUPING SETS ((window, stage), (window, stage, channel))
    """


def main() -> None:
    import chdb  # only here: the question is looked at where it is not installed

    csv, parquet, end_ms, windows, times = sys.argv[1:]
    into = f"INSERT INTO FUNCTION file('{parquet}', Parquet) SELECT * FROM file('{csv}', CSV, '{COLUMNS}')"
    chdb.query(f"{into} SETTINGS engine_file_truncate_on_insert = 1")
    asked = question(parquet, int(end_ms), [int(window) for window in windows.split(",")])
    seconds, cpu_seconds, answer = [], [], ""
    for _ in range(int(times)):
        began, before = time.perf_counter(), time.process_time()
        answer = str(chdb.query(asked, "JSONCompact"))
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - before)
    version = json.loads(str(chdb.query("SELECT version()", "JSONCompact")))["data"][0][0]
    found = {"version": version, "bytes": Path(parquet).stat().st_size, "seconds": seconds, "cpu_seconds": cpu_seconds}
    print(json.dumps(found | {"answer": json.loads(answer)["data"]}))


if __name__ == "__main__":
    main()
