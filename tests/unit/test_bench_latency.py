"""How latency is measured: probes stay in order, and the moment at which evidence suffices is found without a worker."""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from schemas.config import Config
from tests.bench import latency, outages
from tests.bench.latency import API, METRICS, PROBES, Probes, _of_api, _of_metrics, _people, _record
from tests.bench.steady import Written, partition_of
from tests.bench.topic import PARTITIONS

BEGAN_MS = 1_735_689_600_000


def test_a_probe_is_seen_once_and_in_the_order_of_its_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([1.0, 2.0, 5.0])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(now))
    probes = Probes()
    probes.sent[0] += [0.5, 0.75]
    probes.sent[1] += [0.25]
    probes.note(API, [1, 0, 0, 0])
    probes.note(API, [1, 1, 0, 0])
    probes.note(API, [2, 1, 0, 0])
    assert probes.took(API) == [0.5, 4.25, 1.75]
    assert probes.took(METRICS) == []


def test_there_are_people_enough_for_every_partition() -> None:
    for partition, people in enumerate(_people()):
        names = list(people)
        assert len(names) >= PROBES // PARTITIONS
        assert {partition_of(name) for name in names} == {partition}


def test_what_is_counted_is_read_from_both_places() -> None:
    values = [{"value": str(n), "stages": [{"users": n + 3}, {"users": 0}]} for n in (0, 2)]
    assert _of_api(json.dumps({"values": values}).encode()) == [3, 0, 5, 0]
    labels = '{{funnel="probe",stage="{}",window="1h",dimension="partition",value="1"}} {}\n'
    text = "".join(f"funnel_stage_users{labels.format(stage, users)}" for stage, users in (("sent", "7.0"), ("answered", "2.0")))
    assert _of_metrics(text.encode()) == [0, 7, 0, 0]


def test_a_probe_is_a_record_of_its_funnel() -> None:
    found = json.loads(_record(b"probe-000001", 2))
    assert (found["event"], found["user_id"], found["properties"]) == ("probe", "probe-000001", {"partition": "2"})


def test_a_late_answer_is_said() -> None:
    written = Written(1000, 1.0, 0.003)
    spent = latency.Spent(10.0, worker=5.0, ours=10.0, machine=10.5)
    said = "\n".join(latency.said(1.0, written, spent, {API: [0.5] * 300, METRICS: [0.5] * 290 + [1.5] * 10}))
    assert f"visible in {API} under 1 s: 0.50 s, held" in said
    assert f"visible in {METRICS} under 1 s: 1.50 s, NOT HELD" in said
    assert "took 0.50 of a core" in said
    assert "NOISY" not in said
    noisy = latency.Spent(10.0, worker=5.0, ours=10.0, machine=10.0 + 5.0 * (os.cpu_count() or 1))
    assert "NOISY: others took up to 50%" in "\n".join(latency.said(1.0, written, noisy, {API: [0.5] * 300}))


def test_people_stop_converting_when_their_funnel_breaks() -> None:
    broken = {"users-0": 20.0, "entries-0": 30.0}
    events = outages.traffic(broken, 40.0)
    assert [event.at for event in events] == sorted(event.at for event in events)
    for name, at in broken.items():
        paid = [event.at for event in events if event.funnel == name and event.stage == "pay"]
        assert at - 2 < max(paid) < at
    views = Counter(event.funnel for event in events if event.stage == "view" and event.at > 30.0)
    assert min(views[name] for name in broken) > 100


def test_funnels_break_at_moments_spread_between_two_evaluations() -> None:
    for basis in outages.BASES:
        phases = sorted(at % outages.STEP_SECONDS for name, at in outages.broken_at().items() if name.startswith(basis))
        widest = max(later - earlier for earlier, later in zip(phases, [*phases[1:], phases[0] + outages.STEP_SECONDS]))
        assert widest < 2 * outages.STEP_SECONDS / outages.OUTAGES + 0.01


def test_evidence_suffices_between_two_evaluations_and_not_before_the_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment moves with the outage, second by second, though evaluations are ten seconds apart."""
    monkeypatch.setattr(outages, "NAMES", ("users-0",))
    setup = Config.model_validate(outages.setup_of("clicks", "http://hook.example"))
    found = {}
    for at in (60.0, 63.0):
        events = outages.traffic({"users-0": at}, 100.0)
        sent = [(BEGAN_MS + int(event.at * 1000), event) for event in events]
        found[at] = outages.evidence_suffices(setup, sent, {"users-0": BEGAN_MS / 1000 + at})["users-0"] - BEGAN_MS / 1000 - at
    assert 5 < found[60.0] < 25
    assert found[63.0] == pytest.approx(found[60.0], abs=2.5)


def test_an_outage_that_is_told_too_late_is_said() -> None:
    told = {"users-0": outages.Told(0, 10.0, 15.0, 15.5), "entries-0": outages.Told(0, 10.0, 20.0, 21.5)}
    said = "\n".join(outages.said(told))
    assert "beyond what the condition needs: 11.5 s, NOT HELD" in said
    assert "held" in "\n".join(outages.said({"users-0": told["users-0"], "entries-0": told["users-0"]}))
