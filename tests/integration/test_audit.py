"""A worker that audits itself, as a user turns it on: it says how many events it checked, and that nothing differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from streams.embedded import Tansu, Valkey
from tests.books import assert_counts_exact, becomes, counted, expected_of, read_books
from tests.parts.worker import Deployment, Worker
from tests.traffic import Click, clicks, make_topic, produce, write_config

# Tansu tells the ends of its logs too low, and takes half the session for a join.
ON_TANSU = {"KAFKA__END_OFFSET_SLACK": "1000000", "KAFKA__SESSION_TIMEOUT_SECONDS": "6"}
EVENTS = 18_000


@pytest.fixture
def deployment(tansu: Tansu, valkey: Valkey, unique_name: str, tmp_path: Path) -> Deployment:
    """A topic of four partitions on the embedded parts."""
    make_topic(tansu.address, unique_name, 4)
    return Deployment(tansu.address, valkey.url, unique_name, write_config(tmp_path, unique_name), ON_TANSU)


def audited(worker: Worker) -> tuple[float, float]:
    """(difference, events checked) as the metrics say."""
    return worker.metric("funnel_audit_difference", source="web"), worker.metric("funnel_audit_events_total", source="web")


def count(deployment: Deployment, topic: str, records: Sequence[Click], ends: Counter[int]) -> None:
    """Produce more, and wait until it is counted."""
    ends += Counter(produce(deployment.kafka, topic, records, enable_idempotence=False))
    counted(deployment, dict(ends))


def test_a_worker_that_audits_itself_finds_nothing_and_counts_the_same(deployment: Deployment, unique_name: str) -> None:
    """After a restart, too, when the ledger knows nearly everybody: they are audited no longer."""
    stream, ends = clicks(EVENTS), Counter[int]()
    with deployment.worker(WORKER__AUDIT_SHARE="1") as worker:
        count(deployment, unique_name, stream[: EVENTS // 6], ends)
        count(deployment, unique_name, stream[EVENTS // 6 :], ends)
        difference, events = audited(worker)
        assert difference == 0
        assert EVENTS / 3 < events <= EVENTS, "once there is no more room, all is compared"
        worker.restart()
        count(deployment, unique_name, clicks(EVENTS // 6, seed=2), ends)
        difference, events = audited(worker)
        assert difference == 0
        assert events < EVENTS / 60
        assert_counts_exact(expected_of(deployment, dict(ends)), read_books(deployment))


def test_a_worker_that_was_not_asked_to_audits_nothing(deployment: Deployment, unique_name: str) -> None:
    with deployment.worker() as worker:
        count(deployment, unique_name, clicks(EVENTS // 6), Counter())
        becomes(lambda: worker.metric("funnel_records_total"), EVENTS // 6)
        assert audited(worker) == (0, 0)
