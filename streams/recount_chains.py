"""[pure] For the recount: one entity's events to its reaches, and its reaches to entries.

Plain and slow on purpose, and from semantics' words alone; see `streams.recount`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from schemas.funnel import Funnel
from streams.recount_events import MILLI_US, Event, amount
from streams.recount_matching import Values, ended_by, stages_of

Split = tuple[str, str]  # dimension and value; two empty strings for the total
TOTAL: Split = ("", "")
Seen = tuple[Event, list[int]]  # an event and the stages that it matches


@dataclass(frozen=True)
class Reach:
    """An entity reached a stage (from 0) at a time; `values` are those of its chain, by dimension."""

    entity: str
    stage: int
    at_us: int
    values: Mapping[str, str]
    amount: Decimal

    def under(self, split: Split) -> bool:
        """Whether it counts under the value of the dimension (everything is under the total)."""
        return split == TOTAL or self.values[split[0]] == split[1]


@dataclass
class Entry:
    """What one or more reaches of a stage within a conversion window open; it converts once or never."""

    opening: Reach
    converted_us: int | None = None

    @property
    def age_us(self) -> int | None:
        """How long after its opening it was converted."""
        return None if self.converted_us is None else self.converted_us - self.opening.at_us


def without_duplicates(funnels: Iterable[Funnel], events: Iterable[Event], lateness_us: int) -> list[Event]:
    """An entity's events in the order of their time, each once: a duplicate repeats one that is not much older.

    A record has one fate, in all funnels: of simultaneous events the one comes first that matches the
    lowest stage of any.
    """
    counted_us: dict[str | bytes, int] = {}  # by identity: when what is no duplicate happened
    once = []
    for event in sorted(events, key=lambda e: min(_total_order(e, stages_of(funnel, e)) for funnel in funnels)):
        before_us = counted_us.get(event.identity)
        if before_us is None or before_us < event.at_us - lateness_us:
            counted_us[event.identity] = event.at_us
            once.append(event)
    return once


def in_order(funnel: Funnel, events: Iterable[Event]) -> list[Seen]:
    """The events in the funnel's total order, with the stages that each matches."""
    return sorted(((e, stages_of(funnel, e)) for e in events), key=lambda seen: _total_order(*seen))


def _total_order(event: Event, stages: list[int]) -> tuple[int, float, str, bytes]:
    """Timestamp, lowest stage matched (none: last), event_id, bytes."""
    return event.at_us, min(stages, default=math.inf), event.event_id, event.raw


def reaches_of(funnel: Funnel, seen: list[Seen], values: Values) -> Iterator[Reach]:
    """Every reach of one entity, in its order."""
    return _gathered(funnel, seen, values) if funnel.order == "any" else _chained(funnel, seen, values)


def _chained(funnel: Funnel, seen: list[Seen], values: Values) -> Iterator[Reach]:
    """`ordered` and `strict`: each event sees the state as it was before the event."""
    start: dict[int, Event] = {}  # stage -> where the newest chain that got there began
    for event, stages in seen:
        before = dict(start)
        ended = ended_by(funnel, event)
        if funnel.order == "strict":
            ended |= start.keys() - stages
        for stage in ended:
            start.pop(stage, None)
        for stage in reversed(stages):
            origin = event if stage == 0 else before.get(stage - 1)
            if origin is not None and event.at_us - origin.at_us <= funnel.conversion_window.micros:
                start[stage] = origin
                yield Reach(event.entity, stage, event.at_us, values.of(funnel, origin), amount(funnel.stages[stage], event))


def _gathered(funnel: Funnel, seen: list[Seen], values: Values) -> Iterator[Reach]:
    """`any`: a stage is reached while the newest events of all stages up to it lie within one conversion window.

    An event that reaches a stage that it does not match itself adds nothing to its value.
    """
    newest: dict[int, Event] = {}  # by stage
    for event, stages in (s for s in seen if s[1]):
        newest |= dict.fromkeys(stages, event)
        for stage in range(stages[0], len(funnel.stages)):
            needed = [newest.get(i) for i in range(stage + 1)]
            if any(n is None or event.at_us - n.at_us > funnel.conversion_window.micros for n in needed):
                break
            added = amount(funnel.stages[stage], event) if stage in stages else Decimal(0)
            yield Reach(event.entity, stage, event.at_us, values.of(funnel, newest[0]), added)


def entries_of(funnel: Funnel, reaches: Iterable[Reach]) -> list[Entry]:
    """The entries of one entity. Time alone closes an entry: neither exclusions nor strictness do."""
    entries: list[Entry] = []
    newest: dict[int, Entry] = {}  # by stage
    for reach in reaches:
        entered = newest.get(reach.stage - 1)
        if entered is not None and entered.converted_us is None and _within(funnel, entered, reach):
            entered.converted_us = reach.at_us
        if reach.stage not in newest or not _within(funnel, newest[reach.stage], reach):
            newest[reach.stage] = Entry(reach)
            entries.append(newest[reach.stage])
    return entries


def _within(funnel: Funnel, entry: Entry, reach: Reach) -> bool:
    return reach.at_us - entry.opening.at_us <= funnel.conversion_window.micros


def age_bin(age_us: int) -> int:
    """The number of an age's bin: a millisecond below 4 ms, then four bins an octave, of whole milliseconds."""
    millis = age_us // MILLI_US
    octave_ms, number = 4, 4
    while millis >= 2 * octave_ms:
        octave_ms, number = 2 * octave_ms, number + 4
    return millis if millis < 4 else number + 4 * (millis - octave_ms) // octave_ms
