"""[pure] The metrics of one funnel in the Prometheus text format, a line a series.

A hundred funnels in four windows by twenty values are some 300,000 series, too many for a library that
makes an object of each. What stays the same of a line, its name and labels, is put into words once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from schemas.duration import MICROS
from streams.ages import OCTAVE_BINS, bin_start_us
from streams.rates import BASES, AdjustedRates, Split
from streams.retention import CONVERSIONS, ENTRIES, EVENTS, USERS, VALUE
from streams.values import VALUE_SCALE
from streams.windows import BINS_MAX, RETRACTED, Cells, FunnelCounts, cell

USERS_METRIC, ENTRIES_METRIC, INCOMPLETE_METRIC = "funnel_stage_users", "funnel_stage_entries", "funnel_window_incomplete"
RATIO_METRIC, NUMERATOR_METRIC = "funnel_conversion_ratio", "funnel_conversion_numerator"
DENOMINATOR_METRIC = "funnel_conversion_denominator"
REACHED_METRIC, CORRECTIONS_METRIC, VALUE_METRIC = "funnel_stage_reached_total", "funnel_corrections_total", "funnel_stage_value_total"
TIMES_METRIC = "funnel_time_to_convert_seconds"
ADJUSTED_SHARE = 300  # of a window may pass until its adjusted rates are taken anew: they cost most, and change slowest
ADJUSTED_AT_ONCE = 16  # rates; then others may have their turn
METRICS = frozenset(
    (
        USERS_METRIC, ENTRIES_METRIC, INCOMPLETE_METRIC, RATIO_METRIC, NUMERATOR_METRIC, DENOMINATOR_METRIC,
        REACHED_METRIC, CORRECTIONS_METRIC, VALUE_METRIC, TIMES_METRIC,
    )
)  # fmt: skip


def header(name: str, kind: str, text: str) -> str:
    """What stands above a metric's lines."""
    shown = text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {shown}\n# TYPE {name} {kind}\n"


def labels(**parts: str) -> str:
    """Labels as a line has them."""
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in parts.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class FunnelSeries:
    """The lines of one funnel."""

    def __init__(self, counts: FunnelCounts, windows: Sequence[tuple[str, int]]) -> None:
        self.counts = counts
        self._spans = windows
        self._splits: list[Split | None] = []
        self._windows: list[_Window] = []
        self._totals: list[tuple[int, Split | None, str]] = []  # stage, split, labels

    def write(self, at_us: int | None, adjusted: AdjustedRates | None, incomplete: Collection[str]) -> Iterator[dict[str, str]]:
        """Metric -> lines, in parts, between which others may have their turn; no windows before the first event."""
        for _ in self._named():
            yield {}
        yield self._written_totals()
        for window in self._windows if at_us is not None else ():
            yield from window.write(self.counts, at_us or 0, adjusted, window.text in incomplete)

    def _named(self) -> Iterator[None]:
        """Put into words what was not yet, in steps: a value may be new."""
        splits = list(splits_of(self.counts))
        if splits == self._splits and self._windows:
            return
        funnel = self.counts.plan.funnel
        totals: list[tuple[int, Split | None, str]] = []
        for place, stage in enumerate(funnel.stages):
            for split in splits:
                dimension, value = split or ("", "")
                totals.append((place, split, labels(funnel=funnel.name, stage=stage.name, dimension=dimension, value=value)))
            yield
        windows = []
        for text, seconds in self._spans:
            windows.append(_Window.of(self.counts, text, seconds, splits))
            yield
        self._splits, self._totals, self._windows = splits, totals, windows

    def _written_totals(self) -> dict[str, str]:
        counts, stages = self.counts, self.counts.plan.funnel.stages
        out: dict[str, list[str]] = {REACHED_METRIC: [], CORRECTIONS_METRIC: [], VALUE_METRIC: []}
        for place, split, shown in self._totals:
            of = split or ()
            retracted = counts.total(RETRACTED, place, *of)
            out[REACHED_METRIC].append(f"{REACHED_METRIC}{shown} {counts.total(EVENTS, place, *of) + retracted}\n")
            out[CORRECTIONS_METRIC].append(f"{CORRECTIONS_METRIC}{shown} {retracted}\n")
            if stages[place].value is not None:
                out[VALUE_METRIC].append(f"{VALUE_METRIC}{shown} {counts.total(VALUE, place, *of) / VALUE_SCALE}\n")
        return {metric: "".join(lines) for metric, lines in out.items()} | {TIMES_METRIC: "".join(self._times())}

    def _times(self) -> Iterator[str]:
        """Conversions by age: the bins of whole octaves, from 1 s on, as far as the conversion window reaches.

        Without a sum: the ages are known by bin alone.
        """
        funnel = self.counts.plan.funnel
        window_us = funnel.conversion_window.micros
        edges = [edge for edge in range(OCTAVE_BINS, BINS_MAX, OCTAVE_BINS) if MICROS <= bin_start_us(edge) < 2 * window_us]
        for place in range(1, len(funnel.stages)):
            ages = self.counts.total_ages(place)
            upto = list(accumulate((ages.get(number, 0) for number in range(BINS_MAX)), initial=0))
            buckets = [(f"{bin_start_us(edge) / MICROS:g}", upto[edge]) for edge in edges]
            for le, count in (*buckets, ("+Inf", upto[-1])):
                shown = labels(funnel=funnel.name, stage=funnel.stages[place].name, from_stage=funnel.stages[place - 1].name, le=le)
                yield f"{TIMES_METRIC}_bucket{shown} {count}\n"


