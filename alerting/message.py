"""[pure] What a person woken at 3 a.m. reads: which step leaks, how badly, since when, for whom."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict

from alerting.lifecycle import AlertKey, RuleState
from alerting.reports import moment, transition
from schemas.funnel import Funnel, Stage
from schemas.report import Transition
from schemas.rule import Rule

DECIMALS_MAX = 6

Status = Literal["firing", "resolved"]


class Notification(BaseModel):
    """One message about one alert, ready for any channel.

    `key` is the same whenever the same thing is said again, so a receiver can drop repetitions.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    status: Status
    transition: Transition
    severity: str
    began: datetime
    title: str
    text: str
    link: str
    runbook: str

    @property
    def alert(self) -> AlertKey:
        return AlertKey(self.transition.rule, self.transition.dimension, self.transition.value)


def compose(rule: Rule, funnel: Funnel, alert: AlertKey, state: RuleState, web_url: str = "") -> Notification:
    """What to say of an alert that fires, or that has just stopped to."""
    status: Status = "firing" if state.state == "firing" else "resolved"
    told = transition(rule, alert, state, status)
    began_us = state.incident_us or 0
    words = _Words(rule, funnel, alert, state)
    link = _link(rule, alert, web_url)
    return Notification(
        key=_key(alert, began_us, status),
        status=status,
        transition=told,
        severity=rule.severity,
        began=moment(began_us),
        title=words.title(status),
        text="\n".join([*words.lines(status), *_addresses(link, rule.runbook)]),
        link=link,
        runbook=rule.runbook,
    )


def _key(alert: AlertKey, began_us: int, status: Status) -> str:
    """Plain ASCII, since it travels in a header, while a dimension value may be in any script."""
    parts = [part for part in alert if part is not None]
    return "/".join([*(quote(part, safe=":") for part in parts), str(began_us), status])


def _link(rule: Rule, alert: AlertKey, web_url: str) -> str:
    """The page as it shows the funnel in the rule's window; it keeps what it shows in the fragment."""
    if not web_url:
        return ""
    shown = {f"window.{rule.funnel}": str(rule.window)}
    if alert.dimension is not None:
        shown[f"by.{rule.funnel}"] = alert.dimension
    return f"{web_url.rstrip('/')}/#{urlencode(shown)}"


def _addresses(link: str, runbook: str) -> list[str]:
    return [f"{name}: {address}" for name, address in (("Page", link), ("Runbook", runbook)) if address]


class _Words:
    """The sentences about one alert; each is true of its state, whatever that is."""

    def __init__(self, rule: Rule, funnel: Funnel, alert: AlertKey, state: RuleState) -> None:
        place = funnel.stage_index(rule.stage)
        self._rule, self._alert, self._state = rule, alert, state
        self._funnel = funnel.title or funnel.name
        self._from, self._to = _name(funnel.stages[place - 1]), _name(funnel.stages[place])
        verdict = state.verdict
        self._rate = None if verdict is None or verdict.outcome == "unknown" else verdict.rate

    def title(self, status: Status) -> str:
        whom = "" if self._alert.dimension is None else f" ({self._alert.dimension} {self._alert.value})"
        return f"{self._funnel}{whom}: {self._from} → {self._to} {self._standing(status)}"

    def _standing(self, status: Status) -> str:
        below = percent(self._rule.below)
        if self._rate is None:
            return f"was under {below}, now too few users to tell"
        if status == "resolved":
            return f"back at {percent(self._rate)} (resolved)"
        if self._rate < self._rule.below:
            return f"at {percent(self._rate, apart_from=self._rule.below)}, under {below}"
        return f"at {percent(self._rate, apart_from=self._rule.recovery)}, not yet back to {percent(self._rule.recovery)}"

    def lines(self, status: Status) -> list[str]:
        return [self._counts(), *(self._firing() if status == "firing" else self._resolved())]

    def _counts(self) -> str:
        verdict, rule = self._state.verdict, self._rule
        reached, of = (verdict.numerator, verdict.denominator) if verdict else (0, 0)
        whom = "" if self._alert.dimension is None else f" with {self._alert.dimension} {self._alert.value}"
        rate = f"fewer than the {rule.min_entrants} it takes to tell" if self._rate is None else percent(self._rate, rule.below)
        return (
            f"In the {rule.window} up to {_utc(self._state.at_us)}, {of} users{whom} reached {self._from} "
            f"and {reached} reached {self._to}: {rate}."
        )

    def _firing(self) -> list[str]:
        rule, upper = self._rule, self._state.verdict.upper if self._state.verdict else None
        sure = "" if upper is None else f"; with {percent(rule.confidence)} confidence the rate is at most {percent(upper, rule.below)}"
        return [
            f"{rule.name} ({rule.severity}) fires under {percent(rule.below)}{sure}.",
            self._since(),
            f"It resolves at {percent(rule.recovery)} or more.",
        ]

    def _since(self) -> str:
        began, fired = _utc(self._state.breach_us), _utc(self._state.incident_us)
        return f"Firing since {fired}." if began == fired else f"Under it since {began}, firing since {fired}."

    def _resolved(self) -> list[str]:
        rule = self._rule
        return [
            f"{rule.name} ({rule.severity}) resolves at {percent(rule.recovery)} or more; it fires under {percent(rule.below)}.",
            f"It fired from {_utc(self._state.incident_us)} to {_utc(self._state.at_us)}.",
        ]


def _name(stage: Stage) -> str:
    return stage.title or stage.name


def _utc(micros: int | None) -> str:
    return f"{moment(micros or 0):%Y-%m-%d %H:%M:%S} UTC"


def percent(ratio: float, apart_from: float | None = None) -> str:
    """A ratio for people: 12.3%, 40%, 0.125%; with more decimals where it would read like another."""
    decimals = 1 if ratio >= 0.01 else 3
    while decimals < DECIMALS_MAX and apart_from not in (None, ratio) and _percent(ratio, decimals) == _percent(apart_from, decimals):
        decimals += 1
    return _percent(ratio, decimals)


def _percent(ratio: float | None, decimals: int) -> str:
    shown = f"{100 * (ratio or 0):.{decimals}f}"
    return f"{shown.rstrip('0').rstrip('.')}%"
