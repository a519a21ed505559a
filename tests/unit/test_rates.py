"""Rates travel with their parts; where nobody was there to convert there is no rate."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.config import Config
from schemas.duration import Duration
from schemas.report import Rate
from streams.plan import Plan
from streams.rates import breakdowns, overall, rate, stage_reports
from streams.windows import EVENTS, USERS, VALUE, FunnelCounts, cell

AT_US = 1_690_000_000_000_000
WINDOW = Duration("5m")


def counts(*users: int, **by_value: list[int]) -> FunnelCounts:
    """Users of the stages view, cart and pay, in total and by channel."""
    stages: list[dict[str, Any]] = [
        {"name": "view", "event": "v"},
        {"name": "cart", "event": "c", "title": "In the cart", "target": 0.5},
        {"name": "pay", "event": "p", "value": "properties.amount", "target": 0.7, "benchmark": 0.6},
    ]
    funnel = {"name": "f", "source": "web", "conversion_window": "60s", "windows": ["5m"], "stages": stages}
    funnel["dimensions"] = {"channel": "properties.channel"}
    config = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": [funnel]})
    found = FunnelCounts(Plan(config, config.sources[0]).funnels[0])
    cells = {cell(USERS, stage): number for stage, number in enumerate(users)}
    cells |= {cell(USERS, stage, "channel", value): n for value, numbers in by_value.items() for stage, n in enumerate(numbers)}
    found.add(10, AT_US // 10_000_000, cells)
    found.add_totals(cells)
    return found


def test_a_rate_is_numerator_by_denominator() -> None:
    assert rate(1, 4) == Rate(numerator=1, denominator=4, rate=0.25)
    assert rate(0, 4) == Rate(numerator=0, denominator=4, rate=0.0)


def test_more_users_after_a_step_than_before_it_are_a_rate_over_1() -> None:
    assert rate(6, 4).rate == 1.5


@pytest.mark.parametrize("numerator", [0, 3])
def test_without_a_denominator_there_is_no_rate(numerator: int) -> None:
    assert rate(numerator, 0) == Rate(numerator=numerator, denominator=0, rate=None)


def test_a_step_is_from_the_stage_before() -> None:
    view, cart, pay = stage_reports(counts(100, 40, 10), WINDOW, AT_US)
    assert (view.users, view.step, view.lost) == (100, None, 0)
    assert (cart.users, cart.step, cart.lost) == (40, rate(40, 100), 60)
    assert (pay.users, pay.step, pay.lost) == (10, rate(10, 40), 30)


def test_nobody_is_lost_where_more_come_out_than_went_in() -> None:
    _, cart, pay = stage_reports(counts(4, 6, 0), WINDOW, AT_US)
    assert (cart.lost, pay.lost) == (0, 6)


def test_a_stage_is_shown_with_what_the_config_says_of_it() -> None:
    found = stage_reports(counts(1, 1, 1), WINDOW, AT_US)
    assert [(s.name, s.title, s.target, s.benchmark) for s in found] == [
        ("view", "view", None, None),
        ("cart", "In the cart", 0.5, None),
        ("pay", "pay", 0.7, 0.6),
    ]


def test_events_and_value_are_those_of_the_window() -> None:
    found = counts(1, 1, 1)
    found.add(10, AT_US // 10_000_000, {cell(EVENTS, 2): 3, cell(VALUE, 2): 19_990_000})
    found.add(10, AT_US // 10_000_000 - 31, {cell(EVENTS, 2): 3, cell(VALUE, 2): 19_990_000})
    pay = stage_reports(found, WINDOW, AT_US)[2]
    assert (pay.events, pay.value) == (3, 19.99)


def test_the_overall_rate_is_the_last_stage_by_the_first() -> None:
    assert overall(stage_reports(counts(100, 40, 10), WINDOW, AT_US)) == rate(10, 100)


def test_values_of_a_dimension_come_with_most_users_first() -> None:
    found = breakdowns(counts(10, 5, 2, mail=[3, 1, 0], ads=[3, 2, 2], shop=[4, 2, 0]), WINDOW, AT_US, "channel")
    assert [(b.value, [s.users for s in b.stages], b.overall.numerator) for b in found] == [
        ("shop", [4, 2, 0], 0),
        ("ads", [3, 2, 2], 2),
        ("mail", [3, 1, 0], 0),
    ]
    assert found[1].stages[1].step == rate(2, 3)


def test_a_value_that_left_the_window_is_still_shown_with_nobody() -> None:
    later = AT_US + 3_600_000_000
    (found,) = breakdowns(counts(1, 1, 1, ads=[1, 1, 1]), WINDOW, later, "channel")
    assert (found.value, found.stages[1].step, found.overall.rate) == ("ads", rate(0, 0), None)
