"""[pure] Whose a token is, how much each may ask, and who shows wrong ones: all in the worker's memory."""

from __future__ import annotations

import hmac
import math
from collections import OrderedDict
from collections.abc import Sequence
from datetime import date
from ipaddress import IPv6Address, ip_address

from alerting.limits import Bucket
from schemas.access import TOKEN_LENGTH_MAX, Token, hash_of
from schemas.channel import Limit
from schemas.duration import Duration

STRIKES = Limit(per=Duration("1m"), most=10)  # wrong tokens from one address that are answered as such
ADDRESSES_MAX = 10_000
BUSY_SECONDS = 2  # when to come back that has as much under way as it may


class Keyring:
    """The tokens of the config."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = [(token.hash.get_secret_value().encode(), token) for token in tokens]

    def find(self, shown: str, today: date) -> Token | None:
        """Whose token that is; None: nobody's, or it has expired. All are compared, each in constant time."""
        if len(shown) > TOKEN_LENGTH_MAX:
            return None
        digest, found = hash_of(shown).encode(), None
        for known, token in self._tokens:
            if hmac.compare_digest(known, digest):
                found = token
        return None if found is None or found.expired(today) else found


class Turnstile:
    """How much each token asks: so many requests a while, and so many at once. `now` is any clock's seconds."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._inside: dict[str, int] = {}

    def enter(self, token: Token, now: float) -> None:
        """One more request. Raises Enough."""
        if self._inside.get(token.name, 0) >= token.concurrent:
            raise Enough(
                f"{token.concurrent} requests with this token are under way, open pages among them; no more go at once", BUSY_SECONDS
            )
        bucket = self._buckets.get(token.name)
        if bucket is None:
            bucket = self._buckets[token.name] = Bucket(token.limit, now)
        if not bucket.take(now):
            wait = max(1, math.ceil(int(token.limit.per) / token.limit.most))
            raise Enough(f"this token may ask {token.limit.most} times in {token.limit.per}, and has", wait)
        self._inside[token.name] = self._inside.get(token.name, 0) + 1

    def leave(self, token: Token) -> None:
        self._inside[token.name] -= 1


class Enough(Exception):
    """A token's limit is reached; `seconds`: when to try again."""

    def __init__(self, what: str, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(what)


class Strikes:
    """How many wrong tokens came from each address; the addresses of long ago are forgotten."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def strike(self, address: str, now: float) -> bool:
        """One more; False: it is one too many."""
        network = network_of(address)
        bucket = self._buckets.pop(network, None) or Bucket(STRIKES, now)
        self._buckets[network] = bucket
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)
        return bucket.take(now)

    @property
    def addresses(self) -> int:
        return len(self._buckets)


def network_of(address: str) -> str:
    """An address, or of IPv6 the network of 2^64 that one customer has."""
    if ":" not in address:
        return address
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return f"{int(found) >> 64:x}::/64" if isinstance(found, IPv6Address) and found.ipv4_mapped is None else address
