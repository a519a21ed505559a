"""What a page of figures was measured on: machine, versions and commit. No names of hosts or folders."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from tests.parts import requirements

BENCH = Path(__file__).parent
OF_OURS = ("aiokafka", "faust-streaming", "hiredis", "msgspec", "orjson", "redis", "uvloop")
PINS = ("peers.txt", "warehouse.txt")
OF_PINS = {"bytewax", "quixstreams", "confluent-kafka", "rocksdict", "chdb-core"}  # the others are in the files
POMS = (requirements.KAFKA_POM, BENCH / "kafka_streams" / "pom.xml")


def facts() -> Iterator[str]:
    """Lines of a list."""
    yield f"- {of()}"
    yield f"- {_cpu_model()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB of memory, {platform.system()} {platform.release().split('-')[0]}"
    yield f"- Python {platform.python_version()}, {_java()}, {_redis()}"
    yield f"- {', '.join(f'{name} {metadata.version(name)}' for name in OF_OURS)}"
    yield f"- {', '.join(_pinned())}"


def of() -> str:
    """Day and commit."""
    return f"{datetime.now(timezone.utc).date().isoformat()}, commit {commit()}"


def commit() -> str:
    """The commit of this checkout, and whether files differ from it."""
    found = _said(["git", "-C", str(requirements.ROOT), "rev-parse", "--short=12", "HEAD"]) or "unknown"
    changed = _said(["git", "-C", str(requirements.ROOT), "status", "--porcelain", "--untracked-files=no"])
    return f"{found} with changes" if changed else found


def _pinned() -> Iterator[str]:
    """Of contenders that have packages of their own."""
    for name in PINS:
        for line in (BENCH / name).read_text().splitlines():
            if (pinned := re.match(r"([\w.-]+)==([\w.]+)", line)) and pinned[1] in OF_PINS:
                yield f"{pinned[1]} {pinned[2]}"
    versions = {name: version for pom in POMS for name, version in re.findall(r"<(\w+)\.version>([\w.]+)<", pom.read_text())}
    yield from (f"{name} {version} (JVM)" for name, version in versions.items())


def _cpu_model() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _java() -> str:
    found = re.search(r'version "([\w.]+)', _said(["java", "-version"]))
    return f"Java {found[1]}" if found else "no Java"


def _redis() -> str:
    found = re.search(r"v=([\w.]+)", _said(["redis-server", "--version"]))
    return f"redis-server {found[1]}" if found else "no redis-server"


def _said(command: list[str]) -> str:
    """Nothing if there is no such program, or it failed."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
