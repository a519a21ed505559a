"""[pure] An alert's life, timed by events and not by clocks; every timer is in the state that is stored.

    inactive ──breach──▶ pending ──breach for `for`──▶ firing ──recovered──▶ recovering ──for `keep_firing_for`──▶ inactive
                            └──anything else──▶ inactive  ◀──breach, healthy──┘

Firing outlives a healthy verdict (between the threshold and the recovery) and an unknown one: what
fired is over only when the rate is seen to be back, and is seen so again once `keep_firing_for` has
passed. Whether there are data to judge by is kept apart from all this, in `data`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from alerting.conditions import Verdict
from schemas.duration import MICROS
from schemas.rule import Rule

State = Literal["inactive", "pending", "firing", "recovering"]
DataState = Literal["ok", "low_sample", "no_data", "stale", "error"]
Change = Literal["pending", "firing", "resolved", "no_data", "stale"]

FLAPS_US = 86_400 * MICROS
FLAPS_MAX = 100


class AlertKey(NamedTuple):
    """What is judged: a rule, over everybody or for one value of a dimension."""

    rule: str
    dimension: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class RuleState:
    """Where an alert stands. All times are event times in microseconds, but for the acknowledgement's.

    `breach_us` and `incident_us` say when the present breach (or else the last one) was first seen
    and when it began to fire; `incident_us` names the incident in everything that is sent of it.
    `since_us` stays that of the incident while it recovers, and `recovering_us` says since when it
    does. `incidents_us`: when it began to fire in the last 24 h. `told`: the channels know of this
    incident by a notification of its own, and these are the `channels`; `cause`: by that of another
    alert of the rule, in which it is listed.
    """

    state: State = "inactive"
    since_us: int | None = None
    at_us: int | None = None
    verdict: Verdict | None = None
    breach_us: int | None = None
    incident_us: int | None = None
    recovering_us: int | None = None
    data: DataState = "ok"
    data_since_us: int | None = None
    incidents_us: tuple[int, ...] = ()
    told: bool = False
    channels: tuple[str, ...] = ()
    cause: AlertKey | None = None
    acknowledged_by: str = ""
    acknowledged_us: int | None = None

    @property
    def fires(self) -> bool:
        """Whether an incident is under way."""
        return self.state in ("firing", "recovering")

    @property
    def flaps(self) -> int:
        """How often it began to fire in the 24 h before its last evaluation."""
        return len(self.incidents_us)


def advance(rule: Rule, state: RuleState, verdict: Verdict, at_us: int) -> tuple[RuleState, Change | None]:
    """The state after a verdict at event time `at_us`, and the change worth telling, if any.

    A time that is not after the last one changes nothing, so a boundary can be evaluated twice.
    """
    if state.at_us is not None and at_us <= state.at_us:
        return state, None
    seen = _seen(state, verdict, at_us)
    after, change = (_while_firing if state.fires else _while_calm)(rule, seen, verdict, at_us)
    return after, change or _data_change(state, after)


def unjudged(state: RuleState, data: DataState, at_us: int) -> tuple[RuleState, Change | None]:
    """The state of an alert that cannot be judged at `at_us`: what it was, and why nothing can be said.

    It is not an evaluation: a boundary that was passed over meanwhile can still be evaluated.
    """
    after = _with_data(state, data, at_us)
    return after, _data_change(state, after)


def _seen(state: RuleState, verdict: Verdict, at_us: int) -> RuleState:
    """The state with what an evaluation sees, before anything is concluded from it."""
    seen = _with_data(state, _data_of(verdict), at_us)
    lately = tuple(us for us in state.incidents_us if us > at_us - FLAPS_US)
    return replace(seen, since_us=at_us if state.since_us is None else state.since_us, at_us=at_us, verdict=verdict, incidents_us=lately)


def _data_of(verdict: Verdict) -> DataState:
    if verdict.reason == "no_data":
        return "no_data"
    return "ok" if verdict.outcome != "unknown" else "low_sample"


def _with_data(state: RuleState, data: DataState, at_us: int) -> RuleState:
    if state.data == data and state.data_since_us is not None:
        return state
    return replace(state, data=data, data_since_us=at_us)


def _data_change(before: RuleState, after: RuleState) -> Change | None:
    """Worth telling is the loss of data that there were."""
    if before.at_us is None or before.data in ("no_data", "stale"):
        return None
    return after.data if after.data in ("no_data", "stale") else None


def _while_calm(rule: Rule, seen: RuleState, verdict: Verdict, at_us: int) -> tuple[RuleState, Change | None]:
    if verdict.outcome == "breach":
        return _on_breach(rule, seen, at_us)
    return (seen if seen.state == "inactive" else replace(seen, state="inactive", since_us=at_us)), None


def _while_firing(rule: Rule, seen: RuleState, verdict: Verdict, at_us: int) -> tuple[RuleState, Change | None]:
    if verdict.outcome == "recovered":
        return _on_recovery(rule, seen, at_us)
    return (seen if verdict.outcome == "unknown" else replace(seen, state="firing", recovering_us=None)), None


def _on_recovery(rule: Rule, seen: RuleState, at_us: int) -> tuple[RuleState, Change | None]:
    began = at_us if seen.recovering_us is None else seen.recovering_us
    if at_us - began < rule.keep_firing_for.micros:
        return replace(seen, state="recovering", recovering_us=began), None
    return resolved(seen, at_us), "resolved"


def resolved(state: RuleState, at_us: int) -> RuleState:
    """The state once its incident is over."""
    return replace(
        state, state="inactive", since_us=at_us, recovering_us=None,
        told=False, channels=(), cause=None, acknowledged_by="", acknowledged_us=None,
    )  # fmt: skip


def _on_breach(rule: Rule, seen: RuleState, at_us: int) -> tuple[RuleState, Change | None]:
    began = at_us if seen.state == "inactive" or seen.breach_us is None else seen.breach_us
    if at_us - began >= rule.for_.micros:
        return fired(seen, began, at_us), "firing"
    if seen.state == "inactive":
        return replace(seen, state="pending", since_us=at_us, breach_us=at_us), "pending"
    return seen, None


def fired(state: RuleState, breach_us: int, at_us: int) -> RuleState:
    """The state at the beginning of an incident, which nobody has been told of yet."""
    lately = (*state.incidents_us, at_us)[-FLAPS_MAX:]
    return replace(
        state, state="firing", since_us=at_us, breach_us=breach_us, incident_us=at_us, recovering_us=None, incidents_us=lately,
        told=False, channels=(), cause=None, acknowledged_by="", acknowledged_us=None,
    )  # fmt: skip
