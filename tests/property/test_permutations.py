"""Order of arrival, chunks and the splitting of counts change nothing that they must not change.

What is compared here is the engine with itself, so that nothing of the recount is taken on trust;
the same is asked of the recount, since it is what the engine is compared with elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.replay import replay
from tests.property.brute import SECOND, Dimension, Funnel, Stage
from tests.property.scenario import (
    BEGIN_US,
    LATENESS,
    Counted,
    Live,
    Scenario,
    agree,
    arrivals,
    config_of,
    counted,
    cut,
    defined,
    event_of,
    random_funnel,
    replayed,
    scenario,
)

pytestmark = pytest.mark.timeout(600)
BOUNDED = settings(
    report_multiple_bugs=False,
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
randoms = st.randoms(use_true_random=False)
SEPARATOR = "\x1f"


def as_bytes(found: Counted) -> bytes:
    return json.dumps(sorted(map(repr, found.items()))).encode()


def in_order_of_time(sent: Scenario) -> Scenario:
    """The same records, sorted by time, in one chunk a partition."""
    sorted_ = [sorted((r for chunk in chunks for r in chunk), key=lambda r: r[1].time_us if r[1] else 0) for chunks in sent.partitions]
    return Scenario(sent.funnels, sent.lateness, [[records] for records in sorted_], sent.journal_length)


def shuffled(chance: random.Random, sent: Scenario) -> Scenario:
    """The same records in another order that holds no late event, and cut otherwise."""
    partitions = []
    for chunks in in_order_of_time(sent).partitions:
        timed = [(event.time_us if event else 0, (raw, event)) for chunk in chunks for raw, event in chunk]
        partitions.append(list(cut(chance, arrivals(chance, timed, sent.lateness * SECOND), chance.choice((0.05, 0.3, 1.0)))))
    return Scenario(sent.funnels, sent.lateness, partitions, sent.journal_length)


def by_replay(sent: Scenario) -> Counted:
    return replayed(sent.config, [raw for raw, _ in sent.records()], sent.funnels)


def by_live(sent: Scenario) -> Counted:
    return asyncio.run(Live(sent, random.Random(1)).run())


def by_recount(sent: Scenario) -> Counted:
    return defined(sent.truth(), sent.funnels, per_entity=True)


WAYS = {"file": by_replay, "stream": by_live, "recount": by_recount}
each_way = pytest.mark.parametrize("way", WAYS)


@pytest.mark.parametrize("way", ["file", "stream"])
@BOUNDED
@given(chance=randoms, events=st.integers(2, 20))
def test_any_order_within_the_allowed_lateness_gives_the_same_counts(way: str, chance: random.Random, events: int) -> None:
    sent = scenario(chance, events=events, entities=3, late=False, lateness=chance.choice(LATENESS))
    other = shuffled(chance, sent)
    first, second = WAYS[way](in_order_of_time(sent)), WAYS[way](other)
    agree(second, first, other)
    assert as_bytes(first) == as_bytes(second)


@each_way
@pytest.mark.parametrize("seed", range(4))
def test_a_long_stream_may_be_shuffled_within_the_allowed_lateness(way: str, seed: int) -> None:
    chance = random.Random(seed)
    sent = scenario(chance, events=500, entities=10, late=False, lateness=LATENESS[seed])
    expected = as_bytes(WAYS[way](in_order_of_time(sent)))
    for _ in range(2):
        assert as_bytes(WAYS[way](shuffled(chance, sent))) == expected, f"seed {seed}"


CONTENTS = (
    ("a", {"channel": "ads"}),
    ("a", {"channel": "mail"}),
    ("a", {}),
    ("c", {"good": True, "amount": 1}),
    ("c", {"good": True, "amount": 2}),
    ("c", {"good": False}),
)


@pytest.mark.parametrize("rounds", [1, 100])
@pytest.mark.parametrize("same", list(combinations(CONTENTS, 3)))
def test_of_one_id_and_one_time_the_same_event_counts_in_any_order(
    same: tuple[tuple[str, dict[str, object]], ...], rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which one it is does not depend on what came first, though they differ in what they match and bring. `rounds`: events a chunk."""
    stages = (Stage(frozenset("a")), Stage(frozenset("b")), Stage(frozenset("c"), {"good": True}, valued=True))
    funnel = Funnel("f", stages, 60 * SECOND, (3600,), {"channel": Dimension()})
    told = [("a", 0, "", {}), ("b", 1, "", {}), *((name, 2, "1", properties) for name, properties in same)]
    orders = list(permutations(told))  # of arrival, each of another entity
    sent = [
        event_of(f"u{number}", name, BEGIN_US + time, event_id, properties)
        for turn in range(len(told))
        for number, (name, time, event_id, properties) in ((number, order[turn]) for number, order in enumerate(orders))
    ]
    monkeypatch.setattr("streams.replay.CHUNK_RECORDS", len(orders) * rounds)
    found = replayed(config_of([funnel], 60), [event.raw for event in sent], [funnel])
    matching = sum(name == "a" or bool(properties["good"]) for name, properties in same)
    assert found["fate", "applied"] == 3 * len(orders)
    assert found.get(("fate", "duplicate"), 0) == (matching - 1) * len(orders)
    depends = {what: n / len(orders) for (where, what), n in found.items() if where == "f ever" and n % len(orders)}
    assert not depends, f"not the same for every order: {depends}"


