"""The peers of the bench do the job that is measured, and run where they can."""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis

from streams.embedded import Valkey
from tests.bench import peers
from tests.bench.contenders import Task
from tests.bench.handwritten import Journeys
from tests.bench.handwritten_stored import Stored
from tests.bench.journey import WIDTHS_SECONDS, Sums, decode, journey, step
from tests.bench.peers import OtherPython
from tests.bench.workload import BEGIN_MS, CONVERSION_MS, Click, Counts, clicks, recount

TASK = Task("name", "localhost:1", "redis://localhost:1/0", "clicks", 1, ())
FOUND = list(clicks(5000, 300))


def in_redis(sums: Sums, counts: dict[int, Counter[tuple[str, int, str | None]]]) -> None:
    """Add what is sent to what Redis has, by width."""
    for key, field, by in sums.take("group"):
        group, width, _ = key.split(":")
        assert group == "group"
        family, stage, channel = field.split(":")
        counts[int(width)][family, int(stage), channel or None] += by


def counted(found: list[Click], fetch: int) -> dict[int, Counts]:
    """By width, what the hand-written peer counts when a fetch has so many."""
    journeys = Journeys()
    counts: dict[int, Counter[tuple[str, int, str | None]]] = {width: Counter() for width in WIDTHS_SECONDS}
    for first in range(0, len(found), fetch):
        journeys.take(click.value() for click in found[first : first + fetch])
        in_redis(journeys.sums, counts)
    return {width: {cell: count for cell, count in of.items() if count} for width, of in counts.items()}


@pytest.mark.parametrize("fetch", [1, 700, len(FOUND)])
def test_the_peers_count_in_every_width_what_a_recount_counts(fetch: int) -> None:
    assert counted(FOUND, fetch) == dict.fromkeys(WIDTHS_SECONDS, recount(FOUND))


def test_a_person_who_comes_back_moves_to_the_bucket_and_channel_of_the_latest_reach() -> None:
    again = [Click(n, BEGIN_MS + n * 60_000, "user-1", 0, channel, 0) for n, channel in enumerate(["ads", "email"])]
    journeys = Journeys()
    journeys.take(click.value() for click in again)
    users = {(key, field): by for key, field, by in journeys.sums.take("g") if field.startswith("u:") and key.startswith("g:60:")}
    assert users == {(f"g:60:{BEGIN_MS // 60_000 + 1}", field): 1 for field in ("u:0:", "u:0:email")}


def test_a_step_after_the_conversion_window_is_no_reach() -> None:
    late = [Click(n, BEGIN_MS + n * (CONVERSION_MS + 1), "user-1", n, "ads", 0) for n in range(2)]
    assert counted(late, 2)[3600] == recount(late)
    assert ("n", 1, None) not in recount(late)


def test_sums_that_were_taken_begin_anew() -> None:
    journeys = Journeys()
    journeys.take(click.value() for click in FOUND[:10])
    assert list(journeys.sums.take("group"))
    assert not list(journeys.sums.take("group"))


def test_a_journey_may_be_kept_as_json() -> None:
    """As Quix keeps it."""
    kept: dict[str, str] = {}
    counts: dict[int, Counter[tuple[str, int, str | None]]] = {width: Counter() for width in WIDTHS_SECONDS}
    sums = Sums()
    for click in FOUND:
        mine = json.loads(kept[click.entity]) if click.entity in kept else journey()
        if (reach := step(mine, decode(click.value()))) is not None:
            sums.add(reach)
        kept[click.entity] = json.dumps(mine)
    in_redis(sums, counts)
    assert {cell: count for cell, count in counts[10].items() if count} == recount(FOUND)


def test_every_pin_is_exact() -> None:
    pins = [line for line in peers.PINS.read_text().splitlines() if line and not line.startswith("#")]
    assert pins
    assert not [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+(; .+)?", pin)]


@pytest.mark.parametrize("kind", [peers.Bytewax, peers.Quix])
def test_a_framework_runs_in_its_own_environment_with_the_modules_of_the_checkout(
    kind: type[peers.Apart], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PYTHONS", (sys.version_info[:2],))
    monkeypatch.setattr(peers, "python_with", lambda pins: pins.with_name("python"))
    contender = kind(TASK, tmp_path)
    try:
        contender.prepare()
        assert contender.command()[:3] == ["env", f"PYTHONPATH={tmp_path}", str(peers.PINS.with_name("python"))]
    finally:
        contender.close()


def test_a_python_that_a_framework_cannot_run_on_is_told_which_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PYTHONS", ((2, 7), (3, 0)))
    contender = peers.Bytewax(TASK)
    try:
        with pytest.raises(OtherPython, match=r"bytewax needs Python 2\.7 or 3\.0, and this is 3\..*--only"):
            contender.prepare()
    finally:
        contender.close()


async def test_the_stored_peer_goes_on_where_another_died(valkey: Valkey) -> None:
    """Counts are those of all clicks, though nobody had in memory what another had counted."""
    group, ends = f"stored-{uuid.uuid4().hex}", (0, 1000, 1001, len(FOUND))
    async with Redis.from_url(valkey.url) as redis:
        for start, end in pairwise(ends):
            stored = Stored(redis, group)
            assert (await stored.positions([0])).get(0, 0) == start
            await stored.take({0: [click.value() for click in FOUND[start:end]]}, {0: end})
        counts: Counter[tuple[str, int, str | None]] = Counter()
        async for key in redis.scan_iter(match=f"{group}:3600:*"):
            for field, count in (await redis.hgetall(key)).items():
                family, stage, channel = field.decode().split(":")
                counts[family, int(stage), channel or None] += int(count)
    assert {cell: count for cell, count in counts.items() if count} == recount(FOUND)
