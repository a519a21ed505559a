"""When the pipeline says of itself that nothing comes, or that it is behind."""

from __future__ import annotations

import pytest

from alerting.lifecycle import RuleState
from alerting.pipeline import Intake, advance, channels, key, notification
from schemas.duration import MICROS
from tests.parts.alerts import NIGHT_US, config

FOR_US = 120 * MICROS
MINUTES_10 = 600 * MICROS


class Watch:
    """A source looked at every five seconds of a clock that can be set."""

    def __init__(self) -> None:
        self.state = RuleState()
        self.now_us = NIGHT_US
        self.seen: int | None = None
        self.records = 0
        self.told: list[str] = []

    def look(self, seconds: int, *, records: bool = True, settled: bool = True) -> str:
        """What holds for the rules in the end."""
        data = ""
        for _ in range(seconds // 5):
            self.now_us += 5 * MICROS
            self.records += records
            self.state, change, data = advance(self.state, Intake(NIGHT_US, settled, self.records), self.seen, self.now_us, FOR_US)
            self.seen = self.records
            self.told += [change] if change else []
        return data

    def restart(self) -> None:
        self.seen = None


def test_while_records_come_nothing_is_said() -> None:
    watch = Watch()
    assert watch.look(600) == "ok"
    assert (watch.told, watch.state.state) == ([], "inactive")


def test_it_fires_when_nothing_has_come_for_longer_than_for_and_resolves_when_something_does() -> None:
    watch = Watch()
    watch.look(60)
    assert watch.look(120, records=False) == "ok"
    assert watch.told == []
    assert watch.look(5, records=False) == "no_data"
    assert (watch.told, watch.state.data) == (["firing"], "no_data")
    assert watch.look(5) == "ok"
    assert (watch.told, watch.state.data, watch.state.fires) == (["firing", "resolved"], "ok", False)


def test_a_single_record_now_and_then_is_enough() -> None:
    watch = Watch()
    for _ in range(10):
        watch.look(115, records=False)
        watch.look(5)
    assert watch.told == []


def test_rules_of_a_source_that_is_seen_behind_twice_are_stale_and_it_fires_when_that_lasts() -> None:
    watch = Watch()
    watch.look(60)
    assert watch.look(5, settled=False) == "ok"
    assert watch.look(5, settled=False) == "stale"
    assert watch.told == []
    watch.look(120, settled=False)
    assert (watch.told, watch.state.data) == (["firing"], "stale")
    watch.look(5, settled=True)
    assert watch.told == ["firing", "resolved"]


def test_one_trouble_that_becomes_another_is_one_incident() -> None:
    watch = Watch()
    watch.look(60)
    watch.look(150, settled=False)
    assert watch.look(60, records=False) == "no_data"
    assert watch.told == ["firing"]


@pytest.mark.parametrize("jump_us", [MINUTES_10, -MINUTES_10])
def test_a_clock_that_is_set_does_not_make_it_fire(jump_us: int) -> None:
    watch = Watch()
    watch.look(60)
    watch.look(30, records=False)
    watch.now_us += jump_us
    watch.look(60, records=False)
    assert watch.told == []


@pytest.mark.parametrize("jump_us", [MINUTES_10, -MINUTES_10])
def test_a_clock_that_is_set_does_not_keep_it_from_firing_or_resolving(jump_us: int) -> None:
    watch = Watch()
    watch.look(60)
    watch.look(60, records=False)
    watch.now_us += jump_us
    watch.look(70, records=False)
    assert watch.told == ["firing"]
    watch.now_us -= jump_us
    watch.look(5)
    assert watch.told == ["firing", "resolved"]


def test_a_new_leader_goes_on_where_the_old_one_was() -> None:
    watch = Watch()
    watch.look(60)
    watch.look(100, records=False)
    watch.restart()
    watch.look(30, records=False)
    assert watch.told == ["firing"]
    watch.restart()
    watch.look(30, records=False)
    assert (watch.told, watch.state.fires) == (["firing"], True)


def test_a_new_leader_does_not_take_what_it_has_not_seen_yet_for_silence() -> None:
    watch = Watch()
    watch.look(60)
    watch.restart()
    watch.look(5)
    assert watch.state.breach_us is None


def test_the_time_in_which_nobody_led_does_not_count() -> None:
    watch = Watch()
    watch.look(60)
    watch.look(30, records=False)
    watch.now_us += MINUTES_10
    watch.restart()
    watch.look(60, records=False)
    assert watch.told == []


def test_it_tells_every_channel_that_a_rule_names_unless_told_whom() -> None:
    both = {"oncall": {"type": "log"}, "chat": {"type": "log"}, "unused": {"type": "log"}}
    setup = config({"notify": ["oncall", "chat"]}, {"name": "B", "notify": ["oncall"]}, channels=both)
    assert channels(setup) == ("oncall", "chat")
    chosen = setup.model_copy(update={"pipeline": setup.pipeline.model_copy(update={"notify": ("unused",)})})
    assert channels(chosen) == ("unused",)


def test_what_it_says_names_the_source_since_when_and_what_is_not_judged() -> None:
    watch = Watch()
    watch.look(60)
    watch.look(130, records=False)
    setup = config({}, {"name": "Second"}, {"name": "InApp", "funnel": "in-app"})
    told = notification(setup, key("web"), watch.state, "https://funnels.example")
    assert told.title == "Source web: no data, its rules cannot be judged"
    assert "since 2026-01-02 03:05:15 UTC" in told.text
    assert "2 rules (CheckoutToPayLow, Second)" in told.text
    assert (told.status, told.severity, told.link) == ("firing", "page", "https://funnels.example")
    watch.look(5)
    over = notification(setup, key("web"), watch.state)
    assert over.status == "resolved"
    assert over.key.rpartition("/")[0] == told.key.rpartition("/")[0]
    assert "Judged again: 2 rules (CheckoutToPayLow, Second)." in over.text
