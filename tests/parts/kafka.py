"""Apache Kafka itself: one KRaft node, broker and controller in one process, from Maven's jars."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from streams.embedded import KafkaProcess
from streams.process import LOCALHOST, ProcessFailed, free_port

RECORD_BYTES_MAX = 16 * 1024 * 1024


class Kafka(KafkaProcess):
    """One node with replication 1 that lets groups form and sessions expire fast.

    `settings` are added to `server.properties`, over the ones below. A broker that is `hot` has Java compile what is used much as
    well as it can, for figures, at half as much processor time again while it starts.
    """

    name: ClassVar[str] = "kafka"
    start_seconds: ClassVar[float] = 60.0

    def __init__(self, jars: Path, settings: Mapping[str, str] | None = None, *, hot: bool = False) -> None:
        super().__init__()
        self._jars, self._hot = jars, hot
        self._settings = dict(settings or {})
        self._controller_port = free_port()

    def command(self) -> list[str]:
        return [*self._java("-Xmx512m"), "kafka.Kafka", str(self._properties)]

    def prepare(self) -> None:
        lines = [f"{name}={value}\n" for name, value in self._server_properties().items()]
        self._properties.write_text("".join(lines))
        cluster = uuid.uuid4().hex[:22]
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties), *self.format_arguments()]
        done = subprocess.run([*self._java(), *tool], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ProcessFailed(self.name, "cannot format its storage", done.stdout + done.stderr)

    def format_arguments(self) -> list[str]:
        """More for the tool that formats the storage: users, for one."""
        return []

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, *flags: str) -> list[str]:
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        quick = [] if self._hot else ["-XX:TieredStopAtLevel=1"]
        return ["java", *flags, *quick, "-XX:+UseSerialGC", quiet, "-cp", f"{self._jars}/*"]

    def _server_properties(self) -> dict[str, str]:
        controller = f"{LOCALHOST}:{self._controller_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            # A killed broker may come back only when the controller holds its last session for dead.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "200",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "message.max.bytes": str(RECORD_BYTES_MAX),
            "replica.fetch.max.bytes": str(RECORD_BYTES_MAX),
            **self._settings,
        }


async def create_topic(address: str, name: str, partitions: int = 1, **settings: str) -> None:
    """Create a topic on any broker; `settings` are topic configs, with `_` for the dots.

    Raises what the broker answered, such as `aiokafka.errors.TopicAlreadyExistsError`.
    """
    configs = {key.replace("_", "."): value for key, value in settings.items()}
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
    finally:
        await admin.close()
    for topic, code, *message in answer.topic_errors:
        if code:
            raise for_code(code)(f"{topic}: {message}")
