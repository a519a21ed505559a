"""Who may ask what: a token in the Authorization header, or in the cookie that signing in on the page sets.

    401  no token, or none that is known      403  it has not the scope      429  it asks too much
    404  a funnel that is not among its own, as if there were none

A token is never taken from an address: those are kept in logs and histories. The cookie holds the
token itself, so that a session needs no store, is good at every worker and through restarts, and ends
with its token; it is HttpOnly and SameSite=Strict, and what it may change it changes for pages of this
service alone. Wrong tokens are limited by address, and a right one is let in from any: people behind
one proxy share an address, and nobody guesses 256 bits.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import date, datetime, timezone
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

import anyio
import structlog
from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from alerting.limits import Bucket
from schemas import access as granted
from schemas.access import EVERYTHING, Access, Token
from schemas.channel import Limit
from schemas.duration import Duration
from streams.loopback import is_loopback
from streams.web.keyring import STRIKES, Enough, Keyring, Strikes, Turnstile
from streams.web.problem import problem

OPEN = frozenset({"/", "/docs", "/favicon.ico", "/livez", "/readyz", "/session"})
ENTITIES = "/api/v1/entities"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CALLER = "funnelwatch.caller"  # in the scope of a request
COOKIE, SECURE_COOKIE = "funnelwatch", "__Host-funnelwatch"  # a browser takes the latter only over https, and from this host alone
CHALLENGE = 'Bearer realm="funnelwatch"'
LOGGED = Limit(per=Duration("1m"), most=10)  # lines about wrong tokens
HOW = "send `Authorization: Bearer TOKEN`, or sign in on the page"

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Shown(NamedTuple):
    """A token as it came with a request."""

    text: str
    by_cookie: bool


class Doorkeeper:
    """Knows the tokens, and who shows wrong ones."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic, today: Callable[[], date] | None = None) -> None:
        self.access = access
        self.clock = clock
        self.today = today or (lambda: datetime.now(timezone.utc).date())
        self._keyring = Keyring(access.tokens)
        self._strikes = Strikes()
        self._log_lines = Bucket(LOGGED, clock())
        self._unlogged = 0

    def known(self, shown: Shown | None) -> Token | None:
        """Whose token it is, if anybody's."""
        return None if shown is None else self._keyring.find(shown.text, self.today())

    def admit(self, request: Request, shown: Shown | None) -> Token:
        """Whose token it is, or HTTPException 401, or 429 for an address that showed too many wrong ones."""
        if shown is None:
            raise HTTPException(HTTPStatus.UNAUTHORIZED, f"this needs a token: {HOW}", {"WWW-Authenticate": CHALLENGE})
        found = self.known(shown)
        if found is not None:
            return found
        now, address = self.clock(), request.client.host if request.client else "unknown"
        answered = self._strikes.strike(address, now)
        self._tell(address, request, now)
        if not answered:
            wait = max(1, int(STRIKES.per) // STRIKES.most)
            raise HTTPException(
                HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens came from this address; wait a minute", {"Retry-After": str(wait)}
            )
        headers = {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'}
        raise HTTPException(HTTPStatus.UNAUTHORIZED, "that token is not known here, or has expired; ask whoever runs this service", headers)

    def _tell(self, address: str, request: Request, now: float) -> None:
        """In the log, but not as often as a stranger likes."""
        if not self._log_lines.take(now):
            self._unlogged += 1
            return
        log.warning(
            "a wrong token was shown", address=address, method=request.method, path=place(request.url.path), unlogged=self._unlogged
        )
        self._unlogged = 0


class Gate:
    """Lets a request in that may. `app_for` has the app that shows a token no more than its funnels."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper, app_for: Callable[[Token], ASGIApp]) -> None:
        self.app = app
        self._doorkeeper = doorkeeper
        self._app_for = app_for
        self._turnstile = Turnstile()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        needed = needed_scope(scope["method"], scope["path"], self._doorkeeper.access) if scope["type"] == "http" else None
        if needed is None:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            token = self._check(request, needed)
            self._turnstile.enter(token, self._doorkeeper.clock())
        except HTTPException as refusal:
            await problem(refusal.status_code, refusal.detail, refusal.headers)(scope, receive, send)
            return
        except Enough as enough:
            await problem(HTTPStatus.TOO_MANY_REQUESTS, str(enough), {"Retry-After": str(enough.seconds)})(scope, receive, send)
            return
        scope[CALLER] = token
        try:
            with anyio.move_on_after(self._seconds_left(token)) as left:  # an open stream too ends with its token
                await (self.app if token.funnels == EVERYTHING else self._app_for(token))(scope, receive, send)
            if left.cancelled_caught:
                with contextlib.suppress(RuntimeError):  # where it had ended already
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._turnstile.leave(token)

    def _check(self, request: Request, needed: granted.Scope) -> Token:
        shown = shown_in(request)
        token = self._doorkeeper.admit(request, shown)
        if shown is not None and shown.by_cookie and request.method not in SAFE:
            check_same_origin(request)
        if not token.may(needed):
            what = f"token {token.name!r} has not the scope {needed!r}, which this needs; it has: {', '.join(token.scopes)}"
            headers = {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"'}
            raise HTTPException(HTTPStatus.FORBIDDEN, what, headers)
        return token

    def _seconds_left(self, token: Token) -> float | None:
        if token.expires is None:
            return None
        midnight = datetime(token.expires.year, token.expires.month, token.expires.day, tzinfo=timezone.utc).timestamp() + 86_400
        return max(0.0, midnight - time.time())


def needed_scope(method: str, path: str, access: Access) -> granted.Scope | None:
    """What a request needs; None: nothing. What is not known to be open is not."""
    if path in OPEN or path.startswith("/page/"):
        return None
    if path == "/metrics":
        return None if access.metrics == "open" else "metrics"
    if path.startswith(ENTITIES):
        return "entities"
    return "read" if method in SAFE and path != "/api/v1/audit" else "admin"


def place(path: str) -> str:
    """A path as the log may have it: without the entity that it asks for, and not too long."""
    return ENTITIES if path.startswith(ENTITIES) else path[:80]


def shown_in(request: Request) -> Shown | None:
    """The token that a request shows, in its header, else in its cookie."""
    for line in request.headers.getlist("authorization"):
        scheme, _, text = line.strip().partition(" ")
        if scheme.lower() == "bearer":
            return Shown(text.strip(), by_cookie=False)
    cookie = request.cookies.get(cookie_of(request), "")
    return Shown(cookie, by_cookie=True) if cookie else None


def cookie_of(request: Request) -> str:
    return SECURE_COOKIE if request.url.scheme == "https" else COOKIE


def check_same_origin(request: Request) -> None:
    """403 for what a page of another site makes a browser send. A browser says where from; who says nothing is none."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        same = site == "same-origin"
    else:  # older browsers; the scheme may be another one, where a proxy ends TLS
        same = urlsplit(request.headers.get("origin", "")).netloc.lower() == request.headers.get("host", "").lower() != ""
    if not same:
        what = "signed in by a cookie, only this service's own page changes anything; elsewhere send `Authorization: Bearer TOKEN`"
        raise HTTPException(HTTPStatus.FORBIDDEN, what)


def caller_of(request: Request) -> Token | None:
    """Whose token let the request in; None where tokens are not asked for."""
    found: Token | None = request.scope.get(CALLER)
    return found


def signature(request: Request, author: str) -> str:
    """An author for the audit log: what a caller calls itself, and the token that it really has."""
    token = caller_of(request)
    return author if token is None else f"{author.replace('(token ', '(')} (token {token.name})"


def reader(request: Request) -> str:
    """Who looks at something, for the audit log: a token's name, or where tokens are not asked for, an address."""
    token = caller_of(request)
    if token is not None:
        return f"token {token.name}"
    return f"no token, from {request.client.host if request.client else 'an unknown address'}"


def unguarded(host: str, access: Access) -> str | None:
    """What to warn of at the start: everything open to others than this machine."""
    if access.tokens or is_loopback(host):
        return None
    return (
        f"everybody who reaches port and interface {host or '0.0.0.0'} sees every funnel and entity and can silence alerts: "  # noqa: S104
        "put tokens into the config's `access:` (`funnelwatch token new --name N`), or listen on 127.0.0.1"
    )
