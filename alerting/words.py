"""[pure] The sentences about one alert; each is true of its state, whatever that is."""

from __future__ import annotations

from alerting.lifecycle import AlertKey, RuleState
from alerting.localise import Recent
from alerting.reports import moment
from schemas.duration import UNITS
from schemas.funnel import Funnel, Stage
from schemas.rule import Rule

DECIMALS_MAX = 6
AGO = {"last_week": "the same time last week", "yesterday": "the same time yesterday"}


class Words:
    """Title and sentences, on what rule and state say; what they do not say is left out."""

    def __init__(self, rule: Rule, funnel: Funnel, alert: AlertKey, state: RuleState, recent: Recent | None = None) -> None:
        place = funnel.stage_index(rule.stage)
        self._rule, self._alert, self._state, self._recent = rule, alert, state, recent
        self._funnel = funnel.title or funnel.name
        self._conversion_window = funnel.conversion_window
        self._from, self._to = _name(funnel.stages[place - 1]), _name(funnel.stages[place])
        verdict = state.verdict
        self._known = verdict is not None and verdict.outcome != "unknown"
        self.rate = verdict.rate if verdict and self._known else None
        self.basis = verdict.basis if verdict else rule.basis
        self.window = short(verdict.window_seconds) if verdict and verdict.window_seconds else str(rule.window)
        self.threshold = verdict.threshold if verdict and verdict.threshold is not None else rule.fixed
        self._recovery = verdict.recovery if verdict and verdict.recovery is not None else rule.recovery
        if self._recovery is None:
            self._recovery = self.threshold
        self._beyond, self._back = ("over", "or less") if rule.rises else ("under", "or more")

    def title(self) -> str:
        whom = "" if self._alert.dimension is None else f" ({self._alert.dimension} {self._alert.value})"
        return f"{self._funnel}{whom}: {self._from} → {self._to} {self._standing()}"

    def _standing(self) -> str:
        rate, threshold, recovery = self.rate, self.threshold, self._recovery
        if rate is None:
            return f"was {self._beyond} {self._limit()}, now {self._why_unknown()}"
        if not self._state.fires:
            return f"back at {percent(rate)} (resolved)"
        if threshold is not None and self._is_beyond(rate, threshold):
            return f"at {percent(rate, apart_from=threshold)}, {self._beyond} {self._limit()}"
        if self._state.state == "recovering":
            return f"at {percent(rate)}, recovering"
        if self._state.verdict is not None and self._state.verdict.outcome == "breach":
            return self._by_evidence(rate)
        if recovery is not None and self._is_beyond(rate, recovery):
            return f"at {percent(rate, apart_from=recovery)}, not yet back to {percent(recovery)}"
        return f"at {percent(rate)}, still firing"

    def _by_evidence(self, rate: float) -> str:
        """A sequential rule may know from a part of the window what the whole does not show yet, or no more."""
        recent, threshold = self._recent, self.threshold
        if recent is not None and recent.rate is not None and threshold is not None and self._is_beyond(recent.rate, threshold):
            return f"at {percent(recent.rate, apart_from=threshold)} since {moment(recent.since_us):%H:%M:%S} UTC, {self._beyond} {self._limit()}"
        return f"at {percent(rate, apart_from=threshold)} over {self.window}, by what came bucket by bucket {self._beyond} {self._limit()}"

    def _is_beyond(self, rate: float, limit: float) -> bool:
        return rate > limit if self._rule.rises else rate < limit

    def _limit(self) -> str:
        """The threshold as the rule means it."""
        shown = "its threshold" if self.threshold is None else percent(self.threshold)
        baseline = self._state.verdict.baseline if self._state.verdict else None
        if self._rule.below_target:
            return f"the target of {shown}" if self.threshold is not None else "the target"
        if self._rule.drop is None:
            return shown
        before = AGO.get(self._rule.drop.from_, f"the median of {self._rule.drop.over}")
        by = percent(self._rule.drop.by)
        if self.threshold is None or baseline is None:
            return f"{before} by more than {by}"
        return f"{shown} ({by} less than the {percent(baseline)} of {before})"

    def _why_unknown(self) -> str:
        reason = self._state.verdict.reason if self._state.verdict else "no_data"
        if reason == "no_data" or self._state.data == "no_data":
            return "no users to tell by"
        if reason == "no_baseline":
            return "nothing to compare with"
        return "too few users to tell"

    def lines(self) -> list[str]:
        """Sentence by sentence: the numbers, the rule, since when, how it stands, what is to be known besides."""
        said = [self._lately(), *self._firing()] if self._state.fires else self._resolved()
        return [line for line in (self._counts(), *said, *self._besides()) if line]

    # The numbers

    def _counts(self) -> str:
        verdict = self._state.verdict
        numerator, denominator = (verdict.numerator, verdict.denominator) if verdict else (0, 0)
        whom = "" if self._alert.dimension is None else f" with {self._alert.dimension} {self._alert.value}"
        until = utc(self._state.at_us)
        if self.basis == "adjusted":
            return self._counts_adjusted(numerator, denominator, whom, until)
        window = f"{self.window}{self._widened()}"
        rate = f"{self._rate_in_words()}."
        if self.basis == "entries":
            return (
                f"Of {amount(denominator)} entries{whom} at {self._from}, those of the last {window} whose {self._conversion_window} to convert "
                f"were over at {until}, {numerator:,} went on to {self._to}: {rate}"
            )
        return (
            f"In the {window} up to {until}, {amount(denominator)} users{whom} reached {self._from} "
            f"and {numerator:,} reached {self._to}: {rate}"
        )

    def _counts_adjusted(self, numerator: int, denominator: float, whom: str, until: str) -> str:
        verdict = self._state.verdict
        baseline = verdict.baseline if verdict else None
        due = f"conversions due of {amount(denominator)} entries at {self._from}, by their ages"
        usual = ""
        if self._rule.drop is None and baseline is not None:
            due = f"where {amount(baseline * denominator)} are usual"
            usual = f", usually {percent(baseline, apart_from=self.rate)}"
        what = f"{numerator:,} went on{whom} from {self._from} to {self._to}, "
        return f"In the {self.window}{self._widened()} up to {until}, {what}{due}: {self._rate_in_words()}{usual}."

    def _lately(self) -> str:
        recent = self._recent
        if recent is None or recent.rate is None:
            return ""
        baseline = self._state.verdict.baseline if self._state.verdict else None
        usual = "" if baseline is None or self._rule.drop is not None else f", where {amount(baseline * recent.of)} are usual"
        return f"Since {utc(recent.since_us)} alone, {recent.seen:,} went on{usual}: {percent(recent.rate, apart_from=self.threshold)}."

    def _rate_in_words(self) -> str:
        if self.rate is not None:
            return percent(self.rate, apart_from=self.threshold)
        reason = self._state.verdict.reason if self._state.verdict else "no_data"
        if reason == "low_sample":
            return f"fewer than the {self._rule.min_entrants} it takes to tell"
        return "nothing to tell by" if reason != "no_baseline" else "with nothing yet to compare it with"

    def _widened(self) -> str:
        return "" if self.window == short(int(self._rule.window)) else f" (widened from {self._rule.window})"

    # What it means

    def _firing(self) -> list[str]:
        return [self._rule_in_words(), self._since(), self._end_in_words()]

    def _rule_in_words(self) -> str:
        rule, verdict = self._rule, self._state.verdict
        name = f"{rule.name} ({rule.severity}) fires {self._beyond} {self._limit()}"
        sure = self._sure()
        if rule.detector == "sequential":
            detector = verdict.detector if verdict else None
            began = "" if detector is None or detector.began_us is None else f", here most likely since {utc(detector.began_us)}"
            return f"{name}, once the evidence for it has added up{began}{f'; {sure}' if sure else ''}."
        if rule.long_window is not None:
            name += f" over both {rule.window} and {rule.long_window}"
        return f"{name}{f'; {sure}' if sure else ''}."

    def _sure(self) -> str:
        """The interval of the rate; two one-sided bounds of confidence c make a two-sided one of 2c - 1."""
        verdict = self._state.verdict
        if verdict is None or self.rate is None:
            return ""
        low, upper, confidence = verdict.low, verdict.upper, self._rule.confidence
        if low is not None and upper is not None and confidence > 0.5:
            between = f"between {percent(low, self.threshold)} and {percent(upper, self.threshold)}"
            return f"the rate over {self.window} is {between} with {percent(2 * confidence - 1)} confidence"
        if upper is not None and not self._rule.rises:
            return f"with {percent(confidence)} confidence the rate over {self.window} is at most {percent(upper, self.threshold)}"
        if low is not None and self._rule.rises:
            return f"with {percent(confidence)} confidence the rate over {self.window} is at least {percent(low, self.threshold)}"
        return ""

    def _since(self) -> str:
        began, fired = utc(self._state.breach_us), utc(self._state.incident_us)
        return f"Firing since {fired}." if began == fired else f"Seen since {began}, firing since {fired}."

    def _end_in_words(self) -> str:
        if self._state.state == "recovering":
            return (
                f"It has been back since {utc(self._state.recovering_us)}; it resolves when that has lasted {self._rule.keep_firing_for}."
            )
        held = f" for {self._rule.keep_firing_for}" if int(self._rule.keep_firing_for) else ""
        if self._recovery is None:
            return ""
        return f"It resolves at {percent(self._recovery)} {self._back}{held}."

    def _resolved(self) -> list[str]:
        rule = self._rule
        resolves = "" if self._recovery is None else f" resolves at {percent(self._recovery)} {self._back}; it"
        return [
            f"{rule.name} ({rule.severity}){resolves} fires {self._beyond} {self._limit()}.",
            f"It fired from {utc(self._state.incident_us)} to {utc(self._state.at_us)}.",
        ]

    def _besides(self) -> list[str]:
        state, said = self._state, []
        if state.data in ("stale", "error"):
            what = "counting is behind" if state.data == "stale" else "it could not be judged"
            said.append(f"Since {utc(state.data_since_us)} {what}: nothing newer is known.")
        if state.acknowledged_by:
            said.append(f"Acknowledged by {state.acknowledged_by}.")
        if state.flaps > 1:
            said.append(f"It began to fire {state.flaps} times in 24 hours.")
        return said


