"""Late events, duplicates and simultaneous events: what the newest events of an entity are remembered for."""

from __future__ import annotations

import json
from itertools import permutations

import pytest

from streams.ages import age_bin
from streams.tail import LAZY, TAIL_KEPT, TAIL_MAX, unpack
from streams.windows import age_cell
from tests.unit.test_counting import AT, PAYING, Shard, books, config, event, events, funnel


@pytest.fixture
def shard() -> Shard:
    return Shard(config())


def tail_length(shard: Shard, entity: str = "u") -> int:
    return int(unpack(shard.stored[entity])[3])


def fates_of(shard: Shard, text: str) -> list[dict[str, int]]:
    """The fates of events that come one by one."""
    return [shard.feed(record) for record in events(text)]


# Late events


def test_a_late_event_takes_its_place_between_two(shard: Shard) -> None:
    shard.feed(*events("a@0 c@20"))
    assert shard.feed(*events("b@10")) == {"applied": 1}
    assert (shard.users(), shard.totals("n"), shard.totals("e"), shard.totals("c")) == ([1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 0])
    assert shard.books() == books(config(), events("a@0 b@10 c@20"))


def test_a_late_event_may_take_back_what_later_ones_reached(shard: Shard) -> None:
    """Strictly, nothing may come between; in the other orders a newer start, or an exclusion, does the like."""
    setup = config(funnel("f", order="strict"), funnel("g", exclude=[{"event": "x", "from": "1a", "to": "3c"}]))
    shard = Shard(setup)
    shard.feed(*events("a@0 b@10 c@20"))
    assert shard.totals("u", "f") == shard.totals("u", "g") == [1, 1, 1]
    assert shard.feed(*events("x@5")) == {"applied": 1}
    for name in "fg":
        for family, counts in (("u", [1, 0, 0]), ("n", [1, 0, 0]), ("e", [1, 0, 0]), ("c", [0, 0, 0]), ("x", [0, 0, 0])):
            assert shard.totals(family, name) == counts, (name, family)
    assert shard.books() == books(setup, events("a@0 x@5 b@10 c@20"))


def test_a_late_start_moves_the_chain_under_its_values() -> None:
    shard = Shard(config(funnel(dimensions={"d": "properties.d"})))
    shard.feed(event("a", 0, d="ads"), event("b", 10), event("c", 70))
    assert shard.by_value("d") == {"ads": [1, 1, 0]}
    shard.feed(event("a", 10.5, d="late"), event("b", 20))
    assert shard.by_value("d") == {"ads": [0, 0, 0], "late": [1, 1, 1]}
    assert shard.totals("e", "f", "d", "ads") == [1, 1, 0], "the openings stay where they were"


def test_a_late_event_changes_only_what_it_changes() -> None:
    """What the events around it counted is counted backwards and forwards: nothing of that is left."""
    shard = Shard(config())
    shard.feed(*events("a@0 b@10 a@20 b@31"))
    write = shard.counted(*events("b@11")).write
    assert [cells for cells in write.deltas.totals.values() if cells] == [{"n1": 1}]
    assert {(width, bucket * width - AT): cells for (_, width, bucket), cells in write.deltas.buckets.items()} == {(10, 10): {"n1": 1}}


@pytest.mark.parametrize(
    ("lateness", "second", "fate"),
    [("30s", 70, "applied"), ("30s", 69.999, "late"), ("0s", 100, "applied"), ("0s", 99.999, "late"), ("60s", 40, "applied")],
)
def test_an_event_is_late_when_it_is_older_than_the_newest_by_more_than_the_allowed_lateness(
    lateness: str, second: float, fate: str
) -> None:
    shard = Shard(config(allowed_lateness=lateness))
    shard.feed(event("a", 0), event("a", 100))
    before = shard.books()
    assert shard.feed(event("a", second, d="other")) == {fate: 1}
    assert (shard.books() == before) == (fate == "late"), "a late one changes nothing"


def test_lateness_is_that_of_the_entity_not_of_the_chunk_nor_of_the_partition(shard: Shard) -> None:
    shard.feed(event("a", 200, "v"))
    assert shard.feed(event("a", 10), event("a", 100), event("a", 39.999), event("b", 40), event("b", 30, "w")) == {"applied": 4, "late": 1}
    assert fates_of(shard, "c@39 c@41") == [{"late": 1}, {"applied": 1}]


