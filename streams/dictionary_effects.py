"""[pure] What it does to a number or an alert that a setting grows or shrinks, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.funnel import Model
from streams.dictionary_words import Words

PAGE = "page"
EARLIER, LATER = "e_earlier", "e_later"
RESOLVES_EARLIER, RESOLVES_LATER = "e_resolves_earlier", "e_resolves_later"

# (model, field): the sentence for when it grows, and for when it shrinks. None counts as less than anything.
EFFECTS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("Source", "allowed_lateness"): ("e_lateness_more", "e_lateness_less"),
    ("Funnel", "conversion_window"): ("e_conversion_longer", "e_conversion_shorter"),
    ("Stage", "target"): ("e_target_up", "e_target_down"),
    ("Baseline", "half_life"): ("e_half_longer", "e_half_shorter"),
    ("Baseline", "min_entries"): ("e_baseline_more", "e_baseline_less"),
    ("Rule", "below"): (EARLIER, LATER),
    ("Rule", "above"): (LATER, EARLIER),
    ("Rule", "window"): ("e_window_longer", "e_window_shorter"),
    ("Rule", "long_window"): (LATER, EARLIER),
    ("Rule", "widen_to"): ("e_thinner", "e_thicker"),
    ("Rule", "effect"): ("e_effect_more", "e_effect_less"),
    ("Rule", "run_length"): ("e_run_longer", "e_run_shorter"),
    ("Rule", "for_"): (LATER, EARLIER),
    ("Rule", "keep_firing_for"): (RESOLVES_LATER, RESOLVES_EARLIER),
    ("Rule", "recover_above"): (RESOLVES_LATER, RESOLVES_EARLIER),
    ("Rule", "recover_below"): (RESOLVES_EARLIER, RESOLVES_LATER),
    ("Rule", "min_entrants"): ("e_thicker", "e_thinner"),
    ("Rule", "confidence"): ("e_surer", "e_unsurer"),
    ("Drop", "by"): (LATER, EARLIER),
    ("Drop", "recover_by"): (RESOLVES_EARLIER, RESOLVES_LATER),
    ("Pipeline", "for_"): (LATER, EARLIER),
}
LEFT_OUT = {"recover_above": "below", "recover_below": "above", "recover_by": "by"}  # what a recovery is when it is left out


def effect(model: str, field: str, old: Any, new: Any, words: Words, severity: str = "") -> str:
    """The sentence about a setting that was `old` and is `new`; empty where there is none to say."""
    keys = EFFECTS.get((model, field))
    unknown = field in LEFT_OUT and (old is None or new is None)
    if keys is None or old == new or unknown or not all(value is None or isinstance(value, int | float) for value in (old, new)):
        return ""
    grows = old is None or (new is not None and new > old)
    return words(keys[not grows], fires=words("pages" if severity == PAGE else "fires"), new=shown_span(new, words))


def effective(of: Model, field: str) -> Any:
    """The value of a field, a recovery that is left out being the threshold itself."""
    value = getattr(of, field)
    return getattr(of, LEFT_OUT[field]) if value is None and field in LEFT_OUT else value


def shown_span(value: Any, words: Words) -> str:
    return words.span(value) if isinstance(value, int) else ""
