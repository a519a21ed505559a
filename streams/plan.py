"""[pure] What the funnels of one source ask of its events, compiled for the fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from zlib import crc32

from schemas.config import Config, Source
from schemas.event import Batch, EventDecoder, Reject, Rejected
from schemas.funnel import OTHER, Funnel
from schemas.presets import preset_of
from streams.matching import Match, Matcher, asked_paths, openings, put, with_amounts
from streams.retention import kept_widths, state_seconds
from streams.values import COMBINED, SEPARATOR, Registry, Values, dimension_text, millionths

LAYOUT = 2  # of a block in a state; a definition whose blocks are written otherwise is another one


class FunnelPlan:
    """One funnel, numbered."""

    def __init__(self, number: int, funnel: Funnel, windows: Sequence[int], source: Source, past_seconds: int = 0) -> None:
        self.number = number
        self.funnel = funnel
        self.dimensions = tuple(funnel.dimensions)
        self.values = tuple(_values(funnel, name) for name in self.dimensions)
        conversion = int(funnel.conversion_window)
        self.kept = kept_widths(windows, conversion, int(source.max_skew) + 60 + past_seconds)
        # In a width that is new, people would leave buckets that never counted them: that is another definition.
        counted = [(k.seconds, sorted(k.families)) for k in self.kept]
        self.definition = crc32(f"{LAYOUT}:{funnel.definition}:{counted}".encode()) >> 1
        self.mature_after_us = funnel.conversion_window.micros + source.allowed_lateness.micros  # the end of a bucket of entries
        self.state_seconds = state_seconds(self.kept, conversion, int(source.allowed_lateness))


def _values(funnel: Funnel, name: str) -> Values:
    dimension = funnel.dimensions[name]
    if dimension.combine is None:
        return Values(dimension.field, dimension)
    return Values("+".join(funnel.dimensions[part].field for part in dimension.combine), dimension)


class Plan:
    """The funnels of one source, ready to fold. `past_seconds`: keep counts so much longer, to be read as of moments that are past."""

    def __init__(self, config: Config, source: Source, past_seconds: int = 0) -> None:
        self.source = source
        funnels = config.funnels_of(source.name)
        self.funnels = tuple(FunnelPlan(n, f, config.windows_of(f), source, past_seconds) for n, f in enumerate(funnels))
        paths = {d.field for f in funnels for d in f.dimensions.values() if d.field}
        paths |= {s.value for f in funnels for s in f.stages if s.value is not None}
        paths |= {path for f in funnels for path in asked_paths(f)}
        self.decoder = EventDecoder(
            source.fields,
            sorted(paths),
            check_keys=source.entity_key and not source.trust_key,
            record_bytes_max=source.record_bytes_max,
            preset=preset_of(source.preset),
        )
        self.matcher = Matcher([(f.definition, f.funnel) for f in self.funnels], self.decoder.getter)
        self._amount_getters = {
            plan.number << 8 | place: self.decoder.getter(stage.value)
            for plan in self.funnels
            for place, stage in enumerate(plan.funnel.stages)
            if stage.value is not None
        }
        self.state_seconds = max((f.state_seconds for f in self.funnels), default=0)
        self.lateness_us = source.allowed_lateness.micros
        # Stored events name their matches by keys; those of other definitions mean something else. A tail reaches back
        # as far as the lateness of its time asked for.
        self.layout = crc32(repr(([f.definition for f in self.funnels], self.lateness_us)).encode())

    def learn(self, admitted: Mapping[Registry, Mapping[str, bool]]) -> None:
        """Remember which values the registries admitted."""
        for values in (v for plan in self.funnels for v in plan.values if v.allow is None):
            values.learn(dict(admitted.get(values.registry, {})))

    def prepare(self, batch: Batch) -> Prepared:
        """Matches, dimension values and value properties of a batch, and what the registries must be asked for."""
        out = Prepared(self.matcher.matches(batch.names, batch.records))
        out.values = self._values(batch, out)
        self._prepare_amounts(batch, out)
        return out

    def _values(self, batch: Batch, out: Prepared) -> list[str]:
        """Of the chains that each event starts; a funnel looks at the events that open it, and at no others."""
        records, shown = batch.records, [""] * len(batch)
        for number, places in sorted(openings(out.matches).items()):
            put(shown, out.matches, number, places, self._column(self.funnels[number], [records[place] for place in places], out))
        return shown

    def _column(self, plan: FunnelPlan, records: Sequence[Any], out: Prepared) -> list[str]:
        """The values of the chain that each event starts in one funnel."""
        columns: dict[str, list[str]] = {}
        unknown: set[int] = set()  # which of the values that the registries have to be asked about before combinations are
        for values, (name, dimension) in zip(plan.values, plan.funnel.dimensions.items()):
            if dimension.combine is None:
                raws = self.decoder.column(values.path, records)
                columns[name] = self._shown(values, raws, out, unknown)
        for values, (name, dimension) in zip(plan.values, plan.funnel.dimensions.items()):
            if dimension.combine is not None:
                raws = list(map(COMBINED.join, zip(*(columns[part] for part in dimension.combine))))
                for number in unknown:
                    raws[number] = OTHER
                columns[name] = self._shown(values, raws, out, set())
        found = [columns[name] for name in plan.dimensions]
        return found[0] if len(found) == 1 else list(map(SEPARATOR.join, zip(*found)))

    def _shown(self, values: Values, raws: list[Any], out: Prepared, unknown: set[int]) -> list[str]:
        column = values.column(raws)
        if None in column:
            for number, found in enumerate(column):
                if found is None:
                    shown = values.shown(raws[number])
                    if shown is None:
                        out.unknown.setdefault(values.registry, set()).add(dimension_text(raws[number]))
                        unknown.add(number)
                    column[number] = shown or OTHER
        return cast("list[str]", column)

    def _prepare_amounts(self, batch: Batch, out: Prepared) -> None:
        getters = self._amount_getters
        for place in with_amounts(out.matches):
            stages = cast("Match", out.matches[place]).stages
            try:
                out.amounts[place] = {stage: millionths(getters[stage](batch.records[place])) for stage in stages}
            except Reject as reject:
                out.bad.append(Rejected(place, reject.reason, reject.detail))


@dataclass
class Prepared:
    """What the fold needs of a batch besides its columns."""

    matches: list[Match | None]  # None: filtered
    values: list[str] = field(default_factory=list)  # of the chains that an event starts; several funnels' joined by GROUP
    unknown: dict[Registry, set[str]] = field(default_factory=dict)  # values to ask for; then prepare again
    amounts: dict[int, dict[int, int]] = field(default_factory=dict)  # place -> stage -> millionths
    bad: list[Rejected] = field(default_factory=list)  # `index` is the place in the batch

    def extend(self, part: Prepared, at: int) -> None:
        """Add what belongs to the events that begin at place `at` of the batch."""
        self.matches += part.matches
        self.values += part.values
        self.amounts.update({place + at: found for place, found in part.amounts.items()})
        self.bad += [Rejected(r.index + at, r.reason, r.detail) for r in part.bad]
