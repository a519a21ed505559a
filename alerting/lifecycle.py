"""[pure] An alert's life: inactive, pending, firing, resolved; timed by events, not by clocks.

    inactive ──breach──▶ pending ──breach for `for`──▶ firing ──recovered──▶ inactive
                            └──anything else──▶ inactive

Firing outlives a healthy verdict (between `below` and `recover_above`) and an unknown one: what
fired is over only when the rate is seen to be back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from alerting.conditions import Verdict
from schemas.rule import Rule

State = Literal["inactive", "pending", "firing"]
Change = Literal["pending", "firing", "resolved"]


class AlertKey(NamedTuple):
    """What is judged: a rule, over everybody or for one value of a dimension."""

    rule: str
    dimension: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class RuleState:
    """Where an alert stands. All times are event times in microseconds.

    `breach_us` and `incident_us` say when the present breach (or else the last one) was first seen
    and when it began to fire; `incident_us` names the incident in everything that is sent of it.
    """

    state: State = "inactive"
    since_us: int | None = None
    at_us: int | None = None
    verdict: Verdict | None = None
    breach_us: int | None = None
    incident_us: int | None = None


def advance(rule: Rule, state: RuleState, verdict: Verdict, at_us: int) -> tuple[RuleState, Change | None]:
    """The state after a verdict at event time `at_us`, and the change worth telling, if any.

    A time that is not after the last one changes nothing, so a boundary can be evaluated twice.
    """
    if state.at_us is not None and at_us <= state.at_us:
        return state, None
    seen = replace(state, since_us=at_us if state.since_us is None else state.since_us, at_us=at_us, verdict=verdict)
    if state.state == "firing":
        return _while_firing(seen, verdict, at_us)
    if verdict.outcome == "breach":
        return _on_breach(rule, seen, at_us)
    return (seen if seen.state == "inactive" else replace(seen, state="inactive", since_us=at_us)), None


def _while_firing(seen: RuleState, verdict: Verdict, at_us: int) -> tuple[RuleState, Change | None]:
    if verdict.outcome == "recovered":
        return replace(seen, state="inactive", since_us=at_us), "resolved"
    return seen, None


def _on_breach(rule: Rule, seen: RuleState, at_us: int) -> tuple[RuleState, Change | None]:
    began = at_us if seen.state == "inactive" or seen.breach_us is None else seen.breach_us
    if at_us - began >= rule.for_.micros:
        return replace(seen, state="firing", since_us=at_us, breach_us=began, incident_us=at_us), "firing"
    if seen.state == "inactive":
        return replace(seen, state="pending", since_us=at_us, breach_us=at_us), "pending"
    return seen, None
