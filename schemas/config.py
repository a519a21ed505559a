"""The config file as one model: sources, funnels, alerts, channels; every problem with its line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path as FilePath
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from schemas.access import Access, check_access, warn_of
from schemas.channel import Channel
from schemas.condition import Where, text_of
from schemas.config_problems import Location, dotted, duplicate_keys, explain, find, instead, refused_shapes, root_causes
from schemas.duration import Duration, bucket_seconds
from schemas.errors import ConfigError, Problem
from schemas.funnel import Exclusion, Funnel, Model, Name, Path, Ratio
from schemas.pipeline import Pipeline
from schemas.presets import PRESETS, Format, PresetName
from schemas.rule import Rule
from schemas.rule_problems import Check, check_rule, check_window, rule_warnings

CONFIG_BYTES_MAX = 1_000_000
PROBLEMS_TOLD = 100  # of a config: who has more has made one mistake very often


class Fields(Model):
    """Where a record keeps each canonical field: a dotted path (or a CSV column)."""

    event: Path = "event"
    timestamp: Path = "timestamp"
    user_id: Path = "user_id"
    anonymous_id: Path = "anonymous_id"
    event_id: Path = "event_id"
    properties: str = Field(default="properties", pattern=r"^(\.|[^.\s]+(\.[^.\s]+)*)$", max_length=200)  # "." is the record itself


class Source(Model):
    """A Kafka topic of click events."""

    name: Name
    topic: str = Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")
    entity_key: bool = True
    trust_key: bool = False
    start: Literal["earliest", "latest"] = "earliest"
    allowed_lateness: Duration = Duration("60s")
    max_skew: Duration = Duration("5m")
    format: Format = "json"
    preset: PresetName | None = None
    fields: Fields = Fields()
    dead_letter: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,249}$")
    record_bytes_max: int = Field(default=1_000_000, ge=1_000, le=100_000_000)
    reject_ratio_max: Ratio = 0.99
    rejects_in_a_row_max: int = Field(default=10_000, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _preset_first(cls, given: Any) -> Any:
        """`fields` go over those of the preset."""
        if not isinstance(given, dict):
            return given
        preset, fields = given.get("preset"), given.get("fields", {})
        if not isinstance(preset, str) or preset not in PRESETS or not isinstance(fields, dict):
            return given
        return {**given, "fields": {**PRESETS[preset].fields, **fields}}

    @property
    def dead_letter_topic(self) -> str:
        return self.dead_letter or f"{self.topic}.dead-letter"

    @property
    def keyed_topic(self) -> str:
        """The topic whose partitions are counted: the source's own, or its re-keyed copy."""
        return self.topic if self.entity_key else f"{self.topic}.by-entity"


class Config(Model):
    """The whole file."""

    sources: tuple[Source, ...] = Field(min_length=1, max_length=100)
    funnels: tuple[Funnel, ...] = Field(min_length=1, max_length=1000)
    alerts: tuple[Rule, ...] = Field(default=(), max_length=1000)
    channels: dict[Name, Channel] = Field(default_factory=dict, max_length=100)
    pipeline: Pipeline = Pipeline()
    access: Access = Access()

    def source(self, name: str) -> Source:
        """The source of that name. Raises KeyError."""
        return _named(name, self.sources)

    def funnel(self, name: str) -> Funnel:
        """The funnel of that name. Raises KeyError."""
        return _named(name, self.funnels)

    def funnels_of(self, source: str) -> tuple[Funnel, ...]:
        return tuple(f for f in self.funnels if f.source == source)

    def windows_of(self, funnel: Funnel) -> tuple[Duration, ...]:
        """The trailing windows a funnel must keep counts for: its own and those of its rules.

        What a rule may widen to, or compares with, is among them where no other has buckets of that width.
        """
        rules = [rule for rule in self.alerts if rule.funnel == funnel.name]
        windows = {int(w): w for w in (*funnel.windows, *(rule.window for rule in rules))}
        for wider in (w for rule in rules for w in (rule.long_window, rule.widen_to) if w is not None):
            if bucket_seconds(wider) not in map(bucket_seconds, windows):
                windows[int(wider)] = wider
        return tuple(windows.values())


N = TypeVar("N", Source, Funnel)


def _named(name: str, among: Iterable[N]) -> N:
    for one in among:
        if one.name == name:
            return one
    raise KeyError(name)


def load(path: str | FilePath) -> Config:
    """Read a config file. Raises ConfigError with every problem found, each with its line."""
    shown = str(path)
    try:
        text = FilePath(path).read_text("utf-8")
    except OSError as error:
        raise ConfigError(shown, [Problem(0, "", f"cannot be read ({error.strerror})", "name a readable YAML file")]) from None
    except UnicodeDecodeError:
        raise ConfigError(shown, [Problem(0, "", "is not UTF-8 text", "save it as UTF-8")]) from None
    return parse(text, shown)


