"""What `--growth` compares: workers that differ in one thing, and whose traffic they count.

people          10,000 to 10,000,000, of whom whoever comes was away while the others came
other funnels   on the source, whose events never come
funnels         that every event matters to
dimensions      by number and by how many values each has; a funnel may have eight
windows         buckets of one width, of two, of all three
partitions      the same records in more of them, so that each has a smaller chunk
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b

from aiokafka.partitioner import murmur2

from tests.bench.crowd import STEPS, WALKS, Crowd, Funnel, Manner
from tests.bench.own_work import CHUNK_RECORDS, Chunk, OwnWork
from tests.bench.workload import EVENTS, Click

PEOPLE = (10_000, 100_000, 1_000_000)
PEOPLE_MOST = 10_000_000  # 5 GB
PEOPLE_OF_FUNNELS = 100_000
PEOPLE_OF_MATCHING = 2_000  # a state holds something of every funnel
MATCHING, MATCHING_RECORDS = (1, 10, 30, 100), 2_000
FEW = replace(WALKS, walking=200)
MANY = 8
DIMENSIONS = (
    ("none", ()),
    ("1 of 4 values", ("of_4",)),
    ("1 of 100 values", ("of_100",)),
    ("5 of 20 values, in 100 combinations", tuple(f"of_20_{place}" for place in range(5))),
    ("5 of 20 values, in any combination", tuple(f"any_{place}" for place in range(5))),
    ("8 of 20 values, in any combination", tuple(f"any_{place}" for place in range(MANY))),
)
WINDOWS = (
    ("1: 5m", ("5m",)),
    ("4: 1m to 24h", ("1m", "5m", "1h", "24h")),
    ("12: 1m to 7d", ("1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "6h", "24h", "2d", "7d")),
)
PARTITIONS, PARTITIONS_RECORDS = (1, 4, 16, 64), 12_000


@dataclass
class Variant:
    """What is compared: a worker's shards, and whose traffic they count."""

    name: str
    crowd: Crowd
    shards: Sequence[OwnWork]
    claimed: bool = False  # to cost no more than the first
    amount: int | None = None  # of what the table counts

    def parts(self, chunk: Chunk) -> list[tuple[OwnWork, Chunk]]:
        """The records of each shard."""
        if len(self.shards) == 1:
            return [(self.shards[0], chunk)]
        found: list[Chunk] = [([], []) for _ in self.shards]
        for value, key in zip(*chunk):
            values, keys = found[_partition_of(key or b"", len(self.shards))]
            values.append(value)
            keys.append(key)
        return [(shard, part) for shard, part in zip(self.shards, found) if part[0]]


@dataclass(frozen=True)
class Comparison:
    """One table."""

    title: str
    variants: Callable[[], list[Variant]]
    records: int = CHUNK_RECORDS  # in a chunk
    each: str = ""  # what one more of costs so much


