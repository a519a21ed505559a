"""`funnelwatch mcp` where it cannot run; what it answers is in tests/integration/test_mcp.py."""

from __future__ import annotations

import sys

import pytest

from streams.cli import run


def test_without_the_sdk_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    monkeypatch.delitem(sys.modules, "streams.mcp_server", raising=False)
    assert run(["mcp"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"error: `funnelwatch mcp` needs the MCP SDK: {sys.executable} -m pip install 'mcp>=2'\n"
