"""[pure] A rule and what it looks at make a verdict: is the rate proven to be beyond the threshold?"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import Literal

from alerting.bounds import bounds, wilson
from alerting.detectors import CLEAR, DetectorState, Watch, watch
from alerting.samples import Look, Sample, Usual
from schemas.rule import Rule
from streams.adjusted import LEAST_WORTH

Outcome = Literal["breach", "healthy", "recovered", "unknown"]
Reason = Literal["", "low_sample", "no_data", "no_baseline"]

USUAL_CONFIDENCE = 0.9


@dataclass(frozen=True)
class Verdict:
    """What a rule's look says.

    breach: the rate is surely beyond the threshold. recovered: it has come back to the recovery.
    healthy: neither is shown. unknown: nothing can be said, for the `reason`.
    """

    outcome: Outcome
    numerator: int
    denominator: float  # whole on users and entries
    rate: float | None
    low: float | None = None  # one-sided limits at the rule's confidence
    upper: float | None = None
    threshold: float | None = None  # at this evaluation; None: there is no baseline to compare with yet
    baseline: float | None = None  # of a `drop`, what it is measured from; else, on adjusted, the usual rate
    basis: str = "users"  # the one really used
    window_seconds: int = 0  # the one really used, after widening
    reason: Reason = ""  # of unknown
    detector: DetectorState | None = None  # of a sequential rule, to be carried to its next evaluation
    recovery: float | None = None  # the rate at which it resolves, at this evaluation


@dataclass(frozen=True)
class Terms:
    """The threshold at an evaluation."""

    threshold: float | None
    recovery: float | None
    baseline: float | None
    margin: float = 0.0  # the threshold of a `drop` may be lower by so much, for all that its baseline is known


def judge(rule: Rule, look: Look, before: DetectorState | None = None) -> Verdict:
    """The verdict on what a rule looks at; `before` is the detector of the last one."""
    terms = terms_of(rule, look.target, look.baseline, look.baseline_rate)
    sample = look.window
    empty = sample.denominator < LEAST_WORTH
    rate = None if empty else sample.numerator / sample.denominator
    low, upper = _limits(rule, look.basis, sample, terms.margin)
    detector, reason = before if rule.detector == "sequential" else None, _unknown(rule, terms, empty=empty, thin=low is None)
    outcome: Outcome = "unknown"
    if rule.detector == "sequential":
        if terms.threshold is not None:
            outcome, detector = _sequential(rule, look, rate, terms, before, enough=low is not None)
        outcome = "unknown" if reason else outcome
    elif not reason:
        outcome = _windowed(rule, look, rate, low, upper, terms)
    return Verdict(
        outcome, sample.numerator, sample.denominator, rate, low, upper, terms.threshold, terms.baseline,
        look.basis, sample.seconds, reason, detector, terms.recovery,
    )  # fmt: skip


def _unknown(rule: Rule, terms: Terms, *, empty: bool, thin: bool) -> Reason:
    if empty:
        return "no_data"
    if thin and rule.detector == "windowed":
        return "low_sample"
    return "no_baseline" if terms.threshold is None else ""


def terms_of(rule: Rule, target: float | None, compared: Usual | None, baseline_rate: float | None) -> Terms:
    """From the stage's target, from what a `drop` is measured from, and from what is usual on `adjusted`."""
    if rule.drop is not None:
        return _drop_terms(rule, compared)
    threshold = target if rule.below_target else rule.fixed
    recovery = threshold if rule.recovery is None else rule.recovery
    return Terms(threshold, recovery, baseline_rate)


def _drop_terms(rule: Rule, usual: Usual | None) -> Terms:
    """A baseline is itself an estimate: the limit of a difference lies √(Σ squares of the parts' distances to their own) away.

    G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures: a general approach",
    Statistics in Medicine 27 (2008), 1693-1702.
    """
    drop = rule.drop
    if drop is None or usual is None:
        return Terms(None, rule.recovery, None)
    kept, known = 1 - drop.by, min(1.0, usual.rate)
    recovery = usual.rate * (kept if drop.recover_by is None else 1 - drop.recover_by) if rule.recovery is None else rule.recovery
    margin = kept * (known - wilson(known, usual.entrants, rule.confidence)[0])
    return Terms(usual.rate * kept, recovery, usual.rate, margin)


def is_beyond(rule: Rule, basis: str, sample: Sample, terms: Terms) -> bool:
    """Whether the rate of a sample on a basis is surely beyond the threshold."""
    return _beyond(rule, *_limits(rule, basis, sample, terms.margin), terms.threshold)


def _limits(rule: Rule, basis: str, sample: Sample, margin: float) -> tuple[float | None, float | None]:
    """None of a sample that is too small to say anything."""
    if sample.denominator < max(rule.min_entrants, LEAST_WORTH):
        return None, None
    low, upper = bounds(sample, basis, rule.confidence)
    rate = sample.numerator / sample.denominator
    return low, rate + hypot(max(0.0, upper - rate), margin) if margin else upper


def _windowed(rule: Rule, look: Look, rate: float | None, low: float | None, upper: float | None, terms: Terms) -> Outcome:
    if _beyond(rule, low, upper, terms.threshold):
        if look.long is None or is_beyond(rule, look.basis, look.long, terms):
            return "breach"
        return "healthy"
    return "recovered" if _is_back(rule, rate, terms.recovery) else "healthy"


def _beyond(rule: Rule, low: float | None, upper: float | None, threshold: float | None) -> bool:
    if low is None or upper is None or threshold is None:
        return False
    return low > threshold if rule.rises else upper < threshold


def _is_back(rule: Rule, rate: float | None, recovery: float | None) -> bool:
    if rate is None or recovery is None:
        return False
    return rate <= recovery if rule.rises else rate >= recovery


def _sequential(
    rule: Rule, look: Look, rate: float | None, terms: Terms, before: DetectorState | None, *, enough: bool
) -> tuple[Outcome, DetectorState | None]:
    """An alarm is over when the evidence is gone and the window, where it has entrants enough to tell, shows the rate back."""
    if look.steps is None or terms.threshold is None:
        return "unknown", before
    usual = look.usual
    rate_and_entrants = (None, 0.0) if usual is None else (usual.rate, usual.entrants)
    asked = watched(rule, terms.threshold - terms.margin, *rate_and_entrants)
    state = watch(asked, look.basis, look.steps, before, (*rate_and_entrants, look.usual_asked))
    if state.phase == "alarmed":
        return "breach", state
    seen = _is_back(rule, rate, terms.recovery) if enough else state.score == 0
    if not seen or state.score > CLEAR * state.limit:
        return "healthy", state
    return "recovered", state.cleared() if state.phase == "clearing" else state


def watched(rule: Rule, threshold: float, usual_rate: float | None, usual_entrants: float) -> Watch:
    """What a sequential rule asks of its detector. The usual rate is taken on the safe side of what is known of it."""
    low, high = (None, None) if usual_rate is None else wilson(min(1.0, usual_rate), usual_entrants, USUAL_CONFIDENCE)
    return Watch(
        threshold=threshold,
        effect=rule.effect,
        rises=rule.rises,
        run_seconds=int(rule.run_length),
        entrants_min=rule.min_entrants,
        usual=high if rule.rises else low,
    )
