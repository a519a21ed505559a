"""[pure] The dictionary of a config: what every source, funnel, stage, rate and dimension means, and how it is counted.

Alerts are worded in `dictionary_alerts`; which field of the config is worded at all, and which has no
meaning for counts, is said by `dictionary_fields`.
"""

from __future__ import annotations

from schemas.config import Config, Source
from schemas.dictionary import Dictionary, Entry, FunnelEntry, Language, StepEntry, Term
from schemas.duration import Duration, bucket_seconds
from schemas.funnel import Exclusion, Funnel
from schemas.presets import preset_of
from streams.dictionary_alerts import alert_entry, pipeline_entry
from streams.dictionary_terms import TERMS
from streams.dictionary_words import Words, plain
from streams.plan import Plan
from streams.values import COMBINED, VALUE_LENGTH_MAX


def dictionary(config: Config, language: Language = "en") -> Dictionary:
    """Everything of a config in words."""
    words = Words(language)
    numbers = definitions(config)
    return Dictionary(
        language=language,
        sources=tuple(source_entry(source, words) for source in config.sources),
        funnels=tuple(_Funnel(config, funnel, words).entry(numbers[funnel.name]) for funnel in config.funnels),
        pipeline=pipeline_entry(config, words),
        terms=terms(language),
    )


def definitions(config: Config) -> dict[str, int]:
    """What the counts of each funnel belong to, by its name."""
    return {plan.funnel.name: plan.definition for source in config.sources for plan in Plan(config, source).funnels}


def terms(language: Language = "en") -> tuple[Term, ...]:
    """The glossary."""
    at = 0 if language == "en" else 2
    return tuple(Term(key=key, term=row[at], meaning=row[at + 1]) for key, row in TERMS.items())


def source_entry(source: Source, words: Words) -> Entry:
    """Where a source's events come from, and which of them count."""
    fields = {name: words.name(path) for name, path in source.fields}
    keyed = "src_trusted" if source.trust_key else "src_keyed"
    return Entry(
        name=source.name,
        title=source.name,
        meaning=words("src_meaning", topic=words.name(source.topic)),
        counted=(
            words("src_entity", **fields),
            words("src_fields", **fields),
            *([words("src_calls")] if "event" in preset_of(source.preset).otherwise else []),
            words(keyed if source.entity_key else "src_rekeyed", topic=words.name(source.keyed_topic)),
            words("src_lateness", lateness=words.span(source.allowed_lateness)),
            words("src_rejected", skew=words.span(source.max_skew), bytes=words.number(source.record_bytes_max)),
            words(f"src_{source.start}"),
        ),
    )


def funnel_meaning(funnel: Funnel, words: Words) -> str:
    """What a funnel asks, in one sentence."""
    first, last = words.shown(funnel.stages[0]), words.shown(funnel.stages[-1])
    return words(f"f_meaning_{funnel.order}", first=first, last=last, window=words.span(funnel.conversion_window))


def stage_meaning(funnel: Funnel, place: int, words: Words) -> str:
    """Who is at a stage, in one sentence."""
    if place == 0:
        return words("s_meaning_first")
    key = "s_meaning_any" if funnel.order == "any" else "s_meaning_later"
    return words(key, before=words.shown(funnel.stages[place - 1]), window=words.span(funnel.conversion_window))


def dimension_meaning(funnel: Funnel, name: str, words: Words) -> str:
    """What a dimension splits by, in one sentence."""
    dimension = funnel.dimensions[name]
    if dimension.combine is None:
        return words("d_meaning", path=words.name(dimension.field))
    first, second = map(words.name, dimension.combine)
    return words("d_meaning_both", first=first, second=second)


