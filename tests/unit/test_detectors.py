"""What the sequential detector adds up, and at what limit healthy traffic alarms as seldom as was asked."""

from __future__ import annotations

import random
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.detectors import (
    AT_THRESHOLD,
    SAFETY,
    DetectorState,
    Evidence,
    Run,
    Steps,
    Watch,
    _poisson,
    evidence,
    fold,
    limit,
    resume,
    size_class,
    tilt,
    traffic_of,
    watch,
)
from schemas.duration import MICROS
from tests.alerts_study.chain import mean_time, one_bucket

DAY = 86_400
RUN = 100 * DAY
FALL = evidence(0.30, 0.4, rises=False, poisson=False)
rates = st.floats(0.02, 0.9)
effects = st.floats(0.1, 0.8)


def mean_buckets(of: Evidence, at: float, rate: float, traffic: float) -> float:
    """The exact mean number of buckets to an alarm."""
    return mean_time(one_bucket(of, rate, traffic), at)


@pytest.mark.parametrize(("usual", "traffic"), [(0.35, 1 / 3), (0.35, 10 / 6), (0.35, 50 / 6), (0.45, 2.0), (0.33, 4.0)])
@pytest.mark.parametrize("poisson_", [False, True], ids=["bernoulli", "poisson"])
def test_at_the_usual_rate_the_mean_time_to_an_alarm_is_that_aimed_for(usual: float, traffic: float, poisson_: bool) -> None:
    of = evidence(0.30, 0.4, rises=False, poisson=poisson_)
    wanted, run = 20_000, 200_000  # buckets; without the floor at the threshold in the way
    at = limit(of, usual, traffic, 10, wanted * 10)
    floor = limit(of, None, traffic, 10, run // AT_THRESHOLD)
    found = mean_buckets(of, at, usual, traffic)
    assert found > 0.85 * SAFETY * wanted
    if at > floor:
        assert found < 1.6 * SAFETY * wanted  # traffic is rounded up by 19% at most


def test_a_rise_is_watched_as_a_fall_is() -> None:
    of = evidence(0.10, 0.5, rises=True, poisson=False)
    at = limit(of, 0.08, 5.0, 10, 200_000)
    assert 0.85 * SAFETY < mean_buckets(of, at, 0.08, 5.0) / 20_000 < 1.6 * SAFETY


def test_while_nothing_is_usual_the_threshold_itself_is_that_safe() -> None:
    at = limit(FALL, None, 1.0, 10, 200_000)
    assert 0.85 * SAFETY < mean_buckets(FALL, at, 0.30, 1.0) / 20_000 < 1.6 * SAFETY


@pytest.mark.parametrize("usual", [0.31, 0.5, 0.9, 0.99])
def test_at_the_threshold_an_alarm_comes_once_in_a_hundredth_of_the_run_length_at_most(usual: float) -> None:
    at = limit(FALL, usual, 2.0, 10, 2_000_000)
    assert mean_buckets(FALL, at, 0.30, 2.0) > 0.85 * 200_000 / AT_THRESHOLD


def test_the_best_test_of_the_issue_is_nearly_that_of_the_optimum() -> None:
    """Watching 0.30 against 0.18 where 0.35 is usual is the best test of 0.35 against 0.144."""
    of = tilt(FALL, 0.35, 1.0)
    assert of.other == pytest.approx(0.144, abs=0.001)
    ratio, misses = of.other / 0.35, (1 - of.other) / 0.65
    assert of.entrant == pytest.approx(log(misses))
    assert of.hit + of.entrant == pytest.approx(log(ratio))


@given(threshold=rates, effect=effects, poisson=st.booleans())
def test_a_conversion_speaks_for_a_rate_and_a_miss_against_it(threshold: float, effect: float, poisson: bool) -> None:
    fall = evidence(threshold, effect, rises=False, poisson=poisson)
    assert fall.of(1, 1) < 0 < fall.of(0, 1)
    assert fall.of(0, 0) == 0
    if threshold * (1 + effect) < 0.95:
        rise = evidence(threshold, effect, rises=True, poisson=poisson)
        assert rise.of(0, 1) < 0 < rise.of(1, 1)


@settings(max_examples=60, deadline=None)
@given(threshold=rates, effect=effects, traffic=st.floats(0.01, 300), more=st.floats(1.5, 50), poisson=st.booleans())
def test_a_longer_run_length_takes_a_higher_limit(threshold: float, effect: float, traffic: float, more: float, poisson: bool) -> None:
    of = evidence(threshold, effect, rises=False, poisson=poisson)
    usual = min(0.95, threshold * 1.15)
    assert limit(of, usual, traffic, 10, int(RUN * more)) > limit(of, usual, traffic, 10, RUN) > 0


@settings(max_examples=60, deadline=None)
@given(threshold=st.floats(0.05, 0.7), effect=effects, traffic=st.floats(0.01, 300), a=st.floats(1, 1.3), b=st.floats(1, 1.3))
def test_the_further_the_usual_rate_is_from_the_threshold_the_lower_the_limit(
    threshold: float, effect: float, traffic: float, a: float, b: float
) -> None:
    of = evidence(threshold, effect, rises=False, poisson=False)
    near, far = sorted((a, b))
    assert limit(of, threshold * far, traffic, 10, RUN) <= limit(of, threshold * near, traffic, 10, RUN) + 1e-6
    assert limit(of, threshold * far, traffic, 10, RUN) <= limit(of, None, traffic, 10, RUN) + 1e-6


def test_a_usual_rate_beyond_the_threshold_counts_as_the_threshold() -> None:
    assert limit(FALL, 0.10, 3.0, 10, RUN) == limit(FALL, 0.30, 3.0, 10, RUN) == limit(FALL, None, 3.0, 10, RUN)


@settings(max_examples=60, deadline=None)
@given(usual=st.floats(0.3, 1.0), traffic=st.floats(0, 1e6), threshold=st.floats(1e-5, 0.9999), effect=st.floats(0.05, 0.99))
def test_there_is_a_limit_whatever_the_numbers(usual: float, traffic: float, threshold: float, effect: float) -> None:
    for poisson in (False, True):
        of = evidence(threshold, effect, rises=False, poisson=poisson)
        assert 0 < limit(of, usual, traffic, 10, RUN) < 1e9


# Folding

buckets = st.lists(st.integers(0, 12).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1, max_size=40)


@given(counts=buckets, cut=st.integers(0, 40))
def test_buckets_add_up_the_same_in_one_go_or_in_two(counts: list[tuple[int, int]], cut: int) -> None:
    whole = fold(FALL, Run(0), 10, counts, 99.0)
    parts = fold(FALL, fold(FALL, Run(0), 10, counts[:cut], 99.0), 10, counts[cut:], 99.0)
    assert parts == whole


@given(counts=buckets)
def test_the_score_is_never_under_0_nor_over_the_cap_and_dates_its_own_beginning(counts: list[tuple[int, int]]) -> None:
    run = fold(FALL, Run(0), 10, counts, 3.0)
    assert 0 <= run.score <= 3
    assert run.at_us == len(counts) * 10 * MICROS
    assert (run.score > 0) == (run.began_us is not None)
    if run.began_us is not None:
        assert run.entrants == sum(n for _, n in counts[run.began_us // (10 * MICROS) :])


ASKED = Watch(0.30, 0.4, rises=False, run_seconds=RUN, entrants_min=30, usual=0.35)


def watched(counts: list[tuple[int, int]], settled: int, start: int = 0, before: DetectorState | None = None) -> DetectorState:
    return watch(ASKED, "users", Steps(start * 10 * MICROS, 10, counts, settled), before)


@given(counts=buckets, data=st.data())
def test_a_late_event_counts_as_if_it_had_come_in_time(counts: list[tuple[int, int]], data: st.DataObject) -> None:
    """What is not settled is looked at anew."""
    settled = data.draw(st.integers(0, len(counts)))
    early = [(0, 0) if place >= settled else count for place, count in enumerate(counts)]
    first = watched(early, settled)
    later = watched(counts[settled:], len(counts) - settled, settled, first)
    at_once = watched(counts, len(counts))
    assert (later.settled, later.score, later.began_us) == (at_once.settled, at_once.score, at_once.began_us)
    assert later.traffic == pytest.approx(at_once.traffic)


def test_a_state_of_another_basis_or_width_or_of_the_future_is_not_gone_on_from() -> None:
    state = watched([(1, 10)] * 10, 10)
    assert resume(state, "users", 10, 100 * MICROS) == state.settled
    assert resume(state, "users", 10, 90 * MICROS) is None
    assert resume(state, "entries", 10, 100 * MICROS) is None
    assert resume(state, "users", 60, 100 * MICROS) is None
    assert resume(None, "users", 10, 100 * MICROS) is None


def test_the_limit_goes_with_the_traffic_seen() -> None:
    calm, busy = watched([(1, 3)] * 60, 60), watched([(100, 300)] * 60, 60)
    assert calm.limit < busy.limit


def test_healthy_traffic_hardly_ever_alarms_and_a_fall_always_does() -> None:
    chance = random.Random(5)

    def bucket(rate: float) -> tuple[int, int]:
        return sum(chance.random() < rate for _ in range(8)), 8

    state = None
    for place in range(8640):
        state = watched([bucket(0.35)], 1, place, state)
        assert state.phase == "watching"
    for place in range(8640, 8700):
        state = watched([bucket(0.15)], 1, place, state)
    assert state is not None
    assert state.phase == "alarmed"


@pytest.mark.parametrize("traffic", [0.0, 1e-3, 0.02, 0.5, 1.0, 1.1, 2.0, 31.9, 32.0, 5000.0])
def test_a_class_of_traffic_holds_what_is_of_it(traffic: float) -> None:
    least, most = traffic_of(size_class(traffic))
    assert least < traffic <= most
    assert size_class(most * 1.001) == size_class(traffic) + 1


@pytest.mark.parametrize("most", [-3, 0, 1, 2, 7, 1000])
def test_chances_that_nobody_asks_about_change_no_other(most: int) -> None:
    assert _poisson(6.5, most)[: max(0, most)] == _poisson(6.5)[: max(0, most)]
