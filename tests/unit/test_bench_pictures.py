"""The pictures of the bench's page: drawn from its tables, well-formed, with every name and number in its place."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.bench.markdown import table
from tests.bench.pictures import PICTURES, number, pictures, tables, write
from tests.bench.svg import Axis, Line, bars, lines, spoken

SVG = "{http://www.w3.org/2000/svg}"
HEADER = ("", "µs an event", "middle half", "times the first", "middle half")
X, Y = Axis("people", log=True), Axis("µs")


def row(name: str, micros: str) -> tuple[str, ...]:
    return name, micros, "1.00–2.00", "1.00", "1.00–1.00"


PAGE = [
    "# Bench",
    "By people: a step a turn, so that every state is met cold",
    "",
    *table(HEADER, [row("10,000", "5.00"), row("10,000,000", "5.50")]),
    "",
    "15 rounds; claim: at most 1.15 times the first: 1.10, held",
    "By people: a walk a turn, as people do",
    *table(HEADER, [row("10,000", "4.00"), row("1,000,000", "4.20")]),
    "By windows",
    *table(HEADER, [row("1: 5m", "3.00"), row("12: 1m to 7d", "3.10")]),
]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def dots(svg: str) -> list[tuple[float, float]]:
    return [(float(e.attrib["cx"]), float(e.attrib["cy"])) for e in ET.fromstring(svg).iter(f"{SVG}circle")]


def test_every_table_is_found_with_what_stands_before_it() -> None:
    found = list(tables(PAGE))
    assert [one.before for one in found] == [PAGE[1], "By people: a walk a turn, as people do", "By windows"]
    assert found[0].points() == [(10_000, 5.0), (10_000_000, 5.5)]


@pytest.mark.parametrize(("cell", "value"), [("1,234,567 (a Redis core)", 1_234_567), ("0.25", 0.25), ("12: 1m to 7d", 12), ("none", 0)])
def test_a_cell_begins_with_its_number_or_has_none(cell: str, value: float) -> None:
    assert number(cell) == value


def test_only_what_the_page_has_tables_for_is_drawn(tmp_path: Path) -> None:
    assert set(pictures(PAGE)) == {"people", "windows"}
    assert [file.name for file in write(PAGE, tmp_path / "bench")] == ["people.svg", "windows.svg"]
    assert pictures([]) == {}
    assert set(pictures(PAGE)) <= set(PICTURES)


def test_lines_have_their_names_and_axes_their_units() -> None:
    shown = texts(pictures(PAGE)["people"])
    for expected in ("everybody met cold", "people on their walks", "people whose states are held", "CPU an event, µs", "10k", "10M"):
        assert expected in shown


def test_ten_times_as_many_are_as_far_apart_everywhere_on_a_logarithmic_axis() -> None:
    (a, _), (b, _), (c, _) = dots(lines("", "", X, Y, [Line("", [(10, 1), (100, 1), (1000, 1)])]))
    assert b - a == pytest.approx(c - b, abs=0.1)


def test_a_linear_axis_begins_at_zero() -> None:
    (_, one), (_, two) = dots(lines("", "", X, Y, [Line("", [(10, 1), (100, 2)])]))
    ground = one + (one - two)
    (_, three), *_ = dots(lines("", "", X, Y, [Line("", [(10, 0), (100, 2)])]))
    assert three == pytest.approx(ground, abs=0.1)


def test_names_do_not_lie_upon_each_other() -> None:
    svg = lines("", "", X, Y, [Line(name, [(10, 1.0), (100, 1.0)]) for name in ("one", "two", "three")])
    heights = sorted(float(e.attrib["y"]) for e in ET.fromstring(svg).iter(f"{SVG}text") if e.text in {"one", "two", "three"})
    assert heights[1] - heights[0] >= 14
    assert heights[2] - heights[1] >= 14


def test_bars_are_as_long_as_their_values_and_say_them() -> None:
    svg = bars("", "", "B", [("few", [("in Redis", 50.0)]), ("many <&>", [("in Redis", 100.0)])])
    widths = [float(e.attrib["width"]) for e in ET.fromstring(svg).iter(f"{SVG}rect")]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert {"50 B in Redis", "100 B", "many <&>"} <= set(texts(svg))


def test_both_colour_schemes_are_in_it() -> None:
    assert "prefers-color-scheme: dark" in bars("", "", "", [("a", [("", 1.0)])])


@pytest.mark.parametrize(("value", "text"), [(1_200_000, "1.2M"), (50_000, "50k"), (1_234, "1,234"), (7.25, "7.25"), (0.5, "0.5")])
def test_numbers_are_said_briefly(value: float, text: str) -> None:
    assert spoken(value) == text
