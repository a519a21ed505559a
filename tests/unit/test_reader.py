"""A reader that follows a ledger: what it reports is what was written, however it came to know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from schemas.config import Config
from schemas.duration import Duration
from schemas.errors import StoreUnavailable
from schemas.event import moment_of
from schemas.report import FunnelReport
from streams.counting import ShardCount
from streams.ledger.contract import Changes, Claim, Kept, Snapshot, Write
from streams.ledger.memory import MemoryLedger
from streams.plan import Plan
from streams.reader import Reader
from streams.tally import Deltas
from streams.windows import EVENTS, USERS, FunnelCounts

AT = 1_690_000_000  # seconds; 2023-07-22T04:26:40Z, a boundary of 10 s
MINUTE = Duration("1m")


def funnel(name: str = "f", **changes: Any) -> dict[str, Any]:
    stages = [{"name": "view", "event": "a"}, {"name": "pay", "event": "b", "title": "Paid", "target": 0.5}]
    return {"name": name, "source": "web", "conversion_window": "60s", "windows": ["1m", "5m"], "stages": stages} | changes


CONFIG = Config.model_validate(
    {
        "sources": [{"name": "web", "topic": "clicks", "trust_key": True}, {"name": "app", "topic": "taps"}],
        "funnels": [funnel(dimensions={"channel": "properties.channel"}), funnel("tapped", source="app")],
    }
)


def event(name: str, second: float, entity: str = "u", channel: str = "ads") -> bytes:
    return json.dumps({"event": name, "timestamp": AT + second, "user_id": entity, "properties": {"channel": channel}}).encode()


class CountedLedger(MemoryLedger):
    """Remembers which shards were read whole; does not answer while it is down."""

    def __init__(self, **settings: int) -> None:
        super().__init__(**settings)
        self.read_whole: list[str] = []
        self.down = False

    async def snapshot(self, shard: str, kept: Kept) -> Snapshot | None:
        self.read_whole.append(shard)
        return await super().snapshot(shard, kept)

    async def changes(self, shard: str, generation: str, since: int) -> Changes | None:
        if self.down:
            raise StoreUnavailable("down")
        return await super().changes(shard, generation, since)


class Writer:
    """Counts one shard of source web and writes it."""

    def __init__(self, ledger: MemoryLedger, shard: str = "web:0") -> None:
        self.ledger = ledger
        self.shard = shard
        self.claim: Claim | None = None
        self.next = 0

    async def write(self, *records: bytes) -> None:
        if self.claim is None:
            self.claim = await self.ledger.claim(self.shard, 2, 0)
            self.next = self.claim.next
            self.count = ShardCount(Plan(CONFIG, CONFIG.source("web")), self.claim.watermark_us)
        pending = self.count.decode(self.next, self.next + len(records), records, [None] * len(records), 10**18)
        self.count.learn(pending, {registry: dict.fromkeys(texts, True) for registry, texts in pending.unknown.items()})
        self.count.hold(pending.missing, await self.ledger.states(self.shard, pending.missing))
        await self.ledger.apply(self.claim, self.count.fold(pending).write)
        self.next += len(records)

    async def begin_anew(self) -> None:
        await self.ledger.reset(self.shard)
        self.claim = None


class Clock:
    """Far ahead of every event, until it is set."""

    def __init__(self) -> None:
        self.us = 10**18

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def ledger() -> CountedLedger:
    return CountedLedger()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(ledger: MemoryLedger, clock: Clock) -> Reader:
    return Reader(CONFIG, ledger, clock)


@pytest.fixture
def writer(ledger: MemoryLedger) -> Writer:
    return Writer(ledger)


async def read(reader: Reader, window: Duration = MINUTE, by: str | None = None) -> FunnelReport:
    await reader.tick()
    return reader.report("f", window, by)


def users(report: FunnelReport) -> list[int]:
    return [stage.users for stage in report.stages]


def second(report: FunnelReport) -> float | None:
    return None if report.at is None else report.at.timestamp() - AT


async def test_a_report_before_the_first_event_is_about_no_time(reader: Reader) -> None:
    report = await read(reader)
    assert (report.at, users(report), report.overall.rate, report.lag) == (None, [0, 0], None, None)
    assert not report.stale
    assert not report.incomplete
    assert reader.summary(reader.config.funnel("f")).overall is None


async def test_what_is_written_after_the_first_read_is_followed_not_read_again(
    reader: Reader, writer: Writer, ledger: CountedLedger
) -> None:
    await writer.write(event("a", 0), event("a", 0, "v"))
    assert users(await read(reader)) == [2, 0]
    ledger.read_whole.clear()
    for place in range(5):
        await writer.write(event("b", place + 1), event("a", place + 1, f"w{place}"))
        assert users(await read(reader)) == [3 + place, 1]
    assert ledger.read_whole == []
    assert reader.counts()["f"].total(EVENTS, 1) == 5


async def test_shards_add_up_and_a_new_one_is_found(reader: Reader, writer: Writer, ledger: MemoryLedger) -> None:
    await writer.write(event("a", 0))
    assert users(await read(reader)) == [1, 0]
    other = Writer(ledger, "web:1")
    await other.write(event("a", 1, "v"), event("b", 2, "v"))
    assert users(await read(reader)) == [2, 1]
    await other.write(event("b", 3, "v"))
    assert users(await read(reader)) == [2, 1]


async def test_a_reader_too_far_behind_reads_all_again(clock: Clock) -> None:
    ledger = CountedLedger(journal_length=3)
    reader, writer = Reader(CONFIG, ledger, clock), Writer(ledger)
    await writer.write(event("a", 0))
    await reader.tick()
    ledger.read_whole.clear()
    for place in range(3):
        await writer.write(event("a", place, f"v{place}"))
    assert users(await read(reader)) == [4, 0]
    assert ledger.read_whole == []
    for place in range(4):
        await writer.write(event("a", place, f"w{place}"))
    assert users(await read(reader)) == [8, 0]
    assert ledger.read_whole == ["web:0"]


async def test_a_shard_begun_anew_is_counted_anew_even_if_it_has_more_writes_than_before(reader: Reader, writer: Writer) -> None:
    await writer.write(event("a", 0))
    await reader.tick()
    await writer.begin_anew()
    for place in range(4):
        await writer.write(event("a", place, f"v{place}"))
    assert users(await read(reader)) == [4, 0]
    assert reader.counts()["f"].total(USERS, 0) == 4


async def test_a_shard_that_is_gone_is_counted_no_more(reader: Reader, writer: Writer, ledger: MemoryLedger) -> None:
    await Writer(ledger, "web:1").write(event("a", 0, "v"))
    await writer.write(event("a", 0))
    await reader.tick()
    await ledger.reset("web:1")
    assert users(await read(reader)) == [1, 0]


async def test_reading_at_any_moment_ends_at_the_same_counts(writer: Writer, ledger: MemoryLedger, clock: Clock) -> None:
    followers = [Reader(CONFIG, ledger, clock) for _ in range(3)]
    for place in range(30):
        await writer.write(event("ab"[place % 2], place * 7, f"u{place % 4}", ["ads", "mail"][place % 2]))
        for every, follower in enumerate(followers, 1):
            if place % every == 0:
                await follower.tick()
    late = Reader(CONFIG, ledger, clock)
    expected = await read(late, Duration("5m"), "channel")
    assert sum(users(expected)) > 0
    assert [await read(follower, Duration("5m"), "channel") for follower in followers] == [expected] * 3


async def test_t_is_the_greatest_watermark_of_any_partition(reader: Reader, writer: Writer, ledger: MemoryLedger) -> None:
    await writer.write(event("a", 7))
    await Writer(ledger, "web:1").write(event("a", 90, "v"))
    report = await read(reader)
    assert second(report) == 90
    assert users(report) == [1, 0], "who was last seen 83 s before T is out of the minute"


async def test_t_is_never_ahead_of_the_clock_and_never_goes_back(reader: Reader, writer: Writer, clock: Clock) -> None:
    await writer.write(event("a", 100))
    clock.us = (AT + 60) * 1_000_000
    assert second(await read(reader)) == 60
    clock.us = (AT + 50) * 1_000_000
    assert second(await read(reader)) == 60
    clock.us = 10**18
    assert second(await read(reader)) == 100


async def test_t_does_not_go_back_when_a_shard_begins_anew(reader: Reader, writer: Writer) -> None:
    await writer.write(event("a", 100))
    await reader.tick()
    await writer.begin_anew()
    assert second(await read(reader)) == 100
    await writer.write(event("a", 5))
    assert second(await read(reader)) == 100


async def test_who_left_the_window_is_not_counted_in_it(reader: Reader, writer: Writer) -> None:
    await writer.write(event("a", 0), event("a", 0, "v"))
    assert users(await read(reader)) == [2, 0]
    await writer.write(event("a", 59))
    assert users(await read(reader)) == [2, 0]
    await writer.write(event("a", 60))
    report = await read(reader)
    assert users(report) == [1, 0]
    assert users(reader.report("f", Duration("5m"))) == [2, 0]


async def test_what_no_window_will_reach_is_not_held(reader: Reader, writer: Writer) -> None:
    for minute in range(0, 300, 2):
        await writer.write(event("a", minute * 60))
        await reader.tick()
    held = reader.counts()["f"].buckets[10]
    assert min(held) >= (AT + 3 * 3600) // 10


async def test_the_minutes_that_are_read_are_summed_up_by_fives(ledger: MemoryLedger, clock: Clock) -> None:
    """Which a history is made of."""
    day = CONFIG.model_copy(update={"funnels": [CONFIG.funnels[0].model_copy(update={"windows": (Duration("24h"),)})]})
    reader = Reader(day, ledger, clock)
    counts = reader.counts()["f"]
    minutes = {(counts.plan.definition, 60, AT // 60 + number): {"u0": number} for number in range(20)}
    claim = await ledger.claim("web:0", 1, 0)
    await ledger.apply(claim, Write(0, 1, Deltas(minutes, watermark_us=(AT + 1200) * 1_000_000)))
    await reader.tick()
    found = reader.counts()["f"].blocks
    assert found is not None
    assert len(found) in {4, 5}
    for block, cells in found.items():
        assert cells["u0"] == sum(counted["u0"] for (_, _, minute), counted in minutes.items() if minute // 5 == block)


async def test_lag_is_what_lies_between_the_ends_and_the_positions(reader: Reader, writer: Writer, ledger: MemoryLedger) -> None:
    await writer.write(event("a", 0), event("a", 1))
    await Writer(ledger, "web:1").write(event("a", 1, "v"))
    await ledger.publish_ends("web", {0: 5, 1: 1})
    assert (await read(reader)).lag == 3
    await ledger.publish_ends("web", {0: 1})
    assert (await read(reader)).lag == 0, "an end that is older than the position is no lead"


async def test_what_this_worker_knows_of_the_ends_itself_counts_before_what_the_ledger_was_told(
    reader: Reader, writer: Writer, ledger: MemoryLedger
) -> None:
    """Else a backlog that has just begun would be none yet, and rules be judged in its middle."""
    await writer.write(event("a", 0))
    await ledger.publish_ends("web", {0: 1, 1: 4})
    await reader.tick({"web": {0: 50_000}})
    assert reader.report("f", MINUTE).lag == 49_999
    assert reader.views["web"].ends == {0: 50_000, 1: 4}


class Queue(CountedLedger):
    """Answers only when nobody asks anything more: how many were answered at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds: list[int] = []
        self._asked = 0

    async def _wait(self) -> None:
        self._asked += 1
        for _ in range(50):
            await asyncio.sleep(0)
        if self._asked:
            self.rounds.append(self._asked)
            self._asked = 0

    async def shards(self, source: str) -> list[str]:
        await self._wait()
        return await super().shards(source)

    async def ends(self, source: str) -> dict[int, int]:
        await self._wait()
        return await super().ends(source)

    async def changes(self, shard: str, generation: str, since: int) -> Changes | None:
        await self._wait()
        return await super().changes(shard, generation, since)


