"""One number shared between two processes: how many records a contender is done with."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

NUMBER = struct.Struct("<q")


class Progress:
    """A number in a file that both sides have mapped; neither waits for the other."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(NUMBER.pack(0))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), NUMBER.size)

    def set(self, done: int) -> None:
        NUMBER.pack_into(self._memory, 0, done)

    def get(self) -> int:
        found: int = NUMBER.unpack_from(self._memory, 0)[0]
        return found
