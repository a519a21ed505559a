"""The command line. Exit 0: fine, 1: found something wrong, 2: bad usage or bad config.

Errors are single lines on stderr, never a traceback. What a command needs is imported inside it, so
that `check` and `--help` stay quick.
"""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import FunnelwatchError, UsageError
from streams.cli_alerts import alerts, silence
from streams.cli_backtest import backtest
from streams.cli_dashboards import dashboards
from streams.cli_dictionary import dictionary
from streams.cli_doctor import doctor
from streams.cli_init import init
from streams.cli_mcp import mcp
from streams.cli_rules import rules
from streams.cli_token import token
from streams.cli_topics import topics
from streams.cli_traffic import traffic

INTERRUPTED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A real-time streaming funnel monitor: events in Kafka, exact counts in Redis, rates, and an alert when a stage leaks.",
)

app.add_typer(silence, name="silence")
app.add_typer(alerts, name="alerts")
app.command()(rules)
app.command()(backtest)
app.command()(dictionary)
app.command()(dashboards)
app.command()(init)
app.command()(mcp)
app.command()(topics)
app.command()(doctor)
app.add_typer(token, name="token")
app.command()(traffic)

ConfigFile = Annotated[Path, typer.Option("--config", metavar="FILE", help="The config file.")]
EventsFile = Annotated[Path, typer.Argument(metavar="FILE", help="Events, JSONL or CSV with a header; .gz as it is.")]
Format = Annotated[str | None, typer.Option("--format", metavar="jsonl|csv", help="The file's format, if its name does not tell.")]
At = Annotated[str | None, typer.Option("--at", metavar="TIME", help="Ignore later events; ISO 8601, or seconds since the epoch.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
SourceName = Annotated[str | None, typer.Option("--source", help="The source that the file stands for; needed when there are several.")]
Url = Annotated[str | None, typer.Option("--url", help="The service's address; by default that of FUNNELWATCH_WEB__HOST and __PORT.")]


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option(min=1, help="Stop after this much traffic, and account for all of it.")] = None,
    rate: Annotated[float, typer.Option(min=1, help="Events a second.")] = 200.0,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Port of page and API; 6066 or a free one.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")] = False,
) -> int:
    """Broker, Redis, worker and a shop's traffic with an incident in it, all in this terminal."""
    from streams.demo import run_demo

    _quiet_libraries()
    return run_demo(seconds=seconds, rate=rate, port=port, browser=not no_browser)


@app.command()
def worker(config: ConfigFile) -> int:
    """The service: count, serve page, API and metrics, and alert. Settings come from the environment."""
    from schemas.config import load
    from schemas.settings import load_settings

    loaded, settings = load(config), load_settings()
    from streams.app import run_worker

    return run_worker(loaded, settings)


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The config file.")] = None,
    print_schema: Annotated[bool, typer.Option("--print-schema", help="Print the JSON Schema of the config.")] = False,
) -> None:
    """Validate a config: every problem, each with its line."""
    from schemas.config import Config, load, warnings_of

    if print_schema:
        typer.echo(json.dumps(Config.model_json_schema(), indent=2))
        return
    if file is None:
        raise UsageError("name a config file, or ask for --print-schema")
    config = load(file)
    for warning in warnings_of(config):
        typer.echo(f"warning: {warning}", err=True)
    counts = (
        (len(config.sources), "source"),
        (len(config.funnels), "funnel"),
        (sum(len(f.stages) for f in config.funnels), "stage"),
        (len(config.alerts), "alert"),
        (len(config.channels), "channel"),
    )
    typer.echo(f"ok: {file}: {', '.join(f'{n} {what}' + 's' * (n != 1) for n, what in counts)}")


