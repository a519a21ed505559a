"""The audit finds nothing where the engine counts right, whatever is sent, and finds it where the engine does not."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from structlog.testing import capture_logs

import streams.audit
import streams.counting
import streams.journeys
import streams.plan
import streams.tail
from schemas.config import Config
from schemas.event import Reject
from streams.agents import CountingAgent
from streams.audit import CHECK_SECONDS, EVENTS_MAX, Audit, Checked
from streams.chains import OPENED
from streams.counting import Counted, ShardCount
from streams.metrics import WorkerMetrics, exposition
from streams.plan import Plan
from streams.values import Registry
from streams.windows import RETRACTED, RETRACTED_AGES
from tests.property.scenario import config_of, scenario

AT = 1_690_000_000 // 3600 * 3600  # seconds
SECOND = 1_000_000
LATER_US = 10**18
Record = tuple["bytes | None", "bytes | None"]
Books = dict[Any, int]


def config(lateness: str = "60s", max_values: int = 100, windows: tuple[str, ...] = ("5m", "24h"), **source: Any) -> Config:
    """A funnel view, cart, pay of a minute, split by channel."""
    stages: list[dict[str, Any]] = [{"name": name, "event": name} for name in ("view", "cart", "pay")]
    stages[2]["value"] = "properties.amount"
    dimensions = {"channel": {"field": "properties.channel", "max_values": max_values}}
    funnel = {"name": "shop", "source": "web", "conversion_window": "60s", "windows": windows, "dimensions": dimensions, "stages": stages}
    return Config.model_validate({"sources": [{"name": "web", "topic": "t", "allowed_lateness": lateness} | source], "funnels": [funnel]})


def record(name: str, at: float, entity: str = "ann", event_id: str = "", **properties: Any) -> Record:
    told = {"event": name, "timestamp": AT + at, "user_id": entity, "event_id": event_id, "properties": properties}
    return entity.encode(), json.dumps(told).encode()


def walk_of(entity: str, at: float = 0.0) -> list[Record]:
    """Somebody goes all the way."""
    return [record(name, at + step, entity, channel="ads", amount=5) for step, name in enumerate(("view", "cart", "pay"))]


class Shard:
    """One shard that is audited, over a store that is a dict, by a clock that passes the time between two comparisons a chunk."""

    def __init__(self, setup: Config, share: float = 1.0, *, now_us: int = LATER_US) -> None:
        self.plan = Plan(setup, setup.sources[0])
        self.audit = Audit(self.plan, share)
        self.count = ShardCount(self.plan, audit=self.audit if share else None)
        self.now_us = now_us
        self.pace_us = CHECK_SECONDS * SECOND
        self.stored: dict[str, bytes] = {}
        self.admitted: dict[Registry, set[str]] = {}
        self.books: Books = Counter()
        self.fates: Counter[str] = Counter()
        self.found: list[Checked] = []

    def feed(self, *records: Record) -> Counted:
        """Count one chunk."""
        self.now_us += self.pace_us
        pending = self.count.decode(0, len(records), [value for _, value in records], [key for key, _ in records], self.now_us)
        while pending.unknown:
            self.count.learn(pending, {registry: self._admit(registry, texts) for registry, texts in pending.unknown.items()})
        self.count.hold(pending.missing, [self.stored.get(entity) for entity in pending.missing])
        counted = self.count.fold(pending)
        self.stored.update(counted.write.states)
        deltas = counted.write.deltas
        for fate, count in deltas.fates.items():
            self.fates[fate.partition(":")[0]] += count
        for place, cells in [*deltas.buckets.items(), *deltas.totals.items()]:
            for name, count in cells.items():
                assert count
                if name[0] not in (RETRACTED, RETRACTED_AGES):
                    self.books[place, name] = self.books.get((place, name), 0) + count
        if counted.checked is not None:
            self.found.append(counted.checked)
        return counted

    def _admit(self, registry: Registry, texts: set[str]) -> dict[str, bool]:
        known = self.admitted.setdefault(registry, set())
        known.update(sorted(texts - known)[: registry.max_values - len(known)])
        return {text: text in known for text in texts}

    def rest(self) -> list[str]:
        """Let what is stored rest or go; who went."""
        resting, forgotten = self.count.rest(list(self.stored.items()))
        self.stored |= resting
        for entity in forgotten:
            del self.stored[entity]
        return forgotten

    @property
    def difference(self) -> int:
        return sum(checked.more for checked in self.found)

    @property
    def events(self) -> int:
        return sum(checked.events for checked in self.found)

    @property
    def words(self) -> list[str]:
        return [words for checked in self.found for words in checked.differing]


def without_zeros(books: Books) -> Books:
    return {cell: count for cell, count in books.items() if count}


def fed(setup: Config, chunks: Iterable[list[Record]], share: float = 1.0, *, chunks_between: int = 1) -> Shard:
    """A shard after these chunks; compared every so many of them."""
    shard = Shard(setup, share)
    shard.pace_us //= chunks_between
    for chunk in chunks:
        shard.feed(*chunk)
    return shard


# It finds nothing where there is nothing


def stream(seed: int, **more: Any) -> tuple[Config, list[list[Record]]]:
    """Any funnels and what may be sent to them: late events, duplicates, bad records, all values of dimensions."""
    chance = random.Random(seed)
    sent = scenario(chance, late=seed % 2 == 0, **more)
    setup = config_of(sent.funnels, sent.lateness, max_values=chance.choice((1, 3, 100)))
    chunks = [chunk for partition in sent.partitions for chunk in partition]
    return setup, [[(None if event is None else event.entity.encode(), raw) for raw, event in chunk] for chunk in chunks]


@pytest.mark.parametrize("block", range(4))
def test_nothing_differs_whatever_is_sent(block: int) -> None:
    fates: Counter[str] = Counter()
    for seed in range(25 * block, 25 * (block + 1)):
        setup, chunks = stream(seed, events=80, entities=4)
        shard = fed(setup, [*chunks, *[[]] * 10], chunks_between=10)
        assert shard.words == [], f"seed {seed}"
        assert shard.difference == 0
        fates += shard.fates
        fates["compared"] += shard.events
    assert fates["compared"] > 0.6 * (fates.total() - fates["compared"]), "nearly everything was audited"
    assert min(fates[fate] for fate in ("applied", "filtered", "late", "duplicate", "rejected")) > 30, fates


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_what_is_written_is_the_same_with_the_audit(seed: int, share: float) -> None:
    setup, chunks = stream(seed, events=300, entities=10)
    plain, audited = (fed(setup, [*chunks, *[[]] * 30], share=each, chunks_between=30) for each in (0, share))
    assert without_zeros(audited.books) == without_zeros(plain.books)
    assert +audited.fates == +plain.fates
    assert audited.stored == plain.stored
    assert audited.difference == plain.events == 0
    assert audited.events


def test_a_share_of_the_entities_is_audited_and_all_of_what_they_do() -> None:
    shard = fed(config(), ([record("view", at, f"u{n}") for n in range(500)] for at in range(3)), share=0.2)
    assert shard.events % 3 == 0
    assert 60 <= shard.events // 3 <= 140
    assert shard.difference == 0


def test_values_that_were_refused_are_recounted_as_such() -> None:
    shard = Shard(config(max_values=1))
    shard.feed(*(record("view", at, f"u{at}", channel=channel) for at, channel in enumerate(("ads", "mail", "ads", None))))
    shard.feed(record("view", 9, "u9", channel="mail"))
    shard.feed(record("view", 10, "u9", channel="__other__"))
    assert (shard.events, shard.words) == (6, [])
    assert any("__other__" in name for _, name in shard.books)


def test_it_is_compared_now_and_then_and_only_what_came_meanwhile_is_new() -> None:
    shard = Shard(config())
    shard.pace_us = CHECK_SECONDS * SECOND // 2
    checked = [shard.feed(*chunk).checked for chunk in ([record("view", 0)], [record("view", 1)], [record("view", 2)], [record("view", 3)])]
    assert [found and found.events for found in checked] == [None, None, 3, None]
    assert [found and found.events for found in (shard.feed().checked, shard.feed().checked)] == [1, None]


# It finds what is wrong


def losing_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = streams.journeys.walk
    monkeypatch.setattr(streams.journeys, "walk", lambda blocks, places, *more: walk(blocks, list(places)[1:], *more))


def forgetting_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = streams.journeys.walk

    def broken(blocks: Any, *more: Any) -> None:
        walk(blocks, *more)
        for cells in blocks.values():
            cells[OPENED] = None  # the first stage's entry: nothing converts it

    monkeypatch.setattr(streams.journeys, "walk", broken)


def changing(change: Callable[[Any], None]) -> Callable[[pytest.MonkeyPatch], None]:
    """A tally that does something to its deltas."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        tally = streams.counting.tally

        def broken(*given: Any) -> Any:
            deltas = yield from tally(*given)
            change(deltas)
            return deltas

        monkeypatch.setattr(streams.counting, "tally", broken)

    return patch


