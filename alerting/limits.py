"""[pure] How much a channel may be told: a bucket of tokens, refilled evenly, one a message."""

from __future__ import annotations

from schemas.channel import Limit


class Bucket:
    """Holds `most` tokens at most, and gets as many back a `per`; `now` is any clock's seconds."""

    def __init__(self, limit: Limit, now: float) -> None:
        self._most = float(limit.most)
        self._per_second = limit.most / int(limit.per)
        self._tokens = self._most
        self._at = now

    def available(self, now: float) -> int:
        """How many messages may be sent now."""
        # A clock that is set back gives nothing, and takes nothing.
        self._tokens = min(self._most, self._tokens + self._per_second * max(0.0, now - self._at))
        self._at = now
        return int(self._tokens + 1e-9)

    def take(self, now: float) -> bool:
        """One message, if there is a token for it."""
        if not self.available(now):
            return False
        self._tokens -= 1
        return True
