"""The past of a funnel: pages and their limits, points from the record and from buckets, comparisons of both."""

from __future__ import annotations

import pytest

from schemas.duration import MICROS, Duration
from schemas.errors import UsageError
from schemas.history import HistoryReport
from streams.archive import Archive, HistoryAsked
from streams.past import page
from streams.periods import CompareAsked
from streams.points import HOUR
from streams.rates import mature
from tests.parts.record import BEGIN, Shop

NOW_US = (BEGIN + 1000 * HOUR) * MICROS + 7
FIVE, HOUR_LONG = Duration("5m"), Duration("1h")


def ago(hours: float) -> int:
    return int(NOW_US - hours * HOUR * MICROS)


def test_a_period_is_cut_at_boundaries_of_its_step() -> None:
    cut = page(NOW_US, ago(1), None, "10m", 100)
    assert (len(cut.boundaries), cut.boundaries[-1], cut.next_us) == (6, NOW_US - 7, None)


def test_pages_follow_each_other_without_a_hole() -> None:
    found: list[int] = []
    begin: int | None = ago(40)
    while begin is not None:
        cut = page(NOW_US, begin, NOW_US, "1m", 1000)
        found += cut.boundaries
        begin = cut.next_us
    assert found == list(range(found[0], NOW_US, 60 * MICROS))
    assert len(found) == 2400


@pytest.mark.parametrize(("hours", "step"), [(1, "1m"), (5, "1m"), (24, "5m"), (48, "10m"), (72, "1h"), (24 * 30, "3h"), (24 * 90, "8h")])
def test_the_finest_step_for_some_hundred_points_is_the_default(hours: float, step: str) -> None:
    assert str(page(NOW_US, ago(hours), None, None, 1000).step) == step


@pytest.mark.parametrize(("splits", "step"), [(1, "1m"), (10, "1m"), (16, "2m"), (21, "5m"), (51, "10m")])
def test_by_many_values_an_hour_has_fewer_points_by_default(splits: int, step: str) -> None:
    assert str(page(NOW_US, ago(1), None, None, 1000, splits).step) == step
    assert str(page(NOW_US, ago(1), None, "1m", 1000, splits).step) == "1m"


