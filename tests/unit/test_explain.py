"""Why an entity is where it is: every reason in its exact words, and nothing said that is not so."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from schemas.config import Config
from schemas.explanation import FunnelStanding, SourceExplanation
from streams.counting import ShardCount
from streams.explain import explain, unknown
from streams.plan import Plan
from streams.resting import rested

AT = 1_690_000_000  # seconds; 2023-07-22T04:26:40Z
SECOND = 1_000_000
DAY = 86_400
LATE = "; what happened before that and arrives late still counts"


def funnel(events: str = "abc", name: str = "f", **changes: Any) -> dict[str, Any]:
    """A funnel with one stage a letter, reached by the event of that letter."""
    stages = [{"name": event, "event": event} for event in events]
    return {"name": name, "source": "web", "conversion_window": "60s", "windows": ["5m"], "stages": stages} | changes


class Counted:
    """One entity's events counted, one chunk a call."""

    def __init__(self, *funnels: dict[str, Any], lateness: str = "5s") -> None:
        source = {"name": "web", "topic": "clicks", "trust_key": True, "allowed_lateness": lateness}
        self.plan = self.planned([*funnels] or [funnel()], source)
        self.count = ShardCount(self.plan)

    @staticmethod
    def planned(funnels: list[dict[str, Any]], source: dict[str, Any]) -> Plan:
        config = Config.model_validate({"sources": [source], "funnels": funnels})
        return Plan(config, config.sources[0])

    def feed(self, text: str, **properties: Any) -> Counted:
        """`a@0 b@10`: event@second."""
        words = [word.partition("@") for word in text.split()]
        records = [
            json.dumps({"event": name, "timestamp": AT + float(at), "user_id": "u", "properties": properties}).encode()
            for name, _, at in words
        ]
        pending = self.count.decode(0, len(records), records, [None] * len(records), 10**18)
        if pending.unknown:
            self.count.learn(pending, {registry: dict.fromkeys(texts, True) for registry, texts in pending.unknown.items()})
        self.count.fold(pending)
        return self

    def rest(self) -> Counted:
        """A day later."""
        self.count.states["u"] = rested(self.plan, self.count.states["u"], (AT + DAY) * SECOND) or b""
        return self

    def told(self, at: float | None) -> SourceExplanation:
        return explain(self.plan, self.count.states["u"], None if at is None else round((AT + at) * SECOND))

    def standing(self, at: float) -> FunnelStanding:
        return self.told(at).funnels[0]

    def why(self, at: float) -> str:
        return short(self.standing(at).why)


