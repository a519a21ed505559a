"""[pure] What one config changes in the meaning of another, in words.

The two are walked field by field, and `dictionary_fields` says what each field is to its reader: so
nothing that differs is passed over. Sources, funnels, stages, dimensions, alerts and channels are
matched by name, or else, where all else is alike, taken for renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from schemas.config import Config, Source
from schemas.dictionary import Change, Difference, Kind, Language
from schemas.duration import Duration
from schemas.funnel import Exclusion, Funnel, Model, Stage
from schemas.pipeline import PIPELINE
from schemas.rule import Rule
from streams.dictionary import capital, definitions, dimension_meaning, funnel_meaning, source_entry, stage_meaning
from streams.dictionary_alerts import limit, rule_meaning
from streams.dictionary_effects import effect, effective
from streams.dictionary_fields import FIELDS
from streams.dictionary_words import PLACES, Words, plain

THRESHOLDS = ("below", "above", "drop", "below_target")
# What makes the counts of a running definition mean another thing, without making them begin anew.
MIXING = frozenset({("Source", "topic"), ("Source", "entity_key"), *(("Fields", name) for name in FIELDS["Fields"])})


@dataclass(frozen=True)
class _At:
    """What is compared: its name in words, the funnel it belongs to, and the severity of a rule."""

    subject: str
    funnel: str = ""
    severity: str = ""


def difference(old: Config, new: Config, language: Language = "en") -> Difference:
    """What changes when a service that ran with `old` runs with `new`."""
    changes = tuple(_Differ(old, new, Words(language)).changes())
    return Difference(language=language, same=all(change.kind in ("words", "running") for change in changes), changes=changes)


class _Differ:
    def __init__(self, old: Config, new: Config, words: Words) -> None:
        self.old, self.new, self.words = old, new, words
        self.were, self.are = definitions(old), definitions(new)
        _, added, gone = _matched(old.funnels, new.funnels)
        self.renamed_funnels = _renamed(gone, added, _but_for_names)
        self.funnel_names = {was.name: now.name for was, now in self.renamed_funnels}

    def changes(self) -> Iterator[Change]:
        yield from self.sources()
        yield from self.funnels()
        yield from self.alerts()
        yield from self.fields(_At(self.words("x_alert", name=self.words.name(PIPELINE))), self.old.pipeline, self.new.pipeline)
        yield from self.channels()
        yield from self.access()

    # Sources

    def sources(self) -> Iterator[Change]:
        words = self.words
        pairs, added, gone = _matched(self.old.sources, self.new.sources)
        for was, now in pairs:
            at = _At(words("x_source", name=words.name(now.name)))
            yield from self.fields(at, was, now, skip={"fields"})
            yield from self.fields(at, was.fields, now.fields)
            going_on = [f.name for f in self.new.funnels_of(now.name) if self.were.get(f.name) == self.are[f.name]]
            if going_on and _mixes(was, now):
                yield _change("meaning", at, words("x_mixed", funnels=words.names(going_on)))
        for source in added:
            at = _At(words("x_source", name=words.name(source.name)))
            yield _change("meaning", at, words("x_new_source", meaning=source_entry(source, words).meaning))
        for source in gone:
            yield _change("meaning", _At(words("x_source", name=words.name(source.name))), words("x_gone"))

    # Funnels

    def funnels(self) -> Iterator[Change]:
        words = self.words
        pairs, added, gone = _matched(self.old.funnels, self.new.funnels)
        renamed = self.renamed_funnels
        for was, now in pairs:
            yield from self.funnel(was, now)
        for was, now in renamed:
            at = _At(words("x_funnel", name=words.name(now.name)), now.name)
            yield _change("words", at, words("x_funnel_renamed", old=words.name(was.name)))
            yield _change("anew", at, words("x_anew", why=words("x_why_name"), name=now.name))
        for funnel in (f for f in added if not any(f is now for _, now in renamed)):
            at = _At(words("x_funnel", name=words.name(funnel.name)), funnel.name)
            yield _change("meaning", at, words("x_new_funnel", meaning=funnel_meaning(funnel, words)))
        for funnel in (f for f in gone if not any(f is was for was, _ in renamed)):
            yield _change("meaning", _At(words("x_funnel", name=words.name(funnel.name)), funnel.name), words("x_gone"))

    def funnel(self, was: Funnel, now: Funnel) -> Iterator[Change]:
        words = self.words
        at = _At(words("x_funnel", name=words.name(now.name)), now.name)
        yield from self.fields(at, was, now, skip={"stages", "dimensions", "baseline"})
        yield from self.fields(at, was.baseline, now.baseline)
        yield from self.stages(at, was, now)
        yield from self.dimensions(at, was, now)
        if self.were[was.name] != self.are[now.name]:
            yield _change("anew", at, words("x_anew", why=self.why_anew(was, now), name=now.name))

    def why_anew(self, was: Funnel, now: Funnel) -> str:
        """Why the definition is another: its parts that are, or else its windows."""
        if was.definition == now.definition:
            return self.words("x_why_windows")
        parts = [self.label("Funnel", name) for name in ("source", "order", "conversion_window", "exclude") if _differs(name, was, now)]
        parts += [self.label("Funnel", "stages")] * ([_counted(s) for s in was.stages] != [_counted(s) for s in now.stages])
        if _split(was) != _split(now):
            parts.append(self.label("Funnel", "dimensions"))
        elif list(was.dimensions) != list(now.dimensions):
            parts.append(self.words("x_dimension_order"))
        return self.words("x_why_definition", what=self.words.listed(parts))

    def stages(self, at: _At, was: Funnel, now: Funnel) -> Iterator[Change]:
        words = self.words
        pairs, added, gone = _matched(was.stages, now.stages)
        renamed = _renamed(gone, added, _counted)
        for before, after in (*pairs, *renamed):
            here = self.at_stage(now, after)
            if before.name != after.name:
                yield _change("words", here, words("x_renamed", old=words.name(before.name)))
            yield from self.fields(here, before, after, skip={"name"})
        for stage in (s for s in added if not any(s is after for _, after in renamed)):
            place = now.stage_index(stage.name)
            said = words("x_stage_new", place=place + 1, meaning=stage_meaning(now, place, words))
            events = words("s_match", events=words.events(stage.event), where=words.where(stage.where))
            yield _change("meaning", self.at_stage(now, stage), words.together(said, events))
        for stage in (s for s in gone if not any(s is before for before, _ in renamed)):
            yield _change("meaning", self.at_stage(now, stage), words("x_gone"))
        yield from self.steps(at, was, now, _stage_names(was, now))

    def steps(self, at: _At, was: Funnel, now: Funnel, names: Mapping[str, str]) -> Iterator[Change]:
        """Rates of stages that are still there, but come after others."""
        words = self.words
        order = [names[stage.name] for stage in was.stages if stage.name in names]
        kept = [stage.name for stage in now.stages if stage.name in order]
        if order != kept:
            shown = {"old": " → ".join(map(words.name, order)), "new": " → ".join(map(words.name, kept))}
            yield _change("meaning", at, words("x_stage_order", **shown))
        for place, stage in enumerate(was.stages[1:], start=1):
            name = names.get(stage.name)
            if name is None or now.stage_index(name) == 0:
                continue
            before, after = was.stages[place - 1], now.stages[now.stage_index(name) - 1]
            if names.get(before.name) != after.name:
                to = now.stages[now.stage_index(name)]
                text = words("x_step", to=words.shown(to), old=words.shown(before), new=words.shown(after))
                yield _change("meaning", self.at_stage(now, to), text)

    def at_stage(self, funnel: Funnel, stage: Stage) -> _At:
        words = self.words
        return _At(words("x_stage", funnel=words.name(funnel.name), name=words.name(stage.name)), funnel.name)

    def dimensions(self, at: _At, was: Funnel, now: Funnel) -> Iterator[Change]:
        words = self.words
        for name in dict.fromkeys((*was.dimensions, *now.dimensions)):
            here = replace(at, subject=words("x_dimension", funnel=words.name(now.name), name=words.name(name)))
            if name not in was.dimensions:
                yield _change("meaning", here, words("x_new_dimension", meaning=dimension_meaning(now, name, words)))
            elif name not in now.dimensions:
                yield _change("meaning", here, words("x_gone"))
            else:
                yield from self.fields(here, was.dimensions[name], now.dimensions[name])

    # Alerts

    def alerts(self) -> Iterator[Change]:
        words = self.words
        pairs, added, gone = _matched(self.old.alerts, self.new.alerts)
        renamed = _renamed(gone, added, lambda rule: _but_for_names(self.under_new_names(rule) if rule in gone else rule))
        for was, now in (*pairs, *renamed):
            at = _At(words("x_alert", name=words.name(now.name)), now.funnel, now.severity)
            if was.name != now.name:
                yield _change("words", at, words("x_alert_renamed", old=words.name(was.name)))
            yield from self.rule(at, was, now)
        for rule in (r for r in added if not any(r is now for _, now in renamed)):
            at = _At(words("x_alert", name=words.name(rule.name)), rule.funnel)
            meaning = rule_meaning(rule, self.new.funnel(rule.funnel), words)
            yield _change("meaning", at, words("x_new_alert", meaning=meaning))
        for rule in (r for r in gone if not any(r is was for was, _ in renamed)):
            yield _change("meaning", _At(words("x_alert", name=words.name(rule.name)), rule.funnel), words("x_gone"))

    def rule(self, at: _At, was: Rule, now: Rule) -> Iterator[Change]:
        words, funnel = self.words, self.new.funnel(now.funnel)
        before, after = limit(was, self.old.funnel(was.funnel), words), limit(now, funnel, words)
        targets = _target(self.old, was), _target(self.new, now)
        was = self.under_new_names(was)
        if was.condition != now.condition:
            yield _change("meaning", at, words("x_threshold", old=before, new=after))
        elif was.drop is not None and now.drop is not None:
            yield from self.fields(at, was.drop, now.drop)
        yield from self.fields(at, was, now, skip={"name", "drop", *(THRESHOLDS if was.condition != now.condition else ())})
        if was.below_target and now.below_target and (was.funnel, was.stage) == (now.funnel, now.stage) and before != after:
            said = effect("Rule", "below", targets[0], targets[1], words, now.severity)
            shown = {"old": words.share(targets[0]), "new": words.share(targets[1])}
            stage = words.shown(funnel.stages[funnel.stage_index(now.stage)])
            yield _change("meaning", at, words.together(words("x_target_moves", stage=stage, **shown), said))

    def under_new_names(self, rule: Rule) -> Rule:
        """An old rule over its funnel and stage as they are called now."""
        funnel = self.funnel_names.get(rule.funnel, rule.funnel)
        stages = _stage_names(self.old.funnel(rule.funnel), self.new.funnel(funnel)) if funnel in self.are else {}
        return rule.model_copy(update={"funnel": funnel, "stage": stages.get(rule.stage, rule.stage)})

    # Channels

    def channels(self) -> Iterator[Change]:
        words, was, now = self.words, self.old.channels, self.new.channels
        for name in dict.fromkeys((*was, *now)):
            at = _At(words("x_channel", name=words.name(name)))
            if name not in was:
                yield _change("running", at, words("x_new_channel"))
            elif name not in now:
                yield _change("running", at, words("x_gone"))
            elif was[name] != now[name]:
                yield _change("running", at, words("x_channel_set", fields=words.listed(self.set_otherwise(was[name], now[name]))))

    def access(self) -> Iterator[Change]:
        was, now = self.old.access, self.new.access
        if was != now:
            said = self.words("x_channel_set", fields=self.words.listed(self.set_otherwise(was, now)))
            yield _change("running", _At(self.words("x_access")), said)

    def set_otherwise(self, was: BaseModel, now: BaseModel) -> list[str]:
        """The labels of what differs; values may be secrets, and are not told."""
        if type(was) is not type(now):
            return [self.label(type(now).__name__, "type")]
        return [self.label(type(now).__name__, name) for name in type(now).model_fields if getattr(was, name) != getattr(now, name)]

    # Field by field

    def fields(self, at: _At, was: Model, now: Model, skip: set[str] | frozenset[str] = frozenset()) -> Iterator[Change]:
        """What differs between two of a kind, as far as it is no thing with fields of its own."""
        words, model = self.words, type(now).__name__
        for name in type(now).model_fields:
            old, new = getattr(was, name), getattr(now, name)
            if name in skip or (old == new and _written(old) == _written(new)):
                continue
            role = FIELDS[model][name][0]
            label = capital(self.label(model, name))
            if _same(name, old, new, was, now):
                yield _change("running", at, words("x_rewritten", label=label))
                continue
            kind: Kind = "words" if role == "words" else "running" if role == "running" else "meaning"
            text = words("x_was", label=label, old=self.value(name, old), new=self.value(name, new))
            yield _change(kind, at, words.together(text, self.effect(model, name, was, now, at)))

    def effect(self, model: str, name: str, was: Model, now: Model, at: _At) -> str:
        return effect(model, name, effective(was, name), effective(now, name), self.words, at.severity)

    def label(self, model: str, name: str) -> str:
        return FIELDS[model][name][1 + PLACES[self.words.language]]

    def value(self, name: str, value: Any) -> str:
        """A setting's value in words."""
        words = self.words
        if value is None and name in ("allow", "notify"):
            return words("x_all")
        if value is None or value in ("", (), {}):
            return words("x_none")
        if isinstance(value, bool):
            return words("x_yes" if value else "x_no")
        if isinstance(value, Duration):
            return words.span(value)
        if isinstance(value, float):
            return words.share(value)
        if isinstance(value, int):
            return words.number(value)
        if name == "where":
            return words.conditions(value)
        if name in ("title", "description", "owner", "runbook"):
            return words("titled", title=plain(value))
        if isinstance(value, str):
            return words.name(value)
        return words.listed([self.part(one) for one in value])

    def part(self, one: Any) -> str:
        words = self.words
        if isinstance(one, Duration):
            return words.span(one)
        if isinstance(one, Exclusion):
            events = f"{words.names(one.event)}{words.where(one.where)}"
            return f"{events} ({words.name(one.from_)} → {words.name(one.to)})"
        return words.name(str(one))


