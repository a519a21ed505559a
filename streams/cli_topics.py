"""`funnelwatch topics`: what a config needs in Kafka, and, when asked, its creation."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

DONE = {"exists": "is there", "create": "is missing", "differs": "differs"}


def topics(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="The config file.")],
    apply: Annotated[bool, typer.Option("--apply", help="Create what is missing; without it nothing is changed.")] = False,
    partitions: Annotated[int | None, typer.Option(min=1, max=10_000, help="Of a source's topic that is missing; 6 by default.")] = None,
    replication: Annotated[int | None, typer.Option(min=1, max=100, help="Copies of each; by default 3, or as many as brokers.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> int:
    """The topics that a config needs: which are there, which are missing, and, with --apply, create those.

    Exit 1 while some are missing, or have another number of partitions than they must.
    """
    import asyncio

    from schemas.config import load
    from schemas.settings import load_settings
    from streams.brokers import brokers_of
    from streams.console import print_table
    from streams.logs import quiet_libraries
    from streams.topics import topics as look

    quiet_libraries()
    brokers = brokers_of(load_settings().kafka)
    found, _ = asyncio.run(look(brokers, load(config), apply=apply, partitions=partitions, replicas=replication))
    state = DONE | ({"create": "created"} if apply else {})
    wrong = any(step.action == "differs" or (step.action == "create" and not apply) for step in found)
    if json_:
        typer.echo(json.dumps({"ok": not wrong, "applied": apply, "topics": [asdict(step) for step in found]}))
        return int(wrong)
    print_table(("topic", "for", "partitions", "state"), [(s.topic, s.role, str(s.partitions), state[s.action]) for s in found])
    for step in found:
        if step.note and (step.action != "create" or not apply):
            typer.echo(f"{step.topic}: {step.note}")
    if not apply and any(step.action == "create" for step in found):
        typer.echo("nothing was changed; --apply creates what is missing")
    return int(wrong)
