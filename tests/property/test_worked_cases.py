"""Worked cases, each in every order of arrival that the allowed lateness permits, by recount and by engine.

A case is written as in the table that defines the semantics: `b@10` is an event b ten seconds in, and
a reach of stage b at that time; where a stage's event does not name it, a reach is written with the
number of the stage (`2@5`). `b!` is an event whose property `good` is true, and as a stage or an
exclusion one that asks for it; `b#7` has the event_id 7; `a|b` is a stage of two events. All orders
of arrival of a case are tried at once, each as an entity of its own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial

import pytest

from schemas.event import iso
from streams.ages import age_bin as engine_age_bin
from tests.property.brute import SECOND, Dimension, Event, Exclusion, Funnel, Stage, age_bin, truth_of
from tests.property.scenario import BEGIN_US, Counted, config_of, defined, event_of, replayed

ORDERS_MAX = 720  # of arrival, of one case
TOKEN = re.compile(r"(?P<name>[a-z0-9])(?P<good>!?)(#(?P<id>\w+))?@(?P<at>[\d.]+)")
WAYS = {"recount": 0, "one chunk": 100, "a chunk an event": 1, "a chunk two events": 2}  # of an entity's events


@dataclass(frozen=True)
class Case:
    """Events and what must come of them. Counts are by stage: entries, conversions; fates as `duplicate 1`."""

    says: str
    stages: str
    events: str
    reaches: str
    entries: str = ""
    conversions: str = ""
    ages: str = ""  # seconds from opening to conversion, as `2:10`: ten seconds into stage 2
    fates: str = ""
    window: int = 60
    order: str = "ordered"
    exclude: str = ""  # as `x:a-c`: from a to c
    lateness: int = 600

    def __str__(self) -> str:
        return f"{self.says} [{self.stages}, {self.order}, {self.window} s{self.exclude and f', exclude {self.exclude}'}]"

    @property
    def funnel(self) -> Funnel:
        words = self.stages.split()
        stages = tuple(Stage(frozenset(word.strip("!").split("|")), {"good": True} if "!" in word else {}) for word in words)
        exclude = tuple(self._exclusion(text, words) for text in self.exclude.split())
        return Funnel("f", stages, self.window * SECOND, (86_400,), {}, self.order, exclude)

    def _exclusion(self, text: str, words: Sequence[str]) -> Exclusion:
        name, begin, end = re.split("[:-]", text)
        where = {"good": True} if "!" in name else {}
        return Exclusion(frozenset(name.strip("!")), where, words.index(begin), words.index(end))

    def reached(self) -> list[tuple[int, str]]:
        """The reaches as `--per-entity` tells them: number of the stage, time."""
        found = [re.split("@", word) for word in self.reaches.split()]
        return [(int(s) if s.isdecimal() else self.stages.split().index(s) + 1, iso(at_us(at))) for s, at in found]


def at_us(seconds: str) -> int:
    return BEGIN_US + round(float(seconds) * SECOND)


def events_of(case: Case, entity: str) -> list[Event]:
    found = [match for word in case.events.split() if (match := TOKEN.fullmatch(word))]
    assert len(found) == len(case.events.split()), case
    return [event_of(entity, m["name"], at_us(m["at"]), m["id"] or "", {"good": True} if m["good"] else {}) for m in found]


def arrivals(case: Case, orders_max: int = ORDERS_MAX) -> list[tuple[int, ...]]:
    """Every order of arrival (or many), as places in the case, in which no event comes too late."""
    times = [event.time_us for event in events_of(case, "")]
    places = range(len(times))
    every: Iterable[tuple[int, ...]] = permutations(places)
    if factorial(len(times)) > ORDERS_MAX:
        chance = random.Random(len(times))
        every = [tuple(places), *(tuple(chance.sample(places, len(places))) for _ in range(ORDERS_MAX))]
    in_time = [o for o in every if all(times[p] >= max(times[q] for q in o[: n + 1]) - case.lateness * SECOND for n, p in enumerate(o))]
    return in_time[:orders_max]


def counted(case: Case, way: str, orders: Sequence[Sequence[int]], monkeypatch: pytest.MonkeyPatch) -> Counted:
    """All orders at once; the first events of all arrive before the second of any."""
    people = [events_of(case, f"u{number}") for number in range(len(orders))]
    sent = [events[order[turn]] for turn in range(len(orders[0])) for events, order in zip(people, orders)]
    monkeypatch.setattr("streams.replay.CHUNK_RECORDS", len(orders) * WAYS[way])
    return counted_of(case.funnel, sent, way, case.lateness)


def counted_of(funnel: Funnel, sent: Sequence[Event], way: str, lateness: int = 600) -> Counted:
    if way == "recount":
        return defined(truth_of([funnel], sent, lateness * SECOND), [funnel], per_entity=True)
    return replayed(config_of([funnel], lateness), [event.raw for event in sent], [funnel])


def check(case: Case, way: str, monkeypatch: pytest.MonkeyPatch, orders_max: int = ORDERS_MAX) -> None:
    orders = arrivals(case, orders_max)
    found = counted(case, way, orders, monkeypatch)
    words = case.events.split()
    for number, order in enumerate(orders):
        reaches = found.get((f"u{number} in f", "reaches"), [])
        assert reaches == case.reached(), f"{case}: arriving as {' '.join(words[place] for place in order)}"
    wanted, times = dict(_cells(case)), len(orders)
    wrong = [f"{what}: expected {n}, found {found.get(what, 0) / times:g}" for what, n in wanted.items() if found.get(what, 0) != n * times]
    assert not wrong, f"{case}: {case.events}: {wrong}"
    ages = sorted(what for where, what in found if where == "f ever" and what[0] == "h")
    assert not case.ages or ages == sorted({what for _, what in wanted if what[0] == "h"}), f"{case}: {case.events}"


def _cells(case: Case) -> Iterable[tuple[tuple[str, str], int]]:
    """The counts that a case names, of one entity."""
    for family, counts in (("e", case.entries), ("c", case.conversions)):
        for stage, count in enumerate(counts.split()):
            yield ("f ever", f"{family}{stage}"), int(count)
    bins = [(int(stage) - 1, age_bin(round(float(age) * SECOND))) for stage, _, age in (word.partition(":") for word in case.ages.split())]
    for stage, number in bins:
        yield ("f ever", f"h{stage}:{number}"), bins.count((stage, number))
    for word in case.fates.split(", ") if case.fates else ():
        yield ("fate", word.split()[0]), int(word.split()[1])
    for stage in range(len(case.stages.split())):
        numbers = [number - 1 for number, _ in case.reached()]
        yield ("f ever", f"u{stage}"), int(stage in numbers)
        yield ("f ever", f"n{stage}"), numbers.count(stage)


TABLE = [
    Case("the window is inclusive", "a b c", "a@0 b@10 c@60", "a@0 b@10 c@60", "1 1 1", "1 1", "2:10 3:50"),
    Case("beyond the window", "a b c", "a@0 b@10 c@61", "a@0 b@10", "1 1 0", "1 0", "2:10"),
    Case("the chain starts at the newest start", "a b c", "a@0 a@30 b@40 c@80", "a@0 a@30 b@40 c@80", "1 1 1", "1 1", "2:40 3:40"),
    Case("b came too early", "a b c", "b@0 a@10 c@20", "a@10", "1 0 0", "0 0"),
    Case("the lower stage first within a second", "a b c", "b@5 a@5", "a@5 b@5", "1 1 0", "1 0", "2:0"),
    Case("one user, two reaches", "a b c", "a@0 b@10 b@20", "a@0 b@10 b@20", "1 1 0", "1 0", "2:10"),
    Case("c came too early", "a b c", "a@0 c@10 b@20", "a@0 b@20", "1 1 0", "1 0", "2:20"),
    Case("the same event twice", "p p", "p@0 p@5 p@100", "1@0 2@5 1@5 1@100", "2 1", "1", "2:5"),
]

PROSE = [
    Case("any: what completes a set", "a b c", "c@0 a@10 b@20", "a@10 b@20 c@20", "1 1 1", "1 1", "2:10 3:0", order="any"),
    Case("strict: a foreign event between", "a b c", "a@0 x@1 b@2", "a@0", "1 0 0", "0 0", fates="applied 3", order="strict"),
    Case("strict: begun again", "a b c", "a@0 x@1 a@2 b@3 c@4", "a@0 a@2 b@3 c@4", "1 1 1", "1 1", "2:3 3:1", order="strict"),
    Case("strict: a foreign event later", "a b c", "a@0 b@1 x@2 c@3", "a@0 b@1", "1 1 0", "1 0", order="strict"),
    Case("exclude: cart left", "v c o p", "v@0 c@1 x@2 o@3", "v@0 c@1", "1 1 0 0", "1 0 0", exclude="x:c-p"),
    Case("exclude: checkout left", "v c o p", "v@0 c@1 o@2 x@3 p@4", "v@0 c@1 o@2", "1 1 1 0", "1 1 0", exclude="x:c-p"),
    Case("exclude: before what it ends", "v c o p", "v@0 x@1 c@2 o@3 p@4", "v@0 c@2 o@3 p@4", exclude="x:c-p"),
    Case("exclude: what was reached stays", "v c o p", "v@0 c@1 o@2 p@3 x@4", "v@0 c@1 o@2 p@3", exclude="x:c-p"),
    Case("exclude: from there again", "v c o p", "v@0 c@1 x@2 c@3 o@4 p@5", "v@0 c@1 c@3 o@4 p@5", "1 1 1 1", "1 1 1", exclude="x:c-p"),
    Case("a reach in an open entry belongs to it", "a b", "a@0 b@10 b@20", "a@0 b@10 b@20", "1 1", "1", "2:10"),
    Case("reached, but not from the opening", "a b", "a@0 a@50 b@90", "a@0 a@50 b@90", "1 1", "0"),
]

ORDERED = [
    Case("a microsecond beyond the window", "a b", "a@0 b@60.000001", "a@0", "1 0", "0"),
    Case("a microsecond within it", "a b", "a@0.000001 b@60.000001", "a@0.000001 b@60.000001", "1 1", "1", "2:60"),
    Case("a chain in one moment", "a b c", "a@5 b@5 c@5", "a@5 b@5 c@5", "1 1 1", "1 1", "2:0 3:0"),
    Case("two of the same event in one moment", "p p", "p#1@0 p#2@0", "1@0 2@0 1@0", "1 1", "1", "2:0"),
    Case("three of them", "p p p", "p#1@0 p#2@0 p#3@0", "1@0 2@0 1@0 3@0 2@0 1@0", "1 1 1", "1 1"),
    Case("a stage of two events", "a|b c", "b@0 c@1 a@2 c@3", "1@0 c@1 1@2 c@3", "1 1", "1", "2:1"),
    Case("there and back", "a b a", "a@0 b@1 a@2 b@3 a@4", "1@0 2@1 3@2 1@2 2@3 3@4 1@4", "1 1 1", "1 1"),
    Case("too old, then begun again", "a b", "a@0 b@100 a@110 b@120", "a@0 a@110 b@120", "2 1", "1", "2:10"),
    Case("a new start is not yet at b", "a b c", "a@0 b@50 a@55 c@60", "a@0 b@50 a@55 c@60", "1 1 1", "1 1"),
    Case("nor does it keep b's chain young", "a b c", "a@0 b@50 a@55 c@61", "a@0 b@50 a@55", "1 1 0", "1 0"),
    Case("b takes the new start on", "a b c", "a@0 b@50 a@55 b@56 c@61", "a@0 b@50 a@55 b@56 c@61", "1 1 1", "1 1", "2:50 3:11"),
    Case("a foreign event is nothing", "a b", "a@0 z@1 b@2", "a@0 b@2", fates="filtered 1, applied 2"),
]

COHORTS = [
    Case("an entry is open to the end of the window, inclusive", "a b", "a@0 a@60 b@60", "a@0 a@60 b@60", "1 1", "1", "2:60"),
    Case("the next one opens after it", "a b", "a@0 a@60.000001 b@62", "a@0 a@60.000001 b@62", "2 1", "1", "2:1.999999"),
    Case("two entries, two conversions, one entry behind", "a b", "a@0 b@10 a@61 b@62", "a@0 b@10 a@61 b@62", "2 1", "2", "2:10 2:1"),
    Case("entries behind open by their own time", "a b", "a@0 b@60 a@61 b@121", "a@0 b@60 a@61 b@121", "2 2", "2", "2:60 2:60"),
    Case("an event does not convert what it opens", "p p", "p@0 p@50 p@100", "1@0 2@50 1@50 2@100 1@100", "2 1", "1", "2:50"),
    Case("an exclusion does not close an entry", "a b", "a@0 x@5 b@10 a@20 b@25", "a@0 a@20 b@25", "1 1", "1", "2:25", exclude="x:a-b"),
    Case("strictness does not either", "a b", "a@0 x@5 b@10 a@20 b@25", "a@0 a@20 b@25", "1 1", "1", "2:25", order="strict"),
    Case("converted once", "a b", "a@0 b@1 a@2 b@3 a@4 b@5", "a@0 b@1 a@2 b@3 a@4 b@5", "1 1", "1", "2:1"),
    Case("the chain that converts began before the entry's end", "a b", "a@0 a@40 a@70 b@95", "a@0 a@40 a@70 b@95", "2 1", "1", "2:25"),
]

ANY = [
    Case("backwards", "a b c", "c@0 b@10 a@20", "a@20 b@20 c@20", "1 1 1", "1 1", "2:0 3:0", order="any"),
    Case("forwards", "a b c", "a@0 b@10 c@60", "a@0 b@10 c@60", "1 1 1", "1 1", "2:10 3:50", order="any"),
    Case("the oldest is too old", "a b c", "a@0 b@10 c@61", "a@0 b@10", "1 1 0", "1 0", order="any"),
    Case("the set is inclusive", "a b", "b@0 a@60", "a@60 b@60", "1 1", "1", "2:0", order="any"),
    Case("and no longer", "a b", "b@0 a@60.000001", "a@60.000001", "1 0", "0", order="any"),
    Case("it stops at the first that fails", "a b c", "c@0 a@10 b@61", "a@10 b@61", "1 1 0", "1 0", order="any"),
    Case("nothing without the first stage", "a b c", "b@0 c@1", "", "0 0 0", "0 0", fates="applied 2", order="any"),
    Case("the missing one brings both", "a b c", "a@0 c@1 b@2", "a@0 b@2 c@2", "1 1 1", "1 1", "2:2 3:0", order="any"),
    Case("the first one again", "a b c", "a@0 b@1 c@2 a@3", "a@0 b@1 c@2 a@3 b@3 c@3", "1 1 1", "1 1", "2:1 3:1", order="any"),
    Case("one in the middle again", "a b c", "a@0 b@1 c@2 b@3", "a@0 b@1 c@2 b@3 c@3", "1 1 1", "1 1", order="any"),
    Case("one event may be two stages", "p p", "p@0", "1@0 2@0", "1 1", "1", "2:0", order="any"),
    Case("in one moment", "a b c", "c@5 b@5 a@5", "a@5 b@5 c@5", "1 1 1", "1 1", order="any"),
    Case("the newest of each counts", "a b", "a@0 b@50 a@100 b@120", "a@0 b@50 a@100 b@100 b@120", "2 2", "2", "2:50 2:0", order="any"),
    Case("with a condition", "a b!", "b@0 a@1 b!@2", "a@1 2@2", "1 1", "1", "2:1", fates="filtered 1, applied 2", order="any"),
]

STRICT = [
    Case("the first again", "a b c", "a@0 a@1 b@2 c@3", "a@0 a@1 b@2 c@3", "1 1 1", "1 1", order="strict"),
    Case("b again does not lose b", "a b c", "a@0 b@1 b@2 c@3", "a@0 b@1 c@3", "1 1 1", "1 1", "2:1 3:2", order="strict"),
    Case("a again loses b", "a b c", "a@0 b@1 a@2 c@3", "a@0 b@1 a@2", "1 1 0", "1 0", order="strict"),
    Case("a foreign event in the same moment comes after", "a b c", "a@0 x@1 b@1 c@2", "a@0 b@1", order="strict"),
    Case("and ends what stands", "a b", "a@0 x@0 b@1", "a@0", "1 0", "0", order="strict"),
    Case("one whose condition fails is foreign", "a b! c", "a@0 b@1 b!@2 c@3", "a@0", fates="applied 4", order="strict"),
    Case("the window holds too", "a b", "a@0 b@61", "a@0", "1 0", "0", order="strict"),
    Case("inclusive", "a b", "a@0 b@60", "a@0 b@60", "1 1", "1", "2:60", order="strict"),
    Case("the same event twice, strictly", "p p", "p@0 p@1 p@2", "1@0 2@1 1@1 2@2 1@2", "1 1", "1", "2:1", order="strict"),
    Case("a copy clears nothing", "a b", "a@0 x#1@0.5 a@1 x#1@2 b@3", "a@0 a@1 b@3", "1 1", "1", fates="duplicate 1", order="strict"),
]

EXCLUDE = [
    Case("in the moment of the start: after it", "a b", "a@0 x@0 b@1", "a@0", exclude="x:a-b"),
    Case("in the moment of the next stage: after it", "a b c", "a@0 b@10 x@10 c@20", "a@0 b@10", "1 1 0", "1 0", exclude="x:a-c"),
    Case("beside the stages it ends", "a b c", "a@0 x@5 b@10 c@15", "a@0 b@10 c@15", exclude="x:b-c"),
    Case("before any start", "a b", "x@0 a@1 b@2", "a@1 b@2", fates="applied 3", exclude="x:a-b"),
    Case("a start that it sets itself stands", "a b", "a@0 b@1 a@2 b@3", "a@0 b@1 a@2 b@3", exclude="a:a-b"),
    Case("its own reach is decided before it", "a b c", "a@0 b@1 c@2 b@3 c@4", "a@0 b@1 c@2 c@4", exclude="c:a-b"),
    Case("its advance stands, what stood before it is gone", "a b c", "a@0 b@1 b@2 c@3", "a@0 b@1 c@3", exclude="b:a-b"),
    Case("also where it clears the stage it reaches", "a b c", "a@0 b@1 c@2", "a@0 b@1 c@2", "1 1 1", "1 1", exclude="b:a-c"),
    Case("with a condition that fails", "a b", "a@0 x@1 b@2", "a@0 b@2", fates="filtered 1, applied 2", exclude="x!:a-b"),
    Case("with a condition that holds", "a b", "a@0 x!@1 b@2", "a@0", fates="applied 3", exclude="x!:a-b"),
    Case("two of them", "a b c", "a@0 x@1 a@2 b@3 y@4 c@5", "a@0 a@2 b@3", exclude="x:a-b y:b-c"),
    Case("a copy of it ends nothing", "a b", "x#1@0 a@1 x#1@2 b@3", "a@1 b@3", fates="applied 3, duplicate 1", exclude="x:a-b"),
]

WHERE = [
    Case("only where it holds", "a b!", "a@0 b@1 b!@2", "a@0 2@2", "1 1", "1", "2:2", fates="filtered 1, applied 2"),
    Case("one name, two stages", "v v!", "v@0 v!@1", "1@0 2@1 1@1", "1 1", "1", "2:1"),
    Case("the lowest stage it matches, not its name's", "a! b a", "a!@0 b@1 a@1", "1@0 2@1 3@1", "1 1 1", "1 1"),
    Case("and with the condition met", "a! b a", "a!@0 b@1 a!@1", "1@0 1@1 2@1", "1 1 0", "1 0", "2:1"),
]

COPIES = [
    Case("an exact copy", "p p", "p#1@0 p#1@0", "1@0", "1 0", "0", fates="applied 1, duplicate 1"),
    Case("an exact copy without an id", "p p", "p@0 p@0", "1@0", "1 0", "0", fates="applied 1, duplicate 1"),
    Case("of a resent id the earlier in time counts", "a b", "a@0 b#2@10 b#2@15", "a@0 b@10", fates="applied 2, duplicate 1"),
    Case("so far back as events may be late", "p p", "p#1@0 p#1@60", "1@0", fates="duplicate 1", lateness=60),
    Case("but no further", "p p", "p#1@0 p#1@60.000001", "1@0 1@60.000001", "2 0", "0", fates="applied 2", lateness=60),
    Case("a copy hides no other", "a b", "a#1@0 a#1@40 a#1@80 b@90", "a@0 a@80 b@90", "2 1", "1", fates="duplicate 1", lateness=60),
    Case("a copy before something much newer", "a b", "a#1@0 b@1 a#1@30 b@200", "a@0 b@1", fates="applied 3, duplicate 1", lateness=60),
    Case("one id, two events, one moment", "a b", "a#1@0 b#1@0 b#2@5", "a@0 b@5", fates="applied 2, duplicate 1"),
]

CASES = [*TABLE, *PROSE, *ORDERED, *COHORTS, *ANY, *STRICT, *EXCLUDE, *WHERE, *COPIES]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_comes_out_as_documented(case: Case, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The recount sorts what is in time, so that a few orders say as much as all.
    check(case, way, monkeypatch, 24 if way == "recount" else ORDERS_MAX)


@pytest.mark.parametrize("lateness", [0, 5, 60])
@pytest.mark.parametrize("way", ["one chunk", "a chunk an event"])
def test_a_shorter_lateness_permits_fewer_orders_and_changes_nothing_else(way: str, lateness: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for case in CASES:
        if case not in COPIES and "copy" not in case.says:  # how far back a copy is known depends on it
            check(replace(case, lateness=lateness), way, monkeypatch, 40)


# Under which values: an event of channel ads is A, of mail M, of none N.

CHANNELS = {"A": {"channel": "ads", "device": "ios"}, "M": {"channel": "mail", "device": "web"}, "N": {}}
VALUED = [
    ("ordered", "aA@0 aM@30 bN@40", "e0:ads c0:ads x1:ads n0:ads n0:mail n1:mail u0:mail u1:mail e1:mail"),
    ("ordered", "aA@0 bM@10 aM@70 bA@80", "e0:ads c0:ads x1:ads e0:mail c0:mail x1:mail n1:ads n1:mail u0:mail u1:mail"),
    ("ordered", "aN@0 bA@10", "e0:__none__ c0:__none__ x1:__none__ u1:__none__"),
    ("any", "bM@0 aA@10 aM@20", "e0:ads c0:ads x1:ads e1:ads u0:mail u1:mail n1:ads n1:mail"),
    ("any", "aA@0 bM@10 aM@20", "e0:ads e1:ads n1:ads n1:mail u1:mail"),
    ("strict", "aA@0 aM@1 bA@2", "e0:ads c0:ads x1:ads n1:mail u1:mail e1:mail"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("order", "events", "cells"), VALUED)
def test_a_count_stands_under_the_values_of_its_chain_or_of_its_opening(
    order: str, events: str, cells: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`x1:ads` says that one conversion into the second stage stands under ads; a family and stage that is told is told in full."""
    dimensions = {"both": Dimension(("channel", "device")), "channel": Dimension(), "device": Dimension()}
    funnel = Funnel("f", (Stage(frozenset("a")), Stage(frozenset("b"))), 60 * SECOND, (86_400,), dimensions, order)
    sent = [event_of("u", word[0], at_us(word[3:]), "", CHANNELS[word[1]]) for word in events.split()]
    shown = {"ads": "ads / ios", "mail": "mail / web", "__none__": "__none__ / __none__"}
    wanted: dict[str, dict[str, int]] = {}
    for name, _, value in (word.partition(":") for word in cells.split()):
        wanted.setdefault(name, {}).update({f"{name}\x1fchannel\x1f{value}": 1, f"{name}\x1fboth\x1f{shown[value]}": 1})
    monkeypatch.setattr("streams.replay.CHUNK_RECORDS", WAYS[way])
    for arriving in permutations(sent):
        ever = {what: n for (where, what), n in counted_of(funnel, arriving, way).items() if where == "f ever"}
        for name, split in wanted.items():
            mine = {what: n for what, n in ever.items() if what.startswith((f"{name}\x1fchannel", f"{name}\x1fboth"))}
            assert mine == split, f"{order}: {events}: {name}"


