"""The MCP server: a few read-only tools over a running service, for a language model to answer questions with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from schemas.answers import AlertsNow, FunnelList, FunnelNow, FunnelPast, Meanings, WhatChanged
from schemas.errors import FunnelwatchError
from streams import in_words
from streams.client import Funnelwatch

Answer = TypeVar("Answer")

INSTRUCTIONS = (
    "funnelwatch counts how many people go from stage to stage of a funnel, live. Begin with list_funnels, which also tells the time the "
    "numbers are about. For what got worse or better since a time, and for whom (device, channel, ...), call what_changed: it compares "
    "periods and tests every difference, so do not compare rates yourself. Say numbers with what they are out of, and do not call a "
    "difference real unless it is significant. What a number means, explain_number says."
)
READ_ONLY = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

Since = Annotated[str, Field(description="noon, 14:30 (today, this machine's clock), 3h (ago), or ISO 8601 with an offset", max_length=40)]
Name = Annotated[str, Field(description="the funnel's name, from list_funnels", max_length=64)]
Window = Annotated[str | None, Field(description="a trailing window of the funnel, such as 5m or 1h; by default its first", max_length=12)]
Basis = Annotated[
    str,
    Field(
        description="users (people at one stage ÷ at the one before), entries (finished only) or adjusted (each entry at its age)",
        max_length=12,
    ),
]
By = Annotated[str | None, Field(description="a dimension of the funnel, such as device", max_length=64)]


def server(service: Funnelwatch, version: str) -> MCPServer[object]:
    """The tools over a service; `run()` serves them over stdin and stdout."""
    made: MCPServer[object] = MCPServer("funnelwatch", instructions=INSTRUCTIONS, version=version, log_level="WARNING")

    @made.tool(annotations=READ_ONLY)
    def list_funnels() -> FunnelList:
        """Every funnel: its stages, windows, dimensions and overall rate, and the time the numbers are about."""
        return _answered(lambda: in_words.list_funnels(service))

    @made.tool(annotations=READ_ONLY)
    def what_changed(
        since: Since,
        funnel: Annotated[str | None, Field(description="only this funnel; by default all", max_length=64)] = None,
        against: Annotated[
            str, Field(description="compare with: previous (as long before), yesterday or last_week (the same hours)", max_length=12)
        ] = "previous",
    ) -> WhatChanged:
        """Which steps got worse or better since a time, and at which device, channel, ...: compared, tested and ranked by what it costs."""
        return _answered(lambda: in_words.changes(service, since, funnel, against))

    @made.tool(annotations=READ_ONLY)
    def funnel_report(funnel: Name, window: Window = None, basis: Basis = "users", by: By = None) -> FunnelNow:
        """A funnel now: people at each stage over a trailing window, the rate of every step, targets; by values of a dimension if asked."""
        return _answered(lambda: in_words.funnel_report(service, funnel, window, basis, by))

    @made.tool(annotations=READ_ONLY)
    def history(
        funnel: Name,
        since: Since = "3h",
        window: Window = None,
        basis: Basis = "users",
        by: By = None,
        value: Annotated[str | None, Field(description="with `by`: the value, such as android", max_length=131)] = None,
    ) -> FunnelPast:
        """How a funnel's rates went since a time: at most 60 points, of everybody or of one value of a dimension."""
        return _answered(lambda: in_words.past(service, funnel, since, window, basis, by, value))

    @made.tool(annotations=READ_ONLY)
    def alerts() -> AlertsNow:
        """The alerts that fire or are about to, and the last changes."""
        return _answered(lambda: in_words.alerts(service))

    @made.tool(annotations=READ_ONLY)
    def explain_number(
        word: Annotated[
            str,
            Field(
                description="a funnel, stage, alert or dimension by its name, or a word such as users, entries, adjusted", max_length=100
            ),
        ],
        funnel: Annotated[str | None, Field(description="only of this funnel", max_length=64)] = None,
    ) -> Meanings:
        """What a number, a stage or an alert means and how it is counted, from the dictionary of the configuration."""
        return _answered(lambda: in_words.meanings(service.dictionary(), word, funnel))

    return made


def _answered(ask: Callable[[], Answer]) -> Answer:
    """An answer, or what is wrong in words that a model can act on."""
    try:
        return ask()
    except FunnelwatchError as error:
        raise ToolError(str(error)) from None
