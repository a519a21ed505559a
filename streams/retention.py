"""[pure] How long counts are kept, in buckets of which width, and when a state may go.

Users, events and values are kept in the widths that the funnel's windows are made of. Entries,
conversions and ages are kept in those and always by the hour, since the usual conversion is learned
from them, and since an entry matters for as long as it may still convert.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from schemas.duration import MICROS, bucket_seconds

FINEST_SECONDS: Final = 10
HOUR_SECONDS = 3600
LONGEST_SECONDS = {10: 3600, 60: 86_400, 3600: 30 * 86_400}  # the longest window made of buckets of a width
BUCKET_US: Final = FINEST_SECONDS * MICROS

USERS, EVENTS, VALUE = "u", "n", "v"
ENTRIES, CONVERSIONS, CONVERTED, AGES = "e", "c", "x", "h"
REACHES = frozenset((USERS, EVENTS, VALUE))
COHORTS = frozenset((ENTRIES, CONVERSIONS, CONVERTED, AGES))


@dataclass(frozen=True)
class Kept:
    """How long a funnel's buckets of one width are kept, and which families of counts they hold."""

    seconds: int  # width
    count: int  # buckets behind the one that holds the watermark
    families: frozenset[str]


def kept_widths(windows_seconds: Iterable[int], conversion_seconds: int, slack_seconds: int) -> tuple[Kept, ...]:
    """What a funnel with these trailing windows keeps, finest first.

    Each width is kept for the longest window that it may serve, so that a window can be added later.
    """
    asked = {bucket_seconds(window) for window in windows_seconds}
    found = []
    for width in sorted({*asked, HOUR_SECONDS}):
        families = REACHES | COHORTS if width in asked else COHORTS
        span = LONGEST_SECONDS[width] + (conversion_seconds if width == HOUR_SECONDS else 0)
        found.append(Kept(width, (span + slack_seconds) // width + 1, families))
    return tuple(found)


def state_seconds(kept: Iterable[Kept], conversion_seconds: int, lateness_seconds: int) -> int:
    """How far its newest event must lie behind the watermark before an entity's state may go.

    Until then a chain or an entry of it could go on, a late event could come, or its mark could move
    out of a bucket that a window still reads.
    """
    users = max((k.seconds * (k.count + 1) for k in kept if USERS in k.families), default=0)
    return max(users, conversion_seconds) + 2 * lateness_seconds
