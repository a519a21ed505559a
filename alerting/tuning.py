"""Which threshold, `for` and window (for a sequential rule: effect and run length) give so many pages a month.

Three passes over the history. The first judges the rule as it is, and learns what is usual: the median
rate and the median traffic. The second judges a grid of variants, all at once, at fewer boundaries
where there are many. Of those that paged no more than wanted outside labelled incidents, the best are
judged at every boundary in the third; only that one's figures are shown.

Best is what misses the fewest labelled incidents and finds them soonest; without labels, what would
find a fall soonest: from the usual rate by `fall` of it, at the usual traffic, every count being what it
is on average (the judge and detector are the live ones). Chance makes some falls quicker to find and some slower.

How many pages a month a rule sends is known from k pages in D days only up to Poisson's limits: 0 in 9
days is up to 10 a month (95%).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import ceil, floor
from statistics import median
from typing import Any

from alerting.backtest import Backtest
from alerting.conditions import judge
from alerting.course import Trial, Watch
from alerting.detectors import Steps, evidence
from alerting.incidents import Incident, Page, Score, score
from alerting.lifecycle import AlertKey
from alerting.samples import Look, Sample, Usual
from schemas.config import Config
from schemas.duration import MICROS, Duration, bucket_seconds
from schemas.errors import UsageError
from schemas.report import Transition
from schemas.rule import Drop, Rule
from streams.adjusted import poisson_limits
from streams.baseline import HOUR_US
from streams.history import History

MONTH_DAYS = 30
DAY_US = 86_400 * MICROS
SURE = 0.9  # two-sided: each limit holds at 95%
JUDGEMENTS_MAX = 100_000  # of the second pass
STRIDE_MAX = 60
TUNING_PASSES = 3
CONFIRMED = 3  # variants that the third pass judges, of each rule
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)  # of the usual rate
SHARES_SEQUENTIAL = (0.65, 0.75, 0.85)  # fewer: a limit has to be found for each anew
DROPS = (0.1, 0.2, 0.3, 0.4, 0.5)
WINDOWS = tuple(map(Duration, ("1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h", "12h", "1d", "2d", "7d")))
HOLDS = {
    step: tuple(map(Duration, written)) for step, written in {10: ("0s", "2m", "10m"), 60: ("0s", "10m", "30m"), 3600: ("0s", "2h")}.items()
}
EFFECTS = (0.4, 0.6)
SEARCH_SECONDS_MAX = 7 * 86_400
WARMED_HOURS = 14 * 24


@dataclass(frozen=True)
class Wanted:
    """What is asked for: pages a month at most, and the fall (share of the rate) that delays are told for."""

    pages_per_month: float
    fall: float | None = None  # by default the rule's effect


@dataclass
class Habits:
    """What is usual of a rule's total."""

    rates: list[float] = field(default_factory=list)
    traffic: list[float] = field(default_factory=list)  # entrants a second

    def note(self, trial: Trial) -> None:
        state = trial.states.get(AlertKey(trial.rule.name))
        verdict = state.verdict if state else None
        if verdict is None or verdict.rate is None:
            return
        self.traffic.append(verdict.denominator / verdict.window_seconds)
        if verdict.denominator >= trial.rule.min_entrants:
            self.rates.append(verdict.rate)

    @property
    def rate(self) -> float | None:
        return min(1.0, median(self.rates)) if self.rates else None

    @property
    def per_second(self) -> float:
        return median(self.traffic) if self.traffic else 0.0


@dataclass(frozen=True)
class Tried:
    """A variant of a rule, how it did, and how soon it would find the fall (seconds; None: never)."""

    rule: Rule
    score: Score
    delay_seconds: float | None

    @property
    def false_per_month(self) -> float:
        return per_month(self.score.outside, self.score.span_us)

    @property
    def false_per_month_high(self) -> float:
        """The most that it can be (95%), for all that was seen."""
        return per_month(poisson_limits(self.score.outside, SURE)[1], self.score.span_us)

    def order(self) -> tuple[float, ...]:
        """Least is best."""
        found = self.score.median_delay_seconds
        guess = SEARCH_SECONDS_MAX if self.delay_seconds is None else self.delay_seconds
        return self.score.missed, guess if found is None else found, guess, self.score.pages


