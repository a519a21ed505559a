"""[pure] A batch of events folded, entity by entity, into their states and into counts.

An event newer than all of its entity's before goes straight through the funnels: the fast path, and
nearly every event's. The others go by way of the entity's tail; see `tail`, and `chains` for what
happens in a funnel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from operator import lt

from xxhash import xxh3_64_hexdigest

from schemas.event import Batch
from streams.chains import Blocks, Fold, Reaches, walk
from streams.matching import Match
from streams.plan import Plan, Prepared
from streams.resting import AWAKE, awake
from streams.tail import (
    LAZY,
    NEW,
    TAIL_MAX,
    Entity,
    Entry,
    Identity,
    Reached,
    State,
    is_long,
    pack,
    packed_blocks,
    shortened,
    unpack,
    unpack_blocks,
)

NOTHING_RECENT: dict[str, bytes] = {}
IDENTITY_LENGTH_MAX = 256  # of an event_id; what follows is told by its hash
IDENTITY_BYTES_MAX = 1024  # of a record without one, likewise


@dataclass(frozen=True)
class Gathered:
    """A batch by entity: the places of each one's events in order of arrival, and its state as it was then."""

    places: dict[str, list[int]]
    held: list[bytes | None]
    filtered: int

    @property
    def missing(self) -> list[str]:
        """The entities whose states are not held."""
        return [entity for entity, packed in zip(self.places, self.held) if packed is None]


class Gathering:
    """A batch on its way into order by entity, without what is filtered or bad; some of it at a time.

    Each state is looked up once: they lie all over memory, and with many entities that is what costs.
    """

    def __init__(self, batch: Batch, prepared: Prepared, states: Mapping[str, bytes]) -> None:
        self.places: dict[str, list[int]] = {}
        self.held: list[bytes | None] = []
        self.filtered = 0
        self._entities, self._matches, self._states = batch.entities, prepared.matches, states
        self._skip = {bad.index for bad in prepared.bad}
        self._next = 0
        self._names: list[str] = []

    def whole(self) -> Gathered:
        """Gather what is left, at once."""
        while self.some(1 + len(self._entities)):
            pass
        return Gathered(self.places, self.held, self.filtered)

    def some(self, events: int) -> bool:
        """Gather so many events, or look so many states up; whether there are more."""
        if self._next < len(self._entities):
            self._place(self._next, min(self._next + events, len(self._entities)))
            if self._next == len(self._entities):
                self._names = list(self.places)
            return True
        held = self.held
        held += map(self._states.get, self._names[len(held) : len(held) + events])
        return len(held) < len(self._names)

    def _place(self, begin: int, end: int) -> None:
        places, skip, filtered = self.places, self._skip, 0
        for i, (entity, match) in enumerate(zip(self._entities[begin:end], self._matches[begin:end]), begin):
            if match is None:
                filtered += i not in skip
            elif not skip or i not in skip:
                mine = places.get(entity)
                if mine is None:
                    places[entity] = [i]
                else:
                    mine.append(i)
        self.filtered += filtered
        self._next = end


def gather(batch: Batch, prepared: Prepared, states: Mapping[str, bytes]) -> Gathered:
    """A batch by entity, at once."""
    return Gathering(batch, prepared, states).whole()


