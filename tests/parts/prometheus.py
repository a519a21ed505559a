"""Debian's Prometheus, really scraping and evaluating what a test configures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import httpx

from streams.process import Process


class Prometheus(Process):
    """A Prometheus of its own; `files` are written beside the config, for `rule_files` to name."""

    name: ClassVar[str] = "prometheus"

    def __init__(
        self,
        binary: Path,
        config: str,
        files: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(port)
        self._binary = binary
        self._files = {**(files or {}), "prometheus.yml": config}

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def command(self) -> list[str]:
        return [
            str(self._binary),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--log.level=warn",
        ]

    def prepare(self) -> None:
        for name, text in self._files.items():
            (self.folder / name).write_text(text)

    def answers(self) -> bool:
        return is_ready(self.address)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The instant vector: one `{"metric": {label: value}, "value": [time, "x"]}` a series."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": promql})
        result: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return result


def is_ready(address: str) -> bool:
    """Whether a server of the Prometheus family is past its start-up."""
    try:
        return httpx.get(f"http://{address}/-/ready", timeout=2.0).is_success
    except httpx.TransportError:
        return False
