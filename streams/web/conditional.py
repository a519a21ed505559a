"""Answers that need not be sent again: an ETag from the bytes, and 304 where the caller has them (RFC 9110, 13.1.2)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import xxhash
from fastapi import Request, Response

JSON = "application/json"


def etag(body: bytes) -> str:
    """A strong validator: the same bytes have the same one, in whatever worker."""
    return f'"{xxhash.xxh3_64_hexdigest(body)}"'


def conditional(
    request: Request, body: bytes, tag: str | None = None, media_type: str = JSON, headers: Mapping[str, str] | None = None
) -> Response:
    """The body, or 304 without it where `If-None-Match` names its tag."""
    tag = tag or etag(body)
    headers = {**(headers or {}), "ETag": tag}
    if _has(request.headers.getlist("if-none-match"), tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def _has(given: list[str], tag: str) -> bool:
    tags = [one.strip().removeprefix("W/") for line in given for one in line.split(",")]
    return "*" in tags or tag in tags
