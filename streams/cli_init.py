"""`funnelwatch init`: a first config, from a template, or from what a topic or a file holds."""

from __future__ import annotations

from enum import Enum
from importlib import resources
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import UsageError
from streams.writing import STDOUT, write

if TYPE_CHECKING:
    from streams.proposing import Proposal


class Template(str, Enum):
    """Lines of business that there is a template for."""

    ecommerce = "ecommerce"
    saas = "saas"
    education = "education"
    healthcare = "healthcare"
    manufacturing = "manufacturing"
    content = "content"


def init(
    template: Annotated[Template | None, typer.Option(help="A commented config for this line of business.")] = None,
    from_topic: Annotated[str | None, typer.Option(metavar="TOPIC", help="Look at a Kafka topic and propose a config for it.")] = None,
    from_file: Annotated[Path | None, typer.Option(metavar="EVENTS", help="The same of a file, JSONL or CSV; .gz as it is.")] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the config; - prints it.")] = Path("funnel.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    records: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many records to look at, the newest of a topic.")] = 20_000,
    brokers: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="By default FUNNELWATCH_KAFKA__BROKERS.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", metavar="jsonl|csv", help="The file's format, if its name does not tell.")
    ] = None,
) -> None:
    """Write a first config: from a template, or proposed from what a topic or a file holds."""
    given = [
        name for name, value in (("--template", template), ("--from-topic", from_topic), ("--from-file", from_file)) if value is not None
    ]
    if len(given) != 1:
        said = f"give one of {' and '.join(given)}" if given else "say where from"
        raise UsageError(f"{said}: --template NAME, --from-topic TOPIC, or --from-file EVENTS")
    _refuse_to_overwrite(out, force=force)
    if template is not None:
        write(text_of(template.value), out)
        _next(out, f"funnelwatch worker --config {quote(str(out))}")
    elif from_topic is not None:
        _propose(_looked_at_topic(from_topic, records, brokers), out)
        _next(out, f"funnelwatch worker --config {quote(str(out))}")
    elif from_file is not None:
        _propose(_looked_at_file(from_file, records, format_), out)
        _next(out, f"funnelwatch replay {quote(str(from_file))} --config {quote(str(out))}")


def text_of(template: str) -> str:
    """The config of a template."""
    return (resources.files("streams") / "templates" / f"{template}.yaml").read_text("utf-8")


def _looked_at_topic(topic: str, records: int, brokers: str | None) -> Proposal:
    from schemas.settings import load_settings
    from streams.brokers import brokers_of
    from streams.sampling import sample_of_topic

    settings = load_settings()
    ours = brokers_of(settings.kafka)
    return sample_of_topic(ours.at(brokers) if brokers else ours, topic, records, settings.registry)


def _looked_at_file(file: Path, records: int, form: str | None) -> Proposal:
    from streams.sampling import sample_of_file

    return sample_of_file(file, form, records)


def _propose(proposal: Proposal, out: Path) -> None:
    write(proposal.text, out)
    for line in proposal.notes:
        typer.echo(line, err=True)


def _refuse_to_overwrite(out: Path, *, force: bool) -> None:
    if out != STDOUT and out.exists() and not force:
        raise UsageError(f"{out} is there already; name another file with --out, or write over it with --force")


def _next(out: Path, last: str) -> None:
    if out == STDOUT:
        return
    file = quote(str(out))
    typer.echo(f"wrote {out}; read its comments, change what is yours, then:")
    for command in (f"funnelwatch check {file}", f"funnelwatch dictionary --config {file}", last):
        typer.echo(f"  {command}")
