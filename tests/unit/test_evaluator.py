"""Which rules are evaluated when, on what counts, and what becomes of it."""

from __future__ import annotations

import pytest

from alerting.evaluator import Evaluator
from alerting.lifecycle import AlertKey
from alerting.memory_store import MemoryAlertStore
from schemas.config import Config
from schemas.duration import MICROS
from schemas.errors import StoreUnavailable
from schemas.report import Transition
from tests.parts.alerts import NIGHT_US, Counts, config

TOTAL = AlertKey("CheckoutToPayLow")
S = MICROS
BAD, GOOD = (100, 10), (100, 60)


class Bench:
    """An evaluator over a store in memory; `at` is in seconds after NIGHT_US."""

    def __init__(self, setup: Config, counts: Counts | None = None) -> None:
        self.counts = counts or Counts()
        self.store = MemoryAlertStore(fence=7)
        self.setup = setup
        self.restart()

    def restart(self) -> None:
        self.evaluator = Evaluator(self.setup, self.store)

    async def tick(self, at: float, fence: int = 7, stale: bool = False) -> list[str]:
        """What was told, as `firing` or `firing device=ios`."""
        told = await self.evaluator.tick(fence, {"purchase": self.counts}, {"web": NIGHT_US + int(at * S)}, {"web": stale})
        return [_shown(t) for t in told]

    async def at(self, alert: AlertKey = TOTAL) -> int | None:
        """When the alert was last evaluated, in seconds after NIGHT_US."""
        state = (await self.store.states()).get(alert)
        return None if state is None or state.at_us is None else (state.at_us - NIGHT_US) // S


def _shown(told: Transition) -> str:
    return told.state if told.dimension is None else f"{told.state} {told.dimension}={told.value}"


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
    (told,) = await bench.evaluator.tick(7, {"purchase": bench.counts}, {"web": NIGHT_US + 3 * S}, {})
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
    bench = Bench(config({"window": window}), bad())
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
    assert await bench.tick(9) == []


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
    at = {"web": NIGHT_US, "app": NIGHT_US}
    counts = {"purchase": bench.counts, "in-app": bad()}
    told = await bench.evaluator.tick(7, counts, at, {"web": True, "app": False})
    assert [t.rule for t in told] == ["InApp"]
    told = await bench.evaluator.tick(7, counts, at, {"web": False, "app": False})
    assert [t.rule for t in told] == ["CheckoutToPayLow"]


async def test_nothing_resolves_while_the_source_is_stale() -> None:
    bench = Bench(config({"for": "0s"}), bad())
    assert await bench.tick(0) == ["firing"]
    bench.counts.add(NIGHT_US + S, 400, 390)
    assert await bench.tick(10, stale=True) == []
    assert await bench.tick(10) == ["resolved"]


@pytest.mark.parametrize("at", [{}, {"web": None}])
async def test_a_source_without_a_time_is_not_evaluated(at: dict[str, int | None]) -> None:
    bench = Bench(config({}), bad())
    assert await bench.evaluator.tick(7, {"purchase": bench.counts}, at, {}) == []
    assert await bench.store.states() == {}


async def test_a_funnel_without_counts_is_not_evaluated() -> None:
    evaluator = Evaluator(config({}), MemoryAlertStore(7))
    assert await evaluator.tick(7, {}, {"web": NIGHT_US}, {}) == []


async def test_every_value_of_a_dimension_is_judged_beside_the_total() -> None:
    counts = Counts().add(NIGHT_US - S, *GOOD)
    counts.add(NIGHT_US - S, *GOOD, "device", "web").add(NIGHT_US - S, *BAD, "device", "ios").add(NIGHT_US - S, *BAD, "channel", "ads")
    bench = Bench(config({"by": ["device"], "for": "0s"}), counts)
    assert await bench.tick(0) == ["firing device=ios"]
    assert set(await bench.store.states()) == {TOTAL, *(AlertKey("CheckoutToPayLow", "device", v) for v in ("web", "ios"))}


async def test_a_value_that_is_no_longer_counted_keeps_firing() -> None:
    ios = AlertKey("CheckoutToPayLow", "device", "ios")
    bench = Bench(config({"by": ["device"], "for": "0s"}), Counts().add(NIGHT_US - S, *BAD, "device", "ios"))
    await bench.tick(0)
    bench.counts = Counts()
    assert await bench.tick(10) == []
    assert (await bench.store.states())[ios].state == "firing"
    assert await bench.at(ios) == 10


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


async def test_states_of_rules_and_dimensions_that_are_gone_from_the_config_are_removed() -> None:
    counts = bad().add(NIGHT_US - S, *BAD, "device", "ios").add(NIGHT_US - S, *BAD, "channel", "ads")
    bench = Bench(config({"by": ["device", "channel"]}, {"name": "Old"}), counts)
    await bench.tick(0)
    bench.setup = config({"by": ["device"]})
    bench.restart()
    await bench.tick(1)
    assert set(await bench.store.states()) == {TOTAL, AlertKey("CheckoutToPayLow", "device", "ios")}


async def test_when_the_last_rule_is_gone_so_are_all_states() -> None:
    bench = Bench(config({}), bad())
    await bench.tick(0)
    bench.setup = config()
    bench.restart()
    assert await bench.tick(1) == []
    assert await bench.store.states() == {}


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
