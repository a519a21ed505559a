"""Lists page by page: no more than `limit`, and where the following page begins, in the `Link` header (RFC 8288)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from fastapi import Request, Response

T = TypeVar("T")
SKIP = "how many of the newest to leave out: those of the pages before"
LINK: dict[str, Any] = {"Link": {"description": 'where the next page is (rel="next"), if there is one', "schema": {"type": "string"}}}


def paged(request: Request, response: Response, newest: Sequence[T], limit: int, skip: int) -> list[T]:
    """One page; `newest` has one more than is asked for, where there are more. What comes meanwhile moves the rest on: none is lost."""
    if len(newest) > skip + limit:
        response.headers.update(following(request, skip=str(skip + limit), limit=str(limit)))
    return list(newest[skip : skip + limit])


def following(request: Request, **parameters: str) -> Mapping[str, str]:
    """The header that names the next page: this one's address with other parameters."""
    query = urlencode({**request.query_params, **parameters})
    return {"Link": f'<{quote(request.url.path)}?{query}>; rel="next"'}
