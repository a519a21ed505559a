"""`funnelwatch backfill`: the shards are asked, waited for and shown, and where that cannot be, one line says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from schemas.config import load
from schemas.errors import FunnelwatchError
from schemas.settings import RedisSettings
from streams import backfilling
from streams.cli import run
from streams.embedded import Valkey
from streams.ledger.contract import Ledger, Ok, Write
from streams.ledger.memory import MemoryLedger
from streams.process import free_port
from streams.tally import Deltas

CONFIG = """
sources: [{name: web, topic: clicks}, {name: app, topic: taps}]
funnels:
  - {name: f, source: web, conversion_window: 1h, windows: [1h], stages: [{name: a, event: a}, {name: b, event: b}]}
  - {name: g, source: web, conversion_window: 1h, windows: [1h], stages: [{name: a, event: a}, {name: c, event: c}]}
  - {name: tapped, source: app, conversion_window: 1h, windows: [1h], stages: [{name: a, event: a}, {name: b, event: b}]}
"""
AT_US = 1_700_000_000_000_000
ELSEWHERE = 77


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "funnel.yaml"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def redis(valkey: Valkey, unique_name: str, monkeypatch: pytest.MonkeyPatch) -> RedisSettings:
    """A Redis of our own prefix, as the environment names it."""
    monkeypatch.setenv("FUNNELWATCH_REDIS__URL", valkey.url)
    monkeypatch.setenv("FUNNELWATCH_REDIS__PREFIX", unique_name)
    return RedisSettings(url=valkey.url, prefix=unique_name)


def definitions(config: str) -> dict[str, int]:
    loaded = load(config)
    return {name: backfilling.plan_of(loaded, name)[1].definition for name in ("f", "g", "tapped")}


async def count(ledger: Ledger, shards: list[str], *counted: int, watermark_us: int = -1) -> None:
    """Claim shards and bring them to a watermark."""
    for shard in shards:
        claim = await ledger.claim(shard, 12, 0, counted)
        write = Write(claim.next, claim.next + 1, Deltas(watermark_us=watermark_us))
        assert await ledger.apply(claim, write) == Ok()


async def finish(ledger: Ledger, shards: list[str], definition: int, since_us: int = -1) -> None:
    """What a worker does when it has counted anew."""
    for shard in shards:
        claim = await ledger.claim(shard, 12, 0, (definition,))
        assert await ledger.backfilled(claim, definition, since_us) == Ok()


async def asked_for(ledger: Ledger, source: str) -> dict[str, tuple[int, ...]]:
    found = {shard: await ledger.changes(shard, "", 0) for shard in await ledger.shards(source)}
    return {shard: change.position.backfills for shard, change in found.items() if change is not None}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    """Exit code, lines on stdout and lines on stderr."""
    code = run(["backfill", *arguments])
    found = capsys.readouterr()
    return code, found.out.splitlines(), found.err.splitlines()


def test_every_shard_of_the_funnels_source_is_asked(capsys: pytest.CaptureFixture[str], config: str, redis: RedisSettings) -> None:
    ours = definitions(config)
    backfilling.over(redis, lambda ledger: count(ledger, ["web:0", "web:3", "app:0"], *ours.values()))
    assert printed(capsys, "f", "--config", config) == (
        0,
        [f"asked 2 shards of source web to count f (definition {ours['f']}) from the topic's beginning"],
        [],
    )
    assert backfilling.over(redis, lambda ledger: asked_for(ledger, "web")) == {"web:0": (ours["f"],), "web:3": (ours["f"],)}
    assert backfilling.over(redis, lambda ledger: asked_for(ledger, "app")) == {"app:0": ()}


def test_shards_that_no_worker_counts_so_now_are_named(capsys: pytest.CaptureFixture[str], config: str, redis: RedisSettings) -> None:
    ours = definitions(config)
    backfilling.over(redis, lambda ledger: count(ledger, ["web:10", "web:2", "web:1"], ELSEWHERE))
    backfilling.over(redis, lambda ledger: count(ledger, ["web:1"], ours["f"]))
    code, out, err = printed(capsys, "f", "--config", config)
    assert (code, len(out)) == (0, 1)
    assert err == ["warning: 2 shards will do it once a worker with this config holds them, which none does now: web:2, web:10"]


def test_without_a_shard_there_is_a_warning_and_nothing_to_wait_for(
    capsys: pytest.CaptureFixture[str], config: str, redis: RedisSettings
) -> None:
    code, (line,), (warning,) = printed(capsys, "f", "--config", config, "--wait")
    assert code == 0
    assert line.startswith("asked 0 shards of source web")
    assert warning.startswith("warning: source 'web' has no shards in this Redis under this prefix")


def test_waiting_ends_when_every_shard_has_done_it(capsys: pytest.CaptureFixture[str], config: str, redis: RedisSettings) -> None:
    f = definitions(config)["f"]
    backfilling.over(redis, lambda ledger: count(ledger, ["web:0", "web:1"], f))

    async def work(ledger: Ledger) -> None:
        while not all((await asked_for(ledger, "web")).values()):
            await asyncio.sleep(0.05)
        for shard in ("web:1", "web:0"):
            await asyncio.sleep(0.3)
            await finish(ledger, [shard], f)

    worker = Thread(target=backfilling.over, args=(redis, work))
    worker.start()
    code, out, err = printed(capsys, "f", "--config", config, "--wait", "--timeout", "20s")
    worker.join()
    assert (code, err) == (0, [])
    assert out[1].startswith("2 shards counted f anew in ")
    assert backfilling.over(redis, lambda ledger: asked_for(ledger, "web")) == {"web:0": (), "web:1": ()}


def test_waiting_in_vain_is_an_error_that_names_who_is_left(capsys: pytest.CaptureFixture[str], config: str, redis: RedisSettings) -> None:
    f = definitions(config)["f"]
    backfilling.over(redis, lambda ledger: count(ledger, ["web:0", "web:1"], f))
    code, out, err = printed(capsys, "f", "--config", config, "--wait", "--timeout", "1s")
    assert (code, len(out)) == (1, 1)
    (line,) = err
    assert line.startswith("error: 2 of the 2 shards asked did not do it within 1 s: web:0, web:1. The request stands")
    assert backfilling.over(redis, lambda ledger: asked_for(ledger, "web")) == {"web:0": (f,), "web:1": (f,)}


def test_what_each_shard_counts_is_listed_and_nothing_asked(capsys: pytest.CaptureFixture[str], config: str, redis: RedisSettings) -> None:
    ours = definitions(config)
    backfilling.over(redis, lambda ledger: count(ledger, ["web:2", "web:10"], ours["g"], ELSEWHERE, watermark_us=AT_US))
    backfilling.over(redis, lambda ledger: count(ledger, ["web:2"], ours["g"], ours["f"], watermark_us=AT_US))
    backfilling.over(redis, lambda ledger: ledger.ask_backfill("web:10", ours["g"]))
    code, out, err = printed(capsys, "f", "--config", config, "--list")
    assert (code, err) == (0, [])
    assert [line.split("  ") and [cell.strip() for cell in line.split("  ") if cell.strip()] for line in out] == [
        ["shard", "funnel", "definition", "counted since", "backfill"],
        ["web:2", "f", str(ours["f"]), "2023-11-14T22:13:20Z"],
        ["web:2", "g", str(ours["g"]), "its beginning"],
        ["web:10", "f", str(ours["f"]), "not counted"],
        ["web:10", "g", str(ours["g"]), "its beginning", "asked for"],
        ["web:10", "of another config", str(ELSEWHERE), "its beginning"],
    ]
    assert backfilling.over(redis, lambda ledger: asked_for(ledger, "web")) == {"web:2": (), "web:10": (ours["g"],)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "no funnel 'nope' in the config; there are: f, g, tapped"),
        (["f", "--timeout", "soon"], "--timeout: 'soon' is no duration"),
        ([], "Missing argument 'FUNNEL'"),
    ],
)
def test_what_cannot_be_asked_is_bad_usage(capsys: pytest.CaptureFixture[str], config: str, arguments: list[str], says: str) -> None:
    code, out, (line,) = printed(capsys, *arguments, "--config", config)
    assert (code, out) == (2, [])
    assert line.startswith(f"error: {says}")


def test_a_redis_that_does_not_answer_is_one_line(capsys: pytest.CaptureFixture[str], config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNNELWATCH_REDIS__URL", f"redis://127.0.0.1:{free_port()}")
    code, out, (line,) = printed(capsys, "f", "--config", config)
    assert (code, out) == (1, [])
    assert line.startswith("error: Redis did not do as asked (ConnectionError")


# Over the ledger in memory


class Watched(MemoryLedger):
    """Does something whenever it is asked where a shard stands."""

    def __init__(self, *steps: Callable[[], Awaitable[Any]]) -> None:
        super().__init__()
        self.steps = [*steps]

    async def changes(self, shard: str, generation: str, since: int) -> Any:
        if self.steps:
            await self.steps.pop(0)()
        return await super().changes(shard, generation, since)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilling, "POLL_SECONDS", 0.0)


async def asked(ledger: MemoryLedger, config: str, *shards: str) -> backfilling.Asked:
    _, funnel = backfilling.plan_of(load(config), "f")
    await count(ledger, [*shards], funnel.definition)
    return await backfilling.ask(ledger, funnel)


async def test_progress_is_told_shard_by_shard(config: str, quick: None) -> None:
    ledger = Watched()
    f = definitions(config)["f"]
    who = await asked(ledger, config, "web:0", "web:1", "web:2")
    nothing = lambda: asyncio.sleep(0)  # noqa: E731
    ledger.steps = [*[nothing] * 3, lambda: finish(ledger, ["web:1"], f), *[nothing] * 2, lambda: finish(ledger, ["web:0", "web:2"], f)]
    told: list[int] = []
    said = await backfilling.wait(ledger, who, 5.0, lambda done: told.append(done()))
    assert told == [0, 1, 3]
    assert said.startswith("3 shards counted f anew in 0.")
    assert said.endswith(" s")


async def test_it_says_since_when_where_the_topic_has_not_all_of_it_any_more(config: str, quick: None) -> None:
    ledger = MemoryLedger()
    who = await asked(ledger, config, "web:0", "web:1")
    await finish(ledger, ["web:0"], who.funnel.definition)
    await finish(ledger, ["web:1"], who.funnel.definition, AT_US)
    said = await backfilling.wait(ledger, who, 5.0, lambda done: None)
    assert said.endswith("; what was before 2023-11-14T22:13:20Z has left the topic")


async def test_a_shard_that_is_begun_anew_meanwhile_counts_everything_and_is_not_waited_for(config: str, quick: None) -> None:
    ledger = MemoryLedger()
    who = await asked(ledger, config, "web:0", "web:1")
    await finish(ledger, ["web:0"], who.funnel.definition)
    await ledger.reset("web:1")
    assert (await backfilling.wait(ledger, who, 5.0, lambda done: None)).startswith("2 shards")


async def test_the_time_is_up_after_a_last_look(config: str, quick: None) -> None:
    ledger = MemoryLedger()
    who = await asked(ledger, config, "web:0")
    with pytest.raises(FunnelwatchError, match="1 of the 1 shard asked did not do it within 0 s: web:0"):
        await backfilling.wait(ledger, who, 0.0, lambda done: None)
    await finish(ledger, ["web:0"], who.funnel.definition)
    assert (await backfilling.wait(ledger, who, 0.0, lambda done: None)).startswith("1 shard counted")


async def test_a_shard_that_was_reset_and_not_claimed_since_is_not_asked(config: str) -> None:
    ledger = MemoryLedger()
    who = await asked(ledger, config, "web:0", "web:1")
    await ledger.reset("web:0")
    again = await backfilling.ask(ledger, who.funnel)
    assert (again.shards, [*again.warnings()]) == (("web:1",), [])


async def test_positions_come_in_the_order_of_partitions(config: str) -> None:
    ledger = MemoryLedger()
    who = await asked(ledger, config, "web:10", "web:9", "web:1")
    assert who.shards == ("web:1", "web:9", "web:10")