@dataclass(frozen=True)
class Advice:
    """For one rule: as it is, the suggestion if there is any, and what else was tried and worth it."""

    now: Tried
    suggested: Tried | None
    choices: tuple[Tried, ...]  # none of which is both quieter and quicker than another
    rate: float | None
    per_minute: float
    fall: float


@dataclass(frozen=True)
class Tuning:
    """What came of it. `note` says what the history is too short for; empty where it is not."""

    wanted: Wanted
    first_us: int
    last_us: int
    judged_us: int  # long silences apart
    stride_seconds: int
    variants: int
    note: str
    advice: tuple[Advice, ...]


def per_month(pages: float, span_us: int) -> float:
    return pages * MONTH_DAYS * DAY_US / span_us if span_us > 0 else 0.0


def tune(history: History, config: Config, wanted: Wanted, incidents: Sequence[Incident] = (), progress: Watch | None = None) -> Tuning:
    """Raises UsageError where there is nothing to learn from."""
    habits: dict[str, Habits] = {}

    def learn(trial: Trial, _: int) -> None:
        habits.setdefault(trial.rule.name, Habits()).note(trial)

    first, as_is = _pass(history, config, incidents, 1, learn, progress)
    if not first.boundaries:
        raise UsageError("the history is too short: it passes no boundary at which the rules would be judged")
    rules = [trial.rule for trial in first.trials]
    grids = {rule.name: list(grid(rule, habits[rule.name].rate, wanted)) for rule in rules}
    variants = {variant.name: rule.name for rule in rules for variant in grids[rule.name]}
    alerts = max(len(trial.alerts()) for trial in first.trials)
    stride = min(STRIDE_MAX, max(1, ceil(first.boundaries * len(variants) * alerts / JUDGEMENTS_MAX)))
    looked, rough = _judged(history, config, [v for grid_ in grids.values() for v in grid_], incidents, stride, progress)
    delays = {rule.name: _Fall(config, rule, habits[rule.name], wanted) for rule in rules}
    chosen = {rule.name: _choose([_tried(v, rough[v.name], delays[rule.name]) for v in grids[rule.name]], wanted) for rule in rules}
    _, exact = _judged(history, config, [t.rule for best in chosen.values() for t in best], incidents, 1, progress)
    advice = []
    for rule in rules:
        now = _tried(rule, as_is[rule.name], delays[rule.name])
        sure = [_tried(tried.rule, exact[tried.rule.name], delays[rule.name]) for tried in chosen[rule.name]]
        fitting = sorted((t for t in sure if t.false_per_month <= wanted.pages_per_month), key=Tried.order)
        known = habits[rule.name]
        suggested = fitting[0] if fitting else None
        advice.append(Advice(now, suggested, _front([now, *sure]), known.rate, known.per_second * 60, delays[rule.name].fall))
    note = _too_short(first.judged_us, wanted, len(incidents))
    return Tuning(
        wanted, first.first_us, first.last_us, first.judged_us, (looked or first).step_us // MICROS, len(variants), note, tuple(advice)
    )


def _tried(rule: Rule, found: Score, fall: _Fall) -> Tried:
    return Tried(rule, found, fall.delay(rule))


def _too_short(span_us: int, wanted: Wanted, incidents: int) -> str:
    days, none = span_us / DAY_US, poisson_limits(0, SURE)[1]
    needed = none * MONTH_DAYS / wanted.pages_per_month
    if days >= needed:
        return ""
    most = per_month(none, span_us) if span_us > 0 else float("inf")
    seen = "" if incidents else ", and no incident is labelled, so that delays are calculated and not measured"
    return (
        f"{days:.1f} days are too short to tell {wanted.pages_per_month:g} pages a month: a rule that sent none in them may still send "
        f"up to {most:.0f} a month (95%); {needed:.0f} days would tell{seen}"
    )


def _judged(
    history: History,
    config: Config,
    rules: Sequence[Rule],
    incidents: Sequence[Incident],
    stride: int,
    progress: Watch | None,
) -> tuple[Backtest | None, dict[str, Score]]:
    if not rules:
        return None, {}
    return _pass(history, config.model_copy(update={"alerts": tuple(rules)}), incidents, stride, None, progress)


