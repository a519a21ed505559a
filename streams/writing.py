"""What a command makes goes to a file or to stdout."""

from __future__ import annotations

from pathlib import Path

import typer

from schemas.errors import UsageError

STDOUT = Path("-")


def write(text: str, out: Path | None) -> None:
    """To stdout where `out` is None or STDOUT. Raises UsageError."""
    if out is None or out == STDOUT:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}); name another file with --out") from None