def a_total(deltas: Any) -> None:
    for cells in deltas.totals.values():
        cells.pop("n1", None)


def a_bucket(deltas: Any) -> None:
    deltas.buckets = {(definition, width, bucket + (width == 60)): cells for (definition, width, bucket), cells in deltas.buckets.items()}


def ages(deltas: Any) -> None:
    for cells in [*deltas.totals.values(), *deltas.buckets.values()]:
        for name in [name for name in cells if name[0] == "h"]:
            del cells[name]


def a_value(deltas: Any) -> None:
    for cells in deltas.buckets.values():
        if "v2" in cells:
            cells["v2"] += 10_000


def a_fate(deltas: Any) -> None:
    if deltas.fates.get("applied"):
        deltas.fates["applied"] -= 1


def rejecting_amounts(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(raw: Any) -> int:
        raise Reject("bad_value")

    monkeypatch.setattr(streams.plan, "millionths", broken)


FAULTS = {
    "an event is lost": (losing_an_event, "shop n0 ever: counted 0, recounted 3"),
    "ages are lost": (changing(ages), "shop h1:35 ever: counted 0, recounted 3"),
    "an entry is forgotten": (forgetting_entries, "shop c0 ever: counted 0, recounted 3"),
    "a total is lost": (changing(a_total), "shop n1 ever: counted 0, recounted 3"),
    "a bucket is another": (changing(a_bucket), "in the 60 s from 2023"),
    "a value is too great": (changing(a_value), "shop v2 in the 10 s"),
    "a fate is lost": (changing(a_fate), "applied: counted 4, recounted 6"),
    "good amounts are rejected": (rejecting_amounts, "rejected: counted 3, recounted 0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_engine_is_found_and_named(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [list(step) for step in zip(walk_of("ann"), walk_of("bob", 10), walk_of("eve", 20))]
    assert fed(config(), chunks).difference == 0
    break_it, said = FAULTS[fault]
    break_it(monkeypatch)
    shard = fed(config(), chunks)
    assert shard.difference > 0
    assert said in "; ".join(shard.words)


def test_a_fault_off_the_fast_path_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where late events find their place."""
    chunks = [[record("view", 0), record("pay", 20)], [record("cart", 10)], []]
    assert fed(config(), chunks).difference == 0
    monkeypatch.setattr(streams.tail.Entity, "_take_back", lambda *_: None)
    replay = streams.tail.replay
    monkeypatch.setattr(streams.tail, "replay", lambda *given: replay(*given) if given[-1] > 0 else {})
    assert fed(config(), chunks).difference > 0


def test_a_difference_is_told_once_and_measured_anew_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    changing(a_total)(monkeypatch)
    shard = Shard(config())
    for n in range(4):
        shard.feed(*walk_of(f"u{n}"))
    assert [checked.more for checked in shard.found] == [2, 1, 1]
    assert [len(checked.differing) for checked in shard.found] == [1, 0, 0]


def test_a_recount_that_fails_is_a_difference_and_counting_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr(streams.audit, "recount", broken)
    shard = fed(config(), [walk_of("ann"), walk_of("bob"), walk_of("ann", 10)])
    assert shard.difference == 1
    assert shard.words == ["the recount failed: RecursionError()"]
    assert shard.fates["applied"] == 9


# Who is audited, and how long


def test_who_was_known_before_is_not_audited() -> None:
    """A claim begins with nobody: what the ledger has of people is not all that they did."""
    before = fed(config(), [walk_of("ann")])
    shard = Shard(config())
    shard.stored = dict(before.stored)
    shard.feed(*walk_of("ann", 10), *walk_of("bob", 10))
    shard.feed(*walk_of("ann", 20))
    assert (shard.events, shard.difference) == (3, 0)


def test_states_that_are_read_back_are_audited_on() -> None:
    shard = fed(config(), [walk_of("ann")])
    shard.count.states.clear()
    shard.feed(*walk_of("ann", 10))
    shard.feed()
    assert (shard.events, shard.difference) == (6, 0)


def test_whose_state_is_lost_is_audited_no_longer() -> None:
    shard = fed(config(), [walk_of("ann"), []])
    shard.count.states.clear()
    shard.stored.clear()
    shard.feed(*walk_of("ann", 10))
    shard.feed()
    assert (shard.events, shard.difference) == (3, 0)


def test_the_audit_of_an_entity_ends_when_it_is_put_to_rest() -> None:
    """An event that comes later than that may find no place in its tail, and is late; the recount would take it."""
    shard = fed(config(lateness="2h"), [walk_of("ann", 600), [record("view", 5 * 3600, "bob")]])
    assert shard.rest() == []
    shard.feed(record("view", 0))
    shard.feed()
    assert shard.fates["late"] == 1
    assert (shard.events, shard.difference) == (4, 0)


def test_who_was_forgotten_and_comes_again_is_audited_in_the_next_round_only() -> None:
    """The engine counts a user of long ago as a new one; of one history, the recount would not."""
    shard = fed(config(), [walk_of("ann"), [record("view", 10 * 86_400, "bob")]])
    assert shard.rest() == ["ann"]
    shard.feed(*walk_of("ann", 10 * 86_400))
    shard.feed()
    assert (shard.events, shard.difference) == (4, 0)


def test_buckets_behind_their_retention_are_not_compared() -> None:
    shard = Shard(config(windows=("5m",)))
    for day in range(60):
        shard.feed(*walk_of(f"u{day}", day * 86_400), record("view", day * 86_400 - 7200, f"late{day}"))
    assert shard.difference == 0
    assert len(shard.audit._counted.buckets) < 70, "entries are kept for a month, by the hour"


def test_somebody_too_busy_for_the_tail_is_audited_until_then() -> None:
    chunks = [[record("view", n + m / 100, event_id=f"{n}.{m}") for m in range(100)] for n in (0, 10, 20)]
    shard = fed(config(), [*chunks, [record("view", 0.001), record("view", 0.5, event_id="0.50")]])
    assert shard.fates["late"] == 2, "their place is gone"
    assert (shard.events, shard.difference) == (EVENTS_MAX // 100 * 100, 0)


def test_of_events_that_only_their_bytes_tell_apart_none_is_audited() -> None:
    """A producer that sends an event again, changed: which one counts, the engine decides otherwise than the recount."""
    first, again = record("view", 0, event_id="1", channel="mail"), record("view", 0, event_id="1", channel="ads")
    shard = fed(config(), [[first, first], [again], []])
    assert shard.fates["duplicate"] == 2
    assert (shard.events, shard.difference) == (2, 0)


@pytest.mark.parametrize(("limit", "most"), [("RECORDS_MAX", 40), ("BYTES_MAX", 5000)])
def test_memory_is_bounded_and_a_full_audit_begins_anew_with_others(limit: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams.audit, limit, most)
    shard = Shard(config(), share=0.5)
    shard.pace_us = 0
    audited: list[set[str]] = []
    for n in range(0, 3000, 30):
        shard.feed(*(record("view", n, f"u{m}") for m in range(n, n + 30)), *(record("cart", n, f"u{m}") for m in range(n - 30, n)))
        kept = {"RECORDS_MAX": len(shard.audit._records), "BYTES_MAX": sum(len(raw or b"") for _, raw in shard.audit._records)}
        assert kept[limit] <= most
        audited.append(set(shard.audit._live))
    assert shard.difference == 0
    assert len(shard.found) > 10, "round after round"
    assert shard.events > 150
    assert not audited[0] & audited[-1]


def test_of_a_chunk_with_more_than_there_is_room_for_some_join_and_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there is no more room, and not only for what they do first."""
    monkeypatch.setattr(streams.audit, "RECORDS_MAX", 100)
    shard = Shard(config())
    shard.pace_us = 0
    for turn in range(5):
        assert not shard.found
        shard.feed(*(event for n in range(200) for event in walk_of(f"u{n}", 10 * turn)))
        assert len(shard.audit._live) == (8 if turn < 4 else 0), "a quarter of the room is for who joins"
    assert [(checked.events, checked.more) for checked in shard.found] == [(99, 0)]


def test_a_round_is_over_when_nothing_can_convert_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion window and the allowed lateness after the last ones joined, others do."""
    monkeypatch.setattr(streams.audit, "RECORDS_MAX", 40)
    shard = Shard(config())
    shard.pace_us = 0
    shard.feed(*(record("view", 0, f"u{n}") for n in range(20)))
    shard.feed(record("view", 100, "zoe"), record("cart", 40, "u0"))
    shard.feed(record("view", 121, "pat"))
    assert [(checked.events, checked.more) for checked in shard.found] == [(11, 0)]
    shard.feed(record("view", 122, "ann"), record("view", 122, "zoe"))
    assert set(shard.audit._live) == {"ann"}


# Records that are no events


def test_what_is_ahead_of_the_clock_is_recounted_by_the_clock_that_it_met() -> None:
    """The same record comes again when its time has come: it counts then."""
    shard = Shard(config(), now_us=AT * SECOND)
    shard.feed(record("view", 0), record("view", 400))
    assert shard.fates["rejected"] == 1
    shard.now_us += 600 * SECOND
    shard.feed(record("view", 400))
    shard.feed()
    assert (shard.fates["rejected"], shard.fates["applied"]) == (1, 2)
    assert (shard.events, shard.difference) == (3, 0)


def test_what_cannot_be_read_or_is_too_large_is_recounted_and_not_kept() -> None:
    large = record("view", 1, note="x" * 2000)
    bad: list[Record] = [(b"ann", b"{"), (b"ann", None), record("pay", 1, amount="much"), large, (b"ann", record("view", 1, "bob")[1])]
    shard = fed(config(record_bytes_max=1000), [[record("view", 0)], [*bad, (b"zoe", b"{"), (None, b"{")], []])
    assert shard.fates["rejected"] == 7
    assert (shard.events, shard.difference) == (1 + len(bad), 0), "of the others nobody knows whose they are"
    assert len(shard.audit._records) == 1


def test_a_record_that_is_rejected_wrongly_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = Shard(config())
    shard.feed(record("view", 0))
    monkeypatch.setattr(shard.plan.decoder, "_bytes_max", 10)
    shard.feed(record("cart", 1))
    assert shard.words == ["rejected: counted 1, recounted 0"]


# How it is told


def test_the_worker_tells_by_its_metrics_and_its_log_what_was_found() -> None:
    metrics, source = WorkerMetrics("1"), config().sources[0]
    agent: Any = CountingAgent(None, Plan(config(), source), None, None, metrics, source, states_max=1)
    with capture_logs() as logged:
        agent._report("web:3", Checked(100, 0, ()))
        agent._report("web:3", Checked(50, 7, ("shop n1 ever: counted 0, recounted 7",)))
        agent._report("web:4", Checked(5, 2, ()))
    told = exposition(metrics, None).decode()
    assert 'funnel_audit_difference{source="web"} 9.0' in told
    assert 'funnel_audit_events_total{source="web"} 155.0' in told
    assert [(line["log_level"], line["shard"], line["difference"], line["first"]) for line in logged] == [
        ("error", "web:3", 7, "shop n1 ever: counted 0, recounted 7")
    ]