def test_a_late_event_makes_nobody_newer_and_a_filtered_one_neither(shard: Shard) -> None:
    assert fates_of(shard, "a@100 x@500 a@30 b@40") == [{"applied": 1}, {"filtered": 1}, {"late": 1}, {"applied": 1}]


def test_an_event_of_another_funnel_makes_the_entity_newer() -> None:
    shard = Shard(config(funnel("f", "ab"), funnel("g", "yz")))
    assert fates_of(shard, "a@0 y@100 b@39 b@40") == [{"applied": 1}, {"applied": 1}, {"late": 1}, {"applied": 1}]


def test_an_event_may_come_as_late_as_allowed_again_and_again(shard: Shard) -> None:
    """Each a minute behind the newest, and before all that came since."""
    given = "a@0 c@60 b@1 c@61 b@2 a@3 c@63 a@3.5"
    assert all(fate == {"applied": 1} for fate in fates_of(shard, given))
    assert shard.books() == books(config(allowed_lateness="10m"), events(given))


# Duplicates


def test_the_same_event_sent_twice_counts_once(shard: Shard) -> None:
    once = event("a", 0)
    assert shard.feed(once, once) == {"applied": 1, "duplicate": 1}
    assert shard.feed(once) == {"duplicate": 1}
    assert (shard.users(), shard.totals("n")) == ([1, 0, 0], [1, 0, 0])


def test_an_exact_copy_of_an_event_in_the_middle_is_a_duplicate(shard: Shard) -> None:
    shard.feed(*events("a@0 b@10 c@20"))
    before = shard.books()
    assert shard.feed(*events("b@10 a@0 c@20")) == {"duplicate": 3}
    assert shard.books() == before


@pytest.mark.parametrize(("second", "fate"), [(30, "duplicate"), (30.001, "applied"), (29, "duplicate"), (0, "duplicate")])
def test_an_identity_is_remembered_for_the_allowed_lateness_inclusive(second: float, fate: str) -> None:
    for chunks in ([["a#1@0", f"a#1@{second}"]], [["a#1@0"], [f"a#1@{second}"]], [["a#1@0"], ["b@10"], [f"a#1@{second}"]]):
        shard = Shard(config(allowed_lateness="30s"))
        *_, last = [shard.feed(*events(" ".join(chunk))) for chunk in chunks]
        assert last.get(fate, 0) == (2 if fate == "applied" and len(chunks) == 1 else 1)
        assert last.get("duplicate", 0) == (fate == "duplicate")


def test_an_identity_is_remembered_past_other_events(shard: Shard) -> None:
    shard.feed(*(event("a", second, event_id=f"{second}") for second in range(60)))
    assert shard.feed(event("a", 60, event_id="0")) == {"duplicate": 1}


def test_an_identity_is_forgotten_after_the_allowed_lateness_even_if_events_came_between(shard: Shard) -> None:
    shard.feed(*events("a#1@0 a#2@50"))
    assert shard.feed(*events("a#1@100")) == {"applied": 1}


def test_of_an_event_resent_with_another_time_the_earlier_counts_whatever_arrived_first() -> None:
    shard = Shard(config())
    assert fates_of(shard, "a@0 b#1@15 b#1@10") == [{"applied": 1}, {"applied": 1}, {"duplicate": 1}]
    assert shard.books() == books(config(), events("a@0 b#1@10"))
    for arriving in permutations(events("a@0 b#1@10 b#1@15 c#1@25")):
        assert books(config(), list(arriving)) == books(config(), *([r] for r in arriving)) == books(config(), events("a@0 b#1@10"))


def test_a_duplicate_hides_no_later_event() -> None:
    """1 at 40 s repeats that of 0 s; the one at 80 s repeats neither, since a duplicate is nothing to repeat."""
    setup = config(allowed_lateness="60s")
    for arriving in permutations(events("a#1@0 a#1@40 a#1@80")):
        shard = Shard(setup)
        fates = [shard.feed(record) for record in arriving]
        if {"late": 1} not in fates:
            assert (fates.count({"applied": 1}), fates.count({"duplicate": 1})) == (2, 1)
            assert shard.totals("n") == [2, 0, 0]


