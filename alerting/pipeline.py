"""[pure] The pipeline's own alert, one per source: it is behind, or nothing comes, for too long.

Event time stands still when nothing comes, so this alert goes by the wall clock, looked at every few
seconds. Only the time between two looks counts, and of that no more than STEP_US_MAX: a clock that
is set to another time neither makes it fire nor keeps it from firing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import quote

from alerting.lifecycle import AlertKey, Change, DataState, RuleState, fired, resolved
from alerting.message import Notification, Status
from alerting.reports import moment
from schemas.config import Config
from schemas.duration import MICROS
from schemas.pipeline import PIPELINE
from schemas.report import Transition

STEP_US_MAX = 15 * MICROS


@dataclass(frozen=True)
class Intake:
    """What is known of a source now.

    `at_us` is T, None before the first event. `settled`: neither stale nor catching up with a
    backlog. `records`: how many were ever taken, those apart that were rejected.
    """

    at_us: int | None
    settled: bool
    records: int = 0


def key(source: str) -> AlertKey:
    """The name of a source's alert."""
    return AlertKey(PIPELINE, "source", source)


def advance(
    state: RuleState, intake: Intake, records_before: int | None, now_us: int, for_us: int
) -> tuple[RuleState, Change | None, DataState]:
    """The state after a look at the wall clock's `now_us`, what is to be told, and what holds for the source's rules.

    `records_before` is what the look before saw, None when there was none: then the trouble there
    was goes on. Inside a trouble `breach_us` says since when it is; it fires once that is `for_us` ago.
    """
    since = _since(state, now_us)
    trouble = _trouble(intake, records_before, state)
    seen = replace(state, since_us=now_us if state.since_us is None else state.since_us, at_us=now_us)
    if trouble == "ok":
        after = replace(resolved(seen, now_us) if state.fires else seen, breach_us=None, data="ok")
        return after, "resolved" if state.fires else None, "ok"
    began = now_us if since is None else since
    if state.fires:
        return replace(seen, breach_us=began, data=trouble), None, trouble
    if now_us - began >= for_us:
        return replace(fired(seen, began, now_us), data=trouble), "firing", trouble
    # Seen twice: a source that always runs late is behind for a moment with every chunk.
    return replace(seen, breach_us=began), None, "stale" if trouble == "stale" and now_us > began else "ok"


def _trouble(intake: Intake, records_before: int | None, state: RuleState) -> DataState:
    if not intake.settled:
        return "stale"
    if records_before is None:
        return "ok" if state.breach_us is None else "no_data"
    return "no_data" if intake.records == records_before else "ok"


def _since(state: RuleState, now_us: int) -> int | None:
    """Since when there is trouble, on the clock as it is now."""
    if state.breach_us is None or state.at_us is None:
        return None
    passed = now_us - state.at_us
    return state.breach_us + passed - min(max(passed, 0), STEP_US_MAX)


def transition(alert: AlertKey, state: RuleState, change: Change) -> Transition:
    """A change of state as it is kept and told."""
    return Transition(
        at=moment(state.at_us or 0), rule=alert.rule, funnel="", stage="", dimension=alert.dimension, value=alert.value,
        state=change, numerator=0, denominator=0, rate=None, threshold=None,
    )  # fmt: skip


def channels(config: Config) -> tuple[str, ...]:
    """Whom it tells: as configured, else every channel that a rule names."""
    named = config.pipeline.notify
    return tuple(dict.fromkeys(name for rule in config.alerts for name in rule.notify) if named is None else dict.fromkeys(named))


def incident_key(alert: AlertKey, began_us: int) -> str:
    """The name of an incident in everything that is sent of it, as `message.compose` gives it; plain ASCII."""
    return "/".join((*(quote(part, safe=":") for part in alert if part is not None), str(began_us)))


def notification(config: Config, alert: AlertKey, state: RuleState, web_url: str = "") -> Notification:
    """What to say while it fires, or once it has stopped to."""
    status: Status = "firing" if state.fires else "resolved"
    source = alert.value or ""
    began_us = state.incident_us or 0
    incident = incident_key(alert, began_us)
    addresses = (("Page", web_url), ("Runbook", config.pipeline.runbook))
    return Notification(
        key=f"{incident}/{status}",
        incident=incident,
        status=status,
        transition=transition(alert, state, status),
        severity=config.pipeline.severity,
        began=moment(began_us),
        ended=None if state.fires else moment(state.at_us or began_us),
        since=None if state.breach_us is None else moment(state.breach_us),
        title=_title(source, state),
        text="\n".join((*_lines(config, source, state), *(f"{name}: {address}" for name, address in addresses if address))),
        link=web_url,
        runbook=config.pipeline.runbook,
    )


def _title(source: str, state: RuleState) -> str:
    if not state.fires:
        return f"Source {source}: data are counted again (resolved)"
    return f"Source {source}: {'counting is behind' if state.data == 'stale' else 'no data'}, its rules cannot be judged"


def _lines(config: Config, source: str, state: RuleState) -> tuple[str, ...]:
    names = [rule.name for rule in config.alerts if config.funnel(rule.funnel).source == source]
    judged = f"{len(names)} rule{'s' * (len(names) != 1)} ({', '.join(names[:5])}{', …' * (len(names) > 5)})"
    if not state.fires:
        return (f"It lasted from {_utc(state.incident_us)} to {_utc(state.at_us)}. Judged again: {judged}.",)
    topic = config.source(source).topic
    what = (
        f"Records of topic {topic} wait to be counted, and a partition is over a minute behind the others or the clock."
        if state.data == "stale"
        else f"No record of topic {topic} was counted, but for rejected ones."
    )
    return (
        f"{what} So it is since {_utc(state.breach_us)}.",
        f"Until it is over nothing is said of {judged}: what fires goes on firing, what does not cannot begin to.",
        "See whether the workers run and keep up (funnel_lag_records, funnel_progress_seconds), and whether anything is produced.",
    )


def _utc(micros: int | None) -> str:
    at: datetime = moment(micros or 0)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
