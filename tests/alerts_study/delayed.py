"""Where conversions take minutes: rules on `users` and on `adjusted`, on counts as the ledger keeps them.

Everything is ours here: buckets of entries and conversions, the baseline and the worth of entries
(`streams.adjusting`), the look, the judge and the lifecycle. Of 50 entrants a minute 0.35 convert, after
3 minutes in the mean. A campaign brings four times as many within a minute, and brings no fall; then the
rate falls to 0.15.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from alerting.conditions import judge
from alerting.lifecycle import RuleState, advance
from alerting.samples import look
from schemas.duration import MICROS
from streams.adjusting import Adjusting
from streams.ages import age_bin
from streams.plan import Plan
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES, USERS
from streams.windows import FunnelCounts, age_cell, cell
from tests.alerts_study.contenders import BEGIN_US, SEQUENTIAL, STAGE, WINDOWED, config
from tests.alerts_study.traffic import BROKEN, BUCKET_SECONDS, HEALTHY

PER_MINUTE = 50
CAMPAIGN = 4
MEAN_SECONDS, WINDOW_SECONDS = 180, 1800
CALM, CAMPAIGN_LASTS, FALL = 3600, 3600, 3600  # seconds
KINDS = {"users, windowed": ("users", WINDOWED), "users, sequential": ("users", SEQUENTIAL)} | {
    "adjusted, windowed": ("adjusted", WINDOWED),
    "adjusted, sequential": ("adjusted", SEQUENTIAL),
}


@dataclass
class Delayed:
    """What came of so many campaigns and falls."""

    name: str
    runs: int = 0
    campaign_pages: int = 0
    calm_pages: int = 0
    found: int = 0
    delays: list[float] = field(default_factory=list)


class Shop:
    """People counted by the bucket they come and pay in."""

    def __init__(self, seed: object) -> None:
        self.chance = random.Random(repr(seed))
        rules = [{**rule, "basis": basis} for basis, rule in KINDS.values()]
        setup = config(*rules)
        self.rules = setup.alerts
        self.counts = FunnelCounts(Plan(setup, setup.sources[0]).funnels[0])
        self.adjusting = Adjusting(self.counts, 0)
        self.moment = BEGIN_US // MICROS
        self.next = float(self.moment)
        self.to_come: dict[int, dict[tuple[int, int], dict[str, int]]] = {}  # second of the bucket -> width and bucket -> cells

    def run(self, seconds: int, per_minute: float, rate: float) -> None:
        end = self.moment + seconds
        while self.next < end:
            if self.next >= self.moment:
                self._enter(self.next, rate)
            self.next += self.chance.expovariate(per_minute / 60)
        for second in range(self.moment, end, BUCKET_SECONDS):
            for (width, bucket), cells in self.to_come.pop(second, {}).items():
                self.counts.add(width, bucket, cells)
        self.moment = end
        self.counts.forget_before(end * MICROS)

    def _enter(self, moment: float, rate: float) -> None:
        self._note(moment, moment, {cell(USERS, STAGE - 1): 1, cell(ENTRIES, STAGE - 1): 1})
        age = self.chance.expovariate(1 / MEAN_SECONDS)
        if self.chance.random() < rate and age < WINDOW_SECONDS:
            paid = moment + age
            self._note(paid, paid, {cell(USERS, STAGE): 1, cell(CONVERTED, STAGE): 1})
            self._note(paid, moment, {cell(CONVERSIONS, STAGE - 1): 1, age_cell(STAGE, age_bin(int(age * MICROS))): 1})

    def _note(self, when: float, opened: float, cells: dict[str, int]) -> None:
        due = self.to_come.setdefault(int(when) // BUCKET_SECONDS * BUCKET_SECONDS, {})
        for kept in self.counts.plan.kept:
            into = due.setdefault((kept.seconds, int(opened) // kept.seconds), {})
            for name, count in cells.items():
                into[name] = into.get(name, 0) + count


def delayed(runs: int, seed: int) -> list[Delayed]:
    found = {name: Delayed(name) for name in KINDS}
    for number in range(runs):
        shop = Shop((seed, number))
        for _ in range(5):  # of history
            shop.run(3600, PER_MINUTE, HEALTHY)
        states = dict.fromkeys(KINDS, RuleState())
        fell = shop.moment + CALM + CAMPAIGN_LASTS + CALM
        while shop.moment < fell + FALL:
            since = shop.moment - (fell - CALM - CAMPAIGN_LASTS)
            campaign = 0 <= since < CAMPAIGN_LASTS
            shop.run(BUCKET_SECONDS, PER_MINUTE * (CAMPAIGN if campaign else 1), BROKEN if shop.moment >= fell else HEALTHY)
            shop.adjusting.at(shop.moment * MICROS)
            for name, rule in zip(KINDS, shop.rules):
                state = states[name]
                before = None if state.verdict is None else state.verdict.detector
                seen = look(rule, shop.counts, shop.adjusting, STAGE, None, shop.moment * MICROS, before)
                states[name], change = advance(rule, state, judge(rule, seen, before), shop.moment * MICROS)
                if change == "firing":
                    _note_page(found[name], shop.moment - fell, since)
        for name, result in found.items():
            result.runs += 1
            result.found += states[name].fires
    return list(found.values())


def _note_page(result: Delayed, after_fall: int, since: int) -> None:
    if after_fall > 0:
        result.delays.append(float(after_fall))
    elif 0 <= since < CAMPAIGN_LASTS + WINDOW_SECONDS:
        result.campaign_pages += 1
    else:
        result.calm_pages += 1
