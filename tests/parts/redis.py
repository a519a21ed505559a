"""Debian's redis-server, with the persistence that a ledger is run with."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from streams.embedded import RedisProcess


class RedisServer(RedisProcess):
    """A Redis that logs every write, and rather does not start than load a torn log."""

    name: ClassVar[str] = "redis-server"

    def __init__(self, binary: Path) -> None:
        super().__init__()
        self._binary = binary

    def command(self) -> list[str]:
        return [str(self._binary), *self.arguments()]

    def options(self) -> dict[str, str]:
        return super().options() | {"appendonly": "yes", "aof-load-truncated": "no"}
