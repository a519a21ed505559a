"""`python -m tests.bench.pictures PAGE FOLDER`: the tables of the bench's page as pictures.

They are drawn from the very text of the tables, so that page and pictures say the same. A picture whose table is not in the page
is left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.svg import Axis, Line, bars, lines

OF_WORK = "the worker's own work, without servers"
MICROS = "CPU an event, µs"
PEOPLE_STEPS, PEOPLE_WALKS = "By people: a step a turn", "By people: a walk a turn"
OTHER_FUNNELS, MATCHING_FUNNELS = "By other funnels", "By funnels that every event matters to"
DIMENSIONS, WINDOWS = "By dimensions", "By windows"
SPLIT = "One worker, the same events in more partitions"
MEMORY = "(names of"
MACHINES = "that work, of workers, Redis and Kafka"
LOOK_AT_OTHERS = re.compile(r"(\d+) that look at other events")


@dataclass(frozen=True)
class Table:
    """A Markdown table, and the last line of text before it."""

    before: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def numbers(self, column: int) -> list[float]:
        return [number(row[column]) for row in self.rows]

    def points(self, column: int = 1) -> list[tuple[float, float]]:
        """The first column's numbers and another's."""
        return [*zip(self.numbers(0), self.numbers(column))]


def tables(page: Iterable[str]) -> Iterator[Table]:
    """All tables of a page."""
    before, found = "", []
    for line in (*page, ""):
        if line.startswith("|"):
            found.append([cell.strip() for cell in line.strip().strip("|").split("|")])
        elif found:
            yield Table(before, found[0], found[2:])
            found = []
        if line.strip() and not line.startswith("|"):
            before = line.strip()


def number(cell: str) -> float:
    """The first number of a cell."""
    found = re.search(r"[\d,]+(\.\d+)?", cell)
    return float(found[0].replace(",", "")) if found else 0.0


class _Page:
    """The tables by what stands before them."""

    def __init__(self, page: Iterable[str]) -> None:
        self._tables = list(tables(page))

    def __getitem__(self, before: str) -> Table:
        """Raises KeyError."""
        for table in self._tables:
            if table.before.startswith(before):
                return table
        raise KeyError(before)


def people(page: _Page) -> str:
    """Cost against people."""
    cold = page[PEOPLE_STEPS].points()
    shown = [Line("everybody met cold", cold), Line("people on their walks", page[PEOPLE_WALKS].points())]
    message = f"{_times([cost for _, cost in cold])} as much with {cold[-1][0] / cold[0][0]:,.0f} times as many; {OF_WORK}"
    return lines("What an event costs, by people", message, Axis("people whose states are held", log=True), Axis(MICROS), shown)


def funnels(page: _Page) -> str:
    """Cost against funnels, of use to the event or not."""
    others, matching = page[OTHER_FUNNELS], page[MATCHING_FUNNELS]
    along = [(1.0, others.numbers(1)[0])]
    for row in others.rows:
        if found := LOOK_AT_OTHERS.fullmatch(row[0]):
            along.append((1.0 + int(found[1]), number(row[1])))
    shown = [Line("all match every event", matching.points()), Line("only one matches", along)]
    spent = (_times(matching.numbers(1)), _times([cost for _, cost in along]))
    message = f"{matching.rows[-1][0]} that match cost {spent[0]} as much as one, others {spent[1]}; {OF_WORK}"
    return lines("What an event costs, by funnels", message, Axis("funnels on the source", log=True), Axis(MICROS, log=True), shown)


def dimensions(page: _Page) -> str:
    """Cost against dimensions and values."""
    found = page[DIMENSIONS]
    message = f"{found.rows[-1][0].partition(' ')[0]} cost {_times(found.numbers(1))} as much as none; {OF_WORK}"
    return bars("What an event costs, by dimensions of the funnel", message, "µs", _single(found))


def windows(page: _Page) -> str:
    """Cost against windows."""
    found = page[WINDOWS]
    message = f"{found.rows[-1][0].partition(':')[0]} cost {_times(found.numbers(1))} as much as one; {OF_WORK}"
    return bars("What an event costs, by windows of the funnel", message, "µs", _single(found))


def partitions(page: _Page) -> str:
    """Cost against partitions, of the whole worker and of both servers."""
    split = page[SPLIT]
    shown = [Line(name, split.points(column)) for column, name in enumerate(("one worker", "Redis", "Kafka"), start=2)]
    message = "one worker drains a backlog: the more partitions, the smaller the chunks"
    return lines("What an event costs, by partitions", message, Axis("partitions of the topic", log=True), Axis(MICROS), shown)


def memory(page: _Page) -> str:
    """Bytes an entity."""
    rows = [
        (row[0], (("in the worker", number(row[3])), ("in Redis", number(row[2]))))
        for row in page[MEMORY].rows
        if "dimension" in row[0] and "once" not in row[0]
    ]
    return bars("What an entity takes", "bytes of memory, before its state is brought to rest", "B", rows)


def machines(page: _Page) -> str:
    """What the model foretells."""
    found = page[MACHINES]
    of_nodes = [(place, name) for place, name in enumerate(found.header) if re.fullmatch(r"\d+ Redis", name)]
    shown = [Line(f"{name} node{'' if name == '1 Redis' else 's'}", _positive(found.points(place))) for place, name in of_nodes]
    best = Line("as many as it takes", _positive(found.points(found.header.index("events/s"))))
    x, y = Axis("machines with workers", log=True), Axis("events a second", log=True)
    message = "by nodes of the Redis Cluster; where a line bends down, workers read more of Redis than it has time for"
    return lines("What many machines do, says the model", message, x, y, [*shown, best])


def _times(costs: Sequence[float]) -> str:
    """The last, of the first."""
    return f"{costs[-1] / costs[0]:.3g} times"


def _single(table: Table) -> list[tuple[str, list[tuple[str, float]]]]:
    return [(row[0], [("", number(row[1]))]) for row in table.rows]


def _positive(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A logarithm has no place for those who do nothing."""
    return [point for point in points if point[1] > 0]


PICTURES: Mapping[str, Callable[[_Page], str]] = {
    "people": people,
    "funnels": funnels,
    "dimensions": dimensions,
    "windows": windows,
    "partitions": partitions,
    "memory": memory,
    "machines": machines,
}


def pictures(page: Iterable[str]) -> dict[str, str]:
    """SVG by name, of every table that there is."""
    found, drawn = _Page(page), {}
    for name, draw in PICTURES.items():
        try:
            drawn[name] = draw(found)
        except KeyError:
            continue
    return drawn


def write(page: Iterable[str], folder: Path) -> list[Path]:
    """Draw what the page has tables for; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, text in pictures(page).items():
        files.append(folder / f"{name}.svg")
        files[-1].write_text(text, "utf-8")
    return files


def main() -> None:
    page, folder = map(Path, sys.argv[1:])
    for file in write(page.read_text("utf-8").splitlines(), folder):
        print(file)


if __name__ == "__main__":
    main()
