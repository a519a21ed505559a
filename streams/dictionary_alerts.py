"""[pure] An alert rule in words: what makes it fire, how sure it must be, when it resolves, whom it tells."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.config import Config
from schemas.dictionary import AlertEntry
from schemas.duration import bucket_seconds
from schemas.funnel import Funnel
from schemas.pipeline import PIPELINE
from schemas.rule import Drop, Rule
from streams.dictionary_words import Words, plain


def alert_entry(rule: Rule, funnel: Funnel, mature_seconds: int, words: Words) -> AlertEntry:
    """A rule; `mature_seconds` is how long after its bucket an entry of its funnel is finished."""
    stage = funnel.stages[funnel.stage_index(rule.stage)]
    return AlertEntry(
        name=rule.name,
        title=rule.name,
        meaning=rule_meaning(rule, funnel, words),
        counted=tuple(_counted(rule, funnel, words, words.span(mature_seconds))),
        target=stage.target if rule.below_target else None,
        owner=plain(funnel.owner),
        funnel=funnel.name,
        stage=rule.stage,
        severity=rule.severity,
        notify=rule.notify,
        runbook=plain(rule.runbook),
    )


def pipeline_entry(config: Config, words: Words) -> AlertEntry:
    """The alert that no rule has to ask for."""
    asked = config.pipeline
    notify = tuple(dict.fromkeys(name for rule in config.alerts for name in rule.notify)) if asked.notify is None else asked.notify
    return AlertEntry(
        name=PIPELINE,
        title=PIPELINE,
        meaning=words("p_meaning", span=words.span(asked.for_)),
        counted=(words("p_clock"), *_told(asked.severity, notify, asked.runbook, words)),
        funnel="",
        stage="",
        severity=asked.severity,
        notify=notify,
        runbook=plain(asked.runbook),
    )


def rule_meaning(rule: Rule, funnel: Funnel, words: Words) -> str:
    """When a rule fires, in one sentence."""
    lasting = words("r_lasting", span=words.span(rule.for_)) if int(rule.for_) else ""
    return words("r_meaning", limit=limit(rule, funnel, words), lasting=lasting, **_ends(rule, funnel, words))


def limit(rule: Rule, funnel: Funnel, words: Words) -> str:
    """`under 40%`, `under its target of 70%`, `more than 25% under that of the same hours a week earlier`."""
    if rule.drop is not None:
        usual = words(f"r_{rule.drop.from_}", over=words.span(rule.drop.over))
        return words("r_drop", by=words.share(rule.drop.by), usual=usual)
    if rule.below_target:
        return words("r_target", rate=words.share(funnel.stages[funnel.stage_index(rule.stage)].target or 0.0))
    return words("r_above" if rule.rises else "r_below", rate=words.share(rule.fixed or 0.0))


def _ends(rule: Rule, funnel: Funnel, words: Words) -> dict[str, str]:
    place = funnel.stage_index(rule.stage)
    return {"from_": words.shown(funnel.stages[place - 1]), "to": words.shown(funnel.stages[place])}


def _counted(rule: Rule, funnel: Funnel, words: Words, mature: str) -> list[str]:
    entrants = words.number(rule.min_entrants)
    said = [
        words(f"r_{rule.basis}", window=words.span(rule.window), mature=mature, **_ends(rule, funnel, words)),
        words("r_step", step=words.span(bucket_seconds(rule.window))),
    ]
    if rule.widen_to is not None:
        said.append(words("r_widen", entrants=entrants, widen=words.span(rule.widen_to)))
    if rule.drop is not None:
        said.append(_compared(rule.drop, words))
    said.append(_surely(rule, words, entrants))
    if rule.long_window is not None:
        said.append(words("r_long", long=words.span(rule.long_window)))
    said.append(words("r_for", span=words.span(rule.for_)) if int(rule.for_) else words("r_at_once"))
    said.append(_recovery(rule, funnel, words))
    if rule.by:
        said.append(words("r_by", dimensions=words.names(rule.by)))
    return [*said, words("r_unknown"), *_told(rule.severity, rule.notify, rule.runbook, words)]


def _compared(drop: Drop, words: Words) -> str:
    if drop.from_ == "median":
        return words("r_compared_median", over=words.span(drop.over))
    return words("r_compared_near", ago=words("r_week" if drop.from_ == "last_week" else "r_day"))


def _surely(rule: Rule, words: Words, entrants: str) -> str:
    confidence = words.share(rule.confidence)
    if rule.detector == "windowed":
        return words("r_windowed", entrants=entrants, confidence=confidence, beyond=words("r_over" if rule.rises else "r_under"))
    worse = words("r_higher" if rule.rises else "r_lower")
    return words(
        "r_sequential",
        entrants=entrants,
        confidence=confidence,
        worse=worse,
        effect=words.share(rule.effect),
        run=words.span(rule.run_length),
    )


def _recovery(rule: Rule, funnel: Funnel, words: Words) -> str:
    kept = words("r_kept", span=words.span(rule.keep_firing_for)) if int(rule.keep_firing_for) else words("r_kept_not")
    return words("r_recovers", back=recovery(rule, funnel, words), kept=kept)


def recovery(rule: Rule, funnel: Funnel, words: Words) -> str:
    """`when the rate is back at 45% or more`."""
    rate = rule.recovery
    if rate is None and rule.below_target:
        rate = funnel.stages[funnel.stage_index(rule.stage)].target
    if rate is None and rule.drop is not None:
        by = rule.drop.by if rule.drop.recover_by is None else rule.drop.recover_by
        return words("r_back_drop", by=words.share(by))
    return words("r_back_down" if rule.rises else "r_back_up", rate=words.share(rate or 0.0))


def _told(severity: str, channels: Iterable[str], runbook: str, words: Words) -> list[str]:
    named = words.names(channels)
    said = [
        words("r_tells", severity=words.name(severity), channels=named) if named else words("r_tells_nobody", severity=words.name(severity))
    ]
    return [*said, words("r_runbook", runbook=plain(runbook))] if runbook else said
