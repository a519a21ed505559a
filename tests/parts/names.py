"""Names that resolve to what a test says, and may change their mind."""

from __future__ import annotations

import socket
from typing import Any

import pytest


class Names:
    """What names resolve to, look by look; the last answer stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[list[str]]) -> None:
        self.looked_up: list[str] = []
        self._answers = answers
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._answer)

    def _answer(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        known = self._answers.get(str(name).partition(".")[0])
        if known is None:
            return self._real(host, port, *args, **kwargs)
        self.looked_up.append(name)
        addresses = known.pop(0) if len(known) > 1 else known[0]
        return [answer for address in addresses for answer in self._real(address, port, *args, **kwargs)]
