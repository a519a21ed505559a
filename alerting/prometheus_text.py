"""[pure] What an alert of Prometheus says, as a template of its own kind, and as it reads with numbers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from alerting.promql import quoted, selector
from alerting.words import AGO, percent
from schemas.funnel import Funnel
from schemas.rule import Rule

SOURCE = "funnelwatch"  # a label of every alert, as the Alertmanager channel sets it
RATIO, NUMERATOR, DENOMINATOR = "funnelwatch:rule_ratio", "funnelwatch:rule_numerator", "funnelwatch:rule_denominator"
THRESHOLD = "funnelwatch:rule_threshold_ratio"
WHAT = {"users": "users", "entries": "finished entries", "adjusted": "entries that were due"}
FORMS = {"percent": "{{ . | first | value | humanizePercentage }}", "count": '{{ . | first | value | printf "%.0f" }}'}

Split = tuple[str, str]


@dataclass(frozen=True)
class Number:
    """The last value of a recorded series of the alert's rule, for its dimension and value."""

    metric: str
    form: Literal["percent", "count"]
    unknown: str


@dataclass(frozen=True)
class Whom:
    """The alert's dimension and value, in parentheses; nothing of the total."""


Text = Sequence[str | Number | Whom]


def template(rule: str, text: Text) -> str:
    """As Prometheus takes it."""
    return "".join(_template(rule, part) for part in text)


def literal(text: str) -> str:
    """A text that a template must leave as it is."""
    return text.replace("{{", '{{ "{{" }}')


def rendered(text: Text, numbers: Mapping[str, float], split: Split | None) -> str:
    """As Prometheus makes it of a template, where the recorded series of the alert have these values."""
    return "".join(_rendered(part, numbers, split) for part in text)


def _template(rule: str, part: str | Number | Whom) -> str:
    if isinstance(part, str):
        return literal(part)
    if isinstance(part, Whom):
        return "{{ if $labels.dimension }} ({{ $labels.dimension }} {{ $labels.value }}){{ end }}"
    series = selector(part.metric, {"rule": rule}).replace("%", "%%").removesuffix("}") + ", dimension=%q, value=%q}"
    asked = f"printf {quoted(series)} $labels.dimension $labels.value | query"
    return f"{{{{ with {asked} }}}}{FORMS[part.form]}{{{{ else }}}}{literal(part.unknown)}{{{{ end }}}}"


def _rendered(part: str | Number | Whom, numbers: Mapping[str, float], split: Split | None) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Whom):
        return f" ({split[0]} {split[1]})" if split else ""
    value = numbers.get(part.metric)
    if value is None:
        return part.unknown
    return f"{100 * value:.4g}%" if part.form == "percent" else f"{value:.0f}"


def summary(rule: Rule, funnel: Funnel) -> Text:
    place = funnel.stage_index(rule.stage)
    step = " → ".join(stage.title or stage.name for stage in funnel.stages[place - 1 : place + 1])
    rate = Number(RATIO, "percent", "a rate that is not known now")
    return (funnel.title or funnel.name, Whom(), f": {step} at ", rate, f", {'over' if rule.rises else 'under'} ", *_limit(rule, funnel))


def description(rule: Rule, funnel: Funnel, window: str, recovery: float | None) -> Text:
    """The counts, and when it fires and resolves; `recovery` is None where that is another at each evaluation."""
    place = funnel.stage_index(rule.stage)
    before, stage = (stage.title or stage.name for stage in funnel.stages[place - 1 : place + 1])
    counts = (
        f"In {window}, of ", Number(DENOMINATOR, "count", "an unknown number of"), f" {WHAT[rule.basis]} at {before} ",
        Number(NUMERATOR, "count", "an unknown number"), f" went on to {stage}. {rule.name} ({rule.severity}) fires when the rate is surely ",
        "over " if rule.rises else "under ", *_limit(rule, funnel),
    )  # fmt: skip
    back = "" if recovery is None else f"; it resolves at {percent(recovery)} {'or less' if rule.rises else 'or more'}"
    return (*counts, f"{back}. Data that are missing do not resolve it.")


def _limit(rule: Rule, funnel: Funnel) -> Text:
    if rule.drop is not None:
        before = AGO.get(rule.drop.from_, f"the median of {rule.drop.over}")
        return (Number(THRESHOLD, "percent", "its threshold"), f" ({percent(rule.drop.by)} less than {before})")
    if rule.below_target:
        return (f"the target of {percent(funnel.stages[funnel.stage_index(rule.stage)].target or 0)}",)
    return (percent(rule.fixed or 0),)
