"""[pure] What an incident costs an hour, and where it is: which value of a dimension explains most of it.

Missing conversions of a group in the rule's window (on `adjusted`, and as a sequential rule sees it, in the part
of it since when it has fallen): those usual for its entries, each at its age, less
those seen. Over the values of a dimension they add up to the drop, but for what a change of mix makes:

    usual of the total - seen = Σ (usual of the value - seen of the value)      rates, value by value
                              + usual of the total - Σ usual of the value       mix: more of those that usually convert less

which is E. M. Kitagawa's decomposition ("Components of a difference between two rates", Journal of the
American Statistical Association 50, 1955), the value's own usual rate being its standard. What is usual
comes from the age-adjusted baseline whatever the rule's basis is; where there is none yet, a value is
held against the others instead, and mix cannot be told.

A value is named when it explains at least half of the drop, and surely (three standard deviations) more
than its share would be if all had dropped alike. Of values that explain nearly as much as the best one,
the one with the fewest entries is the most telling: "ads / ios" rather than "ios".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from alerting.conditions import Verdict
from alerting.past import series
from schemas.duration import MICROS, bucket_seconds
from schemas.funnel import Dimension
from schemas.rule import Rule
from streams.adjusting import Adjusting
from streams.baseline import NoBaseline
from streams.rates import Split
from streams.retention import CONVERTED, ENTRIES, VALUE
from streams.values import VALUE_SCALE
from streams.windows import FunnelCounts, cell

VALUES_MAX = 30  # of a dimension that are looked at, those with most entrants first
SHARE_MIN = 0.5
SURE = 3.0  # standard deviations
NEARLY = 0.9  # of the share that the best value explains
CONVERSIONS_MIN = 20  # from which on a mean value is worth telling
HOUR_SECONDS = 3600

Against = Literal["usual", "others"]


@dataclass(frozen=True)
class Place:
    """A value of a dimension that explains `share` of the drop (or of the rise).

    `seen` of `of` converted there, `expected` would have: by its own usual rate (against usual) or at
    the rate of the other values (against others). `elsewhere` is the rate of the other values now.
    """

    dimension: str
    value: str
    share: float
    against: Against
    seen: int
    of: float
    expected: float
    elsewhere: float | None


@dataclass(frozen=True)
class Mix:
    """A change of mix that explains `share` of the drop."""

    dimension: str
    share: float


@dataclass(frozen=True)
class Recent:
    """What a sequential rule sees since when it takes the fall to have begun, where that is later than its window."""

    since_us: int
    seen: int
    of: float

    @property
    def rate(self) -> float | None:
        return self.seen / self.of if self.of > 0 else None


@dataclass(frozen=True)
class Impact:
    """What an incident costs, and where it is. What is not known is None.

    `lost_users_per_hour` and `lost_value_per_hour` are against the baseline or, where there is none,
    the threshold (`against`); None for a rate that is too high. `value_of` is the property that the
    value is the sum of. `looked_at`: the dimensions among whose values a place was looked for.
    """

    lost_users_per_hour: float | None = None
    lost_value_per_hour: float | None = None
    value_of: str = ""
    against: Literal["baseline", "threshold"] = "threshold"
    recent: Recent | None = None
    place: Place | None = None
    mix: Mix | None = None
    looked_at: tuple[str, ...] = ()
    series: tuple[tuple[int, float], ...] = ()  # (µs, rate over `series_seconds`) up to the boundary, for a picture
    series_seconds: int = 0


def impact(
    rule: Rule,
    counts: FunnelCounts,
    adjusting: Adjusting | None,
    stage: int,
    boundary_us: int,
    verdict: Verdict,
    split: Split | None = None,
) -> Impact:
    """What an alert that begins to fire costs and where it is; `split` is the value that it is about, None for everybody."""
    scene = _Scene(counts, adjusting, stage, verdict, boundary_us, _start(verdict, boundary_us), split, -1 if rule.rises else 1)
    missing, against = scene.missing()
    users = None if missing is None or rule.rises else max(0.0, missing) * HOUR_SECONDS / scene.seconds
    each, value_of = _value_each(counts, stage, split)
    dimensions = _dimensions(counts, split)
    place, mix = _localised(scene, dimensions)
    each_seconds, points = series(rule, counts, adjusting, stage, boundary_us, verdict, split)
    return Impact(
        lost_users_per_hour=users,
        lost_value_per_hour=None if users is None or each is None else users * each,
        value_of=value_of,
        against=against,
        recent=scene.recent(),
        place=place,
        mix=mix,
        looked_at=tuple(dimensions),
        series=points,
        series_seconds=each_seconds,
    )


def _start(verdict: Verdict, boundary_us: int) -> int:
    """Since when it is looked at: the window, or that part of it since when a sequential rule takes it to have begun."""
    width_us = bucket_seconds(verdict.window_seconds) * MICROS
    start_us = boundary_us - verdict.window_seconds * MICROS
    if verdict.basis != "adjusted" or verdict.detector is None or verdict.detector.began_us is None:
        return start_us
    return max(start_us, min(verdict.detector.began_us, boundary_us - width_us) // width_us * width_us)


def _value_each(counts: FunnelCounts, stage: int, split: Split | None) -> tuple[float | None, str]:
    """What a conversion into the stage brought on average, there or at the first stage after it that has a value."""
    for place in range(stage, len(counts.plan.funnel.stages)):
        path = counts.plan.funnel.stages[place].value
        if path is not None:
            conversions = counts.total(CONVERTED, stage, *(split or ()))
            summed = counts.total(VALUE, place, *(split or ())) / VALUE_SCALE
            return summed / conversions if conversions >= CONVERSIONS_MIN else None, path.rpartition(".")[2]
    return None, ""


def _dimensions(counts: FunnelCounts, split: Split | None) -> dict[str, list[Split]]:
    """The dimensions to look into, with their values; within a value only those that are combined with its dimension."""
    found = {}
    for name, dimension in counts.plan.funnel.dimensions.items():
        values = counts.values(name) if split is None else _within(dimension, split, counts.values(name))
        if len(values) > 1:
            found[name] = [(name, value) for value in values]
    return found


def _within(dimension: Dimension, split: Split, values: Iterable[str]) -> list[str]:
    first, second = dimension.combine or ("", "")
    if split[0] == first:
        return [value for value in values if value.startswith(f"{split[1]} / ")]
    return [value for value in values if split[0] == second and value.endswith(f" / {split[1]}")]


@dataclass(frozen=True)
class _Part:
    """One value: conversions seen, entrants (or their worth), and conversions to expect; `name` is None for the rest."""

    name: Split | None
    seen: int
    of: float
    expected: float


@dataclass(frozen=True)
class _Scene:
    counts: FunnelCounts
    usual: Adjusting | None
    stage: int
    verdict: Verdict
    boundary_us: int
    start_us: int
    split: Split | None
    sign: int  # -1 where the rate is too high

    @property
    def seconds(self) -> int:
        return max(1, (self.boundary_us - self.start_us) // MICROS)

    def recent(self) -> Recent | None:
        if self.usual is None or self.seconds >= self.verdict.window_seconds:
            return None
        worth = self.usual.worth(self.stage, self.start_us, self.boundary_us, self.split)
        return Recent(self.start_us, self._converted(self.split), worth)

    def missing(self) -> tuple[float | None, Literal["baseline", "threshold"]]:
        """How many conversions there are too few, against the baseline or else the threshold."""
        verdict = self.verdict
        seen, of = (float(verdict.numerator), verdict.denominator)
        if verdict.basis == "adjusted" and self.usual is not None:
            seen, of = self._converted(self.split), self.usual.worth(self.stage, self.start_us, self.boundary_us, self.split)
        if verdict.baseline is not None:
            return verdict.baseline * of - seen, "baseline"
        return None if verdict.threshold is None else verdict.threshold * of - seen, "threshold"

    def parts(self, values: list[Split]) -> tuple[Against, _Part, list[_Part]] | None:
        """The total and its values, by what is usual for them, or else by the other values; None when nothing can be said."""
        against_usual = self._by_usual(values)
        if against_usual is not None:
            return "usual", *against_usual
        against_others = self._by_others(values)
        return None if against_others is None else ("others", *against_others)

    def _by_usual(self, values: list[Split]) -> tuple[_Part, list[_Part]] | None:
        total = self._usual_part(self.split, None)
        if total is None or total.of <= 0:
            return None
        level = total.expected / total.of
        parts = [part for value in self._largest(values) if (part := self._usual_part(value, level)) is not None]
        left = total.of - sum(p.of for p in parts)
        if left > 0:  # the values that are not looked at, at what is usual for the total
            parts.append(_Part(None, total.seen - sum(p.seen for p in parts), left, left * level))
        return total, parts

    def _usual_part(self, split: Split | None, otherwise: float | None) -> _Part | None:
        """What converted in the window, and what was to be expected; at the level `otherwise` where there is no history of its own."""
        if self.usual is None:
            return None
        own = self.usual.baseline(self.stage, split)
        level = otherwise if isinstance(own, NoBaseline) else own.level
        if level is None:
            return None
        worth = self.usual.worth(self.stage, self.start_us, self.boundary_us, split)
        return _Part(split, self._converted(split), worth, worth * level)

    def _converted(self, split: Split | None) -> int:
        """Conversions in the full buckets since the start."""
        width = bucket_seconds(self.verdict.window_seconds)
        first, end = (us // (width * MICROS) for us in (self.start_us, self.boundary_us))
        name, buckets = cell(CONVERTED, self.stage, *(split or ())), self.counts.buckets.get(width, {})
        return sum(buckets[bucket].get(name, 0) for bucket in range(first, end) if bucket in buckets)

    def _by_others(self, values: list[Split]) -> tuple[_Part, list[_Part]] | None:
        seen, of = self._counted(self.split)
        wanted = self.verdict.baseline if self.verdict.baseline is not None else self.verdict.threshold
        if wanted is None or of <= 0:
            return None
        parts = []
        for value in self._largest(values):
            here, out_of = self._counted(value)
            if 0 < out_of < of:
                parts.append(_Part(value, here, out_of, out_of * (seen - here) / (of - out_of)))
        return _Part(self.split, seen, of, wanted * of), parts

    def _counted(self, split: Split | None) -> tuple[int, int]:
        """Users at the stage and at the stage before; entries are too far back to say where it leaks now."""
        pair = [
            self.counts.users(s, self.verdict.window_seconds, self.boundary_us - 1, *(split or ())) for s in (self.stage, self.stage - 1)
        ]
        return pair[0], pair[1]

    def _largest(self, values: list[Split]) -> list[Split]:
        at_us, window = self.boundary_us - 1, self.verdict.window_seconds
        opened = [(self.counts.count(ENTRIES, self.stage - 1, window, at_us, value), value) for value in values]
        return [value for _, value in sorted(opened, reverse=True)[:VALUES_MAX]]


def _localised(scene: _Scene, dimensions: dict[str, list[Split]]) -> tuple[Place | None, Mix | None]:
    places: list[tuple[Place, float]] = []
    mixes: list[Mix] = []
    for name, values in dimensions.items():
        found = scene.parts(values)
        if found is None:
            continue
        against, total, parts = found
        drop = scene.sign * (total.expected - total.seen)
        if drop <= 0:
            continue
        if against == "usual" and parts:
            mixed = scene.sign * (total.expected - sum(part.expected for part in parts)) / drop
            mixes.append(Mix(name, min(1.0, mixed)))
        places += [
            (_place(part, total, against, scene.sign / drop), part.of)
            for part in parts
            if part.name is not None and scene.sign * _surplus(part, total, parts, against) >= SURE
        ]
    return _most_telling(places), max((mix for mix in mixes if mix.share >= SHARE_MIN), key=lambda mix: mix.share, default=None)


def _place(part: _Part, total: _Part, against: Against, factor: float) -> Place:
    dimension, value = part.name or ("", "")
    others = total.of - part.of
    elsewhere = (total.seen - part.seen) / others if others > 0 else None
    share = min(1.0, factor * (part.expected - part.seen))
    return Place(dimension, value, share, against, part.seen, part.of, part.expected, elsewhere)


def _surplus(part: _Part, total: _Part, parts: Sequence[_Part], against: Against) -> float:
    """How many standard deviations more a value has lost than if all had dropped alike (against usual), or than the others have."""
    if against == "others":
        others = total.of - part.of
        pooled = min(1.0, max(0.0, total.seen / total.of))
        spread = sqrt(pooled * (1 - pooled) * (1 / part.of + 1 / others)) if others > 0 else 0.0
        rate = min(1.0, part.seen / part.of)
        return (part.expected / part.of - rate) / spread if spread > 0 else 0.0
    expected = sum(p.expected for p in parts)
    share = part.expected / expected if expected > 0 else 0.0
    alike = share * sum(p.seen for p in parts)  # given the total, a value's conversions are binomial
    spread = sqrt(max(0.0, alike * (1 - share)))
    return (alike - part.seen) / spread if spread > 0 else 0.0


def _most_telling(places: list[tuple[Place, float]]) -> Place | None:
    named = [(place, of) for place, of in places if place.share >= SHARE_MIN]
    if not named:
        return None
    best = max(place.share for place, _ in named)
    return min(((place, of) for place, of in named if place.share >= NEARLY * best), key=lambda found: found[1])[0]
