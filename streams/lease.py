"""A lease in Redis: of all workers one leads, and every change of leader gets a greater fencing token.

Two keys, on one slot of a cluster:

    {PREFIX:leader}:lease   the holder's name; Redis lets it expire, no client's clock is asked
    {PREFIX:leader}:fence   the newest token; never expires

A lease alone proves nothing: its holder may be paused between a check and a write. So every write
that only the leader may do carries the token, and the script that writes compares it with `fence`
(M. Kleppmann, "How to do distributed locking", 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions
from redis.asyncio import Redis

from schemas.errors import StoreError, StoreUnavailable
from streams.redis_errors import PASSING, remedy, said

# A token is at least Redis's own time in microseconds: after a flush, or a failover that lost the
# last writes, a mere counter would hand out again a number that an earlier holder still carries.
HOLD = """
local holder, fence = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return false end
if holder and fence then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return tonumber(fence)
end
local time = redis.call('TIME')
local token = math.max(tonumber(fence or 0) + 1, time[1] * 1000000 + time[2])
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return token
"""

RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


def leader_key(prefix: str, name: str) -> str:
    """The name of a key that only the leader writes."""
    return f"{{{prefix}:leader}}:{name}"


class Lease:
    """One worker's claim to lead. `owner` names this run of this process, and no other."""

    def __init__(self, client: Redis, prefix: str, seconds: float, owner: str) -> None:
        self._client = client
        self._lease = leader_key(prefix, "lease")
        self._fence = leader_key(prefix, "fence")
        self._milliseconds = int(seconds * 1000)
        self._owner = owner

    async def hold(self) -> int | None:
        """Acquire the lease or renew it: the fencing token, or None while another holds it.

        Raises:
            StoreError: Redis gave no answer or a wrong one; then the lease must be taken as lost.

        """
        with store_errors():
            token = await self._client.eval(HOLD, 2, self._lease, self._fence, self._owner, self._milliseconds)
        return None if token is None else int(token)

    async def release(self) -> None:
        """Give the lease up, so that another need not wait for its end; nothing if it is not ours."""
        with store_errors():
            await self._client.eval(RELEASE, 1, self._lease, self._owner)


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise Redis's errors as ours: StoreUnavailable where the same call may succeed later, else StoreError."""
    try:
        yield
    except PASSING as error:
        raise StoreUnavailable(f"Redis gave no answer ({said(error)}); {remedy(error)}") from error
    except exceptions.NoPermissionError as error:
        raise StoreError(f"Redis refused a command ({error}); {remedy(error)}") from error
    except exceptions.RedisError as error:
        raise StoreError(f"Redis refused a command ({error}); are its keys used by something else?") from error
