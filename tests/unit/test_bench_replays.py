"""A replay in the bench is of the command that people use, and what it counts is recounted."""

from __future__ import annotations

import pytest

from schemas.errors import FunnelwatchError
from tests.bench import replays as bench


def test_replays_say_rate_and_memory_and_are_recounted() -> None:
    lines = [*bench.replays(sizes=(2_000, 4_000), people=200)]
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:] == ["2,000", "4,000"]
    assert lines[-1].startswith("claim: memory")


def test_a_count_that_is_not_the_recount_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "recount", lambda found: {("u", 0, None): sum(1 for _ in found)})
    with pytest.raises(FunnelwatchError, match="other counts"):
        [*bench.replays(sizes=(2_000,), people=200)]
