"""`funnelwatch backtest`: alert rules over history, telling nobody."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import UsageError

if TYPE_CHECKING:
    from alerting.incidents import Incident
    from schemas.config import Config
    from streams.backtest_shell import Topic
    from streams.files import EventFile
    from streams.history import History


def backtest(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Events, JSONL or CSV with a header; .gz as it is.")] = None,
    config: Annotated[
        list[Path] | None, typer.Option("--config", metavar="FILE", help="The config file; with --summary several, to compare them.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="The source that the events are of; needed when there are several.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", metavar="jsonl|csv", help="The file's format, if its name does not tell.")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="Ignore later events of the file, and end then.")] = None,
    topic: Annotated[str | None, typer.Option("--topic", metavar="T", help="Read a Kafka topic instead of a file.")] = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="TIME", help="With --topic: the first event time.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="TIME", help="With --topic: before that event time.")] = None,
    brokers: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="With --topic; by default FUNNELWATCH_KAFKA__BROKERS.")] = None,
    rule: Annotated[list[str] | None, typer.Option("--rule", metavar="NAME", help="Only these rules of the config.")] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Compare rules: pages a week, time to detect, misses.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Suggest thresholds, `for` and windows for so many pages a month.")] = False,
    pages_per_month: Annotated[float, typer.Option(help="With --tune: how many pages each rule may send a month.")] = 1.0,
    fall: Annotated[
        float | None, typer.Option(metavar="SHARE", help="With --tune: tell delays for a fall by this share; the rule's effect.")
    ] = None,
    incidents: Annotated[
        Path | None,
        typer.Option("--incidents", metavar="FILE", help="With --summary or --tune: YAML or CSV with from, to, funnel, stage, …"),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON line a transition; of --summary and --tune one object.")] = False,
) -> None:
    """Run history through alert rules as the service would, on the data's own time; notify nobody."""
    from schemas.config import load
    from streams.backtest_shell import incidents_of

    _check(summary=summary, tune=tune, configs=config or [], incidents=incidents, pages=pages_per_month, fall=fall)
    where = _where(file, format_, at, topic, from_, to, brokers)
    loaded = {str(path): _only(load(path), rule) for path in config or []}
    labelled = incidents_of(incidents, list(loaded.values())) if incidents is not None else ()
    until_us = _time("--at", at)
    if summary:
        _summarise(loaded, where, source, until_us, labelled, json_=json_)
    elif tune:
        _tune(next(iter(loaded.values())), where, source, until_us, labelled, pages_per_month, fall, json_=json_)
    else:
        _list(next(iter(loaded.values())), where, source, until_us, json_=json_)


def _check(*, summary: bool, tune: bool, configs: list[Path], incidents: Path | None, pages: float, fall: float | None) -> None:
    if summary and tune:
        raise UsageError("give --summary or --tune, one of them")
    if not configs:
        raise UsageError("name a config file with --config")
    if len(configs) > 1 and not summary:
        raise UsageError("several configs are compared with --summary; else name one")
    if len(set(configs)) < len(configs):
        raise UsageError("each config is to be named once")
    if incidents is not None and not (summary or tune):
        raise UsageError("--incidents goes with --summary or --tune")
    if not pages > 0 or pages > 100_000:
        raise UsageError(f"--pages-per-month {pages:g} must be above 0 and not more than 100000")
    if fall is not None and not 0 < fall < 1:
        raise UsageError(f"--fall {fall:g} must lie between 0 and 1")


def _where(
    file: Path | None, form: str | None, at: str | None, topic: str | None, from_: str | None, to: str | None, brokers: str | None
) -> EventFile | Topic:
    from streams.backtest_shell import Topic
    from streams.files import EventFile

    if (file is None) == (topic is None):
        raise UsageError("name a file, or a topic with --topic, one of them")
    if file is not None:
        if from_ is not None or to is not None or brokers is not None:
            raise UsageError("--from, --to and --brokers go with --topic; a file is read whole, up to --at")
        return EventFile(file, form)
    if at is not None or form is not None:
        raise UsageError("--at and --format go with a file; with --topic give --from and --to")
    from_us, to_us = _time("--from", from_), _time("--to", to)
    if from_us is None or to_us is None:
        raise UsageError("with --topic give --from TIME and --to TIME")
    if to_us <= from_us:
        raise UsageError("--to does not come after --from")
    from schemas.settings import load_settings
    from streams.brokers import brokers_of

    settings = load_settings()
    ours = brokers_of(settings.kafka)
    return Topic(ours.at(brokers) if brokers else ours, topic or "", from_us, to_us, settings.registry)


