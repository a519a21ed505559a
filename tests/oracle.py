"""What the counts of a topic must be: a second opinion, worked out the slow and plain way.

It shares no code with the product, nor its parsing of config and events: it reads every partition
from its first record to the end (`oracle_events`), keeps all that came in time, and looks back
through each entity's events for the chain that an event may continue. No state is carried along but
the list itself. One thing it leaves out: a dimension without an allow-list is taken to have fewer
values than `max_values`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from aiokafka import AIOKafkaConsumer

from tests.oracle_events import SECOND_US, BadError, Event, Funnel, Record, Source, seconds

FINEST_SECONDS = 10
COHORT_SECONDS = 3600  # entries and what becomes of them are always kept in buckets of this width too
FETCH_BYTES = 32 * 1024 * 1024
TOTAL = ("", "")
# The least whole millisecond of every bin of ages: 0, 1, 2, 3, then four bins an octave.
BIN_STARTS_MS = [0, 1, 2, 3, *(quarter << octave for octave in range(40) for quarter in (4, 5, 6, 7))]


class Cell(NamedTuple):
    """The name of one count; width 0 is the total since ever, an empty dimension all of its values.

    The families: users, events, value (in millionths); entries and conversions, of a stage's entries;
    converted, into a stage, by when; `age:7`, conversions into a stage of an age in that bin.
    """

    funnel: str
    family: str
    stage: int
    dimension: str = ""
    value: str = ""
    width: int = 0
    bucket: int = 0


class Reach(NamedTuple):
    """An entity reached a stage of a funnel."""

    stage: int
    at_us: int
    values: tuple[tuple[str, str], ...]  # (dimension, value) of its chain
    amount: int  # millionths


@dataclass
class Recount:
    """The counts of one topic."""

    records: int
    ends: dict[int, int]
    fates: Counter[str]
    cells: Counter[Cell]
    at_us: int  # the greatest event time that was not rejected

    def window(self, funnel: str, family: str, stage: int, window: str, split: tuple[str, str] = TOTAL) -> int:
        """A count over the trailing window as of T."""
        span = seconds(window)
        width = bucket_width(span)
        first = self.at_us // (width * SECOND_US) - span // width + 1
        last = max(self.at_us // (width * SECOND_US), first)
        return sum(self.cells[Cell(funnel, family, stage, *split, width, bucket)] for bucket in range(first, last + 1))

    def total(self, funnel: str, family: str, stage: int, split: tuple[str, str] = TOTAL) -> int:
        """A count since ever."""
        return self.cells[Cell(funnel, family, stage, *split)]

    def values(self, funnel: str, dimension: str) -> set[str]:
        """Every value of a dimension that was counted."""
        return {cell.value for cell in self.cells if cell.funnel == funnel and cell.dimension == dimension}


async def read_topic(brokers: str, topic: str, ends: Mapping[int, int] | None = None) -> list[Record]:
    """Every record of a topic, partition by partition, up to the ends that the broker tells now.

    `ends` are ends known otherwise, for a broker that tells them too low.
    """
    options: dict[str, Any] = {"auto_offset_reset": "earliest", "fetch_max_wait_ms": 50, "max_partition_fetch_bytes": FETCH_BYTES}
    async with AIOKafkaConsumer(topic, bootstrap_servers=brokers, **options) as consumer:
        told = await consumer.end_offsets(consumer.assignment())
        due = {tp: max(end, (ends or {}).get(tp.partition, 0)) for tp, end in told.items()}
        found: list[Record] = []
        while waiting := [tp for tp, end in due.items() if await consumer.position(tp) < end]:
            for tp, batch in (await consumer.getmany(*waiting, timeout_ms=1000)).items():
                found += [Record(tp.partition, r.offset, r.key, r.value, r.headers) for r in batch if r.offset < due[tp]]
    return sorted(found, key=lambda record: record[:2])


async def recount_topic(config: Path, brokers: str, ends: Mapping[int, int] | None = None) -> Recount:
    """Recount the topic of a config with one source."""
    loaded = yaml.safe_load(config.read_text())
    return recount(loaded, await read_topic(brokers, loaded["sources"][0]["topic"], ends))


def recount(config: Mapping[str, Any], records: Iterable[Record]) -> Recount:
    """Count records given in the order of each partition, for a config (plain YAML) with one source."""
    source = Source(config)
    found = Recount(0, {}, Counter(), Counter(), -1)
    in_time: defaultdict[str, list[Event]] = defaultdict(list)
    newest_us: defaultdict[str, int] = defaultdict(int)
    for record in records:
        found.records += 1
        found.ends[record.partition] = record.offset + 1
        try:
            event = source.event(record)
        except BadError:
            found.fates["rejected"] += 1
            continue
        found.at_us = max(found.at_us, event.at_us)
        if not any(funnel.looks_at(event) for funnel in source.funnels):
            found.fates["filtered"] += 1
        elif event.at_us < newest_us[event.entity] - source.lateness_us:
            found.fates["late"] += 1
        else:
            newest_us[event.entity] = max(newest_us[event.entity], event.at_us)
            in_time[event.entity].append(event)
    for events in in_time.values():
        count_entity(found, source, events)
    found.fates = +found.fates  # without the fates that nothing met
    return found


def count_entity(found: Recount, source: Source, events: list[Event]) -> None:
    """Add what one entity's events come to."""
    once = without_repeats(sorted(events, key=source.total_order), source.lateness_us)
    for funnel in source.funnels:
        reaches = list((anyhow if funnel.order == "any" else chained)(funnel, sorted(once, key=funnel.total_order)))
        for family, stage, at_us, values, count in (*flow(reaches), *cohort(funnel, reaches)):
            spread(found.cells, funnel, family, stage, at_us, values, count)
    found.fates["applied"] += len(once)
    found.fates["duplicate"] += len(events) - len(once)