@pytest.mark.parametrize("order", [("both", "channel", "device"), ("channel", "device", "both")])
def test_a_combination_takes_room_only_for_what_it_shows(order: tuple[str, ...]) -> None:
    """Not for what it would have shown while its parts were not admitted yet."""
    dimensions = {"channel": Dimension(), "device": Dimension(), "both": Dimension(("channel", "device"))}
    stages = (Stage(frozenset("a")), Stage(frozenset("b")))
    funnel = Funnel("f", stages, 60 * SECOND, (3600,), {name: dimensions[name] for name in order})
    event = event_of("u", "a", BEGIN_US, "", {"channel": "ads", "device": "ios"})
    found = replay(config_of([funnel], 60, max_values=1), [event.raw])
    shown = [name for name in found.counts["f"].totals if name.startswith(f"u0{SEPARATOR}both")]
    assert shown == [f"u0{SEPARATOR}both{SEPARATOR}ads / ios"]


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_cut_anywhere_is_counted_as_in_one_piece(seed: int) -> None:
    """With late events too: they are late in any chunk."""
    chance = random.Random(seed)
    sent = scenario(chance, events=150, entities=4, late=True)
    expected = by_live(Scenario(sent.funnels, sent.lateness, [[[r for c in p for r in c]] for p in sent.partitions], 256))
    for share in (0.05, 0.5, 1.0):
        pieces = [list(cut(chance, [r for c in p for r in c], share)) for p in sent.partitions]
        agree(by_live(Scenario(sent.funnels, sent.lateness, pieces, 256)), expected, f"seed {seed}, share {share}")


Cells = dict[str, int]


def by_place(found: Counted) -> Iterator[tuple[str, Cells]]:
    """Where (a bucket, a window, ever) -> cells."""
    places: defaultdict[str, Cells] = defaultdict(dict)
    for (where, what), count in found.items():
        if where not in ("", "fate") and what != "reaches":
            places[where][what] = count
    yield from places.items()