def test_what_a_resent_event_brought_is_taken_back_when_the_earlier_one_comes() -> None:
    shard = Shard(config(funnel(stages=PAYING, dimensions={"d": "properties.d"})))
    shard.feed(event("a", 0, d="ads"), event("b", 15, event_id="1", paid=5), event("a", 20, event_id="2", d="tv"))
    assert shard.feed(event("b", 10, event_id="1", paid=3), event("a", 19, event_id="2", d="mail")) == {"duplicate": 2}
    assert shard.totals("v") == [0, 3_000_000]
    assert shard.by_value("d") == {"ads": [0, 1], "mail": [1, 0], "tv": [0, 0]}


def test_a_duplicate_changes_nothing_in_a_strict_funnel() -> None:
    setup = config(funnel(order="strict"))
    shard = Shard(setup)
    assert fates_of(shard, "x#1@0 a@1 x#1@2 b@3") == [{"applied": 1}, {"applied": 1}, {"duplicate": 1}, {"applied": 1}]
    assert shard.totals("n") == [1, 1, 0]


# How far back the tail goes


def test_the_tail_goes_back_twice_the_allowed_lateness(shard: Shard) -> None:
    """Someone with an event every 5 s for an hour: the last two minutes, and at most as much again that is taken out lazily."""
    for second in range(0, 3600, 5):
        shard.feed(event("a", second))
        assert tail_length(shard) <= 240 // 5 + 1
    assert tail_length(shard) >= 120 // 5 + 1
    for second in range(3600, 4000, 100):
        shard.feed(event("a", second))
    assert tail_length(shard) <= LAZY


def test_the_tail_of_someone_who_is_never_in_order_goes_back_no_further(shard: Shard) -> None:
    for second in range(0, 1200, 10):
        shard.feed(event("a", second + 5), event("a", second))
    assert tail_length(shard) <= 120 // 5 + 2 + LAZY


def test_what_a_chunk_leaves_before_the_tail_is_not_forgotten() -> None:
    """A late event is folded from there on."""
    shard = Shard(config(funnel(conversion_window="10m")))
    shard.feed(*events("a@0 b@200"))
    assert shard.feed(*events("b@150")) == {"applied": 1}
    shard.feed(*events("c@210"))
    assert (shard.totals("u"), shard.totals("n")) == ([1, 1, 1], [1, 2, 1])


def test_an_event_as_late_as_allowed_finds_what_it_repeats_as_much_earlier(shard: Shard) -> None:
    shard.feed(*events("a#1@0"), *(event("a", second) for second in range(1, 121)))
    assert shard.feed(*events("a#1@60")) == {"duplicate": 1}
    assert shard.feed(*events("b#1@60.5")) == {"applied": 1}


def test_a_tail_that_was_shortened_counts_on_as_if_it_had_not_been() -> None:
    given = [event("abcab"[n % 5], n * 3, event_id=str(n % 16 if n % 4 == 0 else n)) for n in range(200)]
    late = [event("b", n * 3 - 58) for n in range(20, 200, 9)]
    arriving = [*given]
    for n, record in zip(range(20, 200, 9), late):
        arriving.insert(arriving.index(given[n]) + 1, record)
    setup = config(funnel(windows=["1h"]))
    one_by_one, together = Shard(setup), Shard(setup)
    fates = [one_by_one.feed(record) for record in arriving]
    assert together.feed(*arriving) == {fate: sum(f.get(fate, 0) for f in fates) for fate in ("applied", "duplicate")}
    assert one_by_one.books() == together.books()
    assert tail_length(one_by_one) < 80


# A full tail


def crowd(count: int, begin: float = 0.0) -> list[bytes]:
    """So many events of one entity, a tenth of a second apart."""
    return [event("a", begin + n / 10) for n in range(count)]


@pytest.mark.parametrize("chunk", [1, 7, 1000], ids="chunks of {}".format)
def test_a_tail_has_a_bound(shard: Shard, chunk: int) -> None:
    records = crowd(1000)
    for at in range(0, 1000, chunk):
        shard.feed(*records[at : at + chunk])
        assert tail_length(shard) <= TAIL_MAX
    assert shard.totals("n") == [1000, 0, 0]
    assert tail_length(shard) > TAIL_KEPT // 2


