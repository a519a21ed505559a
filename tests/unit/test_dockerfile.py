"""deploy/Dockerfile: what hadolint says, who runs, how it is asked whether it lives, and what gets into the image."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from shutil import copyfile, copytree, ignore_patterns
from threading import Thread

import yaml

from streams.process import free_port
from tests.parts.compose import DEPLOY, services

ROOT = DEPLOY.parent
TEXT = (DEPLOY / "Dockerfile").read_text()
LAST = TEXT[TEXT.rindex("\nFROM ") :]
LET_IN = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]


def said(instruction: str) -> list[str]:
    """The arguments of an instruction of the last stage, which must be in exec form."""
    (found,) = re.findall(rf"^{instruction} (?:--.*\\\n  CMD )?(\[.*\])$", LAST, re.MULTILINE)
    return json.loads(found)


def test_hadolint_has_nothing_to_say(deploy_tools: Path) -> None:
    done = subprocess.run([deploy_tools / "hadolint", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_runs_as_a_numbered_user_without_a_shell_and_ends_at_sigterm() -> None:
    (uid, gid) = re.findall(r"^USER (\d+):(\d+)$", LAST, re.MULTILINE)[0]
    assert int(uid) > 10_000 < int(gid)
    assert said("ENTRYPOINT") == ["funnelwatch"]
    assert "\nSTOPSIGNAL SIGTERM\n" in LAST
    assert "RUN" not in LAST  # nothing is installed where it runs


def test_nothing_is_installed_but_at_the_versions_that_were_tested() -> None:
    for install in re.findall(r"pip .*install .*", TEXT):
        assert "-c constraints.txt" in install


def test_the_version_is_the_same_everywhere() -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert re.findall(r'image.version="(.*)"', TEXT) == [version]
    assert services()["worker"]["image"] == f"funnelwatch:{version}"
    chart = yaml.safe_load((DEPLOY / "helm" / "funnelwatch" / "Chart.yaml").read_text())
    assert (chart["appVersion"], chart["version"]) == (version, version)


def test_the_health_check_asks_livez_at_the_port_that_is_set() -> None:
    check = said("HEALTHCHECK")
    assert check[:2] == ["python", "-c"]
    check[0] = sys.executable
    with answering(200) as (port, asked):
        assert healthy(check, port)
        assert asked == ["/livez"]
    with answering(503) as (port, _):
        assert not healthy(check, port)
    assert not healthy(check, free_port())


def healthy(check: list[str], port: int) -> bool:
    done = subprocess.run(check, env={"FUNNELWATCH_WEB__PORT": str(port)}, capture_output=True, timeout=20, check=False)
    return done.returncode == 0


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


def test_what_dockerignore_lets_in_is_enough_for_a_wheel_with_every_file_of_the_packages(tmp_path: Path) -> None:
    """Scripts, pages and templates too: what is not in the wheel is not in the image."""
    for name in LET_IN:
        place = tmp_path / "context" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        source = ROOT / name
        _ = copytree(source, place, ignore=ignore_patterns("__pycache__", "_compiled")) if source.is_dir() else copyfile(source, place)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([*pip, "-w", tmp_path, tmp_path / "context"], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("funnelwatch-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    packages = [path for name in ("schemas", "streams", "alerting") for path in (tmp_path / "context" / name).rglob("*") if path.is_file()]
    assert inside == {str(path.relative_to(tmp_path / "context")) for path in packages}