def without_repeats(events: Iterable[Event], lateness_us: int) -> list[Event]:
    """Without the events that repeat one that stays and is at most so much older."""
    kept: list[Event] = []
    for event in events:
        if not any(e.identity == event.identity for e in kept if e.at_us >= event.at_us - lateness_us):
            kept.append(event)
    return kept


def chained(funnel: Funnel, events: list[Event]) -> Iterator[Reach]:
    """The reaches of one entity in the orders `ordered` and `strict`."""
    origins: list[dict[int, Event]] = []  # of every event: the stages that it reached, and where their chains began

    def before(place: int, stage: int) -> Event | None:
        """Where the newest chain began that stood at the stage when the event at `place` came."""
        for earlier in reversed(range(place)):
            if stage in origins[earlier]:
                return origins[earlier][stage]
            if stage in funnel.ended_by(events[earlier]) or events[earlier].at_us < events[place].at_us - funnel.window_us:
                return None
        return None

    for place, event in enumerate(events):
        starts = {stage: event if stage == 0 else before(place, stage - 1) for stage in funnel.stages_of(event)}
        origins.append({stage: e for stage, e in starts.items() if e is not None and e.at_us >= event.at_us - funnel.window_us})
        for stage, origin in sorted(origins[-1].items(), reverse=True):
            yield Reach(stage, event.at_us, funnel.split_values(origin), funnel.amount(stage, event))


def anyhow(funnel: Funnel, events: list[Event]) -> Iterator[Reach]:
    """The reaches of one entity in the order `any`."""
    newest: list[Event | None] = [None] * len(funnel.stages)
    for event in events:
        matched = funnel.stages_of(event)
        newest = [event if stage in matched else e for stage, e in enumerate(newest)]
        whole = [e is not None and e.at_us >= event.at_us - funnel.window_us for e in newest]
        for stage in range(min(matched, default=len(newest)), len(newest)):
            if newest[0] is not None and all(whole[: stage + 1]):
                # An event that is none of this stage's own has nothing to do with its value.
                amount = funnel.amount(stage, event) if stage in matched else 0
                yield Reach(stage, event.at_us, funnel.split_values(newest[0]), amount)


Count = tuple[str, int, int, tuple[tuple[str, str], ...], int]  # family, stage, when, under which values, how much


def flow(reaches: list[Reach]) -> Iterator[Count]:
    """Users, where each stage was reached last, and events and value, at every reach."""
    for reach in reaches:
        yield "events", reach.stage, reach.at_us, reach.values, 1
        yield "value", reach.stage, reach.at_us, reach.values, reach.amount
    for reach in {reach.stage: reach for reach in reaches}.values():
        yield "users", reach.stage, reach.at_us, reach.values, 1


def cohort(funnel: Funnel, reaches: list[Reach]) -> Iterator[Count]:
    """Entries, and the first reach of the following stage that comes after an opening and within the window of it."""
    opened_us: dict[int, int] = {}
    for place, opening in enumerate(reaches):
        stage, at_us, values, _ = opening
        if stage in opened_us and at_us - opened_us[stage] <= funnel.window_us:
            continue
        opened_us[stage] = at_us
        yield "entries", stage, at_us, values, 1
        following = (r.at_us for r in reaches[place + 1 :] if r.stage == stage + 1)
        then_us = next(following, None)
        if then_us is not None and then_us - at_us <= funnel.window_us:
            yield "conversions", stage, at_us, values, 1
            yield "converted", stage + 1, then_us, values, 1
            yield f"age:{age_bin(then_us - at_us)}", stage + 1, at_us, (), 1


def age_bin(age_us: int) -> int:
    return bisect_right(BIN_STARTS_MS, age_us // 1000) - 1


def spread(
    cells: Counter[Cell], funnel: Funnel, family: str, stage: int, at_us: int, values: Iterable[tuple[str, str]], count: int
) -> None:
    """Count in the bucket of every width that keeps the family, and since ever; in total, and by value of each dimension."""
    widths = {bucket_width(window) for window in funnel.windows}
    if family not in ("users", "events", "value"):
        widths.add(COHORT_SECONDS)
    for split in (TOTAL, *values) if count else ():
        cells[Cell(funnel.name, family, stage, *split)] += count
        for width in widths:
            cells[Cell(funnel.name, family, stage, *split, width, at_us // (width * SECOND_US))] += count


def bucket_width(window_seconds: int) -> int:
    """The width of the buckets that a window is summed from."""
    if window_seconds <= 3600:
        return 10
    return 60 if window_seconds <= 86_400 else 3600
