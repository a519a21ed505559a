"""[pure] A config's rules for those who alert from Prometheus: recording and alerting rules over what a worker serves.

What PromQL can say with the same meaning is said in it, with the same evidence. A rule that it cannot
say follows `funnel_alert_state` instead, funnelwatch's own verdict, so that nothing is judged by a
weaker rule under the same name. What differs is told for each.

What fires is held by the alert itself (`ALERTS`): it is over when the rate is seen to be back, and
not when there are no data. Missing data have no series, so they are never a rate of 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alerting.bounds import EXACT_BELOW
from alerting.prometheus_health import LEAK, RUNBOOKS, runbook
from alerting.prometheus_pipeline import LOOKED_AGAIN_SECONDS, behind, still
from alerting.prometheus_text import DENOMINATOR, NUMERATOR, RATIO, SOURCE, THRESHOLD, Text, description, literal, summary, template
from alerting.promql import by_split, counted, either, indented, number, poisson, selector, wilson
from alerting.samples import MEDIAN_SHARE, SAME_HOURS_MIN, SHIFT_HOURS
from alerting.words import short
from schemas.config import Config
from schemas.duration import bucket_seconds
from schemas.funnel import Funnel
from schemas.rule import Drop, Rule
from streams.baseline import HOURS_OF_WEEK

HOUR = 3600
INTERVAL_SECONDS_MAX = 60  # what is not evaluated for 5 minutes is forgotten
UNSETTLED = "funnelwatch:rule_unsettled"
LIMIT, COUNTED = "funnelwatch:rule_limit_ratio", "funnelwatch:rule_counted"
HOUR_RATIO, HOUR_ENTRANTS = "funnelwatch:rule_hour_ratio", "funnelwatch:rule_hour_entrants"
BASELINE, BASELINE_ENTRANTS = "funnelwatch:rule_baseline_ratio", "funnelwatch:rule_baseline_entrants"
MARGIN = "funnelwatch:rule_margin_ratio"

EVERY_RULE = (
    "One alert a cause, with the others listed in it: here each value of a dimension is an alert of its own; group them in Alertmanager.",
    "What a page says beyond rate, counts and threshold: users and value lost per hour, the value that explains the drop, a picture.",
    "Boundaries of event time: rules are evaluated on Prometheus's clock over what it last scraped, and the newest bucket is not full.",
    f"Exact binomial limits of under {EXACT_BELOW} entrants: Wilson's with Yates's correction stands for them, within 3 points from 10 on (at 95%).",
    "Delivery under one key, dead letters, `notify`, silences, acknowledgements and their audit log: routing and silences are Alertmanager's.",
    "The data states low_sample, no_data and stale of each rule: a source without data is told as FunnelwatchPipeline, and what was pending then begins anew.",
    "Timers that outlive any restart: a Prometheus that was down for over 5 minutes has forgotten what it held firing.",
    "`funnelwatch backtest` runs funnelwatch's own judgement, not these rules.",
)


@dataclass(frozen=True)
class Span:
    """Numerator and denominator of the step over a trailing window, as PromQL, and the series they are made of."""

    seconds: int
    numerator: str
    denominator: str


@dataclass(frozen=True)
class Translation:
    """A rule in PromQL: a group of rules, and how it differs from what funnelwatch judges."""

    rule: Rule
    funnel: Funnel
    group: Mapping[str, Any]
    summary: Text
    description: Text
    differences: Sequence[str] = ()
    obstacles: Sequence[str] = ()  # why it follows funnelwatch's own state
    windows: Sequence[str] = ()  # whose series it looks at
    runbook: str = ""

    @property
    def follows(self) -> bool:
        return bool(self.obstacles)


@dataclass
class _Notes:
    differences: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)


def translate(config: Config, runbooks: str = RUNBOOKS) -> tuple[Translation, ...]:
    """Every rule of the config in PromQL; one without a runbook of its own has that of any leak."""
    return tuple(_Translator(config, rule, rule.runbook or runbook(runbooks, LEAK)).translation() for rule in config.alerts)


def labels_of(rule: Rule) -> dict[str, str]:
    """What names an alert, besides its dimension and value: as the Alertmanager channel has it."""
    return {"funnel": rule.funnel, "stage": rule.stage, "severity": rule.severity, "source": SOURCE}


def interval_seconds(rule: Rule) -> int:
    """How often a rule is evaluated: as funnelwatch does, but each minute at least; what a drop is measured from costs more."""
    return INTERVAL_SECONDS_MAX if rule.drop is not None else min(INTERVAL_SECONDS_MAX, bucket_seconds(rule.window))


def limit_of(rule: Rule, funnel: Funnel) -> float | None:
    """The threshold, where it is a number."""
    return funnel.stages[funnel.stage_index(rule.stage)].target if rule.below_target else rule.fixed


def recovery_of(rule: Rule, funnel: Funnel) -> float | None:
    """The recovery, where it is a number."""
    return limit_of(rule, funnel) if rule.recovery is None else rule.recovery


class _Translator:
    def __init__(self, config: Config, rule: Rule, address: str) -> None:
        self._rule = rule
        self._runbook = address
        self._funnel = config.funnel(rule.funnel)
        self._windows = {int(window): str(window) for window in config.windows_of(self._funnel)}
        self._finished_after = int(self._funnel.conversion_window) + int(config.source(self._funnel.source).allowed_lateness)
        self._still_seconds = int(config.pipeline.for_) or LOOKED_AGAIN_SECONDS
        self._notes = _Notes()
        self._looked_at: set[int] = set()

    def translation(self) -> Translation:
        rule, notes = self._rule, self._notes
        span, longer = self._span(int(rule.window)), None
        if rule.detector == "sequential":
            notes.obstacles.append("evidence that is added up bucket by bucket, up to a limit made from run_length (detector: sequential)")
        if span is None:
            self._not_exposed("window", int(rule.window))
        if rule.long_window is not None:
            longer = self._span(int(rule.long_window))
            if longer is None:
                self._not_exposed("long_window", int(rule.long_window))
        spans = [] if span is None else [span, *self._wider()]
        records = list(self._counts(spans))
        if not notes.obstacles and span is not None:
            self._tell_differences()
            records += self._judged(longer)
        told = summary(rule, self._funnel), description(rule, self._funnel, str(rule.window), recovery_of(rule, self._funnel))
        group = {
            "name": f"funnelwatch rule {rule.name}",
            "interval": f"{interval_seconds(rule)}s",
            "rules": [*records, self._alert(*told, longer=longer is not None)],
        }
        return Translation(
            rule, self._funnel, group, *told, tuple(notes.differences) if not notes.obstacles else (), tuple(notes.obstacles),
            tuple(self._windows[seconds] for seconds in sorted(self._looked_at)), self._runbook,
        )  # fmt: skip

    # What the exposition has

    def _span(self, seconds: int) -> Span | None:
        """None where a worker serves nothing about such a window."""
        served = self._finished(seconds) if self._rule.basis == "entries" else seconds
        if served is None or served not in self._windows:
            return None
        self._looked_at.add(served)
        return Span(seconds, *(self._part(name, self._windows[served]) for name in ("numerator", "denominator")))

    def _finished(self, seconds: int) -> int | None:
        """The shortest exposed window whose finished entries opened within `seconds` at least, and within twice that at most."""
        fitting = [w for w in self._windows if seconds <= w - self._finished_after <= 2 * seconds + bucket_seconds(w)]
        return min(fitting, default=None)

    def _part(self, name: str, window: str) -> str:
        labels = {"basis": self._rule.basis, **self._dimensions(), "funnel": self._rule.funnel, "stage": self._rule.stage, "window": window}
        return by_split(selector(f"funnel_conversion_{name}", labels))

    def _dimensions(self) -> dict[str, str | Sequence[str]]:
        return {"dimension": ["", *self._rule.by] if self._rule.by else ""}

    def _wider(self) -> Iterator[Span]:
        rule = self._rule
        if rule.widen_to is None or rule.detector == "sequential":
            return
        between = sorted(w for w in self._windows if int(rule.window) < w <= int(rule.widen_to))
        spans = [span for span in map(self._span, between) if span is not None]
        if not spans:
            self._not_exposed("widen_to", int(rule.widen_to))
        else:
            steps = ", ".join(short(span.seconds) for span in spans)
            self._notes.differences.append(
                f"widen_to: {rule.widen_to} goes through the windows that are served ({steps}) instead of doublings"
            )
        yield from spans

    def _not_exposed(self, key: str, seconds: int) -> None:
        what, wanted = f"{key}: {short(seconds)}", seconds
        if self._rule.basis == "entries":
            what += " of finished entries"
            wanted += self._finished_after
            wanted = -(-wanted // bucket_seconds(wanted)) * bucket_seconds(wanted)
        self._notes.obstacles.append(
            f"{what}, of which no series is served; with {short(wanted)} among the `windows` of funnel {self._funnel.name} there is one"
        )

    # Recording rules

    def _record(self, metric: str, expr: str) -> dict[str, Any]:
        rule = self._rule
        return {"record": metric, "expr": expr, "labels": {"rule": rule.name, "funnel": rule.funnel, "stage": rule.stage}}

    def _at(self, metric: str, offset: str = "") -> str:
        return selector(metric, {"rule": self._rule.name}, offset)

    def _counts(self, spans: Sequence[Span], longer: str = "") -> Iterator[dict[str, Any]]:
        """Numerator and denominator of the first span with entrants enough, and the rate."""
        if not spans:
            return
        least = self._rule.min_entrants
        first = spans[0]
        numerators, denominators = [first.numerator], [first.denominator]
        if len(spans) > 1:
            numerators = [*(f"({span.numerator} and {span.denominator} >= {least})" for span in spans), first.numerator]
            denominators = [*(f"({span.denominator} >= {least})" for span in spans), first.denominator]
        yield self._record(NUMERATOR + longer, either(*numerators))
        yield self._record(DENOMINATOR + longer, either(*denominators))
        yield self._record(RATIO + longer, f"{self._at(NUMERATOR + longer)} / ({self._at(DENOMINATOR + longer)} > 0)")

    def _judged(self, longer: Span | None) -> Iterator[dict[str, Any]]:
        source = self._funnel.source
        yield self._record(UNSETTLED, either(behind(source), still(source, self._still_seconds)))
        if self._rule.drop is not None:
            yield from self._usual(self._rule.drop)
        yield from self._limits("")
        if longer is not None:
            yield from self._counts([longer], "_long")
            yield from self._limits("_long")

    def _limits(self, longer: str) -> Iterator[dict[str, Any]]:
        """The confidence limit that must lie beyond the threshold; there is none of fewer than `min_entrants`."""
        rule, ratio = self._rule, self._at(RATIO + longer)
        numerator, denominator = self._at(NUMERATOR + longer), self._at(DENOMINATOR + longer)
        if rule.basis == "adjusted":
            limit = poisson(numerator, denominator, rule.confidence, upper=not rule.rises)
        else:
            yield self._record(COUNTED + longer, counted(numerator, denominator, rises=rule.rises))
            limit = wilson(self._at(COUNTED + longer), denominator, rule.confidence, upper=not rule.rises)
        if rule.drop is not None:
            limit = f"{ratio} + sqrt(clamp_min({limit} - {ratio}, 0) ^ 2 + {self._at(MARGIN)} ^ 2)"
        yield self._record(LIMIT + longer, f"({limit})\nand {denominator} >= {rule.min_entrants}")

    # What a drop is measured from

    def _usual(self, drop: Drop) -> Iterator[dict[str, Any]]:
        rule, hour = self._rule, short(HOUR)
        numerator, denominator = (f"avg_over_time({self._at(metric)}[{hour}])" for metric in (NUMERATOR, DENOMINATOR))
        times = max(1.0, HOUR / int(rule.window))
        yield self._record(HOUR_ENTRANTS, f"{denominator} * {number(times)} >= {rule.min_entrants}")
        yield self._record(HOUR_RATIO, f"{numerator} / {denominator}\nand {self._at(HOUR_ENTRANTS)}")
        if drop.from_ == "median":
            yield from self._median(drop)
        else:
            ago = short(SHIFT_HOURS[drop.from_] * HOUR - HOUR // 2)
            yield self._record(BASELINE, self._at(HOUR_RATIO, ago))
            yield self._record(BASELINE_ENTRANTS, self._at(HOUR_ENTRANTS, ago))
        kept = 1 - drop.by
        known, entrants = f"clamp_max({self._at(BASELINE)}, 1)", self._at(BASELINE_ENTRANTS)
        low = wilson(f"{known} * {entrants}", entrants, rule.confidence, upper=False)
        yield self._record(THRESHOLD, f"{self._at(BASELINE)} * {number(kept)}")
        yield self._record(MARGIN, f"{number(kept)} * ({known} - {low})")

    def _median(self, drop: Drop) -> Iterator[dict[str, Any]]:
        """Of the hours of this hour of the week where there are three, else of all."""
        window = short(max(HOUR, int(self._rule.window)))
        ratios, entrants = (f"{self._at(metric)}[{short(int(drop.over))}:1h] offset {window}" for metric in (HOUR_RATIO, HOUR_ENTRANTS))
        medians = [f"(quantile_over_time(0.5, {ratios}) and count_over_time({ratios}) >= {SAME_HOURS_MIN})"]
        rests = [f"{number(MEDIAN_SHARE)} * sum_over_time({entrants})"]
        weeks = range(1, int(drop.over) // (HOURS_OF_WEEK * HOUR) + 1)
        if len(weeks) >= SAME_HOURS_MIN:
            same = [either(*(self._weeks_ago(metric, week) for week in weeks)) for metric in (HOUR_RATIO, HOUR_ENTRANTS)]
            of = "dimension, funnel, rule, stage, value"
            enough = f"count by ({of}) (\n{indented(same[0])}\n) >= {SAME_HOURS_MIN}"
            medians.insert(0, f"(quantile by ({of}) (0.5,\n{indented(same[0])}\n) and {enough})")
            rests.insert(0, f"({number(MEDIAN_SHARE)} * sum by ({of}) (\n{indented(same[1])}\n) and {enough})")
        yield self._record(BASELINE, either(*medians))
        yield self._record(BASELINE_ENTRANTS, either(*rests))

    def _weeks_ago(self, metric: str, weeks: int) -> str:
        ago = self._at(metric, short(weeks * HOURS_OF_WEEK * HOUR - HOUR // 2))
        return f'label_replace({ago}, "weeks", "{weeks}", "", "")'

    # The alert

    def _alert(self, said: Text, described: Text, *, longer: bool) -> dict[str, Any]:
        rule, follows = self._rule, bool(self._notes.obstacles)
        alert: dict[str, Any] = {"alert": rule.name, "expr": self._followed() if follows else self._fires(longer=longer)}
        if not follows and int(rule.for_):
            alert["for"] = short(int(rule.for_))
        if not follows and int(rule.keep_firing_for):
            alert["keep_firing_for"] = short(int(rule.keep_firing_for))
        alert["labels"] = {name: literal(value) for name, value in labels_of(rule).items()}
        alert["annotations"] = {"summary": template(rule.name, said), "description": template(rule.name, described)}
        alert["annotations"]["runbook_url"] = literal(self._runbook)
        return alert

    def _fires(self, *, longer: bool) -> str:
        """Beyond the threshold, or firing already and not seen to be back; neither while the source has no data."""
        rule, settled = self._rule, f"unless on () {self._at(UNSETTLED)}"
        beyond = ">" if rule.rises else "<"
        threshold = limit_of(rule, self._funnel)
        than = self._at(THRESHOLD) if threshold is None else number(threshold)
        limits = [f"{self._at(LIMIT + which)} {beyond} {than}" for which in ("", "_long")[: 1 + longer]]
        breach = "\nand ".join(limits) + f"\n{settled}"
        back = f"{self._at(RATIO)} {'<=' if rule.rises else '>='} {self._recovery()}\nand {self._at(DENOMINATOR)} >= {rule.min_entrants}\n{settled}"
        return _held(rule, f"max by (dimension, value) (\n{indented(breach)}\n)", back)

    def _recovery(self) -> str:
        known = recovery_of(self._rule, self._funnel)
        if known is not None:
            return number(known)
        drop = self._rule.drop
        by = None if drop is None else drop.recover_by
        return self._at(THRESHOLD) if by is None else f"{self._at(BASELINE)} * {number(1 - by)}"

    def _followed(self) -> str:
        state = by_split(selector("funnel_alert_state", {**self._dimensions(), "rule": self._rule.name}))
        return _held(self._rule, f"{state} == 2", f"{state} != 2")

    # What differs

    def _tell_differences(self) -> None:
        rule, say = self._rule, self._notes.differences.append
        if rule.basis == "adjusted":
            say("basis: adjusted without a baseline is not judged, where funnelwatch takes finished entries")
        finished = self._finished(int(rule.window)) if rule.basis == "entries" else None
        if finished is not None:
            say(
                f"basis: entries is judged by the finished entries of the window {self._windows[finished]}, which opened in "
                f"{short(finished - self._finished_after)} and not in {rule.window}"
                if finished - self._finished_after != int(rule.window)
                else f"basis: entries is judged by the finished entries of the window {self._windows[finished]}"
            )
        if rule.drop is not None:
            ago = {"yesterday": 24 * HOUR, "last_week": HOURS_OF_WEEK * HOUR}.get(rule.drop.from_, int(rule.drop.over))
            kept = short(-(-(ago + 2 * HOUR) // (24 * HOUR)) * 24 * HOUR)
            say(
                "what a drop is measured from are hours of what Prometheus itself recorded, and not the history that funnelwatch keeps: it "
                f"begins to judge once these rules have run for that long, and Prometheus must keep {kept} (--storage.tsdb.retention.time)"
            )


def _held(rule: Rule, breach: str, back: str) -> str:
    """What fires goes on until it is seen to be back."""
    named = {"alertname": rule.name, "alertstate": "firing", **{k: v for k, v in labels_of(rule).items() if k != "severity"}}
    firing = by_split(selector("ALERTS", named))
    return f"{breach}\nor\n(\n{indented(f'{firing}{chr(10)}unless on (dimension, value) ({chr(10)}{indented(back)}{chr(10)})')}\n)"
