"""What a row of verdicts makes of an alert."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from alerting.conditions import Outcome, Reason, Verdict
from alerting.lifecycle import FLAPS_MAX, Change, RuleState, advance, unjudged
from schemas.duration import MICROS
from tests.parts.alerts import rule

OUTCOMES: dict[str, Outcome] = {"b": "breach", "h": "healthy", "r": "recovered", "u": "unknown", "0": "unknown"}
REASONS: dict[str, Reason] = {"u": "low_sample", "0": "no_data"}


def verdict(letter: str) -> Verdict:
    return Verdict(OUTCOMES[letter], 10, 100, 0.1, 0.05, 0.2, 0.4, reason=REASONS.get(letter, ""))


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


# Recovering


@pytest.mark.parametrize(
    ("letters", "told", "ends"),
    [
        ("bbbrr", ["pending@0", "firing@20"], "recovering"),
        ("bbbrrrr", ["pending@0", "firing@20", "resolved@60"], "inactive"),  # 30 s, its end included
        ("bbbrrbr", ["pending@0", "firing@20"], "recovering"),  # broken again: the same incident goes on
        ("bbbrrhrrr", ["pending@0", "firing@20"], "recovering"),  # not back any more: counted anew from 60
        ("bbbrrhrrrr", ["pending@0", "firing@20", "resolved@90"], "inactive"),
        ("bbbruu", ["pending@0", "firing@20"], "recovering"),
        ("bbbruuuuu", ["pending@0", "firing@20"], "recovering"),  # nobody saw it back after 30 s
        ("bbbruuuuur", ["pending@0", "firing@20", "resolved@90"], "inactive"),
    ],
)
def test_it_resolves_once_the_rate_was_back_for_as_long_as_keep_firing_for_says(letters: str, told: list[str], ends: str) -> None:
    changes, state = live(letters, **{"for": "20s", "keep_firing_for": "30s"})
    assert (changes, state.state) == (told, ends)


def test_while_it_recovers_it_still_fires_under_the_name_and_time_of_its_incident() -> None:
    _, state = live("bbbr", **{"for": "20s", "keep_firing_for": "1m"})
    assert state.fires
    assert (state.incident_us, state.since_us, state.recovering_us) == (20 * MICROS, 20 * MICROS, 30 * MICROS)


def test_every_timer_is_in_the_state() -> None:
    """What goes on from a stored state ends as what was never interrupted."""
    letters = "bbbrrbrrrrbbbb"
    whole, end = live(letters, **{"for": "20s", "keep_firing_for": "30s"})
    settings = rule(**{"for": "20s", "keep_firing_for": "30s"})
    decode = msgspec.json.Decoder(RuleState).decode
    state, told = RuleState(), []
    for place, letter in enumerate(letters):
        state, change = advance(settings, decode(msgspec.json.encode(state)), verdict(letter), place * 10 * MICROS)
        told += [f"{change}@{place * 10}"] if change else []
    assert (told, state) == (whole, end)


# Data


@pytest.mark.parametrize(("letter", "data"), [("h", "ok"), ("b", "ok"), ("r", "ok"), ("u", "low_sample"), ("0", "no_data")])
def test_the_data_have_a_state_of_their_own(letter: str, data: str) -> None:
    assert live(letter)[1].data == data


@pytest.mark.parametrize("letters", ["bbb0", "bbb000000", "bbbu0u0", "bbbr0000"])
def test_missing_data_never_resolve_what_fires(letters: str) -> None:
    _, state = live(letters, **{"for": "20s", "keep_firing_for": "10s"})
    assert state.fires
    assert state.data in ("no_data", "low_sample")


@pytest.mark.parametrize(
    ("letters", "told"),
    [
        ("000", []),  # there never were any
        ("h000", ["no_data@10"]),
        ("hu0", ["no_data@20"]),
        ("h0h0", ["no_data@10", "no_data@30"]),
        ("bbb0", ["pending@0", "firing@20", "no_data@30"]),
    ],
)
def test_the_loss_of_data_is_told_once(letters: str, told: list[str]) -> None:
    assert live(letters, **{"for": "20s"})[0] == told


def test_a_state_knows_since_when_its_data_are_as_they_are() -> None:
    _, state = live("hhu000")
    assert (state.data, state.data_since_us) == ("no_data", 30 * MICROS)


def test_what_cannot_be_judged_stays_as_it_is_and_its_boundary_can_still_be_evaluated() -> None:
    _, firing = live("bbb")
    stale, change = unjudged(firing, "stale", 40 * MICROS)
    assert (stale.state, stale.at_us, stale.data, stale.data_since_us, change) == ("firing", 20 * MICROS, "stale", 40 * MICROS, "stale")
    again: tuple[RuleState, Change | None] = unjudged(stale, "stale", 50 * MICROS)
    assert again == (stale, None)
    judged, change = advance(rule(), stale, verdict("r"), 30 * MICROS)
    assert (judged.data, change) == ("ok", "resolved")


def test_an_error_is_no_loss_of_data() -> None:
    assert unjudged(live("h")[1], "error", 10 * MICROS)[1] is None


# Flaps, and who knows of it


def test_flaps_are_the_incidents_of_the_last_24_hours() -> None:
    settings, state, hour = rule(**{"for": "0s"}), RuleState(), 3600 * MICROS
    for at_us in (0, 10 * hour, 20 * hour):
        state, _ = advance(settings, state, verdict("b"), at_us)
        state, _ = advance(settings, state, verdict("r"), at_us + MICROS)
    assert state.flaps == 3
    state, _ = advance(settings, state, verdict("h"), 25 * hour)
    assert state.flaps == 2


def test_no_more_flaps_are_kept_than_a_state_may_hold() -> None:
    assert live("br" * (FLAPS_MAX + 5), **{"for": "0s"})[1].flaps == FLAPS_MAX


def test_a_new_incident_is_told_to_nobody_and_acknowledged_by_nobody_yet() -> None:
    _, firing = live("bbb")
    known = replace(firing, told=True, acknowledged_by="kim", acknowledged_us=5)
    resolved, _ = advance(rule(), known, verdict("r"), 40 * MICROS)
    assert (resolved.told, resolved.acknowledged_by, resolved.acknowledged_us) == (False, "", None)
