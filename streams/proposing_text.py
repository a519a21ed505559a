"""[pure] A proposed config as YAML, which says how each guess was made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from schemas.duration import Duration
from schemas.presets import PRESETS
from streams.proposing import EVENTS_SHOWN, TARGET_PEOPLE_MIN, Found, Proposal, late_of, property_of
from streams.proposing_funnel import Step

COLUMN = 44  # that comments begin at
PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_./-]*$")
WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
FIELDS = ("event", "timestamp", "user_id", "anonymous_id", "event_id")
THRESHOLD = 0.75  # of the rate that the sample shows
VALUES_SHOWN = 5
VALUE_LEAST = 5  # records


def proposal(found: Found) -> Proposal:
    """The config's text and what to say beside it."""
    return Proposal("".join(f"{line.rstrip()}\n" for line in _lines(found)), tuple(_notes(found)))


def _notes(found: Found) -> Iterator[str]:
    if found.unread:
        yield f"note: {found.unread:,} of {found.rows + found.unread:,} records are no JSON objects; they would be rejected"
    if not found.clear:
        yield "note: nobody goes on from one event to another as in a funnel here: the stages are only the two that most people did"
    if found.where.keyed and not found.entity_key:
        yield f"note: records are not keyed by the person ({found.key_share:.1%} are): they go through a topic {found.where.topic}.by-entity"


def _lines(found: Found) -> Iterator[str]:
    where, days = found.where, found.span_us / 86_400_000_000
    span = f"{days:.1f} days" if days >= 2 else f"{found.span_us / 3_600_000_000:.1f} hours"
    yield f"# Proposed by `funnelwatch init` from {where.said},"
    yield f"# {found.rows:,} of them JSON objects, of {found.people:,} people within {span}. Every guess says what it rests on: check them,"
    yield "# change what is not so, then: funnelwatch check FILE. deploy/reference.yaml shows every option."
    yield ""
    yield from _source(found)
    yield ""
    yield from _funnel(found)
    yield ""
    yield from _alerts(found)


def _source(found: Found) -> Iterator[str]:
    where = found.where
    yield "sources:"
    yield "  - name: web"
    yield f"    topic: {_text(where.topic)}"
    if found.entity_key is None:
        yield _said("    entity_key: true", "a file has no keys; `funnelwatch send` keys its records by the person")
    elif found.entity_key:
        yield _said("    entity_key: true", f"the key is the person's id in {found.key_share:.1%} of the records")
    else:
        yield _said("    entity_key: false", f"the key is the person's id in only {found.key_share:.1%} of the records")
    late = late_of(found)
    yield _said(
        f"    allowed_lateness: {late}",
        f"999 of 1,000 events come no more than {found.late_us / 1e6:,.0f} s after a newer one of their person"
        + ("; longer than an hour is not proposed" if found.late_us > Duration(late).micros else ""),
    )
    if where.format != "json":
        yield _said(f"    format: {where.format}", "in the wire format of the schema registry")
    if found.preset:
        yield _said(f"    preset: {found.preset}", "by the fields that most of the records have; `fields` go over it")
    yield from _fields(found)


def _fields(found: Found) -> Iterator[str]:
    preset = PRESETS[found.preset].fields if found.preset else {}
    lines = []
    for name in FIELDS:
        guess = found.fields.get(name)
        if guess is not None:
            is_preset = found.preset is not None and preset.get(name, name) == guess.path
            lines.append(_said(f"      {'# ' * is_preset}{name}: {_text(guess.path)}", guess.why))
        elif name == "event_id":
            lines.append(
                _said(
                    "      # event_id:",
                    "nothing was found that tells events apart; a resend with the same bytes is a duplicate all the same",
                )
            )
    if found.base != "properties" and not found.preset and not found.copied:
        what = "properties lie beside the other fields" if found.base == "." else "what may be split by lies in there"
        lines.append(_said(f"      properties: {_text(found.base)}", what))
    real = any(not line.lstrip().startswith("#") for line in lines)
    yield _said("    fields:" if real else "    # fields:", "where a record keeps each")
    yield from lines


