"""Debian's Alertmanager, really receiving, grouping and notifying."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import httpx

from streams.process import Process
from tests.parts.prometheus import is_ready


class Alertmanager(Process):
    """An Alertmanager without peers; `config` names the receivers."""

    name: ClassVar[str] = "alertmanager"

    def __init__(self, binary: Path, config: str, port: int | None = None) -> None:
        super().__init__(port)
        self._binary = binary
        self._config = config

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def command(self) -> list[str]:
        return [
            str(self._binary),
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]

    def prepare(self) -> None:
        (self.folder / "alertmanager.yml").write_text(self._config)

    def answers(self) -> bool:
        return is_ready(self.address)

    def alerts(self) -> list[dict[str, Any]]:
        """Every alert that it holds, in the shape of its API v2."""
        answer = httpx.get(f"{self.url}/api/v2/alerts")
        alerts: list[dict[str, Any]] = answer.raise_for_status().json()
        return alerts
