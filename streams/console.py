"""What a person sees in a terminal: a progress bar, tables; plain text where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

REFRESH_SECONDS = 0.1


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[Callable[[], int]], None]]:
    """A bar on stderr. Call the yielded function as often as you like; it asks how far we are now and then."""
    if not sys.stderr.isatty():
        yield lambda done: None
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


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """A table on stdout: the first column to the left, numbers to the right."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(rich_table(headers, rows, title))
        return
    if title:
        print(title)
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())


def rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> object:
    """The same as something rich can draw."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title) or None, title_justify="left")
    for place, header in enumerate(headers):
        table.add_column(escape(header), justify="right" if place else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def ratio(rate: float | None) -> str:
    """A rate as a person reads it; a dash where there is none."""
    return "–" if rate is None else f"{rate:.1%}"


def number(amount: float) -> str:
    return f"{amount:,.2f}".removesuffix(".00")