async def test_a_reading_waits_once_however_many_sources_and_shards_there_are(clock: Clock) -> None:
    ledger = Queue()
    writers = [Writer(ledger, f"web:{number}") for number in range(3)]
    for writer in writers:
        await writer.write(event("a", 0, writer.shard))
    reader = Reader(CONFIG, ledger, clock)
    await reader.tick()
    for writer in writers:
        await writer.write(event("a", 1, writer.shard + "+"))
    ledger.rounds.clear()
    await reader.tick()
    assert users(reader.report("f", MINUTE))[0] == 6
    assert ledger.rounds == [4 * len(CONFIG.sources) + 3]


async def test_records_that_wait_to_be_re_keyed_are_lag_and_their_rejects_are_fates(
    reader: Reader, writer: Writer, ledger: MemoryLedger
) -> None:
    await writer.write(event("a", 0))
    intake = await ledger.claim("web/intake:0", 1, 0)
    await ledger.apply(intake, Write(0, 3, Deltas(fates={"rejected:bad_json": 2}), gone=1))
    await ledger.publish_ends("web", {0: 1})
    await ledger.publish_ends("web/intake", {0: 10})
    report = await read(reader)
    assert (report.lag, report.incomplete) == (7, True)
    assert reader.views["web"].fates == {"applied": 1, "rejected:bad_json": 2}


