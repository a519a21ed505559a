"""Which rules are evaluated when, on what counts, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

import alerting.evaluator
from alerting.evaluator import BEAT_US, Evaluator, jitter_seconds
from alerting.lifecycle import AlertKey, RuleState
from alerting.memory_store import MemoryAlertStore
from alerting.message import Notification
from alerting.pipeline import Intake
from alerting.reports import moment
from alerting.samples import Look
from schemas.config import Config
from schemas.duration import MICROS
from schemas.errors import StoreUnavailable
from schemas.pipeline import PIPELINE
from schemas.report import AuditEntry, Transition
from schemas.silence import Matchers, Silence
from tests.parts.alerts import NIGHT_US, Counts, config, rule

TOTAL = AlertKey("CheckoutToPayLow")
IOS, ANDROID, WEB = (AlertKey("CheckoutToPayLow", "device", value) for value in ("ios", "android", "web"))
S = MICROS
BAD, GOOD = (100, 10), (100, 60)


class Bench:
    """An evaluator over a store in memory; `at` is in seconds after NIGHT_US, of events and of the clock alike."""

    def __init__(self, setup: Config, counts: Counts | None = None, tick_seconds: float | None = None) -> None:
        self.counts = counts or Counts()
        self.store = MemoryAlertStore(fence=7)
        self.setup = setup
        self.tick_seconds = tick_seconds
        self.records = 0
        self.restart()

    def restart(self) -> None:
        self.evaluator = Evaluator(self.setup, self.store, tick_seconds=self.tick_seconds)

    async def tick(self, at: float, fence: int = 7, stale: bool = False, now: float | None = None, records: int = 1) -> list[str]:
        """What was told, as `firing` or `firing device=ios`."""
        self.records += records
        intakes = {"web": Intake(NIGHT_US + int(at * S), not stale, self.records)}
        told = await self.evaluator.tick(fence, {"purchase": self.counts}, {}, intakes, NIGHT_US + int((at if now is None else now) * S))
        return [_shown(t) for t in told]

    async def at(self, alert: AlertKey = TOTAL) -> int | None:
        """When the alert was last evaluated, in seconds after NIGHT_US."""
        state = await self.state(alert)
        return None if state.at_us is None else (state.at_us - NIGHT_US) // S

    async def state(self, alert: AlertKey = TOTAL) -> RuleState:
        return (await self.store.states()).get(alert, RuleState())

    async def alerts(self) -> set[AlertKey]:
        """Every alert of a rule that there is a state of."""
        return {alert for alert in await self.store.states() if alert.rule != PIPELINE}

    async def heard(self) -> list[str]:
        """What the channels have to be told, as `firing`, `firing device=ios +2` (with two others in it)."""
        waiting = sorted(await self.store.outbox(), key=lambda e: (e.notification.transition.at, e.id))
        return [_said(e.notification) for e in waiting if e.channel == "oncall"]

    async def silence(self, begin: float, end: float, **patterns: str) -> None:
        starts, ends = (moment(NIGHT_US + int(s * S)) for s in (begin, end))
        silence = Silence(id=str(begin), matchers=Matchers(**patterns), starts=starts, ends=ends, author="kim", reason="x")
        audit = AuditEntry(at=starts, author="kim", action="silence_added", subject="", detail="", reason="")
        await self.store.keep_silence(silence, audit)


def _said(told: Notification) -> str:
    return _shown(told.transition) + (f" +{len(told.others)}" if told.others else "")


def _shown(told: Transition) -> str:
    name = "" if told.rule == TOTAL.rule else f"{told.rule} "
    return f"{name}{told.state}" if told.dimension is None else f"{name}{told.state} {told.dimension}={told.value}"


def bad(at_us: int = NIGHT_US - S) -> Counts:
    return Counts().add(at_us, *BAD)


async def test_a_rule_goes_pending_and_fires_and_resolves() -> None:
    bench = Bench(config({}), bad())
    assert await bench.tick(0) == ["pending"]
    assert await bench.tick(10) == []
    assert await bench.tick(20) == ["firing"]
    bench.counts.add(NIGHT_US + 25 * S, 400, 390)
    assert await bench.tick(30) == ["resolved"]


async def test_a_transition_carries_its_numbers() -> None:
    bench = Bench(config({"for": "0s"}), bad())
    intakes = {"web": Intake(NIGHT_US + 3 * S, settled=True)}
    (told,) = await bench.evaluator.tick(7, {"purchase": bench.counts}, {}, intakes, NIGHT_US + 3 * S)
    assert told.model_dump(mode="json") == {
        "at": "2026-01-02T03:04:10Z",
        "rule": "CheckoutToPayLow",
        "funnel": "purchase",
        "stage": "pay",
        "dimension": None,
        "value": None,
        "state": "firing",
        "numerator": 10,
        "denominator": 100,
        "rate": 0.1,
        "threshold": 0.4,
        "baseline": None,
        "basis": "users",
    }
    assert await bench.store.transitions() == [told]


async def test_a_rule_is_evaluated_at_boundaries_only() -> None:
    bench = Bench(config({}), bad())
    await bench.tick(9.999999)
    assert await bench.at() == 0
    await bench.tick(10)
    assert await bench.at() == 10


@pytest.mark.parametrize(("window", "step"), [("10s", 10), ("1h", 10), ("2h", 60), ("24h", 60), ("2d", 3600)])
async def test_the_step_is_the_width_of_the_windows_buckets(window: str, step: int) -> None:
    bench = Bench(config({"window": window}), Counts({"window": window}).add(NIGHT_US - S, *BAD))
    await bench.tick(3599)
    at = await bench.at()
    assert at is not None
    assert (NIGHT_US // S + at) % step == 0
    assert 3599 - step < at <= 3599


@pytest.mark.parametrize(
    ("seconds", "counted"),
    [(-301, False), (-300, True), (-1, True), (0, True), (9, True)],
)
async def test_it_looks_at_the_full_buckets_before_the_boundary_and_at_all_after(seconds: int, counted: bool) -> None:
    bench = Bench(config({"for": "0s"}), bad(NIGHT_US + seconds * S))
    assert await bench.tick(0) == (["firing"] if counted else [])


async def test_of_several_boundaries_passed_only_the_newest_is_evaluated() -> None:
    bench = Bench(config({}), bad())
    assert await bench.tick(0) == ["pending"]
    assert await bench.tick(47) == ["firing"]
    assert await bench.at() == 40


async def test_a_boundary_is_evaluated_once_even_by_a_new_process() -> None:
    bench = Bench(config({}), bad())
    assert await bench.tick(0) == ["pending"]
    assert await bench.tick(3) == []
    bench.restart()
    assert await bench.tick(5) == []
    assert len(await bench.store.transitions()) == 1


async def test_between_boundaries_the_store_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(config({}), bad())
    await bench.tick(0)
    monkeypatch.setattr(bench.store, "states", None)
    assert await bench.tick(9, now=4.9) == []


async def test_a_restart_forgets_neither_pending_nor_firing() -> None:
    bench = Bench(config({}), bad())
    await bench.tick(0)
    bench.restart()
    assert await bench.tick(20) == ["firing"]
    bench.restart()
    bench.counts.add(NIGHT_US + 25 * S, 400, 390)
    assert await bench.tick(30) == ["resolved"]


async def test_time_that_goes_back_changes_nothing() -> None:
    bench = Bench(config({}), bad())
    await bench.tick(20)
    bench.restart()
    assert await bench.tick(0) == []
    assert await bench.at() == 20


async def test_a_stale_source_is_not_evaluated_and_the_others_are() -> None:
    bench = Bench(config({"for": "0s"}, {"name": "InApp", "funnel": "in-app", "for": "0s"}), bad())
    counts = {"purchase": bench.counts, "in-app": bad()}
    for settled, fires in ((False, "InApp"), (True, "CheckoutToPayLow")):
        intakes = {"web": Intake(NIGHT_US, settled), "app": Intake(NIGHT_US, settled=True)}
        told = await bench.evaluator.tick(7, counts, {}, intakes, NIGHT_US)
        assert [t.rule for t in told] == [fires]


async def test_nothing_resolves_while_the_source_is_stale() -> None:
    bench = Bench(config({"for": "0s"}), bad())
    assert await bench.tick(0) == ["firing"]
    bench.counts.add(NIGHT_US + S, 400, 390)
    assert await bench.tick(10, stale=True) == []
    assert await bench.tick(15, stale=True) == ["stale"]
    assert (await bench.state()).fires
    assert await bench.tick(15) == ["resolved"]


@pytest.mark.parametrize("intakes", [{}, {"web": Intake(None, settled=True)}])
async def test_a_source_without_a_time_is_not_evaluated(intakes: dict[str, Intake]) -> None:
    bench = Bench(config({}), bad())
    assert await bench.evaluator.tick(7, {"purchase": bench.counts}, {}, intakes, NIGHT_US) == []
    assert await bench.alerts() == set()


async def test_a_funnel_without_counts_is_not_evaluated() -> None:
    evaluator = Evaluator(config({}), store := MemoryAlertStore(7))
    assert await evaluator.tick(7, {}, {}, {"web": Intake(NIGHT_US, settled=True)}, NIGHT_US) == []
    assert {alert.rule for alert in await store.states()} == {PIPELINE}


async def test_every_value_of_a_dimension_is_judged_beside_the_total() -> None:
    counts = Counts().add(NIGHT_US - S, *GOOD)
    counts.add(NIGHT_US - S, *GOOD, "device", "web").add(NIGHT_US - S, *BAD, "device", "ios").add(NIGHT_US - S, *BAD, "channel", "ads")
    bench = Bench(config({"by": ["device"], "for": "0s"}), counts)
    assert await bench.tick(0) == ["firing device=ios"]
    assert await bench.alerts() == {TOTAL, *(AlertKey("CheckoutToPayLow", "device", v) for v in ("web", "ios"))}


async def test_a_value_that_is_no_longer_counted_keeps_firing() -> None:
    bench = Bench(config({"by": ["device"], "for": "0s"}), Counts().add(NIGHT_US - S, *BAD, "device", "ios"))
    await bench.tick(0)
    bench.counts = Counts()
    await bench.tick(10)
    assert (await bench.state(IOS)).state == "firing"
    assert await bench.at(IOS) == 10


async def test_with_an_old_token_nothing_happens_and_with_the_new_one_all_is_made_up() -> None:
    bench = Bench(config({}), bad())
    assert await bench.tick(0, fence=6) == []
    assert await bench.store.states() == {}
    assert await bench.tick(0, fence=7) == ["pending"]


async def test_a_store_that_fails_costs_no_transition(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(config({}), bad())

    async def fail(*_: object) -> bool:
        raise StoreUnavailable("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(bench.store, "commit", fail)
        with pytest.raises(StoreUnavailable):
            await bench.tick(0)
    assert await bench.tick(1) == ["pending"]


async def test_whoever_was_told_of_an_incident_hears_when_nobody_watches_it_any_more() -> None:
    """Else an incident would stay open there for ever."""
    bench = Bench(config({"for": "0s"}, {"name": "Old", "for": "0s", "notify": ["oncall", "oncall"]}), bad())
    await bench.tick(0)
    bench.setup = config({"for": "0s"})
    bench.restart()
    assert await bench.tick(1) == ["Old resolved"]
    assert await bench.heard() == ["firing", "Old firing", "Old resolved"]
    said = {e.notification.transition.rule: e.notification for e in await bench.store.outbox() if e.notification.status == "resolved"}
    began = next(e.notification for e in await bench.store.outbox() if e.notification.key.endswith("firing") and "Old" in e.id)
    assert said["Old"].incident == began.incident
    assert said["Old"].title == "Old: not watched any more (resolved)"


async def test_the_end_is_told_to_the_channels_that_heard_of_the_beginning() -> None:
    channels = {"oncall": {"type": "log"}, "chat": {"type": "log"}}
    bench = Bench(config({"for": "0s"}, channels=channels), bad())
    await bench.tick(0)
    bench.setup = config({"for": "0s", "notify": ["chat"]}, channels=channels)
    bench.restart()
    bench.counts.add(NIGHT_US + 5 * S, 900, 900)
    await bench.tick(10)
    assert sorted((e.channel, e.notification.status) for e in await bench.store.outbox()) == [("oncall", "firing"), ("oncall", "resolved")]


async def test_states_of_rules_and_dimensions_that_are_gone_from_the_config_are_removed() -> None:
    counts = bad().add(NIGHT_US - S, *BAD, "device", "ios").add(NIGHT_US - S, *BAD, "channel", "ads")
    bench = Bench(config({"by": ["device", "channel"]}, {"name": "Old"}), counts)
    await bench.tick(0)
    bench.setup = config({"by": ["device"]})
    bench.restart()
    await bench.tick(1)
    assert await bench.alerts() == {TOTAL, IOS}


async def test_when_the_last_rule_is_gone_so_are_all_states() -> None:
    bench = Bench(config({}), bad())
    await bench.tick(0)
    bench.setup = config()
    bench.restart()
    assert await bench.tick(1) == []
    assert await bench.alerts() == set()


async def test_what_fires_and_resolves_is_put_in_the_outbox_once_for_each_channel() -> None:
    channels = {"oncall": {"type": "log"}, "chat": {"type": "log"}}
    bench = Bench(config({"notify": ["oncall", "chat", "oncall"]}, channels=channels), bad())
    await bench.tick(0)
    assert await bench.store.outbox() == []
    await bench.tick(20)
    bench.counts.add(NIGHT_US + 25 * S, 400, 390)
    await bench.tick(30)
    waiting = [(e.channel, e.notification.status) for e in await bench.store.outbox()]
    assert sorted(waiting) == [("chat", "firing"), ("chat", "resolved"), ("oncall", "firing"), ("oncall", "resolved")]


# Data


async def test_while_a_source_is_behind_its_rules_are_stale_and_the_total_says_so_once() -> None:
    counts = bad().add(NIGHT_US - S, *BAD, "device", "ios")
    bench = Bench(config({"by": ["device"], "for": "1h"}), counts)
    await bench.tick(0)
    assert [await bench.tick(at, stale=True) for at in (5, 10, 15)] == [[], ["stale"], []]
    assert [(await bench.state(alert)).data for alert in (TOTAL, IOS)] == ["stale", "stale"]
    await bench.tick(20)
    assert [(await bench.state(alert)).data for alert in (TOTAL, IOS)] == ["ok", "ok"]


async def test_a_rule_whose_window_is_empty_has_no_data_and_does_not_read_it_as_0() -> None:
    bench = Bench(config({"for": "0s", "min_entrants": 1}), Counts().add(NIGHT_US - S, *GOOD))
    assert await bench.tick(0) == []
    assert await bench.tick(600) == ["no_data"]
    assert ((await bench.state()).state, (await bench.state()).data) == ("inactive", "no_data")


async def test_a_rule_that_cannot_be_judged_keeps_no_other_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(config({"for": "0s"}, {"name": "Second", "for": "0s"}), bad())

    def look(rule: Any, *what: Any) -> Look:
        if rule.name == "Second":
            raise ZeroDivisionError
        return real(rule, *what)

    real = alerting.evaluator.look
    monkeypatch.setattr(alerting.evaluator, "look", look)
    with capture_logs() as logs:
        assert await bench.tick(0) == ["firing"]
        await bench.tick(10)
    assert [(e["event"], e["rule"]) for e in logs] == [("a rule cannot be judged", "Second")]
    assert (await bench.state(AlertKey("Second"))).data == "error"
    monkeypatch.setattr(alerting.evaluator, "look", real)
    assert await bench.tick(20) == ["Second firing"]


async def test_a_source_from_which_nothing_comes_has_an_alert_of_its_own() -> None:
    bench = Bench(config({"for": "1h"}), Counts().add(NIGHT_US - S, *GOOD))
    told = []
    for second in range(0, 140, 5):
        told += await bench.tick(0, now=second, records=0)
    assert told == ["FunnelwatchPipeline firing source=web", "no_data"]
    assert (await bench.state()).data == "no_data"
    assert await bench.tick(10, now=145) == ["FunnelwatchPipeline resolved source=web"]
    assert (await bench.state()).data == "ok"
    assert await bench.heard() == ["FunnelwatchPipeline firing source=web", "FunnelwatchPipeline resolved source=web"]


async def test_a_silence_can_hold_the_pipelines_alert_too() -> None:
    bench = Bench(config({"for": "1h"}), Counts())
    await bench.silence(0, 200, rule=PIPELINE, value="w*")
    for second in range(0, 200, 5):
        await bench.tick(0, now=second, records=0)
    assert await bench.heard() == []
    await bench.tick(0, now=200, records=0)
    assert await bench.heard() == ["FunnelwatchPipeline firing source=web"]


# One notification per cause


def split(*values: tuple[int, int, str], total: tuple[int, int] | None = None) -> Counts:
    counts = Counts()
    if total is not None:
        counts.add(NIGHT_US - S, *total)
    for checkout, pay, value in values:
        counts.add(NIGHT_US - S, checkout, pay, "device", value)
    return counts


BY_DEVICE = {"by": ["device"], "for": "0s"}


async def test_what_fires_with_the_total_is_listed_in_its_notification() -> None:
    bench = Bench(config(BY_DEVICE), split((100, 10, "ios"), (100, 10, "android"), (100, 90, "web"), total=(300, 60)))
    assert await bench.tick(0) == ["firing", "firing device=android", "firing device=ios"]
    assert await bench.heard() == ["firing +2"]


async def test_without_the_total_the_value_that_loses_most_speaks_for_the_others() -> None:
    bench = Bench(config(BY_DEVICE), split((100, 10, "ios"), (400, 40, "android"), (100, 10, "web"), total=(9000, 8000)))
    await bench.tick(0)
    assert await bench.heard() == ["firing device=android +2"]


async def test_a_value_that_fires_after_the_total_belongs_to_its_cause() -> None:
    bench = Bench(config(BY_DEVICE), split((100, 90, "ios"), total=(300, 60)))
    await bench.tick(0)
    bench.counts.add(NIGHT_US + 5 * S, 400, 0, "device", "ios")
    assert await bench.tick(10) == ["firing device=ios"]
    assert await bench.heard() == ["firing"]


async def test_the_total_that_fires_after_a_value_is_told_since_it_is_more() -> None:
    bench = Bench(config(BY_DEVICE), split((100, 10, "ios"), total=(300, 200)))
    await bench.tick(0)
    bench.counts.add(NIGHT_US + 5 * S, 900, 0)
    assert await bench.tick(10) == ["firing"]
    assert await bench.heard() == ["firing device=ios", "firing +1"]


async def test_when_the_one_that_was_told_is_over_those_that_still_fire_are_told() -> None:
    bench = Bench(config(BY_DEVICE), split((100, 10, "ios"), (100, 10, "android"), total=(300, 60)))
    await bench.tick(0)
    bench.counts.add(NIGHT_US + 5 * S, 900, 900)
    assert await bench.tick(10) == ["resolved"]
    assert await bench.heard() == ["firing +2", "resolved", "firing device=ios +1"]
    bench.counts.add(NIGHT_US + 15 * S, 900, 900, "device", "ios").add(NIGHT_US + 15 * S, 900, 900, "device", "android")
    assert await bench.tick(20) == ["resolved device=android", "resolved device=ios"]
    # Android was only ever listed, so its end is told to nobody.
    assert await bench.heard() == ["firing +2", "resolved", "firing device=ios +1", "resolved device=ios"]


async def test_rules_have_causes_of_their_own() -> None:
    bench = Bench(config({"for": "0s"}, {"name": "Second", "for": "0s"}), bad())
    await bench.tick(0)
    assert await bench.heard() == ["firing", "Second firing"]


# Silences


async def test_under_a_silence_the_state_changes_and_nobody_is_told() -> None:
    bench = Bench(config({"for": "0s"}), bad())
    await bench.silence(-60, 60, rule="Checkout*")
    assert await bench.tick(0) == ["firing"]
    assert await bench.heard() == []
    bench.counts.add(NIGHT_US + 5 * S, 900, 900)
    assert await bench.tick(10) == ["resolved"]
    assert await bench.heard() == []
    assert [t.state for t in await bench.store.transitions()] == ["resolved", "firing"]


async def test_what_still_fires_when_the_silence_ends_is_told_then() -> None:
    bench = Bench(config({"for": "0s"}), bad())
    await bench.silence(-60, 30, rule="*")
    for at in (0, 10, 20):
        await bench.tick(at)
    assert await bench.heard() == []
    assert await bench.tick(30) == []
    assert await bench.heard() == ["firing"]


async def test_a_silence_that_ends_while_no_data_come_is_heeded_too() -> None:
    bench = Bench(config({"for": "0s"}), bad())
    await bench.silence(-60, 30, rule="*")
    await bench.tick(0)
    for now in range(5, 40, 5):
        await bench.tick(0, now=now, records=0)
    assert await bench.heard() == ["firing"]


async def test_whoever_was_told_of_the_beginning_is_told_of_the_end_whatever_is_silent_then() -> None:
    bench = Bench(config({"for": "0s"}), bad())
    await bench.tick(0)
    await bench.silence(5, 60, rule="*")
    bench.counts.add(NIGHT_US + 5 * S, 900, 900)
    await bench.tick(10)
    assert await bench.heard() == ["firing", "resolved"]


async def test_a_maintenance_window_holds_from_its_beginning() -> None:
    bench = Bench(config({"for": "10s"}), bad())
    await bench.silence(10, 60, stage="pay")
    await bench.tick(0)
    assert await bench.tick(10) == ["firing"]
    assert await bench.heard() == []


async def test_a_silent_total_does_not_keep_its_values_from_being_told() -> None:
    bench = Bench(config(BY_DEVICE), split((100, 10, "ios"), (100, 10, "android"), total=(300, 60)))
    await bench.silence(-60, 60, rule="*", dimension="device", value="android")
    await bench.silence(-61, 60, rule="none")
    await bench.tick(0)
    assert await bench.heard() == ["firing +1"]
    assert not (await bench.state(ANDROID)).told


# Jitter


def test_the_jitter_of_a_rule_is_its_own_and_always_the_same() -> None:
    found = [jitter_seconds(rule(name=f"Rule{n}", window="1h")) for n in range(200)]
    assert found == [jitter_seconds(rule(name=f"Rule{n}", window="1h")) for n in range(200)]
    assert set(found) == set(range(10))
    assert max(found.count(seconds) for seconds in range(10)) < 40


@pytest.mark.parametrize(("window", "most"), [("10s", 0), ("1m", 0), ("5m", 5), ("10m", 9), ("7d", 9)])
def test_the_jitter_is_under_the_step_and_small_beside_the_window(window: str, most: int) -> None:
    assert max(jitter_seconds(rule(name=f"Rule{n}", window=window)) for n in range(200)) == most


async def test_a_rule_is_evaluated_as_many_ticks_after_its_boundary_as_its_jitter_says_and_of_that_boundary() -> None:
    name = next(f"Rule{n}" for n in range(50) if jitter_seconds(rule(name=f"Rule{n}")) == 4)
    bench, alert = Bench(config({"name": name}), bad(), tick_seconds=1.0), AlertKey(name)
    await bench.tick(5)  # the first time at once
    evaluated = []
    for second in range(10, 30):
        before = await bench.at(alert)
        await bench.tick(second)
        if (at := await bench.at(alert)) != before:
            evaluated.append((second, at))
    assert evaluated == [(14, 10), (24, 20)]


async def test_event_time_that_stands_still_does_not_keep_a_rule_from_its_turn() -> None:
    name = next(f"Rule{n}" for n in range(50) if jitter_seconds(rule(name=f"Rule{n}")) == 4)
    bench = Bench(config({"name": name}), bad(), tick_seconds=1.0)
    await bench.tick(5)
    for now in range(10, 16):
        await bench.tick(10, now=now)
    assert await bench.at(AlertKey(name)) == 10


# The clock


@pytest.mark.parametrize("jump", [600, -600])
async def test_a_clock_that_is_set_changes_nothing_about_rules(jump: int) -> None:
    """Event time goes on as the events do."""
    bench = Bench(config({}), bad())
    told = []
    for at in range(0, 60, 10):
        told += await bench.tick(at, now=at + (jump if at >= 20 else 0))
    assert told == ["pending", "firing"]
    assert await bench.heard() == ["firing"]


async def test_sources_are_looked_at_every_few_seconds_of_a_clock_whichever_way_it_is_set() -> None:
    bench = Bench(config({}), bad())
    await bench.tick(0)
    for now in (5, -600, -595):
        await bench.tick(0, now=now)
        assert (await bench.state(AlertKey(PIPELINE, "source", "web"))).at_us == NIGHT_US + now * S
    assert BEAT_US == 5 * S
