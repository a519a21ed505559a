"""What the demo shows while it runs: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from streams.console import number, ratio, rich_table
from streams.tables import RATES_HEADERS, rates_rows, rates_title

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

LINE_EVERY_SECONDS = 5.0


class View(Protocol):
    """Where the demo's news and numbers go."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def say(self, news: str, style: str = "") -> None:
        """A line that stays."""
        ...

    def show(self, report: Mapping[str, Any], produced: int) -> None:
        """The latest report (a FunnelReport as JSON)."""
        ...


def view() -> View:
    return LiveView() if sys.stdout.isatty() else PlainView()


class PlainView:
    """Lines of plain text."""

    def __init__(self) -> None:
        self._shown = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stdout.flush()

    def say(self, news: str, style: str = "") -> None:  # noqa: ARG002  # plain text has no style
        sys.stdout.write(f"{stamped(news)}\n")
        sys.stdout.flush()

    def show(self, report: Mapping[str, Any], produced: int) -> None:
        if time.monotonic() - self._shown >= LINE_EVERY_SECONDS:
            self._shown = time.monotonic()
            self.say(f"{in_one_line(report)}; {produced:,} events produced")


class LiveView:
    """A table that is drawn anew in place, the news above it."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def say(self, news: str, style: str = "") -> None:
        self._live.console.print(stamped(news), style=style, markup=False, highlight=False)

    def show(self, report: Mapping[str, Any], produced: int) -> None:
        table = rich_table(RATES_HEADERS, list(rates_rows(report)), rates_title(report))
        table.caption = f"{produced:,} events produced"
        self._live.update(table)


def stamped(news: str) -> str:
    return f"{time.strftime('%H:%M:%S')}  {news}"


def in_one_line(report: Mapping[str, Any]) -> str:
    """The stages' users in a window, and the rate of each step."""
    parts = [f"{s['name']} {number(s['users'])}{' (' + ratio(s['step']['rate']) + ')' if s['step'] else ''}" for s in report["stages"]]
    return f"last {report['window']}: {' → '.join(parts)}"


def transition_line(one: Mapping[str, Any]) -> tuple[str, str]:
    """A transition in words, and a style that fits."""
    mark, style = {"firing": ("ALERT FIRES", "bold red"), "resolved": ("alert resolves", "bold green")}.get(
        one["state"], (f"alert {one['state']}", "yellow")
    )
    where = f"{one['funnel']}/{one['stage']}" + (f" {one['dimension']}={one['value']}" if one["dimension"] else "")
    parts = f"{one['numerator']:,} of {one['denominator']:,}, {ratio(one['rate'])}, threshold {ratio(one['threshold'])}"
    return f"{mark}: {one['rule']} on {where}: {parts} at {one['at'][11:19]}", style
