"""Records that are no events: every kind of them, few and many."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence

from tests.faults.catalogue import experiment
from tests.faults.scene import Scene
from tests.traffic import Click

SHARE = 0.01
ALL = 8_000
MOMENT = 1_714_557_600_000
GOOD = {"event": "product_view", "timestamp": MOMENT, "user_id": "u1", "properties": {}}
KEY = b"u1"


def _changed(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def _without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


KINDS: Sequence[tuple[bytes, bytes]] = (
    *((KEY, raw) for raw in (
        b"", b" ", b"null", b"[]", b"7", b'"text"', b"{", b'{"event":', b"\x00\x01\x02", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"{}",
        b'{"event": NaN}', b"[" * 3_000 + b"]" * 3_000, b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b"\x00\x00\x00\x00\x07avro?",
    )),
    *((KEY, _changed(timestamp=at)) for at in (
        None, "", "yesterday", -1, 1e300, "1e300", "NaN", True, [], {}, 10**17, "2024-13-01T00:00:00Z", 4_000_000_000_000, "9999-12-31T23:59:59Z",
    )),
    *((KEY, _changed(user_id=who)) for who in (None, "", True, 1.5, [], {"id": 1}, "u2")),
    *((KEY, _changed(event=name)) for name in (None, "", 7, True, ["product_view"], {})),
    *((KEY, _changed(event="purchase", properties={"amount": amount})) for amount in ("cheap", [1], {}, True, "NaN", "Infinity", 10**13)),
    *((KEY, _without(name)) for name in ("event", "timestamp", "user_id")),
    *((key, _changed()) for key in (b"", b"u2", b"\xff", b"U1", b"u1 ", b"x" * 12_000)),
    (KEY, _changed(filler="x" * 20_000)[:-1]),
)  # fmt: skip


def kinds(dice: random.Random) -> Iterator[Click]:
    """Every kind in turn, in an order of the dice, for ever; of many people, who are in all partitions."""
    while True:
        for key, value in dice.sample(KINDS, len(KINDS)):
            who = f"u{dice.randrange(10, 60)}".encode()
            yield Click(who if key == KEY else key, value.replace(b'"u1"', b'"' + who + b'"'))


@experiment(quick=True)
def poison_some(scene: Scene) -> None:
    """One record in a hundred is bad, of every kind that is; a worker is killed meanwhile"""
    bad = kinds(scene.dice)
    records = [each for click in scene.stream for each in ([click, next(bad)] if scene.dice.random() < SHARE else [click])]
    workers = scene.workers()
    with scene.load(records, max_request_size=4_000_000) as load:
        scene.progress(8_000)
        workers[0].kill()
        scene.over()
        workers[0].start()
        expected = scene.ends_exact(load)
    assert expected.fates["rejected"] > SHARE / 2 * expected.records


@experiment()
def poison_all(scene: Scene) -> None:
    """Every record is bad: counting stops and says why; told to go on, the workers count each of them as rejected"""
    bad = kinds(scene.dice)
    scene.deploy({"rejects_in_a_row_max": 500})
    workers = scene.workers()
    scene.backlog([next(bad) for _ in range(ALL)])
    for worker in workers:
        scene.until(lambda: "reject" in worker.get("/readyz").json()["detail"])  # noqa: B023
        worker.stop()
    config = scene.deployment.config
    config.write_text(config.read_text().replace("rejects_in_a_row_max: 500", "rejects_in_a_row_max: 1000000\n    reject_ratio_max: 1.0"))
    scene.over()
    scene.workers(*workers)
    expected = scene.exact(ALL)
    assert expected.fates == {"rejected": ALL}, f"some of it was good: {expected.fates}"
