"""Which variants are tried, what is suggested, and what is said where the history cannot tell."""

from __future__ import annotations

from typing import Any

import pytest

from alerting.incidents import Incident
from alerting.tuning import Habits, Tuning, Wanted, _Fall, grid, tune
from schemas.config import Config
from schemas.duration import MICROS
from schemas.errors import UsageError
from streams.history import history_of
from tests.parts.backtest import MIDNIGHT_US, config, event, shop

HOUR = 3600
INCIDENT = (1.5 * HOUR, 2.5 * HOUR)


def tuned(setup: Config, records: list[bytes], pages: float, *, labelled: bool = True) -> Tuning:
    start, end = (MIDNIGHT_US + round(at) * MICROS for at in INCIDENT)
    with history_of(setup, records) as history:
        return tune(history, setup, Wanted(pages), [Incident(start, end)] if labelled else [])


def test_a_rule_that_pages_for_nothing_is_told_a_threshold_that_does_not() -> None:
    found = tuned(config({"below": 0.9, "for": "0s"}), shop(3.5 * HOUR, 20, INCIDENT), 100)
    (advice,) = found.advice
    assert advice.now.false_per_month > 100
    assert advice.suggested is not None
    assert advice.suggested.rule.below is not None
    assert advice.suggested.rule.below < 0.9
    assert advice.suggested.false_per_month <= 100
    assert advice.suggested.score.missed == 0


def test_the_choices_run_from_the_quietest_to_the_quickest() -> None:
    (advice,) = tuned(config({"below": 0.5}), shop(3.5 * HOUR, 20, INCIDENT), 100).advice
    outside = [tried.score.outside for tried in advice.choices]
    assert outside == sorted(outside)
    assert [tried.order() for tried in advice.choices] == sorted((tried.order() for tried in advice.choices), reverse=True)


@pytest.mark.parametrize(("pages", "enough"), [(1000, True), (1, False)])
def test_a_history_too_short_for_what_is_asked_says_so(pages: float, enough: bool) -> None:
    found = tuned(config({}), shop(3 * HOUR, 10, INCIDENT), pages, labelled=False)
    assert (not found.note) is enough
    if not enough:
        assert "too short to tell 1 pages a month" in found.note
        assert "calculated and not measured" in found.note


def test_without_a_boundary_there_is_nothing_to_tune_by() -> None:
    with pytest.raises(UsageError, match="too short"):
        tuned(config({}), [event(1, "a", "checkout"), event(2, "b", "checkout")], 1)


def test_without_entrants_enough_nothing_is_known_of_the_rate() -> None:
    (advice,) = tuned(config({}), shop(2 * HOUR, 1), 10).advice
    assert advice.rate is None
    assert advice.now.delay_seconds is None


@pytest.mark.parametrize(
    ("rule", "keys"),
    [
        ({}, {"below", "window", "for_"}),
        ({"below": None, "above": 0.7}, {"above", "window", "for_"}),
        ({"below": None, "drop": {"by": 0.2}}, {"drop", "window", "for_"}),
        ({"below": None, "below_target": True}, {"window", "for_"}),
        ({"detector": "sequential"}, {"below", "effect", "run_length"}),
    ],
)
def test_what_is_varied_depends_on_the_kind_of_rule(rule: dict[str, Any], keys: set[str]) -> None:
    own = config(rule).alerts[0]
    variants = list(grid(own, 0.5, Wanted(2.0)))
    assert len({variant.name for variant in variants}) == len(variants) > 1
    varied = {key for key in keys if len({str(getattr(variant, key)) for variant in variants}) > 1}
    assert varied == keys


def test_variants_are_rules_that_a_config_may_hold() -> None:
    setup = config({"recover_above": 0.45, "widen_to": "10m", "long_window": "20m"})
    for variant in grid(setup.alerts[0], 0.6, Wanted(2.0)):
        assert variant.below is not None
        assert variant.recover_above is not None
        assert variant.recover_above >= variant.below
        assert variant.widen_to is None or variant.widen_to > variant.window
        assert variant.long_window is None or variant.long_window > variant.window


@pytest.mark.parametrize("changes", [{"for": "0s"}, {"detector": "sequential", "for": "0s"}])
def test_a_fall_is_found_sooner_where_there_is_more_traffic(changes: dict[str, Any]) -> None:
    setup = config(changes)
    delays = [
        _Fall(setup, setup.alerts[0], Habits([0.6], [per_minute / 60]), Wanted(1.0, 0.6)).delay(setup.alerts[0])
        for per_minute in (10, 50, 200)
    ]
    assert None not in delays
    assert delays == sorted(delays, reverse=True)  # type: ignore[type-var]
    assert delays[0] != delays[-1]


def test_a_fall_that_stays_above_the_threshold_is_never_found() -> None:
    for changes in ({}, {"detector": "sequential"}):
        setup = config(changes)
        assert _Fall(setup, setup.alerts[0], Habits([0.9], [1.0]), Wanted(1.0, 0.1)).delay(setup.alerts[0]) is None
