"""Where rejected records go, and when so many are rejected that reading stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from faust.types import TP

from schemas.config import Source
from schemas.errors import EverythingRejected
from schemas.event import REASONS, Rejected
from streams.dead_letter import PAYLOAD_BYTES_MAX, RATIO_RECORDS_MIN, RejectLimit, dead_letters


@dataclass
class Record:
    """What is looked at of a Kafka record."""

    value: bytes | None = b"{"
    key: bytes | None = b"u"
    offset: int = 41
    headers: tuple[tuple[str, bytes], ...] = ()


def source(**changes: Any) -> Source:
    return Source.model_validate({"name": "web", "topic": "clicks"} | changes)


def letter(record: Record, reason: str = "bad_json", detail: str = "byte 1", **changes: Any) -> tuple[str, Any, Any, dict[str, bytes]]:
    ((topic, key, value, headers),) = dead_letters(source(**changes), TP("clicks", 3), [record], [Rejected(0, reason, detail)])
    assert len(dict(headers)) == len(headers)
    return topic, key, value, dict(headers)


def test_a_letter_is_the_record_with_where_it_came_from_and_why() -> None:
    assert letter(Record()) == (
        "clicks.dead-letter",
        b"u",
        b"{",
        {
            "fw-reason": b"bad_json",
            "fw-detail": b"the record is not one JSON object: byte 1",
            "fw-topic": b"clicks",
            "fw-partition": b"3",
            "fw-offset": b"41",
        },
    )


def test_a_source_may_name_its_own_dead_letter_topic() -> None:
    assert letter(Record(), dead_letter="bad-clicks")[0] == "bad-clicks"


@pytest.mark.parametrize("reason", REASONS)
def test_without_a_detail_the_reason_is_said_in_words(reason: str) -> None:
    headers = letter(Record(), reason, "")[3]
    assert (headers["fw-reason"], headers["fw-detail"]) == (reason.encode(), REASONS[reason].encode())


def test_a_long_detail_is_cut() -> None:
    assert len(letter(Record(), detail="ü" * 1000)[3]["fw-detail"]) == 500


def test_only_the_rejected_ones_are_written_in_order() -> None:
    records = [Record(value=b"%d" % offset, offset=offset) for offset in range(5)]
    found = dead_letters(source(), TP("clicks", 3), records, [Rejected(1, "no_event", ""), Rejected(4, "no_entity", "")])
    assert [(value, dict(headers)["fw-offset"], dict(headers)["fw-reason"]) for _, _, value, headers in found] == [
        (b"1", b"1", b"no_event"),
        (b"4", b"4", b"no_entity"),
    ]


@pytest.mark.parametrize("value", [None, b"", b"\xff\x00", b"x" * PAYLOAD_BYTES_MAX], ids=["none", "empty", "binary", "longest"])
def test_a_payload_up_to_the_bound_is_untouched(value: bytes | None) -> None:
    _, key, found, headers = letter(Record(value=value, key=None))
    assert (key, found) == (None, value)
    assert "fw-cut-from-bytes" not in headers


def test_a_payload_over_the_bound_is_cut_and_says_so() -> None:
    _, _, value, headers = letter(Record(value=b"x" * PAYLOAD_BYTES_MAX + b"yz"))
    assert value == b"x" * PAYLOAD_BYTES_MAX
    assert headers["fw-cut-from-bytes"] == str(PAYLOAD_BYTES_MAX + 2).encode()


def test_a_key_is_kept_up_to_ten_thousand_bytes() -> None:
    assert letter(Record(key=b"k" * 10_000))[1] == b"k" * 10_000
    assert letter(Record(key=b"k" * 10_001))[1] == b"k" * 10_000


def test_a_re_keyed_record_is_told_by_the_record_it_was_made_of() -> None:
    headers = (("fw-source-topic", b"raw"), ("fw-source-partition", b"7"), ("fw-source-offset", b"1000"), ("trace", b"1"))
    found = letter(Record(headers=headers))[3]
    assert (found["fw-topic"], found["fw-partition"], found["fw-offset"]) == (b"raw", b"7", b"1000")
    assert "trace" not in found


BAD = Rejected(0, "no_key", "")


def note(limit: RejectLimit, records: int, rejected: int) -> None:
    limit.note(records, [BAD] * rejected)


def test_rejects_in_a_row_stop_the_source_at_their_limit() -> None:
    limit = RejectLimit(source(rejects_in_a_row_max=10))
    note(limit, 6, 6)
    note(limit, 3, 3)
    with pytest.raises(EverythingRejected) as stopped:
        note(limit, 1, 1)
    assert (stopped.value.source, stopped.value.rejected, stopped.value.seen, stopped.value.reason) == ("web", 10, 10, "no_key")
    assert "Check `fields` and `entity_key`" in str(stopped.value)
    assert not stopped.value.retriable


def test_a_good_record_begins_the_row_anew() -> None:
    limit = RejectLimit(source(rejects_in_a_row_max=10))
    for _ in range(5):
        note(limit, 9, 9)
        note(limit, 2, 1)


def test_an_empty_chunk_neither_ends_the_row_nor_adds_to_it() -> None:
    limit = RejectLimit(source(rejects_in_a_row_max=10))
    note(limit, 9, 9)
    note(limit, 0, 0)
    with pytest.raises(EverythingRejected):
        note(limit, 1, 1)


def test_a_ratio_over_the_limit_stops_the_source_once_enough_was_seen() -> None:
    limit = RejectLimit(source(reject_ratio_max=0.5))
    for _ in range(RATIO_RECORDS_MIN // 100 - 1):
        note(limit, 100, 51)
    with pytest.raises(EverythingRejected) as stopped:
        note(limit, 100, 51)
    assert (stopped.value.rejected, stopped.value.seen) == (5100, RATIO_RECORDS_MIN)


def test_a_ratio_at_the_limit_goes_on() -> None:
    limit = RejectLimit(source(reject_ratio_max=0.5))
    for _ in range(3 * RATIO_RECORDS_MIN // 100):
        note(limit, 100, 50)


def test_a_long_good_past_does_not_hide_that_everything_is_bad_now() -> None:
    limit = RejectLimit(source(reject_ratio_max=0.9, rejects_in_a_row_max=10**9))
    for _ in range(10_000):
        note(limit, 1000, 0)
    for _ in range(200):
        try:
            note(limit, 1000, 1000)
        except EverythingRejected:
            return
    pytest.fail("200,000 rejects after ten million good records did not stop it")
