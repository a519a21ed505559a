"""[pure] Traffic of a believable shop, with an incident in which paying mostly fails.

Visits begin as a Poisson process, each by a new or a returning visitor, and walk a table of what
follows what, 0.2 to 1.5 s a step. Asked up to a moment, the shop gives the clicks that are due by
then in order of time, so every entity's events are in order. A higher rate means more visits at
once, not quicker ones. The same seed, start, rate and incident give the same clicks.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from schemas.event import iso

Odds = tuple[tuple[str, float], ...]  # what may follow and how often; the rest leave

ARRIVES: Odds = (("page_view", 0.25), ("search", 0.15), ("product_view", 0.60))
FOLLOWS: dict[str, Odds] = {
    "page_view": (("product_view", 1.0),),
    "search": (("product_view", 1.0),),
    "product_view": (("product_view", 0.25), ("add_to_cart", 0.54)),
    "add_to_cart": (("begin_checkout", 0.80),),
    "begin_checkout": (("purchase", 1.0),),
}
LEAVES_CHECKOUT = 0.25
PAYS = {"ios": 0.70, "android": 0.70, "web": 0.70}
PAYS_IN_INCIDENT = {"ios": 0.10, "android": 0.04, "web": 0.10}  # 0.08 overall

CHANNELS: Odds = (("paid", 0.35), ("organic", 0.30), ("email", 0.20), ("social", 0.15))
DEVICES: Odds = (("ios", 0.35), ("android", 0.35), ("web", 0.30))
STEP_SECONDS = (0.2, 1.5)
RETURNING, ANONYMOUS = 0.3, 0.25
REMEMBERED_VISITORS = 5_000

_VIEWS = 1 / (1 - 0.25)
_CARTS = _VIEWS * 0.54
_CHECKOUTS = _CARTS * 0.80
EVENTS_PER_VISIT = 0.40 + _VIEWS + _CARTS + _CHECKOUTS * (2 - LEAVES_CHECKOUT)


class Click(NamedTuple):
    """One event as it is produced."""

    at: float  # seconds since the epoch
    key: bytes
    value: bytes


@dataclass(frozen=True)
class _Visitor:
    field: str
    id: str
    device: str


@dataclass(frozen=True)
class _Visit:
    visitor: _Visitor
    channel: str
    doing: str  # the event that is due next


class Shop:
    """Clicks at about `rate` a second from `start` on; `incident(at)` says when paying fails."""

    def __init__(self, rate: float, start: float, incident: Callable[[float], bool], seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self._visits_per_second = rate / EVENTS_PER_VISIT
        self._incident = incident
        self._arrival = start
        self._due: list[tuple[float, int, _Visit]] = []
        self._made = 0
        self._gone: list[_Visitor] = []  # may return; nobody is in two visits at once

    def until(self, now: float) -> list[Click]:
        """The clicks since the last call, up to `now`, in order of time."""
        clicks = []
        while (following := self._next(now)) is not None:
            at, visit = following
            happened = self._happens(at, visit)
            if happened:
                clicks.append(self._click(at, visit, happened))
            doing = self._pick(FOLLOWS.get(happened, ()))
            if doing:
                self._schedule(at + self._random.uniform(*STEP_SECONDS), _Visit(visit.visitor, visit.channel, doing))
            else:
                self._leave(visit.visitor)
        return clicks

    def _next(self, now: float) -> tuple[float, _Visit] | None:
        """What is due next; an arrival before it is made first, so that the dice fall in order of time."""
        while self._arrival <= now and (not self._due or self._arrival <= self._due[0][0]):
            self._schedule(self._arrival, _Visit(self._visitor(), self._pick(CHANNELS), self._pick(ARRIVES)))
            self._arrival += self._random.expovariate(self._visits_per_second)
        if not self._due or self._due[0][0] > now:
            return None
        at, _, visit = heapq.heappop(self._due)
        return at, visit

    def _schedule(self, at: float, visit: _Visit) -> None:
        self._made += 1
        heapq.heappush(self._due, (at, self._made, visit))

    def _happens(self, at: float, visit: _Visit) -> str:
        """What comes of the intended event: a payment may fail, or not be tried."""
        if visit.doing != "purchase":
            return visit.doing
        pays = (PAYS_IN_INCIDENT if self._incident(at) else PAYS)[visit.visitor.device]
        dice = self._random.random()
        if dice < pays:
            return "purchase"
        return "payment_failed" if dice < 1 - LEAVES_CHECKOUT else ""

    def _click(self, at: float, visit: _Visit, event: str) -> Click:
        visitor = visit.visitor
        properties: dict[str, str | float] = {"channel": visit.channel, "device": visitor.device}
        if event == "purchase":
            properties["amount"] = round(self._random.lognormvariate(3.6, 0.6), 2)
        record = {
            "event": event,
            "timestamp": iso(int(at * 1_000_000)),
            "event_id": f"{self._random.getrandbits(64):016x}",
            visitor.field: visitor.id,
            "properties": properties,
        }
        return Click(at, visitor.id.encode(), orjson.dumps(record))

    def _visitor(self) -> _Visitor:
        if self._gone and self._random.random() < RETURNING:
            return self._swap_out(self._gone.pop())
        named = self._random.random() >= ANONYMOUS
        id_ = f"{'user' if named else 'anon'}-{self._random.getrandbits(40):010x}"
        return _Visitor("user_id" if named else "anonymous_id", id_, self._pick(DEVICES))

    def _leave(self, visitor: _Visitor) -> None:
        if len(self._gone) < REMEMBERED_VISITORS:
            self._gone.append(visitor)
        else:
            self._swap_out(visitor)

    def _swap_out(self, visitor: _Visitor) -> _Visitor:
        """Any of those who are gone, the given one in its place."""
        if not self._gone:
            return visitor
        place = self._random.randrange(len(self._gone))
        self._gone[place], visitor = visitor, self._gone[place]
        return visitor

    def _pick(self, odds: Odds) -> str:
        dice = self._random.random()
        for name, share in odds:
            dice -= share
            if dice < 0:
                return name
        return ""
