"""The engine's every count equals a recount by brute force, whatever is sent and however it is cut."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.property.brute import SECOND, Cell, Dimension, Funnel, Stage, buckets, totals, window, window_begin
from tests.property.scenario import BEGIN_US, Live, Scenario, agree, cut, defined, event_of, replayed, scenario

# A failure is made smaller before it is shown, which takes minutes.
pytestmark = pytest.mark.timeout(600)
BOUNDED = settings(
    report_multiple_bugs=False,
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
randoms = st.randoms(use_true_random=False)


@BOUNDED
@given(chance=randoms, events=st.integers(0, 25), late=st.booleans())
def test_a_file_is_counted_as_defined(chance: random.Random, events: int, late: bool) -> None:
    sent = scenario(chance, events=events, entities=3, late=late)
    found = replayed(sent.config, [raw for raw, _ in sent.records()], sent.funnels)
    agree(found, defined(sent.truth(), sent.funnels, per_entity=True), sent)


@BOUNDED
@given(chance=randoms, events=st.integers(0, 25))
def test_a_stream_is_counted_as_defined_however_it_is_cut(chance: random.Random, events: int) -> None:
    """Partitions, chunks, restarts from stored states, and a reader that follows: all as one sorted file."""
    sent = scenario(chance, events=events, entities=4, late=False)
    truth = sent.truth()
    assert not truth.fates["late"]
    agree(asyncio.run(Live(sent, chance).run()), defined(truth, sent.funnels), sent)


@BOUNDED
@given(chance=randoms, events=st.integers(0, 25))
def test_a_stream_with_late_events_is_counted_as_defined(chance: random.Random, events: int) -> None:
    """Late is judged in order of arrival, wherever the chunks begin and end."""
    sent = scenario(chance, events=events, entities=3, late=True)
    agree(asyncio.run(Live(sent, chance).run()), defined(sent.truth(), sent.funnels), sent)


@pytest.mark.parametrize("block", range(6))
def test_short_streams_of_few_people_are_counted_as_defined(block: int) -> None:
    """Breadth: two people, so that most of what one event can do to another happens."""
    for seed in range(50 * block, 50 * (block + 1)):
        chance = random.Random(seed)
        sent = scenario(chance, events=30, entities=2, late=seed % 3 == 0)
        agree(asyncio.run(Live(sent, chance).run()), defined(sent.truth(), sent.funnels), f"seed {seed}\n{sent}")


@pytest.mark.parametrize("block", range(4))
def test_files_about_few_people_are_counted_as_defined(block: int) -> None:
    for seed in range(50 * block, 50 * (block + 1)):
        sent = scenario(random.Random(-1 - seed), events=30, entities=2, late=seed % 3 == 0)
        found = replayed(sent.config, [raw for raw, _ in sent.records()], sent.funnels)
        agree(found, defined(sent.truth(), sent.funnels, per_entity=True), f"seed {-1 - seed}\n{sent}")


@pytest.mark.parametrize("seed", range(8))
def test_a_long_stream_is_counted_as_defined(seed: int) -> None:
    chance = random.Random(seed)
    sent = scenario(chance, events=1200, entities=25, late=seed % 2 == 1)
    agree(asyncio.run(Live(sent, chance).run()), defined(sent.truth(), sent.funnels), f"seed {seed}\n{sent}")


@pytest.mark.parametrize("seed", range(9))
def test_people_with_many_events_within_the_lateness_are_counted_as_defined(seed: int) -> None:
    """So that a late event, or one sent again, finds many others around it and some just out of reach."""
    chance = random.Random(seed)
    sent = scenario(chance, events=160, entities=2, late=seed % 3 == 0, dense=True)
    agree(asyncio.run(Live(sent, chance).run()), defined(sent.truth(), sent.funnels), f"seed {seed}\n{sent}")


@pytest.mark.parametrize("order", ["ordered", "any", "strict"])
def test_somebody_busy_is_counted_as_defined(order: str) -> None:
    """More events within the allowed lateness than are remembered of anybody; but none comes more than 170 events late."""
    chance = random.Random(order)
    stages = tuple(Stage(frozenset(name)) for name in ("a", "b", "ac"))
    dimensions = {"channel": Dimension()}
    funnels = [
        Funnel("f0", stages, 10 * SECOND, (60, 3600), dimensions, order),
        Funnel("f1", stages[::-1], 10 * SECOND, (60,), {}, "ordered"),  # simultaneous events in another order
    ]
    events, time_us = [], BEGIN_US
    for number in range(600):
        time_us += chance.choice((0, 1, 1000, SECOND // 2, SECOND))
        event_id = chance.choice(events[-30:]).event_id if events and chance.random() < 0.15 else f"e{number}"
        if any(e.event_id == event_id and e.time_us == time_us for e in events[-30:]):
            event_id = f"e{number}"
        events.append(event_of("u0", chance.choice("abc"), time_us, event_id, {"channel": chance.choice(("ads", "mail"))}))
    for share, behind in ((0.2, 0), (0.02, 170), (0.1, 170)):
        arriving = sorted(range(len(events)), key=lambda place: place + chance.randint(0, behind))
        records = [(events[place].raw, events[place]) for place in arriving]
        sent = Scenario(funnels, 600, [list(cut(chance, records, share)), [[]]], 256)
        agree(asyncio.run(Live(sent, chance).run()), defined(sent.truth(), funnels), f"chunks: {share}, behind: {behind}")


def test_the_streams_hold_what_can_happen() -> None:
    """Every fate and every family, in every order, comes about often enough to mean something."""
    fates: Counter[str] = Counter()
    families: Counter[tuple[str, str]] = Counter()
    for seed in range(300):
        sent = scenario(random.Random(seed), events=30, entities=2, late=seed % 3 == 0)
        truth = sent.truth()
        fates += truth.fates
        for funnel in sent.funnels:
            families += Counter((funnel.order, fact.cell.family) for fact in truth.facts(funnel))
    assert min(fates[fate] for fate in ("applied", "filtered", "late", "duplicate", "rejected")) > 200, fates
    assert min(families[order, family] for order in ("ordered", "any", "strict") for family in "unvecxh") > 50, families


@pytest.mark.parametrize("block", range(4))
def test_users_of_a_window_are_the_people_who_reached_the_stage_in_it(block: int) -> None:
    """Of the recount: a user counted under its latest reach is counted in every window that holds any of its reaches."""
    for seed in range(10 * block, 10 * (block + 1)):
        sent = scenario(random.Random(seed), events=60, entities=6, late=False)
        truth = sent.truth()
        for funnel in sent.funnels:
            reaches, facts = truth.reaches(funnel), truth.facts(funnel)
            for span in funnel.windows:
                begin_us = window_begin(span, truth.time_us)
                people = {(r.stage, r.event.entity) for r in reaches if r.event.time_us >= begin_us}
                users = {c.stage: n for c, n in window(facts, span, truth.time_us).items() if c.family == "u" and c.dimension is None}
                assert users == Counter(stage for stage, _ in people), f"seed {seed}, window {span}s"


@pytest.mark.parametrize("seed", range(4))
def test_buckets_of_every_width_add_up_to_the_counts_since_ever(seed: int) -> None:
    """Of the recount: what the engine is compared with must not lose anybody either."""
    sent = scenario(random.Random(seed), events=300, entities=6, late=False)
    truth = sent.truth()
    for funnel in sent.funnels:
        facts = truth.facts(funnel)
        for width, families in funnel.families_by_width().items():
            ever = {cell: count for cell, count in totals(facts).items() if cell.family in families}
            summed: Counter[Cell] = Counter()
            for cells in buckets(facts, width, families).values():
                summed.update(cells)
            assert summed == ever