@pytest.mark.parametrize(("watermark", "end", "stale"), [(39, 2, True), (39, 1, False), (40, 2, False)])
async def test_a_report_is_stale_while_a_partition_with_unread_records_is_a_minute_behind(
    reader: Reader, writer: Writer, ledger: MemoryLedger, watermark: int, end: int, stale: bool
) -> None:
    await writer.write(event("a", 100))
    await Writer(ledger, "web:1").write(event("a", watermark, "v"))
    await ledger.publish_ends("web", {0: 1, 1: end})
    assert (await read(reader)).stale is stale


async def test_a_partition_claimed_but_not_read_at_all_makes_it_stale(reader: Reader, writer: Writer, ledger: MemoryLedger) -> None:
    await writer.write(event("a", 100))
    await ledger.claim("web:1", 2, 0)
    await ledger.publish_ends("web", {1: 4})
    assert (await read(reader)).stale


async def test_rules_wait_while_a_backlog_is_read(reader: Reader, writer: Writer, ledger: MemoryLedger) -> None:
    await writer.write(event("a", 100))
    await ledger.publish_ends("web", {0: 50})
    await reader.tick()
    view = reader.views["web"]
    assert not view.stale
    assert not view.settled((AT + 161) * 1_000_000)
    assert view.settled((AT + 160) * 1_000_000)
    await ledger.publish_ends("web", {0: 1})
    await reader.tick()
    assert reader.views["web"].settled((AT + 161) * 1_000_000)


