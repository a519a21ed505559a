"""[pure] Unit tests of the generated rules, for `promtool test rules`: each rule fires when it should, and stays quiet when not.

Every case feeds a rule what a worker would serve. A rule fires after `for` of a rate that is surely
beyond its threshold, goes on while the data are lost, and resolves when the rate is back. It stays
quiet at a healthy rate, with too few entrants, and while the source is behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

from alerting.bounds import bounds
from alerting.prometheus_pipeline import pipeline_description, pipeline_summary
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
LONG_STEP_SECONDS, LONG_SAMPLE_SECONDS = 1800, 60  # more than Prometheus looks back: what fires is not held from step to step
LONG_FROM_SECONDS = 2 * HOUR
ENTRANTS, TENFOLD_MAX = 1000, 7
USUAL = 0.5  # of a `drop`
HISTORY = {"yesterday": DAY + HOUR, "last_week": 7 * DAY + HOUR}
WEEKS = SAME_HOURS_MIN * 7 * DAY + HOUR

Counts = tuple[int, int] | None  # numerator and denominator; None: nothing is served
Segment = tuple[int, Counts]  # for so many seconds


@dataclass(frozen=True)
class Test:
    """One case: what is served, and which alerts fire when."""

    long: bool  # whether it takes hours, which are gone through in longer steps
    test: Mapping[str, Any]


def tests_of(config: Config, translations: Sequence[Translation]) -> Iterator[Test]:
    """All cases of all rules."""
    for source in config.sources:
        yield from _pipeline_tests(config, source.name)
    for translation in translations:
        yield from _followed_tests(translation) if translation.follows else _Judged(translation).tests()


def document(tests: Sequence[Test], rules_file: str) -> dict[str, Any]:
    """The file as promtool reads it."""
    step = LONG_STEP_SECONDS if any(test.long for test in tests) else STEP_SECONDS
    return {"rule_files": [rules_file], "evaluation_interval": f"{step}s", "tests": [dict(test.test) for test in tests]}


@dataclass(frozen=True)
class _Clock:
    """Steps at which rules are evaluated, and samples come."""

    step: int
    sample: int

    def up(self, seconds: int) -> int:
        return -(-seconds // self.step) * self.step

    def values(self, spans: Sequence[tuple[int, float | None]]) -> str:
        """A series in promtool's notation."""
        return " ".join(_constant(seconds // self.sample, value) for seconds, value in spans if seconds)


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
        "exp_annotations": annotations | ({"runbook_url": rule.runbook} if rule.runbook else {}),
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
        if rule.basis == "entries":
            self._warm = translation.finished_after
        else:
            self._warm = 0 if rule.drop is None else _history(rule.drop)
        self._long = self._warm + int(rule.for_) + int(rule.keep_firing_for) > LONG_FROM_SECONDS
        self._clock = _Clock(LONG_STEP_SECONDS, LONG_SAMPLE_SECONDS) if self._long else _Clock(STEP_SECONDS, STEP_SECONDS)
        self._warm = self._clock.up(self._warm)

    def tests(self) -> Iterator[Test]:
        bad, good, split = self._bad(), self._good(), _split_of(self._rule, self._funnel)
        for of in (None, split) if split and not self._long else (split,):
            if bad is not None:
                whom = f" for {of[0]} {of[1]} alone" if of else ""
                yield self._fires(f"fires{whom}, {'' if self._long else 'outlives missing data, '}resolves", bad, good, of)
        yield self._quiet(bad, good)

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
        rule, stages = self._rule, self._funnel.stages
        before = stages[self._place - 1].name
        named = {"funnel": rule.funnel} | ({"dimension": split[0], "value": split[1]} if split else {})
        numerators = [(seconds, None if counts is None else float(counts[0])) for seconds, counts in segments]
        denominators = [(seconds, None if counts is None else float(counts[1])) for seconds, counts in segments]
        for window in self._translation.windows:
            if rule.basis == "users":
                yield self._one(selector("funnel_stage_users", {**named, "stage": before, "window": window}), denominators)
                yield self._one(selector("funnel_stage_users", {**named, "stage": rule.stage, "window": window}), numerators)
            else:
                entries = denominators if rule.basis == "adjusted" else self._opened(denominators)
                yield self._one(selector("funnel_stage_entries", {**named, "stage": before, "window": window}), entries)
                rates = [(seconds, None if counts is None else counts[0] / counts[1]) for seconds, counts in segments]
                labels = {**named, "stage": rule.stage, "from_stage": before, "window": window, "basis": rule.basis}
                yield self._one(selector("funnel_conversion_ratio", labels), rates)

    def _opened(self, finished: Sequence[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
        """Entries that opened as long before as it takes them to finish; nothing of that is lost when the rate is."""
        known = [count for _, count in finished if count is not None]
        return [(seconds, known[0] if count is None else count) for seconds, count in finished]

    def _one(self, series: str, spans: Sequence[tuple[int, float | None]]) -> dict[str, str]:
        return {"series": series, "values": self._clock.values(spans)}

    # The cases

    def _start(self, good: tuple[int, int]) -> list[Segment]:
        if not self._warm:
            return []
        return [(self._warm, self._usual() if self._rule.drop else good)]

    def _fires(self, what: str, bad: tuple[int, int], good: tuple[int, int], split: Split | None) -> Test:
        rule, step = self._rule, self._clock.step
        if rule.basis == "entries":  # so many opened when these did
            good = round(good[0] / good[1] * bad[1]), bad[1]
        told = self._warm + self._clock.up(int(rule.for_))
        lost = told + 2 * step
        back = lost + 2 * step
        resolved = back + self._clock.up(int(rule.keep_firing_for))
        between = bad if self._long else None
        segments: list[Segment] = [*self._start(good), (lost - self._warm, bad), (back - lost, between), (resolved + step - back, good)]
        series = [*self._series(segments, split)]
        if split is not None:
            series += self._series([*self._start(good), (resolved + step - self._warm, good)], None)
        known = _said(self._translation, self._numbers(bad), split)
        unknown = known if self._long else _said(self._translation, self._lost(bad), split)
        expected = [_expected(rule.name, told - step)] if rule.for_ else []
        expected += [_expected(rule.name, told, known), _expected(rule.name, back - step, unknown), _expected(rule.name, resolved)]
        return self._test(what, series, expected)

    def _numbers(self, counts: tuple[int, int]) -> dict[str, float]:
        numbers = {NUMERATOR: float(counts[0]), DENOMINATOR: float(counts[1]), RATIO: counts[0] / counts[1]}
        return numbers | ({THRESHOLD: self._terms()[0]} if self._rule.drop else {})

    def _lost(self, bad: tuple[int, int]) -> dict[str, float]:
        """What is known while nothing is served; the entries that opened long ago, and the past, still are."""
        numbers = self._numbers(bad)
        kept = {THRESHOLD} | ({DENOMINATOR} if self._rule.basis == "entries" else set())
        return {name: value for name, value in numbers.items() if name in kept}

    def _quiet(self, bad: tuple[int, int] | None, good: tuple[int, int]) -> Test:
        """A while each without data, with too few entrants, at a healthy rate, and while the source is behind."""
        few = self._rule.min_entrants - 1
        finished = 0 if self._rule.drop else self._warm
        lasts = self._clock.up(finished + int(self._rule.for_)) + 6 * self._clock.step
        phases: list[Counts] = [None, (few if self._rule.rises else 0, few) if few else None, good, bad]
        segments = [*(self._start(good) if self._rule.drop else []), *((lasts, counts) for counts in phases)]
        end = sum(seconds for seconds, _ in segments)
        source = {"source": self._funnel.source, "partition": "0"}
        series = [
            *self._series(segments, None),
            self._one(selector("funnel_lag_records", source), [(end - lasts, 0.0), (lasts, 5.0)]),
            self._one(selector("funnel_watermark_timestamp_seconds", source), [(end, -100.0)]),
        ]
        expected = [_expected(self._rule.name, end - number * lasts - self._clock.step) for number in range(len(phases))[::-1]]
        return self._test(
            "stays quiet without data, with too few entrants, at a healthy rate, and while the source is behind", series, expected
        )

    def _test(self, what: str, series: Sequence[dict[str, str]], expected: Sequence[dict[str, Any]]) -> Test:
        return Test(
            self._long,
            {
                "name": f"{self._rule.name} {what}",
                "interval": f"{self._clock.sample}s",
                "input_series": [*series],
                "alert_rule_test": [*expected],
            },
        )


def _followed_tests(translation: Translation) -> Iterator[Test]:
    """A rule that follows funnelwatch's own state fires with it, and stays so when nothing is served."""
    rule, clock = translation.rule, _Clock(STEP_SECONDS, STEP_SECONDS)
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


def _pipeline_tests(config: Config, source: str) -> Iterator[Test]:
    clock, alarm = _Clock(STEP_SECONDS, STEP_SECONDS), config.pipeline
    held = clock.up(int(alarm.for_))
    end = held + 120
    labels = {"severity": alarm.severity, "source": SOURCE, "dimension": "source", "value": source}
    annotations = {"summary": pipeline_summary(source), "description": pipeline_description(config, source)}
    told = {"exp_labels": labels, "exp_annotations": annotations | ({"runbook_url": alarm.runbook} if alarm.runbook else {})}
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