class Rich(Click):
    """A click with properties of few values and of many, of which some go together and others do not."""

    def value(self) -> bytes:
        chosen = blake2b(str(self.number).encode(), digest_size=MANY + 2).digest()
        number = int.from_bytes(chosen[MANY:], "big") % 100
        found = {"of_4": number % 4, "of_100": number}
        found |= {f"of_20_{place}": (number * (2 * place + 1) + number // 20) % 20 for place in range(5)}
        found |= {f"any_{place}": chosen[place] % 20 for place in range(MANY)}
        shown = ",".join(f'"{name}":"value-{value:02}"' for name, value in found.items())
        return super().value().removesuffix(b"}}") + f",{shown}}}}}".encode()


def by_people(manner: Manner, people: Sequence[int]) -> list[Variant]:
    crowds = [Crowd(many, manner) for many in people]
    return [Variant(f"{crowd.people:,}", crowd, [crowd.at_work(crowd.setup())], claimed=True) for crowd in crowds]


def by_other_funnels() -> list[Variant]:
    crowd = Crowd(PEOPLE_OF_FUNNELS, WALKS)
    channel, device = {"channel": "properties.channel"}, {"device": "properties.device"}
    variants = [
        ("none", [], True),
        ("10 that look at other events", [_other(n) for n in range(10)], True),
        ("50 that look at other events", [_other(n) for n in range(50)], True),
        ("100 that look at other events", [_other(n) for n in range(100)], True),
        ("50 of these with two dimensions", [_other(n, dimensions=channel | device) for n in range(50)], True),
        ("50 that look at the same first event, `where` never true", [_never(n) for n in range(50)], False),
    ]
    return [Variant(name, crowd, [crowd.at_work(crowd.setup(others))], claimed) for name, others, claimed in variants]


def by_matching_funnels() -> list[Variant]:
    crowd = Crowd(PEOPLE_OF_MATCHING, FEW)
    return [Variant(str(many), crowd, [crowd.at_work(crowd.setup(_same(crowd, many - 1)))], amount=many) for many in MATCHING]


def by_dimensions() -> list[Variant]:
    crowd = Crowd(PEOPLE_OF_FUNNELS, WALKS, kind=Rich)
    setups = [(name, crowd.setup(dimensions={each: f"properties.{each}" for each in asked})) for name, asked in DIMENSIONS]
    return [Variant(name, crowd, [crowd.at_work(setup)]) for name, setup in setups]


def by_windows() -> list[Variant]:
    crowd = Crowd(PEOPLE_OF_FUNNELS, WALKS)
    return [Variant(name, crowd, [crowd.at_work(crowd.setup(windows=windows))]) for name, windows in WINDOWS]


def by_partitions() -> list[Variant]:
    crowd = Crowd(PEOPLE_OF_FUNNELS, WALKS)
    return [Variant(str(many), crowd, _split(crowd.at_work(crowd.setup()), many), amount=many) for many in PARTITIONS]


COMPARISONS = (
    Comparison("people: a step a turn, so that every state is met cold", partial(by_people, STEPS, (*PEOPLE, PEOPLE_MOST))),
    Comparison("people: a walk a turn, as people do", partial(by_people, WALKS, PEOPLE)),
    Comparison("other funnels on the source", by_other_funnels),
    Comparison(f"funnels that every event matters to, in chunks of {MATCHING_RECORDS:,}", by_matching_funnels, MATCHING_RECORDS, "funnel"),
    Comparison("dimensions and their values", by_dimensions),
    Comparison("windows", by_windows),
    Comparison(f"partitions that {PARTITIONS_RECORDS:,} records come from", by_partitions, PARTITIONS_RECORDS),
)


def _other(number: int, **more: object) -> Funnel:
    """A funnel of four stages whose events never come."""
    stages = [{"name": str(stage), "event": f"other_{number}_{stage}"} for stage in range(4)]
    return {"name": f"other_{number}", "source": "web", "conversion_window": "10m", "windows": ["5m", "1h"], "stages": stages, **more}


def _never(number: int) -> Funnel:
    """A funnel whose first stage matches the commonest event by name, and never by its condition."""
    found = _other(number)
    found["stages"][0] |= {"event": EVENTS[0], "where": {"properties.channel": f"partner_{number}"}}
    return found


def _same(crowd: Crowd, many: int) -> list[Funnel]:
    """Funnels like the bench's, of other conversion windows: equal ones would be one definition."""
    first = crowd.setup().funnels[0].model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return [{**first, "name": f"{first['name']}_{n}", "conversion_window": f"{crowd.window_seconds + n}s"} for n in range(1, many + 1)]


def _split(work: OwnWork, partitions: int) -> list[OwnWork]:
    """The same worker with its people in so many shards."""
    shards = [OwnWork(work.shard.plan) for _ in range(partitions)]
    for name, state in work.shard.states.items():
        shards[_partition_of(name.encode(), partitions)].shard.states[name] = state
    for shard in shards:
        shard.shard.watermark_us = work.shard.watermark_us
    return shards


def _partition_of(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partitions
