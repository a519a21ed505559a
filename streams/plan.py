"""[pure] What the funnels of one source ask of its events, compiled for the fold.

One lookup by event name gives every (funnel, stage) the event may reach, deepest stage first, so
that an event sees the state as it was before it: it may complete one chain and open another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.config import Config, Source
from schemas.duration import MICROS, bucket_seconds
from schemas.event import Batch, EventDecoder, Reject, Rejected
from schemas.funnel import NONE, OTHER, Dimension, Funnel

SEPARATOR = "\x1f"  # between values of one chain, and between the parts of a count's name
VALUE_LENGTH_MAX = 64
VALUE_SCALE = 1_000_000  # values are summed as whole millionths: exact in any order
VALUE_MAX = 1_000_000_000_000
BLOCK = 3  # per stage: start, mark, values

FINEST_SECONDS = 10
BUCKET_US = FINEST_SECONDS * MICROS


@dataclass(frozen=True)
class Op:
    """One stage an event name may reach."""

    slot: int  # of the funnel's block in a state
    place: int  # of the stage's cells in the block
    window_us: int
    stage: int  # funnel number << 8 | stage index
    first: bool
    valued: bool

    def as_tuple(self) -> tuple[int, int, int, int, bool, bool]:
        return (self.slot, self.place, self.window_us, self.stage, self.first, self.valued)


@dataclass(frozen=True)
class Registry:
    """The admitted values of one property, shared by all partitions of a source."""

    name: str
    max_values: int


class Values:
    """Turns what a record says of a dimension into a bounded value."""

    def __init__(self, path: str, dimension: Dimension) -> None:
        self.allow = None if dimension.allow is None else frozenset(dimension.allow)
        self.registry = Registry(f"{path}{SEPARATOR}{dimension.max_values}", dimension.max_values)
        self.known: dict[str, str] = {NONE: NONE, OTHER: OTHER}

    def shown(self, raw: Any) -> str | None:
        """The value to count under; None when the registry has to be asked first."""
        text = raw if type(raw) is str else text_of(raw)
        if self.allow is not None:
            return text if text in self.allow or text == NONE else OTHER
        found = self.known.get(text)
        if found is None and not fits(text):
            return NONE if text == "" else OTHER
        return found


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
    return 0 < len(text) <= VALUE_LENGTH_MAX and text.isprintable()


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
        self.definition = funnel.definition
        self.slot = 3 + 2 * number
        self.dimensions = tuple(funnel.dimensions)
        self.values = tuple(Values(d.field, d) for d in funnel.dimensions.values())
        longest: dict[int, int] = {}
        for window in windows:
            width = bucket_seconds(window)
            longest[width] = max(longest.get(width, 0), window)
        self.kept = tuple(Kept(w, (longest[w] + slack_seconds) // w + 1) for w in sorted(longest))

    def empty_block(self) -> list[Any]:
        return [None] * (BLOCK * len(self.funnel.stages))


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
        self.ops = {name: tuple(op.as_tuple() for op in ops) for name, ops in self._index().items()}
        self._openings = self._opening_index()
        self._amounts = self._amount_index()
        self._definitions = [plan.definition for plan in self.funnels]
        self.lateness_us = source.allowed_lateness.micros

    def _index(self) -> dict[str, list[Op]]:
        index: dict[str, list[Op]] = {}
        for plan in self.funnels:
            window_us = plan.funnel.conversion_window.micros
            for place in reversed(range(len(plan.funnel.stages))):
                stage = plan.funnel.stages[place]
                op = Op(plan.slot, BLOCK * place, window_us, plan.number << 8 | place, place == 0, stage.value is not None)
                for name in dict.fromkeys(stage.event):
                    index.setdefault(name, []).append(op)
        return index

    def _opening_index(self) -> dict[str, tuple[tuple[int, tuple[tuple[Values, Any], ...]], ...]]:
        """Event name to the funnels it opens that have dimensions, each with its values and getters."""
        index: dict[str, list[Any]] = {}
        for plan in self.funnels:
            if plan.values:
                getters = tuple(self.decoder.getter(d.field) for d in plan.funnel.dimensions.values())
                for name in dict.fromkeys(plan.funnel.stages[0].event):
                    index.setdefault(name, []).append((plan.number, tuple(zip(plan.values, getters))))
        return {name: tuple(found) for name, found in index.items()}

    def _amount_index(self) -> dict[str, tuple[tuple[int, Any], ...]]:
        index: dict[str, list[Any]] = {}
        for plan in self.funnels:
            for place, stage in enumerate(plan.funnel.stages):
                if stage.value is not None:
                    for name in dict.fromkeys(stage.event):
                        index.setdefault(name, []).append((plan.number << 8 | place, self.decoder.getter(stage.value)))
        return {name: tuple(found) for name, found in index.items()}

    def new_state(self) -> list[Any]:
        """The state of an entity never seen: newest event time, tail, then (definition, block) a funnel."""
        state: list[Any] = [-1, []]
        for plan in self.funnels:
            state += [plan.definition, plan.empty_block()]
        return state

    def adopt(self, stored: list[Any]) -> list[Any]:
        """A state as it was stored, laid out for today's funnels: known definitions keep their blocks."""
        if stored[2::2] == self._definitions:
            return stored
        blocks = dict(zip(stored[2::2], stored[3::2]))
        state = self.new_state()
        state[0], state[1] = stored[0], stored[1]
        for plan in self.funnels:
            state[plan.slot] = blocks.get(plan.definition, state[plan.slot])
        return state

    def unknown_values(self, batch: Batch) -> dict[Registry, set[str]]:
        """Dimension values of this batch that no registry has been asked about yet."""
        unknown: dict[Registry, set[str]] = {}
        for values, raw in self._opened(batch):
            if values.shown(raw) is None:
                unknown.setdefault(values.registry, set()).add(raw if type(raw) is str else text_of(raw))
        return unknown

    def _opened(self, batch: Batch) -> Iterator[tuple[Values, Any]]:
        if not self._openings:
            return
        openings = self._openings
        for name, record in zip(batch.names, batch.records):
            if name in openings:
                for _, pairs in openings[name]:
                    for values, getter in pairs:
                        yield values, getter(record)

    def learn(self, admitted: Mapping[Registry, Mapping[str, bool]]) -> None:
        """Remember which values the registries admitted."""
        for plan in self.funnels:
            for values in plan.values:
                for text, ok in admitted.get(values.registry, {}).items():
                    if ok:
                        values.known[text] = text
                    elif len(values.known) < 100_000:
                        values.known[text] = OTHER

    def prepare(self, batch: Batch) -> Prepared:
        """Dimension values and value properties of a batch; places whose value property is no number."""
        out = Prepared()
        if self._openings:
            self._prepare_openings(batch, out)
        if self._amounts:
            self._prepare_amounts(batch, out)
        return out

    def _prepare_openings(self, batch: Batch, out: Prepared) -> None:
        index = self._openings
        for place, name in enumerate(batch.names):
            if name in index:
                record = batch.records[place]
                mine: dict[int, str] = {}
                for number, pairs in index[name]:
                    shown = [values.shown(getter(record)) or OTHER for values, getter in pairs]
                    mine[number] = shown[0] if len(shown) == 1 else SEPARATOR.join(shown)
                out.openings[place] = mine

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

    openings: dict[int, dict[int, str]] = field(default_factory=dict)  # place -> funnel number -> values joined
    amounts: dict[int, dict[int, int]] = field(default_factory=dict)  # place -> stage -> millionths
    bad: list[Rejected] = field(default_factory=list)  # `index` is the place in the batch


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
