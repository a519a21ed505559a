"""[pure] For the recount: the fate of every record, in order of arrival.

Plain and slow on purpose, and from semantics' words alone; see `streams.recount`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from schemas.config import Source
from schemas.funnel import Funnel
from streams.recount_chains import without_duplicates
from streams.recount_events import Event, NoEvent, amount, read
from streams.recount_matching import Values, asks_for_properties, looks_at, stages_of

FATES = ("rejected", "filtered", "late", "duplicate", "applied")


@dataclass
class Arrivals:
    """The records of a source: what came in time of every entity, and the fates of all."""

    source: Source
    funnels: tuple[Funnel, ...]
    in_time: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))  # by entity, duplicates too
    values: Values = field(default_factory=Values)
    at_us: int | None = None  # T: the greatest event time that was not rejected
    _turned_away: Counter[str] = field(default_factory=Counter)
    _newest_us: dict[str, int] = field(default_factory=dict)  # by entity, of what was looked at and in time

    def take(self, records: Iterable[tuple[bytes | None, bytes | None]], *, keyed: bool, now_us: int | None) -> None:
        """Take (key, value) of records in the order of their partition."""
        looked_into = any(map(asks_for_properties, self.funnels))
        for key, raw in records:
            try:
                event = read(self.source, key, raw, keyed=keyed, looked_into=looked_into)
                self._refuse(event, now_us)
            except NoEvent:
                self._turned_away["rejected"] += 1
                continue
            self.at_us = max(self.at_us or 0, event.at_us)
            self._arrive(event)

    def applied(self) -> dict[str, list[Event]]:
        """What counts of every entity. A resent event may have come first, so duplicates are told at the end."""
        late_us = self.source.allowed_lateness.micros
        return {entity: without_duplicates(self.funnels, events, late_us) for entity, events in self.in_time.items()}

    def fates(self, applied: Mapping[str, list[Event]]) -> Counter[str]:
        """How many records met each fate."""
        in_time, once = sum(map(len, self.in_time.values())), sum(map(len, applied.values()))
        return Counter({**dict.fromkeys(FATES, 0), **self._turned_away, "applied": once, "duplicate": in_time - once})

    def _refuse(self, event: Event, now_us: int | None) -> None:
        """Raises NoEvent for what is ahead of the clock, or brings a value that is no number."""
        if now_us is not None and event.at_us > now_us + self.source.max_skew.micros:
            raise NoEvent
        for funnel in self.funnels:
            for stage in stages_of(funnel, event):
                amount(funnel.stages[stage], event)

    def _arrive(self, event: Event) -> None:
        newest_us = self._newest_us.get(event.entity, event.at_us)
        if not any(looks_at(funnel, event) for funnel in self.funnels):
            self._turned_away["filtered"] += 1
        elif event.at_us < newest_us - self.source.allowed_lateness.micros:
            self._turned_away["late"] += 1
        else:
            self._newest_us[event.entity] = max(newest_us, event.at_us)
            self.in_time[event.entity].append(event)
            for funnel in self.funnels:
                self.values.meet(funnel, event)
