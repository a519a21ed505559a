"""Rules over a history that is fed to them boundary by boundary, or by stretches of boundaries.

A stretch is counted for at once, up to an hour ahead of what is judged, since few events at a time are dear
to count: what is counted in a bucket that is past changes no more, and an evaluation looks at no other. Not
so users, who leave the buckets they were in: how many they were at each boundary is told by their reaches
(`streams.passed`), and rules on `users` of the values of a dimension are counted for boundary by boundary.

A long time without events is passed over. Once nothing has come for longer than any rule looks back,
each finds no entrant, which changes no state; a sequential detector is then asked as often as what it
learned of traffic can change its limit, and at every full hour, when it learns what is usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heappop, heappush

from alerting.conditions import judge
from alerting.glance import Glance
from alerting.lifecycle import AlertKey, Change, RuleState, advance
from alerting.message import Notification
from alerting.reports import moment
from alerting.samples import Look, basis_of, look
from alerting.telling import Draft, Scene, put, tell
from schemas.config import Config
from schemas.duration import MICROS, bucket_seconds
from schemas.funnel import Funnel
from schemas.report import Transition
from schemas.rule import Rule
from streams.adjusting import Adjusting
from streams.baseline import HOUR_US
from streams.history import Feed, History
from streams.passed import PassedUsers, Reach
from streams.rates import Split
from streams.retention import COHORTS, HOUR_SECONDS, USERS
from streams.tail import Reached
from streams.windows import FunnelCounts

NEW = RuleState()
NOBODY = ("nobody",)  # a rule on trial notifies one channel that is not there, so that its pages can be counted
FAR_US = 2**62
COUNTED = COHORTS | {USERS}  # rules look at no other counts; where none is on `users`, at cohorts alone
QUIET_STEPS = 10  # between two looks of a sequential detector while nothing comes; divides the steps of an hour

Judged = Sequence[tuple[AlertKey, RuleState, Change | None]]
Watch = Callable[["Trial", int], None]  # told how far it has come: the rule, and T
Due = tuple[int, int, int, range]  # an evaluation: T, the rule's number, the alert's, and T of those after it


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
    _alerts: tuple[AlertKey, ...] = ()
    _known: int = -1
    _glances: dict[AlertKey, Glance] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stage = self.funnel.stage_index(self.rule.stage)
        self.step_us = bucket_seconds(self.rule.window) * MICROS

    def glance(self, alert: AlertKey) -> Glance:
        known = self._glances.get(alert)
        if known is None:
            known = self._glances[alert] = Glance(self.rule, self.counts, self.stage, split_of(alert))
        return known

    def following(self, at_us: int, last_us: int) -> int:
        """The boundary at which something may change next, if no event comes; the last one came at `last_us`."""
        if at_us <= last_us + self.reach_us:
            return at_us + self.step_us
        if self.rule.detector == "windowed":
            return FAR_US
        quiet_us = self.step_us * (QUIET_STEPS if self.step_us * QUIET_STEPS <= HOUR_US else 1)
        return (at_us // quiet_us + 1) * quiet_us

    @cached_property
    def reach_us(self) -> int:
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

    def learns_us(self) -> tuple[int, ...]:
        """How long after a full hour something new is known to an evaluation."""
        plan = self.counts.plan
        found: tuple[int, ...] = (0, plan.mature_after_us)
        if self.rule.basis == "users":
            found = (*found, plan.mature_after_us - plan.funnel.conversion_window.micros)
        return found if self.rule.drop is None else (*found, 1, int(self.rule.window) * MICROS)

    def windows(self) -> Iterator[tuple[int, int]]:
        """Stage and seconds of the windows that a rule on `users` looks at."""
        rule = self.rule
        basis, _ = basis_of(rule, self.counts, None, self.stage, None, 0)
        for seconds in (int(rule.window), *([] if rule.long_window is None else [int(rule.long_window)]), *basis.wider(rule)):
            yield from ((self.stage, seconds), (self.stage - 1, seconds))

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


def _asked(config: Config, rules: Sequence[Rule]) -> Config:
    """The same without dimensions that no rule asks for, and that share no values with one: the fewer there are, the quicker is counting."""
    fields = {field for rule in rules for name in rule.by for field in _fields(config.funnel(rule.funnel), name)}

    def asked(funnel: Funnel) -> Funnel:
        kept = {name: found for name, found in funnel.dimensions.items() if fields.issuperset(_fields(funnel, name))}
        return funnel.model_copy(update={"dimensions": kept})

    return config.model_copy(update={"funnels": tuple(map(asked, config.funnels))})


def _fields(funnel: Funnel, name: str) -> list[str]:
    """What a dimension is made of."""
    dimension = funnel.dimensions[name]
    return [dimension.field] if dimension.combine is None else [funnel.dimensions[part].field for part in dimension.combine]


def _reaches(trace: Reached, number: int) -> Iterator[Reach]:
    """Those of one funnel, each entity's in the order of time."""
    for entity, found in trace.items():
        yield from ((entity, stage & 0xFF, at_us) for stage, at_us in found.get(number, ()))


