"""What `rates` says under its table: intervals, what is pending, and what stands behind an adjusted rate."""

from __future__ import annotations

from typing import Any

from schemas.report import Adjusted, Rate, StageReport
from streams.tables import rates_notes

FIRST = StageReport(name="view", users=10, step=None, lost=0, events=10, value=0)


def notes(**changes: Any) -> list[str]:
    stage = StageReport(name="pay", users=3, lost=7, events=3, value=0, **changes)
    return list(rates_notes({"stages": [one.model_dump(mode="json") for one in (FIRST, stage)]}))


def test_the_basis_users_needs_no_note() -> None:
    assert notes(step=Rate(numerator=3, denominator=10, rate=0.3)) == []


def test_mature_entries_come_with_their_interval_and_the_pending_ones() -> None:
    step = Rate(numerator=3, denominator=10, rate=0.3, low=0.11, high=0.6)
    assert notes(step=step, pending=Rate(numerator=1, denominator=4, rate=0.25)) == [
        "pay: 30.0%, 95% interval 11.0% to 60.0%",
        "pay: 4 entries may still convert, 1 of them have",
    ]


def test_an_adjusted_rate_says_what_is_usual() -> None:
    behind = Adjusted(ready=True, reason="", expected=12.34, baseline=0.5, capped=False, projected=None)
    assert notes(step=Rate(numerator=9, denominator=24.7, rate=0.364, low=0.17, high=0.69), adjusted=behind) == [
        "pay: 36.4%, 95% interval 17.0% to 69.0%",
        "pay: usually 50.0% convert; 12.3 conversions were to be expected",
    ]


def test_an_adjusted_rate_that_is_not_ready_says_why() -> None:
    behind = Adjusted(ready=False, reason="needs 200 finished entries, has 120", expected=0, baseline=None, capped=False, projected=None)
    assert notes(step=Rate(numerator=9, denominator=0, rate=None), adjusted=behind) == [
        "pay: no adjusted rate: needs 200 finished entries, has 120"
    ]