class Folding:
    """A batch on its way into states and counts. What another must not wait for is done some entities at a time.

    One entity has its turn after the other, since what a state needs lies all over memory, and bringing
    it near costs more than the fold itself.
    """

    def __init__(
        self,
        plan: Plan,
        batch: Batch,
        prepared: Prepared,
        states: Mapping[str, bytes],
        trace: Reached | None = None,
        gathered: Gathered | None = None,
        recent: Mapping[str, bytes] = NOTHING_RECENT,
    ) -> None:
        """The packed states of its entities are given (a missing one is new).

        What was `gathered` before need not be again, given the states that have changed since (`recent`).
        The reaches of every entity are kept in `trace` where one is given.
        """
        self.out = Fold()
        self._plan, self._batch, self._prepared, self._states, self._trace, self._recent = plan, batch, prepared, states, trace, recent
        found = gathered or gather(batch, prepared, states)
        self._entities, self._places, self._held = list(found.places), list(found.places.values()), found.held
        self._identities = _identities(batch)
        self._ascending = all(map(lt, batch.times, islice(batch.times, 1, None)))
        self._next = 0
        self.out.filtered = found.filtered
        skip = {bad.index for bad in prepared.bad}
        self.out.watermark_us = max((t for i, t in enumerate(batch.times) if i not in skip) if skip else batch.times, default=-1)

    def whole(self) -> Fold:
        """Fold what is left, at once; what the batch did."""
        self.some(len(self._batch))
        return self.out

    def some(self, events: int) -> bool:
        """Fold entities until they come to so many events; whether there are more."""
        batch, prepared, plan, out, trace, recent = self._batch, self._prepared, self._plan, self.out, self._trace, self._recent
        times, matches, values, amounts = batch.times, prepared.matches, prepared.values, prepared.amounts
        identities, ascending = self._identities, self._ascending
        entities, all_places, all_held = self._entities, self._places, self._held
        get_state, touched, lateness, layout = self._states.get, out.touched, plan.lateness_us, plan.layout
        counts, applied, done, at = out.counts, 0, 0, self._next
        unpacked, packed_again, blocks_of, new_state = unpack, pack, unpack_blocks, NEW
        while at < len(entities) and done < events:
            entity, places, packed = entities[at], all_places[at], all_held[at]
            at += 1
            done += len(places)
            if recent:
                packed = recent.get(entity, packed)
            if packed is None:
                packed = get_state(entity)
            if packed is None:
                state: State = new_state
            elif packed[0] == AWAKE:
                state = unpacked(packed)
            else:
                state = awake(packed)
            newest, known, tail, count, oldest, before, folded_by, floor = state
            since, until = times[places[0]], times[places[-1]]
            if (
                since <= newest
                or len(places) > TAIL_MAX
                or not (len(places) == 1 or ((ascending or _ascend(places, times)) and _differ(places, identities)))
                or (
                    (newest >= since - lateness or newest >= until - 2 * lateness)
                    and not (folded_by == layout and _append(places, identities, tail, count))
                )
            ):
                late = [_entry(times[i], identities[i], matches[i], values[i], amounts.get(i)) for i in places]
                touched[entity] = pack(Entity(plan, entity, state, out, trace).take(late))
                continue
            blocks: Blocks = blocks_of(known)
            reached: Reaches | None = None if trace is None else trace.setdefault(entity, {})
            horizon, new = until - 2 * lateness, places
            if newest < horizon:  # nothing that is in the tail matters any more
                tail, count, before, folded_by, floor = b"", 0, known, layout, -1
                if since < horizon:
                    past = [i for i in places if times[i] < horizon]
                    walk(blocks, past, times, matches, values, amounts, counts, 1, reached)
                    applied += len(past)
                    before = packed_blocks(blocks)
                    new = places[len(past) :]
                oldest = times[new[0]]
            walk(blocks, new, times, matches, values, amounts, counts, 1, reached)
            entries = []
            for i in new:
                match = matches[i]
                assert match is not None  # who has none has no place
                brings, adds = values[i] if match.openers else "", amounts.get(i) if match.stages else None
                entries.append((times[i] - oldest, identities[i], match.key, brings, adds))
            tail += packed_again(entries)[1 if len(entries) < 16 else 3 :]  # without the head of a msgpack array
            count += len(new)
            applied += len(new)
            folded = (until, blocks, tail, count, oldest, before, folded_by, floor)
            if count > LAZY and is_long(plan, count, oldest, until):
                folded = shortened(plan, folded)
            touched[entity] = packed_again(folded)
        self._next = at
        out.applied += applied
        return at < len(entities)


def _ascend(places: list[int], times: list[int]) -> bool:
    """Whether each event of an entity is newer than the one before it."""
    last = -1
    for i in places:
        if times[i] <= last:
            return False
        last = times[i]
    return True


def _differ(places: list[int], identities: list[Identity]) -> bool:
    """Whether no event of an entity repeats another."""
    if len(places) == 2:
        return identities[places[0]] != identities[places[1]]
    return len({identities[i] for i in places}) == len(places)


def _append(places: list[int], identities: list[Identity], tail: bytes, count: int) -> bool:
    """Whether events that are newer than the tail may simply be put behind it: it has room, and none may be a duplicate."""
    if count + len(places) > TAIL_MAX:
        return False
    for i in places:
        identity = identities[i]
        if (identity.encode() if isinstance(identity, str) else identity) in tail:  # or looks like it
            return False
    return True


def _identities(batch: Batch) -> list[Identity]:
    """What tells each event from another: its event_id (text), or else its bytes."""
    if all(batch.ids) and max(map(len, batch.ids), default=0) <= IDENTITY_LENGTH_MAX:
        return batch.ids  # type: ignore[return-value]  # a list of str is one of str | bytes for whoever only reads it
    return [text_identity(own) if own else bytes_identity(raw) for own, raw in zip(batch.ids, batch.raws)]


def text_identity(own: str) -> str:
    if len(own) <= IDENTITY_LENGTH_MAX:
        return own
    return own[:IDENTITY_LENGTH_MAX] + xxh3_64_hexdigest(own.encode())


def bytes_identity(raw: bytes) -> bytes:
    if len(raw) <= IDENTITY_BYTES_MAX:
        return raw
    return raw[:IDENTITY_BYTES_MAX] + xxh3_64_hexdigest(raw).encode()


def _entry(time: int, identity: Identity, match: Match | None, values: str, amounts: dict[int, int] | None) -> Entry:
    assert match is not None
    return Entry(time, identity, match.key, values if match.openers else "", amounts if match.stages else None)
