"""Which alerts a silence holds, and when."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from alerting.lifecycle import AlertKey
from alerting.silences import SILENCES_MAX, Subject, begun, ended, holding, matches, report, state_of, subject_of, superfluous
from schemas.silence import Matchers, NewSilence, Silence
from tests.parts.alerts import rule

NOON = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
TOTAL = subject_of(rule(), AlertKey("CheckoutToPayLow"))
IOS = subject_of(rule(), AlertKey("CheckoutToPayLow", "device", "ios"))
SOURCE = subject_of(None, AlertKey("FunnelwatchPipeline", "source", "web"))


def silence(name: str = "s", starts: datetime = NOON, ends: datetime = NOON + HOUR, **patterns: str) -> Silence:
    return Silence(id=name, matchers=Matchers(**patterns or {"rule": "*"}), starts=starts, ends=ends, author="kim", reason="moving")


@pytest.mark.parametrize(
    ("patterns", "held"),
    [
        ({"rule": "*"}, {TOTAL, IOS, SOURCE}),
        ({"rule": "CheckoutToPayLow"}, {TOTAL, IOS}),
        ({"rule": "Checkout"}, set()),
        ({"rule": "checkout*"}, set()),  # capitals count
        ({"rule": "*Pay?ow"}, {TOTAL, IOS}),
        ({"funnel": "purchase"}, {TOTAL, IOS}),
        ({"funnel": "purchase", "stage": "checkout"}, set()),
        ({"stage": "p*"}, {TOTAL, IOS}),
        ({"dimension": "device"}, {IOS}),
        ({"value": "i*"}, {IOS}),
        ({"rule": "CheckoutToPayLow", "dimension": "device", "value": "android"}, set()),
        ({"rule": "FunnelwatchPipeline", "value": "web"}, {SOURCE}),
    ],
)
def test_every_pattern_must_match(patterns: dict[str, str], held: set[Subject]) -> None:
    assert {subject for subject in (TOTAL, IOS, SOURCE) if matches(silence(**patterns), subject)} == held


@pytest.mark.parametrize(("minutes", "state"), [(-1, "future"), (0, "active"), (59, "active"), (60, "expired"), (61, "expired")])
def test_a_silence_holds_from_its_start_until_just_before_its_end(minutes: int, state: str) -> None:
    now = NOON + timedelta(minutes=minutes)
    assert state_of(silence(), now) == state
    assert holding([silence()], TOTAL, now) == (("s",) if state == "active" else ())
    assert report(silence(), now).state == state


def test_of_several_silences_all_that_hold_are_named() -> None:
    kept = [silence("a"), silence("b", rule="Other"), silence("c", stage="pay"), silence("d", starts=NOON + HOUR, ends=NOON + 2 * HOUR)]
    assert holding(kept, TOTAL, NOON) == ("a", "c")


def new(**changes: object) -> NewSilence:
    return NewSilence.model_validate({"matchers": {"rule": "*"}, "ends": NOON + HOUR, "author": "kim", "reason": "moving"} | changes)


def test_a_silence_begins_now_unless_it_says_when() -> None:
    assert begun(new(), "s", NOON) == silence()
    window = begun(new(starts=NOON + HOUR, ends=NOON + 2 * HOUR), "s", NOON)
    assert state_of(window, NOON) == "future"


def test_times_are_kept_in_utc() -> None:
    assert begun(new(ends="2026-03-02T15:00:00+02:00"), "s", NOON).ends == NOON + HOUR
    assert begun(new(ends="2026-03-02T15:00:00+02:00"), "s", NOON).ends.tzinfo == timezone.utc


@pytest.mark.parametrize(
    "changes", [{"ends": NOON}, {"ends": NOON - HOUR}, {"starts": NOON + 2 * HOUR}, {"starts": NOON - 2 * HOUR, "ends": NOON - HOUR}]
)
def test_a_silence_that_could_never_hold_anything_is_refused(changes: dict[str, datetime]) -> None:
    with pytest.raises(ValueError, match="ends after it starts"):
        begun(new(**changes), "s", NOON)


@pytest.mark.parametrize(
    "changes",
    [
        {"matchers": {}},
        {"matchers": {"rule": ""}},
        {"matchers": {"city": "x"}},
        {"author": ""},
        {"author": "a\nb"},
        {"reason": ""},
        {"reason": "x" * 501},
        {"ends": "2026-03-02T15:00:00"},
        {"id": "mine"},
    ],
)
def test_a_silence_says_what_until_when_who_and_why(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        new(**changes)


def test_a_silence_can_be_ended_before_its_time_and_before_its_beginning() -> None:
    over = ended(silence(), NOON + timedelta(minutes=5))
    assert state_of(over, NOON + timedelta(minutes=5)) == "expired"
    assert state_of(ended(silence(starts=NOON + HOUR, ends=NOON + 2 * HOUR), NOON), NOON + HOUR) == "expired"
    assert ended(over, NOON + timedelta(minutes=9)) == over


def test_what_is_longest_over_is_forgotten_first_and_what_still_counts_never() -> None:
    over = [silence(str(n), ends=NOON - timedelta(minutes=n), starts=NOON - HOUR) for n in range(5)]
    holds = [silence(f"h{n}") for n in range(SILENCES_MAX - 5)]
    assert superfluous(holds, NOON) == ()
    assert superfluous([*over, *holds], NOON) == ("4",)
    assert superfluous([*holds, *holds], NOON) == ()