def splits_of(counts: FunnelCounts) -> Iterator[Split | None]:
    """The total, then every value of every dimension."""
    yield None
    for dimension in counts.plan.dimensions:
        for value in counts.values(dimension):
            yield dimension, value


@dataclass(frozen=True)
class _Step:
    """A step of the total or of a value."""

    stage: int
    split: Split | None
    into: int  # place of its stage among the counts of the window
    users: str  # its labels on each basis
    entries: str
    adjusted: str


_Parts = tuple[str, float, int, float]  # labels, ratio, numerator, denominator


@dataclass
class _Window:
    """The lines of a window. Counts are in the order of splits, and of stages within."""

    text: str
    seconds: int
    names: tuple[list[str], list[str], list[str]]  # of users, entries and conversions
    users: str  # lines to be filled in
    entries: str
    incomplete: str
    steps: list[_Step]
    adjusted: list[_Parts] = field(default_factory=list)
    adjusted_at_us: int = -1

    @classmethod
    def of(cls, counts: FunnelCounts, text: str, seconds: int, splits: Iterable[Split | None]) -> _Window:
        funnel = counts.plan.funnel
        places = [(split, stage) for split in splits for stage in range(len(funnel.stages))]
        shown: list[str] = []
        steps: list[_Step] = []
        for into, (split, place) in enumerate(places):
            dimension, value = split or ("", "")
            stage = funnel.stages[place].name
            shown.append(labels(funnel=funnel.name, stage=stage, window=text, dimension=dimension, value=value).replace("%", "%%"))
            if place:
                common = {"funnel": funnel.name, "stage": stage, "from_stage": funnel.stages[place - 1].name, "window": text}
                named = {basis: labels(**common, basis=basis, dimension=dimension, value=value) for basis in BASES}
                steps.append(_Step(place, split, into, **named))
        families = [[cell(family, stage, *(split or ())) for split, stage in places] for family in (USERS, ENTRIES, CONVERSIONS)]
        return cls(
            text,
            seconds,
            (families[0], families[1], families[2]),
            "".join([f"{USERS_METRIC}{words} %d\n" for words in shown]),
            "".join([f"{ENTRIES_METRIC}{words} %d\n" for words in shown]),
            f"{INCOMPLETE_METRIC}{labels(funnel=funnel.name, window=text)} ",
            steps,
        )

    def write(self, counts: FunnelCounts, at_us: int, adjusted: AdjustedRates | None, incomplete: bool) -> Iterator[dict[str, str]]:
        if adjusted is not None and not 0 <= at_us - self.adjusted_at_us < self.seconds * MICROS // ADJUSTED_SHARE:
            yield from self._adjust(adjusted)
            if self.adjusted:  # else there is no baseline yet, which costs nothing to ask again
                self.adjusted_at_us = at_us
        whole, pending = (counts.window(self.seconds, at_us, pending=late) for late in (False, True))
        users, entries, converted = (_counts(whole, names) for names in self.names)
        late_entries, late_converted = (_counts(pending, names) for names in self.names[1:])
        ratios = [*self.adjusted]
        for step in self.steps:
            at, before = step.into, step.into - 1
            if users[before] > 0:
                ratios.append((step.users, users[at] / users[before], users[at], users[before]))
            finished = entries[before] - late_entries[before]
            if finished:
                went_on = converted[before] - late_converted[before]
                ratios.append((step.entries, went_on / finished, went_on, finished))
        yield {
            USERS_METRIC: self.users % tuple(users),
            ENTRIES_METRIC: self.entries % tuple(entries),
            INCOMPLETE_METRIC: f"{self.incomplete}{incomplete:d}\n",
            RATIO_METRIC: "".join([f"{RATIO_METRIC}{words} {rate}\n" for words, rate, _, _ in ratios]),
            NUMERATOR_METRIC: "".join([f"{NUMERATOR_METRIC}{words} {numerator}\n" for words, _, numerator, _ in ratios]),
            DENOMINATOR_METRIC: "".join([f"{DENOMINATOR_METRIC}{words} {denominator}\n" for words, _, _, denominator in ratios]),
        }

    def _adjust(self, rates: AdjustedRates) -> Iterator[dict[str, str]]:
        self.adjusted = []
        for number, step in enumerate(self.steps, 1):
            found = rates.parts(step.stage, self.seconds, step.split)
            if found is not None:
                observed, worth = found
                self.adjusted.append((step.adjusted, min(1.0, observed / worth), observed, round(worth, 3)))
            if number % ADJUSTED_AT_ONCE == 0:
                yield {}


def _counts(cells: Cells, names: Iterable[str]) -> list[int]:
    get = cells.get
    return [get(name, 0) for name in names]
