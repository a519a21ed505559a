"""What Redis's errors mean, and what to do about each."""

from __future__ import annotations

import asyncio
import ssl

from redis import exceptions

# redis-py's cluster raises two that are none of its RedisError.
FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError, asyncio.TimeoutError)
# The same call may succeed later.
PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.RedisClusterException,
    exceptions.TryAgainError,
)
WHOSE = "FUNNELWATCH_REDIS"


def remedy(error: BaseException) -> str:
    """What to do about an error of Redis's."""
    root = _root(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"name who signed its certificate in {WHOSE}__CA_FILE, and connect by a name that is in it"
    if isinstance(error, exceptions.NoPermissionError):
        return "grant what deploy/permissions.md lists to this user"
    if isinstance(error, exceptions.AuthenticationError):
        return f"check {WHOSE}__USERNAME and {WHOSE}__PASSWORD"
    if isinstance(error, exceptions.OutOfMemoryError):
        return "give it more memory, or a larger maxmemory"
    if isinstance(error, ssl.SSLError) or isinstance(root, ssl.SSLError):
        return f"is it a TLS port, and does it ask for a certificate of ours ({WHOSE}__CERT_FILE)?"
    return f"is it up, and is {WHOSE}__URL right?"


def said(error: BaseException) -> str:
    """The kind of an error and its text."""
    return f"{type(error).__name__}: {error}"


def _root(error: BaseException) -> BaseException:
    """What an error came from in the first place."""
    while (cause := error.__cause__ or error.__context__) is not None and not isinstance(error, ssl.SSLError):
        error = cause
    return error
