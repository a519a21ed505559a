"""When counts prove a rate beyond its threshold, when they show it back, and when they prove nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.conditions import Verdict, judge
from alerting.detectors import DetectorState, Steps
from alerting.samples import Look, Sample, Usual
from schemas.duration import MICROS
from tests.parts.alerts import rule

MINUTE = 6  # buckets


def seen(numerator: int, denominator: float, **more: Any) -> Look:
    return Look(boundary_us=10 * MICROS, basis=more.pop("basis", "users"), window=Sample(numerator, denominator, 300), **more)


def test_a_low_rate_among_many_is_a_breach() -> None:
    verdict = judge(rule(), seen(100, 812))
    assert (verdict.outcome, verdict.numerator, verdict.denominator, verdict.reason) == ("breach", 100, 812, "")
    assert verdict.rate == 100 / 812
    assert verdict.low is not None
    assert verdict.upper is not None
    assert verdict.low < 100 / 812 < verdict.upper < 0.40
    assert (verdict.threshold, verdict.recovery, verdict.basis, verdict.window_seconds) == (0.40, 0.45, "users", 300)


def test_a_low_rate_that_may_be_chance_is_no_breach() -> None:
    assert judge(rule(), seen(9, 30)).outcome == "healthy"
    assert judge(rule(confidence=0.5), seen(9, 30)).outcome == "breach"


@pytest.mark.parametrize("numerator", [0, 5, 29])
def test_too_few_entrants_prove_nothing(numerator: int) -> None:
    verdict = judge(rule(min_entrants=30), seen(numerator, 29))
    assert (verdict.outcome, verdict.reason, verdict.upper) == ("unknown", "low_sample", None)
    assert judge(rule(min_entrants=30), seen(0, 30)).outcome == "breach"


def test_nobody_is_not_a_rate_of_0() -> None:
    verdict = judge(rule(min_entrants=1), seen(0, 0))
    assert (verdict.outcome, verdict.rate, verdict.reason) == ("unknown", None, "no_data")


def test_more_conversions_than_entrants_are_a_rate_over_1() -> None:
    verdict = judge(rule(), seen(50, 40))
    assert (verdict.outcome, verdict.rate, verdict.upper) == ("recovered", 1.25, 1.0)
    assert judge(rule(below=1.0, recover_above=1.0), seen(50, 40)).outcome == "recovered"


@pytest.mark.parametrize(("numerator", "outcome"), [(399, "healthy"), (400, "healthy"), (449, "healthy"), (450, "recovered")])
def test_between_below_and_recover_above_it_is_healthy_but_not_recovered(numerator: int, outcome: str) -> None:
    assert judge(rule(below=0.40, recover_above=0.45), seen(numerator, 1000)).outcome == outcome


def test_without_recover_above_the_threshold_itself_is_recovery() -> None:
    assert judge(rule(below=0.40, recover_above=None), seen(400, 1000)).outcome == "recovered"


ABOVE = {"below": None, "above": 0.10, "recover_above": None, "recover_below": 0.08}


@pytest.mark.parametrize(("numerator", "outcome"), [(150, "breach"), (105, "healthy"), (81, "healthy"), (80, "recovered")])
def test_a_rate_too_high_is_the_mirror_of_one_too_low(numerator: int, outcome: str) -> None:
    verdict = judge(rule(**ABOVE), seen(numerator, 1000))
    assert (verdict.outcome, verdict.threshold, verdict.recovery) == (outcome, 0.10, 0.08)


def test_a_target_is_a_threshold() -> None:
    under = rule(below=None, below_target=True, recover_above=None)
    verdict = judge(under, seen(600, 1000, target=0.70))
    assert (verdict.outcome, verdict.threshold, verdict.recovery) == ("breach", 0.70, 0.70)
    assert judge(under, seen(700, 1000, target=0.70)).outcome == "recovered"


DROP = {"below": None, "recover_above": None, "drop": {"by": 0.25}}


def test_a_drop_is_measured_from_what_is_usual() -> None:
    verdict = judge(rule(**DROP), seen(300, 1000, baseline=Usual(0.60, 10**6, 0)))
    assert (verdict.outcome, verdict.baseline) == ("breach", 0.60)
    assert (verdict.threshold, verdict.recovery) == pytest.approx((0.45, 0.45))
    assert judge(rule(**DROP), seen(460, 1000, baseline=Usual(0.60, 10**6, 0))).outcome == "recovered"


def test_a_drop_recovers_where_it_says() -> None:
    verdict = judge(rule(**DROP | {"drop": {"by": 0.25, "recover_by": 0.1}}), seen(500, 1000, baseline=Usual(0.60, 10**6, 0)))
    assert verdict.outcome == "healthy"
    assert verdict.recovery == pytest.approx(0.54)


def test_a_drop_from_what_is_hardly_known_proves_less() -> None:
    look = {"numerator": 420, "denominator": 1000}
    known, vague = (judge(rule(**DROP), seen(**look, baseline=Usual(0.60, n, 0))) for n in (10**6, 40))
    assert (known.outcome, vague.outcome) == ("breach", "healthy")
    assert known.upper is not None
    assert vague.upper is not None
    assert vague.upper > known.upper


@pytest.mark.parametrize("detector", ["windowed", "sequential"])
def test_without_anything_to_compare_with_nothing_is_known(detector: str) -> None:
    verdict = judge(rule(**DROP, detector=detector), seen(300, 1000, steps=Steps(0, 10, ((30, 100),), 1)))
    assert (verdict.outcome, verdict.reason, verdict.threshold, verdict.rate) == ("unknown", "no_baseline", None, 0.3)


LONG = {"long_window": "1h"}


@pytest.mark.parametrize(
    ("long", "outcome"),
    [(Sample(1200, 9000, 3600), "breach"), (Sample(4000, 9000, 3600), "healthy"), (Sample(0, 29, 3600), "healthy")],
)
def test_with_two_windows_both_must_prove_it(long: Sample, outcome: str) -> None:
    assert judge(rule(**LONG), seen(100, 812, long=long)).outcome == outcome


def test_with_two_windows_the_short_one_alone_shows_recovery() -> None:
    assert judge(rule(**LONG), seen(450, 812, long=Sample(1200, 9000, 3600))).outcome == "recovered"


def test_on_adjusted_the_evidence_is_poisson_and_the_usual_rate_is_told() -> None:
    verdict = judge(rule(basis="adjusted"), seen(40, 150.5, basis="adjusted", baseline_rate=0.5))
    assert (verdict.outcome, verdict.baseline, verdict.basis, verdict.denominator) == ("breach", 0.5, "adjusted", 150.5)
    assert judge(rule(basis="adjusted"), seen(50, 150.5, basis="adjusted")).outcome == "healthy"


@given(
    numerator=st.integers(0, 500),
    denominator=st.integers(0, 500),
    below=st.floats(0.05, 0.95),
    margin=st.floats(0, 0.05),
    least=st.integers(1, 60),
    confidence=st.floats(0.5, 0.99),
)
def test_outcomes_agree_with_the_numbers_they_come_with(
    numerator: int, denominator: int, below: float, margin: float, least: int, confidence: float
) -> None:
    judged = rule(below=below, recover_above=min(1.0, below + margin), min_entrants=least, confidence=confidence)
    verdict = judge(judged, seen(numerator, denominator))
    assert (verdict.outcome == "unknown") == (denominator < least) == bool(verdict.reason)
    assert (verdict.rate is None) == (denominator == 0)
    if verdict.outcome == "breach":
        assert verdict.upper is not None
        assert verdict.upper < below
    if verdict.outcome == "recovered":
        assert verdict.rate is not None
        assert verdict.rate >= below


# Sequential

SEQUENTIAL = {"below": 0.30, "recover_above": None, "detector": "sequential", "effect": 0.4}
USUAL = Usual(0.35, 10**6, 0)


class Stream:
    """Buckets of ten entrants, one after the other, of a window of five minutes."""

    def __init__(self, **changes: Any) -> None:
        self.rule = rule(**SEQUENTIAL | changes)
        self.state: DetectorState | None = None
        self.buckets: list[tuple[int, int]] = []

    def bucket(self, converted: int, entered: int = 10) -> Verdict:
        self.buckets.append((converted, entered))
        place, window = len(self.buckets), self.buckets[-5 * MINUTE :]
        look = Look(
            boundary_us=place * 10 * MICROS,
            basis="users",
            window=Sample(sum(k for k, _ in window), sum(n for _, n in window), 300),
            usual=USUAL,
            steps=Steps((place - 1) * 10 * MICROS, 10, ((converted, entered),), 1),
        )
        verdict = judge(self.rule, look, self.state)
        self.state = verdict.detector
        return verdict

    def until(self, outcome: str, converted: int, most: int = 1000) -> int:
        """How many buckets it takes."""
        return next(number for number in range(1, most) if self.bucket(converted).outcome == outcome)


def test_evidence_adds_up_until_it_is_a_breach() -> None:
    stream = Stream()
    for _ in range(100):
        assert stream.bucket(4).outcome == "recovered"
    assert stream.state is not None
    assert (stream.state.score, stream.state.phase) == (0, "watching")
    assert 5 < stream.until("breach", 1) < 20
    assert stream.state.score >= stream.state.limit
    assert stream.state.began_us == 100 * 10 * MICROS  # the fall is dated by the bucket it began in


def test_a_breach_stays_one_until_half_of_the_evidence_is_gone() -> None:
    stream = Stream()
    stream.until("breach", 1)
    assert stream.state is not None
    assert stream.bucket(4).outcome == "breach"
    while (verdict := stream.bucket(4)).outcome == "breach":
        assert stream.state.score > stream.state.limit / 2
    assert verdict.outcome == "healthy"


def test_after_a_recovery_evidence_begins_anew() -> None:
    stream = Stream()
    first = stream.until("breach", 1)
    for _ in range(100):
        stream.bucket(1)  # the score goes no higher for all that lasts
    assert stream.until("recovered", 4) < 60
    assert stream.state is not None
    assert (stream.state.score, stream.state.entrants, stream.state.phase) == (0, 0, "watching")
    assert stream.state.traffic > 0
    assert abs(stream.until("breach", 1) - first) <= 2


def test_a_recovery_must_show_in_the_window_too() -> None:
    stream = Stream(recover_above=0.34)
    stream.until("breach", 0)
    verdict = [stream.bucket(4) for _ in range(20)][-1]
    assert stream.state is not None
    assert stream.state.score == 0
    assert (verdict.outcome, verdict.rate is not None and verdict.rate < 0.34) == ("healthy", True)


def test_few_entrants_are_no_breach_whatever_they_did() -> None:
    assert Stream(min_entrants=30).until("breach", 0) < Stream(min_entrants=500).until("breach", 0)
    assert Stream(min_entrants=500).until("breach", 0) == 50


def test_a_sequential_rule_is_healthy_in_a_window_with_few_entrants_and_unknown_in_one_without() -> None:
    stream = Stream()
    assert stream.bucket(1, 3).reason == ""
    for _ in range(29):
        stream.bucket(0, 0)
    verdict = stream.bucket(0, 0)
    assert (verdict.outcome, verdict.reason, verdict.rate) == ("unknown", "no_data", None)


def test_no_data_takes_nothing_from_the_evidence() -> None:
    stream = Stream()
    stream.until("breach", 1)
    assert stream.state is not None
    score = stream.state.score
    for _ in range(60):
        verdict = stream.bucket(0, 0)
    assert (verdict.outcome, verdict.reason, stream.state.score, stream.state.phase) == ("unknown", "no_data", score, "alarmed")


def test_a_verdict_survives_being_stored() -> None:
    stream = Stream()
    stream.until("breach", 1)
    verdict = stream.bucket(1)
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


def test_a_verdict_of_the_first_release_can_still_be_read() -> None:
    old = b'{"outcome":"breach","numerator":100,"denominator":812,"rate":0.123,"upper":0.1436}'
    assert msgspec.json.decode(old, type=Verdict) == Verdict("breach", 100, 812, 0.123, upper=0.1436)
