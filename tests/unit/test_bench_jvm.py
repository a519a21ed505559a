"""The contender on the JVM: built anew when its sources change, and it says what is missing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import FunnelwatchError
from tests.bench import jvm
from tests.bench.contenders import Task
from tests.parts import requirements
from tests.parts.requirements import KAFKA_POM, Unavailable

TASK = Task("name", "localhost:1", "redis://localhost:1/0", "clicks", 1, ())


@pytest.fixture(autouse=True)
def _parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of fetched things that nobody else has, and a machine with Java."""
    jvm.program.cache_clear()
    monkeypatch.setattr(requirements, "PARTS", tmp_path)
    monkeypatch.setattr(requirements, "program", lambda *names, package: Path(names[0]))
    monkeypatch.setattr(requirements, "check_java", lambda java: None)
    yield
    jvm.program.cache_clear()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was run instead of Maven."""
    found: list[list[str]] = []

    def run(command: list[str], failed: str) -> str:
        found.append(command)
        Path(command[-1].partition("=")[2]).mkdir()
        return ""

    monkeypatch.setattr(requirements, "run", run)
    return found


def test_it_is_built_once_for_each_state_of_its_sources(commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(jvm.SOURCES, sources)
    monkeypatch.setattr(jvm, "SOURCES", sources)
    for changed in (False, False, True):
        if changed:
            next((sources / "src").rglob("Main.java")).write_text("// other")
        jvm.program.cache_clear()
        jvm.program()
    assert [command[0] for command in commands] == ["mvn", "mvn"]


def test_without_java_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*names: str, package: str) -> Path:
        raise Unavailable(f"{names[0]} is not installed; as root: apt-get install {package}")

    monkeypatch.setattr(requirements, "program", missing)
    with pytest.raises(FunnelwatchError, match=r"kafka-streams.*java is not installed; as root: apt-get install default-jdk-headless"):
        jvm.program()


@pytest.mark.usefixtures("commands")
def test_threads_are_the_only_difference() -> None:
    ends = []
    for kind in (jvm.KafkaStreams, jvm.KafkaStreamsOnTwo):
        contender = kind(TASK)
        try:
            ends.append(contender.command()[-1])
        finally:
            contender.close()
    assert ends == ["1", "2"]


def test_it_is_of_the_brokers_version() -> None:
    version = r"<kafka.version>(.+)</kafka.version>"
    ours, brokers = (re.search(version, pom.read_text()) for pom in (jvm.SOURCES / "pom.xml", KAFKA_POM))
    assert ours is not None
    assert brokers is not None
    assert ours[1] == brokers[1]
