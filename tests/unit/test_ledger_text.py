"""The text of the ledger's metrics: kept funnel by funnel, renewed a little at every tick, while others have their turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from schemas.config import Config
from schemas.duration import MICROS
from schemas.report import Adjusted, Rate
from streams.collector import LedgerText, SourceReading
from streams.plan import Plan
from streams.rates import Split
from streams.series import ADJUSTED_SHARE, FunnelSeries
from streams.windows import USERS, FunnelCounts, cell
from tests.parts.loop import turns_while

AT_US = 1_690_000_000_500_000
NAMES = ("a", "b", "c")


def counted(names: Sequence[str] = NAMES) -> dict[str, FunnelCounts]:
    funnels = [
        {
            "name": name,
            "source": "web",
            "conversion_window": f"{60 + number}s",
            "windows": ["5m"],
            "stages": [{"name": "view", "event": f"v{number}"}, {"name": "pay", "event": f"p{number}"}],
        }
        for number, name in enumerate(names)
    ]
    config = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": funnels})
    return {plan.funnel.name: FunnelCounts(plan) for plan in Plan(config, config.sources[0]).funnels}


def reading(funnels: dict[str, FunnelCounts]) -> SourceReading:
    return SourceReading("web", AT_US, {}, 0, {}, funnels, dict.fromkeys(funnels, (("5m", 300),)))


def visit(funnels: dict[str, FunnelCounts]) -> None:
    for counts in funnels.values():
        counts.add(10, AT_US // 10_000_000, {cell(USERS, 0): 1})


def shown(text: LedgerText, funnels: dict[str, FunnelCounts]) -> dict[str, int]:
    """How many users each funnel's text has."""
    lines = b"".join(text.pieces([reading(funnels)], [])).decode().splitlines()
    start = 'funnel_stage_users{funnel="'
    return {line[len(start)]: int(line.rpartition(" ")[2]) for line in lines if line.startswith(start) and 'stage="view"' in line}


class Slow:
    """A clock on which everything takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


async def test_with_few_funnels_all_are_renewed_at_every_tick() -> None:
    funnels = counted()
    text = LedgerText()
    assert not text.complete
    for users in (1, 2, 3):
        visit(funnels)
        await text.follow([reading(funnels)])
        assert text.complete
        assert shown(text, funnels) == dict.fromkeys(NAMES, users)


async def test_with_many_funnels_the_oldest_are_renewed_as_far_as_the_time_goes() -> None:
    """But for the first time, when all are made."""
    funnels = counted()
    text = LedgerText(Slow(), seconds=1)
    seen = []
    for _ in range(4):
        visit(funnels)
        await text.follow([reading(funnels)])
        seen.append(tuple(shown(text, funnels).values()))
    assert [sorted(users) for users in seen] == [[1, 1, 1], [1, 1, 2], [1, 2, 3], [2, 3, 4]]


async def test_a_scrape_makes_nothing() -> None:
    funnels = counted()
    text = LedgerText()
    visit(funnels)
    await text.follow([reading(funnels)])
    visit(funnels)
    assert shown(text, funnels) == shown(text, funnels) == dict.fromkeys(NAMES, 1)


async def test_others_have_their_turn_while_it_is_made() -> None:
    funnels = counted()
    assert await turns_while(lambda: LedgerText(Slow(), seconds=100).follow([reading(funnels)])) >= len(funnels)


async def test_a_funnel_that_is_gone_and_one_that_was_read_anew_are_not_shown_as_they_were() -> None:
    funnels = counted()
    text = LedgerText(Slow(), seconds=0)
    visit(funnels)
    await text.follow([reading(funnels)])
    anew = {name: counts for name, counts in counted().items() if name != "c"}
    for _ in range(3):
        await text.follow([reading(anew)])
    assert shown(text, anew) == {"a": 0, "b": 0}


def test_a_worker_that_lost_the_lease_forgets_what_it_served() -> None:
    funnels = counted()
    text = LedgerText()
    asyncio.run(text.follow([reading(funnels)]))
    text.forget()
    assert not text.complete
    assert shown(text, funnels) == {}


class Counting:
    """Adjusted rates that count how often they are taken."""

    def __init__(self, known: tuple[int, float] | None = (3, 4.0)) -> None:
        self.known = known
        self.taken = 0

    def parts(self, stage: int, window_seconds: int, split: Split | None) -> tuple[int, float] | None:
        self.taken += 1
        return self.known

    def step(self, stage: int, window_seconds: int, split: Split | None) -> tuple[Rate, Adjusted]:
        raise NotImplementedError


def test_adjusted_rates_are_taken_anew_when_a_share_of_their_window_has_passed() -> None:
    counts = counted(["a"])["a"]
    series, rates = FunnelSeries(counts, [("5m", 300)]), Counting()
    fresh_us = 300 * MICROS // ADJUSTED_SHARE
    for at_us, taken in ((AT_US, 1), (AT_US + fresh_us - 1, 1), (AT_US + fresh_us, 2), (AT_US, 3)):  # T may also be a rebuilt ledger's
        written = "".join(text for part in series.write(at_us, rates, ()) for text in part.values())
        assert rates.taken == taken
        assert 'basis="adjusted",dimension="",value=""} 0.75\n' in written


def test_adjusted_rates_are_there_as_soon_as_there_is_a_baseline() -> None:
    series, rates = FunnelSeries(counted(["a"])["a"], [("24h", 86_400)]), Counting(None)
    for known in (None, (3, 4.0)):
        rates.known = known
        written = "".join(text for part in series.write(AT_US + rates.taken, rates, ()) for text in part.values())
        assert ('basis="adjusted"' in written) == (known is not None)


def test_names_are_found_a_window_a_step_and_only_once() -> None:
    series = FunnelSeries(counted(["a"])["a"], [("5m", 300), ("24h", 86_400)])
    first, again = ([part for part in series.write(AT_US, None, ()) if not part] for _ in range(2))
    assert len(first) >= 2 + len(series.counts.plan.funnel.stages)
    assert again == []
