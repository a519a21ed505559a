"""[pure] States at rest: as small as they can be while an entity is away, and gone when nothing can depend on them.

An entity rests once its newest event lies REST_SECONDS (twice the allowed lateness, where that is
more) behind its partition's watermark. Its tail is folded then (an event that would have to go before
its newest one is late, "late:tail_full"), chains and entries past their conversion window are dropped,
and so are marks that no window reaches. What is left is written relative to the newest event, a value
that repeats only once:

    [newest, {definition: cells}]    two cells a stage (values, mark) where no chain and no entry lives, else
                                     True and all cells; times are µs before the newest, marks buckets before
                                     its own; a number for values is the place of the stage that has the same
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from schemas.duration import MICROS
from streams.chains import ENTERED, MARK, OPENED, START, VALUES, Blocks, absolute, relative
from streams.matching import CELLS
from streams.plan import FunnelPlan, Plan
from streams.retention import BUCKET_US, USERS
from streams.tail import State, pack, packed_blocks, unpack, unpack_blocks

REST_SECONDS = 3600  # behind the watermark: how long an event may be on its way and still find all it may depend on
GONE_FUNNEL_SECONDS = 31 * 86_400  # how long the cells of a funnel that the config does not have are kept
AWAKE: Final = 0x98  # first byte of a state that is not at rest: a msgpack array of eight

_unpack_rested: Any = msgspec.msgpack.Decoder(tuple[int, dict[int, list[Any]]]).decode


def awake(packed: bytes) -> State:
    """A stored state, at rest or not, ready to be folded."""
    if packed[0] == AWAKE:
        state: State = unpack(packed)
        return state
    newest, blocks = _unpack_rested(packed)
    known = packed_blocks({definition: relative(_spread(cells, newest), newest // BUCKET_US) for definition, cells in blocks.items()})
    return newest, known, b"", 0, -1, known, 0, newest


def is_at_rest(packed: bytes) -> bool:
    """Whether a stored state is in its resting form."""
    return packed[0] != AWAKE


def rested(plan: Plan, packed: bytes, watermark_us: int) -> bytes | None:
    """A stored state as it may be kept from now on; None: it may go altogether."""
    newest, known, *_ = awake(packed)
    away_us, slack_us = watermark_us - newest, rest_us(plan)
    if away_us <= slack_us:
        return packed
    today = {funnel.definition: funnel for funnel in plan.funnels}
    blocks: Blocks = {}
    for definition, stored in unpack_blocks(known).items():
        cells = absolute(stored)
        if definition in today:
            kept = _needed(today[definition], cells, watermark_us, slack_us)
        else:
            kept = cells if away_us <= GONE_FUNNEL_SECONDS * MICROS else None
        if kept is not None:
            blocks[definition] = _dense(kept, newest)
    if not blocks:
        return None
    return bytes(pack((newest, blocks)))


def rest_us(plan: Plan) -> int:
    """How far behind the watermark the newest event of an entity must lie before it rests: no event may have to go before it."""
    return max(REST_SECONDS * MICROS, 2 * plan.lateness_us)


def _needed(funnel: FunnelPlan, cells: list[Any], watermark_us: int, slack_us: int) -> list[Any] | None:
    """The cells that something may still depend on that is `slack_us` on its way; None: nothing may."""
    dead = watermark_us - funnel.funnel.conversion_window.micros - slack_us
    users_us = max((kept.seconds * (kept.count + 1) for kept in funnel.kept if USERS in kept.families), default=0) * MICROS
    unseen = (watermark_us - users_us - slack_us) // BUCKET_US
    found = [*cells]
    for at in range(0, len(cells) - 1, CELLS):
        if found[at + START] is not None and found[at + START] < dead:
            found[at + START] = None
        if found[at + OPENED] is not None and found[at + OPENED] < dead:
            found[at + OPENED] = found[at + ENTERED] = None
        if found[at + MARK] is not None and found[at + MARK] < unseen:
            found[at + MARK] = None
        if found[at + START] is None and found[at + OPENED] is None and found[at + MARK] is None:
            found[at + VALUES] = None
    living = any(found[at + place] is not None for at in range(0, len(cells) - 1, CELLS) for place in (START, OPENED, MARK))
    if all(found[at + START] is None for at in range(0, len(cells) - 1, CELLS)):
        found[-1] = None
    return found if living else None


def _dense(cells: list[Any], newest: int) -> list[Any]:
    stages = range(0, len(cells) - 1, CELLS)
    bucket = newest // BUCKET_US
    shown: dict[str, int] = {}
    found: list[Any] = []
    marks_only = cells[-1] is None and all(cells[at + START] is None and cells[at + OPENED] is None for at in stages)
    for place, at in enumerate(stages):
        start, values, mark, opened, entered = cells[at : at + CELLS]
        written = values if values is None or shown.setdefault(values, place) == place else shown[values]
        mark = None if mark is None else bucket - mark
        if marks_only:
            found += (written, mark)
        else:
            found += (_before(newest, start), written, mark, _before(newest, opened), entered)
    return found if marks_only else [True, *found, cells[-1]]


def _spread(found: list[Any], newest: int) -> list[Any]:
    bucket = newest // BUCKET_US
    if found[0] is True:
        written, note = [found[at : at + CELLS] for at in range(1, len(found) - 1, CELLS)], found[-1]
    else:
        written, note = [[None, *found[at : at + 2], None, None] for at in range(0, len(found), 2)], None
    cells: list[Any] = []
    for start, values, mark, opened, entered in written:
        shown = cells[values * CELLS + VALUES] if isinstance(values, int) else values
        cells += (_before(newest, start), shown, None if mark is None else bucket - mark, _before(newest, opened), entered)
    return [*cells, note]


def _before(newest: int, time: int | None) -> int | None:
    """A time relative to the newest event, or back."""
    return None if time is None else newest - time
