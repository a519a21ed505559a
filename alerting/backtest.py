"""Rules over history: judged at every boundary of its own time by the live evaluator's parts, telling nobody.

At boundary b the counts are those of all events before b, T is b, and every rule whose step divides b
is evaluated: `look`, `judge`, `advance`, and `tell` for what would have been a page. So the changes of
state are those that an evaluator gives which is fed boundary by boundary (a test holds it to that).

A long time without events is passed over. Once nothing has come for longer than any rule looks back,
each finds no entrant, which changes no state; a sequential detector is then asked as often as what it
learned of traffic can change its limit, and at every full hour, when it learns what is usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from alerting.conditions import judge
from alerting.evaluator import boundary
from alerting.glance import Glance
from alerting.lifecycle import AlertKey, Change, RuleState, advance
from alerting.message import Notification
from alerting.reports import moment
from alerting.samples import Look, look
from alerting.telling import Draft, Scene, put, tell
from schemas.config import Config
from schemas.duration import MICROS, bucket_seconds
from schemas.errors import UsageError
from schemas.funnel import Funnel
from schemas.report import Transition
from schemas.rule import Rule
from streams.adjusting import Adjusting
from streams.baseline import HOUR_US
from streams.history import Feed, History
from streams.rates import Split
from streams.windows import FunnelCounts

NEW = RuleState()
NOBODY = ("nobody",)  # a rule on trial notifies one channel that is not there, so that its pages can be counted
FAR_US = 2**62
QUIET_STEPS = 10  # between two looks of a sequential detector while nothing comes; divides the steps of an hour

Judged = Sequence[tuple[AlertKey, RuleState, Change | None]]
Watch = Callable[["Trial", int], None]  # told of every evaluation: the rule, and T


def split_of(alert: AlertKey) -> Split | None:
    """What an alert is about; None: everybody."""
    return None if alert.dimension is None else (alert.dimension, alert.value or "")


@dataclass
class Trial:
    """A rule on trial, where its alerts stand, and the pages it would have sent."""

    rule: Rule
    funnel: Funnel
    counts: FunnelCounts
    states: dict[AlertKey, RuleState] = field(default_factory=dict)
    pages: list[Notification] = field(default_factory=list)
    done_us: int = -1
    _alerts: tuple[AlertKey, ...] = ()
    _known: int = -1
    _glances: dict[AlertKey, Glance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stage = self.funnel.stage_index(self.rule.stage)

    def glance(self, alert: AlertKey) -> Glance:
        known = self._glances.get(alert)
        if known is None:
            known = self._glances[alert] = Glance(self.rule, self.counts, self.stage, split_of(alert))
        return known

    @property
    def step_us(self) -> int:
        return bucket_seconds(self.rule.window) * MICROS

    def following(self, at_us: int, last_us: int) -> int:
        """The boundary at which something may change next, if no event comes; the last one came at `last_us`."""
        if at_us <= last_us + self._reach_us():
            return at_us + self.step_us
        if self.rule.detector == "windowed":
            return FAR_US
        quiet_us = self.step_us * (QUIET_STEPS if self.step_us * QUIET_STEPS <= HOUR_US else 1)
        return (at_us // quiet_us + 1) * quiet_us

    def _reach_us(self) -> int:
        """How long ago an event may be and still be seen by an evaluation, with a boundary to spare."""
        widest = max(int(w) for w in (self.rule.window, self.rule.long_window, self.rule.widen_to) if w is not None)
        seen_us = (widest + bucket_seconds(widest)) * MICROS + self.step_us
        return seen_us if self.rule.basis == "users" else seen_us + self.counts.plan.mature_after_us + 2 * HOUR_US

    def alerts(self) -> tuple[AlertKey, ...]:
        """The total, and every value of the rule's dimensions that was ever counted."""
        if len(self.counts.totals) != self._known:
            self._known = len(self.counts.totals)
            values = (AlertKey(self.rule.name, d, value) for d in self.rule.by for value in self.counts.values(d))
            self._alerts = (AlertKey(self.rule.name), *values)
        return self._alerts

    def conclude(self, judged: Judged, at_us: int) -> tuple[Transition, ...]:
        """Take what an evaluation came to; the changes of state."""
        if not any(change for *_, change in judged):
            self.states.update([(alert, after) for alert, after, _ in judged])
            return ()
        draft = Draft(self.states, (), moment(at_us))
        for alert, after, change in judged:
            put(draft, self.rule, alert, after, change)
        tell(draft, Scene(self.rule, self.funnel, None, None))
        commit = draft.commit()
        self.states.update(commit.states)
        self.pages += [entry.notification for entry in commit.entries if entry.notification.status == "firing"]
        return commit.transitions


