"""What a caller asks of a funnel: its name, window, basis and dimension, each one of those that there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus

from fastapi import HTTPException

from schemas.config import Config
from schemas.duration import MICROS, PATTERN, Duration
from schemas.funnel import Funnel
from streams.rates import BASES

SHOWN_MAX = 80
# For the OpenAPI document; what is asked is looked at by `check` and `window_of`, which can say what there is instead.
BASIS = {"enum": list(BASES)}
WINDOW = {"pattern": f"^{PATTERN.pattern}$"}
LATEST_US = 9 * 10**15


def funnel_of(config: Config, name: str) -> Funnel:
    """The funnel of that name, or 404."""
    found = next((f for f in config.funnels if f.name == name), None)
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no funnel {cut(name)}; /api/v1/funnels lists what there is")
    return found


def window_of(funnel: Funnel, text: str | None, kept: Sequence[Duration]) -> Duration:
    """The window asked for, however it is written; by default the first."""
    if text is None:
        return kept[0]
    try:
        wanted = int(Duration(text))
    except ValueError:
        wanted = -1
    found = next((w for w in kept if int(w) == wanted), None)
    if found is None:
        raise unknown(funnel, "window", text, [str(w) for w in kept])
    return found


def check(funnel: Funnel, basis: str, by: str | None) -> None:
    """400 for a basis or a dimension that the funnel does not have."""
    if basis not in BASES:
        raise unknown(funnel, "basis", basis, BASES)
    if by is not None and by not in funnel.dimensions:
        raise unknown(funnel, "dimension", by, tuple(funnel.dimensions))


def micros(moment: datetime) -> int:
    """A moment as event time in µs, between 1970 and 2255."""
    return min(LATEST_US, max(0, round(moment.timestamp() * MICROS)))


def unknown(funnel: Funnel, what: str, given: str, known: Sequence[str]) -> HTTPException:
    """400, with what there is instead."""
    there_is = f"there are: {', '.join(known)}" if known else "there are none"
    return HTTPException(HTTPStatus.BAD_REQUEST, f"funnel {funnel.name!r} has no {what} {cut(given)}; {there_is}")


def cut(given: object) -> str:
    """What a caller sent, quoted, and short enough to be sent back."""
    shown = repr(given)
    return shown if len(shown) <= SHOWN_MAX else f"{shown[:SHOWN_MAX]}…"