@app.command()
def send(
    file: EventsFile,
    topic: Annotated[str, typer.Option(help="The topic to produce to.")],
    rate: Annotated[float | None, typer.Option(help="Records a second; as fast as it goes by default.")] = None,
    speed: Annotated[float | None, typer.Option(help="By the records' own times, this many times as fast.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A config whose source of that topic says where the ids are.")] = None,
    format_: Format = None,
    sort: Annotated[bool, typer.Option("--sort", help="Sort the file by time first, in memory.")] = False,
    keep_bad: Annotated[bool, typer.Option("--keep-bad", help="Send lines that are no JSON object too, without a key.")] = False,
    brokers: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="By default FUNNELWATCH_KAFKA__BROKERS.")] = None,
) -> None:
    """Produce an event file to Kafka, each record keyed by its entity."""
    from schemas.config import load
    from schemas.settings import load_settings
    from streams import send as sending
    from streams.brokers import brokers_of
    from streams.console import progress_bar
    from streams.files import EventFile

    _quiet_libraries()
    if (rate is not None and speed is not None) or any(given is not None and given <= 0 for given in (rate, speed)):
        raise UsageError("give --rate or --speed, one of them, above 0")
    source = sending.source_of(load(config), topic) if config else None
    events = EventFile(file, format_)
    records = sending.Reader(source, keep_bad=keep_bad, timed=sort or speed is not None).read(events)
    if sort:
        records = iter(sorted(records, key=lambda record: record.at_us))
    with progress_bar(f"sending {file.name}", events.size) as advance:
        ours = brokers_of(load_settings().kafka)
        sent = sending.send(
            records, ours.at(brokers) if brokers else ours, topic, sending.Pace(rate, speed), lambda: advance(lambda: events.position)
        )
    unkeyed = f", {sent.unkeyed:,} of them without an entity and so without a key" if sent.unkeyed else ""
    pace = f"{sent.seconds:.1f} s, {sent.records / max(sent.seconds, 1e-9):,.0f} a second"
    typer.echo(f"sent {sent.records:,} records to {sent.partitions} partitions of {topic} in {pace}{unkeyed}")


@app.command()
def replay(
    file: EventsFile,
    config: ConfigFile,
    source: SourceName = None,
    format_: Format = None,
    at: At = None,
    per_entity: Annotated[bool, typer.Option("--per-entity", help="Print one JSON line per entity and funnel.")] = False,
    json_: Json = False,
) -> None:
    """Run the engine over a file, offline."""
    from schemas.config import load
    from streams import tables
    from streams.console import print_table, progress_bar
    from streams.files import EventFile
    from streams.replay import replay as run

    loaded = load(config)
    events = EventFile(file, format_)
    until_us = _time(at)
    with progress_bar(f"replaying {file.name}", events.size) as advance:
        done = run(
            loaded, events.records(), source=source, at_us=until_us, per_entity=per_entity,
            progress=lambda _: advance(lambda: events.position),
        )  # fmt: skip
    if per_entity:
        for line in done.per_entity():
            typer.echo(json.dumps(line, ensure_ascii=False))
        return
    result = done.to_json()
    if json_:
        typer.echo(json.dumps(result, ensure_ascii=False))
        return
    typer.echo(tables.replay_summary(result))
    print_table(tables.replay_headers(result), list(tables.replay_rows(result)))


@app.command()
def rates(
    funnel: Annotated[str, typer.Argument(metavar="FUNNEL", help="The funnel's name.")],
    window: Annotated[str | None, typer.Option(metavar="5m", help="One of its windows; the first by default.")] = None,
    by: Annotated[str | None, typer.Option(metavar="DIMENSION", help="Split by one of its dimensions.")] = None,
    basis: Annotated[str | None, typer.Option(metavar="users|entries|adjusted", help="What a rate is made of; users by default.")] = None,
    json_: Json = False,
    url: Url = None,
) -> None:
    """Live rates from a running service."""
    from streams import tables
    from streams.client import Funnelwatch
    from streams.console import print_table

    with Funnelwatch(url) as service:
        report = service.funnel(funnel, window, basis or "users", by).model_dump(mode="json")
    if json_:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        print_table(tables.RATES_HEADERS, list(tables.rates_rows(report)), tables.rates_title(report))
        for note in tables.rates_notes(report):
            typer.echo(note)


@app.command()
def explain(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="Its user_id, or anonymous_id.")],
    file: Annotated[Path | None, typer.Option("--file", metavar="EVENTS", help="Explain from a file of events, without a service.")] = None,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The config file; with --file.")] = None,
    source: SourceName = None,
    format_: Format = None,
    at: At = None,
    json_: Json = False,
    url: Url = None,
) -> None:
    """Where an entity stands in each funnel, and why it is not further: from a running service, or from a file."""
    from streams import tables

    if file is None:
        if config is not None or source is not None or format_ is not None or at is not None:
            raise UsageError("--config, --source, --format and --at go with --file; without it a running service is asked")
        found = _ask_entity(entity, url)
    elif config is None or url is not None:
        raise UsageError("with --file give --config, and no --url: the file is counted here")
    else:
        found = _count_entity(entity, file, config, source, format_, _time(at))
    if json_:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    typer.echo("\n\n".join("\n".join(tables.explain_lines(entity, told)) for told in found["sources"]))