def assert_consistent(found: Counted, funnels: Sequence[Funnel]) -> None:
    """What holds among the counts of one place, whatever was sent."""
    dimensions = {funnel.name: tuple(funnel.dimensions) for funnel in funnels}
    for where, cells in by_place(found):
        for name, count in cells.items():
            assert name[0] == "v" or count > 0, f"{where}, {name!r}: {count}"
            entries = cells.get(f"e{name[1:]}", 0)
            assert name[0] != "c" or count <= entries, f"{where}, {name!r}: {count} conversions of {entries} entries"
        for total in {name.partition(SEPARATOR)[0] for name in cells if name[0] != "h"}:
            for dimension in dimensions[where.partition(" ")[0]]:
                split = sum(n for name, n in cells.items() if name.startswith(f"{total}{SEPARATOR}{dimension}{SEPARATOR}"))
                assert split == cells.get(total, 0), f"{where}, {total}: {cells.get(total, 0)}, the values of {dimension}: {split}"
        for stage in range(1, 5):
            ages = sum(n for name, n in cells.items() if name.startswith(f"h{stage}:"))
            converted = cells.get(f"c{stage - 1}", 0)
            assert ages == converted, f"{where}: {ages} ages of conversion into stage {stage}, {converted} conversions"


def assert_conversions_meet(found: Counted) -> None:
    """Counted by bucket of the opening or of the conversion, there are as many; so over all buckets of a width, and ever."""
    sums: Counter[tuple[str, str, str]] = Counter()
    for where, cells in by_place(found):
        funnel, kind, *rest = where.split()
        for name, count in cells.items():
            stage, of, value = name[1:].partition(SEPARATOR)
            if kind != "window" and name[0] in "xc":
                sums[f"{funnel} {rest[-1:] or kind}", name[0], f"{int(stage) - (name[0] == 'x')}{of}{value}"] += count
    for place, _, rest in list(sums):
        opened, converted = sums[place, "c", rest], sums[place, "x", rest]
        assert opened == converted, f"{place}, stage {rest!r}: {opened} by opening, {converted} by conversion"


@each_way
@pytest.mark.parametrize("block", range(4))
def test_counts_fit_each_other(way: str, block: int) -> None:
    """Values add up to totals, conversions to entries, ages to conversions, fates to records."""
    for seed in range(10 * block, 10 * (block + 1)):
        sent = scenario(random.Random(seed), events=80, entities=5, late=seed % 3 == 0)
        found = WAYS[way](sent)
        assert_consistent(found, sent.funnels)
        if _spans_less_than(sent, 3600):  # no bucket of any width is gone
            assert_conversions_meet(found)
        assert_conversions_meet({key: count for key, count in found.items() if key[0].endswith(" ever")})
        assert sum(count for (where, _), count in found.items() if where == "fate") == len(sent.records()), f"seed {seed}"


def _spans_less_than(sent: Scenario, seconds: int) -> bool:
    times = [event.time_us for _, event in sent.records() if event]
    return max(times) - min(times) < (seconds - 10) * SECOND


@pytest.mark.parametrize("max_values", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_values_beyond_the_bound_are_still_counted(seed: int, max_values: int) -> None:
    """Which values a registry admits may depend on the order of arrival; that they add up to the total, and the totals, may not."""
    chance = random.Random(seed)
    funnels = [random_funnel(chance, number) for number in range(3)]
    sent = scenario(chance, events=150, entities=5, late=False)
    config = config_of(funnels, sent.lateness, max_values)
    shuffled_totals = []
    for records in (in_order_of_time(sent).records(), shuffled(chance, sent).records()):
        outcome = replay(config, [raw for raw, _ in records])
        found = counted(outcome.counts, funnels, outcome.fates, outcome.time_us)
        assert_consistent(found, funnels)
        for funnel in funnels:
            for dimension, spec in funnel.dimensions.items():
                ever = [what.split(SEPARATOR) for where, what in found if where == f"{funnel.name} ever"]
                shown = {parts[2] for parts in ever if parts[1:2] == [dimension]} - {"__none__", "__other__"}
                assert spec.allow or len(shown) <= max_values, f"seed {seed}, {funnel.name} by {dimension}: {shown}"
        shuffled_totals.append({key: count for key, count in found.items() if SEPARATOR not in key[1]})
    assert shuffled_totals[0] == shuffled_totals[1]
