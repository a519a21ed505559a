"""Two second opinions, written apart, are one opinion; and the books of the ledger are read and closed."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from schemas.config import Config, parse
from streams.recount import recount
from tests import oracle
from tests.books import Books, _named, assert_counts_exact, wrong_cells
from tests.oracle import Cell
from tests.oracle_events import Record

T0 = 1_700_000_000 // 3600 * 3600
MEASURES = {"reached": "users", **{family: family for family in ("users", "events", "value", "entries", "conversions")}}
CONDITIONS: tuple[Any, ...] = (
    "p", 1, True, [1, "q"], {">": 1}, {">=": 1, "<": 3}, {"exists": False}, {"exists": True}, {"matches": "^p"}, {"in": ["p", "true"]},
)  # fmt: skip
DIMENSIONS: tuple[dict[str, Any], ...] = (
    {},
    {"x": "properties.x"},
    {"x": {"field": "properties.x", "allow": ["1", "p"]}, "y": "properties.y", "xy": {"combine": ["x", "y"]}},
    {"y": "properties.y", "yx": {"combine": ["y", "x"], "allow": ["q / p", "r / __none__"]}, "x": "properties.x"},
)
PROPERTIES: dict[str, tuple[Any, ...]] = {
    "x": (1, "1", 1.0, "p", "q", True, None, "", [1], {"a": 1}, 2.5),
    "y": ("q", "r", 3, None),
    "k": (0, 1, 2, 3, "1", "2.0", "pq", None),
    "v": (1, 2.5, "3", "0.1", None, -1, "bad"),
}


def some_config(dice: random.Random) -> dict[str, Any]:
    """One to three funnels of all orders over the events a to d, with all that a funnel may have."""
    source = {"name": "web", "topic": "clicks", "allowed_lateness": dice.choice(["0s", "5s", "20s", "60s"])}
    return {"sources": [source], "funnels": [some_funnel(dice, f"f{n}") for n in range(dice.randint(1, 3))]}


def some_funnel(dice: random.Random, name: str) -> dict[str, Any]:
    stages = [
        {"name": f"s{i}", "event": dice.choice(["abcd"[i], dice.sample("abcd", 2)]), **some_where(dice)} for i in range(dice.randint(2, 4))
    ]
    dice.choice(stages)["value"] = "properties.v"
    order = dice.choice(["ordered", "any", "strict"])
    first = dice.randrange(len(stages) - 1)
    exclusion = {"event": dice.choice("xa"), "from": f"s{first}", "to": f"s{dice.randint(first + 1, len(stages) - 1)}", **some_where(dice)}
    return {
        "name": name,
        "source": "web",
        "order": order,
        "conversion_window": dice.choice(["5s", "20s", "60s", "1h"]),
        "windows": dice.sample(["10s", "1m", "1h", "24h", "7d"], 2),
        "dimensions": dice.choice(DIMENSIONS),
        "stages": stages,
        "exclude": [exclusion] if order != "any" and dice.random() < 0.6 else [],
    }


def some_where(dice: random.Random) -> dict[str, Any]:
    return {} if dice.random() < 0.7 else {"where": {f"properties.{dice.choice('xk')}": dice.choice(CONDITIONS)}}


def some_records(dice: random.Random, number: int, people: int) -> list[tuple[bytes, bytes]]:
    """Out of order, some of them late, twice, resent with another time, or bad."""
    found: list[tuple[bytes, bytes]] = []
    clock = 100
    while len(found) < number:
        clock += dice.choice([0, 0, 1, 1, 2, 5])
        user = f"u{dice.randrange(people)}"
        properties = {name: dice.choice(values) for name, values in PROPERTIES.items() if dice.random() < 0.6}
        at = T0 + clock - dice.choice([0, 0, 0, 0, 3, 7, 20, 45, 90])
        record = {"event": dice.choice("abcdabcdxy"), "timestamp": at, "user_id": user, "properties": properties}
        if dice.random() < 0.5:
            record["event_id"] = str(dice.randrange(30))
        found.append((user.encode(), json.dumps(record).encode()))
        if dice.random() < 0.1:
            found.append(dice.choice(found))
        if dice.random() < 0.02:
            found.append((user.encode(), b"{"))
    return found


@pytest.mark.parametrize("block", range(4))
def test_oracle_and_recount_agree_on_whatever_is_sent(block: int) -> None:
    """Every fate, total, window and age, by every value."""
    for seed in range(25 * block, 25 * (block + 1)):
        dice = random.Random(seed)
        said = some_config(dice)
        records = some_records(dice, dice.choice([10, 30, 80]), dice.choice([1, 3]))
        assert by_oracle(said, records) == by_recount(parse(json.dumps(said)), records), f"seed {seed}"


def by_recount(config: Config, records: list[tuple[bytes, bytes]]) -> dict[Any, float]:
    found = recount(config, "web", records)
    ages = {(f.name, stage, "age", bin_): n for f in config.funnels for (stage, bin_), n in found.ages(f).items()}
    return {name: number for name, number in {**found.cells(), **ages}.items() if number}


def by_oracle(said: dict[str, Any], records: list[tuple[bytes, bytes]]) -> dict[Any, float]:
    """The oracle's numbers by the recount's names."""
    truth = oracle.recount(said, in_one_partition(records))
    found: dict[Any, float] = {("fate", "web", fate): number for fate, number in truth.fates.items()}
    for funnel in said["funnels"]:
        splits = [("", ""), *((d, value) for d in funnel["dimensions"] for value in truth.values(funnel["name"], d))]
        for place, stage in enumerate(funnel["stages"]):
            for split in splits:
                for measure, family in MEASURES.items():
                    scale = 1_000_000 if family == "value" else 1
                    name = (funnel["name"], stage["name"], *split)
                    if measure != "users":
                        found[(*name, measure)] = truth.total(funnel["name"], family, place, split) / scale
                    if measure != "reached":
                        for window in funnel["windows"]:
                            found[(*name, f"{measure} {window}")] = truth.window(funnel["name"], family, place, window, split) / scale
    for cell, number in truth.cells.items():
        if cell.family.startswith("age:") and not cell.width:
            found[cell.funnel, f"s{cell.stage}", "age", int(cell.family[4:])] = number
    return {name: number for name, number in found.items() if number}


def in_one_partition(records: list[tuple[bytes, bytes]]) -> list[Record]:
    return [Record(0, offset, key, value) for offset, (key, value) in enumerate(records)]


ONE: dict[str, Any] = {
    "sources": [{"name": "web", "topic": "clicks"}],
    "funnels": [
        {
            "name": "f",
            "source": "web",
            "conversion_window": "1m",
            "windows": ["24h"],
            "dimensions": {"d": "properties.d"},
            "stages": [{"name": "s1", "event": "a"}, {"name": "s2", "event": "b"}],
        }
    ],
    "alerts": [{"name": "r", "funnel": "f", "stage": "s2", "window": "5m", "below": 0.5}],
}


def click(event: str, at: int, **more: Any) -> tuple[bytes, bytes]:
    return b"u", json.dumps({"event": event, "timestamp": T0 + at, "user_id": "u", **more}).encode()


def worked(*clicks: tuple[bytes, bytes]) -> oracle.Recount:
    return oracle.recount(ONE, in_one_partition(list(clicks)))


def test_entries_are_kept_by_the_hour_too_and_users_in_the_widths_of_windows_alone() -> None:
    """The window of a rule counts; ages have no dimension; a conversion into a stage lies where it happened."""
    cells = worked(click("a", 58, properties={"d": "x"}), click("b", 62)).cells
    widths = {family: {cell.width for cell in cells if cell.family == family} for family in {cell.family for cell in cells}}
    assert widths.pop("users") == widths.pop("events") == {0, 10, 60}
    assert widths == {family: {0, 10, 60, 3600} for family in ("entries", "conversions", "converted", "age:43")}
    minute = T0 // 60
    assert cells[Cell("f", "conversions", 0, "d", "x", 60, minute)] == cells[Cell("f", "converted", 1, "d", "x", 60, minute + 1)] == 1
    assert cells[Cell("f", "age:43", 1, "", "", 60, minute)] == 1
    assert not [cell for cell in cells if cell.family == "age:43" and cell.dimension]


def test_what_is_late_is_told_by_the_allowed_lateness() -> None:
    assert worked(click("a", 100), click("b", 40), click("b", 39)).fates == {"applied": 2, "late": 1}


def test_a_resent_event_counts_at_its_earliest_time() -> None:
    found = worked(click("a", 10, event_id="1"), click("a", 5, event_id="1"))
    assert found.fates == {"applied": 1, "duplicate": 1}
    assert found.cells[Cell("f", "users", 0, "", "", 10, T0 // 10)] == 1


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("u2", Cell("f", "users", 2)),
        ("n0\x1fchannel\x1fads", Cell("f", "events", 0, "channel", "ads")),
        ("v1", Cell("f", "value", 1)),
        ("e0", Cell("f", "entries", 0)),
        ("c0\x1fd\x1fa:b", Cell("f", "conversions", 0, "d", "a:b")),
        ("x12", Cell("f", "converted", 12)),
        ("h2:37", Cell("f", "age:37", 2)),
    ],
)
def test_a_cell_of_the_ledger_is_read_by_its_name(name: str, cell: Cell) -> None:
    assert _named("f", name) == cell


def books_of(found: oracle.Recount, **changes: Any) -> Books:
    kept = {("f", width): 0 for width in (10, 60, 3600)}
    return Books(**{"cells": found.cells, "fates": found.fates, "next": {"web:0": found.ends[0]}, "gone": 0, "oldest": kept} | changes)


def test_books_that_say_the_same_are_exact() -> None:
    found = worked(click("a", 0), click("b", 1), click("b", 1), click("x", 2))
    assert_counts_exact(found, books_of(found))


@pytest.mark.parametrize("fates", [{"applied": 1}, {"applied": 2, "late": 1}, {"applied": 2, "lost": 1}, {"applied": 1, "lost": 1}])
def test_the_fates_must_add_up_to_what_was_consumed(fates: dict[str, int]) -> None:
    found = worked(click("a", 0), click("b", 1))
    with pytest.raises(AssertionError, match="fate"):
        assert_counts_exact(found, books_of(found, fates=Counter(fates)))


def test_a_cell_that_should_not_be_there_is_wrong_unless_no_window_reaches_it() -> None:
    found = worked(click("a", 0))
    users_by_the_hour = Cell("f", "users", 0, "", "", 3600, T0 // 3600)
    more = found.cells + Counter({users_by_the_hour: 1})
    assert wrong_cells(found, books_of(found, cells=more)) == [f"{users_by_the_hour}: must be 0, is 1"]
    assert not wrong_cells(found, books_of(found, cells=more, oldest={("f", 3600): T0 // 3600 + 1}))
