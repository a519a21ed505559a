"""[pure] The two sides of a comparison: a period of a funnel, all of it, one value of it, or all but that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.duration import MICROS, Duration
from schemas.errors import UsageError
from schemas.event import iso, moment_of
from schemas.history import Side
from schemas.report import Rate
from streams.past import by_worth
from streams.points import HOUR, Worth
from streams.rates import Split, proportion, rate
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES, USERS
from streams.sums import Past
from streams.windows import FunnelCounts, cell

VALUES_COMPARED_MAX = 100
SHIFTS = {"previous": 0, "yesterday": 86_400 * MICROS, "last_week": 7 * 86_400 * MICROS}  # previous: by the period's own length
STRETCH_MAX = 1.5  # how much longer than asked a period may become where only coarse buckets reach back


@dataclass(frozen=True)
class CompareAsked:
    """What is to be compared: a period with another one, or values of a dimension within it."""

    funnel: str
    window: Duration  # the period's length where none is given
    basis: str
    by: str | None = None
    value: str | None = None
    against: str | None = None  # of SHIFTS
    against_value: str | None = None
    period_us: tuple[int, int] | None = None
    against_us: tuple[int, int] | None = None


def other(asked: CompareAsked, first: tuple[int, int]) -> tuple[int, int] | None:
    """The period that the first is compared with; None: it is compared with none."""
    if asked.against_us is not None:
        return asked.against_us
    against = asked.against or ("previous" if asked.by is None else None)
    if against is None:
        return None
    shift = SHIFTS[against] or first[1] - first[0]
    return first[0] - shift, first[1] - shift


def live(counts: FunnelCounts, window: int, at_us: int, by: str | None) -> dict[Split | None, tuple[int, ...]]:
    """How many people a window holds now, in total and by the values of a dimension."""
    splits: list[Split | None] = [None]
    if by is not None:
        splits += [(by, value) for value in counts.values(by)]
    stages = range(len(counts.plan.funnel.stages))
    return {split: tuple(counts.count(USERS, stage, window, at_us, split) for stage in stages) for split in splits}


class Span:
    """A period by its buckets, on bases entries and adjusted."""

    def __init__(self, counts: FunnelCounts, at_us: int, period_us: tuple[int, int], worth: Worth | None, by: str | None) -> None:
        self._worth, self._past, self._plan = worth, Past(counts, at_us), counts.plan
        self._families = (ENTRIES, CONVERSIONS if worth is None else CONVERTED)
        self._rates: dict[tuple[int, Split | None], Rate] = {}
        width, self.start_us, self.end_us = self._snapped(period_us, at_us)
        finished_us = self._past.finished_us(width, self.start_us, self.end_us)
        splits = [(), *((by, value) for value in counts.values(by))] if by is not None else [()]
        stages = range(len(self._plan.funnel.stages))
        names = [cell(family, stage, *split) for family in self._families for stage in stages for split in splits]
        sums = self._past.sums(frozenset(self._families), {self.start_us, finished_us, self.end_us}, names)
        self._whole, self._finished = sums.named(self.start_us, self.end_us), sums.named(self.start_us, finished_us)

    def _snapped(self, period_us: tuple[int, int], at_us: int) -> tuple[int, int, int]:
        families = frozenset(self._families)
        start_us, end_us = period_us
        if not start_us < end_us <= at_us:
            raise UsageError(f"{iso(start_us)} to {iso(end_us)} is no period before the newest counts ({iso(at_us)})")
        for kept in self._plan.kept:
            width_us = kept.seconds * MICROS
            start, end = start_us // width_us * width_us, end_us // width_us * width_us
            needed_us = start - (self._plan.funnel.conversion_window.micros if self._worth is not None and kept.seconds == HOUR else 0)
            fits = 1 / STRETCH_MAX <= (end - start) / (end_us - start_us) <= STRETCH_MAX
            if self._past.width(families, start, end) is not None and fits and needed_us // width_us >= at_us // width_us - kept.count:
                return kept.seconds, start, end
        raise UsageError(
            f"the counts of {iso(start_us)} to {iso(end_us)} are not kept that finely: 10 s buckets reach back 1 h, "
            "minutes 24 h, hours 30 d; take a longer or a later period"
        )

    def rate(self, stage: int, split: Split | None) -> Rate:
        """Of the step into a stage. That of the total is asked for by every value."""
        found = self._rates.get((stage, split))
        if found is None:
            found = self._rates[stage, split] = self._rate(stage, split)
        return found

    def _rate(self, stage: int, split: Split | None) -> Rate:
        if self._worth is not None:
            observed = self._whole[cell(CONVERTED, stage, *(split or ()))]
            return by_worth(observed, self._worth.worth(stage, self.start_us, self.end_us, split))
        return proportion(*[self._finished[cell(family, stage - 1, *(split or ()))] for family in (CONVERSIONS, ENTRIES)])

    def rest(self, own: Rate, total: Rate) -> Rate:
        """The rate of all but a part."""
        numerator, denominator = total.numerator - own.numerator, total.denominator - own.denominator
        return proportion(numerator, int(denominator)) if self._worth is None else by_worth(numerator, denominator)

    def pending(self, split: Split | None) -> int:
        """Entries that may still convert, of all steps; they are in no rate."""
        if self._worth is not None:
            return 0
        names = [cell(ENTRIES, stage, *(split or ())) for stage in range(len(self._plan.funnel.stages) - 1)]
        return sum(self._whole[name] - self._finished[name] for name in names)

    def size(self, split: Split) -> int:
        """How many entered."""
        return self._whole[cell(ENTRIES, 0, *split)]


@dataclass(frozen=True)
class Users:
    """A period by how many people it held."""

    start_us: int
    end_us: int
    held: Mapping[Split | None, Sequence[int]]

    def rate(self, stage: int, split: Split | None) -> Rate:
        users = self.held.get(split)
        return rate(0, 0) if users is None else rate(users[stage], users[stage - 1])

    def rest(self, own: Rate, total: Rate) -> Rate:
        return rate(total.numerator - own.numerator, int(total.denominator - own.denominator))

    def pending(self, _: Split | None) -> int:
        return 0

    def size(self, split: Split) -> int:
        return self.held[split][0] if split in self.held else 0


@dataclass(frozen=True)
class Part:
    """A period, all of it, one value of it, or all but that."""

    period: Span | Users
    split: Split | None = None
    others: bool = False

    @property
    def side(self) -> Side:
        return Side(
            from_=moment_of(self.period.start_us), to=moment_of(self.period.end_us), value=self.split and self.split[1], others=self.others
        )

    def rates(self, stages: int) -> list[Rate]:
        """Of every step."""
        return [self._rate(stage) for stage in range(1, stages)]

    def _rate(self, stage: int) -> Rate:
        own = self.period.rate(stage, self.split)
        return self.period.rest(own, self.period.rate(stage, None)) if self.others else own

    @property
    def pending(self) -> int:
        own = self.period.pending(self.split)
        return self.period.pending(None) - own if self.others else own


def pairs(
    asked: CompareAsked, counts: FunnelCounts, first: Span | Users, second: Span | Users | None
) -> tuple[list[tuple[Part, Part]], int]:
    """What is compared with what, and how many values were left out."""
    if asked.by is None:
        assert second is not None
        return [(Part(first), Part(second))], 0
    known = counts.values(asked.by)
    for value in (asked.value, asked.against_value):
        if value is not None and value not in known:
            raise UsageError(
                f"no {asked.by} {value[:64]!r} was counted; there are: {', '.join(known[:20])}{', …' if len(known) > 20 else ''}"
            )
    if asked.value is not None and asked.against_value is not None:
        return [(Part(first, (asked.by, asked.value)), Part(second or first, (asked.by, asked.against_value)))], 0
    splits = [(asked.by, value) for value in known if asked.value in (None, value)]
    splits = sorted((split for split in splits if first.size(split) or (second and second.size(split))), key=lambda s: (-first.size(s), s))
    kept = splits[:VALUES_COMPARED_MAX]
    if second is None:
        return [(Part(first, split), Part(first, split, others=True)) for split in kept], len(splits) - len(kept)
    return [(Part(first, split), Part(second, split)) for split in kept], len(splits) - len(kept)
