"""What a person sees in a terminal: a progress bar, tables; plain text where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

REFRESH_SECONDS = 0.1
NUMERIC = frozenset("0123456789,.%–-")

Row = Sequence[str]


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[Callable[[], int]], None]]:
    """A bar on stderr. Call the yielded function as often as you like; it asks how far we are now and then."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total or None)
        shown = 0.0

        def advance(done: Callable[[], int]) -> None:
            nonlocal shown
            if time.monotonic() - shown >= REFRESH_SECONDS:
                shown = time.monotonic()
                progress.update(task, completed=done())

        yield advance


def print_table(headers: Row, rows: Sequence[Row], title: str = "") -> None:
    """A table on stdout; columns of numbers stand to the right."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(rich_table(headers, rows, title))
        return
    if title:
        sys.stdout.write(f"{title}\n")
    columns = [
        [cell.rjust(width) if right else cell.ljust(width) for cell in column]
        for column, right in zip(zip(headers, *rows, strict=True), _numeric(headers, rows), strict=True)
        for width in (max(map(len, column)),)
    ]
    for row in zip(*columns, strict=True):
        sys.stdout.write("  ".join(row).rstrip() + "\n")


def rich_table(headers: Row, rows: Sequence[Row], title: str = "") -> Table:
    """The same as something rich can draw."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title) or None, title_justify="left")
    for header, right in zip(headers, _numeric(headers, rows), strict=True):
        table.add_column(escape(header), justify="right" if right else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def ratio(rate: float | None) -> str:
    """A rate as a person reads it; a dash where there is none."""
    return "–" if rate is None else f"{rate:.1%}"


def number(amount: float) -> str:
    """A count or a sum, with thousands apart."""
    return f"{amount:,.2f}".removesuffix(".00")


def _numeric(headers: Row, rows: Sequence[Row]) -> list[bool]:
    """Which columns hold numbers and nothing else; without rows none does."""
    if not rows:
        return [False] * len(headers)
    return [all(not cell or set(cell) <= NUMERIC for cell in column) for column in zip(*rows, strict=True)]
