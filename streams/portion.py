"""[pure] How many records go into one chunk, by how long the ledger was at the chunks before.

Redis does a chunk in one script, and whoever else asks it something waits meanwhile: the page, the alerts, the scrape. What a
record costs there depends on the funnels: one count for some, a hundred for others. So chunks grow while they are quick, and
shrink as soon as one takes long.
"""

from __future__ import annotations

SECONDS_MAX = 0.5  # that the ledger is to be at a chunk
RECORDS_FIRST, RECORDS_LEAST, RECORDS_MOST = 2_000, 100, 100_000
FACTOR_MOST = 4  # that it shrinks by at once: it may have been a pause that had nothing to do with the chunk


class Portion:
    """The most records of a chunk of one partition."""

    def __init__(self) -> None:
        self.records = RECORDS_FIRST

    def took(self, records: int, seconds: float) -> None:
        """The ledger was at a chunk of so many records for so long."""
        if 2 * records < self.records:
            return  # a rest, which says little of whole ones
        fitting = records * SECONDS_MAX / max(seconds, SECONDS_MAX / FACTOR_MOST)
        if seconds > SECONDS_MAX:
            self.records = max(RECORDS_LEAST, self.records // FACTOR_MOST, min(self.records, int(fitting)))
        elif seconds < SECONDS_MAX / 2:
            self.records = min(RECORDS_MOST, max(self.records, int(fitting)))
