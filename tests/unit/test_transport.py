"""What a fetch becomes while partitions come and go."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from schemas.config import Config
from schemas.settings import KafkaSettings, Settings
from streams.app import build_app
from streams.transport import Chunk, Consumer, ConsumerThread
from tests.unit.test_counting import funnel

HERE, THERE = TP("clicks", 0), TP("clicks", 1)


def records(*offsets: int) -> list[Any]:
    return [SimpleNamespace(offset=offset, timestamp=0, timestamp_type=0) for offset in offsets]


class Fetching(Consumer):
    """A consumer of two partitions, each to be read from offset 5, whose broker does `asked` when it is asked where a log begins."""

    should_stop = False

    def __init__(self, found: dict[TP, list[Any]], asked: Callable[[Fetching], int], most: int = 100) -> None:
        self._serial, self._start, self._seeks = {HERE: 1, THERE: 1}, {HERE: 5, THERE: 5}, {}
        self._found, self._asked = found, asked
        self.flow_active = True
        custody = SimpleNamespace(overtaken=self._note, records_max=lambda _: most)
        self.app = SimpleNamespace(consumer_generation_id=1, custody=custody)  # type: ignore[assignment]
        self.claimed_again: list[TP] = []
        self.warned: list[str] = []
        self.log = SimpleNamespace(warning=lambda text, *given: self.warned.append(text % given))  # type: ignore[assignment]

    def _note(self, tp: TP) -> None:
        self.claimed_again.append(tp)

    async def _wait_next_records(self, timeout: float) -> Any:
        return {tp: [batch] for tp, batch in self._found.items()}, None

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, self._asked(self))

    async def fetched(self) -> list[tuple[int, int, int]]:
        """Partition, start and next of each chunk."""
        chunks: list[Chunk] = [message.value async for _, message in self.getmany(0.0)]  # type: ignore[misc]
        return [(chunk.tp.partition, chunk.start, chunk.next) for chunk in chunks]


@pytest.mark.parametrize(("bytes_max", "bytes_min"), [(65_536, 4096), (4096, 2048)])
async def test_a_fetch_waits_as_the_settings_say(monkeypatch: pytest.MonkeyPatch, bytes_max: int, bytes_min: int) -> None:
    """Never for more than one partition may give at once."""
    found = Config.model_validate({"sources": [{"name": "web", "topic": "clicks"}], "funnels": [funnel()]})
    settings = Settings(kafka=KafkaSettings(fetch_bytes_min=4096, fetch_bytes_max=bytes_max, fetch_wait_ms=70))
    app = build_app(found, settings)
    monkeypatch.setattr(AIOKafkaConsumerThread, "_create_worker_consumer", lambda *_: SimpleNamespace())
    consumer = ConsumerThread._create_worker_consumer(object.__new__(ConsumerThread), app.transport)
    assert (consumer._fetch_min_bytes, consumer._fetch_max_wait_ms) == (bytes_min, 70)


async def test_a_hole_that_retention_did_not_make_is_passed_over() -> None:
    consumer = Fetching({HERE: records(9), THERE: records(5, 6)}, lambda _: 0)
    assert await consumer.fetched() == [(0, 5, 10), (1, 5, 7)]
    assert consumer.claimed_again == []


async def test_a_fetch_of_more_records_than_a_chunk_may_have_is_cut() -> None:
    consumer = Fetching({HERE: records(5, 6, 8, 9, 10), THERE: records(5, 6)}, lambda _: 0, most=2)
    assert await consumer.fetched() == [(0, 5, 7), (0, 7, 10), (0, 10, 11), (1, 5, 7)]


async def test_the_rest_of_a_fetch_is_dropped_when_the_partition_is_taken_away_after_a_piece() -> None:
    consumer = Fetching({HERE: records(5, 6, 7), THERE: records(5)}, lambda _: 0, most=1)
    chunks = []
    async for tp, message in consumer.getmany(0.0):
        chunks.append((tp.partition, message.value.start))  # type: ignore[attr-defined]
        if tp == HERE:
            consumer.void(HERE)
    assert chunks == [(0, 5), (1, 5)]
    assert HERE not in consumer._start  # the next seek says where it goes on


async def test_a_partition_whose_next_records_are_gone_is_claimed_again() -> None:
    consumer = Fetching({HERE: records(9), THERE: records(5)}, lambda _: 9)
    assert await consumer.fetched() == [(1, 5, 6)]
    assert consumer.claimed_again == [HERE]


async def test_a_partition_that_is_taken_away_while_the_broker_is_asked_ends_nothing() -> None:
    def taken(consumer: Fetching) -> int:
        consumer.void(HERE)
        return 0

    consumer = Fetching({HERE: records(9), THERE: records(5)}, taken)
    assert await consumer.fetched() == [(1, 5, 6)]
    assert consumer.claimed_again == []


async def test_what_was_fetched_before_a_rebalance_is_dropped() -> None:
    def rebalanced(consumer: Fetching) -> int:
        consumer.app.consumer_generation_id = 2
        return 0

    assert await Fetching({HERE: records(9), THERE: records(5)}, rebalanced).fetched() == []


async def test_a_broker_that_cannot_say_where_a_log_begins_has_the_partition_claimed_again() -> None:
    def fails(_: Fetching) -> int:
        raise ConnectionError("gone")

    consumer = Fetching({HERE: records(9), THERE: records(5)}, fails)
    assert await consumer.fetched() == [(1, 5, 6)]
    assert consumer.claimed_again == [HERE]
    assert "claimed again" in consumer.warned[0]
