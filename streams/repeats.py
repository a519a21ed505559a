"""[pure] Which log lines repeat: said once, then held back for a while, then how many were."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

KEYS_MAX = 1000
# What makes two lines of one event different things: an error of one partition says nothing of another's.
IDENTITIES = ("topic", "partition", "shard", "source", "channel", "rule", "dimension", "value", "key", "what", "files")
ERRORS = ("error", "detail", "why", "reason")
NUMBER = re.compile(r"\d+")
KIND_LENGTH = 160
Key = tuple[Any, ...]


@dataclass
class _Kept:
    shown: str
    until: float
    held_back: int = 0


class Repeats:
    """Lets a line through once a period; `clock` gives seconds. Safe to be used by several threads."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._lock = Lock()
        self._kept: dict[Key, _Kept] = {}
        self.begin(seconds, clock)

    def begin(self, seconds: float, clock: Callable[[], float]) -> None:
        """Forget everything; from now on with another period."""
        with self._lock:
            self._seconds, self._clock = seconds, clock
            self._kept.clear()

    def admit(self, key: Key, shown: str) -> int | None:
        """None: hold it back; else log it, with how many of it were held back before."""
        if self._seconds <= 0:
            return 0
        with self._lock:
            now, kept = self._clock(), self._kept.get(key)
            if kept is not None and now < kept.until:
                kept.held_back += 1
                return None
            if kept is None and len(self._kept) >= KEYS_MAX:
                return 0  # so many different troubles at once: rather too much is said than something not at all
            self._kept[key] = _Kept(shown, now + self._seconds)
            return kept.held_back if kept is not None else 0

    def over(self, *, ending: bool = False) -> Iterator[tuple[str, int]]:
        """Lines whose period is over, with how many were held back: they repeat no more. With `ending` all that were."""
        with self._lock:
            now = self._clock()
            gone = [key for key, kept in self._kept.items() if ending or now >= kept.until]
            found = [self._kept.pop(key) for key in gone]
        yield from ((kept.shown, kept.held_back) for kept in found if kept.held_back)


def key_of(level: str, event: Mapping[str, Any]) -> Key:
    """What two lines have in common that say the same: event, kind of error, and what they are about."""
    about = tuple(str(event[name]) for name in IDENTITIES if name in event)
    return level, str(event.get("event")), *about, *(kind_of(event[name]) for name in ERRORS if name in event)


def kind_of(error: Any) -> str:
    """An error's text without its numbers: offsets, ports and times differ, the trouble does not."""
    return NUMBER.sub("#", str(error))[:KIND_LENGTH]
