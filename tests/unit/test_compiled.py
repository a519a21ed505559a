"""The engine as machine code: used while it is of today's sources, and counting as the sources do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streams import compiled

ROOT = Path(__file__).parents[2]
ASK = "import streams, streams.chains; print(streams.COMPILED, streams.chains.__file__)"


def run(folder: Path, *command: str, switch: str = "1") -> str:
    environment = {**os.environ, "FUNNELWATCH_COMPILED": switch, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def twins() -> Path:
    if not compiled.MANIFEST.exists() or json.loads(compiled.MANIFEST.read_text("utf-8"))["digests"] != compiled.digests():
        pytest.skip("not ours to ship: a C compiler, or `make compile` was not run")
    return compiled.FOLDER


@pytest.fixture
def copy(twins: Path, tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "streams", tmp_path / "streams", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_what_was_compiled_from_these_sources_is_used(copy: Path) -> None:
    assert run(copy, "-c", ASK).split() == ["True", str(next((copy / "streams" / "_compiled").glob("chains.*")))]


def test_an_edited_source_runs_as_it_is_written(copy: Path) -> None:
    with (copy / "streams" / "tally.py").open("a") as source:
        source.write("\n")
    assert run(copy, "-c", ASK).split() == ["False", str(copy / "streams" / "chains.py")]


def test_a_setting_does_without_it(copy: Path) -> None:
    assert run(copy, "-c", ASK, switch="0").split() == ["False", str(copy / "streams" / "chains.py")]


@pytest.mark.parametrize("tests", ["property/test_worked_cases.py", "unit/test_weighing.py", "unit/test_adjusted.py"])
def test_what_must_hold_of_the_sources_holds_of_it(twins: Path, tests: str) -> None:
    """Every worker of the integration tests runs it, too, and is held against a recount."""
    answer = run(ROOT, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{tests}")
    assert " passed" in answer.splitlines()[-1]