# ClickHouse: windowFunnel(window)(time, stages...) in its default mode. Known results (of its tests and
# manual), where no event matches two stages. Events a to i stand for 1000 to 1008.
NINE = "a@0 b@1 c@2 d@3 e@4 f@5 g@6 h@7 i@8"
LEVELS = [
    (10_000, "a b", NINE, 2),
    (10_000, "a b c", NINE, 3),
    (10_000, "a b c i", NINE, 4),
    (2, "d e f g h", NINE, 3),
    (3, "d e f g h", NINE, 4),
    (4, "d e f g h", NINE, 5),
    (10_000, "b i", NINE, 2),
    (10_000, "i b", NINE, 1),
    (10_000, "a b c d e f g", "a@0 b@10 c@20 d@30 e@40 f@50 f@51 g@60 h@70 i@80", 7),
    (10_000, "a b c d e", "a@0 b@1 c@1 d@1 e@2", 5),
    (86_400, "a b c", "a@1 b@2 c@3", 3),
    (86_400, "a b c", "a@1 d@2 b@3 c@4", 3),
    (86_400, "a b c", "a@1 a@2 b@3 b@4 c@5 c@6", 3),
    (86_400, "a b c", "a@1 a@2 a@3 a@4 b@5 b@6 c@7 c@8", 3),
    (86_400, "a b c", "a@1 a@2 b@3 b@4 d@5 c@6 c@7", 3),
    (86_400, "a b c", "c@1 c@2 b@3 b@4 a@5 a@6", 1),
    (90 * 86_400, "s p c b", "s@36000 p@115200 c@205200 b@288000", 4),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("span", "stages", "events", "level"), LEVELS)
