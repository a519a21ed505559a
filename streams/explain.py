"""[pure] Where an entity stands in each funnel and why it is not further, from its stored state, in words.

A block keeps the bucket of a stage's latest reach; the exact time comes from the tail, as long as the
event is in it: the tail is taken through the funnels once more, instant by instant, which also shows
which chains an event ended, and when. What is not known exactly is said as what is certain: "between",
"at the latest". A chain may go on until its start + conversion window, and has run out when T or a
newer event of the entity is past that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from schemas.condition import Where
from schemas.event import iso, moment_of
from schemas.explanation import Entry, FormerStanding, FunnelStanding, Reach, SourceExplanation, StageStanding, StandingState, Wait
from streams.chains import ENTERED, MARK, OPENED, START, VALUES, Blocks, Counts, absolute
from streams.matching import CELLS, NUMBER
from streams.plan import FunnelPlan, Plan
from streams.resting import REST_SECONDS, awake
from streams.retention import BUCKET_US
from streams.tail import State, _applied, _entries, replay, unpack_blocks
from streams.values import SEPARATOR

REST_US = REST_SECONDS * 1_000_000


class Span(NamedTuple):
    """The event time of a reach lies in [since, before), in µs; one µs wide: it is known."""

    since: int
    before: int

    @property
    def known(self) -> bool:
        return self.before - self.since == 1

    @property
    def last(self) -> int:
        """What the reach was not later than."""
        return self.since if self.known else self.before

    def __str__(self) -> str:
        return f"at {iso(self.since)}" if self.known else f"between {iso(self.since)} and {iso(self.before)}"


@dataclass
class Memory:
    """What the tail still knows of one funnel, by stage."""

    reached: dict[int, int] = field(default_factory=dict)  # time of the latest reach
    ended: dict[int, tuple[int, int | None]] = field(default_factory=dict)  # when an event took the start away, and that start


class At(NamedTuple):
    """One stage's cells, read."""

    place: int
    name: str  # in quotes, as sentences have it
    start: int | None
    values: str | None
    opened: int | None
    converted: bool
    reached: Span | None


class Verdict(NamedTuple):
    """Why the stage after one is not reached. `until`: it still may be, until then."""

    state: StandingState
    clause: str
    until: int | None = None


class Clock(NamedTuple):
    """What time it is for an entity, in µs."""

    newest: int  # its newest event
    now: int  # T, or its newest event when that is ahead
    lateness: int


def explain(plan: Plan, packed: bytes, at_us: int | None, partition: int | None = None) -> SourceExplanation:
    """An entity's stored state in words. `at_us`: T of the source, None before the first report."""
    state = awake(packed)
    newest, blocks = state[0], {definition: absolute(cells) for definition, cells in unpack_blocks(state[1]).items()}
    clock = Clock(newest, newest if at_us is None else max(newest, at_us), plan.lateness_us)
    memories = _memories(plan, state)
    today = {funnel.definition for funnel in plan.funnels}
    return SourceExplanation(
        source=plan.source.name,
        partition=partition,
        at=None if at_us is None else moment_of(at_us),
        newest=moment_of(newest),
        funnels=tuple(Standing(f, blocks.get(f.definition), memories.get(f.number, Memory()), clock).told() for f in plan.funnels),
        former=tuple(_former(definition, cells, newest) for definition, cells in sorted(blocks.items()) if definition not in today),
    )


def unknown(entity: str, sources: Sequence[str]) -> str:
    """What to say of an entity that none of these sources has a state of."""
    return (
        f"no event of entity {entity!r} is on record in source {' or '.join(sources)}: write the whole user_id, or the anonymous_id of "
        "events without one; or none of its events matched a stage, or they are too long ago"
    )


