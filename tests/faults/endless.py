"""A load without an end, whose counts can be told without reading it again.

It comes in laps. Every lap has the same clicks, of people of its own, a whole number of hours later; so
whatever is counted of a lap is counted of every lap, only later. A lap's recount is the oracle's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, overload

from tests.oracle import Cell, Recount
from tests.traffic import CHANNELS, DEVICES, FIRST_MS, Click

LAP = 50_000
LAP_HOURS = 1
PEOPLE = 1_000
SPAN_MS = 2_400_000  # of a lap's clicks; then nobody clicks until the next lap
EVENTS = ("product_view", "product_view", "product_view", "add_to_cart", "begin_checkout", "purchase", "scroll")


class Laps(Sequence[Click]):
    """So many laps, made as they are asked for."""

    def __init__(self, laps: int, seed: int) -> None:
        self._laps = laps
        dice = random.Random(seed)
        self._clicks = [
            (
                FIRST_MS // 3_600_000 * 3_600_000 + number * SPAN_MS // LAP,
                dice.randrange(PEOPLE),
                json.dumps({"event": dice.choice(EVENTS), "properties": self._properties(dice)}, ensure_ascii=False)[:-1],
            )
            for number in range(LAP)
        ]

    @staticmethod
    def _properties(dice: random.Random) -> dict[str, Any]:
        return {"channel": dice.choice(CHANNELS), "device": dice.choice(DEVICES), "amount": round(dice.uniform(1, 500), 2)}

    def __len__(self) -> int:
        return self._laps * LAP

    @overload
    def __getitem__(self, which: int) -> Click: ...
    @overload
    def __getitem__(self, which: slice) -> list[Click]: ...
    def __getitem__(self, which: int | slice) -> Click | list[Click]:
        if isinstance(which, int):
            return self._click(which)
        return [self._click(number) for number in range(*which.indices(len(self)))]

    def _click(self, number: int) -> Click:
        lap, place = divmod(number, LAP)
        at_ms, person, said = self._clicks[place]
        who = f"{lap}-{person}"
        return Click(who.encode(), f'{said}, "timestamp": {at_ms + lap * LAP_HOURS * 3_600_000}, "user_id": "{who}"}}'.encode())


def in_all(lap: Recount, laps: int, oldest: Mapping[tuple[str, int], int] | None = None) -> Recount:
    """What so many whole laps come to, by what the first comes to. Buckets are at most an hour wide, and a lap is whole hours later.

    `oldest`: by funnel and width (seconds), the first bucket that anybody asks for; of an hour's work the others are ten million cells.
    """
    found = Recount(lap.records * laps, {}, type(lap.fates)(), type(lap.cells)(), lap.at_us + (laps - 1) * LAP_HOURS * 3_600_000_000)
    for fate, count in lap.fates.items():
        found.fates[fate] = count * laps
    for cell, count in lap.cells.items():
        if not cell.width:
            found.cells[cell] = count * laps
            continue
        first = (oldest or {}).get((cell.funnel, cell.width), 0)
        for number in range(max(0, -(-(first - cell.bucket) * cell.width // (LAP_HOURS * 3600))), laps):
            found.cells[_later(cell, number)] += count
    return found


def _later(cell: Cell, laps: int) -> Cell:
    return cell._replace(bucket=cell.bucket + laps * LAP_HOURS * 3600 // cell.width)
