"""Environments in `.parts` for packages that only the bench runs, each made once for each state of its pins."""

from __future__ import annotations

import shutil
import sys
from functools import cache
from pathlib import Path

from schemas.errors import FunnelwatchError
from tests.parts import requirements


@cache
def python_with(pins: Path) -> Path:
    """The Python of an environment that has exactly the packages of a file of pins. Raises FunnelwatchError when it cannot be made.

    What they depend on is pinned there too, or not needed for what we do with them.
    """
    folder = requirements.PARTS / f"bench-{pins.stem}"
    try:
        with requirements.one_session_at_a_time():
            return _made(folder, pins)
    except requirements.Unavailable as error:
        raise FunnelwatchError(f"the packages of tests/bench/{pins.name} are not to be had: {error}") from error


def _made(folder: Path, pins: Path) -> Path:
    python, stamp = folder / "bin" / "python", folder / "pins.txt"
    wanted = f"{sys.version}\n{pins.read_text()}"
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        requirements.run([sys.executable, "-m", "venv", str(folder)], "no environment can be made")
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "-r", str(pins)]
        requirements.run(install, "pip cannot install them")
        stamp.write_text(wanted)  # last, so it marks a complete environment
    return python
