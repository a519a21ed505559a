"""[pure] Sentences of the dictionary in a language: names, lists, spans and shares as it writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from schemas.condition import Condition, Where, text_of
from schemas.dictionary import Language
from schemas.duration import UNITS, Duration
from schemas.funnel import Stage
from streams.dictionary_texts import TEXTS

PLACES: dict[Language, int] = {"en": 0, "zh": 1}
SPACES = re.compile(r"\s+")


class Words:
    """The sentences of one language: `words("s_match", events=...)`."""

    def __init__(self, language: Language = "en") -> None:
        self.language: Language = language
        self._place = PLACES[language]

    def __call__(self, key: str, **values: Any) -> str:
        """A sentence with its gaps filled. Raises KeyError where there is no such sentence, or nothing for a gap."""
        return TEXTS[key][self._place].format(**values)

    def name(self, name: str) -> str:
        """A name as the config writes it."""
        return f"“{plain(name)}”"

    def shown(self, stage: Stage) -> str:
        """A stage as people call it."""
        return self("titled", title=plain(stage.title)) if stage.title else self.name(stage.name)

    def names(self, names: Iterable[str], key: str = "and") -> str:
        return self.listed([self.name(name) for name in names], key)

    def listed(self, parts: list[str], key: str = "and") -> str:
        """`a, b and c`; `key` is the word before the last."""
        if len(parts) < 2:
            return "".join(parts)
        return f"{self('comma').join(parts[:-1])}{self(key)}{parts[-1]}"

    def together(self, *sentences: str) -> str:
        """Sentences one after the other, without those that are empty."""
        return self("space").join(sentence for sentence in sentences if sentence)

    def span(self, seconds: int) -> str:
        """A duration, in the unit it was written in."""
        unit = seconds.text[-1] if isinstance(seconds, Duration) else next(u for u in "dhms" if seconds % UNITS[u] == 0 or u == "s")
        number = int(seconds) // UNITS[unit]
        return self(f"span_{unit}" if number == 1 else f"spans_{unit}", n=f"{number:,}")

    def share(self, ratio: float) -> str:
        """A ratio as a percentage, to twelve digits."""
        return f"{100 * ratio:.12g}%"

    def number(self, number: float) -> str:
        return f"{number:,}" if isinstance(number, int) else f"{number:.15g}"

    def events(self, events: Iterable[str]) -> str:
        """`the event a`; `one of the events a, b and c`."""
        names = list(dict.fromkeys(events))
        return self("event" if len(names) == 1 else "events", names=self.names(names))

    def where(self, where: Where) -> str:
        """` (where a is 1 and b is there)`; nothing without conditions."""
        return self("where", conditions=self.conditions(where)) if where else ""

    def conditions(self, where: Where) -> str:
        return self.listed([f"{self.name(path)} {asked}" for path, condition in where.items() for asked in self._asked(condition)])

    def _asked(self, condition: Condition) -> list[str]:
        asked: list[str] = []
        if condition.equals is not None:
            asked.append(self("c_equals", value=self.name(str(text_of(condition.equals)))))
        if condition.in_ is not None:
            asked.append(self("c_in", values=self.names([str(text_of(one)) for one in condition.in_], "or")))
        if condition.exists is not None:
            asked.append(self("c_exists" if condition.exists else "c_absent"))
        bounds = (
            ("c_above", condition.above),
            ("c_at_least", condition.at_least),
            ("c_below", condition.below),
            ("c_at_most", condition.at_most),
        )
        asked += [self(key, bound=self.number(bound)) for key, bound in bounds if bound is not None]
        if condition.matches is not None:
            asked.append(self("c_matches", pattern=f"“{condition.matches}”"))
        return asked


def plain(text: str) -> str:
    """A text of the config on one line."""
    return SPACES.sub(" ", text).strip()
