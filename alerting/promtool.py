"""[pure] Unit tests of the generated rules, for `promtool test rules`: each rule fires when it should, and stays quiet when not.

Every case feeds a rule what a worker would serve. A rule fires after `for` of a rate that is surely
beyond its threshold, goes on while the data are lost, and resolves when the rate is back. It stays
quiet at a healthy rate, with too few entrants, and while the source is behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any

from alerting.bounds import bounds
from alerting.prometheus_pipeline import pipeline_description, pipeline_runbook, pipeline_summary
from alerting.prometheus_rules import Translation, labels_of, limit_of, recovery_of
from alerting.prometheus_text import DENOMINATOR, NUMERATOR, RATIO, SOURCE, THRESHOLD, Split, Text, rendered
from alerting.promql import selector
from alerting.samples import SAME_HOURS_MIN, Sample
from schemas.config import Config
from schemas.funnel import Funnel
from schemas.pipeline import PIPELINE
from schemas.rule import Drop, Rule

HOUR, DAY = 3600, 86_400
STEP_SECONDS = 10
LONG_STEP_SECONDS = 1800  # more than Prometheus looks back: what fires is not held from step to step
LONG_FROM_SECONDS = 2 * HOUR
ENTRANTS, TENFOLD_MAX = 1000, 7
USUAL = 0.5  # of a `drop`
HISTORY = {"yesterday": DAY + HOUR, "last_week": 7 * DAY + HOUR}
WEEKS = SAME_HOURS_MIN * 7 * DAY + HOUR
QUIET = "stays quiet without data, with too few entrants, at a healthy rate, and while the source is behind"

Counts = tuple[int, int] | None  # numerator and denominator; None: nothing is served
Segment = tuple[int, Counts]  # for so many seconds


@dataclass(frozen=True)
class Test:
    """One case: what is served, and which alerts fire when."""

    long: bool  # whether it takes hours, which are gone through in longer steps
    test: Mapping[str, Any]


def pipeline_tests(config: Config, runbooks: str) -> Iterator[Test]:
    """All cases of the alert that every source has."""
    for source in config.sources:
        yield from _pipeline_tests(config, source.name, pipeline_runbook(config, runbooks))


def tests_of(translations: Sequence[Translation]) -> Iterator[Test]:
    """All cases of all rules."""
    for translation in translations:
        yield from _followed_tests(translation) if translation.follows else _Judged(translation).tests()


def document(tests: Sequence[Test], rules_file: str, step: int = STEP_SECONDS) -> dict[str, Any]:
    """The file as promtool reads it; rules are evaluated every `step` seconds, those that take long in longer ones."""
    step = LONG_STEP_SECONDS if any(test.long for test in tests) else step
    return {"rule_files": [rules_file], "evaluation_interval": f"{step}s", "tests": [dict(test.test) for test in tests]}


@dataclass(frozen=True)
class _Clock:
    """Steps at which samples come and rules are evaluated."""

    step: int

    def up(self, seconds: int) -> int:
        return -(-seconds // self.step) * self.step

    def values(self, spans: Sequence[tuple[int, float | None]]) -> str:
        """A series in promtool's notation."""
        return " ".join(_constant(seconds // self.step, value) for seconds, value in spans if seconds)


@dataclass
class _Course:
    """What is served from step to step, and what is told when."""

    segments: list[Segment] = field(default_factory=list)
    expected: list[tuple[int, Mapping[str, Any] | None]] = field(default_factory=list)
    behind_seconds: int = 0  # in the end, while there is lag

    @property
    def seconds(self) -> int:
        return sum(seconds for seconds, _ in self.segments)

    def go_on(self, rest: _Course) -> None:
        """Append what comes after it."""
        self.expected += [(self.seconds + at, told) for at, told in rest.expected]
        self.segments += rest.segments
        self.behind_seconds = rest.behind_seconds


def _constant(count: int, value: float | None) -> str:
    if value is None:
        return "stale" if count == 1 else f"stale _x{count - 1}"
    return f"{value!r}".removesuffix(".0") if count == 1 else f"{value!r}".removesuffix(".0") + f"+0x{count - 1}"


def _expected(alert: str, at: int, *firing: Mapping[str, Any]) -> dict[str, Any]:
    return {"eval_time": f"{at}s", "alertname": alert, "exp_alerts": [dict(one) for one in firing]}


def _named(rule: Rule, split: Split | None) -> dict[str, str]:
    return labels_of(rule) | ({"dimension": split[0], "value": split[1]} if split else {})


def _said(translation: Translation, numbers: Mapping[str, float], split: Split | None) -> dict[str, Any]:
    rule = translation.rule
    texts: dict[str, Text] = {"summary": translation.summary, "description": translation.description}
    annotations = {name: rendered(text, numbers, split) for name, text in texts.items()}
    return {
        "exp_labels": _named(rule, split),
        "exp_annotations": annotations | {"runbook_url": translation.runbook},
    }


def _split_of(rule: Rule, funnel: Funnel) -> Split | None:
    """A value of the first dimension that the rule judges."""
    if not rule.by:
        return None
    allowed = funnel.dimensions[rule.by[0]].allow
    return rule.by[0], allowed[0] if allowed else "one of them"


def _history(drop: Drop) -> int:
    """So much of it that there is something to measure from; of a median, hours of the same hour of the week if it goes so far back."""
    return HISTORY.get(drop.from_, WEEKS if int(drop.over) >= WEEKS else 6 * HOUR)


class _Judged:
    """Tests of a rule that is judged in PromQL."""

    def __init__(self, translation: Translation) -> None:
        self._translation = translation
        rule, funnel = translation.rule, translation.funnel
        self._rule, self._funnel = rule, funnel
        self._place = funnel.stage_index(rule.stage)
        self._warm = 0 if rule.drop is None else _history(rule.drop)
        self._long = self._warm + int(rule.for_) + int(rule.keep_firing_for) > LONG_FROM_SECONDS
        self._clock = _Clock(LONG_STEP_SECONDS if self._long else STEP_SECONDS)
        self._warm = self._clock.up(self._warm)

    def tests(self) -> Iterator[Test]:
        bad, good, split = self._bad(), self._good(), _split_of(self._rule, self._funnel)
        if self._long and bad is not None:  # one past for both, as that is what takes long
            course = self._fires(bad, good, split)
            course.go_on(self._quiet(bad, good))
            yield self._test(f"fires, resolves, {QUIET}", course, split)
            return
        for of in (None, split) if split and bad is not None else (None,):
            if bad is not None:
                whom = f" for {of[0]} {of[1]} alone" if of else ""
                yield self._test(f"fires{whom}, outlives missing data, resolves", self._fires(bad, good, of), of)
        course = self._start(good) if self._rule.drop else _Course()
        course.go_on(self._quiet(bad, good))
        yield self._test(QUIET, course, None)

    # What is served

    def _terms(self) -> tuple[float, float]:
        """Threshold and recovery."""
        rule, drop = self._rule, self._rule.drop
        if drop is None:
            return limit_of(rule, self._funnel) or 0.0, recovery_of(rule, self._funnel) or 0.0
        by = drop.by if drop.recover_by is None else drop.recover_by
        return USUAL * (1 - drop.by), USUAL * (1 - by) if rule.recovery is None else rule.recovery

    def _bad(self) -> tuple[int, int] | None:
        """Counts that are surely beyond; None where no rate is, as under 0."""
        rule, (threshold, _) = self._rule, self._terms()
        rate = (1 + threshold) / 2 if rule.rises else threshold / 2
        entrants = max(ENTRANTS, rule.min_entrants) * (100 if rule.drop else 1)
        for _ in range(TENFOLD_MAX):
            reached = ceil(rate * entrants) if rule.rises else floor(rate * entrants)
            low, upper = bounds(Sample(reached, entrants, 0), rule.basis, rule.confidence)
            if low > threshold if rule.rises else upper < threshold:
                return reached, entrants
            entrants *= 10
        return None

    def _good(self) -> tuple[int, int]:
        rule, (_, recovery) = self._rule, self._terms()
        entrants = max(ENTRANTS, rule.min_entrants) * (100 if rule.drop else 1)
        usual = USUAL if rule.drop and recovery <= USUAL else (1 + recovery) / 2
        rate = recovery / 2 if rule.rises else usual
        return (floor(rate * entrants) if rule.rises else ceil(rate * entrants)), entrants

    def _usual(self) -> tuple[int, int]:
        entrants = max(ENTRANTS, self._rule.min_entrants) * 100
        return int(USUAL * entrants), entrants

    def _series(self, segments: Sequence[Segment], split: Split | None) -> Iterator[dict[str, str]]:
        """What a worker serves of these counts, in every window."""
        rule, before = self._rule, self._funnel.stages[self._place - 1].name
        named = {"funnel": rule.funnel} | ({"dimension": split[0], "value": split[1]} if split else {})
        for window in self._translation.windows:
            labels = {**named, "stage": rule.stage, "from_stage": before, "window": window, "basis": rule.basis}
            for part, name in enumerate(("numerator", "denominator")):
                spans = [(seconds, None if counts is None else float(counts[part])) for seconds, counts in segments]
                yield self._one(selector(f"funnel_conversion_{name}", labels), spans)

    def _one(self, series: str, spans: Sequence[tuple[int, float | None]]) -> dict[str, str]:
        return {"series": series, "values": self._clock.values(spans)}

    # The cases

    def _start(self, good: tuple[int, int]) -> _Course:
        return _Course([(self._warm, self._usual() if self._rule.drop else good)] if self._warm else [])

    def _fires(self, bad: tuple[int, int], good: tuple[int, int], split: Split | None) -> _Course:
        rule, step, course = self._rule, self._clock.step, self._start(good)
        told = course.seconds + self._clock.up(int(rule.for_))
        lost = told + 2 * step
        back = lost + 2 * step
        resolved = back + self._clock.up(int(rule.keep_firing_for))
        between = bad if self._long else None
        course.segments += [(lost - course.seconds, bad), (back - lost, between), (resolved + step - back, good)]
        known = _said(self._translation, self._numbers(bad), split)
        unknown = known if self._long else _said(self._translation, self._lost(bad), split)
        if rule.for_:
            course.expected.append((told - step, None))
        course.expected += [(told, known), (back - step, unknown), (resolved, None)]
        return course

    def _numbers(self, counts: tuple[int, int]) -> dict[str, float]:
        numbers = {NUMERATOR: float(counts[0]), DENOMINATOR: float(counts[1]), RATIO: counts[0] / counts[1]}
        return numbers | ({THRESHOLD: self._terms()[0]} if self._rule.drop else {})

    def _lost(self, bad: tuple[int, int]) -> dict[str, float]:
        """What is known while nothing is served; the past still is."""
        return {name: value for name, value in self._numbers(bad).items() if name == THRESHOLD}

    def _quiet(self, bad: tuple[int, int] | None, good: tuple[int, int]) -> _Course:
        """A while each without data, with too few entrants, at a healthy rate, and while the source is behind."""
        few = self._rule.min_entrants - 1
        lasts = self._clock.up(int(self._rule.for_)) + 6 * self._clock.step
        phases: list[Counts] = [None, (few if self._rule.rises else 0, few) if few else None, good, bad]
        course = _Course([(lasts, counts) for counts in phases], behind_seconds=lasts)
        course.expected = [((number + 1) * lasts - self._clock.step, None) for number in range(len(phases))]
        return course

    def _test(self, what: str, course: _Course, split: Split | None) -> Test:
        series = [*self._series(course.segments, split)]
        if split is not None:  # everybody together is well
            start = course.segments[: 1 if self._warm else 0]
            series += self._series([*start, (course.seconds - sum(seconds for seconds, _ in start), self._good())], None)
        if course.behind_seconds:
            source, settled = {"source": self._funnel.source, "partition": "0"}, course.seconds - course.behind_seconds
            series += [
                self._one(selector("funnel_lag_records", source), [(settled, 0.0), (course.behind_seconds, 5.0)]),
                self._one(selector("funnel_watermark_timestamp_seconds", source), [(course.seconds, -100.0)]),
            ]
        return Test(
            self._long,
            {
                "name": f"{self._rule.name} {what}",
                "interval": f"{self._clock.step}s",
                "input_series": series,
                "alert_rule_test": [_expected(self._rule.name, at, *([] if told is None else [told])) for at, told in course.expected],
            },
        )


def _followed_tests(translation: Translation) -> Iterator[Test]:
    """A rule that follows funnelwatch's own state fires with it, and stays so when nothing is served."""
    rule, clock = translation.rule, _Clock(STEP_SECONDS)
    told = _said(translation, {}, None)
    named = {"rule": rule.name}
    fires = clock.values([(30, 1.0), (30, 2.0), (30, None), (30, 0.0)])
    split = _split_of(rule, translation.funnel)
    yield _state_test(rule, "fires, outlives missing data, resolves", named, fires, [(20,), (50, told), (80, told), (110,)])
    if split is not None:
        told = _said(translation, {}, split)
        of = named | {"dimension": split[0], "value": split[1]}
        yield _state_test(rule, f"fires for {split[0]} {split[1]} alone", of, fires, [(20,), (50, told), (80, told), (110,)])
    others = clock.values([(30, float(state)) for state in (0, 1, 3, 4)])
    yield _state_test(rule, "stays quiet while it is inactive, pending, or without data", named, others, [(20,), (50,), (80,), (110,)])


def _state_test(rule: Rule, what: str, labels: Mapping[str, str], values: str, expected: Sequence[tuple[Any, ...]]) -> Test:
    test = {
        "name": f"{rule.name} {what}",
        "interval": f"{STEP_SECONDS}s",
        "input_series": [{"series": selector("funnel_alert_state", labels), "values": values}],
        "alert_rule_test": [_expected(rule.name, at, *firing) for at, *firing in expected],
    }
    return Test(long=False, test=test)


def _pipeline_tests(config: Config, source: str, address: str) -> Iterator[Test]:
    clock, alarm = _Clock(STEP_SECONDS), config.pipeline
    held = clock.up(int(alarm.for_))
    end = held + 120
    labels = {"severity": alarm.severity, "source": SOURCE, "dimension": "source", "value": source}
    annotations = {"summary": pipeline_summary(source), "description": pipeline_description(config, source)}
    told = {"exp_labels": labels, "exp_annotations": annotations | {"runbook_url": address}}
    others = [one for other in config.sources if other.name != source for one in _taken(other.name, end, 7)]
    gone, flows = _taken(source, end, 7)
    _, stands = _taken(source, end, 0)
    partition = {"source": source, "partition": "0"}
    lags = {"series": selector("funnel_lag_records", partition), "values": f"5+0x{end // STEP_SECONDS}"}
    mark = selector("funnel_watermark_timestamp_seconds", partition)
    cases: tuple[tuple[str, list[dict[str, str]], list[Any]], ...] = (
        ("fires when counting is behind", [gone, flows, lags, {"series": mark, "values": f"-100+0x{end // STEP_SECONDS}"}], [told]),
        ("fires when nothing comes", [gone, stands], [told]),
        ("fires when no worker is scraped", [], [told]),
        ("stays quiet while all is counted", [gone, flows, lags, {"series": mark, "values": f"-5+10x{end // STEP_SECONDS}"}], []),
    )
    for what, series, firing in cases:
        test = {
            "name": f"{PIPELINE} of {source} {what}",
            "interval": f"{STEP_SECONDS}s",
            "input_series": [*series, *others],
            "alert_rule_test": [_expected(PIPELINE, end - STEP_SECONDS, *firing)],
        }
        yield Test(long=False, test=test)


def _taken(source: str, end: int, each_step: int) -> tuple[dict[str, str], dict[str, str]]:
    """What is served of a source of which so many records are taken at each step: those that are gone, and those applied."""
    gone, records = (
        selector("funnel_records_gone_total", {"source": source}),
        selector("funnel_records_total", {"source": source, "fate": "applied"}),
    )
    steps = end // STEP_SECONDS
    return {"series": gone, "values": f"0+0x{steps}"}, {"series": records, "values": f"7+{each_step}x{steps}"}