def parse(text: str, path: str = "config") -> Config:
    """Parse a config from its text. Raises ConfigError as `load` does."""
    if len(text) > CONFIG_BYTES_MAX:
        raise ConfigError(path, [Problem(1, "", f"is over {CONFIG_BYTES_MAX} characters long", "split it")])
    try:
        problems = list(refused_shapes(text))
        root = None if problems else yaml.compose(text, Loader=yaml.SafeLoader)
        problems += duplicate_keys(root) if root is not None else []
        data = None if problems or root is None else yaml.constructor.SafeConstructor().construct_document(root)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or "cannot be parsed"
        remedy = 'write ">" and ">=" in quotes' if "'>'" in what or "indentation indicators" in what else "mend the syntax there"
        raise ConfigError(path, [Problem(mark.line + 1 if mark else 1, "", f"is not YAML: {what}", remedy)]) from None
    if problems:
        raise ConfigError(path, problems)
    try:
        config = Config.model_validate(data if data is not None else {}, by_name=False)
    except ValidationError as error:
        causes = root_causes(error.errors(include_url=False))
        told = [explain(Config, root, e) for e in causes[:PROBLEMS_TOLD]]
        more = [Problem(told[-1].line, "", f"and {len(causes) - len(told)} more problems", "mend these first")]
        raise ConfigError(path, told + (more if len(causes) > len(told) else [])) from None
    checks = (*_cross_check(config), *_misread(config, root))
    found = [Problem(find(root, loc)[1], dotted(loc), what, remedy) for loc, what, remedy in checks]
    if found:
        raise ConfigError(path, found)
    return config


def warnings_of(config: Config) -> list[str]:
    """What is allowed but probably not meant, one sentence each."""
    found: list[str] = []
    for rule in config.alerts:
        found += rule_warnings(rule, config.funnel(rule.funnel))
    for funnel in config.funnels:
        for exclusion in funnel.exclude:
            found += _outlived(funnel, exclusion)
    found += warn_of(config.access, datetime.now(timezone.utc).date())
    return found


def _outlived(funnel: Funnel, exclusion: Exclusion) -> Iterator[str]:
    """An excluded event that reaches a stage on the way does not end the chain that it carries there."""
    for stage in funnel.stages[funnel.stage_index(exclusion.from_) + 1 : funnel.stage_index(exclusion.to)]:
        both = sorted({*stage.event} & {*exclusion.event})
        conditions, others = stage.where.items(), exclusion.where.items()
        if both and (all(one in others for one in conditions) or all(one in conditions for one in others)):
            yield (
                f"funnel {funnel.name!r}: {both[0]!r} is excluded from {exclusion.from_!r} to {exclusion.to!r}, and is an event of "
                f"{stage.name!r} between them: a chain that it takes there goes on; exclude another event, or add a `where`"
            )


def _cross_check(config: Config) -> Iterator[Check]:
    """What no single value shows: names that must exist, be unique, or fit each other."""
    sources = [s.name for s in config.sources]
    funnels = {f.name: f for f in config.funnels}
    yield from _unique("sources", sources)
    yield from _unique("funnels", [f.name for f in config.funnels])
    yield from _unique("alerts", [r.name for r in config.alerts])
    topics = [s.topic for s in config.sources]
    for i, topic in enumerate(topics):
        if topic in topics[:i]:
            yield ("sources", i, "topic"), f"topic {topic!r} is read by another source already", "put the funnels on one source"
    for i, funnel in enumerate(config.funnels):
        yield from _check_funnel(("funnels", i), funnel, sources)
    for i, rule in enumerate(config.alerts):
        at: Location = ("alerts", i)
        if rule.funnel not in funnels:
            yield (*at, "funnel"), f"there is no funnel {rule.funnel!r}", instead(rule.funnel, list(funnels))
        else:
            source = next((s for s in config.sources if s.name == funnels[rule.funnel].source), None)
            yield from check_rule(
                at, rule, funnels[rule.funnel], 0 if source is None else int(source.allowed_lateness), list(config.channels)
            )
    for i, name in enumerate(config.pipeline.notify or ()):
        if name not in config.channels:
            yield ("pipeline", "notify", i), f"there is no channel {name!r}", instead(name, list(config.channels))
    yield from check_access(config.access, list(funnels))