def _memories(plan: Plan, state: State) -> dict[int, Memory]:
    """By funnel number, what the tail's events did, once more."""
    found: dict[int, Memory] = {}
    _, _, _, _, _, before, layout, _ = state
    if layout != plan.layout:  # matched by definitions that are not today's
        return found
    entries = _entries(state)
    applied = _applied(plan, entries)
    blocks: Blocks = unpack_blocks(before)
    for time, places in groupby(range(len(entries)), key=lambda place: entries[place].time):
        instant = [place for place in places if applied[place]]
        asked = {step[NUMBER] for place in instant for step in plan.matcher.by_key(entries[place].key).steps}
        starts = {number: _starts(blocks, plan.funnels[number]) for number in asked}
        reached = replay(plan, [entries[place] for place in instant], [True] * len(instant), blocks, Counts(), 1)
        for number in asked:
            stages = {stage & 0xFF for stage, _ in reached.get(number, ())}
            _remember(found.setdefault(number, Memory()), time, stages, starts[number], _starts(blocks, plan.funnels[number]))
    return found


def _starts(blocks: Blocks, funnel: FunnelPlan) -> list[int | None]:
    cells = blocks.get(funnel.definition)
    return [None] * len(funnel.funnel.stages) if cells is None else absolute(cells)[START:-1:CELLS]


def _remember(memory: Memory, time: int, reached: set[int], before: Sequence[int | None], after: Sequence[int | None]) -> None:
    for stage, (old, new) in enumerate(zip(before, after)):
        if stage in reached:
            memory.reached[stage] = time
        if new is not None:
            memory.ended.pop(stage, None)
        elif stage in reached:
            memory.ended[stage] = time, None
        elif old is not None:
            memory.ended[stage] = time, old


