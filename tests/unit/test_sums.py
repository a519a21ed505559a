"""Windows of the past against a recount of what was counted, whatever buckets they are made of and whoever comes late."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from schemas.config import Config
from schemas.duration import MICROS
from schemas.history import HistoryPoint
from streams.past import Page, Recorded, _proportion, page, points, splits_of
from streams.plan import Plan
from streams.rates import Split, proportion, rate
from streams.retention import CONVERSIONS, ENTRIES, EVENTS, VALUE
from streams.sums import OPENED, REACHED, Buckets, Past
from streams.values import VALUE_SCALE
from streams.windows import FunnelCounts, cell

AT = 1_700_000_000 + 17  # seconds
STAGES = ("view", "cart", "pay")
VALUES = ("ios", "web", "tv")
CONVERSION, LATENESS = 600, 60


@dataclass
class Store:
    """Counts in buckets, and each of them once more, as it was added."""

    counts: FunnelCounts
    added: list[tuple[int, str, int, str, int]] = field(default_factory=list)  # second, family, stage, value, count

    @classmethod
    def of(cls, windows: Sequence[str]) -> Store:
        funnel = {
            "name": "f",
            "source": "web",
            "conversion_window": f"{CONVERSION}s",
            "windows": [*windows],
            "dimensions": {"device": "properties.device"},
            "stages": [{"name": stage, "event": stage} for stage in STAGES[:-1]]
            + [{"name": "pay", "event": "pay", "value": "properties.amount"}],
        }
        config = Config.model_validate({"sources": [{"name": "web", "topic": "t"}], "funnels": [funnel]})
        return cls(FunnelCounts(Plan(config, config.sources[0]).funnels[0], blocks={}))

    def add(self, second: int, family: str, stage: int, value: str, count: int) -> None:
        """As the engine does: in the bucket of every width that has the family, in total and under the value."""
        self.added.append((second, family, stage, value, count))
        cells = {cell(family, stage): count, cell(family, stage, "device", value): count}
        for kept in self.counts.plan.kept:
            if family in kept.families:
                self.counts.add(kept.seconds, second // kept.seconds, cells)
        self.counts.add_totals(cells)

    def fill(self, seconds: int, events: int, seed: int = 3) -> Store:
        chance = random.Random(seed)
        for _ in range(events):
            second, value = AT - chance.randrange(seconds), chance.choice(VALUES)
            for stage in range(chance.randint(1, len(STAGES))):
                self.add(second, ENTRIES, stage, value, 1)
                self.add(second, EVENTS, stage, value, chance.randint(1, 3))
                if stage and chance.random() < 0.8:
                    self.add(second, CONVERSIONS, stage - 1, value, 1)
            self.add(second, VALUE, 2, value, chance.randint(0, 10 * VALUE_SCALE))
        self.counts.forget_before(AT * MICROS)
        return self

    def recount(self, family: str, stage: int, split: Split | None, start: int, end: int) -> int:
        wanted = [a for a in self.added if start <= a[0] < end and a[1:3] == (family, stage) and split in {None, ("device", a[3])}]
        return sum(count for *_, count in wanted)


def window_of(store: Store, boundary: int, window: int, split: Split | None) -> list[dict[str, Any]]:
    """What every stage of a window must say on basis entries."""
    start = boundary - window
    kept = [k for k in store.counts.plan.kept if start % k.seconds == 0 and start // k.seconds >= AT // k.seconds - k.count]
    width, reached = kept[0].seconds, any(EVENTS in k.families for k in kept)
    until = max(start, min(boundary, (AT - CONVERSION - LATENESS) // width * width))
    found: list[dict[str, Any]] = []
    for stage in range(len(STAGES)):
        step = pending = None
        if stage:
            done, late = (
                [store.recount(family, stage - 1, split, *span) for family in (CONVERSIONS, ENTRIES)]
                for span in ((start, until), (until, boundary))
            )
            step, pending = proportion(*done).model_dump(), rate(*late).model_dump()
        last = stage == len(STAGES) - 1
        found.append(
            {
                "users": None,
                "step": step,
                "entries": store.recount(ENTRIES, stage, split, start, boundary),
                "conversions": None if last else store.recount(CONVERSIONS, stage, split, start, boundary),
                "pending": pending,
                "events": store.recount(EVENTS, stage, split, start, boundary) if reached else None,
                "value": store.recount(VALUE, stage, split, start, boundary) / VALUE_SCALE if reached else None,
            }
        )
    return found


def asked(store: Store, cut: Page, window: int, basis: str = "entries", found: dict[int, Recorded] | None = None) -> list[Any]:
    made = list(points(store.counts, AT * MICROS, cut, window, basis, splits_of(store.counts, "device"), found or {}))
    shown: list[Any] = msgspec.json.decode(msgspec.json.encode(made, enc_hook=vars))
    return shown


@pytest.mark.parametrize(
    ("windows", "window", "ago", "step"),
    [
        (("5m", "1h", "24h"), 300, 5400, "1m"),  # of 10 s buckets, further back of minutes
        (("5m", "1h", "24h"), 3600, 7200, "10m"),
        (("5m", "1h", "24h"), 86_400, 1800, "10m"),
        (("5m",), 300, 3600, "2m"),
        (("1h", "7d"), 7 * 86_400, 3 * 3600, "1h"),
    ],
)
def test_every_window_says_what_a_recount_of_its_events_says(windows: tuple[str, ...], window: int, ago: int, step: str) -> None:
    store = Store.of(windows).fill(max(2 * window, 3 * 3600), 600)
    cut = page(AT * MICROS, (AT - ago) * MICROS, None, step, 500)
    made = asked(store, cut, window)
    assert len(made) >= ago // cut.step - 2
    for place in {0, len(made) // 2, len(made) - 1}:
        boundary = cut.boundaries[len(cut.boundaries) - len(made) + place] // MICROS
        expected = {split and split[1]: window_of(store, boundary, window, split) for split in splits_of(store.counts, "device")}
        assert made[place]["stages"] == expected.pop(None)
        assert {value["value"]: value["stages"] for value in made[place]["values"]} == {
            value: stages for value, stages in expected.items() if stages[0]["entries"]
        }


def test_a_late_event_is_in_a_point_that_was_answered_before_it() -> None:
    """In every window that it belongs to and in no other, however old the window's end is."""
    store = Store.of(("5m", "1h", "24h")).fill(8000, 300)
    cut = page(AT * MICROS, (AT - 3600) * MICROS, None, "1m", 500)
    before = asked(store, cut, 300)
    late = AT - 2000
    store.add(late, ENTRIES, 0, "web", 1)
    after = asked(store, cut, 300)
    held = [late < boundary // MICROS <= late + 300 for boundary in cut.boundaries]
    gained = [now["stages"][0]["entries"] - then["stages"][0]["entries"] for then, now in zip(before, after)]
    assert gained == [int(holds) for holds in held]
    assert sum(held) == 5
    assert [then == now for then, now in zip(before, after)] == [not holds for holds in held]


def test_a_day_is_made_of_few_buckets() -> None:
    store = Store.of(("24h",)).fill(90_000, 4000)
    start = AT // 60 * 60 - 86_400
    made = Buckets(store.counts, AT * MICROS, OPENED).of(start * MICROS, (start + 86_400) * MICROS)
    assert len(made) < 24 + 60
    assert sum(cells.get(cell(ENTRIES, 0), 0) for cells in made) == store.recount(ENTRIES, 0, None, start, start + 86_400)


def test_the_last_hours_are_made_of_blocks_of_minutes_which_are_kept_no_longer() -> None:
    store = Store.of(("24h",)).fill(7 * 3600, 3000)
    end = AT // 300 * 300
    for reach in (3000, 10_500, 6 * 3600):  # within what blocks are kept for, up to it, beyond
        made = Buckets(store.counts, AT * MICROS, REACHED).of((end - reach) * MICROS, end * MICROS)
        assert sum(cells.get(cell(EVENTS, 1), 0) for cells in made) == store.recount(EVENTS, 1, None, end - reach, end)
        assert len(made) <= min(reach, 10_800) // 300 + max(0, reach - 10_500) // 60
    later = AT + 2 * 3600
    store.counts.forget_before(later * MICROS)
    store.add(AT - 4000, EVENTS, 1, "web", 5)  # into a block that was dropped
    store.counts.forget_before((later + 600) * MICROS)
    assert store.counts.blocks is not None
    assert min(store.counts.blocks) >= (later + 600) // 300 - 36


def test_a_count_between_two_moments_is_a_recount_of_them() -> None:
    store = Store.of(("1h",)).fill(7000, 300)
    start, end = (AT - 3000) // 10 * 10, (AT - 500) // 10 * 10
    names = [cell(ENTRIES, stage, "device", "tv") for stage in range(3)]
    sums = Past(store.counts, AT * MICROS).sums(OPENED, {start * MICROS, (AT - 2000) // 10 * 10 * MICROS, end * MICROS}, names)
    recounted = [store.recount(ENTRIES, stage, ("device", "tv"), start, end) for stage in range(3)]
    assert sums.named(start * MICROS, end * MICROS) == dict(zip(names, recounted))
    assert all(recounted)


def test_counts_are_the_same_where_a_bucket_holds_fewer_of_them_than_are_asked_for_and_where_more() -> None:
    """Two ways to add them up."""
    store = Store.of(("5m",)).fill(600, 20)
    start, end = (AT - 500) // 10 * 10, AT // 10 * 10
    others = [cell(ENTRIES, stage, "device", f"other-{number}") for stage in range(3) for number in range(100)]
    asked_for = [cell(ENTRIES, stage, "device", "tv") for stage in range(3)]
    past = Past(store.counts, AT * MICROS)
    alone = past.sums(OPENED, {start * MICROS, end * MICROS}, asked_for).named(start * MICROS, end * MICROS)
    among = past.sums(OPENED, {start * MICROS, end * MICROS}, [*asked_for, *others]).named(start * MICROS, end * MICROS)
    recounted = [store.recount(ENTRIES, stage, ("device", "tv"), start, end) for stage in range(3)]
    assert [alone[name] for name in asked_for] == [among[name] for name in asked_for] == recounted
    assert {among[name] for name in others} == {0}


def test_users_of_a_point_are_those_recorded_and_its_events_a_recount() -> None:
    store = Store.of(("5m", "1h")).fill(4000, 300)
    cut = page(AT * MICROS, (AT - 600) * MICROS, None, "1m", 500)
    boundary = cut.boundaries[3]
    found = {boundary: Recorded(True, {None: (9, 4, 0), ("device", "tv"): (2, 0, 0)}, {None: (3, 4000, 1, 0)})}
    (users,) = asked(store, cut, 300, "users", found)
    assert users["incomplete"]
    assert [stage["users"] for stage in users["stages"]] == [9, 4, 0]
    assert users["stages"][2]["step"] == rate(0, 4).model_dump()
    assert [(value["value"], value["stages"][2]["step"]) for value in users["values"]] == [("tv", rate(0, 0).model_dump())]
    end = boundary // MICROS
    assert users["stages"][1]["events"] == store.recount(EVENTS, 1, None, end - 300, end)
    (adjusted,) = asked(store, cut, 300, "adjusted", found)
    assert (adjusted["stages"][1]["step"]["rate"], adjusted["stages"][2]["step"]["rate"]) == (0.75, None)
    assert adjusted["values"][0]["stages"][1]["step"] is None


def test_a_light_rate_is_the_proportion_to_the_last_bit() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        whole = chance.choice([0, 1, 3, chance.randrange(100), chance.randrange(10**7)])
        part = chance.randint(0, whole)
        assert msgspec.to_builtins(_proportion(part, whole)) == proportion(part, whole).model_dump()


def test_light_points_are_what_the_schema_says() -> None:
    store = Store.of(("5m", "1h")).fill(4000, 300)
    (first, *_) = points(
        store.counts, AT * MICROS, page(AT * MICROS, None, None, "1m", 500), 300, "entries", splits_of(store.counts, "device"), {}
    )
    text = msgspec.json.encode(first, enc_hook=vars)
    assert HistoryPoint.model_validate_json(text).model_dump_json().encode() == text
