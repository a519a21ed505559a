"""The demo's incident covers whole buckets, and a run of 45 s or more sees its alert fire and resolve."""

from __future__ import annotations

from itertools import product

from streams.incident import Incident, schedule, settled

EPOCH = 1_700_000_000.0
PHASES = [phase / 4 for phase in range(40)]


def test_from_45_seconds_up_two_buckets_break_and_a_sound_one_follows_in_time() -> None:
    for seconds, phase in product(range(45, 601), PHASES):
        start = EPOCH + phase
        incident = schedule(start, seconds)
        assert incident is not None
        end = incident.begin + incident.length
        assert incident.begin % 10 == 0
        assert incident.length % 10 == 0
        assert incident.length >= 20
        assert start <= incident.begin <= start + seconds / 2
        assert end + 10 + 3 <= start + seconds  # a whole sound bucket, and event time moves past its end
        later = incident.begin + 10 - start  # it begins as late as it can
        assert later > seconds / 2 or end + 10 + 10 + 3 > start + seconds


def test_a_shorter_run_has_the_same_incident_where_it_fits_and_else_none() -> None:
    for seconds, phase in product(range(1, 45), PHASES):
        incident = schedule(EPOCH + phase, seconds)
        if incident is not None:
            assert incident.begin >= EPOCH + phase
            assert incident.begin + 33 <= EPOCH + phase + seconds


def test_a_long_run_spends_about_a_fifth_in_the_incident() -> None:
    incident = schedule(EPOCH, 600)
    assert incident is not None
    assert incident.length == 120


def test_without_an_end_it_comes_after_forty_seconds_and_again_every_five_minutes() -> None:
    for phase in PHASES:
        start = EPOCH + phase
        incident = schedule(start, None)
        assert incident is not None
        assert incident.begin % 10 == 0
        assert 40 <= incident.begin - start < 50
        active = [second for second in range(700) if incident.active(incident.begin + second)]
        assert active == [*range(40), *range(300, 340), *range(600, 640)]
        assert not incident.active(incident.begin - 1)


def test_an_incident_is_over_at_its_end() -> None:
    incident = Incident(EPOCH, 20)
    assert [incident.active(EPOCH + at) for at in (-0.001, 0, 19.999, 20, 320)] == [False, True, True, False, False]


def test_traffic_does_not_begin_shortly_before_a_boundary() -> None:
    for phase in PHASES:
        begin = settled(EPOCH + phase)
        assert 0 <= begin - (EPOCH + phase) < 5
        assert begin % 10 <= 5