async def test_records_that_were_gone_make_reports_incomplete_until_the_window_has_left_the_gap(
    reader: Reader, writer: Writer, ledger: MemoryLedger
) -> None:
    await writer.write(event("a", 0))
    assert not (await read(reader)).incomplete
    assert writer.claim is not None
    await ledger.apply(writer.claim, Write(1, 9, Deltas(watermark_us=0), gone=8))
    assert (await read(reader)).incomplete
    assert reader.readings()[0].gone == 8
    writer.next = 9
    await writer.write(event("a", 100))
    report = await read(reader)
    assert (report.incomplete, report.since) == (True, moment_of((AT + 100) * 1_000_000))
    await writer.write(event("a", 100 + int(CONFIG.funnel("f").conversion_window) + 90))
    report = await read(reader)
    assert (report.incomplete, report.since) == (False, moment_of((AT + 100) * 1_000_000))


async def test_a_topic_whose_beginning_is_gone_is_told_to_be_counted_since_its_first_event(ledger: MemoryLedger, writer: Writer) -> None:
    await ledger.claim("web:0", 2, 5)
    await writer.write(event("a", 0))
    report = await read(Reader(CONFIG, ledger))
    assert (report.incomplete, report.since) == (True, moment_of(AT * 1_000_000))


async def test_a_store_that_does_not_answer_leaves_the_last_report_standing(reader: Reader, writer: Writer, ledger: CountedLedger) -> None:
    await writer.write(event("a", 0))
    before = await read(reader)
    read_at = reader.read_at
    await writer.write(event("a", 1, "v"))
    ledger.down = True
    with pytest.raises(StoreUnavailable):
        await reader.tick()
    assert (reader.report("f", MINUTE), reader.read_at) == (before, read_at)
    ledger.down = False
    assert users(await read(reader)) == [2, 0]