@pytest.mark.parametrize(
    ("hours", "end", "step", "said"),
    [
        (49, None, "1m", "kept for 48 h; ask for a step of 1h or more, or `from` 20"),
        (24 * 91, None, "1h", "kept for 2160 h; ask `from` 20"),
        (1, ago(2), "1m", "is later than `to`"),
        (-1, None, "1m", "is later than `to` or than the newest counts"),
        (1, None, "7m", "there is no step '7m'; there are: 1m, 2m, 5m"),
        (1, None, "x" * 500, "there is no step 'xxxx"),
    ],
)
def test_a_period_that_there_is_not_is_refused_with_what_there_is(hours: float, end: int | None, step: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        page(NOW_US, ago(hours), end, step, 1000)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.fixture(scope="module")
def shop() -> Shop:
    import asyncio

    async def open_for(hours: int) -> Shop:
        shop = Shop()
        await shop.run(hours * HOUR)
        return shop

    return asyncio.run(open_for(4))


async def past(shop: Shop, basis: str = "users", window: Duration = FIVE, by: str | None = None, **what: object) -> HistoryReport:
    asked = {"step": "1m", "start_us": None, "end_us": None, "limit": 1000} | what
    return (await Archive(shop.reader, shop.record).history(HistoryAsked("f", window, basis, by, **asked)))[0]  # type: ignore[arg-type]


async def test_users_are_as_they_were_recorded(shop: Shop) -> None:
    found = await past(shop, by="device")
    assert (len(found.points), found.gaps, found.stages) == (61, 0, ("view", "pay"))
    for point in found.points:
        views = point.stages[0].users
        assert views is not None
        assert 250 <= views <= 300
        assert point.stages[1].step is not None
        assert point.stages[1].step.denominator == views
        assert [value.value for value in point.values] == ["ios", "web"]
        assert sum(value.stages[0].users or 0 for value in point.values) == views


async def test_events_and_values_are_summed_up_anew(shop: Shop) -> None:
    """A visit a second; everyone who pays pays 2."""
    point = (await past(shop)).points[30]
    assert point.stages[0].events == 300
    assert point.stages[1].value == 2 * (point.stages[1].events or 0)


async def test_the_newest_point_agrees_with_the_report_before_it(shop: Shop) -> None:
    """Entries of the window that ends at T, finished and pending; one more bucket of 10 s and 10 visits is finished by then."""
    view = shop.reader.views["web"]
    counts = view.counts["f"]
    found = (await past(shop, "entries", HOUR_LONG)).points[-1]
    finished, pending = mature(counts, 1, 3600, shop.at_us - 1)
    step, late = found.stages[1].step, found.stages[1].pending
    assert step is not None
    assert late is not None
    assert (step.denominator, late.denominator) == (finished.denominator + 10, pending.denominator - 10)
    assert step.numerator + late.numerator == finished.numerator + pending.numerator
    assert (found.stages[1].entries, found.stages[1].conversions) == (counts.count("e", 1, 3600, shop.at_us - 1), None)
    assert finished.rate == pytest.approx(0.5, abs=0.05)


async def test_at_every_boundary_the_entries_are_those_of_its_buckets_and_those_that_had_their_time_are_finished(shop: Shop) -> None:
    counts = shop.reader.views["web"].counts["f"]
    points = (await past(shop, "entries", FIVE)).points
    shares = set()
    for point in points:
        until = int(point.at.timestamp()) // 10
        buckets = {number: counts.buckets[10].get(number, {}) for number in range(until - 30, until)}
        over = [number for number in buckets if number * 10 * MICROS + 10 * MICROS + counts.plan.mature_after_us <= shop.at_us]
        opened = {number: (cells.get("c0", 0), cells.get("e0", 0)) for number, cells in buckets.items()}
        finished = [sum(opened[number][n] for number in over) for n in (0, 1)]
        pending = [sum(opened[number][n] for number in opened if number not in over) for n in (0, 1)]
        step, late = point.stages[1].step, point.stages[1].pending
        assert step is not None
        assert late is not None
        assert [step.numerator, step.denominator, late.numerator, late.denominator] == [*finished, *pending]
        shares.add((bool(finished[1]), bool(pending[1])))
    assert shares >= {(True, False), (True, True)}


async def test_entries_by_value_tell_the_devices_apart(shop: Shop) -> None:
    point = (await past(shop, "entries", HOUR_LONG, "device")).points[-1]
    rates = {value.value: value.stages[1].step for value in point.values}
    assert rates["ios"] is not None
    assert rates["web"] is not None
    assert rates["ios"].rate == pytest.approx(0.75, abs=0.05)
    assert rates["web"].rate == pytest.approx(0.25, abs=0.05)


async def test_what_no_buckets_reach_back_to_is_a_gap(shop: Shop) -> None:
    """Five minutes are made of 10 s buckets, of minutes further back where those are kept, and of hours never."""
    found = await past(shop, "entries", FIVE, start_us=(BEGIN + 60) * MICROS)
    assert found.gaps == 0  # 2h keeps minutes
    long_ago = await past(shop, "entries", FIVE, start_us=(BEGIN - 30 * HOUR) * MICROS, limit=60)
    assert (long_ago.points, long_ago.gaps) == ((), 60)


async def test_the_record_begins_with_the_first_boundary_after_the_first_event(shop: Shop) -> None:
    first = (await past(shop, "users", FIVE, start_us=BEGIN * MICROS)).points[0]
    assert first.at.timestamp() == BEGIN + 60


async def test_adjusted_rates_are_as_they_were_recorded(shop: Shop) -> None:
    points = (await past(shop, "adjusted", HOUR_LONG)).points
    step = points[-1].stages[1].step
    assert step is not None
    assert step.rate == pytest.approx(0.5, abs=0.05)
    assert step.low is not None
    assert step.high is not None
    assert step.low < step.rate < step.high
    assert (await past(shop, "adjusted", HOUR_LONG, "device")).points[-1].values[0].stages[1].step is None
    by_hour = await past(shop, "adjusted", HOUR_LONG, "device", step="1h", start_us=BEGIN * MICROS)
    of_ios = by_hour.points[-1].values[0].stages[1].step
    assert of_ios is not None
    assert of_ios.rate == pytest.approx(0.75, abs=0.08)


async def test_pages_by_minutes_begin_in_the_middle_of_a_frame(shop: Shop) -> None:
    whole = await past(shop, start_us=(BEGIN + HOUR) * MICROS)
    part = await past(shop, start_us=(BEGIN + HOUR + 7 * 60) * MICROS, limit=3)
    assert part.points == whole.points[7:10]


async def test_before_the_first_event_there_is_no_past() -> None:
    found = await past(Shop())
    assert (found.points, found.gaps, found.at, found.from_) == ((), 0, None, None)


async def compared(shop: Shop, **what: object):
    asked = {"funnel": "f", "window": HOUR_LONG, "basis": "entries"} | what
    return await Archive(shop.reader, shop.record).compare(CompareAsked(**asked))  # type: ignore[arg-type]


async def test_an_hour_is_compared_with_the_hour_before(shop: Shop) -> None:
    found = await compared(shop)
    (pair,) = found.comparisons
    assert (pair.a.to - pair.a.from_).total_seconds() == 3600
    assert pair.b.to == pair.a.from_
    assert (found.compared, found.tests, pair.pending_a) == (1, 1, 0)
    assert pair.steps[0].significant is False


@pytest.mark.parametrize("basis", ["entries", "adjusted"])
async def test_each_value_is_compared_with_all_others(shop: Shop, basis: str) -> None:
    found = await compared(shop, by="device", basis=basis)
    assert (found.compared, found.tests) == (2, 2)
    ios = found.comparisons[0]
    assert (ios.a.value, ios.b.value, ios.a.others, ios.b.others) == ("ios", "ios", False, True)
    assert ios.steps[0].significant
    assert ios.steps[0].difference == pytest.approx(0.5, abs=0.08)
    if basis == "adjusted":
        assert ios.steps[0].ratio == pytest.approx(3.0, rel=0.15)
        assert ios.steps[0].p_adjusted == pytest.approx(2 * (ios.steps[0].p or 0), rel=1e-6)


async def test_two_values_are_compared_with_each_other(shop: Shop) -> None:
    (pair,) = (await compared(shop, by="device", value="web", against_value="ios")).comparisons
    assert (pair.a.value, pair.b.value) == ("web", "ios")
    assert pair.steps[0].difference == pytest.approx(-0.5, abs=0.08)


async def test_each_value_is_compared_with_itself_of_the_hour_before(shop: Shop) -> None:
    found = await compared(shop, by="device", against="previous")
    assert [(pair.a.value, pair.b.value) for pair in found.comparisons] == [("ios", "ios"), ("web", "web")]
    assert not any(pair.steps[0].significant for pair in found.comparisons)


async def test_users_of_two_periods_come_from_the_record_and_nothing_is_claimed(shop: Shop) -> None:
    found = await compared(shop, basis="users")
    (pair,) = found.comparisons
    assert (found.tests, pair.steps[0].p, pair.steps[0].significant) == (0, None, None)
    assert pair.steps[0].b.denominator > 3000
    assert "no interval and no test" in found.note


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"by": "device", "value": "tv"}, "no device 'tv' was counted; there are: ios, web"),
        ({"window": FIVE, "against": "last_week"}, "are not kept that finely"),
        ({"period_us": (NOW_US, NOW_US + 1)}, "is no period before the newest counts"),
        ({"against_us": ((BEGIN + 3 * HOUR) * MICROS, (BEGIN + 4 * HOUR - 1200) * MICROS)}, "the two periods overlap"),
        ({"basis": "users", "period_us": (BEGIN * MICROS, (BEGIN + 420) * MICROS)}, "take one of 1m, 5m, 1h, 2h"),
        ({"basis": "users", "against": "last_week"}, "nothing was recorded"),
    ],
)
async def test_what_cannot_be_compared_is_said(shop: Shop, what: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        await compared(shop, **what)
