"""[pure] Reports as rows and lines of text: what `rates`, `replay`, `explain` and `settings` print for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from schemas.secret import ENV, FILE
from schemas.settings import PREFIX, Settings
from streams.console import Row, number, ratio

RATES_HEADERS = ("stage", "users", "of", "rate", "target", "lost", "events", "value")


def rates_rows(report: Mapping[str, Any]) -> Iterator[Row]:
    """A FunnelReport: the stages in total, then under each value of `by`."""
    yield from _rates_rows(report["stages"], report["overall"])
    for value in report["values"]:
        yield (f"{report['by']} = {value['value']}", *[""] * (len(RATES_HEADERS) - 1))
        yield from _rates_rows(value["stages"], value["overall"], "  ")


def rates_title(report: Mapping[str, Any]) -> str:
    at = report["at"] or "no event yet"
    marks = "".join(f", {mark}" for mark in ("stale", "incomplete") if report[mark])
    lag = "" if not report["lag"] else f", {report['lag']:,} records behind"
    basis = "" if report["basis"] == "users" else f", rates on basis {report['basis']}"
    return f"{report['title'] or report['name']}, last {report['window']} at {at}{basis}{marks}{lag}"


def rates_notes(report: Mapping[str, Any]) -> Iterator[str]:
    """Intervals and what stands behind them, for the bases that have some; why a rate is not ready."""
    for stage in report["stages"]:
        step, pending, behind = stage["step"], stage.get("pending"), stage.get("adjusted")
        if step and step["low"] is not None:
            yield f"{stage['name']}: {ratio(step['rate'])}, 95% interval {ratio(step['low'])} to {ratio(step['high'])}"
        if pending and pending["denominator"]:
            yield f"{stage['name']}: {number(pending['denominator'])} entries may still convert, {number(pending['numerator'])} of them have"
        if behind and not behind["ready"]:
            yield f"{stage['name']}: no adjusted rate: {behind['reason']}"
        if behind and behind["ready"] and behind["baseline"] is not None:
            yield f"{stage['name']}: usually {ratio(behind['baseline'])} convert; {behind['expected']:,.1f} conversions were to be expected"


def replay_headers(result: Mapping[str, Any]) -> Row:
    windows = _windows(result)
    return ("funnel, stage", "reached", *(f"{w} {what}" for w in windows for what in ("users", "rate")), "events", "value")


def replay_rows(result: Mapping[str, Any]) -> Iterator[Row]:
    """The object of `replay --json`: every funnel's stages, then those under each dimension value."""
    windows = _windows(result)
    empty = [""] * (3 + 2 * len(windows))
    for name, funnel in result["funnels"].items():
        yield (name, *empty)
        yield from _replay_rows(funnel["stages"], windows, "  ")
        for dimension, values in funnel.get("dimensions", {}).items():
            for value, under in values.items():
                yield (f"  {dimension} = {value}", *empty)
                yield from _replay_rows(under["stages"], windows, "    ")


def replay_summary(result: Mapping[str, Any]) -> str:
    """The fates on one line."""
    rejected = result["rejected"]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in rejected.items())
    fates = ", ".join(f"{result[fate]:,} {fate}" for fate in ("applied", "filtered", "late", "duplicate"))
    bad = f"{sum(rejected.values()):,} rejected{f' ({reasons})' if reasons else ''}"
    return f"{result['consumed']:,} records: {fates}, {bad}; watermark {result['watermark'] or 'none'}"


def explain_lines(entity: str, source: Mapping[str, Any]) -> Iterator[str]:
    """A SourceExplanation as text: no table, since a terminal may be too narrow for columns of times."""
    partition = "" if source["partition"] is None else f", partition {source['partition']}"
    yield f"{entity}, source {source['source']}{partition}, as of {source['at'] or 'no report yet'}; newest event {source['newest']}"
    for funnel in source["funnels"]:
        title = f" ({funnel['title']})" if funnel["title"] else ""
        yield f"\n{funnel['funnel']}{title}, order {funnel['order']}, within {funnel['conversion_window']}"
        yield funnel["why"]
        width = max(len(stage["name"]) for stage in funnel["stages"])
        for stage in funnel["stages"]:
            facts = [_reached(stage), *([_entry(stage["entry"])] if stage["entry"] else [])]
            yield from (f"  {name:{width}}  {fact}" for name, fact in zip((stage["name"], ""), facts))
    for former in source["former"]:
        yield f"\nformer definition {former['definition']}\n{former['why']}"


def setting_now(settings: Settings, variable: str) -> str:
    """The current value of a variable, without what is secret in it."""
    found: Any = settings
    for name in variable.removeprefix(PREFIX).lower().split("__"):
        found = getattr(found, name)
    return _masked(found.get_secret_value()) if isinstance(found, SecretStr) else str(found)


def _masked(secret_text: str) -> str:
    """An address without user, password and query; of any other secret, whether there is one, or where it is."""
    if "://" not in secret_text:
        return secret_text if not secret_text or secret_text.startswith((ENV, FILE)) else "***"
    parts = urlsplit(secret_text)
    secret, _, host = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{'***@' if secret else ''}{host}{parts.path}{'?***' if parts.query else ''}"


def _rates_rows(stages: Sequence[Mapping[str, Any]], overall: Mapping[str, Any], indent: str = "") -> Iterator[Row]:
    for stage in stages:
        step = stage["step"]
        yield (
            f"{indent}{stage['name']}",
            number(stage["users"]),
            number(step["denominator"]) if step else "",
            ratio(step["rate"]) if step else "",
            ratio(stage["target"]) if stage["target"] is not None else "",
            number(stage["lost"]) if step else "",
            number(stage["events"]),
            number(stage["value"]) if stage["value"] else "",
        )
    yield (f"{indent}overall", number(overall["numerator"]), number(overall["denominator"]), ratio(overall["rate"]), *[""] * 4)


def _reached(stage: Mapping[str, Any]) -> str:
    reach = stage["reached"]
    if reach is None:
        return "no reach on record"
    at = f"at {reach['at']}" if reach["at"] else f"between {reach['since']} and {reach['before']}"
    return ", ".join([f"reached {at}", *(f"{name} = {value}" for name, value in stage["values"].items())])


def _entry(entry: Mapping[str, Any]) -> str:
    opened = f"entry opened at {entry['opened']}"
    if entry["converted"] is None:
        return opened
    if entry["converted"]:
        return f"{opened}, converted"
    return f"{opened}, {'can' if entry['pending'] else 'could'} convert until {entry['until']}"


def _windows(result: Mapping[str, Any]) -> list[str]:
    """The windows of all funnels, in order of first mention."""
    stages = (stage for funnel in result["funnels"].values() for stage in funnel["stages"])
    return list(dict.fromkeys(window for stage in stages for window in stage["windows"]))


def _replay_rows(stages: Sequence[Mapping[str, Any]], windows: Sequence[str], indent: str) -> Iterator[Row]:
    for stage in stages:
        cells: list[str] = []
        for window in windows:
            held = stage["windows"].get(window)
            cells += [number(held["users"]), ratio(held["rate"])] if held else ["", ""]
        value = number(stage["value"]) if stage["value"] else ""
        yield (f"{indent}{stage['name']}", number(stage["reached"]), *cells, number(stage["events"]), value)
