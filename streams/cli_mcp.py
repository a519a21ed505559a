"""`funnelwatch mcp`: the reports of a running service, for a language model that speaks the Model Context Protocol."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from schemas.errors import UsageError


def mcp(
    url: Annotated[
        str | None, typer.Option("--url", help="The service's address; by default that of FUNNELWATCH_WEB__HOST and __PORT.")
    ] = None,
) -> None:
    """Answer a language model's questions about the funnels, over stdin and stdout (MCP); reads only."""
    from importlib.metadata import version

    from streams.client import Funnelwatch

    try:
        from streams.mcp_server import server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"mcp", "mcp_types"}:
            raise
        raise UsageError(f"`funnelwatch mcp` needs the MCP SDK: {sys.executable} -m pip install 'mcp>=2'") from None
    with Funnelwatch(url) as service:
        server(service, version("funnelwatch")).run()
