"""[pure] Incidents that people have labelled, and how rules did on them.

A file of incidents is YAML (a list of mappings) or CSV with a header: `from` and `to`, and where it is
known `funnel`, `stage`, `dimension`, `value`, `name`.

    - {from: 2026-03-01T10:00:00Z, to: 2026-03-01T11:30:00Z, funnel: purchase, stage: pay, dimension: device, value: ios}

An incident counts for a rule over its funnel and stage. It is found by an alert that begins to fire from
its beginning to its end, or fires already when it begins: of the total, or of the value that it names,
or of any value where it names none. A page is inside when it goes out in an incident that counts for
its rule and that an alert told in it can find.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import yaml

from alerting.lifecycle import AlertKey
from schemas.config import Config
from schemas.duration import MICROS
from schemas.errors import UsageError
from schemas.event import Reject, micros_of
from schemas.report import Transition
from schemas.rule import Rule

KEYS = ("from", "to", "funnel", "stage", "dimension", "value", "name")
INCIDENTS_MAX = 10_000
WEEK_US = 7 * 86_400 * MICROS


@dataclass(frozen=True)
class Incident:
    """When something was wrong (µs), and where; an empty text: not said."""

    from_us: int
    to_us: int
    funnel: str = ""
    stage: str = ""
    dimension: str = ""
    value: str = ""
    name: str = ""

    def concerns(self, rule: Rule) -> bool:
        """Whether a rule should find it."""
        return self.funnel in ("", rule.funnel) and self.stage in ("", rule.stage)

    def is_found_by(self, alert: AlertKey) -> bool:
        return alert.dimension is None or not self.dimension or (self.dimension, self.value) == (alert.dimension, alert.value)


# Reading


def parse(text: str, path: str) -> tuple[Incident, ...]:
    """The incidents of a file, in the order of time. Raises UsageError with the place of what is wrong."""
    rows = list(_csv_rows(text, path) if path.lower().endswith(".csv") else _yaml_rows(text, path))
    if len(rows) > INCIDENTS_MAX:
        raise UsageError(f"{path}: holds {len(rows)} incidents; name {INCIDENTS_MAX} at most")
    return tuple(sorted((_incident(row, where) for where, row in rows), key=lambda incident: (incident.from_us, incident.to_us)))


def _csv_rows(text: str, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        reader = csv.DictReader(text.removeprefix("\ufeff").splitlines(), strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise UsageError(f"{path}:{reader.line_num}: has another number of cells than the header")
            yield f"{path}:{reader.line_num}", {str(key).strip(): cell.strip() for key, cell in row.items() if cell.strip()}
    except csv.Error as error:
        raise UsageError(f"{path}: is no CSV: {error}") from None


def _yaml_rows(text: str, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
        found = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes texts only: 0123 stays what is written
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UsageError(
            f"{path}:{mark.line + 1 if mark else 1}: is not YAML: {getattr(error, 'problem', None) or 'cannot be parsed'}"
        ) from None
    if isinstance(found, dict) and isinstance(found.get("incidents"), list) and isinstance(root, yaml.MappingNode):
        root = next(value for key, value in root.value if key.value == "incidents")
        found = found["incidents"]
    if not isinstance(found, list) or not isinstance(root, yaml.SequenceNode):
        raise UsageError(f"{path}: holds no list of incidents; write `- {{from: TIME, to: TIME}}`, one a line")
    for node, row in zip(root.value, found):
        where = f"{path}:{node.start_mark.line + 1}"
        if not isinstance(row, dict) or not all(isinstance(cell, str) for cell in row.values()):
            raise UsageError(f"{where}: is no incident; write `{{from: TIME, to: TIME}}`")
        yield where, {key: cell for key, cell in row.items() if cell}


def _incident(row: Mapping[str, str], where: str) -> Incident:
    unknown = [key for key in row if key not in KEYS]
    if unknown:
        raise UsageError(f"{where}: {unknown[0]!r} is nothing that an incident has; there are: {', '.join(KEYS)}")
    start, end = _time(row, "from", where), _time(row, "to", where)
    if end <= start:
        raise UsageError(f"{where}: `to` does not come after `from`")
    if ("value" in row) != ("dimension" in row):
        raise UsageError(f"{where}: `dimension` and `value` go together")
    return Incident(start, end, **{key: row[key] for key in KEYS[2:] if key in row})


def _time(row: Mapping[str, str], key: str, where: str) -> int:
    if key not in row:
        raise UsageError(f"{where}: has no `{key}`")
    try:
        return micros_of(row[key])
    except Reject:
        raise UsageError(f"{where}: {row[key]!r} is no time; write 2024-05-01T12:00:00Z, or seconds since the epoch") from None


def check(incidents: Iterable[Incident], config: Config, path: str) -> None:
    """Every name must be one of the config. Raises UsageError."""
    funnels = {funnel.name: funnel for funnel in config.funnels}
    for incident in incidents:
        if incident.funnel and incident.funnel not in funnels:
            raise UsageError(f"{path}: there is no funnel {incident.funnel!r} in the config; there are: {', '.join(funnels)}")
        of = [funnels[incident.funnel]] if incident.funnel else list(funnels.values())
        for what, name, known in (
            ("stage", incident.stage, [stage.name for funnel in of for stage in funnel.stages]),
            ("dimension", incident.dimension, [dimension for funnel in of for dimension in funnel.dimensions]),
        ):
            if name and name not in known:
                raise UsageError(f"{path}: there is no {what} {name!r} in {incident.funnel or 'any funnel'}; there are: {', '.join(known)}")


# How a rule did


@dataclass(frozen=True)
class Page:
    """When a page went out (µs), and the alerts told in it."""

    at_us: int
    alerts: tuple[AlertKey, ...]


@dataclass(frozen=True)
class Score:
    """How a rule did. `span_us`: how long it was judged, long silences apart; `delays`: seconds from the beginning of each incident found to the alert."""

    span_us: int
    pages: int
    outside: int
    incidents: int
    delays: tuple[float, ...]

    @property
    def missed(self) -> int:
        return self.incidents - len(self.delays)

    @property
    def pages_per_week(self) -> float | None:
        return None if self.span_us <= 0 else self.pages * WEEK_US / self.span_us

    @property
    def median_delay_seconds(self) -> float | None:
        """Of the incidents that were found."""
        return median(self.delays) if self.delays else None


def score(
    rule: Rule,
    incidents: Iterable[Incident],
    pages: Sequence[Page],
    transitions: Iterable[Transition],
    span: tuple[int, int],
    judged_us: int,
) -> Score:
    """`span`: first and last boundary at which the rule was judged; incidents that lie outside do not count. `judged_us`: how long it was."""
    first_us, last_us = span
    mine = [i for i in incidents if i.concerns(rule) and i.from_us <= last_us and i.to_us >= first_us]
    fired = spans(transitions)
    delays = [_delay(incident, fired) for incident in mine]
    outside = sum(not any(_is_inside(page, incident) for incident in mine) for page in pages)
    return Score(judged_us, len(pages), outside, len(mine), tuple(delay for delay in delays if delay is not None))


def _is_inside(page: Page, incident: Incident) -> bool:
    return incident.from_us <= page.at_us <= incident.to_us and any(map(incident.is_found_by, page.alerts))


def _delay(incident: Incident, fired: Mapping[AlertKey, Sequence[tuple[int, int | None]]]) -> float | None:
    found = [
        max(0, began - incident.from_us)
        for alert, times in fired.items()
        if incident.is_found_by(alert)
        for began, ended in times
        if began <= incident.to_us and (ended is None or ended > incident.from_us)
    ]
    return min(found) / MICROS if found else None


def spans(transitions: Iterable[Transition]) -> dict[AlertKey, list[tuple[int, int | None]]]:
    """When each alert fired, from when until when (µs); None: to the end."""
    found: dict[AlertKey, list[tuple[int, int | None]]] = {}
    for told in transitions:
        times = found.setdefault(AlertKey(told.rule, told.dimension, told.value), [])
        at_us = micros_of(told.at.isoformat())
        if told.state == "firing":
            times.append((at_us, None))
        elif told.state == "resolved" and times and times[-1][1] is None:
            times[-1] = times[-1][0], at_us
    return found
