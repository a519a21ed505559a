"""Who evaluates and tells: whoever holds the lease, and only for as long as that is certain."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from alerting.contract import AlertStore
from streams.lease import Lease


class Leadership:
    """A lease as it was last held; its token goes into everything that is written to the store.

    `clock` is monotonic and goes on while the process is stopped, so whoever slept through the end of
    the lease knows it when waking, before Redis is asked.
    """

    def __init__(self, lease: Lease, seconds: float, store: AlertStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._seconds = seconds
        self._store = store
        self._clock = clock
        self._until = -math.inf
        self.fence: int | None = None

    async def hold(self) -> int | None:
        """Acquire or renew: the token, or None while another leads. Raises StoreError; then nobody is known to lead."""
        self.fence, asked = None, self._clock()
        try:
            self.fence = await self._lease.hold()
        finally:
            self._store.carry(self.fence)
        self._until = asked + self._seconds
        return self.fence

    def leads(self) -> bool:
        """Whether nobody else can have taken the lease yet."""
        return self.fence is not None and self._clock() < self._until

    async def release(self) -> None:
        """Let another lead at once. Raises StoreError."""
        self.fence = None
        self._store.carry(None)
        await self._lease.release()