def test_the_deepest_stage_is_the_level_that_clickhouse_tells(
    span: int, stages: str, events: str, level: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("ClickHouse", stages, events, "", window=span)
    orders = arrivals(case, 24 if way == "recount" else 120)
    found = counted(case, way, orders, monkeypatch)
    for number, order in enumerate(orders):
        reached = found.get((f"u{number} in f", "reaches"), [])
        arriving = " ".join(events.split()[place] for place in order)
        assert max((stage for stage, _ in reached), default=0) == level, f"arriving as {arriving}: {reached}"


def window_funnel(span_us: int, events: Sequence[tuple[int, int]]) -> int:
    """The level, as ClickHouse walks (time, stage from 1) pairs: for each stage when the chain at it began."""
    began: dict[int, int] = {}
    for time_us, stage in sorted(events):
        if stage == 1:
            began[1] = time_us
        elif stage - 1 in began and time_us <= began[stage - 1] + span_us:
            began[stage] = began[stage - 1]
    return max(began, default=0)


@pytest.mark.parametrize("way", ["recount", "one chunk"])
@pytest.mark.parametrize("seed", range(10))
def test_random_streams_get_as_deep_as_in_clickhouse(seed: int, way: str) -> None:
    chance = random.Random(seed)
    span = chance.choice((1, 5, 20))
    funnel = Funnel("f", tuple(Stage(frozenset(name)) for name in "abcd"), span * SECOND, (86_400,))
    people = {
        f"u{n}": [(chance.randint(0, 40) * SECOND // 2, chance.randint(1, 4)) for _ in range(chance.randint(1, 14))] for n in range(100)
    }
    sent = [
        event_of(entity, "abcd"[stage - 1], BEGIN_US + time, f"{place}")
        for entity, events in people.items()
        for place, (time, stage) in enumerate(events)
    ]
    chance.shuffle(sent)
    found = counted_of(funnel, sent, way)
    deepest = {entity: max((stage for stage, _ in found.get((f"{entity} in f", "reaches"), [])), default=0) for entity in people}
    assert deepest == {entity: window_funnel(span * SECOND, events) for entity, events in people.items()}


@pytest.mark.parametrize(
    ("age_ms", "number"),
    [
        (0, 0),
        (0.999, 0),
        (1, 1),
        (3.999, 3),
        (4, 4),
        (7, 7),
        (7.999, 7),
        (8, 8),
        (9.999, 8),
        (10, 9),
        (15, 11),
        (16, 12),
        (1000, 35),
        (1024, 36),
    ],
)
def test_ages_are_binned_four_to_an_octave(age_ms: float, number: int) -> None:
    """E.g. 1000 ms is in the last quarter (896 to 1023) of the octave that begins at 512 ms."""
    assert age_bin(round(age_ms * 1000)) == number
    assert engine_age_bin(round(age_ms * 1000)) == number


def test_the_engine_bins_every_age_alike() -> None:
    chance = random.Random(1)
    ages = [*range(0, 300_000, 250), *(chance.randrange(2**bits) for bits in range(1, 43) for _ in range(50))]
    edges = [1000 * 2**octave * quarter // 4 + off for octave in range(3, 33) for quarter in (4, 5, 6, 7) for off in (-1, 0, 1)]
    assert [engine_age_bin(age) for age in (*ages, *edges)] == [age_bin(age) for age in (*ages, *edges)]