def _funnel(found: Found) -> Iterator[str]:
    yield "funnels:"
    yield "  - name: first"
    yield _said("    title: A first funnel", "give it a name of its own, and say who looks after it: owner")
    yield "    source: web"
    yield _said(f"    conversion_window: {found.conversion_window}", _window_why(found))
    yield _said(f"    windows: [{', '.join(_windows(found.conversion_window))}]", "what rates are shown over")
    yield from _dimensions(found)
    why = (
        "ordered by who had done what before; people are those of the sample"
        if found.clear
        else "a guess without ground: see the events below"
    )
    yield _said("    stages:", why)
    used: set[str] = set()
    for place, step in enumerate(found.steps):
        yield from _stage(found, place, step, used)
    yield "    # The events that were seen, and how many records of each:"
    seen = found.names.most_common(EVENTS_SHOWN)
    yield from (f"    #   {_text(name[:64])}: {count:,}" for name, count in seen)
    rest = len(found.names) - len(seen)
    if rest:
        yield f"    #   and {rest:,} more"
    if found.withheld:
        yield f"    #   {found.withheld:,} records have a name that looks like personal data; it is not shown"


def _window_why(found: Found) -> str:
    if not found.waits:
        return "a guess without ground: nobody in the sample went from one stage to another"
    if not found.waits_all:
        return "few went all the way: the steps' 99% longest times, added up, then rounded up"
    longest = found.waits[min(len(found.waits) - 1, int(0.99 * len(found.waits)))] / 1e6
    return f"99% of {len(found.waits):,} passages from the first stage to the last took up to {longest:,.0f} s, rounded up"


def _windows(conversion: str) -> list[str]:
    seconds = int(Duration(conversion))
    if seconds <= 3600:
        return ["5m", "1h", "24h"]
    return ["1h", "24h", "7d"] if seconds <= 86_400 else ["24h", "7d", "30d"]


def _dimensions(found: Found) -> Iterator[str]:
    if not found.dimensions:
        yield _said("    # dimensions:", "no property was found with few values that looks like nobody's own")
        return
    yield _said("    dimensions:", "properties with few values; those that look like personal data are left out")
    used: set[str] = set()
    for path, counts in found.dimensions.items():
        total = sum(counts.values())
        shown = [(value, n) for value, n in counts.most_common(VALUES_SHOWN) if n >= VALUE_LEAST]
        values = ", ".join(f"{_text(value)} {n / total:.0%}" for value, n in shown)
        more = f", and {len(counts) - len(shown)} more" if len(counts) > len(shown) else ""
        share = f"{total / found.rows:.0%} of the records have it"
        name = _name(path.rpartition(".")[2], used)
        yield _said(f"      {_text(name)}: {_text(_named(found, path))}", f"{share}: {values}{more}" if values else share)
    if found.more:
        yield f"      # and there are: {', '.join(_named(found, path) for path in found.more)}"


def _stage(found: Found, place: int, step: Step, used: set[str]) -> Iterator[str]:
    why = f"{step.people:,} people"
    if step.had_before is not None:
        why += f"; {step.had_before:.0%} of them had done the one before"
    yield _said(f"      - name: {_text(_name(step.event, used))}", why)
    yield f"        event: {_text(step.event)}"
    if place == len(found.steps) - 1 and found.value is not None:
        yield _said(f"        value: {_text(_named(found, found.value))}", "a number that these events bring; is it what you would sum up?")
    if place:
        on, of = found.rates[place - 1]
        if of:
            yield _said(f"        # target: {on / of:.2f}", f"what the sample shows ({on:,} of {of:,} people); write what you want")


def _alerts(found: Found) -> Iterator[str]:
    on, of = found.rates[-1]
    yield "# An alert to begin with, once a week of counts shows what is usual; `funnelwatch backtest` tries it on history first."
    below = f"{THRESHOLD * on / of:.2f}" if of >= TARGET_PEOPLE_MIN and on else "0.20"
    said = "three quarters of what the sample shows" if of >= TARGET_PEOPLE_MIN and on else "too few in the sample to say: put your own"
    used: set[str] = set()
    last = [_name(step.event, used) for step in found.steps][-1]
    yield "# alerts:"
    yield f"#   - {{name: LastStepLeaks, funnel: first, stage: {_text(last)}, window: 1h, detector: sequential, below: {below}, notify: [log]}}  # {said}"
    yield "# channels:"
    yield "#   log: {type: log}"


def _named(found: Found, path: str) -> str:
    return property_of(found.base, path, found.preset) or path


def _said(what: str, why: str) -> str:
    return f"{what.ljust(COLUMN - 1)} # {why}"


def _text(text: str) -> str:
    """As YAML, in quotes where it needs them."""
    return text if PLAIN.match(text) and text.lower() not in WORDS else json.dumps(text, ensure_ascii=False)


def _name(text: str, used: set[str]) -> str:
    """A name as the config allows it, of its own."""
    clean = re.sub(r"[^\w .:-]", "_", text).strip()[:60]
    base = clean if clean and re.match(r"\w", clean) else f"x{clean}"
    name, number = base, 2
    while name in used:
        name, number = f"{base} {number}", number + 1
    used.add(name)
    return name
