"""[pure] Rejected records as they go to the dead-letter topic, and the limit at which consumption stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.config import Source
from schemas.errors import EverythingRejected
from schemas.event import REASONS, Rejected
from streams.producer import Outgoing
from streams.records import carried_headers

PAYLOAD_BYTES_MAX = 900_000  # a topic takes 1 MB by default
RATIO_RECORDS_MIN = 10_000
UPSTREAM_HEADERS = ("fw-source-topic", "fw-source-partition", "fw-source-offset")


def dead_letters(source: Source, tp: Any, records: Sequence[Any], rejected: Sequence[Rejected]) -> list[Outgoing]:
    """The rejected ones among a partition's records: payload untouched up to a size, the rest in headers."""
    return [_letter(source, tp, records[r.index], r) for r in rejected]


def _letter(source: Source, tp: Any, record: Any, why: Rejected) -> Outgoing:
    origin = {name: value for name, value in record.headers if name in UPSTREAM_HEADERS}
    headers = [
        ("fw-reason", why.reason.encode()),
        ("fw-detail", f"{REASONS[why.reason]}{f': {why.detail}' if why.detail else ''}".encode()[:500]),
        ("fw-topic", origin.get("fw-source-topic", tp.topic.encode())),
        ("fw-partition", origin.get("fw-source-partition", str(tp.partition).encode())),
        ("fw-offset", origin.get("fw-source-offset", str(record.offset).encode())),
        *carried_headers(source, record),
    ]
    value = record.value
    if value is not None and len(value) > PAYLOAD_BYTES_MAX:
        headers.append(("fw-cut-from-bytes", str(len(value)).encode()))
        value = value[:PAYLOAD_BYTES_MAX]
    key = record.key if record.key is None or len(record.key) <= 10_000 else record.key[:10_000]
    return source.dead_letter_topic, key, value, headers


class RejectLimit:
    """Stops a source of which nearly everything is bad: that is a misconfiguration, not bad luck."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._in_a_row = 0
        self._seen = 0
        self._rejected = 0

    def note(self, records: int, rejected: Sequence[Rejected]) -> None:
        """Count a chunk. Raises EverythingRejected past a limit of the source."""
        bad = len(rejected)
        self._in_a_row = self._in_a_row + bad if bad == records else 0
        if self._seen >= 2 * RATIO_RECORDS_MIN:
            self._seen, self._rejected = self._seen // 2, self._rejected // 2
        self._seen += records
        self._rejected += bad
        if not bad:
            return
        if self._in_a_row >= self._source.rejects_in_a_row_max:
            raise self._error(self._in_a_row, self._in_a_row, rejected[-1])
        if self._seen >= RATIO_RECORDS_MIN and self._rejected > self._source.reject_ratio_max * self._seen:
            raise self._error(self._rejected, self._seen, rejected[-1])

    def _error(self, rejected: int, seen: int, last: Rejected) -> EverythingRejected:
        return EverythingRejected(self._source.name, rejected, seen, last.reason, last.detail or REASONS[last.reason])