class Course:
    """Rules of one source, all on users or none, and the counts they are judged by. `rules` have their places in the config."""

    def __init__(
        self, history: History, config: Config, rules: Sequence[tuple[int, Rule]], step_us: int, *, thorough: bool, watch: Watch
    ) -> None:
        self.history = history
        self._goes_ahead = all(rule.basis != "users" or not rule.by for _, rule in rules)
        ahead, families = (HOUR_SECONDS, COHORTS) if self._goes_ahead else (0, COUNTED)
        self.feed = Feed(history, _asked(config, [rule for _, rule in rules]), ahead, families)
        self.trials = [self._trial(config, rule) for _, rule in rules]
        self.places = [place for place, _ in rules]
        if self._goes_ahead:
            self._tell_users()
        self.step_us = step_us  # between two boundaries
        self.boundaries = 0
        self.last_us = -1  # the last boundary evaluated
        self._reach_us = min(trial.reach_us for trial in self.trials)
        self._learns_us = sorted({after_us for trial in self.trials for after_us in trial.learns_us()})
        self._thorough, self._watch = thorough, watch
        self._adjusting = {
            name: Adjusting(counts, history.source.allowed_lateness.micros)
            for name, counts in self.feed.counts.items()
            if any(trial.rule.basis == "adjusted" and trial.funnel.name == name for trial in self.trials)
        }
        self._looks: dict[tuple[object, ...], Look] = {}
        self._looked_us = -1

    def _trial(self, config: Config, rule: Rule) -> Trial:
        return Trial(rule.model_copy(update={"notify": NOBODY}), config.funnel(rule.funnel), self.feed.counts[rule.funnel])

    def run(self, first_us: int) -> Iterator[tuple[int, int, tuple[Transition, ...]]]:
        """Changes of state from a boundary on: T, the place of the rule, and what changed."""
        at_us = first_us
        while at_us <= self.history.time_us:
            end_us = self._stretch(at_us)
            self._count(at_us, end_us)
            for adjusting in self._adjusting.values():
                adjusting.final_us = end_us if end_us > at_us else -1
            yield from self._evaluate(at_us, end_us)
            self.boundaries += (end_us - at_us) // self.step_us + 1
            self.last_us = end_us
            at_us = self._following(end_us)
        self.feed.until(self.history.time_us + 1)

    def _tell_users(self) -> None:
        """Have the users of windows told as of each boundary, for the rules that are about them."""
        for name, counts in self.feed.counts.items():
            asked = [
                window for trial in self.trials if trial.rule.basis == "users" and trial.funnel.name == name for window in trial.windows()
            ]
            if asked:
                counts.passed = PassedUsers(asked)
                self.feed.trace = {}

    def _count(self, first_us: int, last_us: int) -> None:
        """Count for the boundaries of a stretch."""
        self.feed.until(last_us)
        for counts in self.feed.counts.values():
            if counts.passed is not None:
                counts.passed.follow(_reaches(self.feed.trace or {}, counts.plan.number), first_us, last_us)
        if self.feed.trace is not None:
            self.feed.trace = {}

    def _stretch(self, at_us: int) -> int:
        """The last of the boundaries from one on that are counted for at once: nothing new is learned between, and no silence passed over."""
        last_us = self.feed.last_us
        if not self._goes_ahead or last_us is None:
            return at_us
        learns_us = ((at_us - after_us) // HOUR_US * HOUR_US + HOUR_US + after_us for after_us in self._learns_us)
        end_us = min(*learns_us, last_us + self._reach_us + 1, self.history.time_us + 1)
        return max(at_us, (end_us - 1) // self.step_us * self.step_us)

    def _following(self, at_us: int) -> int:
        """The next boundary at which anything may change: in a long silence that is the first after it."""
        last_us, next_us = self.feed.last_us, self.feed.next_us
        woken_us = ((self.history.time_us if next_us is None else next_us) // self.step_us + 1) * self.step_us
        following = min((trial.following(at_us, last_us or 0) for trial in self.trials), default=woken_us)
        return max(at_us + self.step_us, min(woken_us, -(-following // self.step_us) * self.step_us))

    def _evaluate(self, first_us: int, last_us: int) -> Iterator[tuple[int, int, tuple[Transition, ...]]]:
        """Evaluate what is due from a boundary to another.

        An alert whose value is first counted in between is there from the first one on: until then it finds no entrant, and tells nothing.
        """
        due: list[Due] = []
        for number, trial in enumerate(self.trials):
            moments_us = self._moments(trial, first_us, last_us)
            for place in range(len(trial.alerts())):
                self._await(due, number, place, moments_us)
        while due:
            at_us, number, _, _ = due[0]
            same = []
            while due and due[0][:2] == (at_us, number):
                same.append(heappop(due))
            trial = self.trials[number]
            changed = trial.conclude(self._judged(trial, [place for *_, place, _ in same], at_us), at_us)
            if changed:
                yield at_us, self.places[number], changed
            if self._thorough:
                self._watch(trial, at_us)
            for *_, place, moments_us in same:
                self._await(due, number, place, moments_us)
        if not self._thorough:
            self._watch(self.trials[-1], last_us)

    def _moments(self, trial: Trial, first_us: int, last_us: int) -> range:
        """The boundaries of a rule."""
        step_us = max(self.step_us, trial.step_us)
        return range(-(-first_us // step_us) * step_us, last_us + 1, step_us)

    def _await(self, due: list[Due], number: int, place: int, moments_us: range) -> None:
        """Have an alert evaluated at the first of the moments at which it may change."""
        trial = self.trials[number]
        if moments_us and not self._thorough:
            alert = trial.alerts()[place]
            state, adjusting = trial.states.get(alert, NEW), self._adjusting.get(trial.funnel.name)
            moments_us = moments_us[trial.glance(alert).leaves(state, adjusting, moments_us) :]
        if moments_us:
            heappush(due, (moments_us[0], number, place, moments_us[1:]))

    def _judged(self, trial: Trial, places: Sequence[int], at_us: int) -> Judged:
        rule, stage, counts = trial.rule, trial.stage, trial.counts
        adjusting = self._adjusting.get(trial.funnel.name)
        if adjusting is not None:
            adjusting.at(at_us)
        found = []
        for alert in (trial.alerts()[place] for place in places):
            before = trial.states.get(alert, NEW)
            if not self._thorough:
                before = trial.glance(alert).before(before)
            detector = before.verdict.detector if before.verdict else None
            if rule.detector == "sequential":
                seen = look(rule, counts, adjusting, stage, split_of(alert), at_us, detector)
            else:
                seen = self._look(trial, adjusting, stage, split_of(alert), at_us)
            found.append((alert, *advance(rule, before, judge(rule, seen, detector), at_us)))
        return found

    def _look(self, trial: Trial, adjusting: Adjusting | None, stage: int, split: Split | None, due_us: int) -> Look:
        """Made once for all rules that look at the same."""
        rule = trial.rule
        if len(self.trials) == 1:
            return look(rule, trial.counts, adjusting, stage, split, due_us)
        what = (rule.funnel, stage, split, due_us, rule.basis, rule.window, rule.long_window, rule.widen_to, rule.min_entrants, rule.drop)
        if due_us != self._looked_us:
            self._looked_us = due_us
            self._looks.clear()
        known = self._looks.get(what)
        if known is None:
            known = self._looks[what] = look(rule, trial.counts, adjusting, stage, split, due_us)
        return known