async def test_a_report_says_all_that_is_known_of_the_funnel(reader: Reader, writer: Writer) -> None:
    await writer.write(event("a", 0), event("a", 1, "v", "mail"), event("b", 2))
    report = await read(reader, Duration("5m"), "channel")
    assert (report.name, report.title, report.source, report.window, report.conversion_window) == ("f", "f", "web", "5m", "60s")
    assert [(s.name, s.title, s.target) for s in report.stages] == [("view", "view", None), ("pay", "Paid", 0.5)]
    assert (report.overall.numerator, report.overall.denominator, report.overall.rate) == (1, 2, 0.5)
    assert [(b.value, users_of(b.stages)) for b in report.values] == [("ads", [1, 1]), ("mail", [1, 0])]
    assert reader.report("f", MINUTE).values == ()
    summary = reader.summary(reader.config.funnel("f"))
    assert (summary.windows, summary.dimensions, summary.stages) == (("1m", "5m"), ("channel",), ("view", "pay"))
    assert (summary.overall, summary.at) == (report.overall, report.at)


def users_of(stages: Sequence[Any]) -> list[int]:
    return [stage.users for stage in stages]


async def test_a_source_without_records_does_not_borrow_the_time_of_another(reader: Reader, writer: Writer) -> None:
    await writer.write(event("a", 0))
    await reader.tick()
    assert reader.report("f", MINUTE).at is not None
    assert reader.report("tapped", MINUTE).at is None


def test_a_funnel_that_is_not_there_is_a_key_error(reader: Reader) -> None:
    with pytest.raises(KeyError):
        reader.report("nothing", MINUTE)


async def test_the_readings_for_the_metrics_are_of_every_source(reader: Reader, writer: Writer) -> None:
    await writer.write(event("a", 0), event("x", 5), b"{")
    await reader.tick()
    web, app = reader.readings()
    assert (web.source, web.at_us, web.watermarks) == ("web", (AT + 5) * 1_000_000, {0: (AT + 5) * 1_000_000})
    assert web.fates == {"applied": 1, "filtered": 1, "rejected:bad_json": 1}
    assert web.windows == {"f": (("1m", 60), ("5m", 300))}
    assert (app.source, app.at_us, app.fates) == ("app", None, {})


async def test_the_windows_of_a_new_t_are_made_before_anybody_may_ask_for_it(
    reader: Reader, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever asks first waits for the windows of a hundred funnels."""
    monkeypatch.setattr(FunnelCounts, "forget_before", lambda *_: None)  # moves them too, when T is there
    await writer.write(event("a", 1))
    await reader.tick()
    counts = reader.counts()["f"]
    assert reader.report("f", MINUTE).stages[0].users == 1
    held = counts.window(MINUTE, (AT + 1) * 1_000_000)
    await writer.write(event("a", 301, "v"), event("a", 302, "w"))
    await reader.tick()
    monkeypatch.setattr(FunnelCounts, "_advance", None)
    monkeypatch.setattr(FunnelCounts, "_sum", None)
    assert reader.report("f", MINUTE).stages[0].users == 2
    assert counts.window(MINUTE, (AT + 302) * 1_000_000) is not held
