"""Reports as bytes, each made at most once a tick, whoever asks for it and however many do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from schemas.duration import Duration
from schemas.report import FunnelReport
from streams.web.conditional import etag

HELD_MAX = 4096  # renderings of one tick; more are made anew when asked for again


class Asked(NamedTuple):
    """One report."""

    funnel: str
    window: Duration
    by: str | None
    basis: str


@dataclass(frozen=True)
class Rendering:
    body: bytes  # JSON
    tag: str


class Renderings:
    """The reports of the latest tick, as they are asked for."""

    def __init__(self, report: Callable[[str, Duration, str | None, str], FunnelReport]) -> None:
        self._report = report
        self._held: OrderedDict[Asked, Rendering] = OrderedDict()
        self.made = 0  # since ever

    def clear(self) -> None:
        """A new tick: what was rendered is of the past."""
        self._held.clear()

    def of(self, asked: Asked) -> Rendering:
        found = self._held.get(asked)
        if found is None:
            body = self._report(*asked).model_dump_json().encode()
            self.made += 1
            found = self._held[asked] = Rendering(body, etag(body))
            if len(self._held) > HELD_MAX:
                self._held.popitem(last=False)
        return found