class Backtest:
    """Rules of one source over its history, once.

    `stride`: how many of the finest steps lie between two evaluations; more than 1 is a rough look, as
    of a service that wakes up seldom. `watch` is told of every evaluation; `thorough`: let there be a
    verdict also where a glance shows that nothing changes. Raises UsageError.
    """

    def __init__(self, history: History, config: Config, *, stride: int = 1, thorough: bool = False, watch: Watch | None = None) -> None:
        self.history = history
        self.feed = Feed(history, config)
        self.trials = [self._trial(config, rule) for rule in config.alerts if config.funnel(rule.funnel).source == history.source.name]
        if not self.trials:
            raise UsageError(f"the config has no alert rules over funnels of source {history.source.name!r}; write some under `alerts`")
        self.step_us = min(trial.step_us for trial in self.trials) * stride
        self.boundaries = 0
        self.first_us, self.last_us = -1, -1  # boundaries evaluated
        self._stride, self._thorough = stride, thorough
        self._adjusting = {
            name: Adjusting(counts, history.source.allowed_lateness.micros)
            for name, counts in self.feed.counts.items()
            if any(trial.rule.basis == "adjusted" and trial.funnel.name == name for trial in self.trials)
        }
        self._looks: dict[tuple[object, ...], Look] = {}
        self._watch = watch

    def _trial(self, config: Config, rule: Rule) -> Trial:
        return Trial(rule.model_copy(update={"notify": NOBODY}), config.funnel(rule.funnel), self.feed.counts[rule.funnel])

    def run(self) -> Iterator[Transition]:
        """Every change of state in the order of time, those of one boundary in the order of the config."""
        first_us = self.feed.next_us
        if first_us is None:
            return
        at_us = self.first_us = (first_us // self.step_us + 1) * self.step_us
        while at_us <= self.history.time_us:
            self.feed.until(at_us)
            yield from self._evaluate(at_us)
            self.boundaries += 1
            self.last_us = at_us
            at_us = self._following(at_us)
        self.feed.until(self.history.time_us + 1)

    @property
    def judged_us(self) -> int:
        """How long the rules were judged, without what was passed over."""
        return max(0, self.boundaries - 1) * self.step_us

    def _following(self, at_us: int) -> int:
        """The next boundary at which anything may change: in a long silence that is the first after it."""
        last_us, next_us = self.feed.last_us, self.feed.next_us
        woken_us = ((self.history.time_us if next_us is None else next_us) // self.step_us + 1) * self.step_us
        following = min((trial.following(at_us, last_us or 0) for trial in self.trials), default=woken_us)
        return max(at_us + self.step_us, min(woken_us, -(-following // self.step_us) * self.step_us))

    def _evaluate(self, at_us: int) -> Iterator[Transition]:
        self._looks.clear()
        adjusting = {name: of.at(at_us) for name, of in self._adjusting.items()}
        for trial in self.trials:
            due_us = boundary(trial.rule, at_us)
            if due_us == at_us or (self._stride > 1 and due_us > trial.done_us):
                trial.done_us = due_us
                yield from trial.conclude(self._judged(trial, due_us, adjusting.get(trial.funnel.name)), due_us)
                if self._watch is not None:
                    self._watch(trial, at_us)

    def _judged(self, trial: Trial, due_us: int, adjusting: Adjusting | None) -> Judged:
        rule, stage, counts = trial.rule, trial.stage, trial.counts
        found = []
        for alert in trial.alerts():
            before = trial.states.get(alert, NEW)
            if not self._thorough:
                glance = trial.glance(alert)
                if glance.tells(before, adjusting, due_us):
                    continue
                before = glance.before(before)
            detector = before.verdict.detector if before.verdict else None
            if rule.detector == "sequential":
                seen = look(rule, counts, adjusting, stage, split_of(alert), due_us, detector)
            else:
                seen = self._look(trial, adjusting, stage, split_of(alert), due_us)
            found.append((alert, *advance(rule, before, judge(rule, seen, detector), due_us)))
        return found

    def _look(self, trial: Trial, adjusting: Adjusting | None, stage: int, split: Split | None, due_us: int) -> Look:
        """Made once for all rules that look at the same."""
        rule = trial.rule
        if len(self.trials) == 1:
            return look(rule, trial.counts, adjusting, stage, split, due_us)
        what = (rule.funnel, stage, split, due_us, rule.basis, rule.window, rule.long_window, rule.widen_to, rule.min_entrants, rule.drop)
        known = self._looks.get(what)
        if known is None:
            known = self._looks[what] = look(rule, trial.counts, adjusting, stage, split, due_us)
        return known