def _ask_entity(entity: str, url: str | None) -> dict[str, Any]:
    from streams.client import Funnelwatch

    with Funnelwatch(url) as service:
        return service.explain(entity).model_dump(mode="json")


def _count_entity(entity: str, file: Path, config: Path, source: str | None, form: str | None, at_us: int | None) -> dict[str, Any]:
    from schemas.config import load
    from schemas.explanation import EntityExplanation
    from streams.console import progress_bar
    from streams.explain import explain as told
    from streams.explain import unknown
    from streams.files import EventFile
    from streams.replay import replay as run

    loaded, events = load(config), EventFile(file, form)
    with progress_bar(f"replaying {file.name}", events.size) as advance:
        done = run(loaded, events.records(), source=source, at_us=at_us, progress=lambda _: advance(lambda: events.position))
    packed = done.states.get(entity)
    if packed is None:
        raise UsageError(f"{file}: {unknown(entity, [done.plan.source.name])}")
    return EntityExplanation(entity=entity, sources=(told(done.plan, packed, done.time_us),)).model_dump(mode="json")


@app.command()
def backfill(
    funnel: Annotated[str, typer.Argument(metavar="FUNNEL", help="The funnel's name.")],
    config: ConfigFile,
    wait: Annotated[bool, typer.Option("--wait", help="Return once every shard has done it.")] = False,
    timeout: Annotated[str, typer.Option(metavar="10m", help="With --wait: give up after so long, with exit code 1.")] = "1h",
    list_: Annotated[bool, typer.Option("--list", help="Ask for nothing; show what each shard counts, and since when.")] = False,
) -> None:
    """Have the workers count a funnel, as the config has it now, from the topic's beginning."""
    from schemas.config import load
    from schemas.settings import load_settings
    from streams import backfilling
    from streams.console import print_table, progress_bar

    plan, which = backfilling.plan_of(load(config), funnel)
    redis, seconds = load_settings().redis, _seconds(timeout)
    if list_:
        print_table(backfilling.HEADERS, backfilling.over(redis, lambda ledger: backfilling.rows(ledger, plan, which)))
        return
    asked = backfilling.over(redis, lambda ledger: backfilling.ask(ledger, which))
    for warning in asked.warnings():
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(asked)
    if wait and asked.shards:
        with progress_bar(f"counting {funnel} anew", len(asked.shards)) as advance:
            done = backfilling.over(redis, lambda ledger: backfilling.wait(ledger, asked, seconds, advance))
        typer.echo(done)


@app.command()
def settings() -> None:
    """Every setting: its variable, default, current value and meaning."""
    from schemas.settings import describe, load_settings
    from streams.console import print_table
    from streams.tables import setting_now

    now = load_settings()
    rows = [(name, default, setting_now(now, name), meaning) for name, default, meaning in describe()]
    print_table(("variable", "default", "now", "meaning"), rows)


def main() -> None:
    """The entry point."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    try:
        code = app(args=arguments or ["--help"], prog_name="funnelwatch", standalone_mode=False)
    except typer.TyperException as error:
        return _complain(" ".join(error.format_message().split()), error.exit_code)
    except UsageError as error:
        return _complain(str(error), 2)
    except FunnelwatchError as error:
        return _complain(str(error), 1)
    except Exception as error:  # the last resort: a user sees one line, and how to see more
        return _surprised(error)
    return _complain("interrupted", 1) if code == INTERRUPTED else int(code or 0)


def _complain(what: str, code: int) -> int:
    for line in what.splitlines():
        typer.echo(f"error: {line}", err=True)
    return code


def _surprised(error: Exception) -> int:
    from schemas.settings import load_settings

    with suppress(FunnelwatchError):
        if load_settings().log_level == "debug":
            traceback.print_exception(error)
    what = " ".join(repr(error).split())
    return _complain(f"internal error: {what}; set FUNNELWATCH_LOG_LEVEL=debug for the traceback", 1)


def _quiet_libraries() -> None:
    """Kafka's client logs what we say in one line ourselves."""
    from streams.logs import quiet_libraries

    quiet_libraries()


def _seconds(text: str) -> int:
    """`--timeout` in seconds."""
    from schemas.duration import Duration

    try:
        return Duration(text)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None


def _time(text: str | None) -> int | None:
    """`--at` in µs since the epoch."""
    from schemas.event import Reject, micros_of

    try:
        return None if text is None else micros_of(text)
    except Reject:
        raise UsageError(f"--at {text!r} is no time; write 2024-05-01T12:00:00Z, or seconds since the epoch") from None


if __name__ == "__main__":
    main()