def _name(stage: Stage) -> str:
    return stage.title or stage.name


def utc(micros: int | None) -> str:
    """A time for people, to the second."""
    return f"{moment(micros or 0):%Y-%m-%d %H:%M:%S} UTC"


def short(seconds: int) -> str:
    """A span as the config writes it: 5m, 90s, 7d."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % UNITS[unit] == 0:
            return f"{seconds // UNITS[unit]}{unit}"
    return f"{seconds}s"


def amount(number: float) -> str:
    """A number for people: 0.3, 12, 1,234."""
    if abs(number) < 10 and number != int(number):
        return f"{number:.1f}"
    whole = round(number)
    return f"{whole:,}"


def about(number: float) -> str:
    """An estimate for people: two digits of it."""
    digits = len(str(int(abs(number))))
    return f"{round(number, 2 - digits):,.0f}" if abs(number) >= 10 else amount(number)


def percent(ratio: float, apart_from: float | None = None) -> str:
    """A ratio for people: 12.3%, 40%, 0.125%; with more decimals where it would read like another."""
    decimals = 1 if ratio >= 0.01 else 3
    while decimals < DECIMALS_MAX and apart_from not in (None, ratio) and _percent(ratio, decimals) == _percent(apart_from, decimals):
        decimals += 1
    return _percent(ratio, decimals)


def _percent(ratio: float | None, decimals: int) -> str:
    shown = f"{100 * (ratio or 0):.{decimals}f}"
    return f"{shown.rstrip('0').rstrip('.')}%"
