"""The services of deploy/compose.yaml as processes of this machine, from the very files that the containers get.

What differs: every service is at 127.0.0.1 on a free port, and its files are in a folder of its own.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import redis
import yaml

from streams.process import LOCALHOST, Process
from tests.parts.kafka import Kafka
from tests.parts.worker import Worker

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
# What the image of Apache Kafka takes for itself and makes no property of.
NOT_PROPERTIES = {"KAFKA_HEAP_OPTS", "KAFKA_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS"}


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def moved(text: str, places: Mapping[str, str]) -> str:
    """The text with other addresses and paths in it."""
    for old, new in places.items():
        text = re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w-])", new, text)
    return text


class ComposeKafka(Kafka):
    """Apache Kafka with the properties that its image makes of the service's environment."""

    def _server_properties(self) -> dict[str, str]:
        given = services()["kafka"]["environment"]
        places = {
            "kafka:9092": self.address,
            "//:9092": f"//{self.address}",
            "localhost:9093": f"{LOCALHOST}:{self._controller_port}",
            "/var/lib/kafka/data": str(self.folder / "data"),
        }
        return {
            name.removeprefix("KAFKA_").replace("_", ".").lower(): moved(str(value), places)
            for name, value in given.items()
            if name.startswith("KAFKA_") and name not in NOT_PROPERTIES
        }


class ComposeRedis(Process):
    """redis-server with the service's redis.conf and users.acl."""

    name: ClassVar[str] = "redis-server"

    def __init__(self, binary: Path) -> None:
        super().__init__()
        self._binary = binary

    def prepare(self) -> None:
        places = {
            "/etc/redis": str(DEPLOY / "redis"),
            "dir /data": f"dir {self.folder}",
            "port 6379": f"port {self.port}\nbind {LOCALHOST}",
        }
        (self.folder / "redis.conf").write_text(moved((DEPLOY / "redis" / "redis.conf").read_text(), places))

    def command(self) -> list[str]:
        program, config = services()["redis"]["command"]
        assert (program, config) == ("redis-server", "/etc/redis/redis.conf")
        return [str(self._binary), str(self.folder / "redis.conf")]

    def answers(self) -> bool:
        """As the service's health check asks: by the user who may do nothing else."""
        with redis.Redis(LOCALHOST, self.port, username="health", password="any", socket_timeout=2.0) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class ComposeWorker(Worker):
    """The service's command and environment; hosts, secrets and the config are where they are here."""

    def __init__(self, config: Path, places: Mapping[str, str]) -> None:
        service = services()["worker"]
        command = [moved(part, {"/etc/funnelwatch/funnel.yaml": str(config)}) for part in service["command"]]
        assert command == ["worker", "--config", str(config)]
        settings = {name.removeprefix("FUNNELWATCH_"): moved(value, places) for name, value in service["environment"].items()}
        super().__init__(config, settings)


def command_of(service: str, places: Mapping[str, str]) -> list[str]:
    """What a service of our image runs, with its environment."""
    found = services()[service]
    environment = [f"{name}={moved(value, places)}" for name, value in found["environment"].items()]
    return ["env", *environment, sys.executable, "-m", "streams.cli", *(moved(part, places) for part in found["command"])]


class ComposeTraffic(Process):
    """The service that makes the sample traffic."""

    name: ClassVar[str] = "traffic"

    def __init__(self, places: Mapping[str, str]) -> None:
        super().__init__()
        self._places = places

    def command(self) -> list[str]:
        return command_of("traffic", self._places)

    def answers(self) -> bool:
        return True  # it serves nothing


def mounted(service: str, target: str, folder: Path) -> Path:
    """A copy of what the service has at `target`, to change addresses in."""
    for volume in services()[service]["volumes"]:
        source, _, rest = volume.partition(":")
        if rest.partition(":")[0] == target:
            place = folder / Path(target).name
            (shutil.copytree if (DEPLOY / source).is_dir() else shutil.copyfile)(DEPLOY / source, place)
            return place
    raise LookupError(f"{service} has nothing at {target}")
