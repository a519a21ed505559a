"""What a row of verdicts makes of an alert."""

from __future__ import annotations

from typing import Any

import pytest

from alerting.conditions import Outcome, Verdict
from alerting.lifecycle import RuleState, advance
from schemas.duration import MICROS
from tests.parts.alerts import rule

OUTCOMES: dict[str, Outcome] = {"b": "breach", "h": "healthy", "r": "recovered", "u": "unknown"}


def verdict(letter: str) -> Verdict:
    return Verdict(OUTCOMES[letter], 10, 100, 0.1, 0.2)


def live(letters: str, **changes: Any) -> tuple[list[str], RuleState]:
    """The changes told (as `pending@10`), and the last state, of one verdict every ten seconds."""
    state, told = RuleState(), []
    for place, letter in enumerate(letters):
        state, change = advance(rule(**changes), state, verdict(letter), place * 10 * MICROS)
        if change:
            told.append(f"{change}@{place * 10}")
    return told, state


@pytest.mark.parametrize(
    ("letters", "told"),
    [
        ("hrur", []),
        ("hb", ["pending@10"]),
        ("hbb", ["pending@10"]),
        ("hbbb", ["pending@10", "firing@30"]),  # `for` is 20 s, and includes its end
        ("hbbbbb", ["pending@10", "firing@30"]),
        ("bbhbb", ["pending@0", "pending@30"]),
        ("bbub", ["pending@0", "pending@30"]),
        ("bbrb", ["pending@0", "pending@30"]),
        ("bbbr", ["pending@0", "firing@20", "resolved@30"]),
        ("bbbhuhbuh", ["pending@0", "firing@20"]),
        ("bbbhr", ["pending@0", "firing@20", "resolved@40"]),
        ("bbbrbbb", ["pending@0", "firing@20", "resolved@30", "pending@40", "firing@60"]),
        ("bbbrr", ["pending@0", "firing@20", "resolved@30"]),
    ],
)
def test_verdicts_and_what_is_told_of_them(letters: str, told: list[str]) -> None:
    assert live(letters, **{"for": "20s"})[0] == told


def test_without_for_it_fires_at_once_and_is_never_pending() -> None:
    assert live("hbr", **{"for": "0s"})[0] == ["firing@10", "resolved@20"]


def test_for_is_counted_in_event_time_however_few_evaluations_there_were() -> None:
    pending, _ = advance(rule(**{"for": "2m"}), RuleState(), verdict("b"), 0)
    assert advance(rule(**{"for": "2m"}), pending, verdict("b"), 119 * MICROS)[1] is None
    assert advance(rule(**{"for": "2m"}), pending, verdict("b"), 120 * MICROS)[1] == "firing"


@pytest.mark.parametrize("letters", ["h", "b", "bbb", "bbbr"])
@pytest.mark.parametrize("again_us", [0, -1, -1_000_000_000])
def test_a_time_that_is_not_new_changes_nothing(letters: str, again_us: int) -> None:
    _, state = live(letters)
    assert state.at_us is not None
    for letter in OUTCOMES:
        assert advance(rule(), state, verdict(letter), state.at_us + again_us) == (state, None)


def test_the_incident_is_named_by_the_time_it_began_to_fire_and_keeps_its_name_to_the_end() -> None:
    _, firing = live("hbbbb")
    assert (firing.state, firing.breach_us, firing.incident_us) == ("firing", 10 * MICROS, 30 * MICROS)
    _, resolved = live("hbbbbr")
    assert (resolved.state, resolved.since_us, resolved.incident_us) == ("inactive", 50 * MICROS, 30 * MICROS)


def test_a_second_incident_has_another_name() -> None:
    _, state = live("bbbrbbb")
    assert (state.state, state.incident_us) == ("firing", 60 * MICROS)


def test_a_state_knows_since_when_it_holds_and_what_was_seen_last() -> None:
    _, inactive = live("hhh")
    assert (inactive.since_us, inactive.at_us, inactive.verdict) == (0, 20 * MICROS, verdict("h"))
    _, pending = live("hbb")
    assert (pending.since_us, pending.at_us) == (10 * MICROS, 20 * MICROS)