class Standing:
    """An entity in one funnel."""

    def __init__(self, plan: FunnelPlan, cells: Sequence[Any] | None, memory: Memory, clock: Clock) -> None:
        self._plan = plan
        self._spec = plan.funnel
        self._window = plan.funnel.conversion_window
        self._window_us = self._window.micros
        self._memory = memory
        self._clock = clock
        self._any = plan.funnel.order == "any"
        self._cells: Sequence[Any] = [None] * (CELLS * len(self._spec.stages) + 1) if cells is None else cells
        self._note: int | None = None if self._any else self._cells[-1]
        self._stages = [self._at(place) for place in range(len(self._spec.stages))]

    def _at(self, place: int) -> At:
        cells = self._cells[place * CELLS : (place + 1) * CELLS]
        name, entered = f'"{self._spec.stages[place].name}"', cells[ENTERED]
        # In the order `any` the start is an event of the stage, which need not have reached it.
        since = cells[START] if not self._any or place == 0 else None
        exact = since if place == 0 and since is not None else self._memory.reached.get(place)
        reached = _span(cells[MARK], exact, [t for t in (since, cells[OPENED]) if t is not None], self._clock.newest)
        return At(place, name, cells[START], cells[VALUES], cells[OPENED], entered is True, reached)

    def told(self) -> FunnelStanding:
        deepest = max((at.place for at in self._stages if at.reached is not None), default=None)
        state, sentences, waits = self._not_entered() if deepest is None else self._from(deepest)
        return FunnelStanding(
            funnel=self._spec.name,
            title=self._spec.title,
            order=self._spec.order,
            conversion_window=str(self._window),
            state=state,
            deepest=None if deepest is None else self._spec.stages[deepest].name,
            why=" ".join(sentences),
            waiting=tuple(waits),
            stages=tuple(map(self._stage, self._stages)),
        )

    def _stage(self, at: At) -> StageStanding:
        spec = self._spec.stages[at.place]
        values = [] if at.values is None else at.values.split(SEPARATOR)
        return StageStanding(
            name=spec.name,
            title=spec.title,
            reached=_reach(at.reached),
            start=None if at.start is None else moment_of(at.start),
            until=None if at.start is None else moment_of(at.start + self._window_us),
            values=dict(zip(self._plan.dimensions, values)),
            entry=None if at.opened is None else self._entry(at, at.opened),
        )

    def _entry(self, at: At, opened: int) -> Entry:
        if at.place == len(self._stages) - 1:
            return Entry(opened=moment_of(opened), converted=None, until=None, pending=False)
        until = opened + self._window_us
        pending = not at.converted and until >= self._clock.now
        return Entry(opened=moment_of(opened), converted=at.converted, until=moment_of(until), pending=pending)

    # Why

    def _not_entered(self) -> tuple[StandingState, list[str], list[Wait]]:
        first = self._spec.stages[0]
        events = _events(first.event, first.where)
        return "not_entered", [f"Not entered: no event of the first stage, {self._stages[0].name} ({events}), is on record."], []

    def _from(self, deepest: int) -> tuple[StandingState, list[str], list[Wait]]:
        """The state at the deepest stage; then every other chain that stands by itself."""
        found: list[tuple[int, Verdict]] = []
        if deepest + 1 < len(self._stages):
            found = [(deepest, self._lacking(deepest + 1) if self._any else self._chain(deepest))]
            state, sentences = found[0][1].state, [self._sentence("Reached", *found[0])]
        else:
            at = self._stages[deepest]
            state, sentences = "complete", [f"Reached the last stage, {at.name}, {at.reached}: complete."]
        others = [*(self._anew() if self._any else self._others(deepest))]
        sentences += [self._sentence("Also reached", *other) for other in others]
        waits = [(self._spec.stages[place + 1].name, verdict.until) for place, verdict in [*found, *others]]
        return state, sentences, [Wait(stage=name, until=moment_of(until)) for name, until in waits if until is not None]

    def _sentence(self, opening: str, place: int, verdict: Verdict) -> str:
        at, following = self._stages[place], self._stages[place + 1]
        if verdict.until is not None:
            return f"{opening} {at.name} {at.reached}. Waiting for {verdict.clause}."
        return f"{opening} {at.name} {at.reached}, but not {following.name}: {verdict.clause}."

    # The orders `ordered` and `strict`

    def _chain(self, place: int) -> Verdict:
        """Why the chain that stands at a stage goes no further."""
        start, following = self._stages[place].start, self._stages[place + 1]
        if start is None:
            return self._without_start(place)
        until = start + self._window_us
        if until < self._clock.now:
            return self._passed(start)
        return Verdict("waiting", f"{following.name} until {iso(until)} ({self._counted_from(start)})", until)

    def _counted_from(self, start: int) -> str:
        return f"{self._window} after {self._stages[0].name} at {iso(start)}"

    def _passed(self, start: int) -> Verdict:
        until = start + self._window_us
        late = "; what happened before that and arrives late still counts" if self._clock.now - until <= self._clock.lateness else ""
        return Verdict("passed", f"the conversion window ({self._counted_from(start)}) passed at {iso(until)}{late}")

    def _without_start(self, place: int) -> Verdict:
        """An event ended the chain, or it ran out so long ago that its start is not kept."""
        ended, reached = self._memory.ended.get(place), self._stages[place].reached
        if ended is not None:
            time, start = ended
            if start is not None and start + self._window_us < time:
                return self._passed(start)
            return Verdict("ended", self._ender(place, "ended", "came") + f" at {iso(time)}")
        assert reached is not None
        latest = min(reached.last + self._window_us, self._clock.now)
        if self._note is None or self._note < reached.since or not self._can_be_ended(place):
            return Verdict("passed", f"the conversion window ({self._window}) passed at {iso(latest)} at the latest")
        if self._clock.now <= reached.since + REST_US:  # too soon for a start to be let go: the note's event took it, or one before
            latest = min(latest, self._note)
        what = self._ender(place, "had ended", "had come")
        return Verdict("over", f"at {iso(latest)} at the latest, the conversion window ({self._window}) had passed or {what}")

    def _can_be_ended(self, place: int) -> bool:
        return self._spec.order == "strict" or bool(self._excluded(place))

    def _excluded(self, place: int) -> list[str]:
        """The events that end a chain which stands at a stage."""
        index, exclusions = self._spec.stage_index, self._spec.exclude
        return [_events(e.event, e.where) for e in exclusions if index(e.from_) <= place < index(e.to)]

    def _ender(self, place: int, ended: str, came: str) -> str:
        if self._spec.order == "strict":
            return f"another event than {self._stages[place + 1].name}, which the strict order does not allow, {came}"
        return f"the excluded event {' or '.join(dict.fromkeys(self._excluded(place)))} {ended} the chain"

    def _others(self, deepest: int) -> Iterator[tuple[int, Verdict]]:
        """Chains that stand at an earlier stage: begun since, or thrown back to it."""
        for place in range(deepest - 1, -1, -1):
            at, following = self._stages[place], self._stages[place + 1]
            newer = at.reached is not None and (following.reached is None or at.reached.since >= following.reached.before)
            if at.start is None:
                stands = newer
            else:
                own = all(at.start != deeper.start for deeper in self._stages[place + 1 :])  # else the chain has gone on
                stands = own and (newer or following.start is not None or at.start + self._window_us >= self._clock.now)
            if stands:
                yield place, self._chain(place)

    # The order `any`

    def _lacking(self, target: int) -> Verdict:
        """Which of the events that a stage takes are missing or too old."""
        needed = self._stages[: target + 1]
        fresh = [(at.start, at.name) for at in needed if at.start is not None and at.start + self._window_us >= self._clock.now]
        lacking = _listed([self._lack(at) for at in needed if at.name not in {name for _, name in fresh}])
        if not fresh:
            return Verdict("passed", f"{lacking} must come within {self._window} of each other")
        start, name = min(fresh)
        until = start + self._window_us
        return Verdict("waiting", f"{lacking} until {iso(until)} ({self._window} after {name} at {iso(start)})", until)

    def _lack(self, at: At) -> str:
        if at.start is not None:
            return f"{at.name} (at {iso(at.start)}, too old since {iso(at.start + self._window_us)})"
        return f"{at.name} (none on record)" if at.reached is None else f"{at.name} ({at.reached}, too old)"

    def _anew(self) -> Iterator[tuple[int, Verdict]]:
        """After the last stage was reached: how far the events since have come."""
        first, last = self._stages[0], self._stages[-1]
        if first.reached is None or last.reached is None or first.reached.since < last.reached.before:
            return
        fresh = [at.start is not None and at.start + self._window_us >= self._clock.now for at in self._stages]
        place = fresh.index(False) - 1 if False in fresh else -1
        if place >= 0:
            yield place, self._lacking(place + 1)


