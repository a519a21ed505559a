"""The `kafka-streams` contender: the same job on the JVM, built by Maven once for each state of its sources.

The program, its settings and what it guarantees: `tests/bench/kafka_streams`. One thread does all the work; as
`kafka-streams-2` there are two.
"""

from __future__ import annotations

import hashlib
import shutil
from functools import cache
from pathlib import Path
from typing import ClassVar

from schemas.errors import FunnelwatchError
from tests.bench.contenders import Contender, PlainFaust
from tests.parts import requirements

SOURCES = Path(__file__).parent / "kafka_streams"
# The collector for throughput on few cores, and a heap that it need not grow.
FLAGS = ("-XX:+UseParallelGC", "-Xms1g", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")


class KafkaStreams(PlainFaust):
    """Its keys in Redis are those of the plain Faust agent."""

    name: ClassVar[str] = "kafka-streams"
    threads: ClassVar[int] = 1

    def command(self) -> list[str]:
        built = program()
        flags = [*FLAGS, f"-Djava.io.tmpdir={self.folder}"]  # native libraries are unpacked there
        return ["java", *flags, "-cp", f"{built}/kafka-streams.jar:{built}/jars/*", "funnelwatch.bench.Main", *self.arguments()]

    def arguments(self) -> list[str]:
        task = self.task
        return [task.kafka, task.topic, task.name, str(self.folder / "progress"), task.redis_url, str(self.threads)]


class KafkaStreamsOnTwo(KafkaStreams):
    name: ClassVar[str] = "kafka-streams-2"
    threads: ClassVar[int] = 2


JVM: dict[str, type[Contender]] = {kind.name: kind for kind in (KafkaStreams, KafkaStreamsOnTwo)}


@cache
def program() -> Path:
    """The folder of the program's jar and its jars. Raises FunnelwatchError when Java 17 or Maven is missing, or a jar."""
    folder = requirements.PARTS / "kafka-streams"
    try:
        with requirements.one_session_at_a_time():
            _build(folder)
    except requirements.Unavailable as error:
        raise FunnelwatchError(f"the contenders {' and '.join(JVM)} cannot be built: {error}") from error
    return folder


def _build(folder: Path) -> None:
    stamp, state = folder / "sources.sha256", _state()
    requirements.check_java(requirements.program("java", package="default-jdk-headless"))
    if stamp.is_file() and stamp.read_text() == state:
        return
    requirements.program("javac", package="default-jdk-headless")
    maven = requirements.program("mvn", package="maven")
    shutil.rmtree(folder, ignore_errors=True)
    pom = SOURCES / "pom.xml"
    requirements.run([str(maven), "-q", "-B", "-f", str(pom), "package", f"-DbuildDirectory={folder}"], "Maven cannot build it")
    stamp.write_text(state)  # last, so it marks a complete folder


def _state() -> str:
    found = hashlib.sha256()
    for path in (SOURCES / "pom.xml", *sorted((SOURCES / "src").rglob("*.java"))):
        found.update(f"{path.relative_to(SOURCES)}\n".encode() + path.read_bytes())
    return found.hexdigest()
