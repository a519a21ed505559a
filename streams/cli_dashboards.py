"""`funnelwatch dashboards`: the config's funnels in Grafana."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import UsageError

NEEDS = "needs grafana-foundation-sdk, and that Python 3.11 or later: pip install 'funnelwatch[grafana]'"


def dashboards(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The config file.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Write overview.json, funnel.json and pipeline.json there.")],
    page: Annotated[
        str | None, typer.Option("--page", metavar="URL", help="Where people open funnelwatch's page; default: FUNNELWATCH_WEB__URL.")
    ] = None,
    runbooks: Annotated[
        str, typer.Option("--runbooks", metavar="URL", help="Where the folder deploy/runbooks can be read; linked if it is a URL.")
    ] = "deploy/runbooks",
) -> None:
    """Grafana dashboards of a config: all funnels, one funnel by dimension, the pipeline's health; targets become thresholds."""
    from schemas.config import load
    from schemas.settings import load_settings

    try:
        from streams import dashboards as made
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("grafana_foundation_sdk"):
            raise
        raise UsageError(NEEDS) from None
    address = page or load_settings().web.url or made.Addresses.page
    written = made.dashboards(load(config), made.Addresses(address, runbooks))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (out / name).write_text(text, "utf-8")
            typer.echo(f"wrote {out / name}")
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}); name a folder that can be") from None