def _pass(
    history: History,
    config: Config,
    incidents: Sequence[Incident],
    stride: int,
    learn: Watch | None,
    progress: Watch | None,
) -> tuple[Backtest, dict[str, Score]]:
    def watch(trial: Trial, at_us: int) -> None:
        if learn is not None:
            learn(trial, at_us)
        if progress is not None:
            progress(trial, at_us)

    run = Backtest(history, config, stride=stride, thorough=learn is not None, watch=watch)
    return run, scores(run, list(run.run()), incidents)


def scores(run: Backtest, transitions: Sequence[Transition], incidents: Sequence[Incident]) -> dict[str, Score]:
    """How each rule of a finished backtest did."""
    by_rule: dict[str, list[Transition]] = {trial.rule.name: [] for trial in run.trials}
    for told in transitions:
        by_rule[told.rule].append(told)
    span = run.first_us, run.last_us
    return {
        trial.rule.name: score(trial.rule, incidents, pages(trial), by_rule[trial.rule.name], span, run.judged_us) for trial in run.trials
    }


def pages(trial: Trial) -> list[Page]:
    """The pages of a rule: each with the alerts told in it."""
    return [
        Page(floor(told.began.timestamp()) * MICROS, (told.alert, *(AlertKey(trial.rule.name, o.dimension, o.value) for o in told.others)))
        for told in trial.pages
    ]


# The grid


def grid(rule: Rule, usual: float | None, wanted: Wanted) -> Iterator[Rule]:
    """Variants of a rule, each with a name of its own."""
    parts = _sequential_parts(rule, wanted) if rule.detector == "sequential" else _windowed_parts(rule)
    for place, (threshold, change) in enumerate(product(_thresholds(rule, usual), parts)):
        yield rule.model_copy(update={**threshold, **change, "name": f"{rule.name} {place}"})


def _thresholds(rule: Rule, usual: float | None) -> list[dict[str, Any]]:
    if rule.drop is not None:
        own = rule.drop
        return [{"drop": own.model_copy(update={"by": by, "recover_by": _least(own, by)})} for by in sorted({own.by, *DROPS})]
    if rule.fixed is None:
        return [{}]
    shares = SHARES_SEQUENTIAL if rule.detector == "sequential" else SHARES
    rates = set() if usual is None else {round(usual / share if rule.rises else usual * share, 3) for share in shares}
    return [_at(rule, rate) for rate in sorted({rule.fixed, *(rate for rate in rates if 0 < rate < 1)})]


def _least(drop: Drop, by: float) -> float | None:
    return None if drop.recover_by is None else min(drop.recover_by, by)


def _at(rule: Rule, rate: float) -> dict[str, Any]:
    """The recovery goes along."""
    if rule.rises:
        return {"above": rate, "recover_below": None if rule.recover_below is None else min(rule.recover_below, rate)}
    return {"below": rate, "recover_above": None if rule.recover_above is None else max(rule.recover_above, rate)}


def _windowed_parts(rule: Rule) -> list[dict[str, Any]]:
    found = []
    longer = [w for w in WINDOWS if w > rule.window][:2]
    shorter = [w for w in WINDOWS if w < rule.window][-1:]
    for window in (*shorter, rule.window, *longer):
        if rule.long_window is not None and window >= rule.long_window:
            continue
        widen = rule.widen_to if rule.widen_to is not None and rule.widen_to > window else None
        holds = {int(hold): hold for hold in (*HOLDS[bucket_seconds(window)], rule.for_)}
        found += [{"window": window, "widen_to": widen, "for_": hold} for hold in holds.values()]
    return found


def _sequential_parts(rule: Rule, wanted: Wanted) -> list[dict[str, Any]]:
    asked = Duration(f"{max(1, ceil(MONTH_DAYS / wanted.pages_per_month))}d")
    runs = {int(run): run for run in (asked, rule.run_length)}
    return [{"effect": effect, "run_length": run} for effect in sorted({rule.effect, *EFFECTS}) for run in runs.values()]


def _choose(tried: Sequence[Tried], wanted: Wanted) -> list[Tried]:
    """Those worth a closer look: the best that are quiet enough, and the quietest."""
    if not tried:
        return []
    fitting = sorted((t for t in tried if t.false_per_month <= wanted.pages_per_month), key=Tried.order)
    quietest = min(tried, key=lambda t: (t.score.outside, *t.order()))
    best = fitting[: CONFIRMED - 1]
    return best if quietest in best else [*best, quietest]


