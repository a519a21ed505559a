"""Signing in on the page: a token becomes a cookie that no script can read, for this service's own pages."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from pydantic import BaseModel, Field, SecretStr

from schemas.access import TOKEN_LENGTH_MAX, Token
from streams.web.access import Doorkeeper, Shown, check_same_origin, cookie_of, shown_in
from streams.web.alerts import as_json

KEPT_SECONDS = 30 * 86_400


class SignIn(BaseModel):
    """The token to sign in with."""

    token: SecretStr = Field(max_length=TOKEN_LENGTH_MAX)


class Session(BaseModel):
    """Whether one must sign in, and as whom one is."""

    needed: bool = Field(description="the config has tokens")
    name: str | None = Field(description="of the token; null: not signed in")
    scopes: tuple[str, ...] = Field(description="what it is good for")


def session(doorkeeper: Doorkeeper) -> APIRouter:
    router = APIRouter(prefix="/session", tags=["service"])

    def told(token: Token | None) -> Session:
        return Session(needed=bool(doorkeeper.access.tokens), name=token and token.name, scopes=token.scopes if token else ())

    @router.get("", summary="Who is signed in", response_model=Session)
    async def who(request: Request) -> Session:
        """Whether this service asks for tokens, and whose one the request shows."""
        return told(doorkeeper.known(shown_in(request)))

    @router.post("", summary="Sign in", response_model=Session, dependencies=[Depends(as_json)])
    async def sign_in(request: Request, response: Response, asked: SignIn) -> Session:
        """Set the session's cookie. Other clients send `Authorization: Bearer TOKEN` and need none."""
        if not doorkeeper.access.tokens:
            raise HTTPException(HTTPStatus.NOT_FOUND, "the config has no tokens: everything is open, and there is nothing to sign in to")
        check_same_origin(request)
        text = asked.token.get_secret_value()
        token = doorkeeper.admit(request, Shown(text, by_cookie=True))
        secure = request.url.scheme == "https"
        response.set_cookie(cookie_of(request), text, max_age=KEPT_SECONDS, path="/", secure=secure, httponly=True, samesite="strict")
        return told(token)

    @router.delete("", summary="Sign out", response_model=Session)
    async def sign_out(request: Request, response: Response) -> Session:
        """Take the session's cookie back."""
        check_same_origin(request)
        response.delete_cookie(cookie_of(request), path="/", secure=request.url.scheme == "https", httponly=True, samesite="strict")
        return told(None)

    return router


EXAMPLES: dict[str, BaseModel] = {"/session": Session(needed=True, name="shop team", scopes=("read",))}
