"""The peers: the same job written by hand, with Bytewax and with Quix Streams.

Bytewax and Quix need other versions than ours of some packages, so they run in an environment of
their own, made on demand from the exact pins of peers.txt.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from schemas.errors import FunnelwatchError
from tests.bench.contenders import Contender, PlainFaust
from tests.bench.environments import python_with

PINS = Path(__file__).with_name("peers.txt")
PYTHONS = ((3, 11), (3, 12))  # Quix wants 3.11, and Bytewax has no wheel for 3.13


class OtherPython(FunnelwatchError):
    """The bench runs on a Python that a peer cannot run on."""

    def __init__(self, name: str) -> None:
        known = " or ".join(".".join(map(str, version)) for version in PYTHONS)
        super().__init__(f"{name} needs Python {known}, and this is {sys.version.split()[0]}; leave it out with --only")


class Peer(PlainFaust):
    """Keeps its counts in Redis by the names that the plain agent has for them."""


class Handwritten(Peer):
    name: ClassVar[str] = "handwritten"
    module: ClassVar[str] = "tests.bench.handwritten"


class HandwrittenStored(Peer):
    name: ClassVar[str] = "handwritten-stored"
    module: ClassVar[str] = "tests.bench.handwritten_stored"


class Apart(Peer):
    """Runs in the peers' environment, with those modules of the checkout that need nothing else."""

    def prepare(self) -> None:
        super().prepare()
        if sys.version_info[:2] not in PYTHONS:
            raise OtherPython(self.name)
        self._python = python_with(PINS)

    def command(self) -> list[str]:
        return ["env", f"PYTHONPATH={self._root}", str(self._python), *self.arguments()]


class Bytewax(Apart):
    name: ClassVar[str] = "bytewax"
    module: ClassVar[str] = "tests.bench.with_bytewax"


class Quix(Apart):
    name: ClassVar[str] = "quix"
    module: ClassVar[str] = "tests.bench.with_quix"


PEERS: dict[str, type[Contender]] = {kind.name: kind for kind in (Handwritten, HandwrittenStored, Bytewax, Quix)}
