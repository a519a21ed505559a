"""[pure] What the funnels of one source ask of its events, compiled for the fold.

One lookup by event name gives every (funnel, stage) the event may reach, deepest stage first, so
that an event sees the state as it was before it: it may complete one chain and open another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from zlib import crc32

from schemas.config import Config, Source
from schemas.duration import MICROS, bucket_seconds
from schemas.event import Batch, EventDecoder, Reject, Rejected
from schemas.funnel import NONE, OTHER, Dimension, Funnel

SEPARATOR = "\x1f"  # between values of one chain, and between the parts of a count's name
VALUE_LENGTH_MAX = 64
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
VALUE_SCALE = 1_000_000  # values are summed as whole millionths: exact in any order
VALUE_MAX = 1_000_000_000_000
HEAD = 3  # of a state: newest event time, its identity, the tail before it
BLOCK_HEAD = 2  # of a funnel's block: definition, number of cells
CELLS = 3  # per stage: start, values, mark

FINEST_SECONDS = 10
LONGEST_SECONDS = {10: 3600, 60: 86_400, 3600: 30 * 86_400}  # the longest window made of buckets of a width
BUCKET_US = FINEST_SECONDS * MICROS


# One stage an event name may reach: (place of its cells in a state, place of the stage's before it or
# 0, conversion window in µs, funnel number << 8 | stage index, funnel number, whether it has a value).
Op = tuple[int, int, int, int, int, bool]


@dataclass(frozen=True)
class Registry:
    """The admitted values of one property, shared by all partitions of a source."""

    name: str
    max_values: int


class Values:
    """Turns what a record says of a dimension into a bounded value."""

    def __init__(self, path: str, dimension: Dimension) -> None:
        self.path = path
        self.allow = dimension.allow
        self.registry = Registry(f"{path}{SEPARATOR}{dimension.max_values}", dimension.max_values)
        self.known: dict[str, str] = {NONE: NONE, OTHER: OTHER}
        self.known |= {text: text for text in dimension.allow or ()}

    def shown(self, raw: Any) -> str | None:
        """The value to count under; None when the registry has to be asked first."""
        text = text_of(raw)
        found = self.known.get(text)
        if found is None and (self.allow is not None or not fits(text)):
            return OTHER
        return found

    def column(self, raws: list[Any]) -> list[str | None]:
        """`shown` for many, quickly: None where it is not plain; those are to be asked one by one."""
        try:
            return list(map(self.known.get, raws))
        except TypeError:  # a list or an object among them
            return [self.known.get(raw) if type(raw) is str else None for raw in raws]


def text_of(raw: Any) -> str:
    """A property as the text of a dimension value."""
    if raw is None or raw == "":
        return NONE
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, float) and raw.is_integer():
        return str(int(raw))
    return str(raw) if isinstance(raw, str | int | float) else OTHER


def fits(text: str) -> bool:
    """Whether a text may be a dimension value: 1 to 64 characters, none of them control characters."""
    return 0 < len(text) <= VALUE_LENGTH_MAX and CONTROL.search(text) is None


@dataclass(frozen=True)
class Kept:
    """How long a funnel's buckets of one width are kept."""

    seconds: int  # width
    count: int  # buckets behind the one that holds the watermark