def test_a_tail_has_a_bound_on_the_slow_path_too(shard: Shard) -> None:
    records = crowd(600)[::-1]
    for at in range(0, 600, 150):
        shard.feed(*records[at : at + 150])
        assert tail_length(shard) <= TAIL_MAX


def test_what_would_stand_before_a_full_tail_is_late_and_told_apart(shard: Shard) -> None:
    for record in crowd(300):
        shard.feed(record)
    before = shard.books()
    assert shard.feed(*events("b@0.05 b@5")) == {"late:tail_full": 2}
    assert shard.books() == before
    assert shard.feed(*events("b@29")) == {"applied": 1}, "within the tail there is room"
    assert shard.totals("n") == [300, 1, 0]
    shard.feed(*events("a@100"))
    assert shard.feed(*events("b@5 b@40")) == {"late": 1, "applied": 1}


def test_a_full_tail_forgets_its_bound_when_time_has_passed(shard: Shard) -> None:
    shard.feed(*crowd(300))
    shard.feed(*events("a@1000"))
    assert shard.feed(*events("b@940 b@939")) == {"applied": 1, "late": 1}
    assert tail_length(shard) == 2


def test_simultaneous_events_leave_a_full_tail_together(shard: Shard) -> None:
    """Else one that comes later, at that very moment, might have to stand before one that is gone."""
    shard.feed(*(event("a", 0, n=n) for n in range(TAIL_MAX)))
    assert shard.feed(event("b", 0)) == {"applied": 1}
    assert shard.feed(event("c", 0)) == {"late:tail_full": 1}
    assert shard.totals("n") == [TAIL_MAX, 1, 0]


def test_what_leaves_a_full_tail_together_keeps_its_place_in_every_funnel() -> None:
    """The a, b and c of one moment, which g takes in another order than f, are all gone or all there."""
    setup = config(funnel("f", "abc"), funnel("g", "cba"))
    moment = [*(event("a", 0, event_id=f"0{n:02}") for n in range(64)), *events("c#1@0 b#2@0")]
    shard = Shard(setup)
    shard.feed(*moment)
    shard.feed(*crowd(192, 1))
    assert shard.feed(*events("a@20.05")) == {"applied": 1}, "which counts the tail again"
    shard.feed(*events("b@20.06 c@20.07"))
    assert (shard.totals("u", "f"), shard.totals("n", "f")) == ([1, 1, 1], [257, 2, 2])
    assert (shard.totals("u", "g"), shard.totals("n", "g")) == ([1, 1, 1], [2, 2, 257])


def test_a_duplicate_stays_one_when_what_it_repeats_leaves_a_full_tail(shard: Shard) -> None:
    shard.feed(*events("a#1@0"), *crowd(70, 0.01), *events("b#1@8"))
    shard.feed(*crowd(190, 9))
    assert shard.totals("n") == [261, 0, 0]
    shard.feed(*events("a@20.05 b@21.05"))
    assert (shard.totals("u"), shard.totals("n"), shard.totals("e")) == ([1, 1, 0], [262, 1, 0], [1, 1, 0])


def test_in_a_full_tail_late_events_find_their_places() -> None:
    setup = config(allowed_lateness="60s")
    records = crowd(240)
    late = [event("b", n / 10 + 0.05) for n in range(230, 240)]
    shard = Shard(setup)
    shard.feed(*records)
    for record in reversed(late):
        assert shard.feed(record) == {"applied": 1}
    assert shard.books() == books(setup, sorted([*records, *late], key=lambda r: json.loads(r)["timestamp"]))
    for record in crowd(20, 24):
        shard.feed(record)
    assert tail_length(shard) <= TAIL_MAX
    assert shard.totals("n") == [260, 10, 0]


# A changed layout

BESIDE = {"e": funnel("e", "ac"), "f": funnel("f", dimensions={"d": "properties.d"}), "g": funnel("g", "cba")}


