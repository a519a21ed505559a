"""[pure] What a person woken at 3 a.m. reads: which step leaks, how badly, since when, for whom, what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict

from alerting.lifecycle import AlertKey, RuleState
from alerting.localise import Impact, Mix, Place
from alerting.reports import moment, transition
from alerting.words import Words, about, amount, percent, short, utc
from schemas.duration import MICROS, Duration
from schemas.funnel import Funnel
from schemas.report import Transition
from schemas.rule import Rule

DEAD_MAN = "FunnelwatchDeadMan"
OTHERS_MAX = 100
TOGETHER_MAX = 50

Status = Literal["firing", "resolved"]


class Where(BaseModel):
    """The value of a dimension that explains `share` of the drop; held against its own usual rate, or the other values."""

    model_config = ConfigDict(frozen=True)

    dimension: str
    value: str
    share: float
    against: str


class Other(BaseModel):
    """Another alert of the same cause, told by the same notification."""

    model_config = ConfigDict(frozen=True)

    dimension: str | None
    value: str | None
    numerator: int
    denominator: float
    rate: float | None


class Notification(BaseModel):
    """One message about one alert, ready for any channel.

    `key` is the same whenever the same thing is said again, so a receiver can drop repetitions;
    `incident` is the same from an incident's beginning to its end.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    incident: str = ""
    status: Status
    transition: Transition
    severity: str
    began: datetime
    ended: datetime | None = None
    title: str
    text: str
    link: str
    dashboard: str = ""
    runbook: str
    funnel: str = ""
    stage: str = ""
    window: str = ""
    basis: str = ""
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    baseline: float | None = None
    numerator: int = 0
    denominator: float = 0
    since: datetime | None = None
    lost_users_per_hour: float | None = None
    lost_value_per_hour: float | None = None
    value_of: str = ""
    where: Where | None = None
    others: tuple[Other, ...] = ()
    series: tuple[tuple[int, float], ...] = ()  # (µs, rate over `series_seconds`), for a picture
    series_seconds: int = 0

    @property
    def alert(self) -> AlertKey:
        return AlertKey(self.transition.rule, self.transition.dimension, self.transition.value)


NOBODY: Mapping[AlertKey, RuleState] = {}


def compose(
    rule: Rule,
    funnel: Funnel,
    alert: AlertKey,
    state: RuleState,
    web_url: str = "",
    *,
    impact: Impact | None = None,
    others: Mapping[AlertKey, RuleState] = NOBODY,
    dashboard_url: str = "",
) -> Notification:
    """What to say of an alert that fires, or that has just stopped to.

    `impact` and `others` are known when it begins to fire; a repetition does without them.
    """
    status: Status = "firing" if state.fires else "resolved"
    began_us = state.incident_us or 0
    verdict = state.verdict
    words = Words(rule, funnel, alert, state, impact.recent if impact else None)
    link, dashboard = _link(rule, alert, web_url), _dashboard(rule, began_us, state.at_us or began_us, dashboard_url)
    told = impact or Impact()
    addresses = (("Page", link), ("Dashboard", dashboard), ("Runbook", rule.runbook))
    return Notification(
        key=_key(alert, began_us, status),
        incident=_key(alert, began_us),
        status=status,
        transition=transition(rule, alert, state, status),
        severity=rule.severity,
        began=moment(began_us),
        ended=None if status == "firing" else moment(state.at_us or began_us),
        title=words.title(),
        text="\n".join(
            [
                *words.lines(),
                *(_costs(told) if status == "firing" else ()),
                *_others(others),
                *(f"{name}: {address}" for name, address in addresses if address),
            ]
        ),
        link=link,
        dashboard=dashboard,
        runbook=rule.runbook,
        funnel=rule.funnel,
        stage=rule.stage,
        window=words.window,
        basis=words.basis,
        rate=words.rate,
        low=verdict.low if verdict else None,
        high=verdict.upper if verdict else None,
        threshold=words.threshold,
        baseline=verdict.baseline if verdict else None,
        numerator=verdict.numerator if verdict else 0,
        denominator=verdict.denominator if verdict else 0,
        since=None if state.breach_us is None else moment(state.breach_us),
        lost_users_per_hour=told.lost_users_per_hour,
        lost_value_per_hour=told.lost_value_per_hour,
        value_of=told.value_of if told.lost_value_per_hour is not None else "",
        where=None if told.place is None else _where(told.place),
        others=tuple(_other(key, other) for key, other in list(others.items())[:OTHERS_MAX]),
        series=told.series,
        series_seconds=told.series_seconds,
    )


def dead_man(now_us: int, every: Duration | int, severity: str = "none", web_url: str = "") -> Notification:
    """What is said every so often so that silence is noticed; `now_us` is the wall clock's."""
    at = moment(now_us)
    return Notification(
        key=f"{DEAD_MAN}/{now_us}/firing",
        incident=DEAD_MAN,
        status="firing",
        transition=Transition(
            at=at, rule=DEAD_MAN, funnel="", stage="", dimension=None, value=None, state="firing",
            numerator=0, denominator=0, rate=None, threshold=None,
        ),
        severity=severity,
        began=at,
        title="funnelwatch is alive",
        text=(
            f"This always fires, and is said again every {short(int(every))}. "
            f"When it stops coming, nobody watches the funnels: have its absence wake somebody. Last said {utc(now_us)}."
        ),
        link=web_url,
        runbook="",
    )  # fmt: skip