class FunnelPlan:
    """One funnel, numbered."""

    def __init__(self, number: int, funnel: Funnel, windows: Sequence[int], slack_seconds: int) -> None:
        self.number = number
        self.funnel = funnel
        self.cells = CELLS * len(funnel.stages)
        self.dimensions = tuple(funnel.dimensions)
        self.values = tuple(Values(d.field, d) for d in funnel.dimensions.values())
        widths = sorted({bucket_seconds(window) for window in windows})
        # Kept for the longest window that a width may serve, so that a window can be added later. In a
        # width that is new, people would leave buckets that never counted them: that is another definition.
        self.kept = tuple(Kept(w, (LONGEST_SECONDS[w] + slack_seconds) // w + 1) for w in widths)
        self.definition = crc32(f"{funnel.definition}:{widths}".encode()) >> 1


class Plan:
    """The funnels of one source, ready to fold."""

    def __init__(self, config: Config, source: Source) -> None:
        self.source = source
        slack = int(source.max_skew) + 60
        funnels = config.funnels_of(source.name)
        self.funnels = tuple(FunnelPlan(n, f, config.windows_of(f), slack) for n, f in enumerate(funnels))
        paths = {d.field for f in funnels for d in f.dimensions.values()}
        paths |= {s.value for f in funnels for s in f.stages if s.value is not None}
        self.decoder = EventDecoder(
            source.fields,
            sorted(paths),
            check_keys=source.entity_key and not source.trust_key,
            record_bytes_max=source.record_bytes_max,
        )
        self._empty, self._slots = self._layout()
        self.ops = self._index()
        self._dimensioned = tuple(f for f in self.funnels if f.values)
        self._opening = {f.number: frozenset(f.funnel.stages[0].event) for f in self.funnels}
        self._amounts = self._amount_index()
        self.lateness_us = source.allowed_lateness.micros

    def _layout(self) -> tuple[list[Any], list[int]]:
        """An empty state, and where each funnel's cells begin in it."""
        state: list[Any] = [-1, 0, None]
        slots = []
        for plan in self.funnels:
            state += [plan.definition, plan.cells]
            slots.append(len(state))
            state += [None] * plan.cells
        return state, slots

    def _index(self) -> dict[str, tuple[Op, ...]]:
        index: dict[str, list[Op]] = {}
        for plan, slot in zip(self.funnels, self._slots):
            window_us = plan.funnel.conversion_window.micros
            for place in reversed(range(len(plan.funnel.stages))):
                stage = plan.funnel.stages[place]
                at = slot + CELLS * place
                op = (at, at - CELLS if place else 0, window_us, plan.number << 8 | place, plan.number, stage.value is not None)
                for name in dict.fromkeys(stage.event):
                    index.setdefault(name, []).append(op)
        return {name: tuple(ops) for name, ops in index.items()}

    def _amount_index(self) -> dict[str, tuple[tuple[int, Any], ...]]:
        index: dict[str, list[Any]] = {}
        for plan in self.funnels:
            for place, stage in enumerate(plan.funnel.stages):
                if stage.value is not None:
                    for name in dict.fromkeys(stage.event):
                        index.setdefault(name, []).append((plan.number << 8 | place, self.decoder.getter(stage.value)))
        return {name: tuple(found) for name, found in index.items()}

    def new_state(self) -> list[Any]:
        """The state of an entity never seen; its layout is told in `journeys`."""
        return self._empty.copy()

    def adopt(self, stored: list[Any]) -> list[Any]:
        """A state as it was stored, laid out for today's funnels; cells of other definitions follow behind."""
        if len(stored) == len(self._empty) and all(stored[s - BLOCK_HEAD] == self._empty[s - BLOCK_HEAD] for s in self._slots):
            return stored
        state = self.new_state()
        state[:HEAD] = stored[:HEAD]
        slots = {plan.definition: slot for plan, slot in zip(self.funnels, self._slots)}
        at = HEAD
        while at < len(stored):
            definition, cells = stored[at : at + BLOCK_HEAD]
            block = stored[at : at + BLOCK_HEAD + cells]
            at += len(block)
            if definition in slots:
                state[slots[definition] : slots[definition] + cells] = block[BLOCK_HEAD:]
            else:  # a funnel that may come back, and whose counts are still there
                state += block
        return state

    def learn(self, admitted: Mapping[Registry, Mapping[str, bool]]) -> None:
        """Remember which values the registries admitted."""
        for plan in self.funnels:
            for values in plan.values:
                known = admitted.get(values.registry, {}) if values.allow is None else {}
                for text, ok in known.items():
                    if ok:
                        values.known[text] = text
                    elif len(values.known) < 100_000:
                        values.known[text] = OTHER

    def nothing_prepared(self) -> Prepared:
        """What `prepare` gives for no events at all."""
        return Prepared(columns=[[] if plan.values else None for plan in self.funnels])

    def prepare(self, batch: Batch) -> Prepared:
        """Dimension values and value properties of a batch, and what the registries must be asked for."""
        out = Prepared(columns=[None] * len(self.funnels))
        for plan in self._dimensioned:
            columns = [self._value_column(plan, values, batch, out) for values in plan.values]
            out.columns[plan.number] = columns[0] if len(columns) == 1 else list(map(SEPARATOR.join, zip(*columns)))
        if self._amounts:
            self._prepare_amounts(batch, out)
        return out

    def _value_column(self, plan: FunnelPlan, values: Values, batch: Batch, out: Prepared) -> list[str]:
        """A dimension's value for every event; only those of events that open a chain are looked into."""
        raws = self.decoder.column(values.path, batch.records)
        column = values.column(raws)
        if None in column:
            opening = self._opening[plan.number]
            for place, found in enumerate(column):
                if found is None:
                    opens = batch.names[place] in opening
                    shown = values.shown(raws[place]) if opens else NONE
                    if shown is None:
                        out.unknown.setdefault(values.registry, set()).add(text_of(raws[place]))
                    column[place] = shown or OTHER
        return cast(list[str], column)

    def _prepare_amounts(self, batch: Batch, out: Prepared) -> None:
        index = self._amounts
        for place, name in enumerate(batch.names):
            if name in index:
                try:
                    out.amounts[place] = {stage: millionths(getter(batch.records[place])) for stage, getter in index[name]}
                except Reject as reject:
                    out.bad.append(Rejected(place, reject.reason, reject.detail))


@dataclass
class Prepared:
    """What the fold needs of a batch besides its columns."""

    columns: list[list[str] | None]  # by funnel number: the chain's values for every event; None without dimensions
    unknown: dict[Registry, set[str]] = field(default_factory=dict)  # values to ask for; then prepare again
    amounts: dict[int, dict[int, int]] = field(default_factory=dict)  # place -> stage -> millionths
    bad: list[Rejected] = field(default_factory=list)  # `index` is the place in the batch

    def extend(self, part: Prepared, at: int) -> None:
        """Add what belongs to the events that begin at place `at` of the batch."""
        for column, more in zip(self.columns, part.columns):
            if column is not None and more is not None:
                column.extend(more)
        self.amounts.update({place + at: found for place, found in part.amounts.items()})
        self.bad += [Rejected(r.index + at, r.reason, r.detail) for r in part.bad]


def millionths(raw: Any) -> int:
    """A value property as whole millionths; absent counts as 0. Raises Reject."""
    if raw is None or raw == "":
        return 0
    try:
        number = float(raw) if isinstance(raw, str) else raw
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number) or abs(number) > VALUE_MAX:
            raise ValueError
    except (ValueError, OverflowError):
        raise Reject("bad_value", repr(raw)[:64]) from None
    return round(number * VALUE_SCALE)
