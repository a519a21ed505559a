"""[pure] The age-adjusted rates of one funnel, kept ready: baselines learned once an hour, entries summed as they come.

What the formulae need (`adjusted`, `baseline`) is taken from the funnel's counts by bucket. A step's
entries are summed up when it is first asked about, and followed from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas import report
from schemas.duration import MICROS, bucket_seconds
from schemas.report import Rate
from streams.adjusted import LEAST_WORTH, Adjusted, Due, Entries, Groups, Weights, adjusted, complete_since, due, groups, projected, to_come
from streams.baseline import HOUR_US, Baseline, Curve, Hour, NoBaseline, Terms, finished_until_us, hours_of, learn, learn_value
from streams.rates import Split
from streams.retention import CONVERSIONS, CONVERTED, ENTRIES, HOUR_SECONDS
from streams.spans import Alike, Spans
from streams.windows import Cells, FunnelCounts, cell, first_bucket

AGAIN = 16  # spans found at once for one that is asked about again a bucket later


class Adjusting:
    """The adjusted rates of one funnel's steps, total and by dimension value. See `rates.AdjustedRates`."""

    def __init__(self, counts: FunnelCounts, lateness_us: int) -> None:
        funnel = counts.plan.funnel
        learned = funnel.baseline
        self._counts = counts
        self._terms = Terms(
            funnel.conversion_window.micros, lateness_us, learned.half_life.micros, learned.min_entries, learned.by == "hour_of_week"
        )
        self._kept = {kept.seconds: kept.count for kept in counts.plan.kept}
        self._entries: dict[str, Entries] = {}  # by the name of the count
        self._baselines: dict[tuple[int, Split | None], Baseline | NoBaseline] = {}
        self._hours: dict[tuple[int, Split | None], dict[int, Hour | None]] = {}  # finished, by number; None: without entries
        self._groups: dict[int, Groups] = {}  # by window
        self._due: dict[tuple[int, int], Due] = {}  # by stage and window
        self._after: dict[tuple[int, int], Weights] = {}  # likewise
        self._worths: dict[tuple[int, int, Split | None], dict[int, float]] = {}  # by stage, length and value; by T
        self._alike: dict[tuple[int, int], tuple[range, list[Alike]]] = {}  # by stage and length, as last asked for
        self._spans = Spans(self._kept, self._terms)
        self.final_us = -1  # until when counts are there that change no more, where counting is ahead of T
        self._at_us = 0
        self._learned_until = -1
        counts.followers.append(self._follow)

    def at(self, at_us: int) -> Adjusting:
        """Itself, as of T."""
        if at_us != self._at_us:
            self._at_us = at_us
            for weights in (self._groups, self._due, self._after):
                weights.clear()
        until = finished_until_us(self._terms, at_us)
        if until != self._learned_until:
            self._learned_until = until
            self._baselines.clear()
            self._worths.clear()
            self._alike.clear()
            self._spans.forget_weights()
        return self

    def step(self, stage: int, window_seconds: int, split: Split | None) -> tuple[Rate, report.Adjusted]:
        """The rate of the step into a stage over the trailing window, and what stands behind it."""
        counts, at_us = self._counts, self._at_us
        total, own = self.baseline(stage, None), self.baseline(stage, split)
        observed = counts.count(CONVERTED, stage, window_seconds, at_us, split)
        if isinstance(total, NoBaseline):
            return _shown(adjusted(observed, Entries(self._kept), None, total), None)
        weights = self._due_in(stage, window_seconds, total)
        entries = self._entries_of(stage - 1, split)
        found = adjusted(observed, entries, weights, own)
        if isinstance(own, NoBaseline) or not found.ready:
            return _shown(found, None)
        opened, converted = (counts.count(family, stage - 1, window_seconds, at_us, split) for family in (ENTRIES, CONVERSIONS))
        final = projected(opened, converted, entries, self._due_after(stage, window_seconds, total), own, found)
        share = Rate(numerator=converted, denominator=opened, rate=final.rate, low=final.low, high=final.high)
        return _shown(found, share if opened else None)

    def parts(self, stage: int, window_seconds: int, split: Split | None) -> tuple[int, float] | None:
        """Conversions observed and the worth of what was due: the rate of `step` without its limits. None where it has no rate."""
        total, own = self.baseline(stage, None), self.baseline(stage, split)
        if isinstance(total, NoBaseline) or isinstance(own, NoBaseline):
            return None
        worth = self._entries_of(stage - 1, split).weigh(self._due_in(stage, window_seconds, total).worth)
        return (self._counts.count(CONVERTED, stage, window_seconds, self._at_us, split), worth) if worth >= LEAST_WORTH else None

    def worth(self, stage: int, start_us: int, end_us: int, split: Split | None) -> float:
        """The worth, in entries, of what was due to convert into a stage from `start_us` until `end_us`, boundaries of buckets.

        0 where the total has no baseline.
        """
        length_us, at_us = end_us - start_us, self._at_us
        if at_us <= self.final_us and end_us == _newest_end_us(length_us, at_us):
            known = self._worths.get((stage, length_us, split), {})
            if at_us in known:
                return known[at_us]
            step_us = bucket_seconds(length_us // MICROS) * MICROS
            many = AGAIN if at_us - step_us in known else 1  # whoever asks this again and again asks it a bucket later
            until_us = min(self.final_us, at_us + many * step_us - 1)
            return self.worths(stage, length_us, range(at_us, until_us + 1, step_us), split)[0]
        total = self.baseline(stage, None)
        if isinstance(total, NoBaseline):
            return 0.0
        weights = self._spans.weights(stage, total.curve, start_us, end_us, at_us)
        return max(0.0, self._entries_of(stage - 1, split).weigh(weights, start_us))

    def worths(self, stage: int, length_us: int, moments_us: range, split: Split | None) -> list[float]:
        """The worth of spans of one length as of moments by when all counts before are final; each span ends where the newest bucket does."""
        known = self._worths.setdefault((stage, length_us, split), {})
        total = self.baseline(stage, None)
        if isinstance(total, NoBaseline):
            return [0.0] * len(moments_us)
        new = [at_us for at_us in moments_us if at_us not in known] if known else moments_us
        if new:
            asked = moments_us if len(new) == len(moments_us) else None
            entries = self._entries_of(stage - 1, split)
            for weights, starts_us, ats_us in self._weighed_alike(stage, length_us, total.curve, new, asked):
                found = entries.weigh_each(weights, starts_us)
                known.update(zip(ats_us, [max(0.0, worth) for worth in found]))
        return list(map(known.__getitem__, moments_us))

    def _weighed_alike(self, stage: int, length_us: int, curve: Curve, new: Sequence[int], asked: range | None) -> list[Alike]:
        """Spans as of moments, those of one shape together. Each value of a dimension asks for the same in its turn."""
        last = self._alike.get((stage, length_us))
        if asked is not None and last is not None and last[0] == asked:
            return last[1]
        found = self._spans.alike(stage, curve, length_us, new)
        if asked is not None:
            self._alike[stage, length_us] = asked, found
        return found

    def baseline(self, stage: int, split: Split | None) -> Baseline | NoBaseline:
        """What is usual for the step into a stage, in total or for a value of a dimension."""
        known = self._baselines.get((stage, split))
        if known is None:
            hours = self._hours_of(stage, split)
            total = None if split is None else self.baseline(stage, None)
            if total is None or isinstance(total, NoBaseline):
                known = learn(hours, self._terms, self._at_us) if total is None else total
            else:
                known = learn_value(hours, self._terms, self._at_us, total)
            self._baselines[stage, split] = known
        return known

    def _hours_of(self, stage: int, split: Split | None) -> dict[int, Hour]:
        """Hours that are finished; what was read of them is read again only where it changed."""
        buckets, until = self._counts.buckets.get(HOUR_SECONDS, {}), self._learned_until // HOUR_US
        known = self._hours.setdefault((stage, split), {})
        for number in known.keys() - buckets.keys():
            del known[number]
        new = {number: cells for number, cells in buckets.items() if number < until and number not in known}
        known.update(dict.fromkeys(new))
        known.update(hours_of(new, stage, *(split or ())))
        return {number: hour for number, hour in known.items() if hour is not None}

    def _due_in(self, stage: int, window_seconds: int, total: Baseline) -> Due:
        known = self._due.get((stage, window_seconds))
        if known is None:
            known = self._due[stage, window_seconds] = due(self._parted(window_seconds), total)
        return known

    def _due_after(self, stage: int, window_seconds: int, total: Baseline) -> Weights:
        known = self._after.get((stage, window_seconds))
        if known is None:
            known = self._after[stage, window_seconds] = to_come(self._parted(window_seconds), total)
        return known

    def _parted(self, window_seconds: int) -> Groups:
        known = self._groups.get(window_seconds)
        if known is None:
            width, first = first_bucket(window_seconds, self._at_us)
            since = complete_since(self._kept, self._terms.conversion_us, self._at_us)
            start_us = first * width * MICROS
            known = groups(since, start_us, self._at_us, self._terms.conversion_us, by_hour=self._terms.by_hour)
            self._groups[window_seconds] = known
        return known

    def _entries_of(self, stage: int, split: Split | None) -> Entries:
        name = cell(ENTRIES, stage, *(split or ()))
        known = self._entries.get(name)
        if known is None:
            buckets = {
                width: {bucket: cells[name] for bucket, cells in of_width.items() if name in cells}
                for width, of_width in self._counts.buckets.items()
            }
            known = self._entries[name] = Entries.of(buckets, self._kept)
        return known

    def _follow(self, width: int, bucket: int, cells: Cells) -> None:
        if width == HOUR_SECONDS and bucket < self._learned_until // HOUR_US:
            for hours in self._hours.values():
                hours.pop(bucket, None)
        for name, entries in self._entries.items():
            if name in cells:
                entries.add(width, bucket, cells[name])


def _newest_end_us(length_us: int, at_us: int) -> int:
    """When the newest bucket ends of those that a span of a length is made of."""
    width_us = bucket_seconds(length_us // MICROS) * MICROS
    return at_us // width_us * width_us


def _shown(found: Adjusted, share: Rate | None) -> tuple[Rate, report.Adjusted]:
    step = Rate(numerator=found.numerator, denominator=round(found.denominator, 3), rate=found.rate, low=found.low, high=found.high)
    behind = report.Adjusted(
        ready=found.ready,
        reason=found.reason,
        expected=round(found.expected, 3),
        baseline=found.baseline,
        capped=found.capped,
        projected=share,
    )
    return step, behind