@pytest.mark.parametrize("then", [("e", "f", "g"), ("f", "e"), ("f",), ("g", "f"), ("e", "f")])
def test_a_funnel_keeps_its_chains_when_others_come_and_go(then: tuple[str, ...]) -> None:
    shard = Shard(config(BESIDE["e"], BESIDE["f"]))
    shard.feed(event("a", 0, d="ads", event_id="1"), event("b", 10, event_id="2"))
    shard.restart(config(*(BESIDE[name] for name in then)))
    assert fates_of(shard, "c#2@30 c@60") == [{"duplicate": 1}, {"applied": 1}], "and knows what repeats its events"
    assert shard.users("f") == [1, 1, 1]
    assert shard.by_value("d", "f") == {"ads": [1, 1, 1]}
    assert (shard.totals("e"), shard.totals("c")) == ([1, 1, 1], [1, 1, 0])


CHANGES = {
    "a funnel more": ((), (BESIDE["g"],)),
    "a funnel less": ((BESIDE["g"],), ()),
    "another funnel changed": ((BESIDE["g"],), (funnel("g", "cbx"),)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_layout_seals_the_tail(change: str) -> None:
    """Its events were matched by other definitions: what would have to stand among them comes too late."""
    before, after = ((funnel(), *others) for others in CHANGES[change])
    shard = Shard(config(*before))
    shard.feed(*events("a@0 b@10"))
    shard.restart(config(*after))
    assert shard.feed(*events("b@5 c@12")) == {"late:tail_full": 1, "applied": 1}
    assert (shard.totals("n"), shard.totals("c")) == ([1, 1, 1], [1, 1, 0])
    assert shard.feed(*events("b@11")) == {"applied": 1}, "after the sealed ones there is room"
    assert shard.books() == shard.books() | {("f", "n1"): 2, ("f", "c1"): 1}


@pytest.mark.parametrize("second", [30, 69, 100, 129, 200])
def test_what_comes_after_a_changed_layout_is_of_the_new_one(second: int) -> None:
    shard = Shard(config())
    shard.feed(*events("a@0 b@10"))
    shard.restart(config(funnel(), BESIDE["g"]))
    assert fates_of(shard, f"a@{second} b@{second - 1} a@{second - 2}") == [{"applied": 1}] * 3
    assert shard.totals("n", "g") == [0, 0, 0]
    assert shard.totals("n")[0] == 3


def test_an_exact_copy_of_a_sealed_event_changes_nothing() -> None:
    shard = Shard(config())
    shard.feed(*events("a#1@0 b@10"))
    shard.restart(config(funnel(), BESIDE["g"]))
    before = shard.books()
    shard.feed(*events("a#1@0 b@10"))
    assert shard.books() == before


def test_sealed_events_are_not_taken_back_by_late_ones_that_come_after_them() -> None:
    shard = Shard(config(funnel("f", "abc", order="strict")))
    shard.feed(*events("a@0 b@10"))
    shard.restart(config(funnel("f", "abc", order="strict"), BESIDE["g"]))
    shard.feed(*events("c@30"))
    assert shard.feed(*events("x@20")) == {"applied": 1}
    assert (shard.totals("n"), shard.totals("u"), shard.totals("c")) == ([1, 1, 0], [1, 1, 0], [1, 0, 0])


def test_the_same_layout_in_another_process_seals_nothing(shard: Shard) -> None:
    shard.feed(*events("a@0 c@20"))
    shard.restart(config())
    assert shard.feed(*events("b@10")) == {"applied": 1}
    assert shard.totals("u") == [1, 1, 1]


@pytest.mark.parametrize(("before", "after"), [("1s", "600s"), ("10s", "60s"), ("60s", "1s")])
def test_a_changed_lateness_takes_nobody_back_in_time(before: str, after: str) -> None:
    """The tail goes back as far as the lateness of its day: what would have to stand before it must not be folded after it."""
    shard = Shard(config(funnel(windows=["1m"]), allowed_lateness=before))
    fates_of(shard, "a@0 b@10 a@70 b@100")
    shard.restart(config(funnel(windows=["1m"]), allowed_lateness=after))
    shard.feed(*events("a@45"))
    assert shard.totals("n")[1:] == [2, 0], "no b is further than 60 s from an a before it"
    assert shard.users(window="1m") == [1, 1, 0], "both within the minute before 100 s"
    assert {cell for cell, count in shard.counts().totals.items() if count and cell[0] == "h"} == {
        age_cell(1, age_bin(n)) for n in (10_000_000, 30_000_000)
    }