def _front(tried: Sequence[Tried]) -> tuple[Tried, ...]:
    """From the quietest to the quickest."""
    found: list[Tried] = []
    for one in sorted(tried, key=lambda t: (t.score.outside, *t.order())):
        if not found or one.order() < found[-1].order():
            found.append(one)
    return tuple(found)


# How soon a fall would be found


class _Fall:
    """A fall from the usual rate at the usual traffic, every count being its mean."""

    def __init__(self, config: Config, rule: Rule, habits: Habits, wanted: Wanted) -> None:
        funnel, self.fall = config.funnel(rule.funnel), rule.effect if wanted.fall is None else wanted.fall
        lateness = int(config.source(funnel.source).allowed_lateness)
        self._rate, self._per_second = habits.rate, habits.per_second
        self._worse = None if self._rate is None else min(1.0, self._rate * (1 + self.fall if rule.rises else 1 - self.fall))
        # What the rule sees on this basis is as old as that.
        self._age = int(funnel.conversion_window) + lateness if rule.basis == "entries" else 0
        self._target = funnel.stages[funnel.stage_index(rule.stage)].target

    def delay(self, rule: Rule) -> float | None:
        """Seconds from the fall to the page; None: the rule would not find it."""
        if self._rate is None or self._worse is None or not self._per_second:
            return None
        step = bucket_seconds(rule.window)
        if rule.detector == "sequential" and not self._grows(rule):
            return None
        found = self._first(lambda buckets: self._is_seen(rule, buckets, step), SEARCH_SECONDS_MAX // step)
        return None if found is None else float(found * step + self._age + ceil(int(rule.for_) / step) * step)

    def _grows(self, rule: Rule) -> bool:
        """Whether the evidence does, once the rate has fallen."""
        drop, rate, worse = rule.drop, self._rate or 0.0, self._worse or 0.0
        threshold = rate * (1 - drop.by) if drop is not None else self._target if rule.below_target else rule.fixed
        of = evidence(threshold or 0.0, rule.effect, rises=rule.rises, poisson=rule.basis == "adjusted")
        return of.hit * worse + of.entrant > 0

    @staticmethod
    def _first(seen: Callable[[int], bool], most: int) -> int | None:
        """The first number of buckets after which it is seen; once it is seen it goes on to be."""
        high = 1
        while not seen(high):
            if high >= most:
                return None
            high = min(2 * high, most)
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if seen(middle) else (middle, high)
        return high

    def _is_seen(self, rule: Rule, buckets: int, step: int) -> bool:
        seconds = buckets * step
        window = self._sample(int(rule.window), seconds)
        while window.denominator < rule.min_entrants and rule.widen_to is not None and window.seconds < rule.widen_to:
            window = self._sample(min(2 * window.seconds, int(rule.widen_to)), seconds)
        rate, hour = self._rate or 0.0, WARMED_HOURS
        usual = Usual(rate, self._per_second * 3600 * WARMED_HOURS, hour)
        end_us = hour * HOUR_US
        seen = Look(
            boundary_us=end_us,
            basis=rule.basis,
            window=window,
            long=None if rule.long_window is None else self._sample(int(rule.long_window), seconds),
            target=self._target,
            baseline=usual if rule.drop is not None else None,
            usual=usual,
            steps=self._steps(step, buckets) if rule.detector == "sequential" else None,
        )
        return judge(rule, seen, None).outcome == "breach"

    def _sample(self, window: int, since: int) -> Sample:
        """So long after the fall."""
        worse = min(window, since)
        entered = self._per_second * window
        converted = self._per_second * ((self._rate or 0.0) * (window - worse) + (self._worse or 0.0) * worse)
        return Sample(round(converted), round(entered), window)

    def _steps(self, step: int, buckets: int) -> Steps:
        """Buckets since the fall, of which each has its mean to the next whole number."""
        entered = [round(self._per_second * step * n) for n in range(buckets + 1)]
        converted = [round(self._per_second * step * n * (self._worse or 0.0)) for n in range(buckets + 1)]
        counts = [(k1 - k0, float(n1 - n0)) for k0, k1, n0, n1 in zip(converted, converted[1:], entered, entered[1:])]
        return Steps(0, step, counts, buckets)
