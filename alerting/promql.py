"""[pure] PromQL as text: the one place that quotes, and the limits of `alerting.bounds` written in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from alerting.bounds import EXACT_BELOW

SPLIT = "dimension, value"
_META, _ESCAPED = re.compile(r"([\\.+*?()|\[\]{}^$])"), r"\\\1"


@dataclass(frozen=True)
class Not:
    """Any text of a label but this."""

    value: str


def quoted(text: str) -> str:
    """A string literal of PromQL, and of Go's templates: both take JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)


def selector(metric: str, labels: Mapping[str, str | Not | Sequence[str]], offset: str = "") -> str:
    """Series by name and labels; a list stands for any one of its texts, an empty text for no such label."""
    matchers = ", ".join(f"{name}{_matched(wanted)}" for name, wanted in labels.items())
    return f"{metric}{{{matchers}}}{f' offset {offset}' if offset else ''}"


def _matched(wanted: str | Not | Sequence[str]) -> str:
    if isinstance(wanted, Not):
        return f"!={quoted(wanted.value)}"
    if isinstance(wanted, str):
        return f"={quoted(wanted)}"
    # RE2; Prometheus anchors it at both ends.
    return f"=~{quoted('|'.join(_META.sub(_ESCAPED, value) for value in wanted))}"


def number(value: float) -> str:
    """A number that is read back as it was."""
    return repr(value).removesuffix(".0")


def by_split(selected: str) -> str:
    """One series for everybody and each value of a dimension, whichever instance serves it."""
    return f"max by ({SPLIT}) ({selected})"


def either(first: str, *others: str) -> str:
    """The first of the vectors that has the series."""
    return "\nor ".join((first, *others))


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def quantile(confidence: float) -> float:
    """Of the standard normal distribution, to six digits."""
    return float(f"{NormalDist().inv_cdf(confidence):.6g}") + 0.0


def counted(numerator: str, denominator: str, *, rises: bool) -> str:
    """The conversions that a limit is made from: no more than the entrants, and half a one worse where these are few.

    With the half, Wilson's limit is that of the score test with Yates's correction (R. G. Newcombe, Statistics in
    Medicine 17 (1998), 857-872). From 10 entrants on, at 95%, it is within 3 points of the exact one that
    `alerting.bounds` has there; without, it would be up to 5 points nearer to the rate, and page for less.
    """
    half = f"0.5 * ({denominator} < bool {EXACT_BELOW})"
    if rises:
        return f"clamp_min(({numerator} < {denominator} or {denominator}) - {half}, 0)"
    return f"{numerator} + {half} < {denominator} or {denominator}"


def wilson(successes: str, trials: str, confidence: float, *, upper: bool) -> str:
    """A limit of `alerting.bounds.wilson`, numerator and denominator of it multiplied by the trials."""
    z = quantile(confidence)
    middle = f"{successes} + {number(z * z / 2)}"
    spread = f"{number(z)} * sqrt(clamp_min({successes} * ({trials} - {successes}) / {trials}, 0) + {number(z * z / 4)})"
    return f"({middle} {'+' if upper else '-'} {spread}) / ({trials} + {number(z * z)})"


def poisson(observed: str, worth: str, confidence: float, *, upper: bool) -> str:
    """A limit of `streams.adjusted.poisson_limits` ÷ worth, by E. B. Wilson and M. M. Hilferty, PNAS 17 (1931), 684-688."""
    z = number(quantile(confidence) / 3)
    if upper:
        return f"({observed} + 1) * (1 - 1 / (9 * ({observed} + 1)) + {z} / sqrt({observed} + 1)) ^ 3 / {worth}"
    return f"clamp_min({observed} * (1 - 1 / (9 * {observed}) - {z} / sqrt({observed})) ^ 3, 0) / {worth}"
