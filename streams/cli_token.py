"""`funnelwatch token`: make a token for a caller."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from schemas.errors import UsageError

token = typer.Typer(help="Tokens for those who ask the service.", no_args_is_help=True, rich_markup_mode=None)


@token.callback()
def token_() -> None:
    """Tokens for those who ask the service."""


@token.command("new")
def new(
    name: Annotated[str, typer.Option("--name", metavar="N", help="Whose it is; the audit log calls it so.")],
    scope: Annotated[list[str] | None, typer.Option("--scope", help="read (default), entities, metrics, admin; again for more.")] = None,
    funnel: Annotated[
        list[str] | None, typer.Option("--funnel", help="A funnel it shows, or a pattern; again for more. Default: all.")
    ] = None,
    expires: Annotated[str | None, typer.Option(metavar="DATE", help="Its last day, in UTC. Default: it does not expire.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Print a fresh token, once, and the lines for the config, which have only its hash."""
    from schemas.access import hash_of, new_token

    made = new_token()
    lines: dict[str, Any] = {"name": name, "hash": hash_of(made), "scopes": scope or ["read"]}
    lines |= {"funnels": funnel} if funnel else {}
    lines |= {"expires": expires} if expires else {}
    _check(lines)
    if json_:
        typer.echo(json.dumps({"token": made, "config": lines}, ensure_ascii=False))
        return
    typer.echo(f"{made}\n")
    written = "\n      ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in lines.items())
    typer.echo(
        f"# The token is above, and kept nowhere: give it to who will use it. For the config, under `access: tokens:`:\naccess:\n  tokens:\n    - {written}"
    )


def _check(lines: dict[str, Any]) -> None:
    from pydantic import ValidationError

    from schemas.access import Token

    try:
        Token.model_validate(lines)
    except ValidationError as error:
        first = error.errors()[0]
        field, said = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        raise UsageError(f"--{field if field in ('name', 'expires') else field.removesuffix('s')}: {said}") from None