def _check_funnel(at: Location, funnel: Funnel, sources: list[str]) -> Iterator[Check]:
    if funnel.source not in sources:
        yield (*at, "source"), f"there is no source {funnel.source!r}", instead(funnel.source, sources)
    yield from _unique("stages", [s.name for s in funnel.stages], at)
    if not 1 <= funnel.conversion_window <= 90 * 86_400:
        yield (*at, "conversion_window"), f"{funnel.conversion_window} is out of range", "write 1s to 90d"
    yield from _check_allowed(at, funnel)
    seen: set[int] = set()
    for i, window in enumerate(funnel.windows):
        yield from check_window((*at, "windows", i), window)
        if int(window) in seen:
            yield (*at, "windows", i), f"{window} is there already", "name each window once"
        seen.add(int(window))
    yield from _check_dimensions((*at, "dimensions"), funnel)
    for place, where in _wheres(at, funnel):
        for path in where:
            yield from _check_property((*place, path), path)
    yield from _check_exclusions((*at, "exclude"), funnel)
    for i, stage in enumerate(funnel.stages):
        if stage.value is not None:
            yield from _check_property((*at, "stages", i, "value"), stage.value)
        if i == 0 and (stage.target is not None or stage.benchmark is not None):
            yield (*at, "stages", i), "the first stage has no step into it, so no target or benchmark", "put it on a later stage"


def _check_property(at: Location, path: str) -> Iterator[Check]:
    if not path.startswith("properties."):
        yield at, f"{path!r} is no event property", f"write properties.{'NAME' if path == 'properties' else path}"


def _check_dimensions(at: Location, funnel: Funnel) -> Iterator[Check]:
    single = [name for name, dimension in funnel.dimensions.items() if dimension.combine is None]
    for name, dimension in funnel.dimensions.items():
        if dimension.combine is None:
            yield from _check_property((*at, name), dimension.field)
        for i, part in enumerate(dimension.combine or ()):
            if part in funnel.dimensions and part not in single:
                yield (*at, name, "combine", i), f"{part!r} is itself a combination", "combine dimensions that have a `field`"
            elif part not in single:
                yield (*at, name, "combine", i), f"funnel {funnel.name!r} has no dimension {part!r}", instead(part, single)


def _check_exclusions(at: Location, funnel: Funnel) -> Iterator[Check]:
    names = [stage.name for stage in funnel.stages]
    if funnel.exclude and funnel.order == "any":
        yield at, "with `order: any` no stage comes before another", "leave `exclude` out, or write order: ordered"
    for i, exclusion in enumerate(funnel.exclude):
        unknown = [(key, name) for key, name in (("from", exclusion.from_), ("to", exclusion.to)) if name not in names]
        for key, name in unknown:
            yield (*at, i, key), f"funnel {funnel.name!r} has no stage {name!r}", instead(name, names)
        if not unknown and names.index(exclusion.from_) >= names.index(exclusion.to):
            yield (*at, i, "from"), "`from` does not come before `to`", f"name them in the order of the stages: {', '.join(names)}"


def _wheres(at: Location, funnel: Funnel) -> Iterator[tuple[Location, Where]]:
    yield from (((*at, "stages", i, "where"), stage.where) for i, stage in enumerate(funnel.stages))
    yield from (((*at, "exclude", i, "where"), exclusion.where) for i, exclusion in enumerate(funnel.exclude))


def _misread(config: Config, root: yaml.Node | None) -> Iterator[Check]:
    """Values of conditions that YAML takes for another than is written: yes, 0123, 1.10, 12:30."""
    wheres = [found for i, funnel in enumerate(config.funnels) for found in _wheres(("funnels", i), funnel)]
    for at, condition in (((*at, path), condition) for at, where in wheres for path, condition in where.items()):
        for place, value in condition.compared.items():
            node, read = find(root, (*at, *place))[0], text_of(value)
            if isinstance(node, yaml.ScalarNode) and node.value not in (read, repr(value)):
                yield (*at, *place), f"{node.value} is read as {read}", f'write {read}, or "{node.value}" in quotes for that text'


def _check_allowed(at: Location, funnel: Funnel) -> Iterator[Check]:
    for name, dimension in funnel.dimensions.items():
        longest = 64 if dimension.combine is None else 131
        for i, value in enumerate(dimension.allow or ()):
            if not 0 < len(value) <= longest or not value.isprintable():
                what = f"{value[:20]!r} can be no value: it is empty, longer than {longest} characters, or has control characters"
                yield (*at, "dimensions", name, "allow", i), what, "leave it out; such values count as __other__"


def _unique(what: str, names: list[str], at: Location = ()) -> Iterator[Check]:
    for i, name in enumerate(names):
        if name in names[:i]:
            yield (*at, what, i, "name"), f"{name!r} is there already", "give each a name of its own"
