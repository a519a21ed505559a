"""[pure] What every peer does with an event: find its reach, sum the counts that change, spread them over the buckets.

This is the job of tests/bench/plain.py, written for speed: an event is decoded straight into a typed
struct, a person's journey is one flat list, and counts are summed in the narrowest buckets only.
Wider buckets and the counts of all channels follow from those when the sums are sent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

from tests.bench.workload import CONVERSION_MS, EVENTS, REACHES, STAGES, USERS, VALUE

WIDTHS_SECONDS = (10, 60, 3600)  # each divides the next
FAMILIES = (USERS, REACHES, VALUE)
STAGE_OF = {event: stage for stage, event in enumerate(EVENTS)}
NARROWEST_MS = WIDTHS_SECONDS[0] * 1000
NOWHERE = "__none__"
COLLECT_AFTER = (
    300_000,
    20,
    50,
)  # the garbage collector's thresholds: journeys are many small objects, which it need not look at again and again

# By stage: when the newest chain began and its channel, then by stage: bucket and channel of the latest reach.
# Lists and tuples of numbers and texts only, so that it may be kept as JSON.
Journey: TypeAlias = "list[Any]"
Place: TypeAlias = "tuple[int, int, str]"  # the narrowest bucket, stage, channel
Reach: TypeAlias = "tuple[Place, Place | None, int]"  # where, where the same person was last for this stage, value in millionths


class Properties(msgspec.Struct, gc=False):
    channel: str = NOWHERE
    amount: float = 0.0


class Event(msgspec.Struct, gc=False):
    event: str
    timestamp: int
    user_id: str
    properties: Properties


decode = msgspec.json.Decoder(Event).decode


def journey() -> Journey:
    """Of somebody who did nothing yet."""
    return [None] * (2 * len(STAGES))


def step(mine: Journey, event: Event) -> Reach | None:
    """The reach of this event, noted in the person's journey; None if it reaches no stage."""
    stage = STAGE_OF.get(event.event)
    if stage is None:
        return None
    at_ms = event.timestamp
    chain = mine[stage - 1] if stage else (at_ms, event.properties.channel)
    if chain is None or at_ms - chain[0] > CONVERSION_MS:
        return None
    mine[stage] = chain
    bucket, channel = at_ms // NARROWEST_MS, chain[1]
    latest = mine[len(STAGES) + stage]
    mine[len(STAGES) + stage] = (bucket, channel)
    before = None if latest is None else (latest[0], stage, latest[1])
    return (bucket, stage, channel), before, round(event.properties.amount * 1_000_000)


class Sums:
    """Counts that change, by the narrowest bucket, stage and channel."""

    def __init__(self) -> None:
        self._places: defaultdict[Place, list[int]] = defaultdict(_nothing)

    def add(self, reach: Reach) -> None:
        place, before, value = reach
        sums = self._places[place]
        sums[0] += 1
        sums[1] += 1
        sums[2] += value
        if before is not None:
            self._places[before][0] -= 1

    def take(self, group: str) -> Iterator[tuple[str, str, int]]:
        """Key, field and increment of every count in Redis that changes; the sums begin anew."""
        places, self._places = self._places, defaultdict(_nothing)
        totals: Counter[tuple[int, int, int, str, int]] = Counter()
        for (bucket, stage, channel), sums in places.items():
            for width in WIDTHS_SECONDS:
                wide = bucket * WIDTHS_SECONDS[0] // width
                for family, by in enumerate(sums):
                    totals[width, wide, stage, channel, family] += by
                    totals[width, wide, stage, "", family] += by
        for (width, wide, stage, channel, family), by in totals.items():
            if by:
                yield f"{group}:{width}:{wide}", f"{FAMILIES[family]}:{stage}:{channel}", by


def _nothing() -> list[int]:
    """The counts of each family."""
    return [0, 0, 0]
