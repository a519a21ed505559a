"""A request is no longer than what is asked here can be."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.web.problem import problem

BODY_BYTES_MAX = 64_000
TOO_LONG = f"no request here has a body of more than {BODY_BYTES_MAX} bytes"
HEAD_BYTES_MAX = 16_384
HEAD_TOO_LONG = f"no request here has an address and headers of more than {HEAD_BYTES_MAX} bytes"


class Bounded:
    """413 for a longer body: at once where it says so, else when it has become so."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head = (
            sum(len(name) + len(value) + 4 for name, value in scope["headers"])
            + len(scope.get("raw_path") or b"")
            + len(scope["query_string"])
        )
        if head > HEAD_BYTES_MAX:
            await problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, HEAD_TOO_LONG, {"Connection": "close"})(scope, receive, send)
            return
        if any(name == b"content-length" and int(value) > BODY_BYTES_MAX for name, value in scope["headers"] if value.isdigit()):
            await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LONG, {"Connection": "close"})(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > BODY_BYTES_MAX:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LONG, {"Connection": "close"})
            return message

        await self.app(scope, counted, send)
