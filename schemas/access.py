"""Who may ask the service what: bearer tokens, kept as hashes, and the pages of other origins that may ask at all."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import date
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr

from schemas.channel import Limit
from schemas.config_problems import Location, instead
from schemas.funnel import Model, Name

Scope = Literal["read", "entities", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
WHOLE: tuple[Scope, ...] = ("metrics", "admin")  # they show or change what is of every funnel
PREFIX = "fw_"
TOKEN_BYTES = 32
TOKEN_LENGTH_MAX = 200
HASH = re.compile(r"sha256:[0-9a-f]{64}")
EVERYTHING = ("*",)


def new_token() -> str:
    """A fresh token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def hash_of(token: str) -> str:
    """What the config keeps of a token.

    A plain SHA-256, once: slow and salted hashes are for what people choose, since that can be guessed.
    Nobody guesses 256 random bits, however many hashes a second are tried; and a hash that takes a
    moment would have to be computed for every request, for those of strangers too.
    """
    return f"sha256:{hashlib.sha256(token.encode('utf-8', 'surrogatepass')).hexdigest()}"


# What is said of a wrong hash, scope or origin never has the value in it where that may be a token.


def _hash(value: Any) -> SecretStr:
    written = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(written, str) or not HASH.fullmatch(written):
        if isinstance(written, str) and (written.startswith(PREFIX) or not written.startswith("sha256:")):
            raise ValueError(
                "is no hash, and may be the token itself, which has no place in a config: `funnelwatch token new` prints the hash to write; "
                "if it is a token that is in use, replace it"
            )
        raise ValueError("is no hash of a token; write sha256: and 64 hexadecimal digits, as `funnelwatch token new` prints them")
    return SecretStr(written)


def _scopes(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"is no list of scopes; write some of {', '.join(SCOPES)}, as in [read]")
    for one in value:
        if one not in SCOPES:
            shown = repr(one)[:40] if isinstance(one, str) and not one.startswith(PREFIX) else "that"
            raise ValueError(f"there is no scope {shown}; {instead(str(one), SCOPES)}")
    return tuple(dict.fromkeys(value))


def _origin(value: Any) -> str:
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018  # raises where it is none
    except (ValueError, AttributeError, TypeError):
        parts = urlsplit("")
    if not isinstance(value, str) or parts.scheme not in ("http", "https") or value != f"{parts.scheme}://{parts.netloc}" or "@" in value:
        raise ValueError("is no origin; write scheme, host and port alone, as in https://wiki.example")
    if not parts.hostname or parts.hostname == "*":
        raise ValueError("names no host; write each origin out, as in https://wiki.example")
    return value.lower()


class Quota(Limit):
    """At most `most` requests a `per`, as many at once."""

    most: int = Field(default=600, ge=1, le=10_000)


class Token(Model):
    """One caller: a person, a team, a machine. `funnels` (patterns with * and ?) bounds what `read` and `entities` show."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Name
    hash: Annotated[SecretStr, BeforeValidator(_hash)]
    scopes: Annotated[tuple[Scope, ...], BeforeValidator(_scopes)] = ("read",)
    funnels: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(default=EVERYTHING, min_length=1, max_length=100)
    limit: Quota = Quota()
    concurrent: int = Field(default=8, ge=1, le=2000)
    expires: date | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or (scope == "read" and "admin" in self.scopes)

    def sees(self, funnel: str) -> bool:
        return any(fnmatchcase(funnel, pattern) for pattern in self.funnels)

    def expired(self, today: date) -> bool:
        """Whether its last day (in UTC) is over."""
        return self.expires is not None and today > self.expires


class Access(Model):
    """Without tokens everything is open, to whoever reaches the port."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    tokens: tuple[Token, ...] = Field(default=(), max_length=200)
    cors: tuple[Annotated[str, BeforeValidator(_origin)], ...] = Field(default=(), max_length=100)
    metrics: Literal["open", "token"] = "open"


def check_access(access: Access, funnels: Sequence[str]) -> Iterator[tuple[Location, str, str]]:
    """What no single value shows: names and hashes that are there twice, and patterns that name nothing."""
    names, hashes = [t.name for t in access.tokens], [t.hash.get_secret_value() for t in access.tokens]
    for i, token in enumerate(access.tokens):
        at: Location = ("access", "tokens", i)
        if token.name in names[:i]:
            yield (*at, "name"), f"{token.name!r} is there already", "give each token a name of its own"
        if hashes[i] in hashes[:i]:
            twin = names[hashes.index(hashes[i])]
            yield (*at, "hash"), f"is that of {twin!r} too", "make each its own token with `funnelwatch token new`"
        for place, pattern in enumerate(token.funnels):
            if not any(fnmatchcase(name, pattern) for name in funnels):
                yield (*at, "funnels", place), f"no funnel matches {pattern[:40]!r}", instead(pattern, funnels)
        whole = [scope for scope in WHOLE if scope in token.scopes]
        if whole and token.funnels != EVERYTHING:
            what = f"{' and '.join(whole)} cannot be bound to some funnels: what they show and change is of all"
            yield (*at, "funnels"), what, f"leave `funnels` out, or the {'scopes' if len(whole) > 1 else 'scope'}"
    if access.metrics == "token" and not any(token.may("metrics") for token in access.tokens):
        yield ("access", "metrics"), "no token has the scope metrics, so nobody could scrape", "give one of them the scope, or write open"


def warn_of(access: Access, today: date) -> Iterator[str]:
    """What is allowed but probably not meant."""
    for token in access.tokens:
        if token.expired(today):
            yield f"token {token.name!r} expired on {token.expires}: it is refused; remove it, or write a later day"