def together(notifications: Sequence[Notification]) -> tuple[str, str]:
    """Title and text of one message that tells several, the newest of each alert at the end."""
    if len(notifications) == 1:
        return notifications[0].title, notifications[0].text
    firing = sum(told.status == "firing" for told in notifications)
    ended = len(notifications) - firing
    counted = [f"{firing} firing"] * (firing > 0) + [f"{ended} resolved"] * (ended > 0)
    shown = [f"{'FIRING' if told.status == 'firing' else 'RESOLVED'} {told.severity}: {told.title}" for told in notifications]
    more = [f"… and {len(shown) - TOGETHER_MAX} more."] if len(shown) > TOGETHER_MAX else []
    links = dict.fromkeys(f"Page: {told.link}" for told in notifications if told.link)
    text = ["Told in one message, since this channel's limit was reached:", *shown[:TOGETHER_MAX], *more, *list(links)[:3]]
    return f"{len(notifications)} alerts: {', '.join(counted)}", "\n".join(text)


def _key(alert: AlertKey, began_us: int, *status: Status) -> str:
    """Plain ASCII, since it travels in a header, while a dimension value may be in any script."""
    parts = [part for part in alert if part is not None]
    return "/".join([*(quote(part, safe=":") for part in parts), str(began_us), *status])


def _link(rule: Rule, alert: AlertKey, web_url: str) -> str:
    """The page as it shows the funnel in the rule's window; it keeps what it shows in the fragment."""
    if not web_url:
        return ""
    shown = {f"window.{rule.funnel}": str(rule.window)}
    if alert.dimension is not None:
        shown[f"by.{rule.funnel}"] = alert.dimension
    return f"{web_url.rstrip('/')}/#{urlencode(shown)}"


def _dashboard(rule: Rule, began_us: int, at_us: int, template: str) -> str:
    """The dashboard's address, from an hour before the incident to an hour after what is told, if it names its times."""
    hour_us = 3600 * MICROS
    known = {
        "rule": rule.name,
        "funnel": rule.funnel,
        "stage": rule.stage,
        "from_ms": str((began_us - hour_us) // 1000),
        "to_ms": str((at_us + hour_us) // 1000),
    }
    for name, value in known.items():
        template = template.replace(f"{{{name}}}", quote(value, safe=""))
    return template


def _where(place: Place) -> Where:
    return Where(dimension=place.dimension, value=place.value, share=round(place.share, 4), against=place.against)


def _other(alert: AlertKey, state: RuleState) -> Other:
    verdict = state.verdict
    return Other(
        dimension=alert.dimension,
        value=alert.value,
        numerator=verdict.numerator if verdict else 0,
        denominator=verdict.denominator if verdict else 0,
        rate=verdict.rate if verdict else None,
    )


def _costs(told: Impact) -> Iterator[str]:
    """What it costs and where it is."""
    if told.lost_users_per_hour is not None and told.lost_users_per_hour >= 1:
        against = "what is usual" if told.against == "baseline" else "the threshold"
        worth = ""
        if told.lost_value_per_hour is not None:
            worth = f", worth about {about(told.lost_value_per_hour)} of {told.value_of or 'value'}"
        yield f"Against {against}, about {about(told.lost_users_per_hour)} users an hour are lost here{worth}."
    if told.mix is not None:
        yield _mixed(told.mix)
    if told.place is not None:
        yield _placed(told.place)
    elif told.looked_at and told.mix is None:
        yield f"No single value of {_listed(told.looked_at)} explains it."


def _mixed(mix: Mix) -> str:
    return f"{percent(mix.share)} of it is a change of mix in {mix.dimension}, not of rates: more entrants with values of it that convert less."


def _placed(place: Place) -> str:
    here = f"{place.seen:,} conversions"
    if place.against == "usual":
        here += f" where {amount(place.expected)} are usual"
    else:
        here += f" of {amount(place.of)} ({percent(place.seen / place.of)})" if place.of else ""
    elsewhere = "" if place.elsewhere is None else f"; at {percent(place.elsewhere)} elsewhere"
    return f"{place.dimension} {place.value} explains {percent(round(place.share, 2))} of it: {here}{elsewhere}."


def _others(others: Mapping[AlertKey, RuleState]) -> list[str]:
    if not others:
        return []
    shown = []
    for alert, state in list(others.items())[:5]:
        name = "the total" if alert.dimension is None else f"{alert.dimension} {alert.value}"
        rate = state.verdict.rate if state.verdict else None
        shown.append(name if rate is None else f"{name} ({percent(rate)})")
    more = len(others) - len(shown)
    return [f"Firing as well: {', '.join(shown)}{f' and {more} more' if more else ''}."]


def _listed(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