def _only(config: Config, names: list[str] | None) -> Config:
    known = [rule.name for rule in config.alerts]
    for name in names or []:
        if name not in known:
            raise UsageError(f"no rule {name!r} in the config; there are: {', '.join(known) or 'none'}")
    return config if not names else config.model_copy(update={"alerts": tuple(r for r in config.alerts if r.name in names)})


def _list(config: Config, where: EventFile | Topic, source: str | None, at_us: int | None, *, json_: bool) -> None:
    from alerting.backtest import Backtest
    from streams import backtest_shell as shell
    from streams.console import print_table

    began = time.monotonic()
    with shell.history(config, where, source, at_us) as found, shell.passes("judging", found) as watch:
        _warn(found)
        run = Backtest(found, config, watch=watch)
        rows = []
        for told in run.run():
            if json_:
                typer.echo(json.dumps(shell.line(told), ensure_ascii=False))
            else:
                rows.append(shell.row(told))
        if not json_:
            print_table(shell.HEADERS, rows, shell.passed(run, time.monotonic() - began))
            pages = ", ".join(f"{trial.rule.name} {len(trial.pages)}" for trial in run.trials)
            typer.echo(f"Pages (alerts of one cause are one): {pages}")


def _summarise(
    configs: dict[str, Config],
    where: EventFile | Topic,
    source: str | None,
    at_us: int | None,
    incidents: tuple[Incident, ...],
    *,
    json_: bool,
) -> None:
    from alerting.backtest import Backtest
    from alerting.tuning import scores
    from streams import backtest_shell as shell
    from streams.console import print_table

    began, variants, run = time.monotonic(), [], None
    for path, config in configs.items():
        with shell.history(config, where, source, at_us) as found, shell.passes(f"judging {path}", found) as watch:
            _warn(found)
            run = Backtest(found, config, watch=watch)
            done = scores(run, list(run.run()), incidents)
        shown = path if len(configs) > 1 else ""
        variants += [shell.Variant(shown, trial.rule, done[trial.rule.name]) for trial in run.trials]
    if run is None:
        return
    if json_:
        typer.echo(json.dumps(shell.summary_object(variants, run, labelled=bool(incidents)), ensure_ascii=False))
        return
    rows = list(shell.summary_rows(variants, labelled=bool(incidents)))
    print_table(shell.SUMMARY_HEADERS, rows, shell.passed(run, time.monotonic() - began))
    if not incidents:
        typer.echo("Without --incidents nobody knows which pages were right, nor what was missed.")


def _tune(
    config: Config,
    where: EventFile | Topic,
    source: str | None,
    at_us: int | None,
    incidents: tuple[Incident, ...],
    pages: float,
    fall: float | None,
    *,
    json_: bool,
) -> None:
    from alerting.tuning import TUNING_PASSES, Wanted, tune
    from streams import backtest_shell as shell
    from streams.console import print_table

    with shell.history(config, where, source, at_us) as found, shell.passes("tuning", found, TUNING_PASSES) as watch:
        _warn(found)
        tuned = tune(found, config, Wanted(pages, fall), incidents, watch)
    if json_:
        typer.echo(json.dumps(shell.tuning_object(tuned), ensure_ascii=False))
        return
    print_table(shell.TUNING_HEADERS, list(shell.tuning_rows(tuned)))
    for line in shell.tuning_lines(tuned):
        typer.echo(line)


def _warn(found: History) -> None:
    from streams.backtest_shell import warnings

    for warning in warnings(found):
        typer.echo(f"warning: {warning}", err=True)


def _time(option: str, text: str | None) -> int | None:
    """µs since the epoch."""
    from schemas.event import Reject, micros_of

    try:
        return None if text is None else micros_of(text)
    except Reject:
        raise UsageError(f"{option} {text!r} is no time; write 2024-05-01T12:00:00Z, or seconds since the epoch") from None
