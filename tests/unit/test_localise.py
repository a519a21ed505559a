"""What an incident costs, and where it is."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.conditions import Verdict
from alerting.detectors import DetectorState, Run
from alerting.lifecycle import AlertKey, RuleState
from alerting.localise import Impact, impact
from alerting.message import Notification, compose
from alerting.picture import picture
from schemas.config import Config
from schemas.duration import MICROS
from schemas.rule import Rule
from streams.adjusting import Adjusting
from streams.ages import age_bin
from streams.plan import Plan
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES, USERS, VALUE
from streams.values import VALUE_SCALE
from streams.windows import FunnelCounts, age_cell, cell
from tests.parts.alerts import NIGHT_US, config

S = MICROS
USUAL = {("ios", "ads"): 0.36, ("ios", "mail"): 0.36, ("web", "ads"): 0.33, ("web", "mail"): 0.33, ("tv", "ads"): 0.2, ("tv", "mail"): 0.2}
SHARE = {("ios", "ads"): 0.2, ("ios", "mail"): 0.2, ("web", "ads"): 0.25, ("web", "mail"): 0.25, ("tv", "ads"): 0.05, ("tv", "mail"): 0.05}
Groups = dict[tuple[str, str], float]


def setup(**rule: Any) -> Config:
    """The shop, with a combination of its dimensions and a value at its last stage."""
    found = config({"basis": "adjusted", "below": 0.3} | rule)
    shop = found.funnels[0]
    both = type(shop).model_validate(
        shop.model_dump(by_alias=True)
        | {
            "dimensions": {"device": "properties.device", "channel": "properties.channel", "both": {"combine": ["device", "channel"]}},
            "stages": [*(s.model_dump() for s in shop.stages[:2]), {"name": "pay", "event": "purchase", "value": "properties.amount"}],
        }
    )
    return found.model_copy(update={"funnels": (both, found.funnels[1])})


class Shop:
    """Counts of people by device and channel, all of whose conversions come after `delay` seconds."""

    def __init__(self, *, delay: int = 0, **rule: Any) -> None:
        self._delay_us = delay * S
        self.setup = setup(**rule)
        self.rule: Rule = self.setup.alerts[0]
        self.counts = FunnelCounts(Plan(self.setup, self.setup.sources[0]).funnels[0])
        self.adjusting = Adjusting(self.counts, 60 * S)

    def history(self, until_us: int = NIGHT_US, hours: int = 48, an_hour: int = 6000) -> Shop:
        """Usual hours, long ago."""
        for hour in range(hours, 2, -1):
            self.come(until_us - hour * 3600 * S, an_hour, SHARE, USUAL)
        return self

    def now(self, seconds: int, rates: Groups, share: Groups = SHARE, each: int = 400, until_us: int = NIGHT_US) -> Shop:
        """People every ten seconds for so long up to now; before that, usual ones for two hours."""
        for at in range(7200, 0, -10):
            late = at <= seconds
            self.come(until_us - at * S, each, share if late else SHARE, rates if late else USUAL)
        self.adjusting.at(until_us)
        return self

    def come(self, at_us: int, people: int, share: Groups, rates: Groups) -> None:
        came: dict[str, int] = {}
        paid: dict[str, int] = {}
        for (device, channel), part in share.items():
            entrants = round(people * part)
            payers = round(entrants * rates[device, channel])
            for split in ((), ("device", device), ("channel", channel), ("both", f"{device} / {channel}")):
                for into, family, stage, count in (
                    (came, USERS, 1, entrants), (came, ENTRIES, 1, entrants), (came, CONVERSIONS, 1, payers),
                    (paid, USERS, 2, payers), (paid, CONVERTED, 2, payers), (paid, VALUE, 2, payers * 40 * VALUE_SCALE),
                ):  # fmt: skip
                    name = cell(family, stage, *split)
                    into[name] = into.get(name, 0) + count
        came[age_cell(2, age_bin(self._delay_us))] = came[cell(CONVERSIONS, 1)]
        for moment, cells in ((at_us, came), (at_us + self._delay_us, paid)):
            for kept in self.counts.plan.kept:
                self.counts.add(kept.seconds, moment // (kept.seconds * S), cells)
            self.counts.add_totals(cells)

    def verdict(self, split: tuple[str, str] | None = None, basis: str = "adjusted", began_us: int | None = None) -> Verdict:
        """What the rule says of the last five minutes."""
        start_us = NIGHT_US - 300 * S
        if basis == "users":
            seen, of = (self.counts.users(stage, 300, NIGHT_US - 1, *(split or ())) for stage in (2, 1))
            return Verdict("breach", seen, of, seen / of, threshold=0.3, basis="users", window_seconds=300)
        own = self.adjusting.baseline(2, split)
        seen = sum(
            self.counts.buckets[10][b].get(cell(CONVERTED, 2, *(split or ())), 0) for b in range(start_us // (10 * S), NIGHT_US // (10 * S))
        )
        worth = self.adjusting.worth(2, start_us, NIGHT_US, split)
        detector = None
        if began_us is not None:
            detector = DetectorState(9.0, 8.0, "alarmed", began_us, 99.0, NIGHT_US, Run(NIGHT_US), 10, "adjusted")
        return Verdict(
            "breach", seen, worth, seen / worth, threshold=0.3, baseline=getattr(own, "level", None), basis="adjusted", window_seconds=300,
            detector=detector,
        )  # fmt: skip

    def impact(self, split: tuple[str, str] | None = None, basis: str = "adjusted", began_us: int | None = None) -> Impact:
        verdict = self.verdict(split, basis, began_us)
        return impact(self.rule, self.counts, None if basis == "users" else self.adjusting, 2, NIGHT_US, verdict, split)


def broken(rate: float = 0.03, *, device: str | None = None, channel: str | None = None) -> Groups:
    hit = {key for key in USUAL if device in (None, key[0]) and channel in (None, key[1])}
    return {key: rate if key in hit else usual for key, usual in USUAL.items()}


def test_a_broken_device_is_named_with_what_it_explains() -> None:
    found = Shop().history().now(3600, broken(device="ios")).impact()
    place = found.place
    assert place is not None
    assert (place.dimension, place.value, place.against) == ("device", "ios", "usual")
    assert place.share == pytest.approx(1.0, abs=0.03)
    assert place.seen < 0.1 * place.expected
    assert place.elsewhere == pytest.approx(0.33 * 5 / 6 + 0.2 / 6, abs=0.02)
    assert found.mix is None


def test_where_only_a_combination_is_broken_that_is_named() -> None:
    place = Shop().history().now(3600, broken(device="ios", channel="ads")).impact().place
    assert place is not None
    assert (place.dimension, place.value) == ("both", "ios / ads")


def test_within_a_value_only_its_own_combinations_are_looked_into() -> None:
    found = Shop().history().now(3600, broken(device="ios", channel="ads")).impact(("device", "ios"))
    assert found.looked_at == ("both",)
    assert found.place is not None
    assert found.place.value == "ios / ads"


def test_where_all_are_broken_alike_none_is_named() -> None:
    found = Shop().history().now(3600, {key: rate * 0.4 for key, rate in USUAL.items()}).impact()
    assert (found.place, found.mix) == (None, None)
    assert found.looked_at == ("device", "channel", "both")


def test_where_nothing_converts_any_more_none_is_named() -> None:
    assert Shop().history().now(3600, broken(0.0)).impact().place is None


def test_a_change_of_mix_is_told_apart_from_a_change_of_rates() -> None:
    more_tv = {key: 0.35 if key[0] == "tv" else 0.075 for key in SHARE}
    found = Shop().history().now(3600, USUAL, more_tv).impact()
    assert found.place is None
    assert found.mix is not None
    assert found.mix.dimension in ("device", "both")
    assert found.mix.share == pytest.approx(1.0, abs=0.05)


def test_a_broken_device_is_named_though_the_mix_has_changed_too() -> None:
    more_web = {key: {"ios": 0.15, "web": 0.28, "tv": 0.07}[key[0]] for key in SHARE}
    found = Shop().history().now(3600, broken(device="web"), more_web).impact()
    assert found.place is not None
    assert (found.place.dimension, found.place.value) == ("device", "web")


def test_chance_names_nobody() -> None:
    luck = random.Random(7)
    named = 0
    for _ in range(20):
        jitter = {
            key: min(1.0, max(0.0, luck.gauss(rate * 0.5, (rate * 0.5 * (1 - rate * 0.5) / 600) ** 0.5))) for key, rate in USUAL.items()
        }
        named += Shop().history(hours=10).now(1200, jitter, each=30).impact().place is not None
    assert named <= 2


def test_without_history_a_value_is_held_against_the_others() -> None:
    shop = Shop(basis="users").now(3600, broken(device="ios"))
    found = shop.impact(basis="users")
    place = found.place
    assert place is not None
    assert (place.dimension, place.value, place.against) == ("device", "ios", "others")
    assert (found.mix, found.against) == (None, "threshold")
    verdict = shop.verdict(basis="users")
    assert found.lost_users_per_hour == pytest.approx((0.3 * verdict.denominator - verdict.numerator) * 12)


def test_a_value_without_history_of_its_own_is_judged_by_what_is_usual_for_all() -> None:
    shop = Shop().history()
    shop.now(3600, USUAL | {("new", "ads"): 0.0}, {key: part / 2 for key, part in SHARE.items()} | {("new", "ads"): 0.5})
    place = shop.impact().place
    assert place is not None
    assert (place.value, place.seen) in (("new", 0), ("new / ads", 0))


def test_what_is_lost_is_told_an_hour_in_users_and_in_value() -> None:
    shop = Shop().history().now(3600, broken(device="ios"))
    found = shop.impact()
    verdict = shop.verdict()
    assert verdict.baseline is not None
    assert found.lost_users_per_hour == pytest.approx((verdict.baseline * verdict.denominator - verdict.numerator) * 12, rel=1e-6)
    assert found.lost_value_per_hour == pytest.approx(40 * found.lost_users_per_hour)
    assert (found.value_of, found.against) == ("amount", "baseline")


def test_a_rate_too_high_loses_nobody_and_its_place_is_where_it_is_too_high() -> None:
    found = Shop(below=None, above=0.5, recover_above=None).history().now(3600, broken(0.98, device="ios")).impact()
    assert (found.lost_users_per_hour, found.lost_value_per_hour) == (None, None)
    assert found.place is not None
    assert (found.place.value, round(found.place.share)) == ("ios", 1)


def test_a_sequential_rule_is_told_by_what_came_since_it_fell() -> None:
    shop = Shop().history().now(60, broken(device="ios"))
    whole, recent = shop.impact(), shop.impact(began_us=NIGHT_US - 60 * S)
    assert whole.recent is None
    assert recent.recent is not None
    assert (recent.recent.since_us, recent.recent.rate) == (NIGHT_US - 60 * S, pytest.approx(0.2, abs=0.02))
    assert whole.lost_users_per_hour is not None
    assert recent.lost_users_per_hour == pytest.approx(5 * whole.lost_users_per_hour, rel=0.1)


def test_the_rate_is_drawn_over_the_past_hour_as_it_was() -> None:
    shop = Shop().history().now(1200, broken(device="ios"))
    found = shop.impact()
    rates = dict(found.series)
    assert found.series_seconds == 300
    assert max(rates) == NIGHT_US
    assert rates[NIGHT_US] == pytest.approx(shop.verdict().rate, rel=0.02)
    early = [rate for at_us, rate in rates.items() if at_us <= NIGHT_US - 1200 * S]
    assert len(early) > 20
    assert all(rate == pytest.approx(0.33, abs=0.02) for rate in early)


@pytest.mark.parametrize("minute", range(0, 60, 7))
def test_the_past_is_right_wherever_in_its_hour_now_is(minute: int) -> None:
    shop = Shop(delay=900).history()
    for at in range(3 * 3600, 0, -10):
        shop.come(NIGHT_US - at * S + minute * 60 * S, 400, SHARE, USUAL)
    now_us = NIGHT_US + minute * 60 * S
    shop.adjusting.at(now_us)
    verdict = Verdict("healthy", 1, 1.0, 1.0, threshold=0.3, basis="adjusted", window_seconds=300)
    rates = [rate for _, rate in impact(shop.rule, shop.counts, shop.adjusting, 2, now_us, verdict).series]
    assert len(rates) >= 50
    assert all(rate == pytest.approx(0.332, abs=0.01) for rate in rates)


def test_users_have_no_past_to_draw() -> None:
    assert Shop(basis="users").now(3600, broken()).impact(basis="users").series == ()


def test_finished_entries_have() -> None:
    shop = Shop(basis="entries", window="5m").now(3600, broken(device="ios"))
    verdict = Verdict("breach", 60, 600.0, 0.1, threshold=0.3, basis="entries", window_seconds=300)
    series = impact(shop.rule, shop.counts, None, 2, NIGHT_US, verdict).series
    assert series
    assert series[-1][1] < 0.25


def test_without_people_nothing_is_said() -> None:
    shop = Shop(basis="users")
    verdict = Verdict("unknown", 0, 0.0, None, threshold=0.3, basis="users", window_seconds=300, reason="no_data")
    found = impact(shop.rule, shop.counts, None, 2, NIGHT_US, verdict)
    assert (found.place, found.mix, found.series) == (None, None, ())


def test_values_that_are_too_many_to_look_at_are_no_change_of_mix() -> None:
    share = {(f"device {n:02}", "ads"): 1 / 40 for n in range(40)}
    shop = Shop()
    for at in range(48 * 3600, 0, -600):
        shop.come(NIGHT_US - at * S, 40_000, share, dict.fromkeys(share, 0.34 if at > 600 else 0.3))
    shop.adjusting.at(NIGHT_US)
    verdict = Verdict("breach", 1, 1.0, 0.3, threshold=0.3, baseline=0.34, basis="adjusted", window_seconds=600)
    found = impact(shop.rule, shop.counts, shop.adjusting, 2, NIGHT_US, verdict)
    assert found.lost_users_per_hour is not None
    assert found.lost_users_per_hour > 0
    assert (found.place, found.mix) == (None, None)


MAYBE = st.sampled_from([0.0, 0.05, 0.5, 1.0, 1.4])


@settings(max_examples=25, deadline=None)
@given(
    rates=st.fixed_dictionaries(dict.fromkeys(USUAL, MAYBE)),
    people=st.sampled_from([0, 1, 7, 500]),
    basis=st.sampled_from(["users", "entries", "adjusted"]),
    numbers=st.tuples(st.integers(0, 50), st.sampled_from([0.0, 0.4, 30.0])),
    levels=st.tuples(st.sampled_from([None, 0.0, 0.3, 1.0]), st.sampled_from([None, 0.0, 0.4])),
    split=st.sampled_from([None, ("device", "ios"), ("channel", "nobody")]),
    taken_back=st.booleans(),
)
def test_whatever_was_counted_something_can_be_said_and_drawn(
    rates: Groups, people: int, basis: str, numbers: tuple[int, float], levels: tuple[float | None, float | None],
    split: tuple[str, str] | None, taken_back: bool,
) -> None:  # fmt: skip
    shop = Shop().history(hours=6, an_hour=people * 10).now(1200, rates, each=people)
    if taken_back:
        shop.come(NIGHT_US - 10 * S, -3 * people, SHARE, USUAL)
    numerator, denominator = numbers
    rate = numerator / denominator if denominator else None
    verdict = Verdict(
        "breach", numerator, denominator, rate, threshold=levels[0], baseline=levels[1], basis=basis, window_seconds=300, recovery=levels[0]
    )
    found = impact(shop.rule, shop.counts, shop.adjusting, 2, NIGHT_US, verdict, split)
    assert found.lost_users_per_hour is None or found.lost_users_per_hour >= 0
    assert found.place is None or 0.5 <= found.place.share <= 1
    alert = AlertKey(shop.rule.name, *(split or (None, None)))
    state = RuleState("firing", NIGHT_US, NIGHT_US, verdict, NIGHT_US, NIGHT_US)
    said = compose(shop.rule, shop.setup.funnels[0], alert, state, impact=found)
    assert Notification.model_validate_json(said.model_dump_json()) == said
    picture(said)
