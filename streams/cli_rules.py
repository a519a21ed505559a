"""`funnelwatch rules`: the config's rules for those who alert from Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import UsageError


def rules(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The config file.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Write the files there instead of printing them.")] = None,
    job: Annotated[
        str, typer.Option("--job", metavar="NAME", help="The `job` under which Prometheus scrapes the workers.")
    ] = "funnelwatch",
    runbooks: Annotated[
        str, typer.Option("--runbooks", metavar="URL", help="Where the folder deploy/runbooks can be read, for `runbook_url`.")
    ] = "deploy/runbooks",
) -> None:
    """Recording and alerting rules of Prometheus with the meaning of the config's, tests of them, and what they cannot express."""
    from alerting.prometheus_files import files, limits
    from schemas.config import load

    loaded = load(config)
    written = files(loaded, job, runbooks)
    if out is None:
        for name, text in written.items():
            typer.echo(f"--- # {name}\n{text}", nl=False)
    else:
        _write(out, written)
        for name in written:
            typer.echo(f"wrote {out / name}")
    typer.echo("what Prometheus cannot express:", err=out is None)
    for line in limits(loaded):
        typer.echo(f"  {line}", err=out is None)


def _write(folder: Path, written: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); name a folder that can be") from None