def _change(kind: Kind, at: _At, text: str) -> Change:
    return Change(kind=kind, subject=at.subject, funnel=at.funnel, text=text)


def _matched(was: Sequence[Any], now: Sequence[Any]) -> tuple[list[tuple[Any, Any]], list[Any], list[Any]]:
    """Pairs of one name; what is new; what is gone."""
    before, after = {one.name: one for one in was}, {one.name: one for one in now}
    pairs = [(before[name], one) for name, one in after.items() if name in before]
    return pairs, [one for one in now if one.name not in before], [one for one in was if one.name not in after]


def _renamed(gone: Sequence[Any], added: Sequence[Any], but_for_its_name: Callable[[Any], Any]) -> list[tuple[Any, Any]]:
    """What is gone and what is new, where they are alike but for the name, and nothing else is like them."""
    contents = [but_for_its_name(one) for one in gone], [but_for_its_name(one) for one in added]
    found = [(was, now) for was, a in zip(gone, contents[0]) for now, b in zip(added, contents[1]) if a == b]
    return found if len({id(was) for was, _ in found}) == len({id(now) for _, now in found}) == len(found) else []


def _but_for_names(one: Model) -> Any:
    return one.model_dump(exclude={"name"})


def _stage_names(was: Funnel, now: Funnel) -> dict[str, str]:
    """What the stages that are still there were called, and are called now."""
    pairs, added, gone = _matched(was.stages, now.stages)
    return {before.name: after.name for before, after in (*pairs, *_renamed(gone, added, _counted))}


