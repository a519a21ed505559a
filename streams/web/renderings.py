"""Reports as bytes, each made at most once a tick, whoever asks for it and however many do."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
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
        self._held: OrderedDict[Hashable, Rendering] = OrderedDict()
        self.made = 0  # since ever

    def clear(self) -> None:
        """A new tick: what was rendered is of the past."""
        self._held.clear()

    def of(self, asked: Asked) -> Rendering:
        """A report."""
        return self.once(asked, lambda: self._report(*asked).model_dump_json().encode())

    def once(self, name: Hashable, make: Callable[[], bytes]) -> Rendering:
        """Whatever is made of the reports, under a name of its own."""
        found = self._held.get(name)
        if found is None:
            body = make()
            self.made += 1
            found = self._held[name] = Rendering(body, etag(body))
            if len(self._held) > HELD_MAX:
                self._held.popitem(last=False)
        return found