def iso(second: float) -> str:
    return (datetime.fromtimestamp(AT, timezone.utc) + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")


def short(text: str) -> str:
    """Times as seconds since the beginning: `@10`."""
    for second in range(-60, 600):
        text = text.replace(iso(second), f"@{second}")
    return text


def finally_(why: str) -> str:
    """Without what is added while a late event may still come."""
    return why.replace(LATE, "")


# In order


@pytest.mark.parametrize(
    ("events", "at", "state", "why"),
    [
        ("b@0", 1, "not_entered", 'Not entered: no event of the first stage, "a" ("a"), is on record.'),
        ("a@0", 1, "waiting", 'Reached "a" at @0. Waiting for "b" until @60 (60s after "a" at @0).'),
        ("a@0 b@10", 60, "waiting", 'Reached "b" at @10. Waiting for "c" until @60 (60s after "a" at @0).'),
        (
            "a@0 b@10", 61, "passed",
            'Reached "b" at @10, but not "c": the conversion window (60s after "a" at @0) passed at @60.',
        ),
        ("a@0 b@10", 200, "passed", 'Reached "b" at @10, but not "c": the conversion window (60s after "a" at @0) passed at @60.'),
        ("a@0 b@10 c@20", 30, "complete", 'Reached the last stage, "c", at @20: complete.'),
        ("a@0 b@10 c@20", 300, "complete", 'Reached the last stage, "c", at @20: complete.'),
        (
            "a@0 b@10 a@30", 50, "waiting",
            ('Reached "b" at @10. Waiting for "c" until @60 (60s after "a" at @0). '
            'Also reached "a" at @30. Waiting for "b" until @90 (60s after "a" at @30).'),
        ),
        (
            "a@0 b@10 a@30", 80, "passed",
            ('Reached "b" at @10, but not "c": the conversion window (60s after "a" at @0) passed at @60. '
            'Also reached "a" at @30. Waiting for "b" until @90 (60s after "a" at @30).'),
        ),
        (
            "a@0 b@10 c@20 a@100", 200, "complete",
            ('Reached the last stage, "c", at @20: complete. '
            'Also reached "a" at @100, but not "b": the conversion window (60s after "a" at @100) passed at @160.'),
        ),
        ("a@0 b@10 c@20 b@30", 40, "complete", 'Reached the last stage, "c", at @20: complete.'),
    ],
)  # fmt: skip
def test_in_order_it_says_what_is_waited_for_or_when_that_was_over(events: str, at: float, state: str, why: str) -> None:
    """Inclusive: at start + conversion window the next stage can still be reached."""
    counted = Counted(lateness="5m").feed(events)
    assert finally_(counted.why(at)) == why
    assert counted.standing(at).state == state


def test_what_may_still_arrive_late_is_said_until_the_allowed_lateness_is_over() -> None:
    """The window passed at 60; with 5 s of allowed lateness an event from before may still come."""
    counted = Counted().feed("a@0 b@10")
    assert counted.why(65) == f'Reached "b" at @10, but not "c": the conversion window (60s after "a" at @0) passed at @60{LATE}.'
    assert counted.why(66) == 'Reached "b" at @10, but not "c": the conversion window (60s after "a" at @0) passed at @60.'


def test_a_newer_event_of_the_entity_ends_the_wait_where_t_is_behind() -> None:
    """T stands still while a partition is behind; a chain has run out all the same."""
    counted = Counted(funnel(), funnel("xy", name="g")).feed("a@0 x@70")
    assert counted.standing(10).state == "passed"
    assert counted.told(None).funnels[0].state == "passed"
    assert counted.told(None).at is None


def test_every_stage_has_its_reach_its_values_and_its_entry() -> None:
    """Times, dimension values of the chain, and until when the newest entry can convert."""
    counted = Counted(funnel(dimensions={"channel": "properties.channel"}, stages=[{"name": n, "event": n, "title": n * 2} for n in "abc"]))
    counted.feed("a@0 b@10", channel="ads").feed("a@30", channel="mail")
    told = counted.told(61)
    assert (told.source, told.partition, told.newest, told.former) == ("web", None, datetime.fromtimestamp(AT + 30, timezone.utc), ())
    a, b, c = told.funnels[0].stages
    assert [at.values for at in (a, b, c)] == [{"channel": "mail"}, {"channel": "ads"}, {}]
    assert [at.title for at in (a, b, c)] == ["aa", "bb", "cc"]
    assert a.entry is not None
    assert (short(a.entry.model_dump_json())) == '{"opened":"@0","converted":true,"until":"@60","pending":false}'
    assert b.entry is not None
    assert (short(b.entry.model_dump_json())) == '{"opened":"@10","converted":false,"until":"@70","pending":true}'
    assert c.reached is c.start is c.entry is None
    assert counted.standing(71).stages[1].entry == b.entry.model_copy(update={"pending": False})
    assert short(told.funnels[0].model_dump_json(include={"waiting"})) == '{"waiting":[{"stage":"b","until":"@90"}]}'


def test_the_last_stages_entry_cannot_convert() -> None:
    entry = Counted().feed("a@0 b@1 c@2").standing(3).stages[2].entry
    assert entry is not None
    assert (entry.converted, entry.until, entry.pending) == (None, None, False)


def test_a_stage_of_several_events_under_conditions_is_named_by_them() -> None:
    stages = [{"name": "s", "event": ["a", "b"], "where": {"properties.plan": "pro"}}, {"name": "t", "event": "c"}]
    counted = Counted(funnel(stages=stages), funnel("ax", name="g")).feed("a@0", plan="free")
    assert counted.why(1) == 'Not entered: no event of the first stage, "s" ("a" or "b" under its conditions), is on record.'


# Chains that an event ended

EXCLUDED = funnel(exclude=[{"event": ["x", "y"], "from": "b", "to": "c"}])


@pytest.mark.parametrize(
    ("events", "at", "state", "why"),
    [
        (
            "a@0 b@10 x@20", 30, "ended",
            ('Reached "b" at @10, but not "c": the excluded event "x" or "y" ended the chain at @20. '
            'Also reached "a" at @0. Waiting for "b" until @60 (60s after "a" at @0).'),
        ),
        ("a@0 b@10 x@20", 61, "ended", 'Reached "b" at @10, but not "c": the excluded event "x" or "y" ended the chain at @20.'),
        ("a@0 b@10 x@20 b@30", 40, "waiting", 'Reached "b" at @30. Waiting for "c" until @60 (60s after "a" at @0).'),
        (
            "a@0 b@10 x@100", 101, "passed",
            'Reached "b" at @10, but not "c": the conversion window (60s after "a" at @0) passed at @60.',
        ),
        ("a@0 b@10 c@20 x@30", 40, "complete", 'Reached the last stage, "c", at @20: complete.'),
        ("a@0 x@5", 6, "waiting", 'Reached "a" at @0. Waiting for "b" until @60 (60s after "a" at @0).'),
    ],
)  # fmt: skip
def test_an_exclusion_is_named_with_its_time_unless_the_window_had_passed_before(events: str, at: float, state: str, why: str) -> None:
    counted = Counted(EXCLUDED, lateness="5m").feed(events)
    assert finally_(counted.why(at)) == why
    assert counted.standing(at).state == state


STRICT = funnel(order="strict")


@pytest.mark.parametrize(
    ("events", "at", "state", "why"),
    [
        (
            "a@0 b@10 x@20", 30, "ended",
            'Reached "b" at @10, but not "c": another event than "c", which the strict order does not allow, came at @20.',
        ),
        ("a@0 b@10", 30, "waiting", 'Reached "b" at @10. Waiting for "c" until @60 (60s after "a" at @0).'),
        (
            "a@0 b@10 c@61", 200, "passed",
            'Reached "b" at @10, but not "c": the conversion window (60s after "a" at @0) passed at @60.',
        ),
        ("a@0 b@10 c@20", 30, "complete", 'Reached the last stage, "c", at @20: complete.'),
        (
            "a@0 b@10 c@20 a@30 x@40", 50, "complete",
            ('Reached the last stage, "c", at @20: complete. '
            'Also reached "a" at @30, but not "b": another event than "b", which the strict order does not allow, came at @40.'),
        ),
        (
            "a@0 b@10 x@20 a@30", 40, "ended",
            ('Reached "b" at @10, but not "c": another event than "c", which the strict order does not allow, came at @20. '
            'Also reached "a" at @30. Waiting for "b" until @90 (60s after "a" at @30).'),
        ),
    ],
)  # fmt: skip
def test_strictness_is_named_with_its_time(events: str, at: float, state: str, why: str) -> None:
    counted = Counted(STRICT, lateness="5m").feed(events)
    assert finally_(counted.why(at)) == why
    assert counted.standing(at).state == state


# Any order

ANY = funnel(order="any")


@pytest.mark.parametrize(
    ("events", "at", "state", "why"),
    [
        ("c@0", 1, "not_entered", 'Not entered: no event of the first stage, "a" ("a"), is on record.'),
        (
            "c@0 a@10", 20, "waiting",
            'Reached "a" at @10. Waiting for "b" (none on record) until @70 (60s after "a" at @10).',
        ),
        ("c@0 a@10 b@20", 30, "complete", 'Reached the last stage, "c", at @20: complete.'),
        (
            "a@0 b@30", 70, "waiting",
            'Reached "b" at @30. Waiting for "a" (at @0, too old since @60) and "c" (none on record) until @90 (60s after "b" at @30).',
        ),
        (
            "a@0 b@30", 91, "passed",
            ('Reached "b" at @30, but not "c": "a" (at @0, too old since @60), "b" (at @30, too old since @90) and "c" (none on record) '
            "must come within 60s of each other."),
        ),
        (
            "a@0 b@10 c@20 a@200", 210, "complete",
            ('Reached the last stage, "c", at @20: complete. Also reached "a" at @200. '
            'Waiting for "b" (at @10, too old since @70) until @260 (60s after "a" at @200).'),
        ),
        ("a@0 b@10 c@20 a@200", 300, "complete", 'Reached the last stage, "c", at @20: complete.'),
    ],
)  # fmt: skip
def test_in_any_order_it_says_which_events_are_missing_or_too_old(events: str, at: float, state: str, why: str) -> None:
    counted = Counted(ANY, lateness="5m").feed(events)
    assert counted.why(at) == why
    assert counted.standing(at).state == state


# Without the tail

ELSE = funnel("mn", name="else")


def test_what_left_the_tail_is_known_by_its_bucket() -> None:
    """A bucket is 10 s wide; the first stage's start and an opening narrow it down."""
    counted = Counted(funnel(), ELSE).feed("a@3 b@5 b@8").feed("m@50")
    assert counted.why(50) == 'Reached "b" between @5 and @10. Waiting for "c" until @63 (60s after "a" at @3).'
    reached = counted.standing(50).stages[1].reached
    assert reached is not None
    assert (reached.at, short(reached.model_dump_json())) == (None, '{"at":null,"since":"@5","before":"@10"}')
    assert counted.standing(50).stages[0].reached.at == datetime.fromtimestamp(AT + 3, timezone.utc)  # type: ignore[union-attr]


def test_an_end_that_left_the_tail_is_known_by_its_latest_time() -> None:
    """Window and event cannot be told apart any more; that it was over by then is certain."""
    counted = Counted(EXCLUDED, ELSE).feed("a@0 b@10 x@20").feed("m@50")
    assert counted.standing(50).state == "over"
    assert counted.why(70).startswith(
        'Reached "b" between @10 and @20, but not "c": at @20 at the latest, the conversion window (60s) had passed or '
        'the excluded event "x" or "y" had ended the chain.'
    )
    strict = Counted(STRICT, ELSE).feed("a@0 b@10 x@20").feed("m@50")
    assert strict.why(70) == (
        'Reached "b" between @10 and @20, but not "c": at @50 at the latest, the conversion window (60s) had passed or '
        'another event than "c", which the strict order does not allow, had come.'
    ).replace("@50", "@20")


@pytest.mark.parametrize("setup", [funnel(), EXCLUDED], ids=["plain", "excluded"])
def test_a_state_at_rest_has_let_the_chain_go_and_its_window_passed_by_a_latest_time(setup: dict[str, Any]) -> None:
    counted = Counted(setup | {"windows": ["7d"]}).feed("a@0 b@12").rest()
    standing = counted.standing(DAY)
    assert standing.state == "passed"
    assert short(standing.why) == ('Reached "b" between @10 and @20, but not "c": the conversion window (60s) passed at @80 at the latest.')
    assert standing.stages[0].entry is None


def test_a_chain_that_outlives_its_mark_is_still_waiting() -> None:
    """A conversion window of a week over windows of minutes: no window needs the mark, the chain does."""
    counted = Counted(funnel(conversion_window="7d")).feed("a@0 b@7 b@8").rest()
    standing = counted.standing(DAY)
    assert standing.state == "waiting"
    assert short(standing.why).startswith('Reached "b" between @7 and @10. Waiting for "c" until ')


def test_in_any_order_what_rests_is_too_old_without_its_time() -> None:
    counted = Counted(ANY | {"windows": ["7d"]}).feed("a@0 b@12").rest()
    assert counted.why(DAY) == (
        'Reached "b" between @10 and @20, but not "c": "a" (between @0 and @10, too old), "b" (between @10 and @20, too old) '
        'and "c" (none on record) must come within 60s of each other.'
    )


# Other definitions


def test_what_is_counted_under_a_former_definition_says_so() -> None:
    """The funnel as it is now begins anew; what the old one counted is shown beside it, without names."""
    before = Counted(funnel(), ELSE).feed("a@0 b@10 m@10")
    after = Counted(funnel(conversion_window="90s"), ELSE)
    after.count.states = before.count.states
    told = after.told(20)
    assert told.funnels[0].state == "not_entered"
    assert short(told.funnels[1].why) == 'Reached "m" at @10. Waiting for "n" until @70 (60s after "m" at @10).'
    (former,) = told.former
    assert former.definition == before.plan.funnels[0].definition
    assert (former.stages, former.deepest) == (3, 2)
    assert short(former.why) == "Counted under a former definition: stage 2 of 3 was reached at @10."


def test_a_former_definition_that_nothing_reached_says_that() -> None:
    before = Counted(funnel(), ELSE).feed("b@10")
    after = Counted(funnel(conversion_window="90s"), ELSE)
    after.count.states = before.count.states
    assert after.told(20).former[0].why == "Counted under a former definition: none of 3 stages is on record as reached."


def test_an_unknown_entity_is_told_how_to_write_it() -> None:
    assert unknown("ann", ["web", "app"]).startswith("no event of entity 'ann' is on record in source web or app: write the whole user_id")


# Nothing is said that is not so

ORDERS: list[dict[str, Any]] = [
    {},
    {"order": "any"},
    {"order": "strict"},
    {"exclude": [{"event": "x", "from": "a", "to": "c"}]},
    {"exclude": [{"event": "x", "from": "b", "to": "c"}, {"event": "b", "from": "a", "to": "b"}]},
]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("changes", ORDERS, ids=["ordered", "any", "strict", "excluded", "twice excluded"])
def test_a_wait_is_over_one_microsecond_after_its_end_and_reaches_lie_where_they_are_said_to(seed: int, changes: dict[str, Any]) -> None:
    """Feed what is waited for at the last moment: it is reached. Later: it is not. Nor without a wait."""
    chance = random.Random(seed)
    funnels = (funnel("abcd", **changes), funnel("mn", name="else"))
    history, second = ["m@0"], 0.0
    for _ in range(chance.randrange(1, 12)):
        second += chance.choice((0.0, 0.5, 3.0, 20.0, 40.0, 200.0))
        history.append(f"{chance.choice('aabbccdxm')}@{second}")
    counted = Counted(*funnels, lateness=chance.choice(["0s", "5s", "60s", "1h"]))
    arriving = chance.sample(history, len(history)) if counted.plan.lateness_us > 600 * SECOND else history
    for word in arriving:
        counted.feed(word)
    trace = last_reaches(funnels, " ".join(history))
    standing = counted.standing(second)
    for stage, name in zip(standing.stages, "abcd"):
        said = None if stage.reached is None else (stage.reached.since, stage.reached.at or stage.reached.before)
        real = trace.get(name)
        assert (said is None) == (real is None), (history, name)
        assert said is None or said[0] <= real <= said[1], (history, name)  # type: ignore[operator]
    if standing.deepest is None:
        return
    waits = {wait.stage: wait.until for wait in standing.waiting}
    for name in "abcd":
        until = waits.get(name, datetime.fromtimestamp(AT + second, timezone.utc))
        offset = (until - datetime.fromtimestamp(AT, timezone.utc)).total_seconds()
        lacking = name
        if changes.get("order") == "any":
            place = "abcd".index(name)
            lacking = "".join(n for s, n in zip(standing.stages[: place + 1], "abcd") if s.until is None or s.until < told_now(second))
        if name in waits:
            assert reaches(funnels, history, lacking, offset, name), (history, name, standing.why)
            assert not reaches(funnels, history, lacking, offset + 0.000_001, name), (history, name, standing.why)
        elif name == "d" and standing.deepest == "c" and changes.get("order") != "any":
            assert not reaches(funnels, history, "d", max(second, offset) + 0.000_001, "d"), (history, standing.why)


def told_now(second: float) -> datetime:
    return datetime.fromtimestamp(AT, timezone.utc) + timedelta(seconds=second)


def last_reaches(funnels: tuple[dict[str, Any], ...], text: str) -> dict[str, datetime]:
    """The latest reach of every stage of the first funnel."""
    counted = Counted(*funnels, lateness="1h")
    found: dict[str, datetime] = {}
    words = text.split()
    records = [
        json.dumps({"event": w.partition("@")[0], "timestamp": AT + float(w.partition("@")[2]), "user_id": "u"}).encode() for w in words
    ]
    trace: dict[str, Any] = {}
    counted.count.fold(counted.count.decode(0, len(records), records, [None] * len(records), 10**18), trace)
    for stage, at in trace.get("u", {}).get(0, ()):
        found["abcd"[stage & 0xFF]] = datetime.fromtimestamp(0, timezone.utc) + timedelta(microseconds=at)
    return found


def reaches(funnels: tuple[dict[str, Any], ...], history: list[str], lacking: str, offset: float, name: str) -> bool:
    """Whether the lacking events at a time bring the entity to a stage then."""
    more = " ".join(f"{event}@{offset:.6f}" for event in lacking)
    return last_reaches(funnels, f"{' '.join(history)} {more}").get(name) == told_now(round(offset, 6))
