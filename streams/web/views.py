"""Several ways to look at funnels in one stream: `view=purchase;window=5m;basis=adjusted;by=channel`, once for each."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import unquote

from fastapi import HTTPException

from schemas.config import Config
from streams.web.asked import check, cut, funnel_of, window_of
from streams.web.renderings import Asked

VIEWS_MAX = 100
VIEW_LENGTH_MAX = 1000
EXAMPLE = "purchase;window=5m;basis=adjusted;by=channel"
PARTS = ("window", "basis", "by")


def asked_of(config: Config, views: Sequence[str]) -> tuple[Asked, ...]:
    """The reports of views, each once. 404 or 400 where a view cannot be had."""
    return tuple(dict.fromkeys(_asked(config, view) for view in views))


def _asked(config: Config, view: str) -> Asked:
    name, *parts = view.split(";")
    found = funnel_of(config, unquote(name))
    given: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if key not in PARTS or not equals or key in given:
            detail = f"view {cut(view)}: {cut(part)} is none of window=…, basis=…, by=…, each at most once; write one like {EXAMPLE}"
            raise HTTPException(HTTPStatus.BAD_REQUEST, detail)
        given[key] = unquote(value)
    basis, by = given.get("basis", "users"), given.get("by")
    check(found, basis, by)
    return Asked(found.name, window_of(found, given.get("window"), config.windows_of(found)), by, basis)