def _span(mark: int | None, exact: int | None, not_before: Sequence[int], newest: int) -> Span | None:
    """When a stage was reached last, given its mark, what may be its time, and times that it was not before."""
    if mark is None:  # too long ago for any window: let go
        if not not_before:
            return None
        mark_since, mark_before = max(not_before), (newest // BUCKET_US + 1) * BUCKET_US
    else:
        mark_since, mark_before = mark * BUCKET_US, (mark + 1) * BUCKET_US
    if exact is not None and mark_since <= exact < mark_before:
        return Span(exact, exact + 1)
    since = max(mark_since, *not_before) if not_before else mark_since
    return Span(since, since + 1 if since == newest else mark_before)


def _reach(span: Span | None) -> Reach | None:
    if span is None:
        return None
    since = moment_of(span.since)
    return Reach(at=since if span.known else None, since=since, before=moment_of(span.before))


def _former(definition: int, cells: Sequence[Any], newest: int) -> FormerStanding:
    size = len(cells) // CELLS
    spans = [
        _span(cells[at + MARK], None, [t for t in (cells[at + OPENED],) if t is not None], newest) for at in range(0, size * CELLS, CELLS)
    ]
    deepest = max((place for place, span in enumerate(spans, start=1) if span is not None), default=0)
    span = spans[deepest - 1] if deepest else None
    what = f"stage {deepest} of {size} was reached {span}" if span is not None else f"none of {size} stages is on record as reached"
    why = f"Counted under a former definition: {what}."
    return FormerStanding(definition=definition, stages=size, deepest=deepest, reached=_reach(span), why=why)


def _events(names: Sequence[str], where: Where | Mapping[str, Any]) -> str:
    return " or ".join(f'"{name}"' for name in names) + (" under its conditions" if where else "")


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
