"""`funnelwatch silence` and `funnelwatch alerts`: what people ask a running service about its alerts, and tell it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from streams.console import Row

Model = TypeVar("Model", bound="BaseModel")

silence = typer.Typer(help="Hold alerts back for a while: add, list, expire.", no_args_is_help=True, rich_markup_mode=None)
alerts = typer.Typer(help="Where the rules stand; acknowledge; what could not be delivered.", rich_markup_mode=None)

Url = Annotated[str | None, typer.Option("--url", help="The service's address; by default that of FUNNELWATCH_WEB__HOST and __PORT.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
AuthorOption = Annotated[str | None, typer.Option("--author", help="Who does it; by default the name you are logged in under.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")]

SILENCES = ("id", "state", "what", "starts", "ends", "author", "reason")
ALERTS = ("rule", "of", "state", "data", "since", "rate", "threshold", "flaps", "acknowledged", "silenced by")
LETTERS = ("id", "status", "title", "given up", "tries", "error")
AUDIT = ("at", "author", "action", "subject", "detail", "reason")


@silence.command("add")
def silence_add(
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")],
    for_: Annotated[str | None, typer.Option("--for", metavar="2h", help="How long it holds.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="When it ends, instead of --for.")] = None,
    starts: Annotated[str | None, typer.Option("--from", metavar="TIME", help="When it begins, for a maintenance window; now.")] = None,
    rule: Annotated[str | None, typer.Option(help="Rules; * and ? stand for anything. FunnelwatchPipeline is one too.")] = None,
    funnel: Annotated[str | None, typer.Option(help="Funnels.")] = None,
    stage: Annotated[str | None, typer.Option(help="Stages.")] = None,
    dimension: Annotated[str | None, typer.Option(help="Dimensions; the total has none.")] = None,
    value: Annotated[str | None, typer.Option(help="Values of a dimension.")] = None,
    author: AuthorOption = None,
    url: Url = None,
) -> None:
    """Tell nobody of the alerts that match everything named; what still fires at the end is told then."""
    from schemas.silence import NewSilence
    from streams.client import Funnelwatch

    parts = {"rule": rule, "funnel": funnel, "stage": stage, "dimension": dimension, "value": value}
    matchers = {part: pattern for part, pattern in parts.items() if pattern is not None}
    if not matchers:
        raise UsageError(f"say what to silence: --{', --'.join(parts)}; --rule '*' is everything")
    begins = _moment("--from", starts) if starts else None
    given = {"matchers": matchers, "starts": begins, "ends": _end(begins, for_, until), "author": _author(author), "reason": reason}
    with Funnelwatch(url) as service:
        added = _shown(service.add_silence(_asked(NewSilence, given)))
    typer.echo(f"{added['id']}: {_what(added)} is silent from {added['starts']} to {added['ends']}")


@silence.command("list")
def silence_list(
    all_: Annotated[bool, typer.Option("--all", help="Those that are over too.")] = False, json_: Json = False, url: Url = None
) -> None:
    """Silences that are active or to come."""
    from streams.client import Funnelwatch

    with Funnelwatch(url) as service:
        found = [_shown(one) for one in service.silences()]
    shown = [one for one in found if all_ or one["state"] != "expired"]
    rows = [(s["id"], s["state"], _what(s), s["starts"], s["ends"], s["author"], s["reason"]) for s in shown]
    _print(SILENCES, rows, shown, json_=json_)


@silence.command("expire")
def silence_expire(
    name: Annotated[str, typer.Argument(metavar="ID", help="The silence.")],
    reason: ReasonOption = "",
    author: AuthorOption = None,
    url: Url = None,
) -> None:
    """End a silence now."""
    from schemas.silence import Signed
    from streams.client import Funnelwatch

    with Funnelwatch(url) as service:
        over = _shown(service.expire_silence(name, _asked(Signed, {"author": _author(author), "reason": reason})))
    typer.echo(f"{over['id']}: {_what(over)} is over since {over['ends']}")


@alerts.callback(invoke_without_command=True)
def alerts_(context: typer.Context) -> None:
    """Where the rules stand; acknowledge; what could not be delivered."""
    if context.invoked_subcommand is None:
        alerts_list()


@alerts.command("list")
def alerts_list(json_: Json = False, url: Url = None) -> None:
    """Where every rule stands."""
    from streams.client import Funnelwatch

    with Funnelwatch(url) as service:
        found = [_shown(one) for one in service.alerts().states]
    _print(ALERTS, [_alert_row(one) for one in found], found, json_=json_)


@alerts.command("ack")
def alerts_ack(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="The rule that fires.")],
    of: Annotated[str | None, typer.Argument(metavar="DIMENSION=VALUE", help="For one value of a dimension; else for everybody.")] = None,
    reason: ReasonOption = "",
    author: AuthorOption = None,
    url: Url = None,
) -> None:
    """Say that you have seen an incident; it holds until that is over."""
    from schemas.silence import NewAcknowledgement
    from streams.client import Funnelwatch

    dimension, sign, value = (of or "").partition("=")
    if of is not None and not (dimension and sign):
        raise UsageError(f"{of!r} names no value; write DIMENSION=VALUE, as in device=ios")
    split = {"dimension": dimension, "value": value} if of is not None else {}
    given = {"rule": rule, **split, "author": _author(author), "reason": reason}
    with Funnelwatch(url) as service:
        seen = _shown(service.acknowledge(_asked(NewAcknowledgement, given)))
    typer.echo(f"{_alert_name(seen)}: acknowledged by {seen['acknowledged_by']} at {seen['acknowledged_at']}")


@alerts.command("dead-letters")
def alerts_dead_letters(json_: Json = False, url: Url = None) -> None:
    """Notifications that a channel refused, or did not take for a day."""
    from streams.client import Funnelwatch

    with Funnelwatch(url) as service:
        found = [_shown(one) for one in service.dead_letters()]
    rows = [(one["id"], one["status"], one["title"], one["at"], str(one["attempts"]), one["error"]) for one in found]
    _print(LETTERS, rows, found, json_=json_)


@alerts.command("resend")
def alerts_resend(
    names: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Dead letters.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    reason: ReasonOption = "",
    author: AuthorOption = None,
    url: Url = None,
) -> None:
    """Send dead letters again."""
    from schemas.silence import Resend
    from streams.client import Funnelwatch

    if bool(names) == all_:
        raise UsageError("name the dead letters to send again, or say --all")
    with Funnelwatch(url) as service:
        chosen = names or [one.id for one in reversed(service.dead_letters())]
        for name in chosen:
            service.resend(_asked(Resend, {"id": name, "author": _author(author), "reason": reason}))
    typer.echo(f"{len(chosen)} dead letter{'s' * (len(chosen) != 1)} put among what waits to be sent")


@alerts.command("audit")
def alerts_audit(
    limit: Annotated[int, typer.Option(min=1, max=20_000, help="How many at most.")] = 50,
    entity: Annotated[
        str | None, typer.Option(metavar="ID", help="Only the looks at this entity, which the log knows by a digest.")
    ] = None,
    json_: Json = False,
    url: Url = None,
) -> None:
    """Who silenced, acknowledged or resent what, when and why, and who looked at which entity; newest first."""
    from alerting.contract import AUDIT_MAX
    from alerting.desk import digest_of
    from streams.client import Funnelwatch

    with Funnelwatch(url) as service:
        read = service.audit(limit if entity is None else 2 * AUDIT_MAX)
    found = [_shown(one) for one in read if entity is None or one.subject == digest_of(entity)][:limit]
    _print(AUDIT, [tuple(str(one[column]) for column in AUDIT) for one in found], found, json_=json_)


def _asked(model: type[Model], given: Mapping[str, Any]) -> Model:
    from pydantic import ValidationError

    try:
        return model.model_validate(given)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise UsageError("; ".join(wrong)) from None


def _shown(found: BaseModel) -> dict[str, Any]:
    """What the service said, as JSON."""
    return found.model_dump(mode="json")


def _print(headers: Sequence[str], rows: Sequence[Row], found: Any, *, json_: bool) -> None:
    from streams.console import print_table

    if json_:
        typer.echo(json.dumps(found, ensure_ascii=False))
    elif rows:
        print_table(tuple(headers), list(rows))
    else:
        typer.echo("none")


def _alert_row(one: dict[str, Any]) -> Row:
    from streams.console import ratio

    of = "everybody" if one["dimension"] is None else f"{one['dimension']}={one['value']}"
    standing = (one["rule"], of, one["state"], one["data"], one["since"] or "")
    numbers = (ratio(one["rate"]), ratio(one["threshold"]), str(one["flaps"]))
    return (*standing, *numbers, one["acknowledged_by"] or "", ", ".join(one["silenced_by"]))


def _alert_name(one: dict[str, Any]) -> str:
    return one["rule"] if one["dimension"] is None else f"{one['rule']} {one['dimension']}={one['value']}"


def _what(one: dict[str, Any]) -> str:
    return ", ".join(f"{part}={pattern}" for part, pattern in one["matchers"].items())


def _end(begins: datetime | None, for_: str | None, until: str | None) -> datetime:
    from schemas.duration import Duration

    if (for_ is None) == (until is None):
        raise UsageError("say how long: --for 2h, or --until TIME")
    if until is not None:
        return _moment("--until", until)
    try:
        return (begins or datetime.now(timezone.utc)) + timedelta(seconds=Duration(for_ or ""))
    except ValueError as error:
        raise UsageError(f"--for: {error}") from None


def _moment(option: str, text: str) -> datetime:
    from schemas.event import Reject, micros_of, moment_of

    try:
        return moment_of(micros_of(text))
    except Reject:
        raise UsageError(f"{option} {text!r} is no time; write 2024-05-01T12:00:00Z, or seconds since the epoch") from None


def _author(given: str | None) -> str:
    if given:
        return given
    with suppress(ImportError, KeyError):
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    raise UsageError("nobody is logged in here; say who you are with --author")