class _Funnel:
    """One funnel in words."""

    def __init__(self, config: Config, funnel: Funnel, words: Words) -> None:
        self.funnel, self.words = funnel, words
        self.source = config.source(funnel.source)
        self.rules = [rule for rule in config.alerts if rule.funnel == funnel.name]
        self.shown = [words.shown(stage) for stage in funnel.stages]
        self.window = words.span(funnel.conversion_window)
        self.lateness = words.span(self.source.allowed_lateness)
        self.mature_seconds = int(funnel.conversion_window) + int(self.source.allowed_lateness)
        self.mature = words.span(self.mature_seconds)

    def entry(self, definition: int) -> FunnelEntry:
        funnel, words = self.funnel, self.words
        places = range(len(funnel.stages))
        return FunnelEntry(
            name=funnel.name,
            title=plain(funnel.title) or funnel.name,
            description=plain(funnel.description),
            meaning=funnel_meaning(funnel, words),
            counted=self.counted(),
            owner=plain(funnel.owner),
            source=funnel.source,
            definition=definition,
            windows=tuple(map(str, funnel.windows)),
            stages=tuple(map(self.stage, places)),
            steps=tuple(map(self.step, places[1:])),
            dimensions=tuple(map(self.dimension, funnel.dimensions)),
            alerts=tuple(alert_entry(rule, funnel, self.mature_seconds, words) for rule in self.rules),
        )

    def counted(self) -> tuple[str, ...]:
        funnel, words, learned = self.funnel, self.words, self.funnel.baseline
        paths = {name: words.name(path) for name, path in self.source.fields}
        first, last = self.shown[0], self.shown[-1]
        return (
            words("f_entities", source=words.name(funnel.source), **paths),
            words("f_stages", stages=" → ".join(self.shown)),
            words(f"f_{funnel.order}", first=first, window=self.window),
            *(self.exclusion("f_exclude", exclusion) for exclusion in funnel.exclude),
            words("f_users"),
            words("f_windows", windows=self.windows()),
            words("f_entries", window=self.window, mature=self.mature, lateness=self.lateness),
            words("f_late", lateness=self.lateness),
            words(f"f_baseline_{learned.by}", half_life=words.span(learned.half_life), entries=words.number(learned.min_entries)),
            words("f_overall", first=first, last=last),
        )

    def windows(self) -> str:
        """All windows, by the width of their buckets."""
        words = self.words
        by_width: dict[int, list[Duration]] = {}
        for window in sorted(self.funnel.windows):
            by_width.setdefault(bucket_seconds(window), []).append(window)
        return words("semicolon").join(
            [
                words("f_width", windows=words.listed([words.span(window) for window in windows]), width=words.span(width))
                for width, windows in by_width.items()
            ]
        )

    def exclusion(self, key: str, exclusion: Exclusion) -> str:
        funnel, words = self.funnel, self.words
        from_, to = (self.shown[funnel.stage_index(name)] for name in (exclusion.from_, exclusion.to))
        return capital(words(key, events=words.events(exclusion.event), where=words.where(exclusion.where), from_=from_, to=to))

    def stage(self, place: int) -> Entry:
        stage = self.funnel.stages[place]
        return Entry(
            name=stage.name,
            title=plain(stage.title) or stage.name,
            meaning=stage_meaning(self.funnel, place, self.words),
            counted=tuple(self.stage_counted(place)),
            owner=plain(self.funnel.owner),
        )

    def stage_counted(self, place: int) -> list[str]:
        funnel, words, stage = self.funnel, self.words, self.funnel.stages[place]
        any_order = funnel.order == "any"
        said = [words("s_match", events=words.events(stage.event), where=words.where(stage.where))]
        if place:
            said.append(words(f"s_{funnel.order}", before=self.shown[place - 1], window=self.window))
        else:
            said.append(words("s_first_any" if any_order else "s_first"))
        said += [self.exclusion("s_exclude", exclusion) for exclusion in funnel.exclude if self.keeps_out(exclusion, place)]
        if stage.value is not None:
            said.append(words("s_value_any" if any_order else "s_value", path=words.name(stage.value)))
        if place + 1 < len(funnel.stages):
            said.append(words("s_entries", window=self.window, following=self.shown[place + 1]))
        else:
            said.append(words("s_last", window=self.window))
        return said

    def keeps_out(self, exclusion: Exclusion, place: int) -> bool:
        return self.funnel.stage_index(exclusion.from_) < place <= self.funnel.stage_index(exclusion.to)

    def step(self, place: int) -> StepEntry:
        funnel, words = self.funnel, self.words
        before, stage = funnel.stages[place - 1], funnel.stages[place]
        ends = {"from_": self.shown[place - 1], "to": self.shown[place]}
        return StepEntry(
            name=f"{before.name} → {stage.name}",
            title=f"{plain(before.title) or before.name} → {plain(stage.title) or stage.name}",
            meaning=words("t_meaning_any" if funnel.order == "any" else "t_meaning", **ends),
            counted=(
                words("t_users", **ends),
                words("t_entries", mature=self.mature, **ends),
                words("t_adjusted", window=self.window, entries=words.number(funnel.baseline.min_entries), **ends),
                words("t_time"),
            ),
            target=stage.target,
            benchmark=stage.benchmark,
            owner=plain(funnel.owner),
            from_stage=before.name,
            stage=stage.name,
            alerts=tuple(rule.name for rule in self.rules if rule.stage == stage.name),
        )

    def dimension(self, name: str) -> Entry:
        funnel, words, dimension = self.funnel, self.words, self.funnel.dimensions[name]
        if dimension.allow is None:
            kept = words("d_max", most=words.number(dimension.max_values))
        else:
            kept = words("d_allow", values=words.names(dimension.allow)) if dimension.allow else words("d_allow_none")
        length = VALUE_LENGTH_MAX if dimension.combine is None else 2 * VALUE_LENGTH_MAX + len(COMBINED)
        return Entry(
            name=name,
            title=name,
            meaning=dimension_meaning(funnel, name, words),
            counted=(
                words("d_chain_any" if funnel.order == "any" else "d_chain", first=self.shown[0]),
                kept,
                words("d_none", length=words.number(length)),
            ),
            owner=plain(funnel.owner),
        )


def capital(sentence: str) -> str:
    """With a capital letter at its beginning; what is in quotes stays as it is."""
    return sentence[:1].upper() + sentence[1:]
