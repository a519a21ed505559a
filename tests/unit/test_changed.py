"""What changed between two periods: which step, at which value, what is by chance, and what is said of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from schemas.answers import WhatChanged
from schemas.history import Comparison, ComparisonReport, Side
from streams.changed import Compared, says_something, what_changed
from streams.compare import judged
from streams.rates import proportion

NOON = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
TWO_HOURS = timedelta(hours=2)
STAGES = ("view", "checkout", "pay")
Steps = list[tuple[tuple[int, int], tuple[int, int]]]  # of each step: (conversions, entries) now and before


def report(by: str | None, sides: dict[str | None, Steps]) -> ComparisonReport:
    pairs = [[(proportion(*now), proportion(*before)) for now, before in steps] for steps in sides.values()]
    rows, tests = judged(STAGES[1:], pairs, "entries")
    now, before = {"from_": NOON, "to": NOON + TWO_HOURS}, {"from_": NOON - TWO_HOURS, "to": NOON}
    comparisons = tuple(
        Comparison(a=Side(**now, value=value), b=Side(**before, value=value), steps=tuple(row)) for value, row in zip(sides, rows)
    )
    return ComparisonReport(
        name="shop",
        title="",
        basis="entries",
        by=by,
        at=NOON + TWO_HOURS,
        compared=len(sides),
        tests=tests,
        note="",
        comparisons=comparisons,
    )


def asked(*dimensions: ComparisonReport, **total: Steps) -> WhatChanged:
    return what_changed([Compared("shop", STAGES, report(None, {None: total["total"]}), dimensions)], {})


STEADY = ((600, 1000), (610, 1000))


def test_the_step_that_got_worse_is_named_with_the_value_that_explains_it() -> None:
    device = report("device", {"android": [STEADY, ((30, 300), (210, 300))], "ios": [STEADY, ((208, 300), (211, 300))]})
    channel = report("channel", {"ads": [STEADY, ((119, 300), (210, 300))], "mail": [STEADY, ((119, 300), (211, 300))]})
    found = asked(device, channel, total=[STEADY, ((238, 600), (421, 600))])
    (worst,) = found.worse
    assert (worst.from_stage, worst.stage, worst.conversions) == ("checkout", "pay", -183)
    assert worst.place is not None
    assert (worst.place.dimension, worst.place.value, worst.place.conversions) == ("device", "android", -180)
    assert found.better == ()
    assert found.tests == 10
    assert found.summary == (
        "shop: checkout → pay got worse: 39.7% after 70.2% (-30.5 points, about 183 conversions fewer); "
        "device android explains 98% of it (10.0% after 70.0% there). (2 steps of 1 funnel compared.)"
    )


def test_where_every_value_fell_alike_none_is_blamed() -> None:
    device = report("device", {"android": [STEADY, ((119, 300), (210, 300))], "ios": [STEADY, ((119, 300), (211, 300))]})
    (worst,) = asked(device, total=[STEADY, ((238, 600), (421, 600))]).worse
    assert worst.place is None
    assert worst.summary.endswith("no single value of device explains it.")
    assert len(worst.values) == 2


def test_the_more_telling_of_two_values_is_named() -> None:
    """Nine in ten of those who come from ads are on android: the device fell with them."""
    device = report("device", {"android": [STEADY, ((40, 300), (210, 300))], "ios": [STEADY, ((210, 300), (211, 300))]})
    channel = report("channel", {"ads": [STEADY, ((5, 250), (175, 250))], "mail": [STEADY, ((245, 350), (246, 350))]})
    (worst,) = asked(device, channel, total=[STEADY, ((250, 600), (421, 600))]).worse
    assert worst.place is not None
    assert (worst.place.dimension, worst.place.value) == ("channel", "ads")


def test_chance_changes_nothing() -> None:
    device = report("device", {"android": [STEADY, ((205, 300), (210, 300))], "ios": [STEADY, ((215, 300), (211, 300))]})
    found = asked(device, total=[STEADY, ((420, 600), (421, 600))])
    assert (found.worse, found.better, found.compared) == ((), (), 2)
    assert found.summary == "Nothing got worse by more than chance (2 steps of 1 funnel compared)."


def test_a_value_that_fell_while_others_rose_is_told_though_the_whole_stands() -> None:
    device = report("device", {"android": [STEADY, ((60, 300), (150, 300))], "ios": [STEADY, ((240, 300), (150, 300))]})
    (found,) = asked(device, total=[STEADY, ((300, 600), (300, 600))]).worse
    assert not found.significant
    assert found.place is not None
    assert found.place.value == "android"
    assert found.summary.startswith("shop: checkout → pay got worse for device android alone: 20.0% after 50.0%; over all it is 50.0%")


def test_what_got_better_is_told_apart_and_the_costliest_comes_first() -> None:
    found = asked(total=[((500, 1000), (700, 1000)), ((450, 500), (350, 700))])
    assert [(one.stage, one.conversions) for one in (*found.worse, *found.better)] == [("checkout", -200), ("pay", 200)]
    other = report(None, {None: [((100, 1000), (700, 1000)), ((50, 100), (350, 700))]})
    more = what_changed(
        [Compared("shop", STAGES, report(None, {None: [((500, 1000), (700, 1000)), STEADY]}), ()), Compared("app", STAGES, other, ())], {}
    )
    assert [(one.funnel, one.conversions) for one in more.worse] == [("app", -600), ("shop", -200)]
    assert more.summary.endswith("1 more step got worse. (4 steps of 2 funnels compared.)")


def test_periods_without_anything_finished_say_nothing() -> None:
    nothing = report(None, {None: [((0, 0), (5, 9)), ((0, 0), (1, 2))]})
    assert not says_something(nothing)
    assert says_something(report(None, {None: [STEADY, ((0, 0), (1, 2))]}))
    assert what_changed([Compared("shop", STAGES, nothing, ())], {"app": "too young"}).not_compared == {"app": "too young"}
