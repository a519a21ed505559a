"""The recount follows semantics' words: the worked table, identity, dimensions, windows, comparing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.config import Config, parse
from streams.recount import Recount, compare, recount

T0 = 1_700_000_000 // 3600 * 3600


def config(stages: str = "abc", window: str = "60s", extra: str = "") -> Config:
    listed = "".join(f"\n      - {{name: s{i}, event: {event}}}" for i, event in enumerate(stages, 1))
    return parse(f"""
sources: [{{name: web, topic: clicks}}]
funnels:
  - name: f
    source: web
    conversion_window: {window}
    windows: [10s, 1m, 24h]{extra}
    stages:{listed}
""")


def event(name: str, at: float, user: str = "u", **more: Any) -> tuple[bytes, bytes]:
    return user.encode(), json.dumps({"event": name, "timestamp": T0 + at, "user_id": user, **more}).encode()


def run(events: str, stages: str = "abc") -> str:
    """Reaches of one entity, as the table of semantics writes them: stage number at second."""
    records = [event(one.split("@")[0], float(one.split("@")[1])) for one in events.split()]
    found = recount(config(stages), "web", records).reaches["f"]
    return " ".join(f"{r.stage + 1}@{r.at_us // 1_000_000 - T0}" for r in found)


@pytest.mark.parametrize(
    ("events", "reaches"),
    [
        ("a@0 b@10 c@60", "1@0 2@10 3@60"),
        ("a@0 b@10 c@61", "1@0 2@10"),
        ("a@0 a@30 b@40 c@80", "1@0 1@30 2@40 3@80"),
        ("b@0 a@10 c@20", "1@10"),
        ("b@5 a@5", "1@5 2@5"),
        ("a@0 b@10 b@20", "1@0 2@10 2@20"),
        ("a@0 c@10 b@20", "1@0 2@20"),
    ],
)
def test_the_worked_table_of_semantics(events: str, reaches: str) -> None:
    assert run(events) == reaches


def test_an_event_of_two_stages_completes_a_chain_and_opens_another_but_never_chains_onto_itself() -> None:
    assert run("p@0 p@5 p@100", stages="pp") == "1@0 2@5 1@5 1@100"


def test_the_order_of_production_does_not_matter_to_the_reaches() -> None:
    assert run("c@60 b@10 a@0") == run("a@0 b@10 c@60")


def cells(records: list[tuple[bytes, bytes]], made: Config | None = None) -> Recount:
    return recount(made or config(), "web", records)


def test_users_are_counted_where_their_latest_reach_lies() -> None:
    found = cells([event("a", 0), event("a", 95), event("a", 5, "v"), event("a", 100, "w")]).cells()
    assert found["f", "s1", "", "", "users 10s"] == 1  # T is 100: only w, in the bucket from 100
    assert found["f", "s1", "", "", "users 1m"] == 2  # the buckets from 50 on: u by its second reach, w
    assert found["f", "s1", "", "", "users 24h"] == found["f", "s1", "", "", "reached"] == 3
    assert found["f", "s1", "", "", "events 1m"] == 2
    assert found["f", "s1", "", "", "events"] == 4


def test_windows_can_be_asked_as_of_another_time() -> None:
    assert cells([event("a", 0)]).cells(at_us=(T0 + 60) * 1_000_000)["f", "s1", "", "", "users 1m"] == 0


def test_a_repeated_event_id_changes_nothing() -> None:
    found = cells([event("a", 0, event_id="1"), event("a", 0, event_id="1"), event("a", 0, "v", event_id="1")])
    assert found.fates["duplicate"] == 1
    assert found.cells()["f", "s1", "", "", "events"] == 2


def test_without_an_event_id_the_same_bytes_are_the_same_event() -> None:
    assert cells([event("a", 0), event("a", 0), event("a", 0, tab=2)]).fates["duplicate"] == 1


def test_the_same_event_id_beyond_the_allowed_lateness_is_another_event() -> None:
    assert cells([event("a", 0, event_id="1"), event("a", 61, event_id="1")]).fates["applied"] == 2


def test_every_record_has_one_fate() -> None:
    rejected = [
        (b"u", b"no json"),
        (b"u", b"[]"),
        (b"v", event("a", 0)[1]),
        (None, event("a", 0)[1]),
        (b"u", b'{"event": "a", "timestamp": 1}'),
    ]
    found = recount(config(), "web", [*rejected, event("x", 500), event("a", 0), event("a", 0)])
    assert found.fates == {"rejected": 5, "filtered": 1, "late": 0, "duplicate": 1, "applied": 1}
    assert found.at_us == (T0 + 500) * 1_000_000  # filtered events move time too


def test_keys_are_not_looked_at_where_there_are_none() -> None:
    assert recount(config(), "web", [(None, event("a", 0)[1])], keyed=False).fates["applied"] == 1


def test_a_chain_carries_the_value_of_its_start_and_values_add_up_to_the_total() -> None:
    made = config(extra="\n    dimensions: {d: {field: properties.d, allow: [x, y]}}")
    records = [
        event("a", 0, properties={"d": "x"}),
        event("b", 1, properties={"d": "y"}),
        event("a", 0, "v", properties={"d": "z"}),
        event("a", 0, "w"),
    ]
    found = cells(records, made).cells()
    assert found["f", "s2", "d", "x", "events"] == 1
    assert [found["f", "s1", "d", value, "reached"] for value in ("x", "__other__", "__none__")] == [1, 1, 1]


def test_values_beyond_the_cap_are_other() -> None:
    made = config(extra="\n    dimensions: {d: {field: properties.d, max_values: 1}}")
    found = cells([event("a", 0, properties={"d": "x"}), event("a", 0, "v", properties={"d": "y"})], made).cells()
    assert (found["f", "s1", "d", "x", "events"], found["f", "s1", "d", "__other__", "events"]) == (1, 1)


def test_value_is_summed_exactly_and_a_value_that_is_no_number_is_rejected() -> None:
    made = parse("""
sources: [{name: web, topic: clicks}]
funnels:
  - {name: f, source: web, conversion_window: 1m, windows: [1m], stages: [{name: s1, event: a, value: properties.v}, {name: s2, event: b}]}
""")
    values = [0.1, "0.2", None, "dear", True]
    found = cells([event("a", i, properties={"v": value}) for i, value in enumerate(values)], made)
    assert found.fates["rejected"] == 2
    assert found.cells()["f", "s1", "", "", "value"] == 0.3


def test_comparing_sums_shortfalls_and_excesses_apart() -> None:
    expected = {("f", "users"): 5.0, ("f", "events"): 7.0, ("f", "value"): 0.3}
    assert compare(expected, expected | {("f", "value"): 0.1 + 0.2}) == (0, 0)
    assert compare(expected, {("f", "users"): 3, ("f", "events"): 8, ("f", "value"): 0.3, ("f", "ghost"): 2}) == (2, 3)
    assert compare(expected, {("f", "users"): 5, ("f", "events"): 7}) == (1, 0)  # 0.3 of value gone counts as one