def _target(config: Config, rule: Rule) -> float:
    funnel = config.funnel(rule.funnel)
    return funnel.stages[funnel.stage_index(rule.stage)].target or 0.0


def _mixes(was: Source, now: Source) -> bool:
    return was.name == now.name and any(
        getattr(a, name) != getattr(b, name)
        for model, name in MIXING
        for a, b in [(was, now) if model == "Source" else (was.fields, now.fields)]
    )


def _counted(stage: Stage) -> Any:
    """What a stage counts, however it is written."""
    return [sorted(set(stage.event)), stage.value, {path: condition.counted() for path, condition in stage.where.items()}]


def _split(funnel: Funnel) -> Any:
    return {name: (d.field, d.combine, d.allow and sorted(d.allow), d.max_values) for name, d in funnel.dimensions.items()}


def _excluded(funnel: Funnel) -> Any:
    """By the places of the stages: their names do not matter."""
    return sorted(
        repr([sorted(e.event), sorted((p, c.counted()) for p, c in e.where.items()), funnel.stage_index(e.from_), funnel.stage_index(e.to)])
        for e in funnel.exclude
    )


def _written(value: Any) -> str:
    """As the config writes it: 60s is not 1m."""
    return str(value)


def _differs(name: str, was: Model, now: Model) -> bool:
    old, new = getattr(was, name), getattr(now, name)
    return old != new and not _same(name, old, new, was, now)


def _same(name: str, old: Any, new: Any, was: Model, now: Model) -> bool:
    """Whether two ways of writing a field mean the same."""
    if old == new:
        return True
    if name == "exclude" and isinstance(was, Funnel) and isinstance(now, Funnel):
        return bool(_excluded(was) == _excluded(now))
    if name == "where":
        asked = [{path: condition.counted() for path, condition in where.items()} for where in (old, new)]
        return asked[0] == asked[1]
    if name in ("event", "windows", "allow", "by", "notify") and isinstance(old, tuple) and isinstance(new, tuple):
        return sorted(set(old)) == sorted(set(new))
    return False
