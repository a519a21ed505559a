"""The shop's traffic is ordered, believable, as much as asked for, and breaks when it should."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from schemas.config import load
from schemas.event import micros_of
from streams.recount import recount
from streams.traffic import Click, Shop

START = 1_700_000_000.0
CONFIG = load(Path(__file__).parents[2] / "streams" / "demo.yaml")


def clicks(rate: float = 200, seconds: float = 20, incident_after: float = 1e9, seed: int = 1, steps: int = 1) -> list[Click]:
    shop = Shop(rate, START, lambda at: at >= START + incident_after, seed)
    return [click for step in range(steps) for click in shop.until(START + seconds * (step + 1) / steps)]


def records(found: list[Click]) -> list[dict[str, Any]]:
    return [json.loads(click.value) for click in found]


def pay_rates(found: list[Click]) -> dict[str, float]:
    names = Counter((r["properties"]["device"], r["event"]) for r in records(found))
    return {device: names[device, "purchase"] / names[device, "begin_checkout"] for device in ("ios", "android", "web")}


def test_the_same_seed_gives_the_same_clicks_however_often_it_is_asked() -> None:
    assert clicks() == clicks(steps=997)
    assert clicks() != clicks(seed=2)


def test_clicks_come_in_order_of_time_and_bear_it() -> None:
    found = clicks()
    assert all(a.at <= b.at for a, b in pairwise(found))
    assert all(micros_of(r["timestamp"]) == int(c.at * 1_000_000) for c, r in zip(found, records(found), strict=True))


def test_the_key_is_the_entity_and_every_event_has_an_id_of_its_own() -> None:
    found = clicks()
    assert all((r.get("user_id") or r["anonymous_id"]).encode() == c.key for c, r in zip(found, records(found), strict=True))
    assert len({r["event_id"] for r in records(found)}) == len(found)


def test_the_rate_is_about_what_was_asked_also_during_an_incident() -> None:
    for rate in (200, 1000):
        assert abs(len(clicks(rate)) / 20 / rate - 1) < 0.1
        assert abs(len(clicks(rate, incident_after=0)) / 20 / rate - 1) < 0.1


def test_a_higher_rate_is_more_visits_at_once_not_quicker_ones() -> None:
    slow, quick = ({c.key for c in clicks(rate)} for rate in (100, 1000))
    assert len(quick) > 8 * len(slow)


def test_nobody_does_two_things_at_once() -> None:
    last: dict[bytes, float] = {}
    for click in clicks(1000):
        assert click.at > last.get(click.key, 0)
        last[click.key] = click.at


def test_most_who_begin_checkout_pay_until_the_incident_and_android_fares_worst_in_it() -> None:
    healthy, broken = pay_rates(clicks(1000)), pay_rates(clicks(1000, incident_after=0))
    assert all(0.6 < rate < 0.75 for rate in healthy.values())
    assert all(rate < 0.15 for rate in broken.values())
    assert broken["android"] == min(broken.values())


def test_an_incident_touches_nothing_but_paying() -> None:
    before, during = (Counter(r["event"] for r in records(clicks(1000, incident_after=after))) for after in (1e9, 0))
    for name in ("product_view", "add_to_cart", "begin_checkout"):
        assert abs(during[name] / before[name] - 1) < 0.1


def test_the_demo_funnel_takes_every_click_or_filters_it() -> None:
    found = clicks(500)
    fates = recount(CONFIG, "web", [(c.key, c.value) for c in found]).fates
    assert fates["applied"] + fates["filtered"] == len(found)
    assert fates["filtered"] > 0
